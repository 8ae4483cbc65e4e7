// Tests of client.js. The server is a function. Tests that would have to wait mock the time.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { beforeEach, test } from 'node:test'
import { createClient } from '../client.js'

const ORIGIN = 'https://app.example'
const OVER = ['token_missing', 'token_invalid', 'token_revoked', 'token_reused', 'refresh_expired', 'subject_refused']
const sleep = setTimeout // the real timer, also while a test mocks the time
const json = (status, body, headers) => new Response(status === 204 ? null : JSON.stringify(body), { status, headers })
const refused = (code) => json(code === 'store_unavailable' ? 503 : 401, { code })
const lost = () => { throw new TypeError('Failed to fetch') }
const tokens = (access, refresh) => ({ access_token: access, refresh_token: refresh, token_type: 'Bearer', expires_in: 60, refresh_expires_in: 600 })
const wants = (good) => (token) => (token === good ? json(200, { msg: 'hello' }) : refused('token_expired'))

function storage() {
  const map = new Map()
  return { getItem: (key) => map.get(key) ?? null, setItem: (key, value) => map.set(key, value), removeItem: (key) => map.delete(key) }
}

// webLocks returns Web Locks like those of a browser on https. held lists the names that were locked.
function webLocks() {
  const queues = {}
  const held = []
  const next = (name) => {
    const { holder, waiting } = queues[name]
    if (!holder && waiting.length > 0) waiting.shift()()
  }
  const request = (name, ...args) => new Promise((resolve, reject) => {
    const [work, { signal, steal } = {}] = args.reverse()
    const queue = (queues[name] ??= { holder: null, waiting: [] })
    const take = () => {
      held.push(name)
      const holder = queue.holder = { rob: () => reject(new DOMException('stolen', 'AbortError')) }
      Promise.resolve().then(work).then(resolve, reject).finally(() => {
        if (queue.holder === holder) queue.holder = null
        next(name)
      })
    }
    if (steal) {
      queue.holder?.rob()
      return take()
    }
    queue.waiting.push(take)
    signal?.addEventListener('abort', () => {
      const at = queue.waiting.indexOf(take)
      if (at < 0) return // it was granted
      queue.waiting.splice(at, 1)
      reject(signal.reason)
    })
    next(name)
  })
  return { request, held }
}

// noLocks are Web Locks that exclude nobody, as if every tab had stolen them.
const noLocks = { request: (name, ...args) => args.at(-1)() }

// Newer versions of Node define navigator.
const browser = (locks) => Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true })
beforeEach(() => browser(webLocks()))

// setup returns a tab: a client and a server that answers by path. requests lists the requests, such as "POST /refresh t1".
function setup(routes, options = {}) {
  const requests = []
  const events = []
  const signals = []
  const shared = options.storage ?? storage()
  const send = async (input, init) => {
    const request = input instanceof Request ? input : new Request(new URL(input, ORIGIN), init)
    const token = (request.headers.get('Authorization') ?? '').replace('Bearer ', '')
    const path = new URL(request.url).pathname
    requests.push([request.method, path, token].join(' ').trim())
    signals.push(request.signal)
    const answer = async () => {
      await new Promise((resolve) => sleep(resolve, options.delay ?? 1))
      return routes[path](token, request)
    }
    const aborted = new Promise((_, reject) => request.signal.addEventListener('abort', () => reject(request.signal.reason)))
    return Promise.race([answer(), aborted])
  }
  const client = createClient({
    refreshURL: `${ORIGIN}/refresh`, logoutURL: `${ORIGIN}/logout`, origins: [ORIGIN], storage: shared, fetch: send,
    onLogin: (code) => events.push(code), ...options.client,
  })
  return { client, requests, events, signals, storage: shared, get: (path) => client.fetch(ORIGIN + path) }
}

// held returns a route that waits until the test calls answer. asked resolves when a request arrives.
function held() {
  let answer, request
  const answered = new Promise((resolve) => { answer = resolve })
  const asked = new Promise((resolve) => { request = resolve })
  const route = async () => {
    request()
    const make = await answered
    return make()
  }
  return { route, asked, answer }
}

// storageListeners collects the storage event listeners of clients that are created afterwards.
function storageListeners(t) {
  const listeners = []
  globalThis.addEventListener = (name, listener) => { if (name === 'storage') listeners.push(listener) }
  t.after(() => delete globalThis.addEventListener)
  return listeners
}

const refreshes = (...tabs) => tabs.flatMap((tab) => tab.requests).filter((r) => r.startsWith('POST /refresh'))

// mockTime stops the clock. It returns a function that advances it by so many milliseconds.
function mockTime(t, offset = 0) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1700000000000 + offset })
  const settle = () => new Promise((resolve) => sleep(resolve, 15))
  return async (ms) => {
    await settle()
    for (; ms > 0; ms -= 20) {
      t.mock.timers.tick(Math.min(ms, 20))
      await new Promise(setImmediate)
    }
    await settle()
  }
}

// ---- Requests ----------------------------------------------------------------------------------------------

test('a request carries the token, but only to the own origin', async () => {
  const { client, requests, get } = setup({ '/a': () => json(200, {}) })
  client.save(tokens('t1'))
  await get('/a')
  await client.fetch('https://elsewhere.example/a')
  assert.deepEqual(requests, ['GET /a t1', 'GET /a'])
})

test('requests have the configured credentials', async () => {
  for (const credentials of ['same-origin', 'include']) {
    const seen = []
    const note = (answer) => (_, request) => { seen.push(request.credentials); return answer() }
    const { client, get } = setup({ '/a': note(() => json(200, {})), '/refresh': note(() => json(200, tokens('t2'))), '/logout': note(() => json(204)) },
      { client: credentials === 'include' ? { credentials } : {} })
    client.save(tokens('t1'))
    await get('/a')
    await client.refresh()
    await client.logout()
    assert.deepEqual(seen, [credentials, credentials, credentials])
  }
})

test('an expired token is refreshed once, and the request is sent again with its body', async () => {
  const bodies = []
  const { client, requests } = setup({
    '/a': async (token, request) => {
      bodies.push(await request.text())
      return wants('t2')(token)
    },
    '/refresh': () => json(200, tokens('t2')),
  })
  client.save(tokens('t1'))
  const answer = await client.fetch(`${ORIGIN}/a`, { method: 'POST', body: 'hello' })
  assert.equal(answer.status, 200)
  assert.deepEqual(requests, ['POST /a t1', 'POST /refresh t1', 'POST /a t2'])
  assert.deepEqual(bodies, ['hello', 'hello'])
})

test('with a token pair, the refresh token is sent to /refresh and the access token to all other URLs', async () => {
  const { client, requests, get } = setup({ '/a': wants('a2'), '/refresh': () => json(200, tokens('a2', 'r2')), '/logout': () => json(204) })
  client.save(tokens('a1', 'r1'))
  assert.equal((await get('/a')).status, 200)
  await client.logout()
  assert.deepEqual(requests, ['GET /a a1', 'POST /refresh r1', 'GET /a a2', 'POST /logout r2'])
  assert.equal(client.session(), null)
})

for (const code of ['token_expired', 'token_missing']) {
  test(`with cookies, ${code} leads to a refresh, and no token is sent`, async () => {
    let fresh = false
    const { client, requests, get } = setup({
      '/a': () => (fresh ? json(200, {}) : refused(code)),
      '/refresh': () => {
        fresh = true
        return json(200, { expires_in: 60, refresh_expires_in: 600 })
      },
    })
    client.save({ expires_in: 60, refresh_expires_in: 600 })
    assert.equal((await get('/a')).status, 200)
    assert.deepEqual(requests, ['GET /a', 'POST /refresh', 'GET /a'])
  })
}

test('with cookies, a session without its cookies has ended', async () => {
  const { client, requests, events, get } = setup({ '/a': () => refused('token_missing'), '/refresh': () => refused('token_missing') })
  client.save({ expires_in: 60, refresh_expires_in: 600 })
  assert.equal((await get('/a')).status, 401)
  assert.deepEqual(requests, ['GET /a', 'POST /refresh'])
  assert.deepEqual(events, ['token_missing'])
  assert.equal(client.session(), null)
})

