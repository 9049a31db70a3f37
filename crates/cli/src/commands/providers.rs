//! `providers …`: what is known of the providers, where each field comes from, and what is wrong with a file.

use std::path::Path;

use serde_json::{Value, json};
use tokensink_sink::providers::{
    ChoiceRef, Definition, FieldOrigin, Method, Origin, Problem, Registry, check,
};
use tokensink_sink::{ErrorKind, SinkError};

use super::App;
use crate::args::{ProvidersArgs, ProvidersCommand};
use crate::exit::{FAILED, OK, Outcome, unreadable};
use crate::render::table::{Cell, Table};
use crate::render::{colour, path};

/// Runs what is under `providers`.
pub(super) fn run(app: &mut App<'_>, args: ProvidersArgs) -> Outcome {
    match args.command {
        ProvidersCommand::List { json } => list(app, json),
        ProvidersCommand::Show { id, json } => show(app, &id, json),
        ProvidersCommand::Check { file, json } => check_file(app, &file, json),
    }
}

fn list(app: &mut App<'_>, json: bool) -> Outcome {
    let registry = app.sink.registry();
    if json {
        let value: Value = registry
            .all()
            .map(|definition| summary(definition, registry))
            .collect();
        app.printer.json(&value)?;
        return Ok(OK);
    }
    let mut table = Table::new(&["Provider", "Billing", "Login methods"]);
    for definition in registry.all() {
        let methods: Vec<&str> = definition
            .methods
            .iter()
            .map(|method| method.id.as_str())
            .collect();
        let choices = registry.choices_of(&definition.id);
        let ids: Vec<&str> = choices.iter().map(|choice| choice.choice.id.as_str()).collect();
        let details = match ids.as_slice() {
            [] => Vec::new(),
            ids => vec![Cell::styled(
                format!("auth choices: {}", ids.join(", ")),
                colour::FAINT,
            )],
        };
        table.row_with(
            vec![
                definition.id.as_str().into(),
                classes(definition).into(),
                methods.join(", ").into(),
            ],
            details,
        );
    }
    let text = table.render(&app.printer.look);
    app.printer.data(&text)?;
    Ok(OK)
}

/// What the provider's login methods cost, cheapest first: `subscription, metered`.
fn classes(definition: &Definition) -> String {
    let mut classes: Vec<_> = definition.methods.iter().map(|method| method.billing).collect();
    if classes.is_empty() {
        classes.push(definition.billing);
    }
    classes.sort_unstable();
    classes.dedup();
    let words: Vec<&str> = classes
        .into_iter()
        .map(tokensink_sink::BillingClass::as_str)
        .collect();
    words.join(", ")
}

fn summary(definition: &Definition, registry: &Registry) -> Value {
    let choices = registry.choices_of(&definition.id);
    json!({
        "id": definition.id.as_str(),
        "name": definition.name,
        "aliases": definition.aliases,
        "billing": definition.billing.as_str(),
        "notice": some_text(&definition.notice),
        "builtin": registry.is_builtin(&definition.id),
        "env": definition.env.iter().map(|variable| variable.name.as_str()).collect::<Vec<_>>(),
        "api": definition.api.kind.as_str(),
        "methods": definition.methods.iter().map(|one| method(one, &choices)).collect::<Vec<_>>(),
    })
}

fn method(method: &Method, choices: &[ChoiceRef<'_>]) -> Value {
    let own = choices.iter().filter(|choice| choice.method.id == method.id);
    json!({
        "id": method.id.as_str(),
        "name": method.name,
        "kind": method.flow.kind(),
        "billing": method.billing.as_str(),
        "notice": some_text(&method.notice),
        "choices": own.map(choice).collect::<Vec<_>>(),
    })
}

fn choice(found: &ChoiceRef<'_>) -> Value {
    let choice = found.choice;
    json!({
        "id": choice.id,
        "deprecated": choice.deprecated,
        "name": choice.name,
        "hint": some_text(&choice.hint),
        "group": choice.group,
        "option": choice.option,
        "hidden": choice.hidden,
        "leaves": found.leaves(),
    })
}

fn some_text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn show(app: &mut App<'_>, id: &str, json: bool) -> Outcome {
    let registry = app.sink.registry();
    let definition = registry.resolve(id).map_err(|error| {
        SinkError::new(ErrorKind::Usage, "unknown_provider", error.to_string())
            .with_fix("tokensink providers list")
    })?;
    let fields = registry.origins(&definition.id);
    if json {
        let mut value = summary(definition, registry);
        value["fields"] = fields.iter().map(field).collect();
        app.printer.json(&value)?;
        return Ok(OK);
    }
    let mut table = Table::new(&["Field", "From", "Value"]);
    for field in &fields {
        let from = match &field.origin {
            Origin::Builtin => "built in".to_owned(),
            Origin::File { path: file, line } => {
                let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
                format!("{}:{line}", name.unwrap_or_else(|| path(file)))
            }
        };
        table.row(vec![
            field.path.as_str().into(),
            from.into(),
            field.value.as_str().into(),
        ]);
    }
    let text = table.render(&app.printer.look);
    app.printer.data(&text)?;
    Ok(OK)
}

fn field(field: &FieldOrigin) -> Value {
    let origin = match &field.origin {
        Origin::Builtin => json!({ "kind": "builtin" }),
        Origin::File { path: file, line } => json!({ "kind": "file", "path": path(file), "line": line }),
    };
    json!({ "path": field.path, "value": field.value, "origin": origin })
}

fn check_file(app: &mut App<'_>, file: &Path, json: bool) -> Outcome {
    let full = match app.sink.host().env.current_dir() {
        Some(dir) => dir.join(file),
        None => file.to_owned(),
    };
    let bytes = app.sink.host().files.read(&full).map_err(|error| {
        let message = format!("{} could not be read", file.display());
        SinkError::new(unreadable(&error), "read", message)
            .because(error)
            .with_fix("tokensink providers check <file that you may read>")
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        SinkError::new(
            ErrorKind::Failed,
            "read",
            format!("{} is not UTF-8 text", file.display()),
        )
        .because(error)
    })?;
    let problems = check(file, &text, app.sink.registry());
    if json {
        let value = json!({
            "path": path(file),
            "ok": problems.is_empty(),
            "problems": problems.iter().map(problem).collect::<Vec<_>>(),
        });
        app.printer.json(&value)?;
    } else if problems.is_empty() {
        app.printer.line(&format!("{}: ok", file.display()))?;
    } else {
        print_problems(app, &problems)?;
    }
    Ok(if problems.is_empty() { OK } else { FAILED })
}

/// One problem per line, in the form that editors understand: `file:line:column: message`, and its fix below.
fn print_problems(app: &mut App<'_>, problems: &[Problem]) -> std::io::Result<()> {
    for Problem {
        path: file,
        line,
        column,
        message,
        fix,
        ..
    } in problems
    {
        app.printer
            .line(&format!("{}:{line}:{column}: {message}", file.display()))?;
        if !fix.is_empty() {
            let fix = app.printer.look.paint(colour::COMMAND, &format!("fix: {fix}"));
            app.printer.line(&format!("    {fix}"))?;
        }
    }
    Ok(())
}

fn problem(problem: &Problem) -> Value {
    json!({
        "path": path(&problem.path),
        "line": problem.line,
        "column": problem.column,
        "field": some_text(&problem.field),
        "message": problem.message,
        "fix": some_text(&problem.fix),
    })
}
