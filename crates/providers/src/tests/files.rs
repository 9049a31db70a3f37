use std::path::Path;

use proptest::prelude::*;

use super::{RIG, file, id};
use crate::{Registry, check, format_reference};

fn problems(text: &str) -> Vec<String> {
    check(Path::new("p.toml"), text, &Registry::builtin())
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// `RIG` with one line replaced; the line that is replaced must be there.
fn rig(from: &str, to: &str) -> String {
    assert!(RIG.contains(from), "{from}");
    RIG.replacen(from, to, 1)
}

#[test]
fn a_complete_file_holds() {
    assert_eq!(problems(RIG), [""; 0]);
}

#[test]
fn a_wrong_field_is_named_with_its_line_and_what_is_allowed() {
    let cases = [
        (
            rig("billing = \"subscription\"", "billing = \"subscripton\""),
            "p.toml:4:11: billing: \"subscripton\" is not known; allowed are \"free\", \"subscription\", \"prepaid\", \"metered\"",
        ),
        (
            rig("token_endpoint =", "tokn_endpoint ="),
            "p.toml:18:1: unknown field \"tokn_endpoint\" in auth.oauth; did you mean token_endpoint? Allowed here: id, name, ",
        ),
        (
            rig("kind = \"pkce\"", "kind = \"oauth2\""),
            "p.toml:15:8: auth.oauth.kind: \"oauth2\" is not known; allowed are \"pkce\", \"device\", \"token\", \"api_key\", \"external\", \"program\"",
        ),
        (
            rig("http://127.0.0.1:9400/token", "http://rig.example/token"),
            "p.toml:18:18: auth.oauth.token_endpoint: plain http to rig.example would show the credential to the network; \
             write https:// (http is accepted for 127.0.0.0/8, ::1 and localhost only)",
        ),
        (
            rig("client_id = \"rig\"", "client_id = 7"),
            "p.toml:16:13: auth.oauth.client_id is an integer; write a string",
        ),
        (
            rig("client_id = \"rig\"", ""),
            "p.toml:13:1: auth.oauth.client_id is missing; write the client identifier, or client_id_env = \"NAME\"",
        ),
        (
            rig(
                "client_id = \"rig\"",
                "client_id = \"rig\"\nclient_id_env = \"RIG\"",
            ),
            "p.toml:17:1: client_id and client_id_env are both set; keep one of client_id and client_id_env",
        ),
        (
            rig("{account_id}", "{acount}"),
            "p.toml:9:25: api.headers.x-account: the placeholder {acount} is not known; \
             allowed are {account_id}, {email}, {plan} and {field.<name>}",
        ),
        (
            rig("x-static", "\"x static\""),
            "p.toml:9:41: api.headers.x static: \"x static\" is not a header name; write a name like x-api-key",
        ),
        (
            rig("scopes = [", "scopes = 3 #"),
            "p.toml:20:10: auth.oauth.scopes is an integer; write an array",
        ),
        (
            rig("id = \"api-key\"", "id = \"oauth\""),
            "p.toml:22:1: the login method \"oauth\" is given twice; keep one [[auth]] for each id",
        ),
        (
            rig("id = \"api-key\"\n", ""),
            "p.toml:22:1: a login method ([[auth]]) has no id; add a line like id = \"oauth\"",
        ),
        (
            rig(
                "kind = \"api_key\"",
                "kind = \"api_key\"\ntoken_endpoint = \"https://a.example/\"",
            ),
            "p.toml:25:1: auth.api-key.token_endpoint has no effect with kind = \"api_key\"; \
             remove it, or use kind = \"pkce\", \"device\"",
        ),
        (
            rig(
                "http://127.0.0.1:1455/auth/callback\"",
                "https://rig.example/cb\"\nreplay_grace_seconds = -1",
            ),
            "p.toml:20:24: auth.oauth.replay_grace_seconds = -1 is out of range; write a number from 0 to 316224000",
        ),
        (
            rig(
                "redirect_uri = \"http://127.0.0.1:1455/auth/callback\"",
                "redirects = [{ uri = \"https://rig.example/\", mode = \"loopback\" }]",
            ),
            "p.toml:19:13: auth.oauth.redirects: https://rig.example/ cannot be listened on; \
             write an http URL on 127.0.0.1, ::1 or localhost, or mode = \"paste\"",
        ),
        (
            rig("scopes =", "callback_hosts = [\"0.0.0.0\"]\nscopes ="),
            "p.toml:20:18: auth.oauth.callback_hosts: \"0.0.0.0\" is not a loopback address; write \"127.0.0.1\" or \"::1\"",
        ),
        (
            rig("scopes =", "required_identity = [\"account\"]\nscopes ="),
            "p.toml:13:1: auth.oauth.identity.account is missing; add account = \"/...\" to identity, \
             or take \"account\" out of required_identity",
        ),
        (
            rig(
                "scopes =",
                "identity = { from = \"id_token\", account = \"sub\" }\nscopes =",
            ),
            "p.toml:20:43: auth.oauth.identity.account: \"sub\" is not a JSON pointer; \
             write for example \"/account/uuid\"; / inside a name is ~1, ~ is ~0",
        ),
        (
            rig("base_url = \"http://127.0.0.1:9500/v1\"", ""),
            "p.toml:6:1: api.base_url is missing; write the address of the API, for example \"https://host/v1\"",
        ),
        (
            rig("env = [\"RIG_API_KEY\"]", "env = [\"RIG-API-KEY\"]"),
            "p.toml:5:8: env: \"RIG-API-KEY\" is not the name of an environment variable; \
             write letters, digits and _ only, not beginning with a digit",
        ),
        (
            rig("env =", "aliases = [\"zai\"]\nenv ="),
            "p.toml:5:12: aliases: \"zai\" stands for the provider zai already; write another word",
        ),
        (
            rig("env =", "aliases = [\"z.ai\"]\nenv ="),
            "p.toml:5:12: aliases: \"z.ai\" stands for the provider zai already; write another word",
        ),
        (
            rig(
                "kind = \"api_key\"",
                "kind = \"external\"\ncli = \"rig\"\nrefresh_with = \"oath\"",
            ),
            "p.toml:26:16: auth.api-key.refresh_with: there is no method \"oath\" of kind pkce or device; did you mean \"oauth\"?",
        ),
        (
            rig("x-static = \"1\"", "Authorization = \"1\""),
            "p.toml:9:11: api.headers: authorization carries the credential already; remove it from headers",
        ),
        (
            rig("id = \"rig\"", ""),
            "p.toml:1:1: id is missing; the provider id, for example id = \"rig\"",
        ),
        (
            rig("billing = \"subscription\"", "billing = subscription"),
            "p.toml:4:11: not valid TOML: ",
        ),
        (
            "id = \"anthropic\"\n[[auth]]\nid = \"oath\"\ndisabled = true\n".to_owned(),
            "p.toml:2:1: auth.oath is disabled, but there is no method \"oath\" to take away; known are \"setup-token\", ",
        ),
        (
            "id = \"mine\"\nextends = \"openai-compatble\"\n".to_owned(),
            "p.toml:2:11: extends: there is no built-in provider \"openai-compatble\"; did you mean openai-compatible",
        ),
    ];
    for (text, want) in cases {
        let got = problems(&text);
        assert!(
            got.iter().any(|line| line.starts_with(want)),
            "wanted {want}\ngot {got:#?}"
        );
    }
}

#[test]
fn a_broken_file_takes_nothing_else_down() {
    let broken = "id = \"anthropic\"\n[api]\nbase_url = \"http://proxy.example\"\n";
    let (registry, problems) = Registry::load(&[
        file("a.toml", broken),
        file("b.toml", RIG),
        file("c.toml", "id ="),
    ]);
    let lines: Vec<(String, usize)> = problems
        .iter()
        .map(|problem| {
            (
                problem.path.file_name().unwrap().to_string_lossy().into_owned(),
                problem.line,
            )
        })
        .collect();
    assert_eq!(lines, [("a.toml".to_owned(), 3), ("c.toml".to_owned(), 1)]);
    let anthropic = registry.get(&id("anthropic")).unwrap();
    assert_eq!(
        anthropic.api.base_url.as_ref().unwrap().as_str(),
        "https://api.anthropic.com/"
    );
    assert!(registry.get(&id("rig")).is_some());
}

#[test]
fn the_second_file_of_an_id_is_a_problem() {
    let other = RIG.replace("Rig", "Other");
    let (registry, problems) = Registry::load(&[file("b.toml", &other), file("a.toml", RIG)]);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].path.ends_with("b.toml") && problems[0].line == 2,
        "{problems:?}"
    );
    assert_eq!(registry.get(&id("rig")).unwrap().name, "Rig");
}