test('a request is refreshed at most once', async () => {
  let n = 1
  const { client, requests, get } = setup({ '/a': () => refused('token_expired'), '/refresh': () => json(200, tokens(`t${++n}`)) })
  client.save(tokens('t1'))
  assert.equal((await get('/a')).status, 401)
  assert.deepEqual(requests, ['GET /a t1', 'POST /refresh t1', 'GET /a t2'])
  assert.ok(client.session())
})

test('a request that another refresh overtook is sent again with the new token', async () => {
  const { client, requests, events, get } = setup({
    '/a': (token) => {
      if (token === 't2') return json(200, {})
      client.save({ ...client.session(), ...tokens('t2') }) // another tab refreshed, and the grace period is over
      return refused('token_revoked')
    },
  })
  client.save(tokens('t1'))
  assert.equal((await get('/a')).status, 200)
  assert.deepEqual(requests, ['GET /a t1', 'GET /a t2'])
  assert.deepEqual(events, [])
})

test('parallel requests make one refresh', async () => {
  const { client, requests, get } = setup({ '/a': wants('t2'), '/refresh': () => json(200, tokens('t2')) })
  client.save(tokens('t1'))
  const answers = await Promise.all(Array.from({ length: 20 }, () => get('/a')))
  assert.ok(answers.every((answer) => answer.ok))
  assert.equal(requests.filter((r) => r.startsWith('POST /refresh')).length, 1)
})

test('forced refreshes that get the same token again keep the session', async () => {
  const { client, requests, events } = setup({ '/refresh': () => json(200, tokens('t2')) })
  client.save(tokens('t1'))
  const { login } = client.session()
  for (let i = 0; i < 2; i++) assert.equal(await client.refresh(), null)
  assert.deepEqual(requests, ['POST /refresh t1', 'POST /refresh t2'])
  assert.deepEqual([client.session().access_token, client.session().login, ...events], ['t2', login])
})

test('without a session a request carries no token, and cookies alone can be refreshed', async () => {
  let fresh = false
  const { client, requests, get } = setup({
    '/a': () => (fresh ? json(200, {}) : refused('token_expired')),
    '/refresh': () => { fresh = true; return json(200, { expires_in: 60, refresh_expires_in: 600 }) },
  })
  assert.equal((await get('/a')).status, 200)
  assert.deepEqual(requests, ['GET /a', 'POST /refresh', 'GET /a'])
  assert.ok(client.session())
})

// ---- The end of a session ----------------------------------------------------------------------------------

for (const code of OVER) {
  test(`${code} ends the session, on a request and on a refresh`, async () => {
    const events = []
    const onLogin = (event) => events.push(`${event}, session ${first.client.session()}`) // the session is removed before the call
    const first = setup({ '/a': () => refused(code) }, { client: { onLogin } })
    first.client.save(tokens('t1'))
    const refusals = await Promise.all([first.get('/a'), first.get('/a'), first.get('/a')])
    assert.deepEqual(refusals.map(({ status }) => status), [401, 401, 401])
    assert.deepEqual(events, [`${code}, session null`])
    assert.equal(first.client.session(), null)
    assert.deepEqual(first.requests, ['GET /a t1', 'GET /a t1', 'GET /a t1'])

    const second = setup({ '/a': () => refused('token_expired'), '/refresh': () => refused(code) })
    second.client.save(tokens('t1'))
    const answers = await Promise.all([second.get('/a'), second.get('/a'), second.client.refresh()])
    for (const answer of answers) assert.equal((await answer.json()).code, code)
    assert.deepEqual(second.events, [code])
    assert.equal(second.client.session(), null)
    assert.deepEqual(refreshes(second), ['POST /refresh t1'])
  })
}

test('a rejected successor ends the session as well', async () => {
  const { client, events, get } = setup({ '/a': (token) => refused(token === 't2' ? 'subject_refused' : 'token_expired'), '/refresh': () => json(200, tokens('t2')) })
  client.save(tokens('t1'))
  assert.equal((await (await get('/a')).json()).code, 'subject_refused')
  assert.deepEqual(events, ['subject_refused'])
  assert.equal(client.session(), null)
})

// Responses of a server, or of a proxy in front of it, that do not end a session.
const harmless = {
  '503': () => json(503, { code: 'store_unavailable' }),
  '503 with the code of a refusal': () => json(503, { code: 'token_revoked' }),
  '500': () => json(500, { code: 'token_revoked' }),
  '403': () => json(403, { code: 'token_revoked' }),
  '400': () => json(400, { code: 'token_invalid' }),
  '401 without a code': () => json(401, { message: 'who are you?' }),
  '401 without JSON': () => new Response('<html>', { status: 401 }),
  '401 null': () => json(401, null),
  '401 login_too_old': () => refused('login_too_old'),
  '401 invalid_credentials': () => refused('invalid_credentials'),
}
for (const [name, answer] of Object.entries(harmless)) {
  test(`a ${name} is returned to the caller and the session continues, for a request, a refresh and a logout`, async () => {
    const { client, requests, events, get } = setup({ '/a': answer, '/b': () => refused('token_expired'), '/refresh': answer, '/logout': answer })
    client.save(tokens('t1'))
    const { status } = answer()
    assert.equal((await get('/a')).status, status)
    assert.deepEqual(requests, ['GET /a t1'])
    assert.equal((await client.refresh()).status, status)
    assert.equal((await get('/b')).status, status) // the response of the refresh
    assert.equal((await client.logout()).status, status)
    assert.deepEqual(requests.slice(1), ['POST /refresh t1', 'GET /b t1', 'POST /refresh t1', 'POST /logout t1'])
    assert.deepEqual(events, [])
    assert.equal(client.session().access_token, 't1')
  })
}

test('without a network the session continues, and the caller gets the error', async () => {
  const { client, events, get } = setup({ '/a': () => refused('token_expired'), '/b': lost, '/refresh': lost, '/logout': lost })
  client.save(tokens('t1'))
  await assert.rejects(get('/a'), TypeError)
  await assert.rejects(get('/b'), TypeError)
  await assert.rejects(client.refresh(), TypeError)
  await assert.rejects(client.logout(), TypeError)
  assert.deepEqual(events, [])
  assert.equal(client.session().access_token, 't1')
})

for (const code of OVER) {
  test(`${code} clears only the session that the request was for`, async () => {
    for (const [newer, login] of [['t2', 'the same'], ['bob1', 'another']]) {
      const [refresh, request] = [held(), held()]
      const shared = storage()
      const one = setup({ '/refresh': refresh.route, '/a': (token) => (token === 't1' ? request.route() : json(200, {})) }, { storage: shared })
      const two = setup({}, { storage: shared })
      one.client.save(tokens('t1'))
      const [refreshed, got] = [one.client.refresh(), one.get('/a')]
      await refresh.asked
      await request.asked
      two.client.save(login === 'another' ? tokens(newer) : { ...two.client.session(), ...tokens(newer) })
      refresh.answer(() => refused(code))
      request.answer(() => refused(code))
      assert.equal((await (await refreshed).json()).code, code)
      assert.equal((await got).status, login === 'another' ? 401 : 200)
      assert.equal(one.client.session().access_token, newer)
      assert.deepEqual(one.events, [])
    }
  })
}

test('other refusals are not sent again, even if another tab has refreshed meanwhile', async () => {
  for (const code of ['login_too_old', 'invalid_credentials', '']) {
    const { client, requests, events, get } = setup({
      '/a': () => {
        client.save({ ...client.session(), ...tokens('t2') })
        return refused(code)
      },
    })
    client.save(tokens('t1'))
    assert.equal((await get('/a')).status, 401)
    assert.equal(requests.length, 1)
    assert.deepEqual(events, [])
    assert.ok(client.session())
  }
})

// ---- Logout and login during a refresh, if the lock does not hold ------------------------------------------

