// The suggested next step. The steps are a tour: each is done when its button has shown one of its results.

import { replayable } from './history.js'

const USED = ['saidHello', 'saidHelloRefreshed', 'saidHelloRenewed', 'saidHelloBound']
const LONGEST = 120000 // milliseconds: the tour skips a longer wait
const MARGIN = 500 // milliseconds: the server's clock may differ

/**
 * Returns the next step { button, text, at }: the id of the button, the key of the text, and the time from which it can be
 * taken. seen has the keys of the results so far. limits are in milliseconds.
 */
export function nextStep({ state, past, settings, limits, seen }, now) {
  if (state === 'over') return { button: 'do-protected', text: 'nextOver', at: now }
  const { at, expires } = past.tokens.at(-1)
  const graceOver = past.tokens.length > 1 ? at + limits.grace + MARGIN : now // until then a refresh returns the same token
  const isReplayable = settings.cookies || past.tokens.length < 2 || replayable(past, limits.grace, now)
  const steps = [
    state === 'alive' && { button: 'do-protected', text: 'nextUse', at: now, results: USED },
    limits.grace > 0 && { button: 'do-parallel', text: 'nextParallel', at: now, results: ['parallelOne', 'parallelCookies', 'parallelBad'] },
    { button: 'do-protected', text: 'nextExpired', at: expires, results: ['saidHelloRefreshed', 'saidHelloBound'] },
    settings.mode === 'single' && { button: 'do-renewing', text: 'nextRenewing', at: Math.min(expires, Math.max(graceOver, expires - limits.ttl / 4 + MARGIN)), results: ['saidHelloRenewed'] },
    { button: 'do-replay', text: 'nextReplay', at: isReplayable ? now : graceOver, results: ['replayed', 'replayCookies', 'replayBound', 'stolenWorthless'] },
  ]
  const step = steps.find((step) => step && !step.results.some((key) => seen.has(key)) && step.at - now < LONGEST)
  return step ?? { button: 'do-logout-all', text: 'nextEnd', at: now }
}