#[test]
fn a_client_secret_shows_nowhere() {
    let text = rig(
        "client_id = \"rig\"",
        "client_id = \"rig\"\nclient_secret = \"cs-canary\"",
    );
    let registry = super::load(&[file("rig.toml", &text)]);
    let shown = [
        format!("{registry:?}"),
        format!("{:?}", registry.origins(&id("rig"))),
        registry.to_toml(&id("rig")).unwrap(),
        format!(
            "{:?}",
            problems(&text.replace("kind = \"pkce\"", "kind = \"token\""))
        ),
        format!(
            "{:?}",
            problems(&text.replace("\"cs-canary\"", "[\"cs-canary\"]"))
        ),
    ];
    for text in shown {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn the_reference_names_every_field_once() {
    let mut paths: Vec<String> = format_reference().into_iter().map(|field| field.path).collect();
    for path in [
        "id",
        "api.base_url",
        "auth.api.beta_add",
        "auth.redirects.uri",
        "auth.refresh.headers",
    ] {
        assert!(paths.iter().any(|known| known == path), "{path}");
    }
    let count = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), count);
}

/// Lines that fields are made of, so that random files come far.
fn fragment() -> impl Strategy<Value = String> {
    let names: Vec<String> = format_reference()
        .into_iter()
        .map(|field| field.path.rsplit('.').next().unwrap_or_default().to_owned())
        .collect();
    let value = prop_oneof![
        Just("\"\"".to_owned()),
        Just("\"rig\"".to_owned()),
        Just("\"anthropic\"".to_owned()),
        Just("\"https://h.example/x\"".to_owned()),
        Just("\"{account_id\"".to_owned()),
        Just("\"/a~1b\"".to_owned()),
        Just("true".to_owned()),
        Just("-1".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("1.5".to_owned()),
        Just("2026-01-01".to_owned()),
        Just("[\"pkce\", 3, [], {}]".to_owned()),
        Just("{ x = \"é\", y = {} }".to_owned()),
        prop_oneof![Just("\"pkce\""), Just("\"device\""), Just("\"external\"")].prop_map(str::to_owned),
    ];
    let table = prop_oneof![
        Just("[api]"),
        Just("[[auth]]"),
        Just("[auth.api]"),
        Just("[auth.device]")
    ];
    prop_oneof![
        4 => (prop::sample::select(names), value).prop_map(|(name, value)| format!("{name} = {value}")),
        1 => table.prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

proptest! {
    /// Whatever a file holds: no panic, and every problem points into the file.
    #[test]
    fn any_text_is_checked(lines in prop::collection::vec(fragment(), 0..14), tail in "\\PC{0,40}") {
        let text = format!("{}\n{tail}", lines.join("\n"));
        let count = text.split('\n').count();
        let found = check(Path::new("p.toml"), &text, &Registry::builtin());
        for problem in &found {
            prop_assert!((1..=count).contains(&problem.line), "{problem:?}");
            prop_assert!(problem.column >= 1 && !problem.message.is_empty());
        }
        let (registry, loaded) = Registry::load(&[file("p.toml", &text)]);
        prop_assert_eq!(found.is_empty(), loaded.is_empty());
        prop_assert!(registry.all().count() >= Registry::builtin().all().count());
    }
}
