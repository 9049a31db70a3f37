// A real authorization server on loopback for the tests: the npm package oidc-provider with one public client,
// PKCE, rotation with reuse detection, the device grant and revocation.
//
// Standard output holds exactly one line, {"ready":true,"issuer":...,"port":...}, once the socket is open. The process
// ends when its standard input closes, so that no test leaves it behind.
//
// Options: --port N (0), --access-ttl SECONDS (3600), --refresh-ttl SECONDS (86400), --device-ttl SECONDS (600).
// AUTO=1 in the environment signs in without a page; otherwise a page with one button per account asks.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

import { Provider, errors } from 'oidc-provider';

const ACCOUNTS = new Map(
  ['alice', 'bob'].map((name) => [name, { sub: name, email: `${name}@example.com`, email_verified: true }]),
);
const BODY_MAX = 64 * 1024;
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';

const seconds = (text, name) => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} ${text}: give whole seconds`);
  return value;
};

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'access-ttl': { type: 'string', default: '3600' },
    'refresh-ttl': { type: 'string', default: '86400' },
    'device-ttl': { type: 'string', default: '600' },
  },
});
const port = seconds(options.port, 'port');
const accessTtl = seconds(options['access-ttl'], 'access-ttl');
const refreshTtl = seconds(options['refresh-ttl'], 'refresh-ttl');
const deviceTtl = seconds(options['device-ttl'], 'device-ttl');
const auto = process.env.AUTO === '1';

/** What happened, without secrets. */
const ledger = {
  token_posts: {}, // by grant type
  granted: {}, // by grant type
  refused: {}, // by error and reason
  refreshes: 0, // refreshes that were granted
  reuses: 0, // spent refresh tokens that came again
  revocations: 0, // grants that ended
};
const count = (table, key) => {
  table[key] = (table[key] ?? 0) + 1;
};

/** Refresh tokens that were spent; they stay known after their grant is gone, so that every reuse is counted. */
const spent = new Set();
const entries = new Map();
const byUserCode = new Map();
const byUid = new Map();
const byGrant = new Map();

const forget = (key) => {
  const entry = entries.get(key);
  entries.delete(key);
  if (entry?.grantId) byGrant.get(entry.grantId)?.delete(key);
};

const forgetGrant = (grantId) => {
  for (const key of byGrant.get(grantId) ?? []) entries.delete(key);
  byGrant.delete(grantId);
};

/** Keeps everything: the adapter that comes with the package forgets after 1,000 entries. */
class Adapter {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload) {
    const key = this.key(id);
    entries.set(key, payload);
    if (payload.userCode) byUserCode.set(payload.userCode, key);
    if (payload.uid) byUid.set(payload.uid, key);
    if (payload.grantId) {
      if (!byGrant.has(payload.grantId)) byGrant.set(payload.grantId, new Set());
      byGrant.get(payload.grantId).add(key);
    }
  }

  async find(id) {
    const entry = entries.get(this.key(id));
    // A copy: the package keeps what it loaded while others write.
    return entry && { ...entry };
  }

  async findByUid(uid) {
    return entries.get(byUid.get(uid));
  }

  async findByUserCode(userCode) {
    return entries.get(byUserCode.get(userCode));
  }

  /** Two requests may both have loaded the token unspent; only the first one spends it. */
  async consume(id) {
    const entry = entries.get(this.key(id));
    if (this.model === 'RefreshToken') spent.add(id);
    if (!entry || entry.consumed) {
      if (entry?.grantId) {
        forgetGrant(entry.grantId);
        entries.delete(`Grant:${entry.grantId}`);
        ledger.revocations += 1;
      }
      throw new errors.InvalidGrant('already used by a request at the same time');
    }
    entry.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    forget(this.key(id));
  }

  async revokeByGrantId(grantId) {
    forgetGrant(grantId);
  }
}

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const createProvider = (issuer) => {
  const provider = new Provider(issuer, {
    adapter: Adapter,
    clients: [
      {
        client_id: 'rig',
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token', DEVICE_GRANT],
        response_types: ['code'],
        redirect_uris: ['127.0.0.1', '[::1]', 'localhost'].map((host) => `http://${host}/auth/callback`),
        id_token_signed_response_alg: 'ES256',
      },
    ],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: 'rig' }] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'] },
    conformIdTokenClaims: false,
    scopes: ['openid', 'email', 'offline_access'],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
    },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    ttl: {
      AccessToken: accessTtl,
      AuthorizationCode: 60,
      DeviceCode: deviceTtl,
      Grant: refreshTtl,
      IdToken: accessTtl,
      Interaction: 600,
      RefreshToken: refreshTtl,
      Session: refreshTtl,
    },
    async findAccount(_ctx, id) {
      const claims = ACCOUNTS.get(id);
      return claims && { accountId: id, claims: async () => claims };
    },
    renderError(ctx, out) {
      ctx.type = 'html';
      ctx.body = page('This cannot be done', `<p>${escape(out.error)}: ${escape(out.error_description ?? '')}</p>`);
    },
  });
  provider.use(keepBooks);
  provider.on('grant.revoked', () => {
    ledger.revocations += 1;
  });
  provider.on('grant.error', (_ctx, error) => {
    count(ledger.refused, `${error.error}: ${error.error_detail ?? error.error_description}`);
  });
  provider.on('server_error', (_ctx, error) => {
    console.error(error);
  });
  return provider;
};

