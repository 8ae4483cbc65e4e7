// Verifies and signs tokens like a JavaScript service. Reads a job from stdin and writes a result to stdout.
import { readFileSync } from 'node:fs'
import * as jose from 'jose'

const job = JSON.parse(readFileSync(0, 'utf8'))
const secret = (row) => new Uint8Array(Buffer.from(row.secret, 'base64'))

async function verify(row) {
  const key = row.jwks ? jose.createRemoteJWKSet(new URL(row.jwks)) : secret(row)
  try {
    const { payload } = await jose.jwtVerify(row.token, key, {
      algorithms: [row.alg],
      issuer: job.issuer,
      audience: job.audience,
      typ: 'JWT',
      requiredClaims: ['exp', 'iat', 'sub', 'jti'],
    })
    return { claims: payload }
  } catch (error) {
    if (!(error instanceof jose.errors.JOSEError)) throw error
    return { error: String(error) }
  }
}

async function sign(row) {
  const key = row.pem ? await jose.importPKCS8(row.pem, row.alg) : secret(row)
  return new jose.SignJWT(row.claims).setProtectedHeader(row.header).sign(key)
}

const { version } = JSON.parse(readFileSync(new URL('node_modules/jose/package.json', import.meta.url), 'utf8'))
process.stdout.write(
  JSON.stringify({
    library: 'jose ' + version,
    verify: await Promise.all(job.verify.map(verify)),
    sign: await Promise.all(job.sign.map(sign)),
  }),
)
