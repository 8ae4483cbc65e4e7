// The ginrefresh client: a fetch that refreshes its tokens. One file without dependencies.
//
//	const client = createClient({ onLogin: (code) => showLogin(code) })
//	const answer = await client.login('/login', { headers, body })
//	await client.fetch('/protected')    // adds the token; refreshes and retries once if it has expired
//	await client.logout()
//
// It works with one token, with a token pair and with cookies, depending on what the login returned. All tabs share
// one session: one tab refreshes, and the others pick up its tokens. See docs/client.md.

// After one of these codes the user must log in again.
const OVER = ['token_missing', 'token_invalid', 'token_revoked', 'token_reused', 'refresh_expired', 'subject_refused', 'proof_required']

/**
 * @param {object} [options]
 * @param {string} [options.refreshURL] URL of the server's RefreshHandler
 * @param {string} [options.logoutURL] URL of its LogoutHandler
 * @param {readonly string[]} [options.origins] the only origins that receive the token; by default the origin of the page
 * @param {Pick<Storage, 'getItem'|'setItem'|'removeItem'>} [options.storage] localStorage by default, which all tabs share
 * @param {string} [options.key] the key of the session in the storage
 * @param {number} [options.timeout] milliseconds for one attempt to refresh; two attempts should fit into the server's Grace
 * @param {RequestCredentials} [options.credentials] 'include' if the cookies belong to another origin
 * @param {typeof fetch} [options.fetch] sends the requests
 * @param {boolean} [options.bind] bind the session to a key that stays in this browser, if the server offers that
 * @param {(error: unknown) => void} [options.onUnbound] called if this browser cannot keep a key; by default it warns in the console
 * @param {(code: string) => void} [options.onLogin] called when the session has ended and was removed from the storage; code is the reason
 * @param {(session: object|null, elsewhere: boolean) => void} [options.onChange] called when the session changes; session is null if there is none; elsewhere tells that another tab changed it
 */
