// The ginrefresh client: a fetch that refreshes its tokens. One file without dependencies; copy it into your project.
//
//	const client = createClient({ onLogin: (code) => showLogin(code) })
//	const answer = await fetch('/login', { method: 'POST', headers, body })
//	if (answer.ok) client.save(await answer.json())
//	await client.fetch('/protected')    // adds the token; refreshes and retries once if it has expired
//	await client.logout()
//
// It works with one token, with a token pair and with cookies, depending on what the login returned. All tabs share
// one session: one tab refreshes, and the others pick up its tokens. See docs/client.md.

// After one of these codes the user must log in again.
const OVER = ['token_missing', 'token_invalid', 'token_revoked', 'token_reused', 'refresh_expired', 'subject_refused']

/**
 * @param {object} [options]
 * @param {string} [options.refreshURL] URL of the server's RefreshHandler
 * @param {string} [options.logoutURL] URL of its LogoutHandler
 * @param {string[]} [options.origins] the only origins that receive the token; by default the origin of the page
 * @param {Pick<Storage, 'getItem'|'setItem'|'removeItem'>} [options.storage] localStorage by default, which all tabs share
 * @param {string} [options.key] the key of the session in the storage
 * @param {number} [options.timeout] milliseconds for one attempt to refresh; two attempts should fit into the server's Grace
 * @param {RequestCredentials} [options.credentials] 'include' if the cookies belong to another origin
 * @param {typeof fetch} [options.fetch] sends the requests
 * @param {(code: string) => void} [options.onLogin] called when the session has ended and was removed from the storage; code is the reason
 * @param {(session: object|null, elsewhere: boolean) => void} [options.onChange] called when the session changes; session is null if there is none; elsewhere tells that another tab changed it
 */
export function createClient(options = {}) {
  const { refreshURL = '/refresh', logoutURL = '/logout', storage = globalThis.localStorage, key = 'ginrefresh' } = options
  const { timeout = 4000, onLogin = () => {}, onChange = () => {}, origins = [globalThis.location?.origin] } = options
  const { credentials = 'same-origin', fetch: send = (...args) => globalThis.fetch(...args) } = options
  let refreshing = null // the refresh of this tab: { id of the session to refresh, result }
  let pending = null // the request of that refresh: { used, abort }

  /** Returns the newest session of all tabs, or null: { access_token, refresh_token, expires_at, refresh_expires_at, … }. */
  const session = () => JSON.parse(storage.getItem(key))
  const isNewest = (used) => session()?.id === used?.id
  const isSameLogin = (used) => session()?.login === used?.login

  /** Stores the answer of /login, or any other answer with tokens. */
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
      own.result = exclusive(key, storage, 2 * timeout + 2000, () => swap(used)).finally(() => {
        if (refreshing === own) refreshing = null
      })
      refreshing = own
    }
    return refreshing.result.then((refusal) => refusal?.clone() ?? null)
  }

  async function swap(used) {
    let response = null
    for (let tries = 2; !response; tries--) {
      if (!isNewest(used)) return null // another tab refreshed, or there was a logout or another login
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
    if (isNewest(used)) save({ ...used, ...answer })
    return null
  }

  async function tryRefresh(used) {
    const controller = new AbortController()
    const timer = setTimeout(() => controller.abort(new DOMException(`no answer within ${timeout} ms`, 'TimeoutError')), timeout)
    pending = { used, abort: () => controller.abort() }
    try {
      const response = await post(refreshURL, used, controller.signal)
      await response.clone().text() // fails if the connection breaks before the end of the response
      return response
    } finally {
      clearTimeout(timer)
      pending = null
    }
  }

  function post(url, used, signal) {
    const token = used?.refresh_token ?? used?.access_token
    return send(url, { method: 'POST', headers: token ? { Authorization: `Bearer ${token}` } : {}, credentials, signal })
  }

  function giveUp(code, used) {
    if (!OVER.includes(code) || !isNewest(used)) return
    clear()
    onLogin(code)
  }

  /** Ends the session on the server. If that succeeds, or it had ended already, removes it here. Resolves to the response. */
  async function logout(url = logoutURL) {
    const used = session()
    const response = await post(url, used)
    // A refresh may have replaced the tokens meanwhile: remove those as well, but not the tokens of a later login.
    if ((response.ok || OVER.includes(await codeOf(response))) && isSameLogin(used)) clear()
    return response
  }

  globalThis.addEventListener?.('storage', (event) => {
    if (event.key === key || event.key === null) changed(true)
  })
  return { fetch: authorizedFetch, refresh, recover, logout, save, clear, session }
}

const random = () => Math.random().toString(36).slice(2)

// codeOf returns the error code of a 401, and '' for any other response.
async function codeOf(response) {
  if (response.status !== 401) return ''
  return (await response.clone().json().catch(() => null))?.code ?? ''
}

// exclusive runs work in one tab at a time. Browsers have Web Locks only on https and localhost. Elsewhere it uses a lease
// in the storage, which expires after term ms in case its tab is closed. Two tabs may still take the lease at the same
// moment; then the server's grace period gives both the same tokens.
async function exclusive(name, storage, term, work) {
  if (globalThis.navigator?.locks) return navigator.locks.request(name, work)
  const lease = `${name}.lease`
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