for (const [who, sameTab] of [['this tab', true], ['another tab', false]]) {
  for (const first of ['refresh', 'logout']) {
    test(`after a logout during a refresh of ${who}, the session is gone, if the ${first} is answered first`, async () => {
      browser(noLocks)
      const [refresh, logout] = [held(), held()]
      const shared = storage()
      const routes = { '/a': wants('t2'), '/refresh': refresh.route, '/logout': logout.route }
      const one = setup(routes, { storage: shared })
      const two = sameTab ? one : setup(routes, { storage: shared })
      one.client.save(tokens('t1'))
      const request = two.get('/a')
      await refresh.asked
      const leaving = one.client.logout()
      await logout.asked
      if (first === 'refresh') {
        refresh.answer(() => json(200, tokens('t2')))
        await request
        assert.equal(one.client.session().access_token, 't2')
        logout.answer(() => json(204))
        await leaving
      } else {
        logout.answer(() => json(204))
        await leaving
        refresh.answer(() => json(200, tokens('t2')))
        assert.equal((await request).status, 401) // the request is not sent again
        assert.equal(two.requests.filter((r) => r.startsWith('GET /a')).length, 1)
      }
      assert.equal(shared.getItem('ginrefresh'), null)
      assert.deepEqual([...one.events, ...two.events], [])
    })

    test(`the session of a later login stays, if the ${first} of ${who} is answered first`, async () => {
      browser(noLocks)
      const [refresh, logout] = [held(), held()]
      const shared = storage()
      const routes = { '/a': wants('t2'), '/refresh': refresh.route, '/logout': logout.route }
      const one = setup(routes, { storage: shared })
      const two = sameTab ? one : setup(routes, { storage: shared })
      one.client.save(tokens('alice1'))
      const request = two.get('/a')
      await refresh.asked
      const leaving = one.client.logout()
      await logout.asked
      one.client.save(tokens('bob1'))
      const answers = [() => refresh.answer(() => json(200, tokens('alice2'))), () => logout.answer(() => json(204))]
      const order = first === 'refresh' ? answers : answers.toReversed()
      for (const answer of order) answer()
      await leaving
      assert.equal((await request).status, 401)
      assert.equal(one.client.session().access_token, 'bob1')
      assert.deepEqual([...one.events, ...two.events], [])
    })
  }
}

for (const code of OVER) {
  test(`a logout during a refresh that is answered ${code} removes the session`, async () => {
    browser(noLocks)
    const [refresh, logout] = [held(), held()]
    const { client, events } = setup({ '/refresh': refresh.route, '/logout': logout.route })
    client.save(tokens('t1'))
    const refreshed = client.refresh()
    await refresh.asked
    const leaving = client.logout()
    refresh.answer(() => json(200, tokens('t2')))
    await refreshed
    logout.answer(() => refused(code))
    assert.equal((await leaving).status, 401)
    assert.equal(client.session(), null)
    assert.deepEqual(events, []) // the caller knows it from the response
  })
}

test('a logout by another URL, and without a session', async () => {
  const { client, requests } = setup({ '/logout/all': () => json(204), '/logout': () => refused('token_missing') })
  client.save(tokens('t1'))
  assert.equal((await client.logout(`${ORIGIN}/logout/all`)).status, 204)
  assert.equal(client.session(), null)
  assert.equal((await client.logout()).status, 401)
  assert.deepEqual(requests, ['POST /logout/all t1', 'POST /logout'])
})

test('a token of AutoRefresh that arrives during a logout is removed, too', async () => {
  const logout = held()
  const { client, get } = setup({ '/a': () => json(200, {}, { Authorization: 'Bearer t2' }), '/logout': logout.route })
  client.save(tokens('t1'))
  const leaving = client.logout()
  await logout.asked
  await get('/a')
  assert.equal(client.session().access_token, 't2')
  logout.answer(() => json(204))
  await leaving
  assert.equal(client.session(), null)
})

// Events that end the login of a refresh in progress.
const endings = {
  'a logout': (client) => client.clear(),
  'another login': (client) => client.save(tokens('bob1')),
}
for (const [what, ending] of Object.entries(endings)) {
  test(`a refresh that comes back after ${what} changes nothing`, async () => {
    const { client } = setup({ '/refresh': () => { ending(client); return json(200, tokens('t2')) } })
    client.save(tokens('t1'))
    assert.equal(await client.refresh(), null)
    assert.equal(client.session()?.access_token, what === 'a logout' ? undefined : 'bob1')
  })

  test(`after ${what} during its refresh, a request is not sent again`, async () => {
    const refresh = held()
    const { client, requests, events, get } = setup({ '/a': wants('t2'), '/refresh': refresh.route })
    client.save(tokens('t1'))
    const request = get('/a')
    await refresh.asked
    ending(client)
    refresh.answer(() => json(200, tokens('t2')))
    assert.equal((await (await request).json()).code, 'token_expired')
    assert.deepEqual(requests, ['GET /a t1', 'POST /refresh t1'])
    assert.deepEqual(events, [])
  })

  test(`${what} aborts the refresh, which is not retried: with cookies, its response would replace the current ones`, async (t) => {
    const listeners = storageListeners(t)
    for (const elsewhere of [false, true]) {
      const refresh = held()
      const shared = storage()
      const one = setup({ '/refresh': refresh.route }, { storage: shared })
      const storageEvent = listeners.at(-1)
      const two = elsewhere ? setup({}, { storage: shared }) : one
      one.client.save(tokens('t1'))
      const refreshed = one.client.refresh()
      await refresh.asked
      ending(two.client)
      if (elsewhere) storageEvent({ key: 'ginrefresh' })
      assert.equal(one.signals[0].aborted, true)
      assert.equal(await refreshed, null)
      assert.deepEqual(one.requests, ['POST /refresh t1'])
      assert.equal(one.client.session()?.access_token, what === 'a logout' ? undefined : 'bob1')
    }
  })

  test(`after ${what} a lost refresh is not retried`, async () => {
    const { client, requests } = setup({ '/refresh': () => { ending(client); return lost() } })
    client.save(tokens('t1'))
    assert.equal(await client.refresh(), null)
    assert.deepEqual(requests, ['POST /refresh t1'])

    let tries = 0
    const second = setup({ '/refresh': () => { if (++tries === 2) ending(second.client); return lost() } })
    second.client.save(tokens('t1'))
    assert.equal(await second.client.refresh(), null)
    assert.equal(tries, 2)
  })
}

test('new tokens of the same login do not abort a refresh', async () => {
  const refresh = held()
  const { client, signals } = setup({ '/refresh': refresh.route })
  client.save(tokens('t1'))
  const refreshed = client.refresh()
  await refresh.asked
  client.save({ ...client.session(), ...tokens('t2') }) // AutoRefresh was faster
  refresh.answer(() => json(200, tokens('t2')))
  assert.equal(await refreshed, null)
  assert.equal(signals[0].aborted, false)
})

test('a request of a later login waits for its own refresh', async () => {
  const refresh = held()
  const { client, requests, events } = setup({ '/refresh': (token) => (token === 'alice1' ? refresh.route() : json(200, tokens('bob2'))) })
  client.save(tokens('alice1'))
  const alice = client.refresh()
  await refresh.asked
  client.save(tokens('bob1'))
  const bob = client.refresh()
  const again = client.refresh()
  refresh.answer(() => refused('token_revoked'))
  await alice
  assert.equal(await bob, null)
  assert.equal(await again, null)
  assert.deepEqual(requests, ['POST /refresh alice1', 'POST /refresh bob1'])
  assert.deepEqual(events, [])
  assert.equal(client.session().access_token, 'bob2')
})

test('requests of a later login share a refresh, also when the earlier one has ended', async () => {
  const [alice, bob] = [held(), held()]
  const { client, requests } = setup({ '/refresh': (token) => (token === 'alice1' ? alice : bob).route() })
  client.save(tokens('alice1'))
  const first = client.refresh()
  await alice.asked
  client.save(tokens('bob1'))
  const second = client.refresh()
  await first
  await bob.asked
  const third = client.refresh()
  bob.answer(() => refused('store_unavailable'))
  assert.deepEqual([(await second).status, (await third).status], [503, 503])
  assert.deepEqual(requests, ['POST /refresh alice1', 'POST /refresh bob1'])
})

