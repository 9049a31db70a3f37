// The official `openai`, as any program would use it; prints what it got as JSON.
//
// With an argument only the last part runs: a request that nobody can serve.

import OpenAI from 'openai';

import { all, errorOf, first, given, tell } from './common.mjs';

const TOOL = {
  name: 'weather',
  description: 'The weather of a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const CHAT_TOOLS = [{ type: 'function', function: TOOL }];
const TOOLS = [{ type: 'function', ...TOOL }];

const client = new OpenAI(given('apiKey'));

const chat = (text, { before = [], ...more } = {}) =>
  client.chat.completions.create({
    model: 'gpt-5.1',
    messages: [{ role: 'user', content: text }, ...before],
    ...more,
  });
const chatSaid = async (text, more) => (await chat(text, more)).choices[0].message.content;

async function chatStream(text, more) {
  const chunks = await all(await chat(text, { stream: true, ...more }));
  const deltas = chunks.filter((chunk) => chunk.choices.length).map((chunk) => chunk.choices[0].delta);
  return [deltas, chunks.filter((chunk) => chunk.usage).map((chunk) => chunk.usage.total_tokens)];
}

async function chatPieces(text) {
  const [deltas, usage] = await chatStream(text, { stream_options: { include_usage: true } });
  return [deltas.filter((delta) => delta.content).map((delta) => delta.content), usage];
}

async function chatTool() {
  const [call] = (await chat('weather', { tools: CHAT_TOOLS })).choices[0].message.tool_calls;
  return { name: call.function.name, input: JSON.parse(call.function.arguments) };
}

async function chatToolStream() {
  const [deltas] = await chatStream('weather', { tools: CHAT_TOOLS });
  const calls = deltas.filter((delta) => delta.tool_calls).map((delta) => delta.tool_calls[0].function);
  return { name: calls[0].name, input: JSON.parse(calls.map((call) => call.arguments).join('')) };
}

async function chatToolResult() {
  const { message } = (await chat('weather', { tools: CHAT_TOOLS })).choices[0];
  const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content: 'sunny' };
  return chatSaid('weather', { tools: CHAT_TOOLS, before: [message, result] });
}

const respond = (input, more) => client.responses.create({ model: 'gpt-5.1', input, ...more });

async function responseStream(input, more) {
  const events = client.responses.stream({ model: 'gpt-5.1', input, ...more });
  const pieces = [];
  events.on('response.output_text.delta', (event) => pieces.push(event.delta));
  return [pieces, await events.finalResponse()];
}

function toolUse(response) {
  const [call] = response.output;
  return { name: call.name, input: JSON.parse(call.arguments) };
}

async function toolResult() {
  const [call] = (await respond('weather', { tools: TOOLS })).output;
  const made = { type: 'function_call', call_id: call.call_id, name: call.name, arguments: call.arguments };
  const result = { type: 'function_call_output', call_id: call.call_id, output: 'sunny' };
  const question = { role: 'user', content: 'weather' };
  return (await respond([question, made, result], { tools: TOOLS })).output_text;
}

/** The second answer refers to the first, which one account keeps. */
async function follow() {
  const begun = await respond('hi');
  return (await respond('and now?', { previous_response_id: begun.id })).output_text;
}

/** Leaves streams in their middle, and goes on with the same client. */
async function leave() {
  await first(await chat('endless', { stream: true }));
  const left = await chatSaid('have I left?');
  await first(await respond('endless', { stream: true }));
  return [left, (await respond('have I left?')).output_text];
}

const listen = async (text, one = 'gpt-5.1', other = 'gpt-5.1') => [
  await errorOf(() => chatStream(text, { model: one })),
  await errorOf(() => responseStream(text, { model: other })),
];

/** Whatever else the API has is reached by its provider's name. */
async function embedding() {
  const beyond = client.withOptions({ baseURL: process.env.PROVIDER_URL });
  const question = { model: 'text-embedding-3-small', input: 'hi', encoding_format: 'float' };
  return (await beyond.embeddings.create(question)).data[0].embedding;
}

async function everything() {
  const completion = await chat('hi');
  const response = await respond('hi');
  const [pieces, streamed] = await responseStream('hi');
  const revoked = client.withOptions({ apiKey: process.env.REVOKED_KEY });
  return {
    chat: [completion.choices[0].message.content, completion.model, completion.usage.total_tokens],
    chat_stream: await chatPieces('hi'),
    chat_tool: await chatTool(),
    chat_tool_stream: await chatToolStream(),
    chat_tool_result: await chatToolResult(),
    response: [response.output_text, response.model, response.usage.total_tokens],
    stream: [pieces, streamed.output_text],
    tool: toolUse(await respond('weather', { tools: TOOLS })),
    tool_stream: toolUse((await responseStream('weather', { tools: TOOLS }))[1]),
    tool_result: await toolResult(),
    follow: await follow(),
    tokens: (await client.responses.inputTokens.count({ model: 'gpt-5.1', input: 'hi' })).input_tokens,
    models: (await all(client.models.list())).map((model) => model.id).sort(),
    model: (await client.models.retrieve('gpt-5.1')).id,
    alias: (await respond('hi', { model: 'gpt' })).output_text,
    tomorrow: (await respond('hi', { model: 'gpt-9' })).output_text,
    embedding: await embedding(),
    wrong: [await errorOf(() => chat('wrong')), await errorOf(() => respond('wrong'))],
    // An error within a stream lets the account rest for that model.
    overloaded: await listen('overloaded', 'gpt-4.1', 'gpt-5-mini'),
    cut: await listen('cut'),
    leave: await leave(),
    revoked: await errorOf(() => revoked.models.list()),
  };
}

async function nobody() {
  return {
    whole: await errorOf(() => chat('limit')),
    stream: await errorOf(() => respond('limit', { stream: true })),
  };
}

tell(await (process.argv.length > 2 ? nobody() : everything()));
