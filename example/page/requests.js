// The log of the page's requests. An entry opens to show its request and its response.

import { curlOf } from './curl.js'
import { $, make } from './dom.js'
import { has, t } from './i18n.js'

/**
 * Returns the log. cookies tells that the tokens are in cookies. onRefused is called with the body of each error response.
 *
 * An entry of the log: { request, response, code, at, count, element }. It is the last one of count equal requests.
 */
export function createRequestLog(cookies, onRefused) {
  let entries = [] // the newest first, as on the page
  let grouping = false // whether an equal request is counted in the newest entry

  /** Does a fetch and logs it. */
  async function send(input, init) {
    const request = new Request(input, init)
    const { method, url } = request
    const body = request.clone().text()
    const entry = { request: { method, url, headers: [...request.headers] }, response: null, code: 'failed', at: new Date(), count: 1 }
    try {
      const response = await fetch(request)
      const { status, statusText, headers } = response
      entry.response = { status, statusText, headers: [...headers], body: await response.clone().text() }
      entry.code = ''
      if (!response.ok) {
        const answer = parse(entry.response.body) ?? {}
        entry.code = answer.code ?? ''
        onRefused(answer)
      }
      return response
    } finally {
      entry.request.body = await body
      add(entry)
    }
  }

  function add(entry) {
    const newest = entries[0]
    if (grouping && newest && summaryText(newest) === summaryText(entry) && entry.at - newest.at < 3000) {
      Object.assign(newest, { ...entry, at: newest.at, count: newest.count + 1 })
      return draw(newest)
    }
    grouping = true
    entry.element = make('details', { class: 'entry', 'data-kind': kindOf(entry), 'data-path': pathOf(entry), 'data-status': statusOf(entry), 'data-code': entry.code },
      make('summary'), make('div', { class: 'exchange' }))
    entry.element.addEventListener('toggle', () => draw(entry))
    entries.unshift(entry)
    draw(entry)
    $('log').prepend(entry.element)
    for (const old of entries.splice(100)) old.element.remove()
  }

  function draw(entry) {
    const { element, code, at, count } = entry
    const hint = `hint_${code}`
    const [summary, exchange] = element.children
    summary.replaceChildren(
      make('time', {}, at.toLocaleTimeString('en-GB')),
      make('span', { class: 'what' }, make('b', {}, entry.request.method), ` ${pathOf(entry)}`, make('span', { class: 'times' }, count > 1 ? ` ×${count}` : '')),
      make('span', { class: 'status' }, statusOf(entry)),
      ...(code ? [make('span', { class: 'code' }, make('code', {}, code), has(hint) ? ` · ${t(hint)}` : '')] : []))
    exchange.replaceChildren(...(element.open ? exchangeOf(entry, cookies) : []))
  }

  /** Starts a new group: equal requests of one group are counted in one entry. */
  function startGroup() {
    grouping = false
  }

  function clear() {
    entries = []
    $('log').replaceChildren()
  }

  /** Draws the entries again, in the current language. */
  const redraw = () => entries.forEach(draw)

  return { send, startGroup, clear, draw: redraw }
}

const pathOf = ({ request }) => new URL(request.url).pathname
const statusOf = ({ response }) => String(response?.status ?? '–')
const summaryText = (entry) => [entry.request.method, pathOf(entry), statusOf(entry), entry.code].join(' ')

function kindOf({ response, code }) {
  if (response?.status < 300) return 'done'
  if (response?.status !== 401) return 'failed'
  return code === 'token_expired' ? 'refused' : 'over'
}

function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

// exchangeOf returns the elements that show the request and the response of an entry.
function exchangeOf({ request, response, count }, cookies) {
  const copy = make('button', { type: 'button', class: 'quiet' }, t('copyCurl'))
  const note = make('p', { class: 'faint', role: 'status' }, t(cookies ? 'copyCurlCookies' : 'copyCurlNote'))
  const command = curlOf(request, cookies)
  copy.addEventListener('click', async () => {
    const copied = await navigator.clipboard?.writeText(command).then(() => true, () => false) // needs https or localhost
    if (copied) note.textContent = t('copied')
    else note.replaceChildren(make('code', {}, command))
  })
  return [
    ...(count > 1 ? [make('p', { class: 'faint' }, t('lastOf', { n: count }))] : []),
    make('h3', {}, t('request')),
    make('pre', {}, message(`${request.method} ${new URL(request.url).pathname}`, request)),
    make('h3', {}, t('response')),
    make('pre', {}, response ? message(`${response.status} ${response.statusText}`.trim(), response) : t('hint_failed')),
    make('p', { class: 'faint' }, t('shortened')),
    make('div', { class: 'copy' }, copy, note),
  ]
}

// message returns the text of a request or a response, with its secrets shortened.
function message(start, { headers, body }) {
  const json = parse(body)
  const text = json === undefined ? body : JSON.stringify(json, null, 2)
  return [start, ...headers.map(([name, value]) => `${name}: ${value}`), ...(body ? ['', text] : [])].join('\n')
    .replace(/\beyJ[\w-]+\.[\w-]+\.[\w-]+/g, (token) => `${token.slice(0, 6)}…${token.slice(-6)}`)
    .replace(/("password": )".*"/, '$1"…"')
}
