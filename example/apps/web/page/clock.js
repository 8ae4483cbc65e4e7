const socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/clock/socket')
socket.onmessage = event => { document.getElementById('clock').textContent = event.data }
// Loading the page again renews the token, or leads to the login if the session is over. After a network error, wait.
socket.onclose = event => setTimeout(() => location.reload(), event.code === 1008 ? 0 : 5000)
