// Helpers for the elements of the page.

/** Returns the element with an id. */
export const $ = (id) => document.getElementById(id)

/** Returns a new element. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}