test('a request is never sent again for another user', async () => {
  const { client, requests, get } = setup({
    '/a': () => {
      client.save(tokens('bob1')) // in another tab, meanwhile
      return refused('token_expired')
    },
  })
  client.save(tokens('alice1'))
  assert.equal((await get('/a')).status, 401)
  assert.deepEqual(requests, ['GET /a alice1'])
  assert.equal(client.session().access_token, 'bob1')
})

// ---- Lost responses and timeouts ---------------------------------------------------------------------------

test('a refresh whose response is lost is retried with the same token', async () => {
  const brokenOff = () => new Response(new ReadableStream({ pull: (controller) => controller.error(new TypeError('terminated')) }))
  for (const failure of [lost, brokenOff]) {
    let tries = 0
    const { client, requests } = setup({ '/refresh': () => (++tries === 1 ? failure() : json(200, tokens('t2'))) })
    client.save(tokens('t1'))
    assert.equal(await client.refresh(), null)
    assert.deepEqual(requests, ['POST /refresh t1', 'POST /refresh t1'])
    assert.equal(client.session().access_token, 't2')
  }
})

test('the response to the second attempt counts', async () => {
  for (const [answer, session, heard] of [[() => refused('token_reused'), undefined, ['token_reused']], [() => refused('store_unavailable'), 't1', []]]) {
    let tries = 0
    const { client, requests, events } = setup({ '/refresh': () => (++tries === 1 ? lost() : answer()) })
    client.save(tokens('t1'))
    assert.equal((await client.refresh()).status, answer().status)
    assert.deepEqual(requests, ['POST /refresh t1', 'POST /refresh t1'])
    assert.equal(client.session()?.access_token, session)
    assert.deepEqual(events, heard)
  }
})

const hang = () => new Promise(() => {})
const hangInBody = (status) => (_, { signal }) => new Response(new ReadableStream({
  start: (controller) => signal.addEventListener('abort', () => controller.error(signal.reason)),
}), { status })

for (const [name, options, limit] of [['4 s', {}, 4000], ['the configured timeout', { timeout: 600 }, 600]]) {
  test(`a server that hangs gets two attempts, each with ${name}`, async (t) => {
    const pass = mockTime(t)
    const { client, requests, signals, events } = setup({ '/refresh': hang }, { client: options })
    client.save(tokens('t1'))
    let result = 'waits'
    client.refresh().then(() => { result = 'done' }, (error) => { result = error.name })
    await pass(limit - 20)
    assert.deepEqual([requests.length, result], [1, 'waits'])
    await pass(40)
    assert.deepEqual([requests.length, signals[0].aborted, result], [2, true, 'waits'])
    await pass(limit - 60)
    assert.equal(result, 'waits')
    await pass(80)
    assert.deepEqual([requests.length, signals[1].aborted, result], [2, true, 'TimeoutError'])
    assert.equal(client.session().access_token, 't1')
    assert.deepEqual(events, [])
  })
}

for (const [name, first] of [['not answered', hang], ['answered incompletely', hangInBody(200)], ['rejected incompletely', hangInBody(401)]]) {
  test(`if the first attempt is ${name}, the second has its full timeout, and its response counts`, async (t) => {
    const pass = mockTime(t)
    const second = held()
    let tries = 0
    const { client } = setup({ '/refresh': (...args) => (++tries === 1 ? first(...args) : second.route()) }, { client: { timeout: 1000 } })
    client.save(tokens('t1'))
    let result = 'waits'
    client.refresh().then((refusal) => { result = refusal }, (error) => { result = error.name })
    await pass(980)
    assert.equal(tries, 1)
    await pass(40)
    assert.equal(tries, 2)
    await pass(940)
    assert.equal(result, 'waits')
    second.answer(() => json(200, tokens('t2')))
    await pass(0)
    assert.equal(result, null)
    assert.equal(client.session().access_token, 't2')
  })
}

test('a response in time stops the timer', async (t) => {
  const pass = mockTime(t)
  const { client, signals } = setup({ '/refresh': () => json(200, tokens('t2')) })
  client.save(tokens('t1'))
  const refreshed = client.refresh()
  await pass(20)
  assert.equal(await refreshed, null)
  await pass(5000)
  assert.equal(signals[0].aborted, false)
})

// ---- The lock of refresh, login and logout -----------------------------------------------------------------

const kinds = { 'Web Locks': webLocks, 'the lease': () => undefined }
const term = 10_000 // of the lock, with the default timeout
const within = (promise, ms) => Promise.race([promise, new Promise((resolve) => sleep(resolve, ms, 'nothing'))])

// sessionServer is a server with one session per user, and the cookie jar of a browser. It handles a request when it
// arrives. If slow names its path, its first answer to this path waits for answer, and the cookie changes only then.
function sessionServer(cookies, slow) {
  const server = { jar: null, alive: new Set(['alice']), n: 1 }
  const arrived = new Promise((resolve) => { server.arrived = resolve })
  const answered = new Promise((resolve) => { server.answer = resolve })
  let waits = true
  const userOf = (token) => token?.split('.')[0]
  const route = (path, handle) => async (token, request) => {
    const [user, code] = handle(userOf(cookies ? server.jar : token), new URL(request.url).searchParams.get('user'))
    const next = user && `${user}.${++server.n}`
    if (path === slow && waits) {
      waits = false
      server.arrived()
      await answered
    }
    if (request.signal.aborted) throw request.signal.reason
    if (code) return refused(code)
    if (cookies) server.jar = next
    const body = tokens(next)
    return json(user ? 200 : 204, cookies ? { ...body, access_token: undefined, user } : { ...body, user })
  }
  server.routes = {
    '/refresh': route('/refresh', (user) => (server.alive.has(user) ? [user] : [null, 'token_revoked'])),
    '/login': route('/login', (user, next) => {
      if (cookies) server.alive.delete(user) // R16
      server.alive.add(next)
      return [next]
    }),
    '/logout': route('/logout', (user) => (server.alive.delete(user) ? [null] : [null, 'token_revoked'])),
  }
  const first = cookies ? { ...tokens(), user: 'alice' } : { ...tokens('alice.1'), user: 'alice' }
  if (cookies) server.jar = 'alice.1'
  return { ...server, arrived, first, current: () => [server.jar, server.alive] }
}

const actions = {
  refresh: (client) => client.refresh(),
  logout: (client) => client.logout(),
  'login of bob': (client) => client.login(`${ORIGIN}/login?user=bob`),
  'login of carol': (client) => client.login(`${ORIGIN}/login?user=carol`),
}
const pathOf = (action) => `/${action.split(' ')[0]}`

