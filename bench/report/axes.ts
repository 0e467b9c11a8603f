/** Axes of plots, with their ticks and what they show. */
import type { Metric } from '../suite/measurement.js'
import { shortNumber, withUnit } from '../suite/units.js'
import { SMALL } from './marks.js'
import type { Scale } from './scale.js'
import { element, text, textWidth } from './svg.js'

/** A value at an axis, without the unit where the axis has it. */
export function tickText(value: number, unit: string): string {
  if (value === 0) return '0'
  if (unit === 'ns' || unit === 'bytes')
    return withUnit(value, unit)
      .replace(/(\.\d*?)0+ /, '$1 ')
      .replace('. ', ' ')
  const prefix = value >= 1e9 ? 1e9 : value >= 1e6 ? 1e6 : value >= 1e3 ? 1e3 : 1
  const digits = Number((value / prefix).toPrecision(3))
  return `${digits}${{ 1e9: 'G', 1e6: 'M', 1e3: 'k', 1: '' }[prefix]}`
}

/** What an axis shows; a rate's name says its unit. */
export function axisText({ name, unit, better }: Metric): string {
  const direction = better === 'higher' ? 'higher is better' : 'lower is better'
  const saysUnit = unit.endsWith('/s') && name.includes('per second')
  return `${name}${saysUnit ? '' : `, ${unit}`} (${direction})`
}

export interface Frame {
  readonly left: number
  readonly right: number
  readonly top: number
  readonly bottom: number
}

export function xAxis(x: Scale, frame: Frame, name: string): string {
  const labels: string[] = []
  let edge = -Infinity
  for (const tick of x.ticks) {
    const label = shortNumber(tick)
    const place = x.place(tick)
    labels.push(
      element('line', {
        class: 'rule',
        x1: place,
        x2: place,
        y1: frame.bottom,
        y2: frame.bottom + 5,
      }),
    )
    const half = textWidth(label, SMALL) / 2 + 4
    if (place - half < edge) continue
    edge = place + half
    labels.push(text(label, { class: 'small soft middle', x: place, y: frame.bottom + 19 }))
  }
  labels.push(
    text(name, {
      class: 'small middle',
      x: (frame.left + frame.right) / 2,
      y: frame.bottom + 38,
    }),
  )
  return labels.join('')
}

export const yAxis = (y: Scale, frame: Frame, unit: string): string =>
  y.ticks
    .map((tick) => {
      const place = y.place(tick)
      return (
        element('line', {
          class: 'rule',
          x1: frame.left,
          x2: frame.right,
          y1: place,
          y2: place,
        }) +
        text(tickText(tick, unit), { class: 'small soft end', x: frame.left - 8, y: place + 4 })
      )
    })
    .join('')
