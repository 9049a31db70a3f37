//! Plans of requests as clients send them, in a small world of two agents; and of anything else.

use bytes::Bytes;
use http::Request;
use proptest::prelude::*;

use super::*;
use crate::request::route::route;

/// `work` has anthropic:work and openai:work, `personal` the profiles `…:personal` and `codex:personal`.
struct World;

fn id(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

fn profile(text: &str) -> ProfileId {
    ProfileId::parse(text).unwrap()
}

const PROVIDERS: [(&str, ApiKind, &str); 5] = [
    ("anthropic", ApiKind::AnthropicMessages, "claude-opus-4-6"),
    ("openai", ApiKind::OpenAiResponses, "gpt-5.1"),
    ("openai-codex", ApiKind::OpenAiResponses, "gpt-5.1-codex"),
    ("claude-cli", ApiKind::Cli, "opus"),
    ("deepgram", ApiKind::None, "nova"),
];

impl Directory for World {
    fn provider(&self, name: &str) -> Option<Provider> {
        let name = if name == "codex" { "openai-codex" } else { name };
        let (id, kind, model) = PROVIDERS.into_iter().find(|(id, ..)| *id == name)?;
        Some(Provider {
            id: self::id(id),
            kind,
            models: vec![model.to_owned()],
        })
    }

    fn resolve_model(&self, _: &AgentId, text: &str) -> Result<Target, SinkError> {
        let (name, profile) = match text
            .split_once('@')
            .filter(|(_, profile)| !profile.trim().is_empty())
        {
            Some((name, profile)) => (name, Some(self::profile(profile))),
            None => (text, None),
        };
        let name = if name == "opus" {
            "anthropic/claude-opus-4-6"
        } else {
            name
        };
        let found = name
            .split_once('/')
            .filter(|(provider, model)| self.provider(provider).is_some() && !model.is_empty());
        let listed = || {
            let (id, _, model) = PROVIDERS.into_iter().find(|(.., model)| *model == name)?;
            Some((id, model))
        };
        let (provider, model) = found.or_else(listed).ok_or_else(|| {
            SinkError::new(ErrorKind::Usage, "unknown_model", "no such model")
                .with_fix("tokensink models list --all")
        })?;
        Ok(Target {
            provider: self.provider(provider).unwrap().id,
            model: model.to_owned(),
            profile,
        })
    }

    fn provider_of(&self, agent: &AgentId, profile: &ProfileId) -> Option<ProviderId> {
        let own = profile.name_part() == agent.as_str();
        let known = self.with_profiles(agent).into_iter().map(|provider| provider.id);
        known
            .into_iter()
            .find(|known| own && profile.provider_part() == Some(known.as_str()))
    }

    fn with_profiles(&self, agent: &AgentId) -> Vec<Provider> {
        let names: &[&str] = match agent.as_str() {
            "work" => &["anthropic", "openai"],
            "personal" => &["anthropic", "openai", "openai-codex"],
            _ => &[],
        };
        names.iter().filter_map(|name| self.provider(name)).collect()
    }
}

struct Asked<'a> {
    agent: &'a str,
    only: Option<&'a str>,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
    compressed: bool,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self {
            agent: "work",
            only: None,
            path: "/v1/messages",
            headers: &[],
            body: b"{}",
            compressed: false,
        }
    }
}

fn ask(asked: &Asked<'_>) -> Result<Plan, Refusal> {
    let mut request = Request::post(asked.path);
    for (name, value) in asked.headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let body = DecodedBody {
        bytes: Bytes::copy_from_slice(asked.body),
        compressed: asked.compressed,
    };
    let agent = AgentId::normalise(asked.agent);
    let only = asked.only.map(|only| only.split(',').map(id).collect());
    let rights = Rights {
        agent: &agent,
        providers: only.as_ref(),
    };
    let route = route(&parts.method, &parts.uri, &parts.headers)?;
    plan(&route, &parts, Some(&body), rights, &World)
}

/// Of a request with this body and no headers.
fn plan_of(path: &str, body: &[u8]) -> Plan {
    ask(&Asked {
        path,
        body,
        ..Asked::default()
    })
    .unwrap()
}

fn model(path: &str, text: &str) -> Result<Plan, Refusal> {
    let body = serde_json::json!({ "model": text }).to_string();
    ask(&Asked {
        path,
        body: body.as_bytes(),
        ..Asked::default()
    })
}

