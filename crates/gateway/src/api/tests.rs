mod refused;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, Uri};
use serde_json::{Map, Value, json};
use tokensink_host::Liveness;
use tokensink_sink::{AgentId, Cancel, Flights, ProviderId, Sink};
use tokensink_testkit::{FakeProcesses, TestHost};

use super::Api;
use crate::guard::{Caller, CallerKind};
use crate::openapi;
use crate::request::route::{Route, route};
use crate::socket::Peer;

const STATE: &str = "/home/user/.openclaw";
const CONFIG: &str = "{
  agents: { list: [{ id: 'main' }, { id: 'work' }] },
  bindings: [{ agentId: 'work', match: { channel: 'telegram' } }],
}";
const RIG: &str = r#"
id = "rig"
name = "Rig"
billing = "prepaid"
[api]
kind = "openai-chat"
base_url = "http://127.0.0.1:9500/v1"
models = ["rig-small"]
[[auth]]
id = "api-key"
kind = "api_key"
"#;

/// A machine with a key of `rig` and one of `mute` for each of the agents main and work.
struct World {
    test: TestHost,
    api: Api,
}

impl World {
    fn new() -> Self {
        let test = TestHost::new();
        let put = |path: &str, text: &str| test.files.put(format!("{STATE}/{path}"), text, 0o600);
        put("openclaw.json", CONFIG);
        put("tokensink/providers/rig.toml", RIG);
        put("tokensink/providers/mute.toml", &RIG.replace("rig", "mute"));
        for agent in ["main", "work"] {
            let key = |provider: &str| json!({"type": "api_key", "provider": provider, "key": format!("sk-{provider}-{agent}-canary")});
            let profiles = json!({"version": 1, "profiles": {"rig:a": key("rig"), "mute:a": key("mute")}});
            put(
                &format!("agents/{agent}/agent/auth-profiles.json"),
                &profiles.to_string(),
            );
        }
        let sink = Sink::open_with(test.host(), Flights::inline()).unwrap();
        assert!(sink.warnings().is_empty(), "{:?}", sink.warnings());
        Self {
            api: Api::new(sink),
            test,
        }
    }

    fn process(&self, pid: u32) -> Caller {
        let peer = Peer {
            process: Some(FakeProcesses::id(pid)),
            ..Peer::new(&self.test.host(), self.test.host().files.user(), Some(pid))
        };
        self.test
            .processes
            .set_liveness(FakeProcesses::id(pid), Liveness::Running);
        Caller {
            name: peer.to_string(),
            agent: AgentId::main(),
            providers: None,
            kind: CallerKind::Socket(peer),
        }
    }

    fn ask(&self, path: &str, caller: &Caller, body: &Value) -> (u16, Value) {
        read(&self.answer(path, caller, body.to_string().as_bytes()))
    }

    fn answer(&self, path: &str, caller: &Caller, body: &[u8]) -> Response<Bytes> {
        let method = if path.ends_with("health") || path.ends_with("json") {
            Method::GET
        } else {
            Method::POST
        };
        let uri: Uri = format!("/tokensink/v1/{path}").parse().unwrap();
        let route = route(&method, &uri, &http::HeaderMap::new()).unwrap();
        self.api.answer(&route, caller, body, &Cancel::default()).unwrap()
    }

    fn leased(&self, caller: &Caller, body: &Value) -> Value {
        let (status, lease) = self.ask("lease", caller, body);
        assert_eq!(status, 200, "{lease}");
        lease
    }
}

fn key(name: &str, agent: &str, providers: Option<&[&str]>) -> Caller {
    let ids = |ids: &[&str]| {
        ids.iter()
            .map(|id| ProviderId::parse(id).unwrap())
            .collect::<BTreeSet<_>>()
    };
    Caller {
        name: name.to_owned(),
        agent: AgentId::normalise(agent),
        providers: providers.map(ids),
        kind: CallerKind::Key,
    }
}

fn read(answer: &Response<Bytes>) -> (u16, Value) {
    (
        answer.status().as_u16(),
        serde_json::from_slice(answer.body()).unwrap(),
    )
}

