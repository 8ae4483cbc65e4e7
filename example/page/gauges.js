// The gauges of the session: how much is left of the token, of the refresh window and of the grace period.

import { $, make } from './dom.js'
import { t } from './i18n.js'
import { clockText } from './timeline.js'

/** Draws the gauges of a history at the time now. limits are in milliseconds: { ttl, refresh, grace }. */
export function drawGauges(past, limits, now) {
  const last = past.tokens.at(-1)
  gauge('ttl', last.expires - now, limits.ttl)
  gauge('refresh', past.deadline - now, limits.refresh)
  gauge('grace', past.tokens.length > 1 ? last.at + limits.grace - now : 0, limits.grace, '–')
}

function gauge(name, left, total, none) {
  left = Math.max(0, left)
  const part = total > 0 ? Math.min(1, left / total) : 0
  const box = $(`gauge-${name}`)
  const value = left === 0 && none ? none : left < 10000 && total < 600000 ? `${(left / 1000).toFixed(1)} s` : clockText(left + 999)
  box.querySelector('.fill').style.transform = `scaleX(${part.toFixed(4)})`
  const text = total > 0 ? `${value} ${t('of', { total: duration(total) })}` : t('noGrace')
  const line = $(`gauge-${name}-value`)
  if (line.dataset.text === text) return
  line.dataset.text = text
  line.replaceChildren(...(total > 0 ? [value, ' ', make('small', {}, t('of', { total: duration(total) }))] : [t('noGrace')]))
  const meter = box.querySelector('.track')
  const percent = String(Math.round(part * 100))
  if (meter.getAttribute('aria-valuenow') === percent) return
  meter.setAttribute('aria-valuenow', percent)
  meter.setAttribute('aria-valuetext', text)
}

/** 90000 → "1.5 min" */
export function duration(ms) {
  for (const [unit, size] of [['d', 86400000], ['h', 3600000], ['min', 60000]]) {
    if (ms >= size) return `${Number((ms / size).toFixed(1))} ${unit}`
  }
  return `${Number((ms / 1000).toFixed(1))} s`
}
