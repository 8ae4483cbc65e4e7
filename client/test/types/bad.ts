// Every line that ends with "error" must fail to compile, and no other line.

import { createClient, type Session } from 'ginrefresh'
import createDefault from 'ginrefresh' // error

const client = createClient({ onLogin: () => {} })
createClient({ refreshUrl: '/refresh' }) // error
createClient({ timeout: '4s' }) // error
createClient({ origins: 'https://api.example.com' }) // error
createClient({ credentials: 'always' }) // error
createClient({ storage: new Map() }) // error
createClient({ onLogin: (code) => code === 'token_expired' }) // error
createClient({ onChange: (session) => session.expires_at }) // error

client.session().access_token // error
client.save({ access_token: 'a' }) // error
client.login() // error
client.bound = true // error
client.refreshing // error
const text: string = await client.fetch('/protected') // error
const refusal: Response = await client.refresh() // error
const again: boolean = await client.recover('token_expired', client.session()) // error
const made: Session = { access_token: 'a', expires_in: 60, refresh_expires_in: 600 } // error

export { createDefault, text, refusal, again, made }
