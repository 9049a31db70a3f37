//! From a checked and merged tree to a [`Definition`]: what must be there, what fits together, and the defaults.
//!
//! Single values have passed [`crate::schema`]; here a file fails for what its fields are together.

mod choice;
mod flow;
mod section;

use tokensink_types::{BillingClass, MethodId, ProviderId};

use crate::definition::{ApiKind, ApiShape, Definition, EnvVar, Flow, Method, Pairs, ProfileName};
use crate::merge::{is_disabled, merge_table};
use crate::problem::{Place, Problems, nearest, quoted_list};
use crate::schema::{API, AUTH, find, join, method_path};
use crate::tree::{Node, Table};

use section::Section;

/// The header that lists Anthropic's beta features.
const BETA_HEADER: &str = "anthropic-beta";

/// Builds the definition; `None` when `problems` got something to say.
pub(crate) fn build(tree: &Table, top: &Place, problems: &mut Problems) -> Option<Definition> {
    let empty = Table::default();
    let root = Section::new(tree, String::new(), top.clone());
    let id = root.require_text("id", "the provider id, for example id = \"rig\"", problems);
    let billing = root
        .word("billing", billing_class)
        .unwrap_or(BillingClass::Metered);
    if root.text("billing").is_none() {
        root.missing(
            "billing",
            "write free, subscription, prepaid or metered",
            problems,
        );
    }
    let api_table = tree.table("api").unwrap_or(&empty);
    let api_place = tree.get("api").map_or(top, |node| &node.place);
    let template = root.flag("template");
    let api = build_api(
        &Section::new(api_table, "api".to_owned(), api_place.clone()),
        template,
        problems,
    );
    let notice = root.text("notice").unwrap_or_default().to_owned();
    let methods = build_methods(
        tree,
        api_table,
        &Inherited {
            provider: id.unwrap_or_default(),
            name: root.text("name").or(id).unwrap_or_default(),
            billing,
            notice: &notice,
            template,
        },
        problems,
    );
    check_references(tree, &methods, problems);
    let id = id.and_then(|text| ProviderId::parse(text).ok());
    match (id, api) {
        (Some(id), Some(api)) if problems.is_empty() => Some(Definition {
            name: root.text("name").unwrap_or(id.as_str()).to_owned(),
            aliases: root
                .texts("aliases")
                .iter()
                .map(|alias| alias.trim().to_lowercase())
                .collect(),
            billing,
            notice,
            docs: root.url("docs"),
            env: build_env(&root, tree, &methods),
            template,
            api,
            methods,
            id,
        }),
        _ => None,
    }
}

/// What a method takes from its provider unless it says otherwise.
struct Inherited<'a> {
    provider: &'a str,
    name: &'a str,
    billing: BillingClass,
    notice: &'a str,
    template: bool,
}

pub(crate) fn billing_class(word: &str) -> Option<BillingClass> {
    word.parse().ok()
}

fn api_kind(word: &str) -> Option<ApiKind> {
    [
        ApiKind::AnthropicMessages,
        ApiKind::OpenAiResponses,
        ApiKind::OpenAiChat,
        ApiKind::Cli,
        ApiKind::None,
    ]
    .into_iter()
    .find(|kind| kind.as_str() == word)
}

fn build_api(api: &Section<'_>, template: bool, problems: &mut Problems) -> Option<ApiShape> {
    let Some(kind) = api.word("kind", api_kind) else {
        let fix = "write anthropic-messages, openai-responses, openai-chat, cli or none";
        api.missing("kind", fix, problems);
        return None;
    };
    let base_url = api.url("base_url");
    if kind.path().is_some() && base_url.is_none() && !template {
        api.missing(
            "base_url",
            "write the address of the API, for example \"https://host/v1\"",
            problems,
        );
    }
    let command = api.texts("command");
    if kind == ApiKind::Cli && command.is_empty() {
        api.missing(
            "command",
            "write the program and its arguments, for example [\"claude\", \"-p\"]",
            problems,
        );
    }
    let header = api.text("header").unwrap_or("authorization").to_lowercase();
    // `scheme = ""` is a value of its own here: a bare key.
    let scheme = match api.raw_text("scheme") {
        Some(scheme) => scheme.trim().to_owned(),
        None if header == "authorization" => "Bearer".to_owned(),
        None => String::new(),
    };
    let headers = lower_names(api.pairs("headers"));
    if headers.iter().any(|(name, _)| *name == header) {
        let message = format!("{header} carries the credential already");
        api.wrong(
            "headers",
            &message,
            "remove it from headers, or change header",
            problems,
        );
    }
    Some(ApiShape {
        kind,
        base_url,
        header,
        scheme,
        headers,
        required_headers: api
            .texts("required_headers")
            .iter()
            .map(|name| name.to_lowercase())
            .collect(),
        beta_header: api.text("beta_header").unwrap_or(BETA_HEADER).to_lowercase(),
        beta_add: api.texts("beta_add"),
        beta_remove: api.texts("beta_remove"),
        command,
        models: api.texts("models"),
        aliases: api.pairs("aliases"),
    })
}

/// Header names in lower case; of two that differ in case only the later counts.
fn lower_names(pairs: Pairs) -> Pairs {
    let mut lower: Pairs = Vec::new();
    for (name, value) in pairs {
        let name = name.to_lowercase();
        lower.retain(|(known, _)| *known != name);
        lower.push((name, value));
    }
    lower
}

