//! What is bound to an account goes to that account, or nowhere.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokensink_gateway::{Bounds, Running};
use tokensink_testkit::{Seen, Talk};

use crate::raw::Answer;
use crate::world::{World, client, error};

/// An answer whose id tells whose it is.
fn tell(seen: &Seen, talk: &mut Talk) {
    talk.json(200, &json!({"id": id_of(seen)}).to_string());
}

fn id_of(seen: &Seen) -> String {
    format!("resp_{}", seen.bearer().trim_start_matches("sk-"))
}

/// Sends a body with these headers.
fn post(gateway: &Running, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!("{headers}content-length: {}\r\n", body.len());
    client(gateway).request("POST", path, &head).write(body).answer()
}

fn by(answer: &Answer) -> (u16, &str) {
    let profile = answer.header("x-tokensink-profile");
    (answer.status, profile.unwrap_or(answer.text()))
}

fn is_break(answer: &Answer) -> bool {
    answer.status == 400 && error(&answer.body)["code"] == "continuity_break"
}

const S: &str = "x-tokensink-session: s\r\n";

#[test]
fn a_profile_that_is_named_is_not_sent_what_another_has() {
    let world = World::new(&["one", "two"], tell);
    let gateway = world.gateway();
    let named = |name: &str, more: &str| format!(r#"{{"model":"rig/small@rig:{name}"{more}}}"#);
    let ask = |headers: &str, body: &str| post(&gateway, "/v1/responses", headers, body);
    assert_eq!(by(&ask(S, &named("one", ""))), (200, "rig:one"));
    let ones = r#","previous_response_id":"resp_one""#;
    let reasoning = r#","input":[{"type":"reasoning","encrypted_content":"x"}]"#;
    for (headers, more) in [(S, ones), ("", ones), (S, reasoning)] {
        let answer = ask(headers, &named("two", more));
        assert!(is_break(&answer), "{headers}{more}: {}", answer.text());
        assert!(
            error(&answer.body)["message"]
                .as_str()
                .unwrap()
                .contains("leave the @")
        );
    }
    assert_eq!(by(&ask(S, &named("one", ones))), (200, "rig:one"));
    let unnamed = format!(r#"{{"model":"rig/small"{ones}}}"#);
    assert_eq!(by(&ask("", &unnamed)), (200, "rig:one"));
    // Of what nobody remembers, whoever names an account knows best.
    let unknown = r#","previous_response_id":"resp_x""#;
    assert_eq!(by(&ask("", &named("two", unknown))), (200, "rig:two"));
    // What is of two accounts is nobody's.
    let both = r#","previous_response_id":"resp_one","input":[{"type":"input_file","file_id":"resp_two"}]"#;
    assert!(is_break(&ask("", &named("two", both))));
    assert!(is_break(&ask("", &format!(r#"{{"model":"rig/small"{both}}}"#))));
}

#[test]
fn a_body_that_cannot_be_read_is_bound_where_bodies_usually_are() {
    let world = World::new(&["one", "two"], tell);
    let bounds = Bounds {
        replay_body: 1000,
        ..Bounds::default()
    };
    let gateway = world.gateway_with(bounds);
    let twos = r#"{"model":"rig/small@rig:two"}"#;
    assert_eq!(by(&post(&gateway, "/v1/responses", S, twos)), (200, "rig:two"));
    let next = r#"{"model":"small","previous_response_id":"resp_two"}"#;
    let large = format!("{next}{}", " ".repeat(100_000));
    let two_models = next.replace('{', r#"{"model":"small","#);
    for (headers, body) in [
        ("", &*large),
        ("", &*two_models),
        ("content-encoding: br\r\n", next),
        ("content-type: application/octet-stream\r\n", next),
    ] {
        let before = world.upstream.seen().len();
        let answer = post(&gateway, "/rig/responses", headers, body);
        assert!(is_break(&answer), "{headers}: {}", answer.text());
        assert_eq!(world.upstream.seen().len(), before, "{headers}");
        let headers = format!("{headers}{S}");
        let answer = post(&gateway, "/rig/responses", &headers, body);
        assert_eq!(by(&answer), (200, "rig:two"), "{headers}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = format!("content-type: {kind}\r\n");
        let answer = post(&gateway, "/rig/responses", &headers, next);
        assert_eq!(by(&answer), (200, "rig:two"), "{kind}: it is read all the same");
    }
    // Elsewhere they pass, as they must: a chat of 33 MiB, a file.
    for path in [
        "/rig/chat/completions",
        "/rig/messages",
        "/rig/messages/batches",
        "/rig/files",
    ] {
        assert_eq!(by(&post(&gateway, path, "", &large)), (200, "rig:one"), "{path}");
    }
    let alone = World::new(&["one"], tell);
    let gateway = alone.gateway_with(bounds);
    assert_eq!(
        by(&post(&gateway, "/rig/responses", "", &large)),
        (200, "rig:one")
    );
}

/// The first account of a session is the one that it keeps, also where that one failed and another answered.
#[test]
fn after_a_restart_a_session_goes_to_who_served_it() {
    let limited = AtomicBool::new(true);
    let world = World::new(&["one", "two"], move |seen, talk| {
        let is_limited = seen.bearer() == "sk-one" && limited.load(Ordering::SeqCst);
        if seen.path.ends_with("free") {
            limited.store(false, Ordering::SeqCst);
        }
        if is_limited {
            let limit = r#"{"error":{"type":"rate_limit_error","message":"too many"}}"#;
            talk.answer(429, &[("retry-after", "1")], limit);
        } else {
            tell(seen, talk);
        }
    });
    let chat = r#"{"model":"small"}"#;
    let next = r#"{"model":"small","input":[{"type":"reasoning","encrypted_content":"x"}]}"#;
    let gateway = world.gateway();
    assert_eq!(by(&post(&gateway, "/rig/responses", S, chat)), (200, "rig:two"));
    post(&gateway, "/rig/free", "", chat);
    drop(gateway);
    let sessions = std::fs::read_to_string(world.state_dir().join("agents/main/sessions/sessions.json"));
    assert!(sessions.unwrap().contains("rig:one"), "that is the one it keeps");
    // With a clock that is past the limit.
    let gateway = World::gateway_on(world.sink_at(60), Bounds::default());
    assert_eq!(by(&post(&gateway, "/rig/responses", S, next)), (200, "rig:two"));
    // It comes home, and that is known from then on.
    assert_eq!(
        by(&post(&gateway, "/rig/chat/completions", S, chat)),
        (200, "rig:one")
    );
    drop(gateway);
    let gateway = World::gateway_on(world.sink_at(60), Bounds::default());
    assert_eq!(by(&post(&gateway, "/rig/responses", S, next)), (200, "rig:one"));
    let answer = post(&gateway, "/rig/responses", "x-tokensink-session: t\r\n", next);
    assert!(is_break(&answer), "{}", answer.text());
}

/// A pin alone tells nothing of who answered.
#[test]
fn a_session_that_nobody_served_is_bound_to_nobody() {
    let world = World::new(&["one", "two"], |_, talk| {
        talk.answer(400, &[], r#"{"error":{"message":"no"}}"#);
    });
    let gateway = world.gateway();
    let chat = r#"{"model":"small"}"#;
    assert_eq!(post(&gateway, "/rig/responses", S, chat).status, 400);
    let next = r#"{"model":"small","previous_response_id":"resp_two"}"#;
    let answer = post(&gateway, "/rig/responses", S, next);
    assert!(is_break(&answer), "{}", answer.text());
}

/// Where nothing but the gateway's memory tells whose a thing is: two accounts, no session.
#[test]
fn what_is_created_is_found_again() {
    let world = World::new(&["one", "two"], |seen, talk| {
        let name = seen.path.rsplit('/').next().unwrap().to_owned();
        let long = "x".repeat(3_000);
        match &*seen.method {
            "POST" if seen.path.ends_with("/batches") => {
                let batch =
                    json!({"object": "batch", "errors": long, "id": "batch-1", "output_file_id": null});
                talk.json(200, &batch.to_string());
            }
            "POST" => {
                let thing = json!({"object": name, "metadata": {"id": "theirs"}, "text": long, "id": format!("{name}-1")});
                talk.json(200, &thing.to_string());
            }
            _ if name == "batch-1" => {
                let batch =
                    json!({"id": name, "x": long, "output_file_id": "file-o", "error_file_id": "file-e"});
                talk.json(200, &batch.to_string());
            }
            _ => tell(seen, talk),
        }
    });
    let gateway = world.gateway();
    let get = |path: &str| client(&gateway).request("GET", path, "").answer();
    for collection in [
        "files",
        "vector_stores",
        "containers",
        "uploads",
        "assistants",
        "threads",
        "fine_tuning/jobs",
        "evals",
        "videos",
        "skills",
        "conversations",
        "chat/completions",
    ] {
        let body = r#"{"model":"small","store":true}"#;
        let made = post(&gateway, &format!("/rig/{collection}"), "", body);
        assert_eq!(by(&made), (200, "rig:one"), "{collection}");
        let name = collection.rsplit('/').next().unwrap();
        let found = get(&format!("/rig/{collection}/{name}-1"));
        assert_eq!(by(&found), (200, "rig:one"), "{collection}");
    }
    assert!(
        is_break(&get("/rig/files/theirs")),
        "what a user wrote says nothing"
    );
    assert_eq!(by(&post(&gateway, "/rig/batches", "", "{}")), (200, "rig:one"));
    assert!(is_break(&get("/rig/files/file-o/content")));
    assert_eq!(by(&get("/rig/batches/batch-1")), (200, "rig:one"));
    for file in ["file-o", "file-e"] {
        let content = get(&format!("/rig/files/{file}/content"));
        assert_eq!(by(&content), (200, "rig:one"), "{file}");
    }
}

#[test]
fn a_stored_chat_that_was_streamed_is_found_again() {
    let world = World::new(&["one", "two"], |seen, talk| {
        if seen.method == "POST" {
            talk.begin_events();
            talk.chunk("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\"}\n\n");
            talk.chunk("data: [DONE]\n\n");
            talk.end();
        } else {
            tell(seen, talk);
        }
    });
    let gateway = world.gateway();
    let get = || {
        client(&gateway)
            .request("GET", "/rig/chat/completions/chatcmpl-1", "")
            .answer()
    };
    for (store, found) in [(false, false), (true, true)] {
        let body = json!({"model": "small", "stream": true, "store": store}).to_string();
        assert_eq!(post(&gateway, "/rig/chat/completions", "", body).status, 200);
        assert_eq!(is_break(&get()), !found, "{store}");
    }
}
