// Binds a session of the example server to a key, and refreshes it, with DPoP clients that others wrote. The argument is
// the server's URL. Writes a result for each client to stdout.
import { readFileSync } from 'node:fs'
import * as dpop from 'dpop'
import * as jose from 'jose'
import * as oauth from 'oauth4webapi'

const url = process.argv[2]
const user = { username: 'admin', password: 'admin' }
let requests = 0
const send = (...args) => {
  requests++
  return fetch(...args)
}

// A client logs in and refreshes with a key. It resolves to the tokens, or to the error code of the server's refusal.

// oauth4webapi remembers the nonces itself, and says whether to try again.
async function oauth4webapi(pair) {
  pair ??= await oauth.generateKeyPair('ES256')
  const client = { client_id: 'interop' }
  const DPoP = oauth.DPoP(client, pair)
  const options = { DPoP, [oauth.allowInsecureRequests]: true, [oauth.customFetch]: send }
  const server = (path) => ({ issuer: url, token_endpoint: url + path })
  const attempt = async (request, process, again = true) => {
    try {
      return await process(await request())
    } catch (error) {
      if (!(error instanceof oauth.ResponseBodyError)) throw error
      return again && oauth.isDPoPNonceError(error) ? attempt(request, process, false) : { error: error.error }
    }
  }
  return {
    pair,
    login: () => attempt(
      () => oauth.genericTokenEndpointRequest(server('/login'), client, oauth.None(), 'password', user, options),
      (response) => oauth.processGenericTokenEndpointResponse(server('/login'), client, response)),
    refresh: (token) => attempt(
      () => oauth.refreshTokenGrantRequest(server('/refresh'), client, oauth.None(), token, options),
      (response) => oauth.processRefreshTokenResponse(server('/refresh'), client, response)),
  }
}

// A client that signs with one of the other libraries, and keeps the nonce by hand.
async function byHand(pair, sign) {
  let nonce
  const post = async (path, body, again = true) => {
    const headers = { 'Content-Type': 'application/json', DPoP: await sign(pair, url + path, nonce) }
    const response = await send(url + path, { method: 'POST', headers, body: JSON.stringify(body) })
    const answer = await response.json()
    nonce = response.headers.get('DPoP-Nonce') ?? nonce
    if (response.ok) return answer
    return again && answer.error === 'use_dpop_nonce' ? post(path, body, false) : { error: answer.error }
  }
  return { pair, login: () => post('/login', user), refresh: (token) => post('/refresh', { refresh_token: token }) }
}

const withDPoP = async (pair) => byHand(pair ?? (await dpop.generateKeyPair('ES256')), (pair, url, nonce) => dpop.generateProof(pair, url, 'POST', nonce))

const withJose = async (pair) => byHand(pair ?? (await jose.generateKeyPair('ES256')), async ({ publicKey, privateKey }, url, nonce) =>
  new jose.SignJWT({ htm: 'POST', htu: url, nonce })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk: await jose.exportJWK(publicKey) })
    .setJti(crypto.randomUUID())
    .setIssuedAt()
    .sign(privateKey))

async function story(newClient) {
  const client = await newClient()
  let tokens = await client.login()
  const result = { login: tokens.error ?? tokens.token_type.toLowerCase(), refreshes: [] }
  requests = 0
  for (let i = 0; i < 3; i++) {
    const next = await client.refresh(tokens.refresh_token)
    result.refreshes.push(next.error ?? (next.refresh_token !== tokens.refresh_token ? 'new token' : 'same token'))
    tokens = next
  }
  result.requests = requests
  // The same client after a restart: it has kept its key, and lost the nonce.
  requests = 0
  const restarted = await newClient(client.pair)
  tokens = await restarted.refresh(tokens.refresh_token)
  result.restarted = tokens.error ?? 'new token'
  result.requestsWithoutNonce = requests
  result.anotherKey = (await (await newClient()).refresh(tokens.refresh_token)).error ?? 'accepted'
  const response = await fetch(`${url}/refresh`, { method: 'POST', headers: { Authorization: `Bearer ${tokens.refresh_token}` } })
  result.noProof = response.ok ? 'accepted' : (await response.json()).error
  result.afterwards = (await restarted.refresh(tokens.refresh_token)).error ?? 'new token'
  return result
}

const version = (name) => `${name} ${JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), 'utf8')).version}`
const results = {}
for (const [name, newClient] of [['oauth4webapi', oauth4webapi], ['dpop', withDPoP], ['jose', withJose]]) {
  results[version(name)] = await story(newClient)
}
process.stdout.write(JSON.stringify(results))
