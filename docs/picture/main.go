// Command picture draws docs/session.svg, a timeline of a session:
//
//	go run ./docs/picture > docs/session.svg
package main

import (
	"fmt"
	"strings"
)

// Times have no unit: the picture shows the order of events, not their scale.
const (
	ttl      = 120
	grace    = 36
	deadline = 560
	left     = 150 // of the time axis
	row      = 44
	top      = 96
	width    = 880
)

type tokenBar struct {
	name               string
	issued, replacedAt int
}

// story is a session of four tokens: the first is refreshed after it expires, the second before, the third just before the
// deadline, and the last is accepted for its whole TTL.
var story = []tokenBar{
	{"token 1", 0, 170},
	{"token 2", 170, 260},
	{"token 3", 260, 516},
	{"token 4", 516, 0},
}

func main() {
	var b strings.Builder
	height := top + row*len(story) + 70
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="t d">`+"\n", width, height)
	b.WriteString(`<title id="t">Timeline of a session</title>
<desc id="d">A login returns token 1. Each token is accepted on requests for its TTL. Expired or not, it can be refreshed until the deadline, refresh_ttl after the login. During the grace period, a replaced token gets the same successor. If it is presented after that, the session ends.</desc>
<style>
text{font:13px system-ui,sans-serif;fill:#1f2328}
.soft{fill:#59636e}.axis{stroke:#8b949e}.alive{fill:#0a7a5f}.grace{fill:#b35900}.window{fill:#d1d9e0}
.waits{stroke:#0a7a5f;stroke-width:2;stroke-dasharray:3 5}.swap{stroke:#1f2328;fill:none}.dot{fill:#1f2328}.end{stroke:#c2182b;stroke-width:2}.last{fill:#c2182b}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9198a1}.alive{fill:#3fb68b}.grace{fill:#e0913a}.window{fill:#3d444d}.waits{stroke:#3fb68b}.swap{stroke:#e6edf3}.dot{fill:#e6edf3}.end{stroke:#ff7b72}.last{fill:#ff7b72}}
</style>
`)
	window(&b, height)
	for i, token := range story {
		draw(&b, i, token)
	}
	legend(&b, height-18)
	b.WriteString("</svg>\n")
	fmt.Print(b.String())
}

// window draws the refresh window as a bar, with the login and the deadline.
func window(b *strings.Builder, height int) {
	bar(b, "window", 0, deadline, 40, 10)
	label(b, "soft", left-10, 50, "end", "refresh_ttl")
	label(b, "", left, 28, "middle", "login")
	label(b, "last", left+deadline, 28, "middle", "deadline: log in again")
	for _, x := range []int{0, deadline} {
		class := "axis"
		if x == deadline {
			class = "end"
		}
		fmt.Fprintf(b, `<line class="%s" x1="%d" y1="34" x2="%d" y2="%d"/>`+"\n", class, left+x, left+x, height-46)
	}
}

func draw(b *strings.Builder, i int, t tokenBar) {
	y := top + row*i
	label(b, "", left-10, y+12, "end", t.name)
	alive := t.issued + ttl
	if t.replacedAt > 0 {
		alive = min(alive, t.replacedAt)
		if t.replacedAt > t.issued+ttl {
			fmt.Fprintf(b, `<line class="waits" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", left+t.issued+ttl, y+8, left+t.replacedAt, y+8)
		}
		bar(b, "grace", t.replacedAt, t.replacedAt+grace, y, 16)
		fmt.Fprintf(b, `<path class="swap" d="M%d %dV%d"/>`+"\n", left+t.replacedAt, y+16, y+row)
	}
	bar(b, "alive", t.issued, alive, y, 16)
	fmt.Fprintf(b, `<circle class="dot" cx="%d" cy="%d" r="4"/>`+"\n", left+t.issued, y+8)
}

func legend(b *strings.Builder, y int) {
	x := left - 60
	for _, entry := range []struct{ class, text string }{
		{"alive", "accepted on requests (ttl)"},
		{"waits", "expired, can be refreshed"},
		{"grace", "replaced, gets the same successor (grace)"},
	} {
		if entry.class == "waits" {
			fmt.Fprintf(b, `<line class="waits" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", x, y-4, x+22, y-4)
		} else {
			bar(b, entry.class, x-left, x-left+22, y-10, 12)
		}
		label(b, "soft", x+30, y, "start", entry.text)
		x += 54 + 13*len(entry.text)/2
	}
}

func bar(b *strings.Builder, class string, from, to, y, height int) {
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="3"/>`+"\n", class, left+from, y, to-from, height)
}

func label(b *strings.Builder, class string, x, y int, anchor, text string) {
	fmt.Fprintf(b, `<text class="%s" x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor, text)
}
