// The history of the session's tokens, as this browser saw it. It is stored next to the session, so that all tabs draw the
// same timeline, also after a reload. An application does not need it.
//
// A token in the history:
//	{ id, session, at, expires, access, refresh, claims }
// session is the id that client.js gave the session when it saved the token. at is the time of issue; times are in
// milliseconds of the browser's clock. The token was replaced when the next one was issued. claims is set only for a token
// in a cookie, which scripts cannot read.

const KEY = 'ginrefresh.history'

/** Returns the history of the last session, { sid, subject, deadline, ended, tokens }, or null. */
export function read() {
  const text = localStorage.getItem(KEY)
  if (text !== parsed.text) parsed = { text, history: JSON.parse(text) } // parsed once: every frame reads it
  return parsed.history
}

let parsed = { text: null, history: null }

export const isHistory = (event) => event.key === KEY || event.key === null

function write(history) {
  localStorage.setItem(KEY, JSON.stringify(history))
}

/** Tells whether the newest token of the history was saved with this session. */
export const knows = (session) => read()?.tokens.at(-1).session === session.id

/** Adds the token of a login or refresh. claims are those of the access token, refreshClaims those of the refresh token, if any. */
export function add(session, claims, refreshClaims) {
  const id = (refreshClaims ?? claims).jti
  let history = read()
  if (history?.sid !== claims.sid) history = { sid: claims.sid, subject: claims.sub, ended: null, tokens: [] }
  const known = history.tokens.find((token) => token.id === id)
  if (known) { // within the grace period the server returns the same token again
    known.session = session.id
    return write(history)
  }
  const now = Date.now()
  history.tokens.push({
    id,
    session: session.id,
    at: now,
    expires: Math.min(session.expires_at, now + left(claims.exp, claims.jti)),
    access: session.access_token,
    refresh: session.refresh_token,
    claims: session.access_token ? undefined : claims,
  })
  const deadline = claims.refresh_exp ?? refreshClaims?.exp
  const until = deadline ? now + left(deadline, id) : session.refresh_expires_at
  history.deadline = Math.min(history.deadline ?? Infinity, until, session.refresh_expires_at)
  write(history)
}

/** Records the end of the session and its code. A session ends once: later calls have no effect. */
export function end(code) {
  const history = read()
  if (!history || history.ended) return
  history.ended = { at: Date.now(), code }
  write(history)
}

/** Returns the issue instant by the server's clock, in milliseconds. jti is <sid>.<microseconds in base 36>. */
export const issued = (jti) => parseInt(jti.slice(jti.lastIndexOf('.') + 1), 36) / 1000

// left returns the milliseconds from the issue of a token to a second in its claims. expires_in is only in whole seconds.
const left = (second, jti) => second * 1000 - issued(jti)

/** Returns the end of the grace period of token i. It ends early when the successor of the token is replaced. */
export function graceEnd({ tokens }, i, grace) {
  return Math.min(tokens[i + 1].at + grace, tokens[i + 2]?.at ?? Infinity)
}

/** Returns the state of token i: alive, expired, over, grace, replaced or revoked. */
export function stateOf(history, i, grace, now) {
  const next = history.tokens[i + 1]
  const { ended } = history
  if (next) {
    const until = graceEnd(history, i, grace)
    if (ended && ended.at < until) return 'revoked'
    return now < until ? 'grace' : 'replaced'
  }
  if (ended) return ended.code === 'refresh_expired' ? 'over' : 'revoked'
  if (now < history.tokens[i].expires) return 'alive'
  return now < history.deadline ? 'expired' : 'over'
}

/** Returns a token whose grace period is over, or undefined if there is none yet. */
export function replayable(history, grace, now) {
  const late = now - 500 // the server's clock may differ
  const { tokens } = history
  const last = tokens.length - 1
  // The server stores only the last swap. It judges a token replaced earlier by that swap.
  const token = tokens.slice(0, -1).findLast((_, i) => late > tokens[i + 1 < last ? last - 1 : last].at + grace)
  return token?.refresh ?? token?.access
}