#[test]
fn a_lease_holds_what_a_program_needs_to_call() {
    let world = World::new();
    let caller = key("ci", "work", None);
    for (wanted, model) in [
        (json!({"provider": "rig"}), Value::Null),
        (
            json!({"profile": "rig:a", "model": "rig-small", "min_ttl": 60, "deadline": 5}),
            json!("rig-small"),
        ),
        (json!({"model": "rig/rig-small"}), json!("rig-small")),
        (
            json!({"model": "rig/rig-small@rig:a", "session": "agent:work:main"}),
            json!("rig-small"),
        ),
        (
            json!({"provider": "rig", "channel": "telegram", "agent": "work"}),
            Value::Null,
        ),
    ] {
        let lease = world.leased(&caller, &wanted);
        assert_eq!(
            (
                &lease["agent"],
                &lease["profile"],
                &lease["provider"],
                &lease["kind"]
            ),
            (&json!("work"), &json!("rig:a"), &json!("rig"), &json!("api_key")),
            "{wanted}"
        );
        assert_eq!(lease["token"], "sk-rig-work-canary");
        assert_eq!(
            lease["headers"],
            json!({"authorization": "Bearer sk-rig-work-canary"})
        );
        assert_eq!(
            (&lease["base_url"], &lease["billing"]),
            (&json!("http://127.0.0.1:9500/v1"), &json!("prepaid"))
        );
        assert_eq!(
            (&lease["expires_at"], &lease["expires_in"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(lease["model"], model, "{wanted}");
    }
    assert_eq!(world.api.leases_out()["ci"], 5);
}

#[test]
fn a_client_key_reaches_its_agent_and_providers_and_nothing_else() {
    let world = World::new();
    let narrow = key("narrow", "work", Some(&["mute"]));
    let work = key("ci", "work", None);
    let main = key("home", "main", None);
    let cases = [
        (
            &narrow,
            "lease",
            json!({"provider": "rig"}),
            403,
            "provider_not_allowed",
        ),
        (
            &narrow,
            "lease",
            json!({"provider": "nobody"}),
            403,
            "provider_not_allowed",
        ),
        (
            &narrow,
            "lease",
            json!({"profile": "rig:a"}),
            403,
            "provider_not_allowed",
        ),
        (
            &narrow,
            "lease",
            json!({"model": "rig/rig-small"}),
            403,
            "provider_not_allowed",
        ),
        (
            &work,
            "lease",
            json!({"provider": "rig", "agent": "main"}),
            403,
            "other_agent",
        ),
        (
            &work,
            "lease",
            json!({"provider": "rig", "agent": "nobody"}),
            403,
            "other_agent",
        ),
        (
            &main,
            "lease",
            json!({"provider": "rig", "channel": "telegram"}),
            403,
            "other_agent",
        ),
        (
            &main,
            "lease",
            json!({"provider": "rig", "channel": "telegram", "agent": "main"}),
            400,
            "other_agent",
        ),
        (&main, "route", json!({"channel": "telegram"}), 403, "other_agent"),
        (&work, "lease", json!({}), 400, "bad_lease"),
        (
            &work,
            "lease",
            json!({"provider": "rig", "profile": "rig:a"}),
            400,
            "bad_lease",
        ),
        (&work, "lease", json!({"profile": "rig:none"}), 503, "no_profile"),
        (
            &work,
            "lease",
            json!({"provider": "rig", "ttl": 5}),
            400,
            "bad_body",
        ),
        (
            &work,
            "lease",
            json!({"provider": "rig", "deadline": 601}),
            400,
            "too_long",
        ),
        (
            &work,
            "lease",
            json!({"provider": "rig", "peer": "dm:1"}),
            400,
            "no_channel",
        ),
        (
            &work,
            "lease",
            json!({"provider": "rig", "guild": "g"}),
            400,
            "no_channel",
        ),
        (
            &work,
            "lease",
            json!({"provider": "rig", "session": " "}),
            400,
            "bad_session",
        ),
        (
            &work,
            "report",
            json!({"lease": "1", "token": "2", "outcome": "done"}),
            400,
            "bad_report",
        ),
        (
            &work,
            "report",
            json!({"lease": "0000000000000000", "outcome": "done"}),
            404,
            "unknown_lease",
        ),
        (
            &work,
            "report",
            json!({"lease": "1", "outcome": "lost"}),
            400,
            "bad_body",
        ),
    ];
    for (caller, path, body, status, code) in cases {
        let (found, answer) = world.ask(path, caller, &body);
        assert!(!answer.to_string().contains("canary"), "{answer}");
        if code == "no_profile" {
            assert!(found >= 400, "{answer}");
            continue;
        }
        assert_eq!(
            (found, &answer["error"]["code"]),
            (status, &json!(code)),
            "{path} {body}: {answer}"
        );
    }
    assert_eq!(world.api.leases_out(), [].into(), "nothing was handed out");
    world.leased(&narrow, &json!({"provider": "mute"}));
    for body in [&b"{"[..], b"", b"\xff", b"[]", b"null"] {
        let (status, answer) = read(&world.answer("lease", &work, body));
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!("bad_body")),
            "{body:?}"
        );
    }
}

#[test]
fn a_lease_is_reported_by_whoever_has_it() {
    let world = World::new();
    let (one, two) = (key("one", "work", None), key("two", "work", None));
    let lease = world.leased(&one, &json!({"provider": "rig"}));
    let by_id = json!({"lease": lease["id"], "outcome": "done"});
    let by_token = json!({"token": lease["token"], "outcome": "served", "headers": {"x-request-id": "r"}});
    let process = world.process(77);
    for stranger in [&two, &process] {
        assert_eq!(world.ask("report", stranger, &by_id).0, 404);
        assert_eq!(world.ask("report", stranger, &by_token).0, 404);
    }
    let (status, answer) = world.ask("report", &one, &by_token);
    assert_eq!(
        (status, &answer["lease"], &answer["returned"]),
        (200, &lease["id"], &json!(false)),
        "{answer}"
    );
    let limited = json!({"lease": lease["id"], "outcome": "failed", "status": 429, "headers": {"retry-after": "30"},
        "body": "{\"error\":{\"type\":\"rate_limit_error\"}}"});
    let (_, answer) = world.ask("report", &one, &limited);
    assert_eq!(answer["reason"], "rate_limit", "{answer}");
    let until = answer["benched_until"].as_i64().unwrap();
    assert_eq!(until, world.test.host().clock.now().0 + 30_000);
    let (status, answer) = world.ask("lease", &two, &json!({"provider": "rig", "deadline": 0}));
    assert_eq!(
        (status, &answer["error"]["resets_at"]),
        (429, &json!(until / 1000)),
        "{answer}"
    );
    assert_eq!(world.ask("report", &one, &by_id).1["returned"], true);
    assert_eq!(
        world.ask("report", &one, &by_id).1["returned"],
        false,
        "a second time"
    );
    assert_eq!(world.api.leases_out(), [].into());
    let bad = json!({"lease": lease["id"], "outcome": "served", "headers": {"a b": "c"}});
    assert_eq!(world.ask("report", &one, &bad).1["error"]["code"], "bad_report");
}

#[test]
fn what_a_process_has_ends_with_it() {
    let world = World::new();
    let (first, second) = (world.process(77), world.process(78));
    for _ in 0..3 {
        world.leased(&first, &json!({"provider": "rig"}));
    }
    let kept = world.leased(&second, &json!({"provider": "rig", "channel": "telegram"}));
    assert_eq!(kept["agent"], "work", "the bindings decide");
    let named = world.leased(&second, &json!({"provider": "rig", "agent": "work"}));
    assert_eq!(named["agent"], "work");
    let clients = world.ask("health", &first, &Value::Null).1;
    assert_eq!(clients["clients"], json!({"process 77": 3, "process 78": 2}));
    assert_eq!(clients["leases"], 3);
    world
        .test
        .processes
        .set_liveness(FakeProcesses::id(77), Liveness::Dead);
    assert_eq!(
        world.ask("health", &second, &Value::Null).1["clients"],
        json!({"process 78": 2})
    );
    // Another process of the user may still tell what became of it.
    let report = json!({"lease": kept["id"], "outcome": "abandoned"});
    assert_eq!(
        world.ask("report", &world.process(79), &report).1["returned"],
        true
    );
    let client = world.ask("health", &key("ci", "work", None), &Value::Null).1;
    assert_eq!(
        (&client["leases"], client.get("clients")),
        (&json!(0), None),
        "others are not its business"
    );
}

#[test]
fn leases_end_with_their_time_and_one_client_cannot_hoard() {
    let world = World::new();
    let caller = key("ci", "work", None);
    for _ in 0..1_000 {
        world.leased(&caller, &json!({"provider": "rig"}));
    }
    let (status, answer) = world.ask("lease", &caller, &json!({"provider": "rig"}));
    assert_eq!(
        (status, &answer["error"]["code"]),
        (429, &json!("too_many_leases"))
    );
    world.leased(&key("other", "work", None), &json!({"provider": "rig"}));
    world.test.clock.advance(Duration::from_secs(3601));
    assert_eq!(world.api.leases_out(), [].into());
    world.leased(&caller, &json!({"provider": "rig"}));
}

#[test]
fn bindings_are_told() {
    let world = World::new();
    let process = world.process(77);
    let (_, answer) = world.ask("route", &process, &json!({"channel": "telegram", "peer": "dm:1"}));
    assert_eq!(
        (&answer["agent"], &answer["binding"]),
        (&json!("work"), &json!(0)),
        "{answer}"
    );
    let (_, answer) = world.ask("route", &key("home", "main", None), &json!({"channel": "irc"}));
    assert_eq!(
        (&answer["agent"], &answer["binding"]),
        (&json!("main"), &Value::Null),
        "{answer}"
    );
}

/// The properties of a schema of the document, and which of them are required.
fn properties(schema: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let document = openapi::document();
    let schema = &document["components"]["schemas"][schema];
    let keys = |map: &Map<String, Value>| map.keys().cloned().collect();
    let required = schema["required"].as_array().into_iter().flatten();
    (
        keys(schema["properties"].as_object().unwrap()),
        required.map(|name| name.as_str().unwrap().to_owned()).collect(),
    )
}

fn fields(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_document_names_every_field_of_every_answer() {
    let world = World::new();
    let process = world.process(77);
    let lease = world.leased(&process, &json!({"provider": "rig"}));
    let report = world
        .ask(
            "report",
            &process,
            &json!({"lease": lease["id"], "outcome": "done"}),
        )
        .1;
    let route = world.ask("route", &process, &json!({"channel": "irc"})).1;
    let health = world.ask("health", &process, &Value::Null).1;
    let refused = world.ask("lease", &process, &json!({})).1;
    let benched = {
        let lease = world.leased(&process, &json!({"provider": "rig"}));
        let failed = json!({"lease": lease["id"], "outcome": "failed", "status": 429});
        world.ask("report", &process, &failed);
        world
            .ask("lease", &process, &json!({"provider": "rig", "deadline": 0}))
            .1
    };
    let cases = [
        ("LeaseAnswer", &lease),
        ("ReportAnswer", &report),
        ("RouteAnswer", &route),
        ("HealthAnswer", &health),
        ("ErrorAnswer", &refused),
        ("ErrorBody", &benched["error"]),
    ];
    for (schema, answer) in cases {
        assert_eq!(properties(schema).0, fields(answer), "{schema}: {answer}");
    }
    let required = properties("ErrorBody").1;
    assert_eq!(required.difference(&fields(&refused["error"])).next(), None);
}

#[test]
fn the_document_names_every_field_of_every_request() {
    let samples = [
        ("LeaseRequest", "lease", json!({"provider": "rig"})),
        ("ReportRequest", "report", json!({"outcome": "done"})),
        ("RouteRequest", "route", json!({"channel": "irc"})),
    ];
    let world = World::new();
    let process = world.process(77);
    for (schema, path, sample) in samples {
        let (named, required) = properties(schema);
        assert!(
            required.iter().all(|name| sample.get(name).is_some()),
            "{schema}: {required:?}"
        );
        // An unknown field is refused with the names of all that there are.
        let mut wrong = sample.clone();
        wrong["no_such_field"] = Value::Null;
        let (_, answer) = world.ask(path, &process, &wrong);
        let message = answer["error"]["message"].as_str().unwrap();
        let listed: BTreeSet<String> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert_eq!(listed, named, "{schema}: {message}");
    }
    let outcomes = openapi::document()["components"]["schemas"]["Outcome"].clone();
    for outcome in outcomes["enum"]
        .as_array()
        .unwrap_or_else(|| panic!("{outcomes}"))
    {
        let (status, answer) = world.ask("report", &process, &json!({"lease": "x", "outcome": outcome}));
        assert_eq!(status, 404, "{answer}");
    }
}

#[test]
fn the_document_names_every_route_and_no_other() {
    let document = openapi::document();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let found = route(&method, &path.parse::<Uri>().unwrap(), &http::HeaderMap::new()).unwrap();
            routes.push(found);
        }
    }
    for own in [
        Route::Lease,
        Route::Report,
        Route::Bindings,
        Route::Health,
        Route::OpenApi,
    ] {
        let times = routes.iter().filter(|found| **found == own).count();
        assert_eq!(times, 1, "{own:?}");
    }
    assert_eq!(routes.len(), 5);
    let world = World::new();
    let (status, served) = world.ask("openapi.json", &world.process(77), &Value::Null);
    assert_eq!((status, served), (200, document));
}

#[test]
fn the_document_is_one_by_the_meta_schema_of_openapi() {
    let schema: Value =
        serde_json::from_str(include_str!("../../tests/data/openapi-3.1-schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut document = openapi::document();
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    document["paths"]["/tokensink/v1/lease"]["post"]["responses"] = json!(5);
    assert!(!validator.is_valid(&document), "the check sees a mistake");
    // And every reference leads somewhere.
    let text = openapi::document().to_string();
    let known = openapi::document();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(known.pointer(pointer).is_some(), "{pointer}");
    }
}