// Which user has a session after both actions, the second of which begins while the first waits for its answer.
const races = [
  ['refresh', 'login of bob', 'bob'], ['login of bob', 'refresh', 'bob'],
  ['refresh', 'logout', undefined], ['logout', 'refresh', undefined],
  ['logout', 'login of bob', 'bob'], ['login of bob', 'logout', undefined],
  ['login of bob', 'login of carol', 'carol'],
]
for (const [kind, locks] of Object.entries(kinds)) {
  for (const [first, second, user] of races) {
    for (const where of ['one tab', 'two tabs']) {
      for (const cookies of [false, true]) {
        test(`a ${first}, then a ${second}, in ${where} with ${cookies ? 'cookies' : 'tokens'} and ${kind}`, async () => {
          browser(locks())
          const server = sessionServer(cookies, pathOf(first))
          const one = setup(server.routes)
          const two = where === 'one tab' ? one : setup(server.routes, { storage: one.storage })
          one.client.save(server.first)
          const begun = actions[first](one.client)
          await server.arrived
          const next = actions[second](two.client)
          await within(next, 100) // without the lock, the second action overtakes the answer to the first
          server.answer()
          await begun
          await next
          const [jar, alive] = server.current()
          assert.equal(one.client.session()?.user, user)
          assert.deepEqual([...one.events, ...two.events], [])
          if (cookies) {
            assert.equal(jar?.split('.')[0], user)
            assert.deepEqual([...alive], user ? [user] : []) // every other session has ended
          } else if (user) {
            assert.ok(alive.has(user))
          }
          assert.equal(one.storage.getItem('ginrefresh.lease'), null)
        })
      }
    }
  }

  test(`actions of one tab run in the order of the calls, with ${kind}`, async () => {
    browser(locks())
    const { routes, first, current } = sessionServer(true)
    const { client, requests } = setup(routes)
    client.save(first)
    await Promise.all(['refresh', 'logout', 'login of bob', 'login of carol', 'logout', 'login of bob'].map((action) => actions[action](client)))
    assert.deepEqual(requests, ['POST /refresh', 'POST /logout', 'POST /login', 'POST /login', 'POST /logout', 'POST /login'])
    assert.deepEqual([client.session().user, [...current()[1]]], ['bob', ['bob']])
  })

  test(`a login within onLogin is not locked out, with ${kind}`, async () => {
    for (const ending of ['refresh', 'request']) {
      browser(locks())
      let login
      const { client, get } = setup({
        '/a': (token) => (token === 't2' ? json(200, {}) : refused(ending === 'refresh' ? 'token_expired' : 'token_revoked')),
        '/refresh': () => refused('token_revoked'),
        '/login': () => json(200, tokens('t2')),
      }, { client: { onLogin: () => { login = client.login(`${ORIGIN}/login`).then(() => get('/a')) } } })
      client.save(tokens('t1'))
      assert.equal((await within(get('/a'), 2000)).status, 401)
      assert.equal((await within(login, 2000)).status, 200)
      assert.equal(client.session().access_token, 't2')
    }
  })

  test(`a logout while requests wait for the refresh sends the newest token, with ${kind}`, async () => {
    browser(locks())
    const refresh = held()
    const { client, requests, get } = setup({ '/a': wants('t2'), '/refresh': refresh.route, '/logout': () => json(204) })
    client.save(tokens('t1'))
    const waiting = [get('/a'), get('/a')]
    await refresh.asked
    const leaving = client.logout()
    refresh.answer(() => json(200, tokens('t2')))
    const answers = await within(Promise.all([leaving, ...waiting]), 2000)
    assert.deepEqual(answers.map(({ status }) => status), [204, 200, 200])
    assert.ok(requests.includes('POST /logout t2'))
    assert.equal(client.session(), null)
  })

  test(`a login or a logout that fails releases the lock, with ${kind}`, async () => {
    const failures = { '/login': (client) => client.login(`${ORIGIN}/login`), '/logout': (client) => client.logout() }
    for (const [path, fail] of Object.entries(failures)) {
      for (const answer of [() => refused('invalid_credentials'), () => refused('store_unavailable'), lost]) {
        browser(locks())
        const { client } = setup({ [path]: answer, '/refresh': () => json(200, tokens('t2')) })
        client.save(tokens('t1'))
        const [failed, refusal] = await within(Promise.all([fail(client).catch((error) => error), client.refresh()]), 2000)
        assert.ok(failed instanceof TypeError || failed.status >= 400)
        assert.equal(refusal, null)
        assert.equal(client.session().access_token, 't2')
      }
    }
  })

  for (const action of ['refresh', 'login of bob', 'logout']) {
    for (const where of ['its tab', 'another tab']) {
      test(`a ${action} in ${where} waits for a login that hangs until the lock expires, with ${kind}`, async (t) => {
        const pass = mockTime(t)
        browser(locks())
        const shared = storage()
        const { routes } = sessionServer(false)
        const login = (token, request) => (request.url.includes('user=') ? routes['/login'](token, request) : hang())
        const one = dying(shared, { ...routes, '/login': login })
        const two = where === 'its tab' ? one : setup(routes, { storage: shared })
        one.client.save(tokens('alice.1'))
        one.client.login(`${ORIGIN}/login`)
        await pass(60)
        assert.deepEqual(one.requests.splice(0), ['POST /login'])
        if (two !== one) one.die()
        let result = 'waits'
        actions[action](two.client).then(() => { result = 'done' })
        await pass(term - 120)
        assert.deepEqual([two.requests, result], [[], 'waits'])
        await pass(400)
        assert.deepEqual([two.requests, result], [[`POST ${pathOf(action)}${action === 'login of bob' ? '' : ' alice.1'}`], 'done'])
      })
    }
  }
}

test('the lease goes to the first action of a tab that waits, not to the first that looks', async (t) => {
  const pass = mockTime(t)
  browser(undefined)
  const { routes, first, answer } = sessionServer(false, '/refresh')
  const { client, requests } = setup(routes)
  client.save(first)
  client.refresh()
  await pass(60)
  client.logout()
  await pass(40)
  actions['login of bob'](client)
  await pass(40) // the logout looked 20 ms ago and looks again after 40 ms; the login looks after 20 ms
  answer()
  for (let i = 0; i < 8; i++) await pass(60)
  assert.deepEqual(requests, ['POST /refresh alice.1', 'POST /logout alice.2', 'POST /login'])
  assert.equal(client.session().user, 'bob')
})

test('a tab whose lock was stolen gets its answer, and the lock goes on', async (t) => {
  const pass = mockTime(t)
  const locks = webLocks()
  browser(locks)
  const shared = storage()
  const slow = held()
  const [one, two] = ['one', 'two'].map(() => setup({ '/login': slow.route, '/refresh': () => json(200, tokens('t2')) }, { storage: shared }))
  one.client.save(tokens('t1'))
  const login = one.client.login(`${ORIGIN}/login`)
  await slow.asked
  let refused = 'waits'
  two.client.refresh().then((refusal) => { refused = refusal })
  await pass(term + 100)
  assert.equal(refused, null)
  slow.answer(() => json(200, tokens('bob1')))
  assert.equal((await login).status, 200)
  assert.equal(one.client.session().access_token, 'bob1')
  assert.equal(await one.client.refresh(), null)
  assert.equal(one.client.session().access_token, 't2')
  assert.equal(locks.held.length, 3)
})

test('a sandboxed page, which has no Web Locks, can log in, refresh and log out', async () => {
  const refuse = async () => { throw new DOMException('sandboxed', 'SecurityError') }
  browser({ request: refuse })
  const { client, requests } = setup(sessionServer(false).routes)
  await actions['login of bob'](client)
  assert.equal(await client.refresh(), null)
  assert.equal((await client.logout()).status, 204)
  assert.equal(requests.length, 3)
  const failing = setup({ '/login': lost })
  await assert.rejects(actions['login of bob'](failing.client), TypeError)
})

// ---- Several tabs ------------------------------------------------------------------------------------------

test('two tabs make one refresh, with Web Locks', async () => {
  const locks = webLocks()
  browser(locks)
  const shared = storage()
  const written = []
  const noting = { ...shared, setItem: (key, value) => { written.push(key); shared.setItem(key, value) } }
  const routes = { '/a': wants('t2'), '/refresh': () => json(200, tokens('t2')) }
  const [one, two] = [setup(routes, { storage: noting, delay: 20 }), setup(routes, { storage: noting, delay: 25 })]
  one.client.save(tokens('t1'))
  const answers = await Promise.all([one.get('/a'), two.get('/a'), one.get('/a')])
  assert.ok(answers.every((answer) => answer.ok))
  assert.deepEqual(refreshes(one, two), ['POST /refresh t1'])
  assert.deepEqual(locks.held, ['ginrefresh', 'ginrefresh'])
  assert.deepEqual(written, ['ginrefresh', 'ginrefresh'])
})

