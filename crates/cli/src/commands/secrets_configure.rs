//! `secrets configure`: questions that end in a plan, which is shown and then applied.
//!
//! No answer is a secret: secrets stay where they are until the plan is applied, and are then only compared.

use std::fmt;

use inquire::validator::Validation;
use inquire::{Confirm, MultiSelect, Select, Text};
use serde_json::{Map, Value, json};
use tokensink_sink::{ApplyOptions, SecretCandidate, SecretsPlan, Sink, SinkError};

use super::secrets::apply_plan;
use super::{App, needs_terminal, somebody_there, unanswered};
use crate::args::SecretsConfigureArgs;
use crate::exit::{OK, Outcome};

/// A provider that references can name.
#[derive(Debug, Clone)]
struct Choice {
    alias: String,
    source: String,
    single_value: bool,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.alias, self.source)
    }
}

/// A plain secret by its label.
struct Labelled(SecretCandidate);

impl fmt::Display for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.label)
    }
}

/// Asks, shows the plan, applies it.
pub(super) fn run(app: &mut App<'_>, args: &SecretsConfigureArgs) -> Outcome {
    if !somebody_there() {
        let fix = "write a plan by hand and run: tokensink secrets apply --from <plan.json>";
        return Err(needs_terminal("secrets configure", fix).into());
    }
    let agent = args.agent.as_deref().map(|id| app.agent(Some(id))).transpose()?;
    let mut choices = known_providers(app)?;
    let mut upserts = Map::new();
    if !args.skip_provider_setup {
        while let Some((alias, provider)) = ask_provider()? {
            let source = provider["source"].as_str().unwrap_or_default().to_owned();
            choices.retain(|known| known.alias != alias);
            choices.push(Choice {
                single_value: provider["mode"] == "singleValue",
                alias: alias.clone(),
                source,
            });
            upserts.insert(alias, provider);
        }
    }
    let targets = if args.providers_only {
        Vec::new()
    } else {
        ask_targets(app, app.sink.secret_candidates(agent.as_ref())?, &choices)?
    };
    let value = json!({
        "version": 1, "protocolVersion": 1, "generatedBy": "tokensink secrets configure",
        "targets": targets, "providerUpserts": upserts,
    });
    let plan = SecretsPlan::of(&value)?;
    if plan.is_empty() {
        app.printer.note("Nothing was chosen, so nothing is changed.");
        return Ok(OK);
    }
    let runs_programs = targets.iter().any(|target| target["ref"]["source"] == "exec");
    app.printer.note(&format!("The plan:\n{value:#}"));
    let question = if runs_programs {
        "Apply it now? (it runs the programs of the providers, to compare the values)"
    } else {
        "Apply it now?"
    };
    let apply = args.apply
        || Confirm::new(question)
            .with_default(true)
            .prompt()
            .map_err(unanswered)?;
    if !apply {
        // The plan is data: it can be kept and applied later.
        app.printer.json(&value)?;
        app.printer.note(&format!(
            "Nothing was changed. Save the plan and apply it with: {} secrets apply --from <plan.json>",
            app.name().as_str()
        ));
        return Ok(OK);
    }
    let options = ApplyOptions {
        dry_run: false,
        allow_exec: true,
    };
    apply_plan(app, &plan, options, false)
}

fn known_providers(app: &mut App<'_>) -> Result<Vec<Choice>, SinkError> {
    let mut choices = vec![Choice {
        alias: "default".to_owned(),
        source: "env".to_owned(),
        single_value: false,
    }];
    for known in app.sink.secret_providers()? {
        match known.source {
            Some(source) => {
                choices.retain(|choice| choice.alias != known.alias);
                choices.push(Choice {
                    alias: known.alias,
                    source: source.to_owned(),
                    single_value: known.single_value,
                });
            }
            None => super::warn(app.printer, &known.problem.unwrap_or_default()),
        }
    }
    Ok(choices)
}

