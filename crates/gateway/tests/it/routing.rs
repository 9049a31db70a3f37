//! What becomes of a request on its way: the model, the bytes around it, and the headers by kind of account.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::json;
use tokensink_testkit::{Seen, Talk};

use crate::raw::{Answer, Client};
use crate::world::{KEY, World, client, error};

fn fine(_: &Seen, talk: &mut Talk) {
    talk.json(200, "{}");
}

/// Anthropic at the scripted API, with an API key and a subscription's token.
fn anthropic() -> World {
    let world = World::new(&["one"], fine);
    let provider = format!(
        "id = \"anthropic\"\n[api]\nbase_url = \"{}/claude\"\n",
        world.upstream.url()
    );
    world.put("tokensink/providers/anthropic.toml", &provider);
    let token = format!("sk-ant-oat01-{}", "t".repeat(80));
    let profiles = json!({"version": 1, "profiles": {
        "anthropic:key": {"type": "api_key", "provider": "anthropic", "key": "sk-ant-api"},
        "anthropic:sub": {"type": "token", "provider": "anthropic", "token": token},
        "rig:one": {"type": "api_key", "provider": "rig", "key": "sk-one"},
    }});
    world.put("agents/main/agent/auth-profiles.json", &profiles.to_string());
    world
}

fn send(client: &mut Client, path: &str, headers: &str, body: &[u8]) -> Answer {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    client.write([head.as_bytes(), body].concat()).answer()
}

#[test]
fn a_short_name_is_replaced_where_it_stands_and_nothing_else() {
    let world = anthropic();
    let gateway = world.gateway();
    let body = b"{ \"max_tokens\" : 1e2,\r\n \"model\":\t\"Opus@anthropic:key\" , \"x\": \"\\u00e9\xc3\xa9\", \"y\":1.0 }\n";
    let answer = send(&mut client(&gateway), "/v1/messages?beta=true&key=x", "", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.upstream.seen().remove(0);
    assert_eq!(seen.path, "/claude/v1/messages?beta=true");
    let want = b"{ \"max_tokens\" : 1e2,\r\n \"model\":\t\"claude-opus-4-6\" , \"x\": \"\\u00e9\xc3\xa9\", \"y\":1.0 }\n";
    assert_eq!(seen.body, want);
    assert_eq!(seen.header("content-length"), Some(&*want.len().to_string()));
}

#[test]
fn a_compressed_body_goes_up_as_it_came_or_not_at_all() {
    let world = World::new(&["one"], fine);
    let gateway = world.gateway();
    let zstd = |text: &str| compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
    let sent = zstd(r#"{"model":"small","input":"x"}"#);
    let answer = send(
        &mut client(&gateway),
        "/v1/responses",
        "content-encoding: zstd\r\n",
        &sent,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.upstream.seen().remove(0);
    assert_eq!(
        (&seen.body, seen.header("content-encoding")),
        (&sent, Some("zstd"))
    );
    let named = zstd(r#"{"model":"rig/small"}"#);
    let answer = send(
        &mut client(&gateway),
        "/v1/responses",
        "content-encoding: zstd\r\n",
        &named,
    );
    assert_eq!(
        (answer.status, error(&answer.body)["code"].clone()),
        (400, json!("compressed_model"))
    );
    assert!(answer.text().contains("\\\"small\\\""), "{}", answer.text());
    assert_eq!(world.upstream.seen().len(), 1);
}

#[test]
fn each_kind_of_account_has_its_own_headers() {
    let world = anthropic();
    let gateway = world.gateway();
    let sub = format!("Bearer sk-ant-oat01-{}", "t".repeat(80));
    let oauth = "oauth-2025-04-20";
    let cases = [
        (
            "opus@anthropic:sub",
            "",
            Some(&*sub),
            None,
            Some(oauth.to_owned()),
        ),
        (
            "opus@anthropic:sub",
            "a, b",
            Some(&*sub),
            None,
            Some(format!("a,b,{oauth}")),
        ),
        (
            "opus@anthropic:sub",
            oauth,
            Some(&*sub),
            None,
            Some(oauth.to_owned()),
        ),
        ("opus@anthropic:key", "", None, Some("sk-ant-api"), None),
        ("opus@anthropic:key", oauth, None, Some("sk-ant-api"), None),
        (
            "opus@anthropic:key",
            "a,oauth-2025-04-20,b",
            None,
            Some("sk-ant-api"),
            Some("a,b".to_owned()),
        ),
    ];
    for (model, beta, authorization, key, features) in cases {
        let beta = if beta.is_empty() {
            String::new()
        } else {
            format!("anthropic-beta: {beta}\r\n")
        };
        let headers = format!(
            "{beta}x-api-key: {KEY}\r\nuser-agent: claude-cli/2.1\r\naccept-encoding: gzip\r\ncookie: c\r\n"
        );
        let body = json!({"model": model}).to_string();
        let answer = send(&mut client(&gateway), "/v1/messages", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        let seen = world.upstream.seen().pop().unwrap();
        assert_eq!(seen.header("authorization"), authorization, "{model} {beta}");
        assert_eq!(seen.header("x-api-key"), key, "{model} {beta}");
        assert_eq!(
            seen.header("anthropic-beta"),
            features.as_deref(),
            "{model} {beta}"
        );
        assert_eq!(seen.header("user-agent"), Some("claude-cli/2.1"));
        assert_eq!(
            (seen.header("cookie"), seen.header("accept-encoding")),
            (None, Some("identity"))
        );
    }
}

#[test]
fn bodies_that_cannot_be_routed_are_refused_in_the_words_of_the_api() {
    let world = World::new(&["one"], fine);
    let gateway = world.gateway();
    let bomb = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let block = vec![b' '; 1 << 20];
        for _ in 0..64 {
            encoder.write_all(&block).unwrap();
        }
        encoder.finish().unwrap()
    };
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let long = format!("{{\"model\":\"{}\"}}", "x".repeat(1 << 20));
    let cases: [(&str, &[u8], u16, &str); 10] = [
        ("", b"", 400, "no_model"),
        ("", b"{}", 400, "no_model"),
        ("", b"[]", 400, "not_an_object"),
        ("", b"{\"model\":\"a\"", 400, "not_json"),
        ("", b"{\"model\":\"\xff\"}", 400, "not_json"),
        ("", b"{\"model\":5}", 400, "bad_model"),
        ("", deep.as_bytes(), 400, "too_deep"),
        ("", long.as_bytes(), 400, "unknown_model"),
        ("content-encoding: gzip\r\n", &bomb, 413, "body_too_large"),
        ("content-encoding: br\r\n", b"x", 415, "content_encoding"),
    ];
    for (headers, body, status, code) in cases {
        let answer = send(&mut client(&gateway), "/v1/messages", headers, body);
        let told = error(&answer.body);
        assert_eq!(
            (answer.status, told["code"].as_str()),
            (status, Some(code)),
            "{}",
            answer.text()
        );
        assert!(
            told["type"].as_str().unwrap().ends_with("_request_error") || status == 413,
            "{told}"
        );
        assert!(answer.body.len() < 2_000, "{code}: {} bytes", answer.body.len());
    }
    assert_eq!(world.upstream.connections(), 0);
    assert_eq!(
        send(&mut client(&gateway), "/rig/x", "", b"{\"model\":\"a\"").status,
        200
    );
}
