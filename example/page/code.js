// The code behind the buttons: lines of app.go, which is the source of this server, and curl commands.

import { curl, JAR } from './curl.js'
import { $, make } from './dom.js'
import { t } from './i18n.js'

// What app.go has for each group of buttons: fields of middleware.Config, routes and functions.
const groups = ({ mode }) => ({
  login: { fields: ['Authenticate'], routes: ['/login'], functions: ['authenticate'] },
  use: mode === 'pair' // the button for AutoRefresh is hidden
    ? { fields: [], routes: ['/protected'], functions: ['hello'] }
    : { fields: [], routes: ['/protected', '/renewing'], functions: ['renewing', 'hello'] },
  renew: { fields: ['TTL', 'RefreshTTL', 'Grace'], routes: ['/refresh'], functions: [] },
  attack: { fields: ['Grace', 'OnEvent'], routes: ['/refresh'], functions: [] },
  end: { fields: ['Store'], routes: ['/logout', '/logout/all'], functions: [] },
  sessions: { fields: ['MaxSessions'], routes: ['/sessions', '/sessions/:id', '/logout/others'], functions: [] },
})

/** Prepares the buttons that show the code of a group. source is the text of app.go. */
export function createCode(source, settings) {
  const buttons = [...document.querySelectorAll('[data-shows]')]
  const boxOf = (button) => $(button.getAttribute('aria-controls'))

  function draw(button) {
    const group = button.dataset.shows
    const title = $(button.getAttribute('aria-describedby'))?.textContent ?? t('login')
    const isOpen = button.getAttribute('aria-expanded') === 'true'
    boxOf(button).hidden = !isOpen
    boxOf(button).replaceChildren(...(isOpen ? [
      make('div', {}, make('p', { class: 'faint' }, `${title} · app.go`), make('pre', { class: 'go' }, goCode(source, groups(settings)[group]))),
      make('div', {}, make('p', { class: 'faint' }, `${title} · curl`), settings.bind === 'required'
        ? make('p', {}, t('curlBound'))
        : make('pre', { class: 'shell' }, commands(group, settings).join('\n'))),
    ] : []))
  }

  for (const button of buttons) {
    button.addEventListener('click', () => {
      button.setAttribute('aria-expanded', String(button.getAttribute('aria-expanded') !== 'true'))
      draw(button)
    })
  }
  return { draw: () => buttons.forEach(draw) }
}

function goCode(source, { fields, routes, functions }) {
  const lines = source.split('\n')
  const part = (start) => block(lines, lines.findIndex((line) => start.test(line)))
  const config = fields.map((name) => part(RegExp(`^\t\t${name}: `)).replace(/^/gm, '\t'))
  return [
    ...(config.length > 0 ? [[part(/config := middleware\.Config\{$/).split('\n')[0], ...config, '}'].join('\n')] : []),
    routes.map((path) => part(RegExp(`^\t+r\\.[A-Z]+\\("${path}",`))).join('\n'),
    ...functions.map((name) => part(RegExp(`^func (\\(.*?\\) )?${name}\\(`))),
  ].join('\n\n')
}

// block returns the code that starts at a line: the line, or the lines to the end of its block. It removes the indentation.
function block(lines, first) {
  const indent = /^\t*/.exec(lines[first])[0]
  const last = lines[first].endsWith('{') ? lines.findIndex((line, i) => i > first && line.startsWith(`${indent}}`)) : first
  return lines.slice(first, last + 1).map((line) => line.slice(indent.length)).join('\n')
}

// commands returns the curl commands of a group. Those of the login come first.
function commands(group, { mode, cookies, grace }) {
  const at = (path) => location.origin + path
  const refreshable = mode === 'pair' ? 'REFRESH' : 'TOKEN'
  const token = cookies ? `-b ${JAR}` : '-H "Authorization: Bearer $TOKEN"'
  const swap = cookies ? `-b ${JAR} -c ${JAR}` : `-H "Authorization: Bearer $${refreshable}"`
  const login = `-d username=admin -d password=admin ${at('/login')}`
  const refresh = `${curl} -X POST ${swap} ${at('/refresh')}`
  const parallel = refresh.replace(` -c ${JAR}`, '') // one file cannot be written by twenty commands at once
  return {
    login: cookies ? [`${curl} -c ${JAR} ${login}`]
      : mode === 'pair' ? [`LOGIN=$(${curl} ${login})`, 'TOKEN=$(echo "$LOGIN" | jq -r .access_token)', 'REFRESH=$(echo "$LOGIN" | jq -r .refresh_token)']
        : [`TOKEN=$(${curl} ${login} | jq -r .access_token)`],
    use: [
      `# ${t('doProtected')}`, `${curl} ${token} ${at('/protected')}`,
      ...(mode === 'pair' ? [] : ['', `# ${t('doRenewing')}`, `${curl} -i ${token} ${at('/renewing')}`]),
    ],
    renew: [`# ${t('doRefresh')}`, refresh, '', `# ${t('doParallel')}`, `for i in $(seq 20); do ${parallel} & done; wait`],
    attack: [
      ...(cookies ? [`cp ${JAR} stolen.txt`] : []),
      refresh,
      `sleep ${Math.ceil(grace) + 1}  # ${t('codeGrace')}`,
      cookies ? `${curl} -X POST -b stolen.txt ${at('/refresh')}` : refresh,
    ],
    end: [
      `# ${t('doLogout')}`, `${curl} -X POST ${swap} ${at('/logout')}`, '',
      `# ${t('doLogoutAll')}`, `${curl} -X POST ${swap} ${at('/logout/all')}`,
    ],
    sessions: [
      `# ${t('sessions')}`, `${curl} ${token} ${at('/sessions')}`, '',
      `# ${t('endSession')}`, `ID=$(${curl} ${token} ${at('/sessions')} | jq -r '[.sessions[] | select(.current | not)][0].id')`,
      `${curl} -X DELETE ${token} "${at('/sessions/')}$ID"`,
      '', `# ${t('doLogoutOthers')}`, `${curl} -X POST ${token} ${at('/logout/others')}`,
    ],
  }[group]
}
