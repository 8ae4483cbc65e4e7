// ginrefresh client: a fetch that keeps its session alive. One file, no dependency; copy it into your project.
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
 * @param {string[]} [options.origins] the only origins that the token is sent to; by default this page's own
 * @param {Pick<Storage, 'getItem'|'setItem'|'removeItem'>} [options.storage] localStorage by default, which all tabs share
 * @param {string} [options.key] the session's key in the storage
 * @param {number} [options.timeout] milliseconds for one try to refresh; two of them should fit into the server's Grace
 * @param {RequestCredentials} [options.credentials] 'include' for cookies of another origin
 * @param {typeof fetch} [options.fetch] sends the requests
 * @param {(code: string) => void} [options.onLogin] called when the session is over and has been forgotten; code says why
 * @param {(session: object|null, elsewhere: boolean) => void} [options.onChange] called with new tokens, or null; elsewhere: another tab changed them
 */
export function createClient(options = {}) {
  const { refreshURL = '/refresh', logoutURL = '/logout', storage = globalThis.localStorage, key = 'ginrefresh' } = options
  const { timeout = 4000, onLogin = () => {}, onChange = () => {}, origins = [globalThis.location?.origin] } = options
  const { credentials = 'same-origin', fetch: send = (...args) => globalThis.fetch(...args) } = options
  let refreshing = null // this tab's refresh: { id of the session that it replaces, result }
  let pending = null // its request: { used, abort }

  /** The newest session of all tabs, or null: { access_token, refresh_token, expires_at, refresh_expires_at, … }. */
  const session = () => JSON.parse(storage.getItem(key))
  const isNewest = (used) => session()?.id === used?.id
  const isSameLogin = (used) => session()?.login === used?.login

  /** Stores the answer of /login, or any other answer with tokens. */
  function save(answer) {
    const now = Date.now()
    storage.setItem(key, JSON.stringify({
      login: random(), // kept by every refresh
      ...answer,
      id: random(), // tells new tokens from old ones even if they are in cookies
      expires_at: now + answer.expires_in * 1000,
      refresh_expires_at: now + answer.refresh_expires_in * 1000,
    }))
    changed(false)
  }

  /** Forgets the session in all tabs, without telling the server. */
  function clear() {
    storage.removeItem(key)
    changed(false)
  }

  function changed(elsewhere) {
    // After a logout or another login, the cookies of a late answer must not replace the current ones.
    if (pending && !isSameLogin(pending.used)) pending.abort()
    onChange(session(), elsewhere)
  }

  /** fetch with the session's token. It returns the last answer, and throws what fetch throws. */
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
   * Does what client.fetch does after a 401 with code, for a request that was sent with the session `used`.
   * Resolves to true if the request should be sent again, to false if not, or to the answer of a failed refresh.
   */
  async function recover(code, used) {
    if (code !== 'token_expired' && !OVER.includes(code)) return false
    if (isNewest(used)) {
      // A browser drops the cookie of an expired access token: then the server sees none.
      const expired = code === 'token_expired' || (code === 'token_missing' && used && !used.access_token)
      if (!expired) {
        giveUp(code, used)
        return false
      }
      const refusal = await refresh(used)
      if (refusal) return refusal
    }
    return !used || isSameLogin(used) // no longer if the user has logged out, or somebody else has logged in
  }

  async function attempt(request, used) {
    if (used?.access_token) request.headers.set('Authorization', `Bearer ${used.access_token}`)
    const response = await send(request)
    const renewed = /^Bearer (.+)/i.exec(response.headers.get('Authorization') ?? '') // the server's AutoRefresh
    if (renewed && used && isNewest(used)) {
      save({ ...used, access_token: renewed[1], refresh_expires_in: (used.refresh_expires_at - Date.now()) / 1000 })
    }
    return response
  }

  /**
   * Replaces the tokens by new ones, unless that has happened since `used` was the newest session. All calls and all
   * tabs share one refresh, so that none of them presents a replaced token late. Resolves to null, or to the answer of
   * a server that refused: after a 401 the session may be over, after any other answer it lives on. Throws as fetch does.
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
      if (!isNewest(used)) return null // another tab was faster, the user has logged out or somebody has logged in
      try {
        response = await tryRefresh(used)
      } catch (error) {
        // The answer may be lost. Ask again at once: within its grace the server repeats it.
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
      await response.clone().text() // an answer that breaks off is lost, too
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

  /** Ends the session on the server and, if that worked or it was over already, here. Resolves to the answer. */
  async function logout(url = logoutURL) {
    const used = session()
    const response = await post(url, used)
    // A refresh may have replaced the tokens meanwhile. A later login's stay.
    if ((response.ok || OVER.includes(await codeOf(response))) && isSameLogin(used)) clear()
    return response
  }

  globalThis.addEventListener?.('storage', (event) => {
    if (event.key === key || event.key === null) changed(true)
  })
  return { fetch: authorizedFetch, refresh, recover, logout, save, clear, session }
}

const random = () => Math.random().toString(36).slice(2)

// codeOf returns the server's reason for a 401, and '' for all other answers.
async function codeOf(response) {
  if (response.status !== 401) return ''
  return (await response.clone().json().catch(() => null))?.code ?? ''
}

// exclusive runs work in one tab at a time. Browsers have Web Locks on https and localhost only. Elsewhere it uses a
// lease in the storage, which expires after term ms in case its tab dies. Two tabs may still take the lease at the
// same moment; the server's grace covers that.
async function exclusive(name, storage, term, work) {
  if (globalThis.navigator?.locks) return navigator.locks.request(name, work)
  const lease = `${name}.lease`
  const owner = random()
  const read = () => (storage.getItem(lease) ?? '').split(' ')
  const write = () => storage.setItem(lease, `${owner} ${Date.now() + term}`)
  while (read()[0] !== owner) {
    const left = read()[1] - Date.now()
    if (!(left > 0 && left <= term)) write() // more than term is left only if the clock was set back
    await new Promise((resolve) => setTimeout(resolve, 60)) // then see whether another tab has written after us
  }
  write() // a tab in the background may have waited long
  try {
    return await work()
  } finally {
    if (read()[0] === owner) storage.removeItem(lease)
  }
}