export function createClient(options = {}) {
  const { refreshURL = '/refresh', logoutURL = '/logout', storage = globalThis.localStorage, key = 'ginrefresh' } = options
  const { timeout = 4000, onLogin = () => {}, onChange = () => {}, origins = [globalThis.location?.origin] } = options
  const { credentials = 'same-origin', fetch: send = (...args) => globalThis.fetch(...args) } = options
  const { bind = false, onUnbound = (error) => console.warn('ginrefresh: the session is not bound to this browser.', error) } = options
  const keys = bind ? keyPair(key).catch((error) => void onUnbound(error)) : null
  const alone = createLock(key, storage, 2 * timeout + 2000)
  let skew = 0 // of the server's clock, in milliseconds
  let refreshing = null // the refresh of this tab: { id of the session to refresh, result }
  let pending = null // the request of that refresh: { used, abort }

  /** Returns the newest session of all tabs, or null: { access_token, refresh_token, expires_at, refresh_expires_at, … }. */
  const session = () => JSON.parse(storage.getItem(key))
  const isNewest = (used) => session()?.id === used?.id
  const isSameLogin = (used) => session()?.login === used?.login

  /** Does the login, a POST, and stores the tokens. With bind it adds a proof. Resolves to the response. Throws like fetch. */
  async function login(url, init) {
    const request = new Request(url, { method: 'POST', credentials, ...init })
    // With cookies, the answer of a refresh or a logout that is under way must not replace the cookies of this login.
    return alone(() => logIn(url, request))
  }

  async function logIn(url, request) {
    const attempt = async () => {
      const copy = request.clone()
      for (const [name, value] of Object.entries(await proof(url))) copy.headers.set(name, value)
      return send(copy)
    }
    let response = await attempt()
    if (keys && response.status === 400 && (await bodyOf(response))?.code === 'proof_invalid') {
      skew = (Date.parse(response.headers.get('Date')) || Date.now()) - Date.now() // this clock may be wrong
      response = await attempt()
    }
    if (response.ok) save({ ...await response.clone().json(), ...nonceOf(response) })
    return response
  }

  /** Stores the answer of another kind of login, or any other answer with tokens. */
  function save(answer) {
    const now = Date.now()
    storage.setItem(key, JSON.stringify({
      login: random(), // the same after every refresh
      ...answer,
      id: random(), // identifies the tokens, even if they are in cookies
      expires_at: now + answer.expires_in * 1000,
      refresh_expires_at: now + answer.refresh_expires_in * 1000,
    }))
    changed(false)
  }

  /** Removes the session in all tabs, without a request to the server. */
  function clear() {
    storage.removeItem(key)
    changed(false)
  }

  function changed(elsewhere) {
    // After a logout or another login, the cookies of a late response must not replace the current ones.
    if (pending && !isSameLogin(pending.used)) pending.abort()
    onChange(session(), elsewhere)
  }

  /** Does a fetch with the token of the session. Resolves to the last response. Throws like fetch. */
  async function authorizedFetch(input, init) {
    const request = new Request(input, input instanceof Request ? init : { credentials, ...init })
    if (!origins.includes(new URL(request.url).origin)) return send(request)
    const used = session()
    const response = await attempt(request.clone(), used)
    const code = await codeOf(response)
    if (code === '') return response
    const again = await recover(code, used)
    if (again !== true) return again || response
    const newest = session()
    const last = await attempt(request, newest)
    giveUp(await codeOf(last), newest)
    return last
  }

  /**
   * Handles a 401 with this code, for a request that was sent with the session `used`, like client.fetch does.
   * Resolves to true if the request should be sent again, to false if not, or to the response of a failed refresh.
   */
  async function recover(code, used) {
    if (code !== 'token_expired' && !OVER.includes(code)) return false
    if (isNewest(used)) {
      // A browser deletes the cookie of an expired access token, so the server sees no token.
      const expired = code === 'token_expired' || (code === 'token_missing' && used && !used.access_token)
      if (!expired) {
        giveUp(code, used)
        return false
      }
      const refusal = await refresh(used)
      if (refusal) return refusal
    }
    return !used || isSameLogin(used) // not after a logout or another login
  }

  async function attempt(request, used) {
    if (used?.access_token) request.headers.set('Authorization', `Bearer ${used.access_token}`)
    const response = await send(request)
    const renewed = /^Bearer (.+)/i.exec(response.headers.get('Authorization') ?? '') // sent by AutoRefresh
    if (renewed && used && isNewest(used)) {
      save({ ...used, access_token: renewed[1], refresh_expires_in: (used.refresh_expires_at - Date.now()) / 1000 })
    }
    return response
  }

  /**
   * Refreshes the tokens, unless the session `used` was refreshed already. All calls and all tabs share one refresh, so
   * that none of them presents a replaced token too late. Resolves to null after a success, or to the server's error
   * response: after a 401 the session may have ended, after any other status it continues. Throws like fetch.
   */
  function refresh(used = session()) {
    if (!refreshing || refreshing.id !== used?.id) {
      const own = { id: used?.id }
      own.result = alone(() => swap(used)).finally(() => {
        if (refreshing === own) refreshing = null
      })
      refreshing = own
    }
    return refreshing.result.then((refusal) => refusal?.clone() ?? null)
  }

  async function swap(used) {
    let response = null
    for (let tries = 2; !response; tries--) {
      if (!isNewest(used)) return null // there was another refresh, a logout or another login
      try {
        response = await tryRefresh(used)
      } catch (error) {
        // The response may be lost. Retry at once: within the grace period the server returns the same tokens.
        if (tries === 1 && isNewest(used)) throw error
      }
    }
    if (!response.ok) {
      giveUp(await codeOf(response), used)
      return response
    }
    const answer = await response.json()
    if (isNewest(used)) save({ ...used, ...answer, ...nonceOf(response) })
    return null
  }

  async function tryRefresh(used) {
    const controller = new AbortController()
    const timer = setTimeout(() => controller.abort(new DOMException(`no answer within ${timeout} ms`, 'TimeoutError')), timeout)
    pending = { used, abort: () => controller.abort() }
    const ask = async (nonce) => {
      const response = await post(refreshURL, used, controller.signal, await proof(refreshURL, nonce))
      await response.clone().text() // fails if the connection breaks before the end of the response
      return response
    }
    try {
      const response = await ask(used?.nonce)
      const { nonce } = nonceOf(response)
      return response.status === 400 && nonce && nonce !== used?.nonce ? await ask(nonce) : response
    } finally {
      clearTimeout(timer)
      pending = null
    }
  }

  function post(url, used, signal, headers = {}) {
    const token = used?.refresh_token ?? used?.access_token
    if (token) headers.Authorization = `Bearer ${token}`
    return send(url, { method: 'POST', headers, credentials, signal })
  }

  // proof returns the headers of a POST that prove that this browser has its key.
  async function proof(url, nonce) {
    const pair = await keys
    return pair ? { DPoP: await signProof(pair, url, nonce, Date.now() + skew) } : {}
  }

  function giveUp(code, used) {
    if (!OVER.includes(code) || !isNewest(used)) return
    clear()
    onLogin(code)
  }

  /**
   * Ends the session on the server. If that succeeds, or it had ended already, removes it here. Resolves to the response.
   * Waits for a refresh or a login that is under way, and ends the session that it made.
   */
  function logout(url = logoutURL) {
    return alone(async () => {
      const used = session()
      const response = await post(url, used)
      // The tokens may have been replaced meanwhile: remove those as well, but not the tokens of a later login.
      if ((response.ok || OVER.includes(await codeOf(response))) && isSameLogin(used)) clear()
      return response
    })
  }

  globalThis.addEventListener?.('storage', (event) => {
    if (event.key === key || event.key === null) changed(true)
  })
  return {
    fetch: authorizedFetch, refresh, recover, login, logout, save, clear, session,
    /** Whether the session is bound to this browser's key, as the server says. */
    get bound() { return Boolean(session()?.nonce) },
  }
}

