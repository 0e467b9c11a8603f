/** SVG as text, with what stands in it escaped. */

export type Attributes = Readonly<Record<string, string | number | undefined>>

export const escapeText = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!)

/** Two decimals are a fiftieth of a pixel. */
const shown = (value: string | number): string =>
  typeof value === 'number' ? String(Math.round(value * 100) / 100) : escapeText(value)

/** @param children markup, already escaped */
export function element(name: string, attributes: Attributes, ...children: string[]): string {
  const written = Object.entries(attributes)
    .flatMap(([key, value]) => (value === undefined ? [] : [` ${key}="${shown(value)}"`]))
    .join('')
  return children.length === 0
    ? `<${name}${written}/>`
    : `<${name}${written}>${children.join('')}</${name}>`
}

export const text = (content: string, attributes: Attributes): string =>
  element('text', attributes, escapeText(content))

/** Width of a text in a sans-serif typeface, about: SVG cannot be asked before it is drawn. */
export const textWidth = (content: string, size: number): number => content.length * size * 0.54

export const path = (points: readonly (readonly [number, number])[]): string =>
  points.map(([x, y], i) => `${i === 0 ? 'M' : 'L'}${shown(x)} ${shown(y)}`).join('')
