/** The answer of the server to a login or a refresh. In cookie mode it has no tokens. */
export interface Answer {
  access_token?: string
  refresh_token?: string
  token_type?: string
  /** Seconds until the access token expires. */
  expires_in: number
  /** Seconds until the session can no longer be refreshed. */
  refresh_expires_in: number
}

/** The session in the storage, which all tabs share. */
export interface Session extends Answer {
  /** Identifies the tokens, even if they are in cookies. Every refresh changes it. */
  readonly id: string
  /** Identifies the login. It stays the same after a refresh. */
  readonly login: string
  /** When the access token expires, in milliseconds since 1970. */
  readonly expires_at: number
  /** When the session can no longer be refreshed, in milliseconds since 1970. */
  readonly refresh_expires_at: number
  /** The challenge of a bound session. */
  readonly nonce?: string
}

/** The codes after which the user must log in again. */
export type LoginCode =
  | 'token_missing'
  | 'token_invalid'
  | 'token_revoked'
  | 'token_reused'
  | 'refresh_expired'
  | 'subject_refused'
  | 'proof_required'

export interface ClientOptions {
  /** URL of the server's RefreshHandler. Default: '/refresh'. */
  refreshURL?: string
  /** URL of the server's LogoutHandler. Default: '/logout'. */
  logoutURL?: string
  /** The only origins that receive the token. Default: the origin of the page. */
  origins?: readonly string[]
  /** Default: localStorage, which all tabs share. */
  storage?: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>
  /** The key of the session in the storage. Default: 'ginrefresh'. */
  key?: string
  /** Milliseconds for one attempt to refresh. Two attempts should fit into the server's Grace. Default: 4000. */
  timeout?: number
  /** 'include' if the cookies belong to another origin. Default: 'same-origin'. */
  credentials?: RequestCredentials
  /** Sends the requests. Default: the global fetch. */
  fetch?: typeof globalThis.fetch
  /** Binds the session to a key that stays in this browser, if the server offers that. Default: false. */
  bind?: boolean
  /** Called if this browser cannot keep a key. Default: a warning in the console. */
  onUnbound?: (error: unknown) => void
  /** Called when the session has ended and was removed from the storage. */
  onLogin?: (code: LoginCode) => void
  /** Called when the session changes, with null if there is none. `elsewhere` tells that another tab changed it. */
  onChange?: (session: Session | null, elsewhere: boolean) => void
}

export interface Client {
  /** Does a fetch with the token of the session. If the token has expired, it refreshes once and sends the request again. */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>
  /** Sends a login, a POST, and stores the tokens. Throws like fetch. */
  login(url: string | URL, init?: RequestInit): Promise<Response>
  /**
   * Ends the session on the server, then here. Waits for a refresh or a login that is under way, and ends the session that
   * it made. The session is kept if the server could not end it. Throws like fetch.
   */
  logout(url?: string | URL): Promise<Response>
  /**
   * Refreshes the tokens, unless the session `used` was refreshed already. Resolves to null after a success, or to the
   * server's answer if it refused. Throws like fetch.
   */
  refresh(used?: Session | null): Promise<Response | null>
  /**
   * Does what `fetch` does after a 401 with this code, for a request that was sent in another way with the session `used`.
   * Resolves to true if the request should be sent again, to false if not, or to the answer of a failed refresh.
   */
  recover(code: string, used: Session | null): Promise<boolean | Response>
  /** Stores the tokens of another kind of login. */
  save(answer: Answer): void
  /** Forgets the session in all tabs, without a request to the server. */
  clear(): void
  /** The newest session of all tabs, or null. */
  session(): Session | null
  /** Whether the server has bound the session to this browser's key. */
  readonly bound: boolean
}

export function createClient(options?: ClientOptions): Client
