import { useSyncExternalStore } from 'react'
import { createClient } from 'ginrefresh'

let session = null
const listeners = new Set()

export const client = createClient({
  onChange(changed) {
    session = changed
    for (const listener of listeners) listener()
  },
})
session = client.session()

function subscribe(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const useSession = () => useSyncExternalStore(subscribe, () => session)