test('without Web Locks, two tabs make one refresh', async () => {
  browser(undefined)
  const shared = storage()
  const routes = { '/a': wants('t2'), '/refresh': () => json(200, tokens('t2')) }
  const [one, two] = [setup(routes, { storage: shared, delay: 20 }), setup(routes, { storage: shared, delay: 25 })]
  one.client.save(tokens('t1'))
  const answers = await Promise.all([one.get('/a'), two.get('/a'), one.get('/a')])
  assert.ok(answers.every((answer) => answer.ok))
  assert.deepEqual(refreshes(one, two), ['POST /refresh t1'])
  assert.equal(shared.getItem('ginrefresh.lease'), null)
})

test('without Web Locks, two tabs that write the lease at the same moment make one refresh', async () => {
  browser(undefined)
  const shared = storage()
  let early = true // the second tab reads before the first one writes
  const stale = {
    ...shared,
    getItem: (key) => (early && key.endsWith('.lease') ? null : shared.getItem(key)),
    setItem: (key, value) => { early = false; shared.setItem(key, value) },
  }
  const routes = { '/refresh': () => json(200, tokens('t2')) }
  const [one, two] = [setup(routes, { storage: shared }), setup(routes, { storage: stale })]
  one.client.save(tokens('t1'))
  assert.deepEqual(await Promise.all([one.client.refresh(), two.client.refresh()]), [null, null])
  assert.deepEqual([one.requests, two.requests], [[], ['POST /refresh t1']]) // the last writer has the lease
  assert.equal(one.client.session().access_token, 't2')
  assert.equal(shared.getItem('ginrefresh.lease'), null)
})

test('the lease is released, however the refresh ends', async () => {
  browser(undefined)
  for (const answer of [() => json(200, tokens('t2')), () => refused('token_revoked'), () => refused('store_unavailable'), lost]) {
    let during = null
    const { client, storage: shared } = setup({ '/refresh': () => { during = shared.getItem('ginrefresh.lease'); return answer() } })
    client.save(tokens('t1'))
    await client.refresh().catch(() => {})
    assert.notEqual(during, null)
    assert.equal(shared.getItem('ginrefresh.lease'), null)
  }
})

test('the lease is not removed if another tab has taken it', async () => {
  browser(undefined)
  const { client, storage: shared } = setup({ '/refresh': () => { shared.setItem('ginrefresh.lease', 'another'); return json(200, tokens('t2')) } })
  client.save(tokens('t1'))
  await client.refresh()
  assert.equal(shared.getItem('ginrefresh.lease'), 'another')
})

// dying returns a tab that takes the lease. After die it does not release it.
function dying(shared, routes, options) {
  let dead = false
  const write = (name) => (...args) => { if (!dead) shared[name](...args) }
  const tab = setup(routes, { ...options, storage: { getItem: shared.getItem, setItem: write('setItem'), removeItem: write('removeItem') } })
  return { ...tab, die: () => { dead = true } }
}

for (const [name, options, term] of [['4 s', {}, 10000], ['20 s', { timeout: 20000 }, 42000]]) {
  test(`with a timeout of ${name}, another tab takes the lease of a dead tab when it expires, and not before`, async (t) => {
    const pass = mockTime(t)
    browser(undefined)
    const shared = storage()
    const [one, two] = [dying(shared, { '/refresh': hang }, { client: options }), setup({ '/refresh': () => json(200, tokens('t2')) }, { storage: shared, client: options })]
    one.client.save(tokens('t1'))
    one.client.refresh().catch(() => {})
    await pass(60)
    assert.deepEqual(one.requests, ['POST /refresh t1'])
    one.die()
    let result = 'waits'
    two.client.refresh().then((refusal) => { result = refusal })
    await pass(term - 60)
    assert.deepEqual([two.requests, result], [[], 'waits'])
    await pass(240)
    assert.deepEqual([two.requests, result], [['POST /refresh t1'], null])
    assert.equal(two.client.session().access_token, 't2')
    assert.equal(shared.getItem('ginrefresh.lease'), null)
  })

  test(`with a timeout of ${name}, the lease lasts for both attempts of a live tab`, async (t) => {
    const pass = mockTime(t)
    browser(undefined)
    const shared = storage()
    const [one, two] = [setup({ '/refresh': hang }, { storage: shared, client: options }), setup({ '/refresh': () => json(200, tokens('t2')) }, { storage: shared, client: options })]
    one.client.save(tokens('t1'))
    let error
    one.client.refresh().catch((reason) => { error = reason })
    // A tab in the background: its timer is late, and the lease is almost over by then.
    await pass(0)
    t.mock.timers.tick(term - 100)
    two.client.refresh()
    await pass(term - 2000 - 100)
    assert.deepEqual([one.requests.length, two.requests.length, error], [2, 0, undefined])
    await pass(400)
    assert.equal(error.name, 'TimeoutError')
    assert.deepEqual(two.requests, ['POST /refresh t1'])
  })
}

test('another tab takes the lease of a dead tab if the clock was set back', async (t) => {
  browser(undefined)
  const shared = storage()
  const one = dying(shared, { '/refresh': hang })
  let pass = mockTime(t)
  one.client.save(tokens('t1'))
  one.client.refresh().catch(() => {})
  await pass(60)
  one.die()
  t.mock.timers.reset()
  pass = mockTime(t, -3600000)
  const two = setup({ '/refresh': () => json(200, tokens('t2')) }, { storage: shared })
  two.client.refresh()
  await pass(240)
  assert.deepEqual(two.requests, ['POST /refresh t1'])
})

test('sessions under different keys do not wait for each other', async () => {
  for (const locks of [webLocks(), undefined]) {
    browser(locks)
    const shared = storage()
    const slow = held()
    const one = setup({ '/refresh': slow.route }, { storage: shared })
    const two = setup({ '/refresh': () => json(200, tokens('b2')) }, { storage: shared, client: { key: 'other' } })
    one.client.save(tokens('a1'))
    two.client.save(tokens('b1'))
    const waiting = one.client.refresh()
    await slow.asked
    assert.equal(await two.client.refresh(), null)
    assert.deepEqual([one.client.session().access_token, two.client.session().access_token], ['a1', 'b2'])
    slow.answer(() => json(200, tokens('a2')))
    await waiting
  }
})

test('onChange is called for every change, also of other tabs', async (t) => {
  const listeners = storageListeners(t)
  const changes = []
  const onChange = (session, elsewhere) => changes.push([session?.access_token ?? null, elsewhere])
  const { client, storage: shared } = setup({ '/refresh': () => json(200, tokens('t2')), '/logout': () => json(204) }, { client: { onChange } })
  client.save(tokens('t1'))
  await client.refresh()
  await client.logout()
  assert.deepEqual(changes.splice(0), [['t1', false], ['t2', false], [null, false]])

  const other = setup({}, { storage: shared })
  const tell = listeners[0]
  other.client.save(tokens('t3'))
  tell({ key: 'ginrefresh' })
  tell({ key: 'something else' })
  shared.removeItem('ginrefresh')
  tell({ key: null }) // all of the storage was cleared
  assert.deepEqual(changes, [['t3', true], [null, true]])
})

test('the new token of AutoRefresh is saved, unless there is a newer one', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1700000000000 })
  const renewed = (token) => json(200, {}, { Authorization: `Bearer ${token}` })
  const one = setup({ '/a': () => renewed('t2') })
  one.client.save(tokens('t1'))
  const { login, refresh_expires_at: deadline } = one.client.session()
  t.mock.timers.tick(100000)
  await one.get('/a')
  const session = one.client.session()
  assert.deepEqual([session.access_token, session.login], ['t2', login])
  assert.deepEqual([session.expires_at, session.refresh_expires_at], [Date.now() + 60000, deadline])

  const late = setup({ '/a': () => { late.client.save(tokens('t3')); return renewed('t2') } })
  late.client.save(tokens('t1'))
  await late.get('/a')
  assert.equal(late.client.session().access_token, 't3')

  const none = setup({ '/a': () => renewed('t2') })
  await none.get('/a')
  assert.equal(none.client.session(), null)
})

// ---- axios -------------------------------------------------------------------------------------------------

