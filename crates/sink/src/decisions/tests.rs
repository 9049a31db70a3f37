use http::HeaderMap;
use serde_json::json;

use super::book::{FILE_MAX, Kept};
use super::*;
use crate::world::{World, agent, at, key};
use crate::{AcquireRequest, Lease, Want};

/// A machine with two accounts of `rig`, `rig:a` first.
fn world() -> World {
    let world = World::new();
    world.store("main", &json!({ "rig:a": key("rig"), "rig:b": key("rig") }));
    world.put(
        "openclaw.json",
        "{ auth: { order: { rig: ['rig:a', 'rig:b'] } } }",
    );
    world
}

fn request() -> AcquireRequest {
    AcquireRequest {
        model: Some("rig-small".to_owned()),
        ..AcquireRequest::new(agent("main"), Want::Provider("rig".into()))
    }
}

/// A plan limit, as the first account's server tells it.
fn limited(sink: &Sink, lease: &Lease) -> Reported {
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", "600".parse().unwrap());
    let outcome = CallOutcome::Failed {
        status: Some(429),
        headers: &headers,
        body: br#"{"error":{"type":"rate_limit_error","message":"slow down, canary-in-body"}}"#,
    };
    sink.report(lease, &outcome).unwrap()
}

fn served(sink: &Sink, lease: &Lease) {
    let headers = HeaderMap::new();
    sink.report(lease, &crate::world::whole(&headers)).unwrap();
}

fn explain(world: &World, asked: &Asked) -> Explanation {
    // By another process, as people ask.
    let told = Sink::open_with(world.test.other_process(99).host(), crate::Flights::inline()).unwrap();
    told.explain(asked).unwrap()
}

fn by_id(world: &World, id: &impl ToString) -> Explanation {
    explain(world, &Asked::Id(id.to_string()))
}

fn file(world: &World, name: &str) -> String {
    world.text(&format!("tokensink/state/decisions/{name}.jsonl"))
}

#[test]
fn a_command_keeps_what_is_notable_and_nothing_else() {
    let world = world();
    let sink = world.sink();
    let first = sink.acquire(&request()).unwrap();
    served(&sink, &first);
    assert_eq!(
        file(&world, "recent"),
        "",
        "the first of its order served: nothing to tell"
    );
    assert!(sink.explain(&Asked::Last).unwrap().choices.is_empty());
    let unknown = Asked::Id("0123456789abcdef".to_owned());
    assert_eq!(sink.explain(&unknown).unwrap_err().code(), "no_decision");

    let reported = limited(&sink, &first);
    let second = sink.acquire(&request()).unwrap();
    assert_eq!(second.profile.as_str(), "rig:b");
    let told = explain(&world, &Asked::Last);
    let choice = &told.choices[0];
    assert_eq!(choice.id, Some(second.id.to_string()));
    assert_eq!(
        (choice.chosen.as_deref(), choice.served.as_deref()),
        (Some("rig:b"), Some("rig:b"))
    );
    assert_eq!(choice.order, Some("config-order"));
    assert_eq!(choice.reproduced, Reproduced::Same);
    let rules: Vec<_> = choice
        .profiles
        .iter()
        .map(|profile| (profile.profile.as_str(), profile.rule))
        .collect();
    assert_eq!(rules, [("rig:b", "chosen"), ("rig:a", "benched")]);
    let bench = choice.profiles[1].bench.as_ref().unwrap();
    assert_eq!(
        (bench.until, bench.left.as_secs()),
        (reported.bench.unwrap().until, 600)
    );
    assert_eq!(bench.reason, "rate_limit");
}

#[test]
fn all_leases_of_a_request_are_told_together_with_what_became_of_their_calls() {
    let world = world();
    let sink = world.sink();
    let recording = sink.record_decisions().unwrap();
    let first = sink.acquire(&request()).unwrap();
    let reported = limited(&sink, &first);
    let again = AcquireRequest {
        request_id: Some(first.id),
        tried: vec![first.profile.clone()],
        ..request()
    };
    let second = sink.acquire(&again).unwrap();
    served(&sink, &second);
    let other = sink.acquire(&request()).unwrap();
    drop(recording);
    assert_ne!(other.id, first.id);
    for id in [first.id, second.id] {
        let told = by_id(&world, &id);
        let leases: Vec<_> = told
            .choices
            .iter()
            .map(|choice| choice.id.clone().unwrap())
            .collect();
        assert_eq!(leases, [first.id.to_string(), second.id.to_string()]);
        let attempts: Vec<_> = told.choices.iter().flat_map(|choice| &choice.attempts).collect();
        assert_eq!(
            (attempts[0].outcome.as_str(), attempts[0].status),
            ("failed", Some(429))
        );
        assert_eq!(
            attempts[0].rule.as_deref(),
            reported.class.as_ref().map(|class| class.rule)
        );
        let bench = attempts[0].bench.as_ref().unwrap();
        assert_eq!(
            (bench.until, bench.stated),
            (reported.bench.as_ref().unwrap().until, Some(true))
        );
        assert_eq!(attempts[1].outcome, "served");
        assert!(
            told.choices
                .iter()
                .all(|choice| choice.reproduced == Reproduced::Same),
            "{told:#?}"
        );
    }
    assert_eq!(by_id(&world, &other.id).choices.len(), 1);
    let error = sink.explain(&Asked::Id("0123".into())).unwrap_err();
    assert_eq!(error.code(), "no_decision");
}

