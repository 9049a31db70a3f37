//! Streams of the three APIs, cut anywhere.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What is noticed when the stream comes in chunks that end at `cuts`.
fn noticed(stream: &[u8], cuts: &[usize]) -> Vec<Noticed> {
    let mut seen = Vec::new();
    let mut scanner = Scanner::new();
    let mut from = 0;
    for &cut in cuts {
        let cut = cut.clamp(from, stream.len());
        scanner.feed(&stream[from..cut], |noticed| seen.push(noticed));
        from = cut;
    }
    scanner.feed(&stream[from..], |noticed| seen.push(noticed));
    seen
}

fn usage(input: Option<u64>, output: Option<u64>, cached: Option<u64>) -> Noticed {
    Noticed::Usage(Usage {
        input,
        output,
        cached,
    })
}

fn error(body: &Value) -> Noticed {
    Noticed::Error {
        body: body.to_string().into_bytes(),
    }
}

const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":\
    {\"input_tokens\":25,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n\
    event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\\"error\\\"\"}}\n\n\
    event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const CHAT: &str = ": keep\n\ndata: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":null}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\n\
    data: [DONE]\n\n";

const RESPONSES: &str = "event: codex.rate_limits\ndata: {\"type\":\"codex.rate_limits\",\"plan_type\":\"pro\"}\n\n\
    event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"error\":null}}\n\n\
    event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n\
    event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"error\":null,\
    \"usage\":{\"input_tokens\":1,\"output_tokens\":2,\"input_tokens_details\":{\"cached_tokens\":0}}}}\n\n";

fn all() -> Vec<(&'static str, Vec<Noticed>)> {
    let limits = Noticed::Limits {
        body: br#"{"type":"codex.rate_limits","plan_type":"pro"}"#.to_vec(),
    };
    let answer = Noticed::Answer {
        id: "resp_1".to_owned(),
    };
    vec![
        (
            MESSAGES,
            vec![
                usage(Some(25), Some(1), Some(7)),
                usage(None, Some(15), None),
                Noticed::Finished,
            ],
        ),
        (CHAT, vec![usage(Some(3), Some(4), Some(2)), Noticed::Finished]),
        (
            RESPONSES,
            vec![
                limits,
                answer,
                usage(Some(1), Some(2), Some(0)),
                Noticed::Finished,
            ],
        ),
    ]
}

#[test]
fn what_streams_say_wherever_they_are_cut() {
    for (stream, want) in all() {
        assert_eq!(noticed(stream.as_bytes(), &[]), want, "{stream}");
        for cut in 0..=stream.len() {
            assert_eq!(noticed(stream.as_bytes(), &[cut]), want, "cut at {cut}: {stream}");
        }
        let each: Vec<usize> = (0..stream.len()).collect();
        for ends in ["\r\n", "\r"] {
            let other = stream.replace('\n', ends);
            assert_eq!(noticed(other.as_bytes(), &[]), want, "{ends:?}");
            assert_eq!(noticed(other.as_bytes(), &each), want, "{ends:?}, byte by byte");
        }
        let marked = format!("\u{feff}{stream}");
        assert_eq!(noticed(marked.as_bytes(), &[1, 2]), want);
    }
}

