// An OpenID Connect issuer on npm's oidc-provider, for tests and for running Indaco on one machine; loopback only.
//
// Users, groups and clients come from a JSON file (oidc_accounts.json beside this one, or OIDC_ACCOUNTS). Every access
// token is an RFC 9068 JWT that carries the groups. Logging in is one form, so that a script can do it: GET the
// authorization URL, follow the redirects to /_login/<id>, POST "login" and "password" there.
// Clients with x_opaque get opaque tokens; their groups are told at introspection and userinfo, or at userinfo alone.
//
//   OIDC_PORT     port on 127.0.0.1
//   OIDC_FOLDER   keys and the administrator's token are kept here
//   OIDC_TTL_S    life of an access token in seconds (900)
//   OIDC_ALG      RS256 (default) or ES256
//
// With the header X-Admin-Token: POST /_admin/rotate makes new keys (the generation before stays published), and
// POST /_admin/token {"user", "client_id", "scope", "ttl_s"} answers an access token without the login.
import { createServer } from 'node:http';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { createLocalJWKSet, jwtVerify } from 'jose'; // comes with oidc-provider
import { Provider, errors } from 'oidc-provider';

const PORT = Number(process.env.OIDC_PORT);
const FOLDER = process.env.OIDC_FOLDER;
const TTL_S = Number(process.env.OIDC_TTL_S ?? 900);
const ALG = process.env.OIDC_ALG ?? 'RS256';
const ISSUER = `http://127.0.0.1:${PORT}`;
const BODY_LIMIT = 10_000;
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

const accounts = JSON.parse(readFileSync(process.env.OIDC_ACCOUNTS ?? new URL('oidc_accounts.json', import.meta.url)));
const RESOURCE = `urn:${accounts.audience}`; // resource indicators must be URIs, audiences need not
const SCOPES = ['openid', 'offline_access', 'profile', 'email', 'groups', 'wlcg.groups', 'eduperson_entitlement'];
const RESOURCE_SCOPE = SCOPES.filter((scope) => scope !== 'offline_access').join(' ');

// ── what is kept between starts ────────────────────────────────────────────────────────────────

/** Return the text of a file in the folder, made by `make` when it is not there. */
function kept(name, make) {
  const path = `${FOLDER}/${name}`;
  if (!existsSync(path)) writeFileSync(path, make(), { mode: 0o600 });
  return readFileSync(path, 'utf8');
}

function newKeys() {
  const generation = Date.now();
  return [['RS256', 'rsa', { modulusLength: 2048 }], ['ES256', 'ec', { namedCurve: 'P-256' }]].map(([alg, type, options]) => ({
    ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-${generation}`,
  }));
}

const loadKeys = () => JSON.parse(kept('jwks.json', () => JSON.stringify({ keys: newKeys() })));

/** New keys come first and sign; those of one generation before stay published, so that live tokens still verify. */
function rotateKeys() {
  const former = loadKeys().keys.slice(0, 2);
  writeFileSync(`${FOLDER}/jwks.json`, JSON.stringify({ keys: [...newKeys(), ...former] }), { mode: 0o600 });
}

const ADMIN_TOKEN = kept('admin.token', () => randomBytes(24).toString('base64url'));
const COOKIE_KEY = kept('cookie.key', () => randomBytes(32).toString('base64url'));

// ── the provider ───────────────────────────────────────────────────────────────────────────────

/** The same groups in the three shapes that research communities use. */
function groupClaims({ groups = [], eduperson_entitlement: entitlements = [] }) {
  return { groups, 'wlcg.groups': groups, 'wlcg.ver': '1.0', eduperson_entitlement: entitlements };
}

const userClaims = (name) => ({ sub: name, ...accounts.users[name].claims, ...groupClaims(accounts.users[name].claims) });

function build() {
  const provider = new Provider(ISSUER, {
    clients: accounts.clients,
    jwks: loadKeys(),
    cookies: { keys: [COOKIE_KEY] },
    extraClientMetadata: { properties: ['x_groups', 'x_opaque'] },
    scopes: SCOPES,
    claims: {
      openid: ['sub'],
      profile: ['name', 'given_name', 'family_name', 'preferred_username'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
      'wlcg.groups': ['wlcg.groups', 'wlcg.ver'],
      eduperson_entitlement: ['eduperson_entitlement'],
    },
    conformIdTokenClaims: false, // claims of a scope are in the ID token too, as research issuers have it
    pkce: { required: () => true },
    rotateRefreshToken: true,
    ttl: {
      AccessToken: TTL_S, ClientCredentials: TTL_S, IdToken: TTL_S, DeviceCode: 300, Interaction: 600,
      Session: 3600, Grant: 86_400, RefreshToken: 86_400,
    },
    interactions: { url: (_, interaction) => `/_login/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      userinfo: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, client) => (client.x_opaque ? undefined : RESOURCE),
        useGrantedResource: () => true,
        getResourceServerInfo: () => resourceServer(),
      },
    },
    async findAccount(_, name) {
      return accounts.users[name] && { accountId: name, claims: async () => userClaims(name) };
    },
    async extraTokenClaims(_, token) {
      if (token.kind === 'ClientCredentials') {
        const client = await provider.Client.find(token.clientId);
        return groupClaims({ groups: client.x_groups });
      }
      if ((await provider.Client.find(token.clientId)).x_opaque === 'userinfo') return undefined;
      const { email, name, preferred_username: username } = accounts.users[token.accountId].claims;
      return { ...groupClaims(accounts.users[token.accountId].claims), email, name, preferred_username: username };
    },
  });
  provider.registerGrantType(EXCHANGE, exchange, ['subject_token', 'subject_token_type', 'audience', 'resource', 'scope']);
  return provider;
}