/** Counts token requests around the package's own handling. */
const keepBooks = async (ctx, next) => {
  await next();
  if (ctx.path !== '/token' || ctx.method !== 'POST') return;
  const { grant_type: grant = 'none', refresh_token: token } = ctx.oidc?.params ?? {};
  count(ledger.token_posts, grant);
  if (ctx.status === 200) {
    count(ledger.granted, grant);
    if (grant === 'refresh_token') ledger.refreshes += 1;
  } else if (grant === 'refresh_token' && spent.has(token)) {
    ledger.reuses += 1;
  }
};

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const page = (title, body) =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${title}</title></head><body><h1>${title}</h1>${body}</body></html>`;

const send = (res, status, type, body) => {
  res.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  });
  res.end(body);
};
const sendJson = (res, status, body) => send(res, status, 'application/json', JSON.stringify(body));
const sendPage = (res, status, title, body) => send(res, status, 'text/html; charset=utf-8', page(title, body));

const readForm = async (req) => {
  let text = '';
  for await (const chunk of req) {
    text += chunk;
    if (text.length > BODY_MAX) throw new Error('the form is too large');
  }
  return new URLSearchParams(text);
};

/** A grant of everything that was asked for. */
const grantAll = async (provider, accountId, clientId, scope) => {
  const grant = new provider.Grant({ accountId, clientId });
  grant.addOIDCScope(scope);
  return grant.save();
};

/** Sign-in and consent in one step: at once with AUTO=1, else when a button is pressed. */
const interact = async (provider, req, res) => {
  const { params, uid } = await provider.interactionDetails(req, res);
  const finish = (result) => provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
  let accountId = params.login_hint ?? 'alice';
  if (!auto && req.method !== 'POST') {
    const buttons = [...ACCOUNTS.values()].map(
      ({ sub, email }) => `<button name="account" value="${sub}">Sign in as ${escape(email)}</button>`,
    );
    const deny = '<button name="account" value="">Do not allow</button>';
    return sendPage(
      res,
      200,
      'Sign in',
      `<p>${escape(params.client_id)} asks for ${escape(params.scope)}.</p><form method="post" action="/interaction/${uid}">${buttons.join('')}${deny}</form>`,
    );
  }
  if (req.method === 'POST') accountId = (await readForm(req)).get('account');
  if (!ACCOUNTS.has(accountId)) {
    return finish({ error: 'access_denied', error_description: 'the resource owner said no' });
  }
  const grantId = await grantAll(provider, accountId, params.client_id, params.scope);
  return finish({ login: { accountId }, consent: { grantId } });
};

/** Decides on a device by plain HTTP: ?user_code=XXXX-XXXX[&account=bob][&deny=1]. */
const approve = async (provider, url, res) => {
  const typed = (url.searchParams.get('user_code') ?? '').toUpperCase().replace(/\W/g, '');
  const accountId = url.searchParams.get('account') ?? 'alice';
  const code = await provider.DeviceCode.findByUserCode(typed);
  if (!code || code.accountId || code.error || !ACCOUNTS.has(accountId)) {
    return sendJson(res, 404, { error: 'no device waits under this code, or there is no such account' });
  }
  if (url.searchParams.has('deny')) {
    Object.assign(code, { error: 'access_denied', errorDescription: 'the resource owner said no' });
  } else {
    const { scope } = code.params;
    const grantId = await grantAll(provider, accountId, code.clientId, scope);
    const authTime = Math.floor(Date.now() / 1000);
    Object.assign(code, { accountId, grantId, scope, authTime, expiresWithSession: false });
  }
  await code.save();
  return sendJson(res, 200, {});
};

const route = async (provider, callback, req, res) => {
  const url = new URL(req.url, provider.issuer);
  if (url.pathname === '/__ledger') return sendJson(res, 200, ledger);
  if (url.pathname === '/__approve') return approve(provider, url, res);
  if (url.pathname.startsWith('/interaction/')) return interact(provider, req, res);
  return callback(req, res);
};

const server = createServer();
server.listen(port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = createProvider(issuer);
  const callback = provider.callback();
  server.on('request', (req, res) => {
    route(provider, callback, req, res).catch((error) => {
      console.error(error);
      if (!res.headersSent) sendPage(res, 400, 'This cannot be done', `<p>${escape(error.message)}</p>`);
    });
  });
  console.log(JSON.stringify({ ready: true, issuer, port: server.address().port }));
});

process.stdin.resume();
process.stdin.on('close', () => process.exit(0));
process.stdin.on('end', () => process.exit(0));
