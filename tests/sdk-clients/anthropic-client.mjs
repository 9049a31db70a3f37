// The official `@anthropic-ai/sdk`, as any program would use it; prints what it got as JSON.
//
// With an argument only the last part runs: a request that nobody can serve.

import Anthropic from '@anthropic-ai/sdk';

import { all, errorOf, first, given, tell } from './common.mjs';

const TOOL = {
  name: 'weather',
  description: 'The weather of a city',
  input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};

const client = new Anthropic(given('authToken'));

const asking = (text, more = {}) => ({
  model: 'claude-sonnet-4-5',
  max_tokens: 100,
  messages: [{ role: 'user', content: text }],
  ...more,
});
const whole = (text, more) => client.messages.create(asking(text, more));
const said = async (text, more) => (await whole(text, more)).content[0].text;

async function stream(text, more) {
  const events = client.messages.stream(asking(text, more));
  const pieces = [];
  events.on('text', (piece) => pieces.push(piece));
  return [pieces, await events.finalMessage()];
}

function toolUse(message) {
  const [block] = message.content;
  return { name: block.name, input: block.input, stop: message.stop_reason };
}

async function toolResult() {
  const question = asking('weather', { tools: [TOOL] });
  const answer = await client.messages.create(question);
  const result = { type: 'tool_result', tool_use_id: answer.content[0].id, content: 'sunny' };
  question.messages.push({ role: 'assistant', content: answer.content }, { role: 'user', content: [result] });
  return (await client.messages.create(question)).content[0].text;
}

/** Leaves a stream in its middle, and goes on with the same client. */
async function leave() {
  const begun = await first(await client.messages.create(asking('endless', { stream: true })));
  return [begun.type, await said('have I left?')];
}

const listen = (text, more) => errorOf(() => stream(text, more));

async function everything() {
  const message = await whole('hi');
  const [pieces, streamed] = await stream('hi');
  const tokens = await client.messages.countTokens({
    model: 'claude-sonnet-4-5',
    messages: [{ role: 'user', content: 'hi' }],
  });
  const revoked = client.withOptions({ apiKey: process.env.REVOKED_KEY, authToken: null });
  return {
    whole: [message.content[0].text, message.model, message.stop_reason, message.usage.output_tokens],
    stream: [pieces, streamed.content[0].text, streamed.stop_reason],
    tool: toolUse(await whole('weather', { tools: [TOOL] })),
    tool_stream: toolUse((await stream('weather', { tools: [TOOL] }))[1]),
    tool_result: await toolResult(),
    tokens: tokens.input_tokens,
    models: (await all(client.models.list())).map((model) => model.id).sort(),
    model: (await client.models.retrieve('claude-sonnet-4-5')).id,
    alias: await said('hi', { model: 'opus' }),
    tomorrow: await said('hi', { model: 'claude-fable-9' }),
    wrong: await errorOf(() => whole('wrong')),
    // An error within a stream lets the account rest for that model.
    overloaded: await listen('overloaded', { model: 'claude-haiku-4-5' }),
    cut: await listen('cut'),
    leave: await leave(),
    revoked: await errorOf(() => revoked.messages.create(asking('hi'))),
  };
}

async function nobody() {
  return { whole: await errorOf(() => whole('limit')), stream: await listen('limit') };
}

tell(await (process.argv.length > 2 ? nobody() : everything()));
