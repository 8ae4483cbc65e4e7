// The timeline: a row for each token, with time on the x axis. Each frame draws all of it, but only changes reach the DOM.

import { graceEnd, stateOf } from './history.js'

const NS = 'http://www.w3.org/2000/svg'
const TOP = 46 // flags and ticks
const ROW = 40
const BAR = 14
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800]

/** @param {HTMLElement} box is filled by the drawing  @param {(key: string, values?: object) => string} t returns a text */
export function createTimeline(box, t) {
  const svg = document.createElementNS(NS, 'svg')
  svg.setAttribute('role', 'img')
  box.append(svg)
  const pool = new Map() // elements by name
  let used = new Set()
  let scaleEnd = 0

  function put(layer, key, tag, attributes, text) {
    let element = pool.get(key)
    if (!element) {
      element = document.createElementNS(NS, tag)
      pool.set(key, element)
      layer.append(element)
    }
    used.add(key)
    for (const [name, value] of Object.entries(attributes)) {
      const rounded = typeof value === 'number' ? String(Math.round(value * 100) / 100) : value
      if (element.getAttribute(name) !== rounded) element.setAttribute(name, rounded)
    }
    if (text !== undefined && element.textContent !== text) element.textContent = text
  }

  function hatch() {
    const pattern = document.createElementNS(NS, 'pattern')
    for (const [name, value] of Object.entries({ id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' })) {
      pattern.setAttribute(name, value)
    }
    const back = document.createElementNS(NS, 'rect')
    back.setAttribute('class', 't-hatch-back')
    back.setAttribute('width', '6')
    back.setAttribute('height', '6')
    const line = document.createElementNS(NS, 'path')
    line.setAttribute('class', 't-hatch-line')
    line.setAttribute('d', 'M1 0v6')
    pattern.append(back, line)
    const defs = document.createElementNS(NS, 'defs')
    defs.append(pattern)
    svg.append(defs)
  }
  hatch()
  const [back, middle, front] = [0, 1, 2].map(() => svg.appendChild(document.createElementNS(NS, 'g')))

  /** Draws history at the time now. settings: { mode, grace in ms, sample }. */
  function draw(history, settings, now) {
    used = new Set()
    const width = box.clientWidth
    if (width === 0) return
    const narrow = isNarrow(width)
    const gutter = narrow ? 78 : 118
    const { tokens, deadline, ended } = history
    const first = Math.max(0, tokens.length - rowsFor(width))
    const rows = tokens.slice(first)
    const over = Math.max(deadline, tokens.at(-1).expires) // the last token may expire after the deadline
    const clock = Math.min(now, ended?.at ?? Infinity, over)
    const height = TOP + Math.max(rows.length, narrow ? 3 : 5) * ROW + 6

    // x converts a time to pixels. The end of the scale moves gradually, so that a new token does not make the drawing jump.
    const start = rows[0].at
    const horizon = Math.max(rows.at(-1).expires, clock)
    const wanted = horizon + (horizon - start) * 0.06 + 200
    scaleEnd = settings.sample || scaleEnd < start || matchMedia('(prefers-reduced-motion: reduce)').matches || Math.abs(wanted - scaleEnd) < 50
      ? wanted : scaleEnd + (wanted - scaleEnd) * 0.18
    const right = width - 6
    const x = (time) => gutter + ((Math.min(Math.max(time, start), scaleEnd) - start) / (scaleEnd - start)) * (right - gutter)

    svg.setAttribute('viewBox', `0 0 ${width} ${height}`)
    svg.setAttribute('height', height)
    svg.classList.toggle('sample', Boolean(settings.sample))

    ticks(start - tokens[0].at, scaleEnd - tokens[0].at, (offset) => x(offset + tokens[0].at), height)
    if (deadline <= scaleEnd) {
      put(back, 'deadline', 'path', { class: 't-deadline', d: `M${x(deadline)} 20V${height}` })
      put(back, 'deadline-label', 'text', { class: 't-deadline-label', x: x(deadline), y: 12, 'text-anchor': 'end' }, 'refresh_ttl')
    }
    rows.forEach((token, i) => row(token, first + i, TOP + i * ROW))
    if (ended) {
      put(front, 'end', 'path', { class: 't-end', d: `M${x(ended.at)} 20V${height}` })
      flag('end-flag', 't-end-flag', x(ended.at), t(`mark_${ended.code}`), gutter, right)
    } else if (clock < over) {
      put(front, 'now', 'path', { class: 't-now', d: `M${x(clock)} 20V${height}` })
      flag('now-flag', 't-now-flag', x(clock), t('now'), gutter, right)
    }

    for (const [key, element] of pool) {
      if (!used.has(key)) {
        element.remove()
        pool.delete(key)
      }
    }

    function row(token, n, y) {
      const state = stateOf(history, n, settings.grace, now)
      const next = tokens[n + 1]
      const key = (part) => `${token.id} ${part}`
      const axis = y + ROW / 2
      const pair = settings.mode === 'pair'
      const barY = pair ? axis - 11 : axis - BAR / 2

      put(middle, key('name'), 'text', { class: 't-name', x: 0, y: axis - 2 }, narrow ? `#${n + 1}` : `#${n + 1} …${token.id.slice(-4)}`)
      put(middle, key('state'), 'text', { class: `t-state ${state}`, x: 0, y: axis + 12 }, t(`short_${state}`))

      // The token used on requests. A refresh replaces it in one-token mode, but not in pair mode.
      const cut = Math.min(ended?.at ?? Infinity, pair ? Infinity : next?.at ?? Infinity)
      const lifeEnd = Math.min(token.expires, cut)
      const barState = pair && state !== 'revoked' && clock < token.expires ? 'alive' : state
      bar(key('life'), `t-life ${barState}`, token.at, lifeEnd, barY)
      bar(key('lived'), `t-lived ${barState}`, token.at, Math.min(lifeEnd, clock), barY)
      if (ended && !next && token.expires > ended.at) bar(key('lost'), 't-lost', ended.at, token.expires, barY)

      // The token that can be refreshed: in one-token mode the same token after it expired, in pair mode the refresh token.
      const lineY = pair ? axis + 10 : axis
      const from = pair ? token.at : token.expires
      const until = Math.min(clock, deadline, next?.at ?? Infinity)
      if (until > from) put(middle, key('waits'), 'path', { class: `t-waits ${state}`, d: `M${x(from)} ${lineY}H${x(until)}` })

      if (next && settings.grace > 0) {
        const until = Math.min(graceEnd(history, n, settings.grace), ended?.at ?? Infinity)
        if (until > next.at) bar(key('grace'), 't-grace', next.at, until, pair ? lineY - 4 : barY, pair ? 8 : BAR)
      }
      if (n > first) put(middle, key('thread'), 'path', { class: 't-thread', d: `M${x(token.at)} ${lineY - ROW}V${axis}` })
      put(middle, key('knot'), 'circle', { class: n === 0 ? 't-knot first' : 't-knot', cx: x(token.at), cy: pair ? barY + BAR / 2 : axis, r: 4.5 })
    }

    function bar(key, classes, from, to, y, thick = BAR) {
      const left = x(from)
      put(middle, key, 'rect', { class: classes, x: left, y, width: Math.max(0, x(to) - left), height: thick, rx: Math.min(3, thick / 2) })
    }
  }

  function ticks(from, to, x, height) {
    const room = (x(to) - x(from)) / 72
    const step = (STEPS.find((s) => (to - from) / 1000 / s <= room) ?? 604800) * 1000
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      put(back, `grid ${at}`, 'path', { class: 't-grid', d: `M${x(at)} ${TOP - 6}V${height}` })
      put(back, `tick ${at}`, 'text', { class: 't-tick', x: x(at), y: TOP - 12, 'text-anchor': 'middle' }, clockText(at))
    }
  }

  function flag(key, classes, at, text, min, max) {
    const half = [...text].reduce((sum, char) => sum + (char > '\u2e80' ? 11.5 : 6.4), 0) / 2 + 7
    const centre = Math.min(Math.max(at, min - 10 + half), max + 6 - half)
    put(front, key, 'rect', { class: classes, x: centre - half, y: 0, width: half * 2, height: 18, rx: 9 })
    put(front, `${key} text`, 'text', { class: 't-now-label', x: centre, y: 13, 'text-anchor': 'middle' }, text)
  }

  return { draw, rows: () => rowsFor(box.clientWidth), label: (text) => svg.setAttribute('aria-label', text) }
}

const isNarrow = (width) => width < 520
const rowsFor = (width) => (isNarrow(width) ? 8 : 10)

/** 75000 → "1:15"; a day or more → "2 d 03:00". */
export function clockText(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const two = (n) => String(n).padStart(2, '0')
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60]
  if (d > 0) return `${d} d ${two(h)}:${two(m)}`
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`
}