const resourceServer = () => ({
  scope: RESOURCE_SCOPE, audience: accounts.audience, accessTokenFormat: 'jwt', accessTokenTTL: TTL_S, jwt: { sign: { alg: ALG } },
});

let provider;
let handle;
function reload() {
  provider = build();
  handle = provider.callback();
}
function rotate() {
  rotateKeys();
  reload();
}
reload();
process.on('SIGHUP', rotate);

async function newGrant(accountId, clientId, scope) {
  const grant = new provider.Grant({ accountId, clientId });
  grant.addOIDCScope(scope);
  grant.addResourceScope(RESOURCE, scope);
  return grant.save();
}

// ── token exchange (RFC 8693), simulated: oidc-provider has none of its own ────────────────────

/** An access token of a user of ours, for any client, becomes tokens of the client that asks: scopes as asked, the usual audience. */
async function exchange(ctx) {
  const { client, params } = ctx.oidc;
  if (params.subject_token_type !== ACCESS_TOKEN || !params.subject_token) throw new errors.InvalidRequest('subject_token: an access token');
  let claims;
  try {
    const keys = loadKeys().keys.map(({ kty, n, e, crv, x, y, kid, alg, use }) => ({ kty, n, e, crv, x, y, kid, alg, use }));
    ({ payload: claims } = await jwtVerify(params.subject_token, createLocalJWKSet({ keys }), { issuer: ISSUER, typ: 'at+jwt' }));
  } catch {
    throw new errors.InvalidGrant('subject_token is not an access token of ours, or has expired');
  }
  if (!Object.hasOwn(accounts.users, claims.sub)) throw new errors.InvalidGrant('subject_token is not of a user');
  const scope = (params.scope ?? 'openid').split(' ').filter((each) => SCOPES.includes(each)).join(' ');
  const granted = { accountId: claims.sub, client, grantId: await newGrant(claims.sub, client.clientId, scope), gty: 'token_exchange', scope };
  const access = new provider.AccessToken({ ...granted, expiresIn: TTL_S });
  access.resourceServer = new provider.ResourceServer(RESOURCE, resourceServer());
  ctx.body = { access_token: await access.save(), issued_token_type: ACCESS_TOKEN, token_type: 'Bearer', expires_in: TTL_S, scope };
  if (scope.split(' ').includes('offline_access')) {
    const refresh = new provider.RefreshToken({ ...granted, resource: RESOURCE, rotations: 0 });
    ctx.body.refresh_token = await refresh.save();
  }
}

// ── our own pages ──────────────────────────────────────────────────────────────────────────────

async function readBody(request) {
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > BODY_LIMIT) throw Object.assign(new Error('the body is too long'), { status: 413 });
  }
  return body;
}

function same(given, wanted) {
  const [a, b] = [Buffer.from(given ?? ''), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function answer(response, status, body, type = 'text/plain') {
  response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' });
  response.end(body);
}

const FORM = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Log in</title>
<form method="post"><p><label>User <input name="login" autocomplete="username" required></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
<button>Log in</button></form></html>`;

/** One form logs in and grants whatever was asked for: there is nobody here to ask for consent. */
async function login(request, response) {
  const { params } = await provider.interactionDetails(request, response);
  if (request.method !== 'POST') return answer(response, 200, FORM, 'text/html');
  const form = Object.fromEntries(new URLSearchParams(await readBody(request)));
  const user = Object.hasOwn(accounts.users, form.login ?? '') && accounts.users[form.login];
  if (!user || !same(form.password, user.password)) return answer(response, 401, 'wrong user or password');
  const grantId = await newGrant(form.login, params.client_id, params.scope ?? 'openid');
  const result = { login: { accountId: form.login, amr: ['pwd'] }, consent: { grantId } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

async function mint(request, response) {
  const { user, client_id: clientId = 'indaco-cli', scope = RESOURCE_SCOPE, ttl_s: ttl = TTL_S } = JSON.parse(await readBody(request));
  const client = await provider.Client.find(clientId);
  if (!client || !Object.hasOwn(accounts.users, user ?? '')) return answer(response, 400, 'unknown user or client');
  const grantId = await newGrant(user, clientId, scope);
  const token = new provider.AccessToken({ accountId: user, client, grantId, gty: 'authorization_code', scope, expiresIn: ttl });
  token.resourceServer = new provider.ResourceServer(RESOURCE, { ...resourceServer(), accessTokenTTL: ttl });
  return answer(response, 200, JSON.stringify({ access_token: await token.save(), token_type: 'Bearer', expires_in: ttl }), 'application/json');
}

async function administer(path, request, response) {
  if (!same(request.headers['x-admin-token'], ADMIN_TOKEN)) return answer(response, 403, 'not the administrator');
  if (request.method !== 'POST') return answer(response, 405, 'POST only');
  if (path === '/_admin/token') return mint(request, response);
  if (path !== '/_admin/rotate') return answer(response, 404, 'no such page');
  rotate();
  return answer(response, 200, 'rotated');
}

async function serve(request, response) {
  const { pathname } = new URL(request.url, ISSUER);
  if (pathname === '/_health') return answer(response, 200, 'ok');
  if (pathname.startsWith('/_admin/')) return administer(pathname, request, response);
  if (/^\/_login\/[\w-]+$/.test(pathname)) return login(request, response);
  return handle(request, response);
}

createServer((request, response) => {
  serve(request, response).catch((error) => {
    if (response.headersSent) response.destroy();
    else answer(response, error.status ?? error.statusCode ?? 500, error.message);
  });
}).listen(PORT, '127.0.0.1', () => console.log(`issuer ${ISSUER}`));
