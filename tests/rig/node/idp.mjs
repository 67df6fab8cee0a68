// A real OpenID provider for tests: oidc-provider with JWT access tokens that carry groups, a token exchange that nests
// `act` (RFC 8693 §4.1), and keys that can be rotated while it runs.
//
// usage: node idp.mjs CONFIG.json      (run in the directory whose node_modules holds the packages)
// CONFIG: { port, audience, people: {name: {password, groups}}, clients: {id: {secret, groups, ttl}}, certificate?, key? }
// POST /rig/rotate   makes a new signing key; ?drop=1 also forgets the older ones
// Prints one line, "ready ISSUER", when it serves.

import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.cwd()}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Provider, errors } = await load('oidc-provider');
const jose = await load('jose');

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const PASSWORD = 'urn:chancery:rig:password';

const config = JSON.parse(readFileSync(process.argv[2]));
const scheme = config.certificate ? 'https' : 'http';
const issuer = `${scheme}://127.0.0.1:${config.port}`;
let keys = [];
let provider;
let handle;

const resourceServer = {
  scope: '',
  audience: config.audience,
  accessTokenFormat: 'jwt',
  accessTokenTTL: 3600,
  jwt: { sign: { alg: 'RS256' } },
};

async function addKey(drop) {
  const { privateKey } = await jose.generateKeyPair('RS256', { extractable: true });
  const jwk = await jose.exportJWK(privateKey);
  const fresh = { ...jwk, alg: 'RS256', use: 'sig', kid: await jose.calculateJwkThumbprint(jwk) };
  keys = drop ? [fresh] : [fresh, ...keys];
  build();
}

async function verify(token) {
  try {
    const set = jose.createLocalJWKSet({ keys: keys.map(({ kty, n, e, kid, alg, use }) => ({ kty, n, e, kid, alg, use })) });
    const { payload } = await jose.jwtVerify(token, set, { issuer, audience: config.audience });
    return payload;
  } catch {
    throw new errors.InvalidGrant('a token is not valid');
  }
}

async function answer(ctx, accountId, claims, ttl) {
  const token = new provider.AccessToken({
    client: ctx.oidc.client, accountId, gty: ctx.oidc.params.grant_type, expiresIn: ttl,
  });
  token.resourceServer = resourceServer;
  ctx.rigClaims = claims;
  ctx.oidc.entity('AccessToken', token);
  ctx.body = {
    access_token: await token.save(), issued_token_type: ACCESS_TOKEN, token_type: 'Bearer', expires_in: ttl,
  };
}

// What a person gets after logging in somewhere. The rig has no browser, so a password stands for the login.
async function password(ctx) {
  const { username, password: word } = ctx.oidc.params;
  const person = config.people[username];
  if (!person || person.password !== word) throw new errors.InvalidGrant('no such person or password');
  await answer(ctx, username, { groups: person.groups, auth_time: Math.floor(Date.now() / 1000) }, 3600);
}

// The caller becomes the newest actor; earlier actors move one level down.
async function exchange(ctx) {
  const { subject_token: subjectToken, subject_token_type: type, actor_token: actorToken } = ctx.oidc.params;
  if (!subjectToken || type !== ACCESS_TOKEN) throw new errors.InvalidRequest('subject_token of type access_token is needed');
  const subject = await verify(subjectToken);
  const actor = actorToken ? await verify(actorToken) : { sub: ctx.oidc.client.clientId };
  const act = { iss: issuer, sub: actor.sub, ...(subject.act ? { act: subject.act } : {}) };
  // A child never outlives its parent.
  const left = subject.exp - Math.floor(Date.now() / 1000);
  const ttl = Math.min(left, Number(config.clients[ctx.oidc.client.clientId]?.ttl ?? 3600));
  await answer(ctx, subject.sub, { groups: subject.groups, act }, ttl);
}

function build() {
  provider = new Provider(issuer, {
    jwks: { keys },
    clients: Object.entries(config.clients).map(([id, client]) => ({
      client_id: id,
      client_secret: client.secret,
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials', EXCHANGE, PASSWORD, 'urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: [],
      response_types: [],
    })),
    cookies: { keys: ['rig'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:chancery:rig:resource',
        useGrantedResource: () => true,
        getResourceServerInfo: () => resourceServer,
      },
    },
    extraTokenClaims: (ctx, token) => ctx.rigClaims ?? { groups: config.clients[token.clientId]?.groups ?? [] },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    ttl: { AccessToken: 3600, ClientCredentials: (ctx, token) => config.clients[token.clientId]?.ttl ?? 3600 },
  });
  provider.registerGrantType(PASSWORD, password, ['username', 'password']);
  provider.registerGrantType(
    EXCHANGE, exchange,
    ['audience', 'resource', 'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type'],
  );
  provider.on('server_error', (ctx, error) => console.error(error));
  handle = provider.callback();
}

await addKey(false);

async function serve(request, response) {
  const url = new URL(request.url, issuer);
  if (request.method === 'POST' && url.pathname === '/rig/rotate') {
    await addKey(url.searchParams.has('drop'));
    response.writeHead(204).end();
    return;
  }
  handle(request, response);
}

const server = config.certificate
  ? createSecureServer({ cert: readFileSync(config.certificate), key: readFileSync(config.key) }, serve)
  : createServer(serve);
server.listen(config.port, '127.0.0.1', () => console.log(`ready ${issuer}`));
process.on('SIGTERM', () => process.exit(0));