fn text(question: &str, help: &str) -> Result<String, SinkError> {
    let answer = Text::new(question)
        .with_help_message(help)
        .prompt()
        .map_err(unanswered)?;
    Ok(answer.trim().to_owned())
}

fn yes(question: &str, default: bool) -> Result<bool, SinkError> {
    Confirm::new(question)
        .with_default(default)
        .prompt()
        .map_err(unanswered)
}

/// One provider with its alias; `None` when no more are wanted.
fn ask_provider() -> Result<Option<(String, Value)>, SinkError> {
    let kinds = [
        "no more",
        "a program (pass, op, vault, bw, ...)",
        "a file",
        "the environment",
    ];
    let kind = Select::new("Add a secret provider?", kinds.to_vec())
        .prompt()
        .map_err(unanswered)?;
    if kind == kinds[0] {
        return Ok(None);
    }
    let alias = text("Its alias", "a lower-case letter, then a-z, 0-9, _ and -")?;
    let provider = if kind == kinds[1] {
        ask_program()?
    } else if kind == kinds[2] {
        let path = text("Path of the file", "absolute, or with ~/; mode 0600")?;
        let single = yes("Is the whole file one secret?", false)?;
        let mode = if single { "singleValue" } else { "json" };
        json!({"source": "file", "path": path, "mode": mode})
    } else {
        json!({"source": "env", "allowlist": words(&text("Variables that may be read", "names, separated by blanks")?)})
    };
    Ok(Some((alias, provider)))
}

fn ask_program() -> Result<Value, SinkError> {
    let command = text("Path of the program", "absolute; it is run without a shell")?;
    let args = words(&text("Its arguments", "separated by blanks; may be empty")?);
    let pass = words(&text(
        "Variables that it needs",
        "names such as HOME, separated by blanks; it sees no others",
    )?);
    let json_only = !yes("Does it print just the secret (not JSON)?", true)?;
    let mut provider = json!({"source": "exec", "command": command, "jsonOnly": json_only});
    if !args.is_empty() {
        provider["args"] = json!(args);
    }
    if !pass.is_empty() {
        provider["passEnv"] = json!(pass);
    }
    Ok(provider)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The targets with their references.
fn ask_targets(
    app: &mut App<'_>,
    candidates: Vec<SecretCandidate>,
    choices: &[Choice],
) -> Result<Vec<Value>, SinkError> {
    if candidates.is_empty() {
        app.printer
            .note("No plain secret was found that could be a reference.");
        return Ok(Vec::new());
    }
    let labelled: Vec<Labelled> = candidates.into_iter().map(Labelled).collect();
    let chosen = MultiSelect::new("Which secrets become references?", labelled)
        .prompt()
        .map_err(unanswered)?;
    let mut targets = Vec::new();
    for Labelled(candidate) in chosen {
        let choice = Select::new(&format!("Where is {}?", candidate.label), choices.to_vec())
            .prompt()
            .map_err(unanswered)?;
        let id = if choice.single_value {
            "value".to_owned()
        } else {
            ask_id(app.sink, &choice)?
        };
        let mut target = candidate.target;
        target["ref"] = json!({"source": choice.source, "provider": choice.alias, "id": id});
        targets.push(target);
    }
    Ok(targets)
}

fn ask_id(sink: &Sink, choice: &Choice) -> Result<String, SinkError> {
    let help = match choice.source.as_str() {
        "env" => "the variable's name",
        "file" => "a JSON pointer such as /openrouter/key",
        _ => "what the program is asked for",
    };
    let (sink, source) = (sink.clone(), choice.source.clone());
    let check = move |id: &str| {
        Ok(match sink.secret_id_problem(&source, id.trim()) {
            Some(problem) => Validation::Invalid(problem.into()),
            None => Validation::Valid,
        })
    };
    let answer = Text::new("Its id there")
        .with_help_message(help)
        .with_validator(check)
        .prompt()
        .map_err(unanswered)?;
    Ok(answer.trim().to_owned())
}
