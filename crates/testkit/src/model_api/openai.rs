//! Chat completions, responses, embeddings; and what ChatGPT's backend has of it.

use serde_json::{Value, json};

use super::{Call, Prompt, Shared, error, limited, named};
use crate::Talk;

const TOOL_INPUT: &str = r#"{"city":"Paris"}"#;

/// Answers; the status, unless a stream was begun.
pub(super) fn answer(shared: &Shared, call: &Call<'_>, path: &str, talk: &mut Talk) -> Option<u16> {
    let json = |talk: &mut Talk, value: Value| {
        talk.json(200, &value.to_string());
        Some(200)
    };
    match (&*call.seen.method, path) {
        ("POST", "v1/chat/completions") => completion(shared, call, talk),
        ("POST", "v1/responses" | "backend-api/codex/responses") => response(shared, call, talk),
        ("POST", "v1/responses/input_tokens") => json(
            talk,
            json!({"object": "response.input_tokens", "input_tokens": 7}),
        ),
        ("POST", "v1/embeddings") => {
            let vector = json!({"object": "embedding", "index": 0, "embedding": [0.5, -0.25]});
            let usage = json!({"prompt_tokens": 1, "total_tokens": 1});
            json(
                talk,
                json!({"object": "list", "data": [vector], "model": call.model(), "usage": usage}),
            )
        }
        _ => refuse(talk, 404, "not_found", "Not found"),
    }
}

fn refuse(talk: &mut Talk, status: u16, kind: &str, text: &str) -> Option<u16> {
    talk.json(status, &error("openai", kind, text).to_string());
    Some(status)
}

/// What is to be said; `Err` where that is an error or nothing in words.
enum Said {
    Text(&'static str),
    Tool,
}

fn said(
    shared: &Shared,
    call: &Call<'_>,
    prompt: Prompt,
    has_result: bool,
    talk: &mut Talk,
) -> Result<Said, Option<u16>> {
    match prompt {
        Prompt::Hello | Prompt::Endless | Prompt::Cut | Prompt::Overloaded => Ok(Said::Text("hello")),
        Prompt::Left => Ok(Said::Text(shared.left())),
        Prompt::Weather if has_result => Ok(Said::Text("It is sunny in Paris.")),
        Prompt::Weather => Ok(Said::Tool),
        Prompt::Wrong => Err(refuse(
            talk,
            400,
            "invalid_request_error",
            "Invalid value: 'wrong'.",
        )),
        Prompt::Limit => Err(Some(limited("openai", call, talk))),
    }
}

/// Sends the events of a stream as the prompt wants it.
fn stream(
    shared: &Shared,
    call: &Call<'_>,
    talk: &mut Talk,
    prompt: Prompt,
    events: &[String],
    first: usize,
) {
    match prompt {
        Prompt::Endless => shared.endless(call, talk, &events[..first]),
        Prompt::Cut => shared.cut(call, talk, &events[..first]),
        Prompt::Overloaded => {
            let mut events = events[..first].to_vec();
            let text = "The server is overloaded.";
            events.push(format!("data: {}\n\n", error("openai", "server_error", text)));
            shared.stream(call, talk, &events);
        }
        _ => shared.stream(call, talk, events),
    }
}

fn completion(shared: &Shared, call: &Call<'_>, talk: &mut Talk) -> Option<u16> {
    let messages = call.body["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let text = messages.iter().rev().find(|message| message["role"] == "user");
    let prompt = Prompt::of(
        text.and_then(|message| message["content"].as_str())
            .unwrap_or_default(),
    );
    let has_result = messages.iter().any(|message| message["role"] == "tool");
    let said = match said(shared, call, prompt, has_result, talk) {
        Ok(said) => said,
        Err(status) => return status,
    };
    if call.streams() {
        stream(shared, call, talk, prompt, &chunks(call, &said), 2);
        return None;
    }
    let (message, finish) = match said {
        Said::Text(text) => (
            json!({"role": "assistant", "content": text, "refusal": null}),
            "stop",
        ),
        Said::Tool => {
            let function = json!({"name": "weather", "arguments": TOOL_INPUT});
            let call = json!({"id": "call_1", "type": "function", "function": function});
            (
                json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]}),
                "tool_calls",
            )
        }
    };
    let choice = json!({"index": 0, "message": message, "finish_reason": finish, "logprobs": null});
    let answer = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": call.model(),
        "choices": [choice], "usage": usage()});
    talk.json(200, &answer.to_string());
    Some(200)
}

fn usage() -> Value {
    json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
}

