// Package interop has no code: its tests hold ginrefresh's tokens against the JWT libraries of other
// languages, and its signature check against the vectors of project Wycheproof.
package interop