// recipe returns the api of a recipe in docs/client.md, for a client of the tests.
async function recipe(name, client) {
  const code = await readFile(new URL(`recipes/${name}.js`, import.meta.url), 'utf8')
  const { default: axios } = await import('axios')
  const api = new Function('axios', 'client', `${code.replace(/^import .*$/gm, '').replace('export ', '')}; return api`)(axios, client)
  api.defaults.baseURL = ORIGIN
  return { axios, api }
}

test('axios with client.fetch', async () => {
  const { client, requests } = setup({ '/a': wants('t2'), '/refresh': () => json(200, tokens('t2')) })
  const { api } = await recipe('axios-fetch', client)
  client.save(tokens('t1'))
  const answers = await Promise.all([api.get('/a'), api.post('/a', { x: 1 })])
  assert.ok(answers.every((answer) => answer.data.msg === 'hello'))
  assert.equal(requests.filter((r) => r.startsWith('POST /refresh')).length, 1)
})

test('axios with interceptors', async () => {
  const { client, requests, events } = setup({ '/refresh': () => json(200, tokens('t2')) })
  const { axios, api } = await recipe('axios', client)
  const heard = []
  const codes = { t1: 'token_expired', t2: undefined, t3: 'token_revoked' }
  api.defaults.adapter = async (config) => {
    const token = String(config.headers.get('Authorization')).replace('Bearer ', '')
    heard.push(`${token} ${config.data ?? ''}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
    const code = codes[token]
    const response = { status: code ? 401 : 200, data: code ? { code } : { msg: 'hello' }, headers: {}, config, request: {} }
    if (code) throw new axios.AxiosError(code, 'ERR_BAD_REQUEST', config, {}, response)
    return response
  }
  client.save(tokens('t1'))
  const answers = await Promise.all([api.get('/a'), api.get('/a'), api.post('/a', { x: 1 })])
  assert.ok(answers.every((answer) => answer.data.msg === 'hello'))
  assert.deepEqual(requests, ['POST /refresh t1'])
  assert.deepEqual(heard.sort(), ['t1 ', 't1 ', 't1 {"x":1}', 't2 ', 't2 ', 't2 {"x":1}'])

  client.save(tokens('t3'))
  await assert.rejects(api.get('/a'), (error) => error.response.data.code === 'token_revoked')
  assert.equal(client.session(), null)
  assert.deepEqual(events, ['token_revoked'])

  codes.t2 = 'token_expired' // the successor has expired as well
  client.save(tokens('t1'))
  await assert.rejects(api.get('/a'), (error) => error.response.data.code === 'token_expired')
  assert.equal(requests.length, 2)
  assert.ok(client.session())
})

// ---- Bound sessions ----------------------------------------------------------------------------------------

// indexedDBs returns an IndexedDB that keeps its values in kept. Transactions run one after another.
function indexedDBs(kept = new Map()) {
  let last = Promise.resolve()
  const request = (work) => {
    const r = {}
    setImmediate(() => {
      try {
        r.result = work()
        r.onsuccess?.()
      } catch (error) {
        r.error = error
        r.onerror?.()
      }
    })
    return r
  }
  // The requests of a transaction wait for the earlier transactions. It ends when it has no more requests.
  const transaction = () => {
    const before = last
    let open = 0
    let end
    last = new Promise((resolve) => { end = resolve })
    const queued = (work) => {
      const r = {}
      open++
      before.then(() => {
        const run = request(work)
        run.onsuccess = () => {
          r.result = run.result
          r.onsuccess()
          setImmediate(() => --open || end())
        }
      })
      return r
    }
    const objectStore = () => ({ get: (name) => queued(() => kept.get(name)), put: (value, name) => queued(() => kept.set(name, value)) })
    return { objectStore }
  }
  const open = () => {
    const r = request(() => {
      r.result = { createObjectStore() {}, transaction, close() {} }
      r.onupgradeneeded?.()
      return r.result
    })
    return r
  }
  return { open, kept }
}

// withIndexedDB gives the browser a disk for keys. It returns the keys.
function withIndexedDB(t, idb = indexedDBs()) {
  globalThis.indexedDB = idb
  t.after(() => delete globalThis.indexedDB)
  return idb.kept
}

const without = (t, name) => {
  const original = Object.getOwnPropertyDescriptor(globalThis, name)
  Object.defineProperty(globalThis, name, { value: undefined, configurable: true })
  t.after(() => Object.defineProperty(globalThis, name, original))
}

// opened verifies a proof and returns its header and claims.
async function opened(request) {
  const [header, claims, signature] = request.headers.get('DPoP').split('.')
  const decode = (part) => JSON.parse(Buffer.from(part, 'base64url'))
  const key = await crypto.subtle.importKey('jwk', decode(header).jwk, { name: 'ECDSA', namedCurve: 'P-256' }, true, ['verify'])
  const ok = await crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key, Buffer.from(signature, 'base64url'), Buffer.from(`${header}.${claims}`))
  assert.ok(ok, 'the signature of the proof')
  return { header: decode(header), claims: decode(claims) }
}

// binding returns the routes of a server that binds sessions. proofs collects the proofs. The nonce of t1 is n1.
function binding() {
  const server = { n: 1, key: null, proofs: [], requests: 0 }
  const issued = () => json(200, tokens('a' + server.n, 't' + server.n), server.key ? { 'DPoP-Nonce': 'n' + server.n } : {})
  const keyOf = async (request) => {
    if (!request.headers.has('DPoP')) return null
    server.proofs.push(await opened(request))
    return server.proofs.at(-1)
  }
  const wanted = () => json(400, { code: 'proof_required', error: 'use_dpop_nonce' }, { 'DPoP-Nonce': 'n' + server.n })
  server.routes = {
    '/login': async (_, request) => {
      server.key = (await keyOf(request))?.header.jwk.x ?? null
      return issued()
    },
    '/refresh': async (_, request) => {
      server.requests++
      const proof = await keyOf(request)
      if ((server.key || proof) && (proof?.claims.nonce !== 'n' + server.n || (server.key ?? proof.header.jwk.x) !== proof.header.jwk.x)) return wanted()
      server.key = proof?.header.jwk.x ?? null
      server.n++
      return issued()
    },
    '/logout': () => json(204),
    '/a': wants('a2'),
  }
  return server
}

const bound = (server, options = {}) => setup(server.routes, { ...options, client: { bind: true, onUnbound: assert.fail, ...options.client } })
const credentials = { headers: { 'Content-Type': 'application/json' }, body: '{"username":"a"}' }

test('with bind, the login and every refresh carry a proof', async (t) => {
  withIndexedDB(t)
  const server = binding()
  const { client, requests, get } = bound(server)
  assert.equal(client.bound, false)
  const answer = await client.login(`${ORIGIN}/login?from=page#top`, credentials)
  assert.equal((await answer.json()).access_token, 'a1')
  assert.equal(client.bound, true)
  assert.equal((await get('/a')).status, 200)
  assert.deepEqual(requests, ['POST /login', 'GET /a a1', 'POST /refresh t1', 'GET /a a2'])
  const [first, second] = server.proofs
  for (const { header, claims } of server.proofs) {
    assert.deepEqual({ ...header, jwk: Object.keys(header.jwk).sort() }, { typ: 'dpop+jwt', alg: 'ES256', jwk: ['crv', 'kty', 'x', 'y'] })
    assert.equal(claims.htm, 'POST')
    assert.ok(Math.abs(claims.iat - Date.now() / 1000) < 5)
  }
  assert.deepEqual([first.claims.htu, second.claims.htu], [`${ORIGIN}/login`, `${ORIGIN}/refresh`])
  assert.deepEqual([first.claims.nonce, second.claims.nonce], [undefined, 'n1'])
  assert.deepEqual(first.header.jwk, second.header.jwk)
  assert.notEqual(first.claims.jti, second.claims.jti)
  await client.logout()
  assert.equal(requests.at(-1), 'POST /logout t2')
  assert.equal(client.bound, false)
})

test('a login sends what the caller passes', async (t) => {
  withIndexedDB(t)
  const seen = []
  const { client } = setup({ '/login': async (_, request) => { seen.push([request.method, request.headers.get('X-A'), await request.text()]); return json(200, tokens('t1')) } })
  await client.login(`${ORIGIN}/login`, { headers: new Headers({ 'X-A': 'b' }), body: new URLSearchParams({ c: 'd' }) })
  assert.deepEqual(seen, [['POST', 'b', 'c=d']])
  assert.equal(client.session().access_token, 't1')
})

test('a login that is refused stores nothing', async (t) => {
  withIndexedDB(t)
  const { client, events } = bound({ routes: { '/login': () => json(401, { code: 'invalid_credentials' }) } })
  assert.equal((await client.login(`${ORIGIN}/login`, credentials)).status, 401)
  assert.equal(client.session(), null)
  assert.deepEqual(events, [])
})

test('a session of another kind of login is bound by its first refresh', async (t) => {
  withIndexedDB(t)
  const server = binding()
  const { client, requests } = bound(server)
  client.save(tokens('a1', 't1'))
  assert.equal(client.bound, false)
  assert.equal(await client.refresh(), null)
  assert.equal(client.bound, true)
  await client.refresh()
  assert.deepEqual(requests, ['POST /refresh t1', 'POST /refresh t1', 'POST /refresh t2'])
  assert.deepEqual(server.proofs.map(({ claims }) => claims.nonce), [undefined, 'n1', 'n2'])
})

test('a nonce that is out of date costs one more request', async (t) => {
  withIndexedDB(t)
  const server = binding()
  const { client, events } = bound(server)
  await client.login(`${ORIGIN}/login`, credentials)
  server.n = 5
  assert.equal(await client.refresh(), null)
  assert.equal(client.session().access_token, 'a6')
  assert.equal(server.requests, 2)
  assert.deepEqual(events, [])
})

test('a response that is lost is asked for again with the same nonce', async (t) => {
  withIndexedDB(t)
  const server = binding()
  const { client } = bound(server)
  await client.login(`${ORIGIN}/login`, credentials)
  const { '/refresh': answer } = server.routes
  server.routes['/refresh'] = async (token, request) => {
    server.routes['/refresh'] = async (...args) => { server.n = 1; return answer(...args) } // the server repeats its answer
    await answer(token, request)
    return lost()
  }
  assert.equal(await client.refresh(), null)
  assert.deepEqual(server.proofs.map(({ claims }) => claims.nonce), [undefined, 'n1', 'n1'])
  assert.equal(client.session().access_token, 'a2')
})

test('without its key, a bound session is over', async (t) => {
  const kept = withIndexedDB(t)
  const server = binding()
  const first = bound(server)
  await first.client.login(`${ORIGIN}/login`, credentials)
  kept.clear()
  const second = bound(server, { storage: first.storage })
  const refusal = await second.client.refresh()
  assert.equal(refusal.status, 400)
  assert.equal(server.requests, 1)
  assert.deepEqual(second.events, ['proof_required'])
  assert.equal(second.client.session(), null)
})

test('an unbound client ends a session that must be bound, after one request', async () => {
  const server = binding()
  server.key = 'another'
  const { client, events } = setup(server.routes)
  client.save(tokens('a1', 't1'))
  await client.refresh()
  assert.deepEqual(events, ['proof_required'])
  assert.equal(client.session(), null)
})

test('a 400 of the application does not end the session', async () => {
  const { client, events, get } = setup({ '/a': () => json(400, { code: 'proof_required' }) })
  client.save(tokens('t1'))
  await get('/a')
  assert.deepEqual(events, [])
  assert.ok(client.session())
})

test('all tabs have the same key, which no script can read; another session has another key', async (t) => {
  const kept = withIndexedDB(t)
  const server = binding()
  const tabs = [bound(server), bound(server), bound(server, { client: { key: 'other' } })]
  for (const { client } of tabs) await client.login(`${ORIGIN}/login`, credentials)
  const keys = server.proofs.map(({ header }) => header.jwk.x)
  assert.equal(keys[0], keys[1])
  assert.notEqual(keys[0], keys[2])
  await bound(server).client.login(`${ORIGIN}/login`, credentials) // after a reload
  assert.equal(server.proofs.at(-1).header.jwk.x, keys[0])
  assert.deepEqual([...kept.keys()].sort(), ['ginrefresh', 'other'])
  for (const { privateKey } of kept.values()) {
    assert.equal(privateKey.extractable, false)
    await assert.rejects(crypto.subtle.exportKey('jwk', privateKey))
  }
})

test('a browser that cannot keep a key says so, and the session is not bound', async (t) => {
  const failing = { open: () => { const r = {}; setImmediate(() => { r.error = new Error('no disk'); r.onerror() }); return r } }
  const cases = [
    ['no WebCrypto', (t) => { withIndexedDB(t); without(t, 'crypto') }],
    ['no WebCrypto on plain http', (t) => { withIndexedDB(t); const c = globalThis.crypto; without(t, 'crypto'); Object.defineProperty(globalThis, 'crypto', { value: { getRandomValues: c.getRandomValues }, configurable: true }) }],
    ['no IndexedDB', () => {}],
    ['IndexedDB fails', (t) => withIndexedDB(t, failing)],
  ]
  for (const [name, prepare] of cases) {
    await t.test(name, async (t) => {
      prepare(t)
      const warned = t.mock.method(console, 'warn', () => {})
      const reasons = []
      for (const onUnbound of [(error) => { reasons.push(error); return 'ignored' }, undefined]) {
        const server = binding()
        const { client, get } = setup(server.routes, { client: { bind: true, ...(onUnbound && { onUnbound }) } })
        await client.login(`${ORIGIN}/login`, credentials)
        assert.equal((await get('/a')).status, 200)
        assert.deepEqual(server.proofs, [])
        assert.equal(client.bound, false)
      }
      assert.equal(reasons.length, 1)
      assert.ok(reasons[0] instanceof Error)
      assert.equal(warned.mock.callCount(), 1)
    })
  }
})

test('without bind there is no key and no proof', async (t) => {
  const kept = withIndexedDB(t)
  const server = binding()
  const { client, get } = setup(server.routes)
  await client.login(`${ORIGIN}/login`, credentials)
  assert.equal((await get('/a')).status, 200)
  assert.deepEqual(server.proofs, [])
  assert.equal(kept.size, 0)
  const refusing = setup({ '/login': () => json(400, { code: 'proof_invalid' }) })
  await refusing.client.login(`${ORIGIN}/login`, credentials)
  assert.deepEqual(refusing.requests, ['POST /login'])
})

test('a login with a clock that is wrong is repeated with the time of the server', async (t) => {
  withIndexedDB(t)
  const ahead = 3600_000
  const seen = []
  const { client } = bound({ routes: { '/login': async (_, request) => {
    const { claims } = await opened(request)
    seen.push([claims.iat, await request.text()])
    const late = Math.abs(claims.iat * 1000 - Date.now() - ahead) > 60_000
    return late ? json(400, { code: 'proof_invalid' }, { Date: new Date(Date.now() + ahead).toUTCString() }) : json(200, tokens('a1', 't1'), { 'DPoP-Nonce': 'n1' })
  } } })
  assert.equal((await client.login(`${ORIGIN}/login`, credentials)).status, 200)
  assert.equal(client.bound, true)
  assert.deepEqual(seen.map(([, body]) => body), [credentials.body, credentials.body])
  await client.login(`${ORIGIN}/login`, credentials)
  assert.equal(seen.length, 3)
})

test('a proof that is refused again is not repeated for ever', async (t) => {
  withIndexedDB(t)
  const { client, requests } = bound({ routes: { '/login': () => json(400, { code: 'proof_invalid' }), '/refresh': () => json(400, { code: 'proof_invalid' }) } })
  assert.equal((await client.login(`${ORIGIN}/login`, credentials)).status, 400)
  client.save(tokens('a1', 't1'))
  assert.equal((await client.refresh()).status, 400)
  assert.deepEqual(requests, ['POST /login', 'POST /login', 'POST /refresh t1'])
  assert.ok(client.session())
})
