// The page: it shows the session, and its buttons send requests. For your own project, copy client.js alone.

import { bindToAnotherKey, browserMayBind, isBound } from './bound.js'
import { createClient } from './client.js'
import { createCode } from './code.js'
import { $, make } from './dom.js'
import { drawGauges, duration } from './gauges.js'
import * as history from './history.js'
import { currentLanguage, has, t, translate } from './i18n.js'
import { nextStep } from './next.js'
import { createRequestLog } from './requests.js'
import { createSessionList } from './sessions.js'
import { clockText, createTimeline } from './timeline.js'
import { decode, tokenCards } from './token.js'

const root = document.documentElement
translate()

const [settings, source] = await Promise.all([
  fetch('/settings').then((response) => response.json()),
  fetch('/app.go').then((response) => response.text()),
])
const grace = settings.grace * 1000
const limits = { ttl: settings.ttl * 1000, refresh: settings.refresh_ttl * 1000, grace }
const log = createRequestLog(settings.cookies, ({ error_description: text }) => { storeForgot = text?.includes('lost its record') ?? false })
const client = createClient({ bind: settings.bind !== 'off' && !browserMayBind(settings), fetch: log.send, onLogin: sessionOver, onChange: sessionChanged })
const timeline = createTimeline($('drawing'), t)
const code = createCode(source, settings)
const list = settings.sessions ? createSessionList(client, { run, end: endSession }) : null
let storeForgot = false // whether the last rejected request said so
let bound = false // whether the browser has bound the session
let shown = '' // the state that the slow parts of the page were last drawn for

// ---- The session -------------------------------------------------------------------------------------------

function state(now = Date.now()) {
  const past = history.read()
  if (!past) return 'none'
  if (past.ended || !client.session()) return 'ended'
  return history.stateOf(past, past.tokens.length - 1, grace, now)
}

function sessionChanged(session, elsewhere) {
  if (session?.access_token) {
    history.add(session, decode(session.access_token).claims, decode(session.refresh_token)?.claims)
  } else if (session && !elsewhere && !history.knows(session)) {
    known = claimsFromServer().then((claims) => claims && history.add(session, claims)).then(render)
  }
  render()
  if (elsewhere) list?.update()
}

let known = Promise.resolve() // resolves when the history has the newest token

// claimsFromServer returns the claims of a token in an HttpOnly cookie, which scripts cannot read.
async function claimsFromServer() {
  const response = await client.fetch('/me')
  return response.ok ? response.json() : null
}

// sessionOver tells a session that the store forgot (R20, R21) from one that was revoked: the code is the same, because
// a client does the same.
function sessionOver(code) {
  history.end(code === 'token_revoked' && storeForgot ? 'store_forgot' : code)
  render()
}

// ---- Buttons -----------------------------------------------------------------------------------------------

const jsonBody = (value) => ({ method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(value) })
const bodyOf = (response) => response.json().catch(() => ({}))
const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {})
const newest = () => history.read()?.tokens.at(-1)?.id

async function login() {
  $('problem').textContent = ''
  const response = await client.login('/login', jsonBody({ username: $('username').value, password: $('password').value }))
  const answer = await bodyOf(response)
  if (!response.ok) {
    const hint = `hint_${answer.code}`
    $('problem').textContent = has(hint) ? t(hint) : t('refused', { status: response.status, code: answer.code })
    return
  }
  clearResult()
  await untilBound()
}

// untilBound waits for a browser that binds the session: it makes a key after the login. Other browsers never do.
async function untilBound() {
  const login = client.session()?.login
  for (const pause of [100, 200, 400, 800]) {
    if (!browserMayBind(settings) || bound) return
    await new Promise((resolve) => setTimeout(resolve, pause))
    if (client.session()?.login !== login) return
    await checkBound()
  }
}

// checkBound notices that the browser has bound the session.
async function checkBound() {
  bound = await isBound(settings)
  if (bound) await renewedByCookie()
  renderBound()
}

async function call(path) {
  const before = newest()
  const response = await client.fetch(path)
  const answer = await bodyOf(response)
  if (!response.ok) return refused(response, answer)
  if ((path === '/renewing' || bound) && settings.cookies) await renewedByCookie()
  await known
  const changed = newest() !== before
  const key = !changed ? 'saidHello' : bound ? 'saidHelloBound' : path === '/renewing' ? 'saidHelloRenewed' : 'saidHelloRefreshed'
  say('good', key, { msg: answer.msg })
}

