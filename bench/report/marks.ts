/** What plots of both kinds are made of. */
import type { Metric } from '../suite/measurement.js'
import { shortNumber, withUnit } from '../suite/units.js'
import type { LineStyle, Mark } from './palette.js'
import type { Line, Point } from './panels.js'
import { element, path } from './svg.js'

export const WIDTH = 900
export const FONT = 13
export const SMALL = 12
/** Between panels. */
export const PANEL_GAP = 28

export interface Drawing {
  readonly svg: string
  readonly height: number
}

/** How the lines of a plot look, by label. */
export type Styles = ReadonlyMap<string, LineStyle>

/** @param line whose style it is, if it is one */
export const classOf = ({ colour }: LineStyle, line?: Line): string =>
  `c${colour === 'limit' ? '-limit' : colour}${line?.isEmphasised ? ' emphasised' : ''}`

export const move = (x: number, y: number, ...children: string[]): string =>
  element('g', { transform: `translate(${Math.round(x)} ${Math.round(y)})` }, ...children)

export function markShape(mark: Mark, x: number, y: number, size: number): string {
  const at = (dx: number, dy: number): readonly [number, number] => [x + dx * size, y + dy * size]
  switch (mark) {
    case 'circle':
      return element('circle', { class: 'mark', cx: x, cy: y, r: size })
    case 'square':
      return element('path', {
        class: 'mark',
        d: `${path([at(-0.9, -0.9), at(0.9, -0.9), at(0.9, 0.9), at(-0.9, 0.9)])}Z`,
      })
    case 'diamond':
      return element('path', {
        class: 'mark',
        d: `${path([at(0, -1.3), at(1.3, 0), at(0, 1.3), at(-1.3, 0)])}Z`,
      })
    case 'triangle':
      return element('path', {
        class: 'mark',
        d: `${path([at(0, -1.2), at(1.1, 0.8), at(-1.1, 0.8)])}Z`,
      })
    case 'inverted':
      return element('path', {
        class: 'mark',
        d: `${path([at(0, 1.2), at(1.1, -0.8), at(-1.1, -0.8)])}Z`,
      })
    case 'cross': {
      const arm = 0.4
      const long = 1.2
      const corners = [
        [-arm, -long],
        [arm, -long],
        [arm, -arm],
        [long, -arm],
        [long, arm],
        [arm, arm],
        [arm, long],
        [-arm, long],
        [-arm, arm],
        [-long, arm],
        [-long, -arm],
        [-arm, -arm],
      ] as const
      return element('path', {
        class: 'mark',
        d: `${path(corners.map(([dx, dy]) => at(dx, dy)))}Z`,
      })
    }
  }
}

export function pointTitle(line: Line, point: Point, x: string, metric: Metric): string {
  const { median, lowest, highest } = point.spread
  const trials = point.trials.length
  const disturbed = point.trials.filter((trial) => trial.disturbed).length
  const place = typeof point.x === 'number' ? `${x} ${shortNumber(point.x)}` : point.x
  return (
    `${line.label}, ${place}: ${withUnit(median, metric.unit)} ` +
    `(${withUnit(lowest, metric.unit)} to ${withUnit(highest, metric.unit)}, ${trials} trials` +
    `${disturbed > 0 ? `, ${disturbed} disturbed` : ''})`
  )
}

export const spreadValues = (points: readonly Point[]): number[] =>
  points.flatMap(({ spread }) => [spread.lowest, spread.median, spread.highest])

/** Single trials, if they are few enough to be seen: disturbed ones are rings. */
export function trialDots(
  point: Point,
  placeOf: (value: number) => readonly [number, number],
): string {
  if (point.trials.length < 2 || point.trials.length > 60) return ''
  return point.trials
    .map(({ value, disturbed }) => {
      const [cx, cy] = placeOf(value)
      return element('circle', { class: disturbed ? 'disturbed' : 'trial', cx, cy, r: 1.8 })
    })
    .join('')
}
