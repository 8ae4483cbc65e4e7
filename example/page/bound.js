// What the page shows about sessions that are bound to a key of the browser. An application does not need it.

/** Tells whether browsers with DBSC bind their sessions by themselves. They do so for cookies over https. */
export const browserMayBind = (settings) => settings.bind !== 'off' && settings.cookies && location.protocol === 'https:'

/** Tells whether the browser has bound the session. Only the server sees that, because scripts cannot read the cookies. */
export async function isBound(settings) {
  if (!browserMayBind(settings)) return false
  const response = await fetch('/bound')
  return response.ok && (await response.json()).bound
}

/**
 * Does what a thief of the cookies could try: it binds the session to another key. A script cannot refresh as the browser
 * does, because it can neither use the key of the browser nor send the header Sec-Secure-Session-Id.
 */
export async function bindToAnotherKey(send) {
  const { publicKey, privateKey } = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
  const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', publicKey)
  const first = await bind(send, { kty, crv, x, y }, privateKey, '')
  const challenge = /^"([^"]*)"/.exec(first.headers.get('Secure-Session-Challenge') ?? '')?.[1]
  return challenge ? bind(send, { kty, crv, x, y }, privateKey, challenge) : first
}

async function bind(send, jwk, key, challenge) {
  const text = `${segment({ alg: 'ES256', typ: 'dbsc+jwt', jwk })}.${segment({ jti: challenge })}`
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key, new TextEncoder().encode(text))
  const proof = `${text}.${base64url(String.fromCharCode(...new Uint8Array(signature)))}`
  return send('/session/bind', { method: 'POST', headers: { 'Secure-Session-Response': proof } })
}

const segment = (object) => base64url(JSON.stringify(object))
const base64url = (text) => btoa(text).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
