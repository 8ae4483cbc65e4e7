// The decoded tokens of the session.

import { make } from './dom.js'
import { currentLanguage, has, t } from './i18n.js'

/** Returns the header and the claims of a token, without verifying its signature: only the server can. */
export function decode(token) {
  if (!token) return undefined
  const json = (part) => JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))))
  const [header, claims] = token.split('.')
  return { header: json(header), claims: json(claims) }
}

/** Returns a card for each token of the session. claims are those of a token in a cookie, which scripts cannot read. */
export function tokenCards(session, claims) {
  const card = (...children) => make('article', { class: 'card' }, ...children)
  if (!session.access_token) return claims ? [card(claimsTable('claims', claims))] : []
  if (session.refresh_token) {
    return ['access', 'refresh'].map((name) => {
      const token = session[`${name}_token`]
      const { header, claims } = decode(token)
      return card(make('h3', {}, t(`${name}Token`)), raw(token), claimsTable('header', header), claimsTable('claims', claims))
    })
  }
  const token = decode(session.access_token)
  return [
    card(make('h3', {}, t('oneToken')), raw(session.access_token), claimsTable('header', token.header)),
    card(claimsTable('claims', token.claims)),
  ]
}

function raw(token) {
  return make('p', { class: 'raw' }, ...token.split('.').flatMap((part, i) => [...(i > 0 ? ['.'] : []), make('span', { class: `part-${i}` }, part)]))
}

const TIMES = ['iat', 'exp', 'nbf', 'auth_time', 'refresh_exp']

function claimsTable(caption, object) {
  const time = new Intl.DateTimeFormat(currentLanguage(), { timeStyle: 'medium' })
  const meaning = (name, value) => {
    const key = `claim_${name}`
    if (!has(key)) return caption === 'claims' ? t('claim_own') : ''
    return t(key, { time: TIMES.includes(name) ? time.format(value * 1000) : '' })
  }
  return make('table', { class: 'claims' }, make('caption', {}, t(caption)), make('tbody', {},
    ...Object.entries(object).map(([name, value]) => make('tr', {},
      make('th', { scope: 'row' }, name),
      make('td', {}, typeof value === 'string' ? value : JSON.stringify(value)),
      make('td', {}, meaning(name, value))))))
}
