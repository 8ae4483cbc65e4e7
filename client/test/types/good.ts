// This file must compile.

import { createClient, type Answer, type Client, type ClientOptions, type LoginCode, type Session } from 'ginrefresh'

const options: ClientOptions = {
  refreshURL: 'https://api.example.com/refresh',
  logoutURL: 'https://api.example.com/logout',
  origins: ['https://api.example.com'],
  storage: sessionStorage,
  key: 'session',
  timeout: 2000,
  credentials: 'include',
  fetch: (input, init) => fetch(input, init),
  bind: true,
  onUnbound: (error) => console.warn(error),
  onLogin: (code: LoginCode) => console.log(code),
  onChange: (session, elsewhere) => console.log(session?.expires_at.toFixed(), elsewhere.valueOf()),
}
const client: Client = createClient(options)
createClient()
createClient({ storage: { getItem: () => null, setItem() {}, removeItem() {} } })

export async function use(): Promise<Session | null> {
  const login: Response = await client.login(new URL('https://api.example.com/login'), { body: new URLSearchParams() })
  const answer: Answer = await login.json()
  client.save(answer)
  client.save({ expires_in: 60, refresh_expires_in: 600 })
  const response = await client.fetch(new Request('/protected'), { method: 'POST' })
  const refusal = await client.refresh()
  if (refusal) console.log(refusal.status)
  const used = client.session()
  await client.refresh(used)
  const again = await client.recover('token_expired', used)
  if (again !== true && again !== false) console.log(again.status)
  if (client.bound) console.log(used?.nonce, used?.access_token?.length, response.ok)
  const everywhere: Response = await client.logout('/logout/all')
  console.log(everywhere.status)
  client.clear()
  const send: typeof fetch = client.fetch
  await send('/protected')
  return used
}

const exhaustive: Record<LoginCode, string> = {
  token_missing: '', token_invalid: '', token_revoked: '', token_reused: '', refresh_expired: '', subject_refused: '', proof_required: '',
}
console.log(exhaustive)