#[test]
fn nobody_is_a_choice_as_well() {
    let world = world();
    let sink = world.sink();
    world.put("openclaw.json", "{ auth: { order: { rig: [] } } }");
    world.test.clock.advance(Duration::from_secs(5));
    let error = sink.acquire(&request()).unwrap_err();
    let told = explain(&world, &Asked::Last);
    let choice = &told.choices[0];
    assert_eq!(choice.error.as_deref(), Some(error.code()));
    assert!(
        choice
            .unavailable
            .as_ref()
            .is_some_and(|why| why.contains("selects no profile")),
        "{choice:?}"
    );
    assert_eq!(choice.reproduced, Reproduced::Same);
}

/// Somebody whom a rule keeps out is free sooner, which helps nobody.
#[test]
fn when_to_ask_again_is_told_of_those_who_may_serve() {
    let world = world();
    let now = world.sink().now().0;
    let window = |seconds: i64| json!({"disabledUntil": now + seconds * 1000, "disabledReason": "billing"});
    let state = json!({"version": 1, "usageStats": {"rig:a": window(3), "rig:b": window(3600)}});
    world.put("agents/main/agent/auth-state.json", &state.to_string());
    let ask = || {
        let asked = Asked::Now(ExplainAsk {
            agent: agent("main"),
            provider: "rig".to_owned(),
            model: None,
            session: None,
        });
        let choice = explain(&world, &asked).choices.remove(0);
        choice.retry_at.map(|at| (at.0 - now) / 1000)
    };
    assert_eq!(ask(), Some(3));
    world.put(
        "tokensink/config.toml",
        "[[deny]]\nid = \"no-a\"\nprofile = \"rig:a\"\n",
    );
    assert_eq!(ask(), Some(3600));
    world.put("agents/main/agent/auth-state.json", "{\"version\":1}");
    assert_eq!(ask(), None, "somebody serves");
}

#[test]
fn no_file_holds_a_secret_and_none_but_the_user_reads_them() {
    let world = world();
    let sink = world.sink();
    let recording = sink.record_decisions().unwrap();
    let lease = sink.acquire(&request()).unwrap();
    limited(&sink, &lease);
    sink.acquire(&request()).unwrap();
    drop(recording);
    for name in ["recent", "kept"] {
        let text = file(&world, name);
        assert!(text.contains("rig:b"), "{name}");
        assert!(!text.contains("canary"), "{name}: {text}");
        let path = at(&format!("tokensink/state/decisions/{name}.jsonl"));
        assert_eq!(world.test.files.mode(path), Some(0o600));
    }
    assert!(!format!("{:?}", by_id(&world, &lease.id)).contains("canary"));
}

/// Each of them is a decision of its own: whoever was used last is the last of the next order.
#[test]
fn the_last_thousand_choices_among_a_hundred_accounts_are_kept() {
    let world = World::new();
    let profiles = (0..100).map(|n| (format!("rig:{n:03}"), key("rig"))).collect();
    world.store("main", &serde_json::Value::Object(profiles));
    let sink = world.sink();
    let recording = sink.record_decisions().unwrap();
    let mut last = Vec::new();
    for _ in 0..1_600 {
        let lease = sink.acquire(&request()).unwrap();
        world.test.clock.advance(Duration::from_secs(61));
        served(&sink, &lease);
        last.push((lease.id.to_string(), lease.profile.to_string()));
        if last.len() % 100 == 0 {
            sink.flush_decisions();
        }
    }
    drop(recording);
    assert!(!file(&world, "recent.1").is_empty(), "the file was put aside");
    let kept = Kept::read(&*world.test.host().files, world.sink().paths()).unwrap();
    for (id, profile) in &last[600..] {
        let choice = kept.choices.iter().find(|choice| choice.id == *id);
        let record = choice.and_then(|choice| kept.made(choice)).unwrap();
        assert!(record.agrees());
        assert_eq!(record.result.unwrap().choice().unwrap().profile.as_str(), profile);
    }
}

#[test]
fn files_are_bounded_and_each_is_whole_in_itself() {
    let world = world();
    let sinks = [1, 2]
        .map(|pid| Sink::open_with(world.test.other_process(pid).host(), crate::Flights::inline()).unwrap());
    let recordings = sinks.each_ref().map(|sink| sink.record_decisions().unwrap());
    let most = usize::try_from(FILE_MAX).unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        for sink in &sinks {
            // The other process has filled the file meanwhile.
            let full = file(&world, "recent") + &"{}\n".repeat(most / 3 + 1);
            world.put("tokensink/state/decisions/recent.jsonl", &full);
            ids.push(sink.acquire(&request()).unwrap().id);
            sink.flush_decisions();
            let told = by_id(&world, ids.last().unwrap());
            assert_eq!(
                told.choices[0].reproduced,
                Reproduced::Same,
                "its decision is in the new file"
            );
        }
    }
    drop(recordings);
    let names: Vec<_> = world
        .test
        .host()
        .files
        .list(&at("tokensink/state/decisions"))
        .unwrap();
    assert_eq!(names, ["recent.1.jsonl", "recent.jsonl"]);
    assert!(file(&world, "recent").len() < 10_000 && file(&world, "recent.1").len() < most + 10_000);
    assert_eq!(
        by_id(&world, &ids[4]).choices.len(),
        1,
        "the file before it is read too"
    );
    let gone = world.sink().explain(&Asked::Id(ids[0].to_string()));
    assert_eq!(gone.unwrap_err().code(), "no_decision", "the oldest are gone");
}

