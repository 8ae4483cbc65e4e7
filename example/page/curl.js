// Requests as curl commands, for a POSIX shell.

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`

/** How a curl command starts. With -tls the certificate of the example is its own. */
export const curl = location.protocol === 'https:' ? 'curl -sk' : 'curl -s'

/** The file in which the commands keep the cookies, because scripts cannot read those of the browser. */
export const JAR = 'cookies.txt'

/** Returns the command for a request { method, url, headers, body }. cookies tells that the tokens are in cookies. */
export function curlOf({ method, url, headers, body }, cookies) {
  return [
    curl,
    ...(method === 'GET' ? [] : [`-X ${method}`]),
    ...(cookies ? [`-b ${JAR} -c ${JAR}`] : []),
    ...headers.map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`),
    ...(body ? [`--data-raw ${quote(body)}`] : []),
    quote(url),
  ].join(' ')
}
