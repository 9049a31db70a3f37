//! The plan of a login, as tables.

use tokensink_providers::{Definition, Flow, PkceFlow, Registry, UserFile};

use super::{DESK, request};
use crate::login::LoginRequest;
use crate::login::choose::{Facts, again, method, pkce, ways};
use crate::world::{agent, id};

fn registry(toml: &str) -> Registry {
    let file = UserFile {
        path: "/p/x.toml".into(),
        text: toml.to_owned(),
    };
    let (registry, problems) = Registry::load(&[file]);
    assert!(problems.is_empty(), "{problems:?}");
    registry
}

fn facts(interactive: bool, headless: bool) -> Facts {
    Facts {
        interactive,
        headless: headless.then(|| "no display".to_owned()),
        no_browser: false,
    }
}

fn flow<'a>(definition: &'a Definition, id: &str) -> &'a PkceFlow {
    match &definition.method_named(id).unwrap().flow {
        Flow::Pkce(flow) => flow,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_method_is_the_first_that_can_be_completed() {
    let registry = registry(DESK);
    let cases: [(&str, Option<&str>, bool, bool, &str); 9] = [
        ("desk", None, false, true, "oauth"),
        ("desk", None, false, false, "device"),
        ("desk", Some("DEVICE"), false, true, "device"),
        ("desk", None, true, true, "device"),
        ("anthropic", None, false, true, "oauth"),
        ("anthropic", None, false, false, "oauth"),
        ("openai-codex", None, false, false, "oauth"),
        ("openai-codex", None, true, false, "device-code"),
        ("github-copilot", None, false, false, "device"),
    ];
    for (provider, named, device_code, interactive, want) in cases {
        let definition = registry.resolve(provider).unwrap();
        let request = LoginRequest {
            method: named.map(|id| id.parse().unwrap()),
            device_code,
            ..request()
        };
        let method = method(definition, &request, &facts(interactive, false)).unwrap();
        assert_eq!(
            method.id.as_str(),
            want,
            "{provider} {named:?} {device_code} {interactive}"
        );
    }
}

#[test]
fn a_device_login_stands_by_unless_the_user_chose() {
    // The device login first, as an administrator may write it.
    let turned = DESK.replacen("id = \"desk\"", "id = \"turned\"", 1).replacen(
        "id = \"oauth\"\nkind",
        "id = \"late\"\nkind",
        1,
    );
    let at = |text: &str| turned.find(text).unwrap();
    let (late, device, token) = (
        at("[[auth]]\nid = \"late\""),
        at("[[auth]]\nid = \"device\""),
        at("[[auth]]\nid = \"token\""),
    );
    let turned = format!(
        "{}{}{}{}",
        &turned[..late],
        &turned[device..token],
        &turned[late..device],
        &turned[token..]
    );
    let (desk, turned) = (registry(DESK), registry(&turned));
    type Case<'a> = (
        &'a str,
        Option<&'a str>,
        bool,
        bool,
        bool,
        &'a str,
        Option<&'a str>,
    );
    let cases: [Case<'_>; 14] = [
        // provider, --method, --device-code, somebody there, no browser here: tried, beside it
        ("desk", None, false, true, true, "oauth", Some("device")),
        ("desk", None, false, true, false, "oauth", Some("device")),
        ("desk", Some("oauth"), false, true, true, "oauth", None),
        ("desk", Some("device"), false, true, true, "device", None),
        ("desk", None, true, true, true, "device", None),
        // Its redirect ends at a page of the provider, so without a terminal only the device login is left.
        ("desk", None, false, false, true, "device", None),
        (
            "openai-codex",
            None,
            false,
            false,
            true,
            "oauth",
            Some("device-code"),
        ),
        (
            "openai-codex",
            None,
            false,
            true,
            true,
            "oauth",
            Some("device-code"),
        ),
        ("anthropic", None, false, true, true, "oauth", None),
        ("github-copilot", None, false, true, true, "device", None),
        ("turned", None, false, true, true, "late", Some("device")),
        ("turned", None, false, true, false, "device", None),
        ("turned", None, false, false, true, "device", None),
        ("turned", None, true, true, true, "device", None),
    ];
    for case @ (provider, named, device_code, interactive, headless, tried, beside) in cases {
        let registry = if provider == "turned" { &turned } else { &desk };
        let request = LoginRequest {
            method: named.map(|id| id.parse().unwrap()),
            device_code,
            ..request()
        };
        let found = ways(
            registry.resolve(provider).unwrap(),
            &request,
            &facts(interactive, headless),
        )
        .unwrap();
        assert_eq!(
            (
                found.method.id.as_str(),
                found.device.map(|device| device.id.as_str())
            ),
            (tried, beside),
            "{case:?}"
        );
    }
}

#[test]
fn what_is_no_login_names_the_command_that_does() {
    let registry = registry(DESK);
    let cases = [
        (
            "anthropic",
            Some("setup-token"),
            false,
            "no_login_method",
            "tokensink models auth setup-token --provider anthropic",
        ),
        (
            "anthropic",
            Some("api-key"),
            false,
            "no_login_method",
            "tokensink models auth paste-api-key --provider anthropic",
        ),
        (
            "anthropic",
            Some("claude-cli"),
            false,
            "no_login_method",
            "log in with claude",
        ),
        (
            "anthropic",
            Some("oath"),
            false,
            "unknown_method",
            "tokensink models auth login --provider anthropic --method oauth",
        ),
        (
            "anthropic",
            None,
            true,
            "no_device_login",
            "tokensink models auth login --provider anthropic",
        ),
        (
            "openai",
            None,
            false,
            "no_login_method",
            "tokensink models auth paste-api-key --provider openai",
        ),
        (
            "openai",
            None,
            true,
            "no_device_login",
            "tokensink models auth paste-api-key --provider openai",
        ),
        (
            "desk",
            Some("oauth"),
            true,
            "not_a_device_login",
            "tokensink models auth login --provider desk --device-code",
        ),
        (
            "desk",
            Some("token"),
            false,
            "no_login_method",
            "tokensink models auth paste-token --provider desk",
        ),
    ];
    for (provider, named, device_code, code, fix) in cases {
        let definition = registry.resolve(provider).unwrap();
        let request = LoginRequest {
            method: named.map(|id| id.parse().unwrap()),
            device_code,
            ..request()
        };
        let error = method(definition, &request, &facts(true, false)).unwrap_err();
        assert_eq!(
            (error.code(), error.fix()),
            (code, Some(fix)),
            "{provider} {named:?}: {error}"
        );
    }
}

