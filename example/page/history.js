// What happened to the session's tokens, as far as this browser saw it. It is kept beside the session, so that all
// tabs and a reload draw the same timeline. An application needs none of this.
//
// A token of the history, in milliseconds of this browser's clock:
//	{ id, session, at, expires, access, refresh, claims }
// session is client.js's id of the session that it came with, at is when it was issued. It was replaced when the
// next one was issued. claims are kept only where cookies hide the token itself.

const KEY = 'ginrefresh.history'

/** The history of the last session: { sid, subject, deadline, ended, tokens } or null. */
export function read() {
  const text = localStorage.getItem(KEY)
  if (text !== parsed.text) parsed = { text, history: JSON.parse(text) } // asked for with every frame
  return parsed.history
}

let parsed = { text: null, history: null }

export const isHistory = (event) => event.key === KEY || event.key === null

function write(history) {
  localStorage.setItem(KEY, JSON.stringify(history))
}

/** Whether the newest token of the history came with this session. */
export const knows = (session) => read()?.tokens.at(-1).session === session.id

/** Adds what a login or refresh answered. claims are the access token's, refreshClaims the refresh token's, if any. */
export function add(session, claims, refreshClaims) {
  const id = (refreshClaims ?? claims).jti
  let history = read()
  if (history?.sid !== claims.sid) history = { sid: claims.sid, subject: claims.sub, ended: null, tokens: [] }
  const known = history.tokens.find((token) => token.id === id)
  if (known) { // the server returned it again, within the grace of the last refresh
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

/** Notes that the session is over, and why. The first reason is the one. */
export function end(code) {
  const history = read()
  if (!history || history.ended) return
  history.ended = { at: Date.now(), code }
  write(history)
}

/** When a token was issued by the server's clock, in milliseconds: jti is <sid>.<microseconds in base 36>. */
export const issued = (jti) => parseInt(jti.slice(jti.lastIndexOf('.') + 1), 36) / 1000

// left is how long a token lives from its issue, to the millisecond: expires_in is rounded to seconds.
const left = (second, jti) => second * 1000 - issued(jti)

/** When token i gets its successor no more: its grace is over, or it is not the last one replaced. */
export function graceEnd({ tokens }, i, grace) {
  return Math.min(tokens[i + 1].at + grace, tokens[i + 2]?.at ?? Infinity)
}

/** The state of token i now: alive, expired, over, grace, replaced or revoked. */
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

/** The text of a token to replay: one that was replaced longer ago than the grace. Undefined if there is none yet. */
export function replayable(history, grace, now) {
  const late = now - 500 // the server's clock is not this one
  const { tokens } = history
  const last = tokens.length - 1
  // Of a token before the last one replaced, the server knows only that it was replaced before that was issued.
  const token = tokens.slice(0, -1).findLast((_, i) => late > tokens[i + 1 < last ? last - 1 : last].at + grace)
  return token?.refresh ?? token?.access
}