fn chunks(call: &Call<'_>, said: &Said) -> Vec<String> {
    let (deltas, finish) = match said {
        Said::Text(text) => {
            let (one, other) = text.split_at(text.len() / 2);
            let delta = |text: &str| json!({"content": text});
            (vec![delta(one), delta(other)], "stop")
        }
        Said::Tool => {
            let (one, other) = TOOL_INPUT.split_at(4);
            let first = json!({"index": 0, "id": "call_1", "type": "function",
                "function": {"name": "weather", "arguments": one}});
            let second = json!({"index": 0, "function": {"arguments": other}});
            (
                vec![json!({"tool_calls": [first]}), json!({"tool_calls": [second]})],
                "tool_calls",
            )
        }
    };
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
            "model": call.model(), "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    chunks.extend(deltas.into_iter().map(|delta| chunk(delta, Value::Null)));
    chunks.push(chunk(json!({}), json!(finish)));
    if call.body["stream_options"]["include_usage"] == true {
        let last = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
            "model": call.model(), "choices": [], "usage": usage()});
        chunks.push(format!("data: {last}\n\n"));
    }
    chunks.push("data: [DONE]\n\n".to_owned());
    chunks
}

fn response(shared: &Shared, call: &Call<'_>, talk: &mut Talk) -> Option<u16> {
    let id = format!("resp_{}", call.account);
    if let Some(previous) = call.body["previous_response_id"].as_str()
        && previous != id
    {
        let text = format!("Previous response with id '{previous}' not found.");
        return refuse(talk, 404, "previous_response_not_found", &text);
    }
    let input = &call.body["input"];
    let items = input.as_array().map(Vec::as_slice).unwrap_or_default();
    let of_item = |item: &Value| {
        let content = &item["content"];
        let parts = content.as_array().map(Vec::as_slice).unwrap_or_default();
        let in_parts = || parts.iter().rev().find_map(|part| part["text"].as_str());
        content.as_str().or_else(in_parts).unwrap_or_default().to_owned()
    };
    let of_items = || {
        items
            .iter()
            .rev()
            .find(|item| item["role"] == "user")
            .map(of_item)
    };
    let text = input
        .as_str()
        .map(str::to_owned)
        .or_else(of_items)
        .unwrap_or_default();
    let has_result = items.iter().any(|item| item["type"] == "function_call_output");
    let prompt = if has_result {
        Prompt::Weather
    } else {
        Prompt::of(&text)
    };
    let said = match said(shared, call, prompt, has_result, talk) {
        Ok(said) => said,
        Err(status) => return status,
    };
    let item = match said {
        Said::Text(text) => {
            json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}]})
        }
        Said::Tool => json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather",
            "arguments": TOOL_INPUT, "status": "completed"}),
    };
    if call.streams() {
        stream(shared, call, talk, prompt, &events(call, &id, &item), 4);
        return None;
    }
    talk.json(200, &whole(call, &id, "completed", &json!([item])).to_string());
    Some(200)
}

fn whole(call: &Call<'_>, id: &str, status: &str, output: &Value) -> Value {
    let usage = json!({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 5});
    let usage = if status == "completed" { usage } else { Value::Null };
    json!({"id": id, "object": "response", "created_at": 1, "status": status, "model": call.model(),
        "output": output, "usage": usage, "error": null, "incomplete_details": null, "instructions": null,
        "metadata": {}, "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, "previous_response_id": call.body["previous_response_id"]})
}

fn events(call: &Call<'_>, id: &str, item: &Value) -> Vec<String> {
    let item_id = &item["id"];
    let mut events =
        vec![json!({"type": "response.created", "response": whole(call, id, "in_progress", &json!([]))})];
    let mut empty = item.clone();
    empty["status"] = json!("in_progress");
    let (part, kind, text) = if let Some(arguments) = item["arguments"].as_str() {
        empty["arguments"] = json!("");
        (Value::Null, "response.function_call_arguments", arguments)
    } else {
        empty["content"] = json!([]);
        let part = item["content"][0].clone();
        (
            part,
            "response.output_text",
            item["content"][0]["text"].as_str().unwrap_or_default(),
        )
    };
    events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": empty}));
    let at = |mut event: Value| {
        event["item_id"] = item_id.clone();
        event["output_index"] = json!(0);
        event["content_index"] = json!(0);
        event["logprobs"] = json!([]);
        event
    };
    if !part.is_null() {
        let mut before = part.clone();
        before["text"] = json!("");
        events.push(at(json!({"type": "response.content_part.added", "part": before})));
    }
    let (one, other) = text.split_at(text.len() / 2);
    for piece in [one, other] {
        events.push(at(json!({"type": format!("{kind}.delta"), "delta": piece})));
    }
    let done = json!({"type": format!("{kind}.done"), "text": text, "arguments": text, "name": item["name"]});
    events.push(at(done));
    if !part.is_null() {
        events.push(at(json!({"type": "response.content_part.done", "part": part})));
    }
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    events.push(
        json!({"type": "response.completed", "response": whole(call, id, "completed", &json!([item]))}),
    );
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    events.iter().map(named).collect()
}
