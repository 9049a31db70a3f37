"""The official `anthropic` client, as any program would use it; prints what it got as JSON.

With an argument only the last part runs: a request that nobody can serve.
"""

import os
import sys

import anthropic
from common import error_of, given, tell

TOOL = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

client = anthropic.Anthropic(**given(url="base_url", key="auth_token"))


def asking(text, model="claude-sonnet-4-5", **more):
    messages = [{"role": "user", "content": text}]
    return {"model": model, "max_tokens": 100, "messages": messages, **more}


def whole(text, **more):
    return client.messages.create(**asking(text, **more))


def said(text, **more):
    return whole(text, **more).content[0].text


def stream(text, **more):
    with client.messages.stream(**asking(text, **more)) as events:
        pieces = list(events.text_stream)
        message = events.get_final_message()
    return pieces, message


def tool_use(message):
    block = message.content[0]
    return {"name": block.name, "input": block.input, "stop": message.stop_reason}


def tool_result():
    first = asking("weather", tools=[TOOL])
    answer = client.messages.create(**first)
    result = {"type": "tool_result", "tool_use_id": answer.content[0].id, "content": "sunny"}
    first["messages"] += [
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    return client.messages.create(**first).content[0].text


def leave():
    """Leaves a stream in its middle, and goes on with the same client."""
    with client.messages.create(**asking("endless", stream=True)) as events:
        first = next(iter(events)).type
    return [first, said("have I left?")]


def listen(text, **more):
    return error_of(lambda: stream(text, **more))


def revoked():
    return client.with_options(api_key=os.environ["REVOKED_KEY"], auth_token=None)


def everything():
    message = whole("hi")
    pieces, streamed = stream("hi")
    return {
        "whole": [message.content[0].text, message.model, message.stop_reason, message.usage.output_tokens],
        "stream": [pieces, streamed.content[0].text, streamed.stop_reason],
        "tool": tool_use(whole("weather", tools=[TOOL])),
        "tool_stream": tool_use(stream("weather", tools=[TOOL])[1]),
        "tool_result": tool_result(),
        "tokens": client.messages.count_tokens(
            model="claude-sonnet-4-5", messages=[{"role": "user", "content": "hi"}]
        ).input_tokens,
        "models": sorted(model.id for model in client.models.list()),
        "model": client.models.retrieve("claude-sonnet-4-5").id,
        "alias": said("hi", model="opus"),
        "tomorrow": said("hi", model="claude-fable-9"),
        "wrong": error_of(lambda: whole("wrong")),
        # An error within a stream lets the account rest for that model.
        "overloaded": listen("overloaded", model="claude-haiku-4-5"),
        "cut": listen("cut"),
        "leave": leave(),
        "revoked": error_of(lambda: revoked().messages.create(**asking("hi"))),
    }


def nobody():
    return {"whole": error_of(lambda: whole("limit")), "stream": listen("limit")}


tell(nobody() if len(sys.argv) > 1 else everything())