#[test]
fn errors_look_like_error_answers() {
    let overloaded = json!({"type": "overloaded_error", "message": "Overloaded"});
    let failed = json!({"code": "rate_limit_exceeded", "message": "m"});
    let cases = [
        (
            format!(
                "event: error\ndata: {}\n\n",
                json!({"type": "error", "error": overloaded})
            ),
            vec![error(&json!({"error": overloaded}))],
        ),
        (
            format!(
                "event: response.failed\ndata: {}\n\n",
                json!({"type": "response.failed", "response": {"error": failed}})
            ),
            vec![error(&json!({"error": failed})), Noticed::Finished],
        ),
        (
            format!(
                "data: {}\n\n",
                json!({"type": "error", "code": "server_error", "message": "m", "param": null})
            ),
            vec![error(
                &json!({"error": {"type": "error", "code": "server_error", "message": "m", "param": null}}),
            )],
        ),
        (
            format!(
                "data: {}\n\n",
                json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}})
            ),
            vec![error(
                &json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}),
            )],
        ),
        (
            "data: {\"error\":\ndata: {\"code\":1}}\n\n".to_owned(),
            vec![error(&json!({"error": {"code": 1}}))],
        ),
        ("data: {\"error\":null,\"choices\":[]}\n\n".to_owned(), vec![]),
        ("data: {\"error\":{\"code\":1}\n\n".to_owned(), vec![]),
        // Without its end an event does not count (WHATWG HTML section 9.2.6).
        ("data: {\"error\":{\"code\":1}}\n".to_owned(), vec![]),
        (
            "data: {\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":6}}\n\n".to_owned(),
            vec![usage(Some(5), Some(6), None)],
        ),
        (
            "data: {\"usage\":7,\"error\":{\"code\":1},\"response\":[],\"message\":{}}\n\n".to_owned(),
            vec![error(&json!({"error": {"code": 1}}))],
        ),
        (
            "data:{\"error\":{\"code\":1}}\n\n".to_owned(),
            vec![error(&json!({"error": {"code": 1}}))],
        ),
        ("data: \n\nevent: x\n\nid: 1\nretry: 5\n\n".to_owned(), vec![]),
    ];
    for (stream, want) in cases {
        assert_eq!(noticed(stream.as_bytes(), &[]), want, "{stream}");
        let each: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(noticed(stream.as_bytes(), &each), want, "{stream}");
    }
}

#[test]
fn long_events_are_passed_over_and_what_follows_is_seen() {
    let after = "data: {\"error\":{\"code\":1}}\n\n";
    let want = vec![error(&json!({"error": {"code": 1}}))];
    let long = "x".repeat(EVENT_MAX);
    let streams = [
        format!("data: {{\"error\":\"{long}\"}}\n\n{after}"),
        format!("event: response.completed\ndata: {long}\ndata: {{\"error\":1}}\n\n{after}"),
        format!(
            "data: {}\n{}\n{after}",
            &long[10..],
            "data: {\"error\":1}\n".repeat(10)
        ),
        format!("{long}{long}\n\n{after}"),
        format!("event: content_block_delta\ndata: {long}{long}\n\n{after}"),
    ];
    for (number, stream) in streams.iter().enumerate() {
        for step in [1 << 12, 1 << 20, usize::MAX] {
            let cuts: Vec<usize> = (0..stream.len()).step_by(step.min(stream.len())).collect();
            assert_eq!(noticed(stream.as_bytes(), &cuts), want, "{number} by {step}");
        }
    }
}

#[test]
fn what_is_held_is_bounded() {
    let mut scanner = Scanner::new();
    for chunk in [&b"data: x\n"[..], b"y", b"data: ", b"event: ping\ndata: "] {
        for _ in 0..EVENT_MAX {
            scanner.feed(chunk, |_| {});
        }
        assert!(scanner.line.capacity() + scanner.data.capacity() <= 4 * EVENT_MAX);
        scanner.feed(b"\n\n", |_| {});
    }
}

#[test]
fn usage_adds_up_by_replacing() {
    let mut usage = Usage::default();
    for (stream, want) in all() {
        for noticed in noticed(stream.as_bytes(), &[]) {
            if let Noticed::Usage(later) = noticed {
                usage.update(later);
            }
        }
        assert!(!want.is_empty());
    }
    assert_eq!(
        usage,
        Usage {
            input: Some(1),
            output: Some(2),
            cached: Some(0)
        }
    );
}

proptest! {
    /// The same is seen wherever the stream is cut, also in streams that nobody would send.
    #[test]
    fn cuts_change_nothing(
        parts in prop::collection::vec(prop_oneof![
            Just("\n".to_owned()), Just("\r".to_owned()), Just("\n\n".to_owned()), Just("data: ".to_owned()),
            Just("data".to_owned()), Just("event: error".to_owned()), Just("event: ping".to_owned()),
            Just("{\"error\":{\"code\":1}}".to_owned()), Just("{\"usage\":{\"output_tokens\":1}}".to_owned()),
            Just("[DONE]".to_owned()), Just("\u{feff}".to_owned()), "\\PC{0,4}",
        ], 0..24),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let stream = parts.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(noticed(&stream, &cuts), noticed(&stream, &[]));
    }

    #[test]
    fn any_bytes_do_not_panic(stream in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
        let _ = noticed(&stream, &[cut]);
    }
}
