import { readonly, shallowRef } from 'vue'
import { createClient } from 'ginrefresh'

const session = shallowRef(null)

export const client = createClient({ onChange: (changed) => { session.value = changed } })
session.value = client.session()

export const useSession = () => readonly(session)