#[test]
fn where_models_go() {
    let cases = [
        (
            "/v1/messages",
            "opus",
            "anthropic",
            "claude-opus-4-6",
            None,
            "/v1/messages",
            true,
        ),
        (
            "/v1/messages?beta=true",
            "claude-opus-4-6",
            "anthropic",
            "claude-opus-4-6",
            None,
            "/v1/messages?beta=true",
            false,
        ),
        (
            "/v1/messages",
            "anthropic/claude-x",
            "anthropic",
            "claude-x",
            None,
            "/v1/messages",
            true,
        ),
        (
            "/v1/messages",
            "claude-of-tomorrow",
            "anthropic",
            "claude-of-tomorrow",
            None,
            "/v1/messages",
            false,
        ),
        (
            "/v1/messages/count_tokens",
            "opus@anthropic:work",
            "anthropic",
            "claude-opus-4-6",
            Some("anthropic:work"),
            "/v1/messages/count_tokens",
            true,
        ),
        (
            "/v1/chat/completions?key=sk&x=1",
            "gpt-5.1",
            "openai",
            "gpt-5.1",
            None,
            "/chat/completions?x=1",
            false,
        ),
        (
            "/v1/responses?key=sk",
            "openai/gpt-9",
            "openai",
            "gpt-9",
            None,
            "/responses",
            true,
        ),
        (
            "/v1/responses/compact",
            "openai-codex/gpt-5.1-codex",
            "openai-codex",
            "gpt-5.1-codex",
            None,
            "/responses/compact",
            true,
        ),
        (
            "/v1/responses",
            "gpt-of-tomorrow",
            "openai",
            "gpt-of-tomorrow",
            None,
            "/responses",
            false,
        ),
    ];
    for (path, text, provider, name, profile, up, edited) in cases {
        let plan = model(path, text).unwrap();
        assert_eq!(plan.agent.as_str(), "work");
        assert_eq!(plan.provider.as_str(), provider, "{text}");
        assert_eq!(plan.model.as_deref(), Some(name), "{text}");
        assert_eq!(plan.profile.as_ref().map(ProfileId::as_str), profile, "{text}");
        assert_eq!(plan.path_and_query, up, "{text}");
        assert_eq!(plan.body_edit.is_some(), edited, "{text}");
    }
    let body = br#"{ "model" : "opus@anthropic:work", "stream": true }"#;
    let plan = ask(&Asked {
        body,
        ..Asked::default()
    })
    .unwrap();
    assert!(plan.stream);
    let edited = plan.body_edit.unwrap().apply(body);
    assert_eq!(edited, br#"{ "model" : "claude-opus-4-6", "stream": true }"#);
}

#[test]
fn what_models_are_refused() {
    let cases = [
        ("/v1/messages", "nothing/x", 400, "unknown_model"),
        ("/v1/messages", "", 400, "unknown_model"),
        ("/v1/messages", "no such", 400, "unknown_model"),
        ("/v1/messages", "gpt-5.1", 400, "other_api"),
        ("/v1/responses", "opus", 400, "other_api"),
        ("/v1/messages", "claude-cli/opus", 400, "other_api"),
        ("/v1/responses", "deepgram/nova", 400, "other_api"),
        ("/v1/messages", "opus@anthropic:personal", 404, "unknown_profile"),
        ("/v1/messages", "opus@anthropic:nobody", 404, "unknown_profile"),
        ("/v1/messages", "opus@openai:work", 404, "unknown_profile"),
        ("/v1/messages", "new@anthropic:personal", 400, "unknown_model"),
    ];
    for (path, text, status, code) in cases {
        let refusal = model(path, text).unwrap_err();
        assert_eq!(
            (refusal.status.as_u16(), refusal.code),
            (status, code),
            "{text}: {refusal:?}"
        );
        assert!(refusal.fix.is_some(), "{refusal:?}");
    }
    assert!(
        model("/v1/messages", &"x/".repeat(50_000))
            .unwrap_err()
            .text()
            .len()
            < 500
    );
    let someones = model("/v1/messages", "opus@anthropic:personal")
        .unwrap_err()
        .text();
    let nobodys = model("/v1/messages", "opus@anthropic:nobodyis")
        .unwrap_err()
        .text();
    assert_eq!(someones.replace("personal", "nobodyis"), nobodys);
}

#[test]
fn what_the_sink_says_about_a_name_is_told_with_a_status_of_its_kind() {
    let cases = [
        (ErrorKind::Usage, "unknown_model", 400),
        (ErrorKind::Usage, "profile_not_found", 404),
        (ErrorKind::Usage, "unknown_provider", 404),
        (ErrorKind::Failed, "store", 503),
    ];
    for (kind, code, status) in cases {
        let error = SinkError::new(kind, code, "A sentence.").with_fix("tokensink x");
        let refusal = not_resolved("name", &error);
        assert_eq!((refusal.status.as_u16(), refusal.code), (status, code));
        assert_eq!(refusal.text(), "tokensink: A sentence. To fix it: tokensink x");
    }
}

#[test]
fn a_bare_name_of_tomorrow_goes_where_it_alone_can_go() {
    let asked = |agent, only, text: &str| {
        let body = serde_json::json!({ "model": text }).to_string();
        let body = body.as_bytes();
        ask(&Asked {
            agent,
            only,
            path: "/v1/responses",
            body,
            ..Asked::default()
        })
    };
    assert_eq!(
        asked("personal", None, "gpt-new").unwrap_err().code,
        "unknown_model"
    );
    let plan = asked("personal", Some("openai-codex"), "gpt-new").unwrap();
    assert_eq!(plan.provider.as_str(), "openai-codex");
    assert_eq!(
        asked("nobody", None, "gpt-new").unwrap_err().code,
        "unknown_model"
    );
}

#[test]
fn what_a_key_may_not_use() {
    let body = br#"{"model":"opus"}"#;
    let refusal = ask(&Asked {
        only: Some("openai"),
        body,
        ..Asked::default()
    })
    .unwrap_err();
    assert_eq!(
        (refusal.status.as_u16(), refusal.code),
        (403, "provider_not_allowed")
    );
    assert!(refusal.fix.unwrap().contains("tokensink keys add"));
    for (path, status) in [
        ("/anthropic/v1/messages", 403),
        ("/codex/responses", 403),
        ("/nothing/x", 404),
        ("/openai/x", 200),
    ] {
        let seen = ask(&Asked {
            only: Some("openai"),
            path,
            ..Asked::default()
        });
        assert_eq!(
            seen.map_or_else(|refusal| refusal.status.as_u16(), |_| 200),
            status,
            "{path}"
        );
    }
}

#[test]
fn passed_paths() {
    let body = br#"{"model":"opus@anthropic:personal","stream":true,"previous_response_id":"resp_1"}"#;
    let plan = ask(&Asked {
        path: "/codex/responses?token=x&a=%20",
        headers: &[("session-id", "s-1"), ("x-tokensink-agent", "personal")],
        body,
        ..Asked::default()
    })
    .unwrap();
    assert_eq!(
        (plan.agent.as_str(), plan.provider.as_str()),
        ("work", "openai-codex")
    );
    assert_eq!((plan.profile, plan.body_edit), (None, None));
    assert_eq!(plan.path_and_query, "/responses?a=%20");
    assert_eq!(plan.session.as_deref(), Some("codex:s-1"));
    assert!(plan.stream && plan.bound);
    for body in [
        &b"not json"[..],
        b"[]",
        b"{\"model\":1}",
        b"{\"model\":\"a\",\"model\":\"b\"}",
        b"\xff",
    ] {
        let plan = ask(&Asked {
            path: "/openai/x",
            body,
            ..Asked::default()
        })
        .unwrap();
        assert_eq!((plan.model, plan.bound), (None, false));
    }
}

#[test]
fn paths_to_what_one_account_keeps() {
    let cases = [
        ("/openai/files/file-1/content", Some(("files", "file-1"))),
        (
            "/openai/v1/responses/resp_1/input_items",
            Some(("responses", "resp_1")),
        ),
        ("/openai/batches/b_1/cancel", Some(("batches", "b_1"))),
        (
            "/anthropic/v1/messages/batches/msgbatch_1",
            Some(("batches", "msgbatch_1")),
        ),
        ("/openai/fine_tuning/jobs/ftjob-1", Some(("jobs", "ftjob-1"))),
        (
            "/openai/chat/completions/chatcmpl-1",
            Some(("completions", "chatcmpl-1")),
        ),
        ("/openai/files", None),
        ("/openai/files/", None),
        ("/openai/responses/compact", None),
        ("/openai/chat/completions", None),
        ("/anthropic/v1/messages/count_tokens", None),
    ];
    for (path, want) in cases {
        let plan = ask(&Asked {
            path,
            ..Asked::default()
        })
        .unwrap();
        let ties: Vec<_> = plan
            .ties
            .iter()
            .map(|tie| (tie.what, tie.id.as_deref().unwrap()))
            .collect();
        assert_eq!(ties, want.into_iter().collect::<Vec<_>>(), "{path}");
        assert_eq!(plan.bound, want.is_some());
    }
}

#[test]
fn a_body_that_cannot_be_read_may_refer_to_something() {
    let two_models = br#"{"model":"a","model":"b"}"#;
    for (path, body, want) in [
        ("/openai/responses", &two_models[..], true),
        ("/openai/v1/responses/compact", b"[]", true),
        ("/openai/batches", b"\xff", true),
        ("/openai/responses", b"", false),
        ("/openai/responses", b"{}", false),
        ("/openai/files", two_models, false),
        ("/openai/chat/completions", two_models, false),
        ("/anthropic/v1/messages", two_models, false),
        ("/anthropic/v1/messages/batches", two_models, false),
    ] {
        let plan = plan_of(path, body);
        assert_eq!(plan.bound, want, "{path}");
        assert_eq!(plan.ties.iter().any(|tie| tie.what == UNREAD), want, "{path}");
    }
    let plan = plan_of("/openai/batches/b_1/cancel", two_models);
    assert_eq!(plan.ties.len(), 1, "the path says it");
}

#[test]
fn answers_that_tell_of_something_kept() {
    let stored = br#"{"model":"gpt-5.1","store":true}"#;
    let not = br#"{"model":"gpt-5.1","messages":[{"store":true}]}"#;
    for (path, body, want) in [
        ("/v1/responses?x=1", &not[..], true),
        ("/v1/chat/completions", not, false),
        ("/v1/chat/completions", stored, true),
        ("/openai/vector_stores?after=x", not, true),
        ("/openai/embeddings?files", not, false),
    ] {
        assert_eq!(plan_of(path, body).keeps, want, "{path}");
    }
}

#[test]
fn compressed_bodies_are_not_edited() {
    let asked = |text: &str| {
        let body = serde_json::json!({ "model": text }).to_string();
        ask(&Asked {
            body: body.as_bytes(),
            compressed: true,
            ..Asked::default()
        })
    };
    assert_eq!(asked("claude-opus-4-6").unwrap().body_edit, None);
    let refusal = asked("opus").unwrap_err();
    assert_eq!(refusal.code, "compressed_model");
    assert!(refusal.fix.unwrap().contains("\"claude-opus-4-6\""));
    // Without the @, the model's own name would go to any account.
    for text in ["opus@anthropic:work", "claude-opus-4-6@anthropic:work"] {
        match asked(text) {
            Ok(plan) => assert_eq!(plan.profile, Some(profile("anthropic:work")), "{text}"),
            Err(refusal) => assert_eq!(
                refusal.fix.as_deref(),
                Some("send the body uncompressed"),
                "{text}"
            ),
        }
    }
}

#[test]
fn bodies_that_planning_wants() {
    let json = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json".parse().unwrap())]);
    let text = HeaderMap::from_iter([(header::CONTENT_TYPE, "text/plain".parse().unwrap())]);
    let form = HeaderMap::from_iter([(
        header::CONTENT_TYPE,
        "multipart/form-data; boundary=x".parse().unwrap(),
    )]);
    let passed = Route::Passthrough {
        provider: "openai".to_owned(),
        rest: "/x".to_owned(),
    };
    let cases = [
        (&Route::Model(Call::Messages), Method::POST, &form, BodyUse::Read),
        (&passed, Method::POST, &json, BodyUse::Look),
        (&passed, Method::POST, &form, BodyUse::None),
        (&passed, Method::GET, &json, BodyUse::None),
        (&passed, Method::POST, &text, BodyUse::Look),
        (&passed, Method::PATCH, &HeaderMap::new(), BodyUse::Look),
        (&Route::Metrics, Method::POST, &json, BodyUse::None),
    ];
    for (route, method, headers, want) in cases {
        assert_eq!(body_use(route, &method, headers), want, "{route:?} {method}");
    }
}

#[test]
fn errors_in_the_shape_of_the_api_that_was_called() {
    let passed = |name: &str| Route::Passthrough {
        provider: name.to_owned(),
        rest: "/x".to_owned(),
    };
    let with = |name: &'static str| {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), "x".parse().unwrap())])
    };
    let cases = [
        (
            Route::Model(Call::CountTokens),
            HeaderMap::new(),
            ErrorShape::Anthropic,
        ),
        (
            Route::Model(Call::Responses),
            with("anthropic-version"),
            ErrorShape::OpenAi,
        ),
        (passed("anthropic"), HeaderMap::new(), ErrorShape::Anthropic),
        (passed("codex"), HeaderMap::new(), ErrorShape::OpenAi),
        (
            passed("nothing"),
            with("anthropic-version"),
            ErrorShape::Anthropic,
        ),
        (passed("openai"), with("x-goog-api-key"), ErrorShape::Google),
        (Route::Unknown, HeaderMap::new(), ErrorShape::OpenAi),
    ];
    for (route, headers, want) in cases {
        assert_eq!(error_shape(&route, &headers, &World), want, "{route:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is sent with a key of `work` that may use one provider, a plan is of that agent, that provider and one
    /// of its own profiles, and what goes up is below the provider's base and has no credential.
    #[test]
    fn a_plan_stays_within_the_rights(
        path in prop::sample::select(vec!["/v1/messages", "/v1/responses", "/v1/chat/completions", "/anthropic/", "/openai/", "/codex/", "/v1/models/", "/tokensink/v1/lease"]),
        more in "([a-z/.]|%2e|%2f|\\.\\.|@|;){0,8}",
        query in "(key=sk|token=t|a=b|[&;=]|%6bey=sk){0,5}",
        model in "(opus|claude-opus-4-6|gpt-5.1|anthropic/|openai/|codex/|x|@|anthropic:|openai:|work|personal|\\PC){0,6}",
        keys in prop::collection::vec(prop::sample::select(vec!["model", "mod\\u0065l", "Model", "stream", "metadata", "previous_response_id", "agent", "provider"]), 1..4),
        headers in prop::collection::vec((prop::sample::select(vec!["x-tokensink-session", "x-tokensink-agent", "x-tokensink-profile", "session-id", "host", "forwarded", "authorization"]), "[ -~]{0,12}"), 0..4),
        compressed in any::<bool>(),
        only in prop::sample::select(vec![None, Some("anthropic"), Some("openai")]),
    ) {
        let model = serde_json::Value::from(model).to_string();
        let fields: Vec<String> = keys.iter().map(|key| format!("\"{key}\":{model}")).collect();
        let body = format!("{{{}}}", fields.join(","));
        let path = if path.starts_with("/v1") && !path.ends_with('/') { path.to_owned() } else { format!("{path}{more}") };
        let path = format!("{path}?{query}");
        if path.parse::<http::Uri>().is_err() {
            return Ok(());
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let asked = Asked { agent: "work", only, path: &path, headers: &headers, body: body.as_bytes(), compressed };
        let plan = match ask(&asked) {
            Ok(plan) => plan,
            Err(refusal) => {
                prop_assert!(refusal.status.is_client_error());
                prop_assert!(refusal.text().len() < 1_000);
                return Ok(());
            }
        };
        prop_assert_eq!(plan.agent.as_str(), "work");
        prop_assert!(only.is_none_or(|only| plan.provider.as_str() == only));
        if let Some(profile) = &plan.profile {
            prop_assert_eq!(profile.name_part(), "work");
            prop_assert_eq!(profile.provider_part(), Some(plan.provider.as_str()));
        }
        let up = plan.path_and_query.split_once('?').map_or("", |(_, query)| query);
        prop_assert!(!up.split(['&', ';']).any(query::is_credential), "{}", up);
        let up = crate::request::route::upstream_uri("https://api.rig.test/base", &plan.path_and_query).unwrap();
        let read = url::Url::parse(&up.to_string()).unwrap();
        prop_assert!(read.host_str() == Some("api.rig.test") && read.path().starts_with("/base"), "{}", read);
        if let Some(edit) = &plan.body_edit {
            prop_assert!(!compressed);
            let edited: serde_json::Value = serde_json::from_slice(&edit.apply(body.as_bytes())).unwrap();
            prop_assert_eq!(edited["model"].as_str(), plan.model.as_deref());
        }
    }
}
