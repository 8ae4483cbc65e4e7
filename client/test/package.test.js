// Tests of the npm package: what it contains, that a project can install and import it, and its types.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as script from '../client.js'

const here = fileURLToPath(new URL('.', import.meta.url))
const text = (...path) => readFileSync(join(here, ...path), 'utf8')
const described = JSON.parse(text('..', 'package.json'))
const npm = (...args) => execFileSync('npm', [...args, '--silent', '--offline', '--no-audit', '--no-fund'], { cwd: project, encoding: 'utf8' })

let project // a project that has installed the package
before(() => {
  project = mkdtempSync(join(tmpdir(), 'ginrefresh-'))
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }')
  cpSync(join(here, 'types'), project, { recursive: true })
  npm('install', npm('pack', join(here, '..')).trim())
})
after(() => rmSync(project, { recursive: true }))

test('the package has the script, its types, its licence and nothing else', () => {
  const installed = join(project, 'node_modules', 'ginrefresh')
  assert.deepEqual(readdirSync(installed).sort(), ['LICENSE', 'README.md', 'client.d.ts', 'client.js', 'package.json'])
  assert.equal(readFileSync(join(installed, 'client.js'), 'utf8'), text('..', 'client.js'))
  assert.equal(text('..', 'LICENSE'), text('..', '..', 'LICENSE'))
  for (const field of ['dependencies', 'peerDependencies', 'scripts']) assert.equal(described[field], undefined)
})

test('a project can import the package by its name', () => {
  const code = 'import * as all from "ginrefresh"; console.log(Object.keys(all).join(), typeof all.createClient({ storage: {} }).fetch)'
  assert.equal(execFileSync(process.execPath, ['--input-type=module', '--eval', code], { cwd: project, encoding: 'utf8' }), 'createClient function\n')
})

// tsc compiles a file of the project. It returns the lines with errors, and the output.
function tsc(file, ...options) {
  const flags = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2022,dom,dom.iterable', '--types', '', ...options]
  const { stdout, error } = spawnSync(join(here, 'node_modules', '.bin', 'tsc'), [file, ...flags], { cwd: project, encoding: 'utf8' })
  assert.equal(error, undefined)
  const lines = [...stdout.matchAll(/^(\S+)\((\d+),\d+\): error/gm)].map(([, name, line]) => `${name}:${line}`)
  return { lines: [...new Set(lines)], stdout }
}

for (const modules of [['--module', 'nodenext'], ['--module', 'esnext', '--moduleResolution', 'bundler']]) {
  test(`correct code compiles, with ${modules.join(' ')}`, () => {
    assert.equal(tsc('good.ts', ...modules).stdout, '')
  })

  test(`each mistake is an error, with ${modules.join(' ')}`, () => {
    const want = text('types', 'bad.ts').split('\n').flatMap((line, i) => (line.endsWith('// error') ? [`bad.ts:${i + 1}`] : []))
    const { lines, stdout } = tsc('bad.ts', ...modules)
    assert.ok(want.length > 10)
    assert.deepEqual(lines, want, stdout)
  })
}

// TypeScript infers the types of a script from its code and its JSDoc. The JSDoc calls a code a string, so parameters of
// callbacks are compared in both directions.
test('the types describe the script', () => {
  cpSync(join(here, '..', 'client.js'), join(project, 'script.js'))
  writeFileSync(join(project, 'same.ts'), `
    import { createClient, type ClientOptions } from 'ginrefresh'
    import * as script from './script.js'
    type Options = NonNullable<Parameters<typeof script.createClient>[0]>
    export const declared: typeof createClient = script.createClient
    export const members: Record<keyof ReturnType<typeof script.createClient>, unknown> = createClient()
    export const options: Record<keyof Options, unknown> = {} as Required<ClientOptions>
    export const none: Record<Exclude<keyof ClientOptions, keyof Options>, never> = {}
  `)
  assert.equal(tsc('same.ts', '--module', 'nodenext', '--allowJs', '--strictFunctionTypes', 'false').stdout, '')
})

test('the types name what the script exports', () => {
  const declared = [...text('..', 'client.d.ts').matchAll(/^export (?:function|const|class) (\w+)/gm)].map(([, name]) => name)
  assert.deepEqual(Object.keys(script), declared)
})
