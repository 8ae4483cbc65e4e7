// What client.js promises, with a server that is a function.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { createClient } from '../page/client.js'

const ORIGIN = 'https://app.example'
const json = (status, body, headers) => new Response(status === 204 ? null : JSON.stringify(body), { status, headers })
const refused = (code) => json(code === 'store_unavailable' ? 503 : 401, { code })

function storage() {
  const map = new Map()
  return { getItem: (key) => map.get(key) ?? null, setItem: (key, value) => map.set(key, value), removeItem: (key) => map.delete(key) }
}

// setup is a tab: a client and its server, which answers by path. requests is what it heard: "POST /refresh t1".
function setup(routes, options = {}) {
  const requests = []
  const events = []
  const shared = options.storage ?? storage()
  const send = async (input, init) => {
    const request = input instanceof Request ? input : new Request(new URL(input, ORIGIN), init)
    const token = (request.headers.get('Authorization') ?? '').replace('Bearer ', '')
    const path = new URL(request.url).pathname
    requests.push([request.method, path, token].join(' ').trim())
    await new Promise((resolve) => setTimeout(resolve, options.delay ?? 1))
    return routes[path](token, request)
  }
  const client = createClient({
    refreshURL: `${ORIGIN}/refresh`, logoutURL: `${ORIGIN}/logout`, origins: [ORIGIN], storage: shared, fetch: send,
    onLogin: (code) => events.push(code), ...options.client,
  })
  return { client, requests, events, storage: shared, get: (path) => client.fetch(ORIGIN + path) }
}

const tokens = (access, refresh) => ({ access_token: access, refresh_token: refresh, token_type: 'Bearer', expires_in: 60, refresh_expires_in: 600 })
const wants = (good) => (token) => (token === good ? json(200, { msg: 'hello' }) : refused('token_expired'))

test('a request carries the token, and to its own origin only', async () => {
  const { client, requests, get } = setup({ '/a': () => json(200, {}) })
  client.save(tokens('t1'))
  await get('/a')
  await client.fetch('https://elsewhere.example/a')
  assert.deepEqual(requests, ['GET /a t1', 'GET /a'])
})

