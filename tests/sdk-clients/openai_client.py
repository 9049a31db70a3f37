"""The official `openai` client, as any program would use it; prints what it got as JSON.

With an argument only the last part runs: a request that nobody can serve.
"""

import json
import os
import sys

import openai
from common import error_of, given, tell

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "weather", "description": "The weather of a city", "parameters": PARAMETERS}
CHAT_TOOLS = [{"type": "function", "function": TOOL}]
TOOLS = [{"type": "function", **TOOL}]

client = openai.OpenAI(**given(url="base_url", key="api_key"))


def chat(text, model="gpt-5.1", before=(), **more):
    messages = [{"role": "user", "content": text}, *before]
    return client.chat.completions.create(model=model, messages=messages, **more)


def chat_said(text, **more):
    return chat(text, **more).choices[0].message.content


def chat_stream(text, **more):
    chunks = list(chat(text, stream=True, **more))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    usage = [chunk.usage.total_tokens for chunk in chunks if chunk.usage]
    return deltas, usage


def chat_pieces(text):
    deltas, usage = chat_stream(text, stream_options={"include_usage": True})
    return [[delta.content for delta in deltas if delta.content], usage]


def chat_tool():
    call = chat("weather", tools=CHAT_TOOLS).choices[0].message.tool_calls[0]
    return {"name": call.function.name, "input": json.loads(call.function.arguments)}


def chat_tool_stream():
    calls = [delta.tool_calls[0] for delta in chat_stream("weather", tools=CHAT_TOOLS)[0] if delta.tool_calls]
    arguments = "".join(call.function.arguments for call in calls)
    return {"name": calls[0].function.name, "input": json.loads(arguments)}


def chat_tool_result():
    call = chat("weather", tools=CHAT_TOOLS).choices[0].message
    result = {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "sunny"}
    return chat_said("weather", tools=CHAT_TOOLS, before=[call, result])


def respond(text, model="gpt-5.1", **more):
    return client.responses.create(model=model, input=text, **more)


def response_stream(text, model="gpt-5.1", **more):
    with client.responses.stream(model=model, input=text, **more) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        return [pieces, events.get_final_response()]


def tool_use(response):
    call = response.output[0]
    return {"name": call.name, "input": json.loads(call.arguments)}


def tool_result():
    call = respond("weather", tools=TOOLS).output[0]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    question = {"role": "user", "content": "weather"}
    made = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    return respond([question, made, result], tools=TOOLS).output_text


def follow():
    """The second answer refers to the first, which one account keeps."""
    first = respond("hi")
    return respond("and now?", previous_response_id=first.id).output_text


def leave():
    """Leaves streams in their middle, and goes on with the same client."""
    with chat("endless", stream=True) as events:
        next(iter(events))
    left = chat_said("have I left?")
    with respond("endless", stream=True) as events:
        next(iter(events))
    return [left, respond("have I left?").output_text]


def listen(text, one="gpt-5.1", other="gpt-5.1"):
    return [
        error_of(lambda: chat_stream(text, model=one)),
        error_of(lambda: response_stream(text, model=other)),
    ]


def embedding():
    """Whatever else the API has is reached by its provider's name."""
    beyond = client.with_options(base_url=os.environ["PROVIDER_URL"])
    question = {"model": "text-embedding-3-small", "input": "hi", "encoding_format": "float"}
    return beyond.embeddings.create(**question).data[0].embedding


def everything():
    completion = chat("hi")
    response = respond("hi")
    pieces, streamed = response_stream("hi")
    return {
        "chat": [completion.choices[0].message.content, completion.model, completion.usage.total_tokens],
        "chat_stream": chat_pieces("hi"),
        "chat_tool": chat_tool(),
        "chat_tool_stream": chat_tool_stream(),
        "chat_tool_result": chat_tool_result(),
        "response": [response.output_text, response.model, response.usage.total_tokens],
        "stream": [pieces, streamed.output_text],
        "tool": tool_use(respond("weather", tools=TOOLS)),
        "tool_stream": tool_use(response_stream("weather", tools=TOOLS)[1]),
        "tool_result": tool_result(),
        "follow": follow(),
        "tokens": client.responses.input_tokens.count(model="gpt-5.1", input="hi").input_tokens,
        "models": sorted(model.id for model in client.models.list()),
        "model": client.models.retrieve("gpt-5.1").id,
        "alias": respond("hi", model="gpt").output_text,
        "tomorrow": respond("hi", model="gpt-9").output_text,
        "embedding": embedding(),
        "wrong": [error_of(lambda: chat("wrong")), error_of(lambda: respond("wrong"))],
        # An error within a stream lets the account rest for that model.
        "overloaded": listen("overloaded", "gpt-4.1", "gpt-5-mini"),
        "cut": listen("cut"),
        "leave": leave(),
        "revoked": error_of(lambda: client.with_options(api_key=os.environ["REVOKED_KEY"]).models.list()),
    }


def nobody():
    return {"whole": error_of(lambda: chat("limit")), "stream": error_of(lambda: respond("limit", stream=True))}


tell(nobody() if len(sys.argv) > 1 else everything())
