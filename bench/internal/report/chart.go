package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Chart is bars on a logarithmic scale that begins at 1, in panels, two in a row.
type Chart struct {
	Title  string
	Note   string
	Panels []Panel
}

// Panel is one group of bars.
type Panel struct {
	Title string
	Bars  []Bar
}

// Bar is a value of 1 or more: a ratio.
type Bar struct {
	Label string
	Value float64
	Ours  bool
	Faint bool
}

const (
	panelWidth = 480
	labelWidth = 150
	valueWidth = 55
	barStep    = 22
	barHeight  = 14
	headHeight = 64
	panelHead  = 34
	panelFoot  = 26
	margin     = 16
)

// style has its own background, so that the text is readable wherever the picture is shown.
const style = `<style>
text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328}
.paper{fill:#ffffff}.title{font-size:16px;font-weight:600}.panel{font-size:13px;font-weight:600}
.soft{fill:#59636e}.grid{stroke:#d1d9e0}.axis{stroke:#59636e}
.bar{fill:#8c959f}.ours{fill:#0969da}.faint{fill:#0969da;fill-opacity:.45}.strong{font-weight:600}
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.paper{fill:#0d1117}.soft{fill:#9198a1}.grid{stroke:#3d444d}
.axis{stroke:#9198a1}.bar{fill:#656c76}.ours{fill:#4493f8}.faint{fill:#4493f8}}
</style>`

// SVG draws the chart.
func (c Chart) SVG() string {
	most, bars := 1.0, 0
	for _, panel := range c.Panels {
		bars = max(bars, len(panel.Bars))
		for _, bar := range panel.Bars {
			most = max(most, bar.Value)
		}
	}
	decades := max(1, math.Ceil(math.Log10(most)))
	panelHeight := panelHead + bars*barStep + panelFoot
	columns := min(2, len(c.Panels))
	width := 2*margin + columns*panelWidth
	height := headHeight + (len(c.Panels)+1)/2*panelHeight + margin

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="title note">`+"\n", width, height)
	fmt.Fprintf(&b, `<title id="title">%s</title><desc id="note">%s</desc>`+"\n%s\n", html.EscapeString(c.Title), html.EscapeString(c.Note), style)
	fmt.Fprintf(&b, `<rect class="paper" width="%d" height="%d" rx="6"/>`+"\n", width, height)
	text(&b, "title", "start", margin, 28, c.Title)
	text(&b, "soft", "start", margin, 48, c.Note)
	for i, panel := range c.Panels {
		panel.draw(&b, margin+i%2*panelWidth, headHeight+i/2*panelHeight, decades)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p Panel) draw(b *strings.Builder, x, y int, decades float64) {
	text(b, "panel", "start", x, y+18, p.Title)
	left, top := x+labelWidth, y+panelHead
	bottom := top + len(p.Bars)*barStep
	scale := (panelWidth - labelWidth - valueWidth) / decades
	for decade := 0.0; decade <= decades; decade++ {
		at, class := left+int(decade*scale), "grid"
		if decade == 0 {
			class = "axis"
		}
		fmt.Fprintf(b, `<line class="%s" x1="%d" x2="%d" y1="%d" y2="%d"/>`+"\n", class, at, at, top-4, bottom)
		text(b, "soft", "middle", at, bottom+16, "×"+Thousands(math.Pow(10, decade)))
	}
	for i, bar := range p.Bars {
		bar.draw(b, left, top+i*barStep, scale)
	}
}

func (bar Bar) draw(b *strings.Builder, x, y int, scale float64) {
	class, weight := "bar", ""
	switch {
	case bar.Faint:
		class = "faint"
	case bar.Ours:
		class, weight = "ours", "strong"
	}
	length := max(1, int(math.Log10(max(1, bar.Value))*scale))
	text(b, weight, "end", x-8, y+barHeight-2, bar.Label)
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="2"/>`+"\n", class, x, y, length, barHeight)
	text(b, weight, "start", x+length+6, y+barHeight-2, "×"+Number(bar.Value))
}

func text(b *strings.Builder, class, anchor string, x, y int, s string) {
	fmt.Fprintf(b, `<text class="%s" text-anchor="%s" x="%d" y="%d">%s</text>`+"\n", class, anchor, x, y, html.EscapeString(s))
}
