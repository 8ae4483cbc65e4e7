// ginrefresh client: a fetch that keeps its session alive. One file, no dependency; copy it into your project.
//
//	const client = createClient({ onLogin: (code) => showLogin(code) })
//	const answer = await fetch('/login', { method: 'POST', headers, body })
//	if (answer.ok) client.save(await answer.json())
//	await client.fetch('/protected')    // adds the token; refreshes and retries once if it has expired
//	await client.logout()
//
// It works with one token, with a token pair and with cookies, by what the login answered. All tabs share one
// session: one of them refreshes, the others take over what it got. See docs/client.md.

// With these codes only a login helps.
const OVER = ['token_missing', 'token_invalid', 'token_revoked', 'token_reused', 'refresh_expired', 'subject_refused']

/**
 * @param {object} [options]
 * @param {string} [options.refreshURL] where the server has RefreshHandler
 * @param {string} [options.logoutURL] where it has LogoutHandler
 * @param {string[]} [options.origins] the only origins that the token is sent to: this page's own
 * @param {Pick<Storage, 'getItem'|'setItem'|'removeItem'>} [options.storage] localStorage, which all tabs share
 * @param {string} [options.key] the session's name in the storage
 * @param {number} [options.timeout] milliseconds for one try to refresh; two of them should fit the server's Grace
 * @param {RequestCredentials} [options.credentials] 'include' for cookies of another origin
 * @param {typeof fetch} [options.fetch] what to send requests with
 * @param {(code: string) => void} [options.onLogin] the session is over and forgotten; code says why
 * @param {(session: object|null, elsewhere: boolean) => void} [options.onChange] new tokens, or none; elsewhere: by another tab
 */
export function createClient(options = {}) {
  const { refreshURL = '/refresh', logoutURL = '/logout', storage = globalThis.localStorage, key = 'ginrefresh' } = options
  const { timeout = 4000, onLogin = () => {}, onChange = () => {}, origins = [globalThis.location?.origin] } = options
  const { credentials = 'same-origin', fetch: send = (...args) => globalThis.fetch(...args) } = options
  let refreshing = null // the refresh under way in this tab

  /** The newest session of all tabs, or null: { access_token, refresh_token, expires_at, refresh_expires_at, … }. */
  const session = () => JSON.parse(storage.getItem(key))
  const isNewest = (used) => session()?.id === used?.id

  /** Keeps what /login, or anything else that answers with tokens, returned. */
  function save(answer) {
    const now = Date.now()
    storage.setItem(key, JSON.stringify({
      login: random(), // the same after a refresh
      ...answer,
      id: random(), // tells new tokens from old ones where cookies hide them
      expires_at: now + answer.expires_in * 1000,
      refresh_expires_at: now + answer.refresh_expires_in * 1000,
    }))
    onChange(session(), false)
  }

  /** Forgets the session in all tabs, without telling the server. */
  function clear() {
    storage.removeItem(key)
    onChange(null, false)
  }

  /** fetch with the session's token. It throws and returns what fetch does; the last answer is what you get. */
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
   * What client.fetch does about a 401 with code, for a request that carried the tokens of the session `used`.
   * Resolves to true if the request should be sent again; false if not; or to the answer of a failed refresh.
   */
  async function recover(code, used) {
    if (!isNewest(used)) return !used || session()?.login === used.login // refreshed since; or somebody else logged in
    // A browser drops the cookie of an expired access token: then the server sees none.
    if (code === 'token_expired' || (code === 'token_missing' && used && !used.access_token)) return (await refresh(used)) ?? true
    giveUp(code, used)
    return false
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
   * Swaps the tokens for new ones, unless that was done since `used` was the newest session: once for all calls
   * and all tabs at a time, so that nobody presents a replaced token late. Resolves to null, or to the answer of a
   * server that did not refresh: 401, and the session is over; 503 or another, and it lives on. Throws as fetch does.
   */
  function refresh(used = session()) {
    refreshing ??= exclusive(key, storage, () => swap(used)).finally(() => { refreshing = null })
    return refreshing.then((refusal) => refusal?.clone() ?? null)
  }

  async function swap(used) {
    if (!isNewest(used)) return null // another tab was faster
    const once = () => post(refreshURL, used, AbortSignal.timeout(timeout))
    // An answer that was lost on its way is asked for again at once: in its grace the server repeats it.
    const response = await once().catch(once)
    if (!response.ok) {
      giveUp(await codeOf(response), used)
      return response
    }
    const answer = await response.json()
    if (isNewest(used)) save({ ...used, ...answer }) // else somebody logged in or out meanwhile
    return null
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

  /** Ends the session on the server and, if that worked or there was none, here. Resolves to the answer. */
  async function logout(url = logoutURL) {
    const used = session()
    const response = await post(url, used)
    if ((response.ok || OVER.includes(await codeOf(response))) && isNewest(used)) clear()
    return response
  }

  globalThis.addEventListener?.('storage', (event) => {
    if (event.key === key || event.key === null) onChange(session(), true)
  })
  return { fetch: authorizedFetch, refresh, recover, logout, save, clear, session }
}

const random = () => Math.random().toString(36).slice(2)

// codeOf is the server's reason for a 401; '' for all other answers.
async function codeOf(response) {
  if (response.status !== 401) return ''
  return (await response.clone().json().catch(() => null))?.code ?? ''
}

// exclusive runs work in one tab at a time. Browsers have Web Locks on https and localhost only; elsewhere a lease
// in the storage does, and the server's grace covers the moment in which two tabs may take it at once.
async function exclusive(name, storage, work) {
  if (globalThis.navigator?.locks) return navigator.locks.request(name, work)
  const lease = `${name}.lease`
  const owner = random()
  const held = () => (storage.getItem(lease) ?? '').split(' ')
  while (held()[0] !== owner) {
    if (!(Number(held()[1]) > Date.now())) storage.setItem(lease, `${owner} ${Date.now() + 10000}`)
    await new Promise((resolve) => setTimeout(resolve, 60)) // and see whether another tab wrote after us
  }
  try {
    return await work()
  } finally {
    if (held()[0] === owner) storage.removeItem(lease)
  }
}
