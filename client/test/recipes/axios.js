import axios from 'axios'
import { client } from './session.js'

export const api = axios.create()

api.interceptors.request.use((config) => {
  config.used = client.session()
  if (config.used?.access_token) config.headers.set('Authorization', `Bearer ${config.used.access_token}`)
  return config
})

api.interceptors.response.use(undefined, async (error) => {
  const { config, response } = error
  const code = response?.status === 401 ? response.data?.code : undefined
  if (!code || (config.again && code === 'token_expired')) throw error // one refresh for one request
  if ((await client.recover(code, config.used)) !== true || config.again) throw error
  return api({ ...config, again: true })
})
