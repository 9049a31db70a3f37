// What both Node scripts need: the setting in which the client is used, and how an error is told.

/** The client's options: none, where its own variables are set; else the URL and the key of the gateway. */
export function given(key) {
  const { GATEWAY_URL, GATEWAY_KEY } = process.env;
  return GATEWAY_URL === undefined ? {} : { baseURL: GATEWAY_URL, [key]: GATEWAY_KEY };
}

/** The class, the status and the body of the error that a call ends with. */
export async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    return { class: error.constructor.name, status: error.status ?? null, body: error.error ?? null };
  }
  return 'no error';
}

/** All of a stream. */
export async function all(events) {
  const list = [];
  for await (const event of events) list.push(event);
  return list;
}

/** The first event of a stream, which is left then. */
export async function first(events) {
  for await (const event of events) return event;
  return undefined;
}

export function tell(result) {
  console.log(JSON.stringify(result));
}
