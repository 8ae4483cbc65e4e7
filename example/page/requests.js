// The log of the page's requests.

import { $, make } from './dom.js'
import { has, t } from './i18n.js'

/** Returns the log. onRefused is called with the body of each error response. */
export function createRequestLog(onRefused) {
  let last = null // { text, at, count, element }

  /** Does a fetch and logs it. */
  async function send(input, init) {
    const request = new Request(input, init)
    const entry = { method: request.method, path: new URL(request.url).pathname, at: new Date() }
    try {
      const response = await fetch(request)
      entry.status = response.status
      if (!response.ok) {
        const answer = await response.clone().json().catch(() => ({}))
        entry.code = answer.code
        onRefused(answer)
      }
      return response
    } catch (error) {
      entry.status = '–'
      entry.code = 'failed'
      throw error
    } finally {
      add(entry)
    }
  }

  function add({ method, path, status, code, at }) {
    const text = [method, path, status, code].join(' ')
    if (last?.text === text && at - last.at < 3000) {
      last.count++
      last.element.querySelector('.times').textContent = ` ×${last.count}`
      return
    }
    const kind = status < 300 ? 'done' : status === 401 && code === 'token_expired' ? 'refused' : status === 401 ? 'over' : 'failed'
    const element = make('div', { class: 'entry', 'data-kind': kind, 'data-path': path, 'data-status': status, 'data-code': code ?? '' },
      make('time', {}, at.toLocaleTimeString('en-GB')),
      make('span', { class: 'what' }, make('b', {}, method), ` ${path}`, make('span', { class: 'times' })),
      make('span', { class: 'status' }, String(status)))
    if (code) {
      const line = make('span', { class: 'code' })
      element.append(line)
      explain(line, code)
    }
    $('log').prepend(element)
    while ($('log').childElementCount > 100) $('log').lastChild.remove()
    last = { text, at, element, count: 1 }
  }

  function explain(line, code) {
    const hint = `hint_${code}`
    line.replaceChildren(make('code', {}, code), has(hint) ? ` · ${t(hint)}` : '')
  }

  /** Starts a new group: equal requests of one group are counted in one entry. */
  function startGroup() {
    last = null
  }

  function clear() {
    $('log').replaceChildren()
    last = null
  }

  /** Draws the texts again, in the current language. */
  function draw() {
    for (const line of document.querySelectorAll('.entry .code')) explain(line, line.firstChild.textContent)
  }

  return { send, startGroup, clear, draw }
}
