use tokensink_types::MethodId;

use super::{RIG, definition, file, id, load};
use crate::{Flow, Method, Origin, PkceFlow, Registry};

fn pkce<'a>(registry: &'a Registry, provider: &str, method: &str) -> &'a PkceFlow {
    let method: &Method = definition(registry, provider)
        .method(&MethodId::parse(method).unwrap())
        .unwrap();
    match &method.flow {
        Flow::Pkce(flow) => flow,
        other => panic!("{other:?}"),
    }
}

fn over(text: &str) -> Registry {
    load(&[file("x.toml", text)])
}

#[test]
fn only_what_a_file_names_changes() {
    let registry = over(
        r#"
id = "openai-codex"
[[auth]]
id = "oauth"
token_endpoint = "http://127.0.0.1:9400/token"
"#,
    );
    let before = Registry::builtin();
    let flow = pkce(&registry, "openai-codex", "oauth");
    let mut want = pkce(&before, "openai-codex", "oauth").clone();
    want.client.token_endpoint = Some("http://127.0.0.1:9400/token".parse().unwrap());
    assert_eq!(*flow, want);
    assert_eq!(
        definition(&registry, "openai-codex").api,
        definition(&before, "openai-codex").api
    );
    let changed = registry.overridden_endpoints(&id("openai-codex"));
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].path, "auth.oauth.token_endpoint");
    assert_eq!(
        changed[0].origin,
        Origin::File {
            path: "/state/tokensink/providers/x.toml".into(),
            line: 5
        }
    );
    assert!(registry.is_builtin(&id("openai-codex")));
}

#[test]
fn arrays_replace_and_tables_merge_by_key() {
    let registry = over(
        r#"
id = "openai-codex"
[api]
models = ["m"]
headers = { x-extra = "1" }
[[auth]]
id = "oauth"
scopes = ["openid"]
authorize_params = { originator = "me", extra = "2" }
"#,
    );
    let codex = definition(&registry, "openai-codex");
    assert_eq!(codex.api.models, ["m"]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        codex.api.headers,
        [pair("chatgpt-account-id", "{account_id}"), pair("x-extra", "1")]
    );
    let flow = pkce(&registry, "openai-codex", "oauth");
    assert_eq!(flow.client.scopes, ["openid"]);
    assert_eq!(
        flow.authorize_params,
        [
            pair("id_token_add_organizations", "true"),
            pair("codex_cli_simplified_flow", "true"),
            pair("originator", "me"),
            pair("extra", "2"),
        ]
    );
}

#[test]
fn a_blank_value_deletes() {
    let registry = over(
        r#"
id = "openai-codex"
[api]
headers = { ChatGPT-Account-Id = "" }
required_headers = []
[[auth]]
id = "oauth"
revocation_endpoint = ""
authorize_params = { originator = "" }
"#,
    );
    assert_eq!(definition(&registry, "openai-codex").api.headers, []);
    let flow = pkce(&registry, "openai-codex", "oauth");
    assert_eq!(flow.client.revocation_endpoint, None);
    assert_eq!(flow.authorize_params.len(), 2);
    let origins = registry.origins(&id("openai-codex"));
    let gone = origins
        .iter()
        .find(|field| field.path == "auth.oauth.authorize_params.originator")
        .unwrap();
    assert_eq!((gone.value.as_str(), gone.origin.is_file()), ("\"\"", true));
}

#[test]
fn a_method_may_delete_a_header_of_its_provider() {
    let text = RIG.replace(
        "[[auth]]\nid = \"api-key\"\nkind = \"api_key\"",
        "[[auth]]\nid = \"api-key\"\nkind = \"api_key\"\n[auth.api.headers]\nx-static = \"\"",
    );
    let registry = over(&text);
    let rig = definition(&registry, "rig");
    let names = |method: &str| -> Vec<String> {
        let api = &rig.method_named(method).unwrap().api;
        api.headers.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names("oauth"), ["x-account", "x-static"]);
    assert_eq!(names("api-key"), ["x-account"]);
}