/// A second of a crowd's requests: more text than is put together before it is written.
#[test]
fn what_is_written_in_several_pieces_is_read_back_whole() {
    let world = world();
    let sink = world.sink();
    let recording = sink.record_decisions().unwrap();
    let lease = sink.acquire(&request()).unwrap();
    limited(&sink, &lease);
    // The second of the order serves from now on, so all of these are notable: they stand in both files.
    let ids: Vec<_> = (0..900).map(|_| sink.acquire(&request()).unwrap().id).collect();
    drop(recording);
    for name in ["recent", "kept"] {
        let text = file(&world, name);
        assert!(text.len() > 64 * 1024, "{name}: {} bytes", text.len());
        let made = text.lines().filter(|line| line.starts_with("{\"made\"")).count();
        assert!(made <= 3, "{name}: a decision stands once, not {made} times");
        for id in &ids {
            assert_eq!(text.matches(&id.to_string()).count(), 1, "{name}");
        }
    }
    let told = by_id(&world, ids.last().unwrap());
    assert_eq!(told.choices[0].reproduced, Reproduced::Same);
}

#[test]
fn more_choices_in_a_second_than_are_kept_leave_the_last_and_everything_notable() {
    let world = world();
    let sink = world.sink();
    let decisions = Decisions::default();
    let made = |served: &str| {
        let lease = sink.acquire(&request()).unwrap();
        let snapshot = sink.snapshot(&agent("main")).unwrap();
        let ask = Request::new(tokensink_policy::Target::Provider("rig".parse().unwrap()));
        let decision = tokensink_policy::select(&snapshot.config, &snapshot.state, &ask, sink.now()).unwrap();
        Note::Choice(Choice {
            id: lease.id,
            request: None,
            at: sink.now(),
            config: Arc::clone(&snapshot.config),
            state: Arc::clone(&snapshot.state),
            made: Arc::new(Made {
                request: ask,
                at: sink.now(),
                decision,
            }),
            served: Ok(crate::world::id(served)),
        })
    };
    decisions.waiting().push(made("rig:b"));
    for _ in 0..RING + 5 {
        decisions.waiting().push(made("rig:a"));
    }
    let waiting = decisions.waiting();
    assert_eq!(
        (waiting.plain.len(), waiting.notable.len(), waiting.dropped),
        (RING, 1, 5)
    );
}

#[test]
fn a_record_that_no_longer_leads_there_is_told_with_the_difference() {
    let world = world();
    let sink = world.sink();
    let lease = sink.acquire(&request()).unwrap();
    limited(&sink, &lease);
    let lease = sink.acquire(&request()).unwrap();
    for name in ["recent", "kept"] {
        let path = format!("tokensink/state/decisions/{name}.jsonl");
        let text = world.text(&path);
        let torn = &text[..text.len() / 3];
        let other = text.replace("\"now\":1767225600000", "\"now\":1767226200001");
        assert_ne!(text, other);
        // Half a line of a crash before it.
        world.put(&path, &format!("{torn}\n{other}"));
    }
    let told = by_id(&world, &lease.id);
    let Reproduced::Differs(found) = &told.choices[0].reproduced else {
        panic!("{told:#?}")
    };
    assert!(!found.is_empty());
    assert_eq!(
        told.choices[0].chosen.as_deref(),
        Some("rig:b"),
        "what was decided then stands"
    );
}

#[test]
fn what_would_be_chosen_now_changes_nothing() {
    let world = world();
    let sink = world.sink();
    let lease = sink.acquire(&request()).unwrap();
    limited(&sink, &lease);
    let before = world.test.files.snapshot();
    let ask = |model: Option<&str>| {
        Asked::Now(ExplainAsk {
            agent: agent("main"),
            provider: "r1g".into(),
            model: model.map(str::to_owned),
            session: None,
        })
    };
    let told = explain(&world, &ask(Some("rig-small")));
    assert_eq!(told.choices[0].chosen.as_deref(), Some("rig:b"));
    assert_eq!(
        (told.choices[0].id.as_ref(), told.choices[0].wanted.as_str()),
        (None, "rig")
    );
    let told = explain(&world, &ask(Some("rig-large")));
    assert_eq!(
        told.choices[0].chosen.as_deref(),
        Some("rig:a"),
        "the other model is not limited"
    );
    assert_eq!(world.test.files.snapshot(), before);
}
