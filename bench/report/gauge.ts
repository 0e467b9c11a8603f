import { element, text } from './svg.js'

/** A ratio beside its bound, small: on a logarithmic scale, with what is good shaded. */
export function ratioGauge(
  ratio: { median: number; lowest: number; highest: number },
  bound: { atLeast?: number; atMost?: number },
  isMet: boolean,
): string {
  const width = 260
  const height = 40
  const limits = [bound.atLeast, bound.atMost].filter((value) => value !== undefined)
  const values = [ratio.median, ratio.lowest, ratio.highest, ...limits].filter((v) => v > 0)
  const low = Math.min(...values) / 1.25
  const high = Math.max(...values) * 1.25
  const place = (value: number): number =>
    4 + (Math.log(Math.max(value, low) / low) / Math.log(high / low)) * (width - 8)
  const from = bound.atLeast === undefined ? 4 : place(bound.atLeast)
  const to = bound.atMost === undefined ? width - 4 : place(bound.atMost)
  return element(
    'svg',
    { class: 'gauge', viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' },
    element('rect', { class: 'track', x: 4, y: 13, width: width - 8, height: 8, rx: 4 }),
    element('rect', { class: 'good', x: from, y: 13, width: Math.max(0, to - from), height: 8 }),
    ...limits.map(
      (limit) =>
        element('line', { class: 'bound', x1: place(limit), x2: place(limit), y1: 8, y2: 26 }) +
        text(String(limit), {
          class: 'bound-text',
          x: Math.min(width - 16, Math.max(16, place(limit))),
          y: 38,
        }),
    ),
    element('line', {
      class: isMet ? 'range met' : 'range unmet',
      x1: place(ratio.lowest),
      x2: place(ratio.highest),
      y1: 17,
      y2: 17,
    }),
    element('circle', {
      class: isMet ? 'dot met' : 'dot unmet',
      cx: place(ratio.median),
      cy: 17,
      r: 6,
    }),
  )
}