const random = () => Math.random().toString(36).slice(2)

const bodyOf = (response) => response.clone().json().catch(() => null)
const nonceOf = (response) => ({ nonce: response.headers.get('DPoP-Nonce') ?? undefined })

// codeOf returns the error code of a 401 or of a refresh without the session's key, and '' for any other response.
async function codeOf(response) {
  if (response.status !== 401 && !(response.status === 400 && nonceOf(response).nonce)) return ''
  return (await bodyOf(response))?.code ?? ''
}

// keyPair returns this browser's key pair. The private key can be used, but not read, not even by this script.
async function keyPair(name) {
  const made = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify'])
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
  const open = indexedDB.open('ginrefresh', 1)
  open.onupgradeneeded = () => open.result.createObjectStore('keys')
  const db = await done(open)
  const store = db.transaction('keys', 'readwrite').objectStore('keys') // one transaction, so that all tabs have one key
  const kept = await done(store.get(name))
  if (!kept) await done(store.put(made, name))
  db.close()
  return kept ?? made
}

// signProof returns a DPoP proof for a POST (RFC 9449 section 4.2).
async function signProof({ privateKey, publicKey }, url, nonce, now) {
  const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', publicKey)
  const { origin, pathname } = new URL(new Request(url).url)
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: { kty, crv, x, y } }
  const claims = { jti: crypto.randomUUID(), htm: 'POST', htu: origin + pathname, iat: Math.floor(now / 1000), nonce }
  const bytes = (text) => new TextEncoder().encode(text)
  const base64url = (data) => btoa(String.fromCharCode(...data)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
  const text = [header, claims].map((part) => base64url(bytes(JSON.stringify(part)))).join('.')
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, privateKey, bytes(text))
  return `${text}.${base64url(new Uint8Array(signature))}`
}

// createLock returns a function that runs one work at a time in all tabs, and the works of this tab in the order of the
// calls. A work that has waited for term ms goes ahead: the tab before it may be suspended, or its login may hang.
// Browsers have Web Locks only on https and localhost. Elsewhere there is a lease in the storage.
function createLock(name, storage, term) {
  let last = Promise.resolve() // the last work of this tab, because a lease has no order
  return (work) => {
    const locks = globalThis.navigator?.locks
    if (locks) return withWebLock(locks, name, term, work)
    const result = settled(last, term).then(() => withLease(`${name}.lease`, storage, term, work))
    last = result.catch(() => {})
    return result
  }
}

// settled resolves when the promise is settled, and at the latest after term ms.
function settled(promise, term) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, term)
    promise.then(() => { clearTimeout(timer); resolve() })
  })
}

function withWebLock(locks, name, term, work) {
  return new Promise((resolve) => {
    const waiting = new AbortController()
    const timer = setTimeout(() => waiting.abort(), term)
    let running = false
    const run = () => {
      running = true
      clearTimeout(timer)
      const result = work()
      resolve(result) // not the result of the request, which fails if another tab steals the lock
      return result
    }
    locks.request(name, { signal: waiting.signal }, run)
      .catch(() => running || locks.request(name, { steal: true }, run))
      .catch(() => { if (!running) run() }) // a sandboxed page has no locks, and shares no storage with other tabs
  })
}

// withLease holds a lease that expires after term ms, in case its tab is closed. Two tabs may still take the lease at the
// same moment; then the server's grace period gives both the same tokens.
async function withLease(lease, storage, term, work) {
  const owner = random()
  const read = () => (storage.getItem(lease) ?? '').split(' ')
  const write = () => storage.setItem(lease, `${owner} ${Date.now() + term}`)
  while (read()[0] !== owner) {
    const left = read()[1] - Date.now()
    if (!(left > 0 && left <= term)) write() // more than term can be left only if the clock was set back
    await new Promise((resolve) => setTimeout(resolve, 60)) // then check whether another tab has written after us
  }
  write() // renew: a tab in the background may have waited long
  try {
    return await work()
  } finally {
    if (read()[0] === owner) storage.removeItem(lease)
  }
}