fn build_methods(
    tree: &Table,
    api: &Table,
    inherited: &Inherited<'_>,
    problems: &mut Problems,
) -> Vec<Method> {
    let nodes = tree.get("auth").map(Node::list).unwrap_or_default();
    nodes
        .iter()
        .filter_map(|node| node.table().map(|table| (node, table)))
        .filter(|(_, table)| !is_disabled(table))
        .filter_map(|(node, table)| {
            let section = Section::new(table, method_path(table), node.place.clone());
            build_method(&section, api, inherited, problems)
        })
        .collect()
}

fn build_method(
    method: &Section<'_>,
    provider_api: &Table,
    inherited: &Inherited<'_>,
    problems: &mut Problems,
) -> Option<Method> {
    let id = MethodId::parse(method.text("id")?).ok()?;
    let Some(kind) = method.text("kind") else {
        method.missing(
            "kind",
            "write pkce, device, token, api_key, external or program",
            problems,
        );
        return None;
    };
    check_kind_fields(method, kind, problems);
    let empty = Table::default();
    let own_api = method.table.table("api").unwrap_or(&empty);
    let api_place = method.table.get("api").map_or(&method.place, |node| &node.place);
    let merged = merge_table(provider_api, own_api, API);
    let api_section = Section::new(&merged, join(&method.path, "api"), api_place.clone());
    let flow = flow::build_flow(method, kind, problems);
    // A method that changes nothing has the provider's faults, which are reported there.
    let api = if own_api.entries.is_empty() {
        build_api(
            &api_section,
            true,
            &mut Problems::new(std::sync::Arc::from(std::path::Path::new(""))),
        )
    } else {
        build_api(&api_section, inherited.template, problems)
    };
    let flow = flow?;
    let profile_name = profile_name(method, &flow);
    let choices = choice::build_choices(method, &flow, &profile_name, inherited, problems);
    Some(Method {
        name: method.text("name").unwrap_or(id.as_str()).to_owned(),
        billing: method.word("billing", billing_class).unwrap_or(inherited.billing),
        notice: method
            .raw_text("notice")
            .unwrap_or(inherited.notice)
            .trim()
            .to_owned(),
        profile_name,
        api: api?,
        flow,
        choices,
        id,
    })
}

/// How a profile is called where the definition does not say (spec.md 3.2).
fn profile_name(method: &Section<'_>, flow: &Flow) -> ProfileName {
    match (method.text("profile_name"), flow) {
        (Some(text), _) => named(text),
        (None, Flow::Pkce(_) | Flow::Device(_) | Flow::Program(_)) => ProfileName::Email,
        (None, Flow::Token(_)) => ProfileName::Fixed("manual".to_owned()),
        (None, Flow::ApiKey(_)) => ProfileName::Fixed("default".to_owned()),
        (None, Flow::External(external)) => ProfileName::Fixed(external.cli.clone()),
    }
}

fn named(text: &str) -> ProfileName {
    match text.trim() {
        "email" => ProfileName::Email,
        "email_or_subject" => ProfileName::EmailOrSubject,
        name => ProfileName::Fixed(name.to_owned()),
    }
}

/// A field of another kind of login has no effect; it is most likely a mistake about the kind.
fn check_kind_fields(method: &Section<'_>, kind: &str, problems: &mut Problems) {
    for entry in &method.table.entries {
        let Some(field) = find(AUTH, &entry.key) else {
            continue;
        };
        let blank = entry.node.text().is_some_and(|text| text.trim().is_empty());
        if !blank && !field.kinds.is_empty() && !field.kinds.contains(&kind) {
            let path = join(&method.path, field.name);
            let message = format!("{path} has no effect with kind = {kind:?}");
            let fix = format!(
                "remove it, or use kind = {}",
                quoted_list(field.kinds.iter().copied())
            );
            problems.add(&entry.place, &path, message, fix);
        }
    }
}

/// `refresh_with` must name an OAuth method of this provider.
fn check_references(tree: &Table, methods: &[Method], problems: &mut Problems) {
    let oauth: Vec<&str> = methods
        .iter()
        .filter(|method| matches!(method.flow, Flow::Pkce(_) | Flow::Device(_)))
        .map(|method| method.id.as_str())
        .collect();
    for node in tree.get("auth").map(Node::list).unwrap_or_default() {
        let Some(table) = node.table() else { continue };
        let Some(wanted) = table.text("refresh_with") else {
            continue;
        };
        if is_disabled(table) || oauth.contains(&wanted) {
            continue;
        }
        let path = join(&method_path(table), "refresh_with");
        let message = format!("{path}: there is no method {wanted:?} of kind pkce or device");
        let fix = match nearest(wanted, oauth.iter().copied(), 1).first() {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("known are {}", quoted_list(oauth.iter().copied())),
        };
        let place = table.get("refresh_with").map_or(&node.place, |node| &node.place);
        problems.add(place, &path, message, fix);
    }
}

/// The variables of the provider in its order, then those that only a method names.
fn build_env(root: &Section<'_>, tree: &Table, methods: &[Method]) -> Vec<EnvVar> {
    let shared = root.texts("env_shared");
    let by_method: Vec<(String, MethodId)> = methods
        .iter()
        .flat_map(|method| {
            let nodes = tree.get("auth").map(Node::list).unwrap_or_default();
            nodes
                .iter()
                .filter_map(Node::table)
                .filter(|table| method_path(table) == format!("auth.{}", method.id))
                .flat_map(|table| Section::new(table, String::new(), root.place.clone()).texts("env"))
                .map(|name| (name, method.id.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    let mut names = root.texts("env");
    for (name, _) in &by_method {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
        .into_iter()
        .map(|name| EnvVar {
            method: by_method
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, id)| id.clone()),
            shared: shared.contains(&name),
            name,
        })
        .collect()
}
