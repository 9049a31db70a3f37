//! Messages, token counts.

use serde_json::{Value, json};

use super::{Call, Prompt, Shared, error, limited, named};
use crate::Talk;

/// Answers; the status, unless a stream was begun.
pub(super) fn answer(shared: &Shared, call: &Call<'_>, path: &str, talk: &mut Talk) -> Option<u16> {
    let refuse = |talk: &mut Talk, status: u16, kind: &str, text: &str| {
        talk.json(status, &error("anthropic", kind, text).to_string());
        Some(status)
    };
    if call.seen.header("anthropic-version").is_none() {
        return refuse(
            talk,
            400,
            "invalid_request_error",
            "anthropic-version: header is required",
        );
    }
    match (&*call.seen.method, path) {
        ("POST", "v1/messages") => message(shared, call, talk),
        ("POST", "v1/messages/count_tokens") => {
            talk.json(200, &json!({"input_tokens": 7}).to_string());
            Some(200)
        }
        _ => refuse(talk, 404, "not_found_error", "Not found"),
    }
}

fn message(shared: &Shared, call: &Call<'_>, talk: &mut Talk) -> Option<u16> {
    let (prompt, has_result) = last(&call.body);
    let say = |text: &str, talk: &mut Talk| told(shared, call, talk, &[text_block(text)], "end_turn");
    match prompt {
        Prompt::Hello => say("hello", talk),
        Prompt::Left => say(shared.left(), talk),
        Prompt::Weather if has_result => say("It is sunny in Paris.", talk),
        Prompt::Weather => told(shared, call, talk, &[tool_block()], "tool_use"),
        Prompt::Wrong => {
            let text = "messages: at least one message is required";
            talk.json(
                400,
                &error("anthropic", "invalid_request_error", text).to_string(),
            );
            Some(400)
        }
        Prompt::Limit => Some(limited("anthropic", call, talk)),
        Prompt::Endless => {
            let events = &events(call, &[text_block("hello")], "end_turn")[..3];
            shared.endless(call, talk, events);
            None
        }
        Prompt::Cut => {
            let events = &events(call, &[text_block("hello")], "end_turn")[..3];
            shared.cut(call, talk, events);
            None
        }
        Prompt::Overloaded => {
            let mut events = events(call, &[text_block("hello")], "end_turn");
            events.truncate(3);
            events.push(named(&error("anthropic", "overloaded_error", "Overloaded")));
            shared.stream(call, talk, &events);
            None
        }
    }
}

/// The last text of the user, and whether a tool's result came with it or after it.
fn last(body: &Value) -> (Prompt, bool) {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut has_result = false;
    for message in messages.iter().rev().filter(|message| message["role"] == "user") {
        if let Some(text) = message["content"].as_str() {
            return (Prompt::of(text), has_result);
        }
        let blocks = message["content"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        has_result |= blocks.iter().any(|block| block["type"] == "tool_result");
        // Claude Code puts reminders before what was typed.
        if let Some(text) = blocks.iter().rev().find_map(|block| block["text"].as_str()) {
            return (Prompt::of(text), has_result);
        }
    }
    (Prompt::Hello, has_result)
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn tool_block() -> Value {
    json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}})
}

fn told(shared: &Shared, call: &Call<'_>, talk: &mut Talk, blocks: &[Value], stop: &str) -> Option<u16> {
    if call.streams() {
        shared.stream(call, talk, &events(call, blocks, stop));
        return None;
    }
    talk.answer(
        200,
        &[("content-type", "application/json"), ("request-id", "req_1")],
        head(call, &json!(blocks), &json!(stop)).to_string(),
    );
    Some(200)
}

fn head(call: &Call<'_>, content: &Value, stop: &Value) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": call.model(), "content": content,
        "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 2}})
}

fn events(call: &Call<'_>, blocks: &[Value], stop: &str) -> Vec<String> {
    let mut events = vec![json!({"type": "message_start", "message": head(call, &json!([]), &Value::Null)})];
    for (index, block) in blocks.iter().enumerate() {
        let (empty, deltas) = in_pieces(block);
        events.push(json!({"type": "content_block_start", "index": index, "content_block": empty}));
        for delta in deltas {
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let usage = json!({"output_tokens": 2});
    let end = json!({"stop_reason": stop, "stop_sequence": null});
    events.push(json!({"type": "message_delta", "delta": end, "usage": usage}));
    events.push(json!({"type": "message_stop"}));
    events.iter().map(named).collect()
}

/// A block without its content, and that in two pieces.
fn in_pieces(block: &Value) -> (Value, [Value; 2]) {
    let halves = |text: &str| {
        let (one, other) = text.split_at(text.len() / 2);
        [one.to_owned(), other.to_owned()]
    };
    let mut empty = block.clone();
    if let Some(text) = block["text"].as_str() {
        empty["text"] = json!("");
        return (
            empty,
            halves(text).map(|text| json!({"type": "text_delta", "text": text})),
        );
    }
    empty["input"] = json!({});
    let pieces = halves(&block["input"].to_string());
    (
        empty,
        pieces.map(|json| json!({"type": "input_json_delta", "partial_json": json})),
    )
}
