// Package client holds client.js, the client of ginrefresh for browsers: a fetch that refreshes its tokens.
//
// The folder is also an npm package, for pages that are built with npm. A server that serves its own scripts needs only
// [Script]. docs/client.md describes client.js.
package client

import _ "embed"

// Script is the source of client.js, an ES module without imports. Serve it with the content type text/javascript: with
// another type a browser does not run a module.
//
//go:embed client.js
var Script string