test('an expired token is refreshed once, and the request is sent again, body and all', async () => {
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

test('with a token pair, the refresh token is sent to /refresh and the access token to the rest', async () => {
  const { client, requests, get } = setup({ '/a': wants('a2'), '/refresh': () => json(200, tokens('a2', 'r2')), '/logout': () => json(204) })
  client.save(tokens('a1', 'r1'))
  assert.equal((await get('/a')).status, 200)
  await client.logout()
  assert.deepEqual(requests, ['GET /a a1', 'POST /refresh r1', 'GET /a a2', 'POST /logout r2'])
  assert.equal(client.session(), null)
})

for (const code of ['token_expired', 'token_missing']) {
  test(`with cookies, ${code} is answered with a refresh, and no token is sent`, async () => {
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

test('many requests at once make one refresh', async () => {
  const { client, requests, get } = setup({ '/a': wants('t2'), '/refresh': () => json(200, tokens('t2')) })
  client.save(tokens('t1'))
  const answers = await Promise.all(Array.from({ length: 20 }, () => get('/a')))
  assert.ok(answers.every((answer) => answer.ok))
  assert.equal(requests.filter((r) => r.startsWith('POST /refresh')).length, 1)
})

test('two tabs at once make one refresh, even without Web Locks', async () => {
  const shared = storage()
  const routes = { '/a': wants('t2'), '/refresh': () => json(200, tokens('t2')) }
  const [one, two] = [setup(routes, { storage: shared, delay: 20 }), setup(routes, { storage: shared, delay: 25 })]
  one.client.save(tokens('t1'))
  const answers = await Promise.all([one.get('/a'), two.get('/a'), one.get('/a')])
  assert.ok(answers.every((answer) => answer.ok))
  assert.deepEqual([...one.requests, ...two.requests].filter((r) => r.startsWith('POST /refresh')), ['POST /refresh t1'])
  assert.equal(shared.getItem('ginrefresh.lease'), null)
})

for (const code of ['token_revoked', 'token_reused', 'refresh_expired', 'token_invalid', 'subject_refused']) {
  test(`${code} ends the session, on a request and on a refresh`, async () => {
    const first = setup({ '/a': () => refused(code) })
    first.client.save(tokens('t1'))
    assert.equal((await first.get('/a')).status, 401)
    assert.deepEqual(first.events, [code])
    assert.equal(first.client.session(), null)
    assert.deepEqual(first.requests, ['GET /a t1'])

    const second = setup({ '/a': () => refused('token_expired'), '/refresh': () => refused(code) })
    second.client.save(tokens('t1'))
    const answers = await Promise.all([second.get('/a'), second.get('/a')])
    for (const answer of answers) assert.equal((await answer.json()).code, code)
    assert.deepEqual(second.events, [code])
    assert.equal(second.client.session(), null)
  })
}

test('a 503 is handed on, and costs nothing', async () => {
  const { client, requests, events, get } = setup({ '/a': () => refused('store_unavailable') })
  client.save(tokens('t1'))
  assert.equal((await get('/a')).status, 503)
  assert.deepEqual(requests, ['GET /a t1'])
  assert.deepEqual(events, [])
  assert.equal(client.session().access_token, 't1')
})

test('a 503 at the refresh is what the request gets, and the session lives on', async () => {
  const { client, events, get } = setup({ '/a': () => refused('token_expired'), '/refresh': () => refused('store_unavailable') })
  client.save(tokens('t1'))
  assert.equal((await get('/a')).status, 503)
  assert.deepEqual(events, [])
  assert.equal(client.session().access_token, 't1')
})

test('other refusals are none of its business', async () => {
  for (const code of ['login_too_old', 'invalid_credentials', '']) {
    const { client, requests, events, get } = setup({ '/a': () => refused(code) })
    client.save(tokens('t1'))
    assert.equal((await get('/a')).status, 401)
    assert.equal(requests.length, 1)
    assert.deepEqual(events, [])
    assert.ok(client.session())
  }
})

test('it does not refresh twice for one request', async () => {
  let n = 1
  const { client, requests, get } = setup({ '/a': () => refused('token_expired'), '/refresh': () => json(200, tokens(`t${++n}`)) })
  client.save(tokens('t1'))
  assert.equal((await get('/a')).status, 401)
  assert.deepEqual(requests, ['GET /a t1', 'POST /refresh t1', 'GET /a t2'])
  assert.ok(client.session())
})

test('a request that was overtaken by a refresh is sent again with the new token', async () => {
  const { client, requests, events, get } = setup({
    '/a': (token) => {
      if (token === 't2') return json(200, {})
      client.save({ ...client.session(), ...tokens('t2') }) // another tab's refresh; and the server's grace is over
      return refused('token_revoked')
    },
  })
  client.save(tokens('t1'))
  assert.equal((await get('/a')).status, 200)
  assert.deepEqual(requests, ['GET /a t1', 'GET /a t2'])
  assert.deepEqual(events, [])
})

test('a request is never sent again as somebody else', async () => {
  const { client, requests, get } = setup({
    '/a': () => {
      client.save(tokens('bob1')) // another tab, meanwhile
      return refused('token_expired')
    },
  })
  client.save(tokens('alice1'))
  assert.equal((await get('/a')).status, 401)
  assert.deepEqual(requests, ['GET /a alice1'])
  assert.equal(client.session().access_token, 'bob1')
})

test('a refresh that comes back after a logout or a login changes nothing', async () => {
  const gone = setup({ '/refresh': () => { gone.client.clear(); return json(200, tokens('t2')) } })
  gone.client.save(tokens('t1'))
  await gone.client.refresh()
  assert.equal(gone.client.session(), null)

  const other = setup({ '/refresh': () => { other.client.save(tokens('alice')); return json(200, tokens('t2')) } })
  other.client.save(tokens('t1'))
  await other.client.refresh()
  assert.equal(other.client.session().access_token, 'alice')
})

test('an answer that was lost is asked for again with the same token', async () => {
  let tries = 0
  const { client, requests } = setup({
    '/refresh': () => {
      if (++tries === 1) throw new TypeError('Failed to fetch')
      return json(200, tokens('t2'))
    },
  })
  client.save(tokens('t1'))
  assert.equal(await client.refresh(), null)
  assert.deepEqual(requests, ['POST /refresh t1', 'POST /refresh t1'])
  assert.equal(client.session().access_token, 't2')
})

test('without a network the session is kept, and the error is the caller’s', async () => {
  const { client, events, get } = setup({ '/a': () => refused('token_expired'), '/refresh': () => { throw new TypeError('Failed to fetch') } })
  client.save(tokens('t1'))
  await assert.rejects(get('/a'), TypeError)
  assert.deepEqual(events, [])
  assert.equal(client.session().access_token, 't1')
})

test('the new token of AutoRefresh is taken over, but not over a newer one', async () => {
  const renewed = (token) => json(200, {}, { Authorization: `Bearer ${token}` })
  const one = setup({ '/a': () => renewed('t2') })
  one.client.save(tokens('t1'))
  await one.get('/a')
  assert.equal(one.client.session().access_token, 't2')
  assert.ok(Math.abs(one.client.session().expires_at - Date.now() - 60000) < 2000)

  const late = setup({ '/a': () => { late.client.save(tokens('t3')); return renewed('t2') } })
  late.client.save(tokens('t1'))
  await late.get('/a')
  assert.equal(late.client.session().access_token, 't3')
})

test('logout forgets the session unless the server could not', async () => {
  const down = setup({ '/logout': () => refused('store_unavailable') })
  down.client.save(tokens('t1'))
  assert.equal((await down.client.logout()).status, 503)
  assert.ok(down.client.session())

  const over = setup({ '/logout': () => refused('refresh_expired') })
  over.client.save(tokens('t1'))
  await over.client.logout()
  assert.equal(over.client.session(), null)
})

// The snippets of docs/client.md, as they stand there.
async function snippet(name, client) {
  const document = await readFile(new URL('../../docs/client.md', import.meta.url), 'utf8')
  const code = new RegExp('```js ' + name + '\\n([^]*?)```').exec(document)[1]
  const { default: axios } = await import('axios')
  const api = new Function('axios', 'client', `${code.replace('export ', '')}; return api`)(axios, client)
  api.defaults.baseURL = ORIGIN
  return { axios, api }
}

test('axios with client.fetch', async () => {
  const { client, requests } = setup({ '/a': wants('t2'), '/refresh': () => json(200, tokens('t2')) })
  const { api } = await snippet('axios-fetch', client)
  client.save(tokens('t1'))
  const answers = await Promise.all([api.get('/a'), api.post('/a', { x: 1 })])
  assert.ok(answers.every((answer) => answer.data.msg === 'hello'))
  assert.equal(requests.filter((r) => r.startsWith('POST /refresh')).length, 1)
})

test('axios with interceptors', async () => {
  const { client, requests, events } = setup({ '/refresh': () => json(200, tokens('t2')) })
  const { axios, api } = await snippet('axios', client)
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

  codes.t2 = 'token_expired' // whatever it is refreshed to
  client.save(tokens('t1'))
  await assert.rejects(api.get('/a'), (error) => error.response.data.code === 'token_expired')
  assert.equal(requests.length, 2)
  assert.ok(client.session())
})