#[test]
fn the_redirect_goes_where_somebody_can_take_it() {
    let registry = Registry::builtin();
    let paste_page = "https://platform.claude.com/oauth/code/callback";
    let local = "http://localhost:53692/callback";
    let codex = "http://localhost:1455/auth/callback";
    type Case<'a> = (&'a str, &'a str, bool, bool, &'a [&'a str], &'a str);
    let cases: [Case<'_>; 7] = [
        ("anthropic", "oauth", true, false, &[local], paste_page),
        ("anthropic", "oauth", true, true, &[], paste_page),
        ("anthropic", "oauth", false, true, &[local], paste_page),
        (
            "anthropic",
            "oauth-2026-01",
            true,
            false,
            &[],
            "https://console.anthropic.com/oauth/code/callback",
        ),
        ("openai-codex", "oauth", true, false, &[codex], codex),
        ("openai-codex", "oauth", true, true, &[codex], codex),
        ("openai-codex", "oauth", false, true, &[codex], codex),
    ];
    for (provider, id, interactive, headless, loopback, fallback) in cases {
        let definition = registry.resolve(provider).unwrap();
        let plan = pkce(flow(definition, id), &facts(interactive, headless), &|_| None).unwrap();
        let uris: Vec<&str> = plan
            .loopback
            .iter()
            .map(|loopback| loopback.uri.as_str())
            .collect();
        assert_eq!(
            (uris.as_slice(), plan.fallback.as_str()),
            (loopback, fallback),
            "{provider} {interactive} {headless}"
        );
        assert_eq!(
            (plan.paste, plan.why_no_browser.is_some()),
            (interactive, headless)
        );
    }
    let plan = pkce(
        flow(registry.resolve("openai-codex").unwrap(), "oauth"),
        &facts(true, false),
        &|_| None,
    )
    .unwrap();
    let hosts: Vec<String> = plan.loopback[0].hosts.iter().map(ToString::to_string).collect();
    assert_eq!(
        (hosts.join(" "), plan.loopback[0].port),
        ("127.0.0.1 ::1".to_owned(), 1455)
    );
    assert_eq!(plan.loopback[0].path, "/auth/callback");
}

#[test]
fn a_variable_may_replace_the_redirect() {
    let registry = Registry::builtin();
    let chutes = flow(registry.resolve("chutes").unwrap(), "oauth");
    let cases = [
        ("http://[::1]:7000/cb", &["::1"][..], "http://[::1]:7000/cb"),
        ("https://my.example/cb", &[], "https://my.example/cb"),
    ];
    for (value, hosts, uri) in cases {
        let env = |name: &str| (name == "CHUTES_OAUTH_REDIRECT_URI").then(|| value.to_owned());
        let plan = pkce(chutes, &facts(true, false), &env).unwrap();
        let found: Vec<String> = plan
            .loopback
            .iter()
            .flat_map(|l| l.hosts.iter().map(ToString::to_string))
            .collect();
        assert!(
            hosts.iter().all(|host| found.contains(&(*host).to_owned())),
            "{value}: {found:?}"
        );
        assert_eq!(
            (found.is_empty(), plan.fallback.as_str()),
            (hosts.is_empty(), uri)
        );
    }
    assert!(pkce(chutes, &facts(true, false), &|_| Some("no url".to_owned())).is_err());
}

#[test]
fn only_port_zero_is_ours_to_choose() {
    let cases = [
        (
            "http://127.0.0.1:0/auth/callback",
            "http://127.0.0.1:41234/auth/callback",
        ),
        ("http://[::1]:0/cb?x=:0", "http://[::1]:41234/cb?x=:0"),
        ("http://127.0.0.1:0", "http://127.0.0.1:41234"),
        (
            "http://localhost:1455/auth/callback",
            "http://localhost:1455/auth/callback",
        ),
        ("http://127.0.0.1:10/cb", "http://127.0.0.1:10/cb"),
    ];
    for (uri, want) in cases {
        let toml = DESK.replacen("https://desk.test/shown", uri, 1);
        let registry = registry(&toml);
        let plan = pkce(
            flow(registry.resolve("desk").unwrap(), "oauth"),
            &facts(false, false),
            &|_| None,
        )
        .unwrap();
        assert_eq!(plan.loopback[0].uri_on(41234), want, "{uri}");
    }
}

#[test]
fn the_same_login_again_in_words() {
    let registry = registry(DESK);
    let desk = registry.resolve("desk").unwrap();
    let all = LoginRequest {
        agent: agent("work"),
        method: Some("device".parse().unwrap()),
        profile_id: Some(id("desk:a b")),
        device_code: true,
        ..request()
    };
    let want = "tokensink models auth login --provider desk --method device --device-code --profile-id 'desk:a b' --agent work";
    assert_eq!(again(desk, &all), want);
    assert_eq!(
        again(desk, &request()),
        "tokensink models auth login --provider desk"
    );
}
