// Tests of the recipes in docs/client.md, with the libraries and with the example's server, whose URL is in SERVER. Its
// tokens live for two seconds.

import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { Window } from 'happy-dom'

const { SERVER } = process.env
const window = new Window({ url: SERVER })
const { document, localStorage, location, Element, SVGElement } = window
const sent = [] // requests, such as "POST /refresh"
const { fetch } = globalThis
Object.assign(globalThis, {
  window, document, localStorage, location, Element, SVGElement, addEventListener: window.addEventListener.bind(window),
  IS_REACT_ACT_ENVIRONMENT: true,
  fetch(input, init) {
    const request = input instanceof Request ? input : new Request(new URL(input, SERVER), init)
    sent.push(`${request.method} ${new URL(request.url).pathname}`)
    return fetch(request)
  },
})
Object.defineProperty(globalThis, 'navigator', { value: window.navigator, configurable: true }) // newer versions of Node define it

const { createClient } = await import('ginrefresh')
const otherTab = createClient()
const notice = () => window.dispatchEvent(new window.StorageEvent('storage', { key: 'ginrefresh' }))
const login = (client) => client.login(`${SERVER}/login`, { body: new URLSearchParams({ username: 'admin', password: 'admin' }) })
const refreshes = () => sent.filter((request) => request === 'POST /refresh').length

afterEach(() => {
  otherTab.clear()
  notice()
  sent.length = 0
})

// mounts render a component that shows the access token of the session. Each returns a function that waits for the page.
const mounts = {
  async react({ useSession }) {
    const { act, createElement } = await import('react')
    const { createRoot } = await import('react-dom/client')
    const Page = () => createElement('p', null, useSession()?.access_token ?? 'none')
    const root = createRoot(document.body)
    await act(async () => root.render(createElement(Page)))
    return { after: act, unmount: () => act(async () => root.unmount()) }
  },
  async vue({ useSession }) {
    const { createApp, h, nextTick } = await import('vue')
    const app = createApp({ setup: () => { const session = useSession(); return () => h('p', session.value?.access_token ?? 'none') } })
    app.mount(document.body)
    return { after: async (work) => { await work(); await nextTick() }, unmount: () => app.unmount() }
  },
}

for (const [name, mount] of Object.entries(mounts)) {
  test(`${name} shows the session, which this tab or another one changes`, async () => {
    await login(otherTab) // before the page is loaded
    const recipe = await import(`./recipes/${name}.js`)
    const { client } = recipe
    const { after, unmount } = await mount(recipe)
    const shown = () => document.querySelector('p').textContent
    assert.equal(shown(), otherTab.session().access_token)
    const tokens = [shown()]
    for (const change of [() => client.refresh(), () => login(client), async () => { await login(otherTab); notice() }]) {
      await after(change)
      assert.equal(shown(), client.session().access_token)
      assert.ok(!tokens.includes(shown()))
      tokens.push(shown())
    }
    assert.equal((await client.fetch(`${SERVER}/protected`)).status, 200)
    await after(() => client.logout())
    assert.equal(shown(), 'none')
    await unmount()
  })
}

for (const name of ['axios', 'axios-fetch']) {
  test(`${name} refreshes an expired token once for parallel requests`, async () => {
    const { client } = await import('./recipes/session.js')
    const { api } = await import(`./recipes/${name}.js`)
    api.defaults.baseURL = SERVER
    await login(client)
    const old = client.session()
    await new Promise((resolve) => setTimeout(resolve, old.expires_at - Date.now() + 50))
    const answers = await Promise.all([api.get('/protected'), api.get('/protected'), api.get('/me')])
    assert.deepEqual(answers.map(({ data }) => data.msg ?? data.sub), ['Hello, admin!', 'Hello, admin!', 'admin'])
    assert.equal(refreshes(), 1)
    assert.notEqual(client.session().access_token, old.access_token)

    await client.logout()
    client.save(old)
    await assert.rejects(api.get('/protected'), (error) => error.response.status === 401)
    assert.equal(client.session(), null)
  })
}
