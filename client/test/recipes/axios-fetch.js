import axios from 'axios'
import { client } from './session.js'

export const api = axios.create({ adapter: 'fetch', env: { fetch: client.fetch } })
