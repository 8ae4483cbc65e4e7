// The list of the sessions of a user, with buttons that end them.

import { $, make } from './dom.js'
import { currentLanguage, t } from './i18n.js'

/**
 * Returns the list. run runs the action of a button, and end ends a session.
 * The list is hidden until its first update.
 */
export function createSessionList(client, { run, end }) {
  let sessions = []
  let drawn = '' // the sessions and the language of the list on the page

  /**
   * Reads the list again. This is not an action of the user, so it neither refreshes a token nor shows an error: the list
   * stays as it is if the token has expired or the server does not respond.
   */
  async function update() {
    const used = client.session()
    if (!used || used.expires_at <= Date.now()) return
    const headers = used.access_token ? { Authorization: `Bearer ${used.access_token}` } : {}
    const response = await fetch('/sessions', { headers, signal: AbortSignal.timeout(4000) }).catch(() => null)
    if (response?.ok) await show(response, used)
  }

  /** Shows the list of a response to a request that was sent with the session used. */
  async function show(response, used) {
    const answer = await response.json().catch(() => null)
    if (!answer || client.session()?.login !== used.login) return // after a logout or another login
    sessions = answer.sessions
    draw()
  }

  /** Hides the list, because nobody is logged in. */
  function clear() {
    sessions = []
    draw()
  }

  function draw() {
    const key = JSON.stringify([currentLanguage(), sessions])
    if (key === drawn) return
    drawn = key
    const focused = document.activeElement?.id
    $('sessions').hidden = sessions.length === 0
    $('do-logout-others').disabled = sessions.length < 2
    $('session-list').replaceChildren(...sessions.map(row))
    if (focused && document.activeElement === document.body) ($(focused) ?? $('sessions-title')).focus()
  }

  function row(session) {
    const time = new Intl.DateTimeFormat(currentLanguage(), { dateStyle: 'medium', timeStyle: 'medium' })
    const loginAt = time.format(new Date(session.login_at))
    const refreshedAt = session.refreshed_at && time.format(new Date(session.refreshed_at))
    const name = session.label ? make('span', { class: 'mono' }, session.label) : make('span', {}, t('noLabel'))
    name.id = `label-${session.id}`
    return make('li', {},
      make('p', { class: 'name' }, name, ...(session.current ? [make('span', { class: 'pill', 'data-state': 'alive' }, t('thisOne'))] : [])),
      make('p', { class: 'faint' }, make('span', {}, t('loginAt', { time: loginAt })), ' ', make('span', {}, refreshedAt ? t('refreshedAt', { time: refreshedAt }) : t('notRefreshed'))),
      ...(session.current ? [] : [endButton(session)]))
  }

  function endButton(session) {
    const button = make('button', { type: 'button', class: 'ends', id: `end-${session.id}`, 'aria-describedby': `label-${session.id}` }, t('endSession'))
    button.addEventListener('click', () => run(() => end(session)))
    return button
  }

  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) update()
  })
  return { update, show, clear, draw }
}