// renewedByCookie checks whether AutoRefresh, or the refresh of the browser, set a new cookie. Scripts cannot see that in
// the response.
async function renewedByCookie() {
  await known
  const session = client.session()
  const claims = await claimsFromServer()
  if (session && claims && claims.jti !== newest()) {
    client.save({ ...session, refresh_expires_in: (session.refresh_expires_at - Date.now()) / 1000 })
  }
}

async function refresh() {
  const before = newest()
  const refusal = await client.refresh()
  if (refusal) return refused(refusal, await bodyOf(refusal))
  await known
  const key = newest() !== before ? 'refreshed' : bound ? 'refreshedBound' : 'refreshedSame'
  say('good', key, { n: history.read().tokens.length })
}

// parallel bypasses client.js, which would send one request, to show that the server does not fork the session. With cookies
// it uses client.js: the browser adds the cookie when it sends a request, so a script cannot send one token many times.
async function parallel() {
  const n = 20
  if (settings.cookies) {
    const refusals = await Promise.all(Array.from({ length: n }, () => client.refresh()))
    await known
    const ok = refusals.filter((refusal) => !refusal).length
    return say(ok === n ? 'good' : 'bad', 'parallelCookies', { n, ok })
  }
  const session = client.session()
  const one = async () => {
    const response = await log.send('/refresh', { method: 'POST', headers: bearer(session.refresh_token ?? session.access_token) })
    return { ok: response.ok, body: await bodyOf(response) }
  }
  const answers = await Promise.all(Array.from({ length: n }, one))
  const good = answers.filter((answer) => answer.ok)
  const tokens = good.map(({ body }) => body.refresh_token ?? body.access_token).filter(Boolean)
  const distinct = new Set(tokens.map((token) => decode(token).claims.jti)).size
  const reused = answers.some(({ body }) => body.code === 'token_reused')
  if (good.length > 0) client.save({ ...session, ...good[0].body })
  if (reused) {
    history.end('token_reused')
    await client.fetch('/me') // the response tells client.js that the session has ended
  }
  const key = reused ? 'parallelNoGrace' : distinct === 1 ? 'parallelOne' : 'parallelBad'
  say(good.length === n ? 'good' : 'bad', key, { n, ok: good.length, distinct })
  $('result').dataset.distinct = distinct
}

