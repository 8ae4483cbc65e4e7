import { createClient } from 'ginrefresh'

export const client = createClient({ onLogin: (code) => console.log(`log in: ${code}`) })