#[test]
fn methods_are_added_and_taken_away_by_id() {
    let registry = over(
        r#"
id = "openai-codex"
[[auth]]
id = "device-code"
disabled = true
[[auth]]
id = "key"
kind = "api_key"
billing = "metered"
"#,
    );
    let ids: Vec<&str> = definition(&registry, "openai-codex")
        .methods
        .iter()
        .map(|m| m.id.as_str())
        .collect();
    assert_eq!(ids, ["oauth", "codex-cli", "key"]);
    // A new method must be complete.
    let (_, problems) = Registry::load(&[file(
        "x.toml",
        "id = \"openai\"\n[[auth]]\nid = \"oauth\"\nkind = \"pkce\"\n",
    )]);
    let missing: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        missing,
        [
            "auth.oauth.client_id",
            "auth.oauth.token_endpoint",
            "auth.oauth.authorization_endpoint",
            "auth.oauth.redirect_uri"
        ]
    );
    assert!(problems.iter().all(|problem| problem.line == 2), "{problems:?}");
}

#[test]
fn the_newer_of_two_ways_to_say_a_thing_counts() {
    let registry = over(
        r#"
id = "anthropic"
[[auth]]
id = "oauth"
redirect_uri = "http://127.0.0.1:7000/cb"
client_id_env = "MY_CLIENT"
"#,
    );
    let flow = pkce(&registry, "anthropic", "oauth");
    assert_eq!(flow.redirects.len(), 1);
    assert_eq!(flow.client.client_id, crate::Setting::Env("MY_CLIENT".to_owned()));
}

#[test]
fn removing_the_method_that_another_refers_to_is_a_problem() {
    let text = "id = \"anthropic\"\n[[auth]]\nid = \"oauth\"\ndisabled = true\n";
    let (registry, problems) = Registry::load(&[file("x.toml", text)]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].field, "auth.claude-cli.refresh_with");
    assert_eq!(definition(&registry, "anthropic").methods.len(), 6);
}

#[test]
fn a_file_can_start_from_a_pattern() {
    let registry = over(
        r#"
id = "local"
extends = "openai-compatible"
billing = "free"
env = ["LOCAL_KEY"]
[api]
base_url = "http://localhost:8000/v1"
"#,
    );
    let local = definition(&registry, "local");
    assert_eq!((local.name.as_str(), local.template), ("local", false));
    assert_eq!(local.methods.len(), 1);
    assert_eq!(local.methods[0].api, local.api);
    assert!(!registry.is_builtin(&id("local")));
    let (_, problems) = Registry::load(&[file(
        "x.toml",
        "id = \"local\"\nextends = \"openai-compatible\"\n",
    )]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].field, "api.base_url");
    // Or be given its address directly.
    let registry = over("id = \"openai-compatible\"\n[api]\nbase_url = \"https://llm.example/v1\"\n");
    assert!(definition(&registry, "openai-compatible").api.base_url.is_some());
}

#[test]
fn a_file_is_always_checked_over_the_built_in_definition() {
    let first = "id = \"openai\"\n[[auth]]\nid = \"more\"\nkind = \"token\"\n";
    let registry = over(first);
    // `more` is gone from the file, so it is not there to be disabled, although it is loaded.
    let second = "id = \"openai\"\n[[auth]]\nid = \"more\"\ndisabled = true\n";
    assert_eq!(
        crate::check(std::path::Path::new("x.toml"), second, &registry).len(),
        1
    );
    // Nor does what another file made of a built-in provider pass on to those that extend it.
    let registry = load(&[
        file("a.toml", first),
        file("b.toml", "id = \"mine\"\nextends = \"openai\"\n"),
    ]);
    assert_eq!(definition(&registry, "mine").methods.len(), 1);
}

#[test]
fn a_users_model_alias_comes_first() {
    let text = RIG.replace("small = ", "opus = ");
    let registry = over(&text);
    assert_eq!(registry.model_alias("opus"), Some((&id("rig"), "rig-small")));
    assert_eq!(registry.model_alias("sonnet").unwrap().0, &id("anthropic"));
}
