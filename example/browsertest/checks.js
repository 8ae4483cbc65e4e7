// Checks of the appearance of the page. The tests evaluate this file in the page.
(() => {
  const CJK = /[\u3400-\u9fff]/
  // Names and durations, which are the same in every language.
  const NAMES = /^(ginrefresh|client\.js|app\.go|admin|alice|[\d.:]+ (s|min|h|d))$/

  const css = (element) => getComputedStyle(element)
  const isCode = (element) => /mono/i.test(css(element).fontFamily)
  const isVisible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !isForScreenReaders(element)
  const isForScreenReaders = (element) => element && (css(element).clipPath.startsWith('inset') || isForScreenReaders(element.parentElement))
  const number = (element) => [...document.querySelectorAll(element.localName)].indexOf(element)
  const name = (element) => (element.id ? `#${element.id}` : `<${element.localName} class="${element.classList}"> ${number(element)}: ${element.textContent.trim().slice(0, 20)}`)

  // texts returns the visible texts and the boxes of their lines.
  function texts() {
    const found = []
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (walker.nextNode()) {
      const text = walker.currentNode.data.trim()
      const element = walker.currentNode.parentElement
      if (!text || element.closest('noscript, script, style') || !isVisible(element)) continue
      const range = document.createRange()
      range.selectNodeContents(walker.currentNode)
      found.push({ text, element, range, lines: [...range.getClientRects()].filter((line) => line.width > 0) })
    }
    return found
  }

  // cut returns the name of the box that cuts off a text: the window, or an ancestor that does not scroll.
  function cut({ element, lines }, width) {
    for (const { left, right, top, bottom, height } of lines) {
      const line = { left, right, top: top + height / 4, bottom: bottom - height / 4 } // letters are lower than their line
      for (let box = element; box; box = box.parentElement) {
        if (box instanceof SVGElement) continue
        const { overflowX, overflowY } = css(box)
        const clips = (overflow) => overflow === 'hidden' || overflow === 'clip'
        const isPage = box === document.body || box === document.documentElement
        const rect = isPage ? { left: 0, right: width } : box.getBoundingClientRect()
        // A text that ends in an ellipsis has no line beyond the box, so compare the sizes.
        if (!isPage && (clips(overflowX) && box.scrollWidth > box.clientWidth + 1 || clips(overflowY) && box.scrollHeight > box.clientHeight + 4)) return name(box)
        if (clips(overflowX) && (line.left < rect.left - 1 || line.right > rect.right + 1)) return name(box)
        if (clips(overflowY) && (line.top < rect.top - 1 || line.bottom > rect.bottom + 1)) return name(box)
        if (overflowX === 'auto' || overflowX === 'scroll') Object.assign(line, { left: rect.left, right: rect.right })
        if (overflowY === 'auto' || overflowY === 'scroll') Object.assign(line, { top: rect.top, bottom: rect.top })
      }
      if (line.left < -1 || line.right > width + 1) return 'the window'
    }
    return ''
  }

  // overlaps returns the pairs of texts that overlap.
  function overlaps(all) {
    const boxes = all.filter(({ element }) => !isScrolled(element)).flatMap((text) => text.lines.map(({ left, right, top, bottom, height }) => (
      { text, left: left + 1, right: right - 1, top: top + height / 4, bottom: bottom - height / 4 })))
    const found = []
    for (const [i, a] of boxes.entries()) {
      for (const b of boxes.slice(i + 1)) {
        if (a.text !== b.text && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) found.push([a.text.text, b.text.text])
      }
    }
    return found
  }

  // widow returns the last line of a text if it is much shorter than the others.
  function widow({ text, element, lines }) {
    if (lines.length < 2 || isCode(element) || css(element).display === 'inline') return ''
    const last = lines.at(-1)
    return last.width < 28 && last.bottom > lines[0].bottom && !element.lastElementChild ? text : ''
  }

  // emptyBoxes returns the cards of a narrow window that end in an empty part. In a wide one they are as high as their neighbour.
  function emptyBoxes(all, width) {
    const cards = [...document.querySelectorAll('.card')].filter((card) => width < 1088 && isVisible(card))
    return cards.filter((card) => {
      const lowest = Math.max(...all.filter(({ element }) => card.contains(element)).flatMap(({ lines }) => lines.map(({ bottom }) => bottom)))
      return card.getBoundingClientRect().bottom - lowest > 64
    })
  }

  const isScrolled = (element) => element && (['auto', 'scroll'].includes(css(element).overflowY) && element.scrollHeight > element.clientHeight || isScrolled(element.parentElement))

  // ---- Colours

  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })

  // colour returns red, green, blue and alpha, from 0 to 1.
  function colour(text) {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = text
    canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data].map((part) => part / 255)
  }

  const over = ([r, g, b, a], below) => [r, g, b].map((part, i) => part * a + below[i] * (1 - a))

  function luminance(rgb) {
    const [r, g, b] = rgb.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }

  function contrast(a, b) {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x)
    return (light + 0.05) / (dark + 0.05)
  }

  // layer returns the colour that an element paints behind its content, with alpha, or null for a picture.
  function layer(element) {
    const { opacity, fill, backgroundColor, backgroundImage } = css(element)
    const shape = element instanceof SVGGeometryElement
    if (element instanceof SVGElement && (!shape || element.localName === 'path' || fill.startsWith('url'))) return [0, 0, 0, 0] // texts, lines, hatches
    if (!shape && backgroundImage !== 'none') return null
    const [r, g, b, a] = colour(shape ? fill : backgroundColor)
    return [r, g, b, a * opacity]
  }

  const isPainted = (element) => layer(element)?.[3] !== 0

  // background blends the colours of the elements, ordered from top to bottom. It returns null if one is a picture.
  function background(elements) {
    const layers = []
    for (const element of elements) {
      const paint = layer(element)
      if (!paint) return null
      layers.push(paint)
      if (paint[3] === 1) break
    }
    return layers.reduceRight((below, paint) => over(paint, below), [1, 1, 1])
  }

  const ancestors = (element) => (element ? [element, ...ancestors(element.parentElement)] : [])

  // faint returns the reason why a text is hard to read, or an empty string. axe leaves some texts undecided.
  function faint({ element, range }) {
    if (element.closest(':disabled')) return ''
    element.scrollIntoView({ block: 'center' })
    const lines = [...range.getClientRects()].filter((line) => line.width > 0)
    const { left, top, width, height } = lines[Math.floor(lines.length / 2)] // the first may be outside a scrolled box
    const stack = document.elementsFromPoint(left + width / 2, top + height / 2)
    const above = stack.slice(0, Math.max(0, stack.indexOf(element))).filter((other) => !element.contains(other))
    if (!stack.includes(element) || above.some((other) => isPainted(other) || other.contains(element))) return 'is covered' // by another element or by ::after
    const behind = background(stack.slice(stack.indexOf(element)))
    if (!behind) return 'lies on a picture'
    const { color, fill, fontSize, fontWeight } = css(element)
    const [r, g, b, a] = colour(element instanceof SVGElement ? fill : color)
    const alpha = ancestors(element).reduce((product, e) => product * css(e).opacity, a)
    const value = contrast(over([r, g, b, alpha], behind), behind)
    if (parseFloat(fontSize) < 10) return `is ${fontSize} high`
    const large = parseFloat(fontSize) >= (fontWeight >= 700 ? 18.66 : 24)
    return value < (large ? 3 : 4.5) ? `has a contrast of ${value.toFixed(1)}` : ''
  }

  // ---- Languages

  // foreign returns the mistake in a text of this language, or an empty string.
  function foreign(text, language, element, code) {
    if (/\b(undefined|NaN)\b|\[object|\{\w+\}/.test(text)) return 'shows a missing value'
    if (code) return ''
    if (/^[a-z]+([A-Z]|_[a-z])\w*$/.test(text)) return 'is the key of a text'
    const here = element.closest('[lang]').lang
    if (here !== document.documentElement.lang) return ''
    if (language === 'en') return CJK.test(text) ? 'is Chinese' : ''
    return CJK.test(text) || !/[a-z]{2}/i.test(text) || NAMES.test(text) ? '' : 'is not Chinese'
  }

  /** Returns the problems of the page in a window of this width and in this language. */
  function look(width, language) {
    const problems = []
    const all = texts()
    if (document.documentElement.lang !== language) problems.push(`the language of the page is ${document.documentElement.lang}`)
    if (document.scrollingElement.scrollWidth > width) problems.push(`the page scrolls sideways: ${document.scrollingElement.scrollWidth} pixels`)
    for (const text of all) {
      const by = cut(text, width)
      if (by) problems.push(`${by} cuts off the text ${text.text}`)
      if (widow(text)) problems.push(`the last line is a single short word: ${text.text}`)
      const why = foreign(text.text, language, text.element, isCode(text.element))
      if (why) problems.push(`the text ${text.text} ${why}`)
    }
    for (const element of document.querySelectorAll('[aria-label], [aria-valuetext], [title], [alt], [placeholder]')) {
      for (const attribute of ['aria-label', 'aria-valuetext', 'title', 'alt', 'placeholder']) {
        const text = element.getAttribute(attribute)
        const why = text && foreign(text, language, element, false)
        if (why) problems.push(`the ${attribute} ${text} of ${name(element)} ${why}`)
      }
    }
    const why = NAMES.test(document.title) ? 'is only a name' : foreign(document.title, language, document.documentElement, false)
    if (why) problems.push(`the title ${document.title} ${why}`)
    for (const box of emptyBoxes(all, width)) problems.push(`${name(box)} ends in an empty part`)
    for (const pair of overlaps(all)) problems.push(`texts overlap: ${pair.join(' | ')}`)
    const scrolled = [...document.querySelectorAll('*')].filter((element) => element.scrollHeight > element.clientHeight).map((element) => [element, element.scrollTop])
    for (const text of all) {
      const why = text.lines.length > 0 && faint(text)
      if (why) problems.push(`the text ${text.text} ${why}`)
    }
    for (const [element, top] of scrolled) element.scrollTop = top
    return problems
  }

  /** Returns the names of the controls that the Tab key must reach. */
  const reachable = () => [...document.querySelectorAll('a[href], button:not(:disabled), summary, input, select, textarea, [tabindex="0"]')]
    .filter((element) => isVisible(element) || element.matches('.skip')).map(name)

  /** Returns the focused element and the problem with its focus indicator, if any. Returns null if nothing is focused. */
  function focused() {
    const element = document.activeElement
    if (!element || element === document.body) return null
    const { outlineStyle, outlineWidth, outlineColor } = css(element)
    const behind = background(ancestors(element.parentElement))
    const rect = element.getBoundingClientRect()
    let problem = ''
    if (outlineStyle === 'none' || parseFloat(outlineWidth) < 2) problem = 'shows no focus'
    else if (!behind || contrast(over(colour(outlineColor), behind), behind) < 3) problem = 'shows its focus too faintly'
    else if (rect.width < 2 || rect.bottom < 0 || rect.top > innerHeight || !isVisible(element)) problem = 'is not visible'
    return { name: name(element), problem }
  }

  return { look, reachable, focused }
})()