// replay presents a token whose grace period is over. If there is none yet, it refreshes and waits.
async function replay() {
  if (bound) return stealCookies()
  if (settings.cookies) return say('', 'replayCookies')
  if (history.read().tokens.length < 2) {
    const refusal = await client.refresh()
    if (refusal) return refused(refusal, await bodyOf(refusal))
  }
  let token
  while (!(token = history.replayable(history.read(), grace, Date.now()))) {
    if (said?.key !== 'replayWaits') say('', 'replayWaits')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  const response = await log.send('/refresh', { method: 'POST', headers: bearer(token) })
  const { code } = await bodyOf(response)
  if (code === 'proof_required') return say('good', 'replayBound', { status: response.status, code })
  if (code !== 'token_reused') return say('bad', 'refused', { status: response.status, code })
  say('bad', 'replayed')
  history.end(code)
  await client.fetch('/protected') // the newest token is revoked as well, so client.js ends the session here
}

// stealCookies shows what the cookies of a bound session are worth without the key of the browser. The browser adds the
// cookies to the request, so the thief has them.
async function stealCookies() {
  const response = await bindToAnotherKey(log.send)
  const { code } = await bodyOf(response)
  say(response.ok ? 'bad' : 'good', response.ok ? 'stolenBound' : 'stolenWorthless', { status: response.status, code })
}

async function logout(url, code) {
  const response = await client.logout(url)
  if (!response.ok) return refused(response, await bodyOf(response))
  history.end(code)
  clearResult()
  render()
}

async function endSession({ id, label }) {
  const response = await client.fetch(`/sessions/${encodeURIComponent(id)}`, { method: 'DELETE' })
  if (!response.ok) return refused(response, await bodyOf(response))
  say('good', 'endedSession', { label: label || t('noLabel') })
}

async function logoutOthers() {
  const response = await client.fetch('/logout/others', { method: 'POST' })
  if (!response.ok) return refused(response, await bodyOf(response))
  say('good', 'endedOthers')
}

// updateList refreshes an expired token, unlike the updates after other actions.
async function updateList() {
  const response = await client.fetch('/sessions')
  if (!response.ok) return refused(response, await bodyOf(response))
  await list.show(response, client.session())
}

function refused(response, { code }) {
  say('bad', 'refused', { status: response.status, code: code ?? '' })
}

const buttons = {
  'do-protected': () => call('/protected'),
  'do-renewing': () => call('/renewing'),
  'do-refresh': refresh,
  'do-parallel': parallel,
  'do-replay': replay,
  'do-logout': () => logout('/logout', 'logout'),
  'do-logout-all': () => logout('/logout/all', 'logout_all'),
}
let busy = false

async function run(action) {
  if (busy) return
  busy = true
  log.startGroup() // the log counts equal requests of one click together
  root.toggleAttribute('data-busy', true)
  try {
    await action()
  } catch (error) {
    // fetch throws these errors if the server does not respond. Any other error is a bug in this page.
    if (!(error instanceof TypeError || error.name === 'TimeoutError')) throw error
    if (client.session()) say('bad', 'failed')
    else $('problem').textContent = t('failedLogin')
  } finally {
    await list?.update()
    busy = false
    root.toggleAttribute('data-busy', false)
  }
}

// ---- Drawing -----------------------------------------------------------------------------------------------

let said = null
const seen = new Set() // the keys of the results so far

function say(kind, key, values) {
  said = { kind, key, values }
  seen.add(key)
  const result = $('result')
  result.dataset.kind = kind
  result.dataset.key = key
  delete result.dataset.distinct
  result.textContent = t(key, values)
}

function clearResult() {
  said = null
  $('result').textContent = ''
  delete $('result').dataset.key
}

const example = {
  deadline: 170000,
  ended: null,
  tokens: [{ id: 'example.7k2m', at: 0, expires: 60000 }, { id: 'example.9xq4', at: 40000, expires: 100000 }, { id: 'example.c31f', at: 78000, expires: 138000 }],
}

// render draws everything that depends on the session, frame everything that depends on time.
function render() {
  shown = ''
  frame()
}

function frame() {
  const now = Date.now()
  const past = history.read()
  const current = state(now)
  const states = past ? past.tokens.map((_, i) => history.stateOf(past, i, grace, now)) : []
  const key = [current, past?.sid, newest(), states, currentLanguage()].join()
  if (key !== shown) {
    shown = key
    renderState(current, past)
    renderTable(past, states)
    renderToken(current)
  }
  if (current === 'none') {
    timeline.draw(example, { mode: settings.mode, grace: 10000, sample: true }, 158000)
    return
  }
  timeline.draw(past, { mode: settings.mode, grace }, now)
  if (current === 'ended') return
  drawGauges(past, limits, now)
  renderNext(nextStep({ state: current, past, settings, limits, seen }, now), now)
}

function renderState(current, past) {
  const over = current === 'none' || current === 'ended'
  const focused = document.activeElement
  root.dataset.state = current
  root.classList.toggle('signed-in', !over)
  root.classList.toggle('signed-out', over)
  root.classList.toggle('ended', current === 'ended')
  $('why').textContent = current === 'ended' ? past.ended?.code ?? 'logout' : ''
  $('title').textContent = t(current === 'ended' ? 'endedTitle' : 'title')
  $('lead').textContent = t(current === 'ended' ? `over_${past.ended?.code ?? 'logout'}` : 'lead')
  $('state').dataset.state = current
  if ($('state').textContent !== t(current)) $('state').textContent = t(current) // screen readers announce a change
  $('subject').textContent = past?.subject ?? '–'
  $('sid').textContent = past ? `sid ${past.sid}` : ''
  if (over) {
    bound = false
    list?.clear()
    clearResult() // it may say that the user is still logged in
  }
  renderBound()
  for (const id of Object.keys(buttons)) $(id).disabled = over
  if (focused && focused !== document.body && focused.getClientRects().length === 0) $(over ? 'title' : 'do-protected').focus()
}

// renderNext marks the button of the next step. If there is nothing to do yet, it counts down to it.
function renderNext({ button, text, at }, now) {
  const write = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text }
  write('next-text', t(text))
  write('next-time', at > now ? ` ${t('nextIn', { time: clockText(at - now + 999) })}` : '')
  for (const id of Object.keys(buttons)) {
    const next = id !== button ? 'no' : at > now ? 'later' : 'now'
    if ($(id).dataset.next === next) continue
    $(id).dataset.next = next
    $(id).removeAttribute('aria-describedby')
    if (next !== 'no') $(id).setAttribute('aria-describedby', 'next-text')
  }
}

function renderBound() {
  $('bound').hidden = !bound && !client.bound
  if ($('bound').textContent !== t('bound')) $('bound').textContent = t('bound')
}

function renderTable(past, states) {
  const time = new Intl.DateTimeFormat(currentLanguage(), { timeStyle: 'medium' })
  const rows = (past?.tokens ?? []).map((token, i) => make('tr', { 'data-state': states[i] },
    make('th', { scope: 'row' }, `#${i + 1}`), make('td', {}, time.format(token.at)), make('td', {}, t(states[i]))))
  $('timeline-table').tBodies[0].replaceChildren(...rows)
  $('timeline-table').hidden = rows.length === 0
  const left = Math.max(0, states.length - timeline.rows())
  $('timeline-note').textContent = past ? (left > 0 ? t('leftOut', { n: left }) : '') : t('sample')
  timeline.label(past ? t('timelineLabel', { n: states.length, state: t(states.at(-1)) }) : t('sampleLabel'))
}

function renderToken(current) {
  const session = client.session()
  if (!session || current === 'ended' || current === 'none') return $('decoded').replaceChildren()
  $('token-note').textContent = t(session.access_token ? 'decodedHere' : 'cookieToken')
  $('decoded').replaceChildren(...tokenCards(session, history.read().tokens.at(-1).claims))
}

function renderSettings() {
  const mode = t(settings.mode)
  $('set-mode').textContent = settings.cookies ? t('withCookies', { mode }) : mode
  $('set-ttl').textContent = duration(limits.ttl)
  $('set-refresh').textContent = duration(limits.refresh)
  $('set-grace').textContent = grace > 0 ? duration(grace) : t('noGrace')
  $('gauge-ttl').querySelector('.note').textContent = t(settings.mode === 'pair' ? 'noteTTLPair' : 'noteTTL')
  if (settings.mode === 'pair') document.querySelector('.legend .expired').textContent = t('legendRefresh')
  log.draw()
  if (said) $('result').textContent = t(said.key, said.values)
}

// ---- Start -------------------------------------------------------------------------------------------------

for (const [id, action] of Object.entries(buttons)) $(id).addEventListener('click', () => run(action))
if (settings.cookies) $('do-parallel').querySelector('small').textContent = '20 × client.refresh()'
$('do-renewing').hidden = settings.mode === 'pair' // AutoRefresh needs one-token mode
$('do-logout-others').addEventListener('click', () => run(logoutOthers))
$('update-sessions').addEventListener('click', () => run(updateList))
$('login').addEventListener('submit', (event) => {
  event.preventDefault()
  run(login)
})
$('clear-log').addEventListener('click', log.clear)
for (const button of document.querySelectorAll('[data-language]')) {
  button.addEventListener('click', () => {
    translate(button.dataset.language)
    renderSettings()
    render()
    list?.draw()
    code.draw()
  })
}
window.addEventListener('storage', (event) => {
  if (history.isHistory(event)) render()
})
new ResizeObserver(() => render()).observe($('drawing'))

renderSettings()
const kept = client.session()
if (kept) sessionChanged(kept, false)
render()
if (kept) checkBound()
list?.update()
root.classList.remove('starting')

// The gauges move about 20 times a second, or 4 times if the user prefers reduced motion.
const calm = matchMedia('(prefers-reduced-motion: reduce)')

function loop() {
  if (root.dataset.state !== 'none' && root.dataset.state !== 'ended') frame()
  setTimeout(() => requestAnimationFrame(loop), calm.matches ? 250 : 40)
}
loop()
