/** Rows with whiskers under the headings of categories: bars from 0, or marks on a logarithmic scale. */
import type { Metric } from '../suite/measurement.js'
import { shortNumber, withUnit } from '../suite/units.js'
import { axisText, tickText, type Frame } from './axes.js'
import {
  FONT,
  PANEL_GAP,
  SMALL,
  WIDTH,
  classOf,
  markShape,
  move,
  pointTitle,
  spreadValues,
  trialDots,
  type Drawing,
  type Styles,
} from './marks.js'
import type { LineStyle } from './palette.js'
import type { Line, Panel, PlotData, Point } from './panels.js'
import { linearScale, logScale, type Scale } from './scale.js'
import { element, escapeText, text, textWidth } from './svg.js'

const ROW_HEIGHT = 23

/** Without the unit where it is always the same. */
const shortValue = (value: number, unit: string): string =>
  unit === 'ns' || unit === 'bytes'
    ? withUnit(value, unit)
    : withUnit(value, unit).replace(unit, '').trim()

interface Row {
  readonly line: Line
  readonly point: Point
}

/** Rows under the heading of each category. */
function rowsByCategory(panel: Panel, name: string): Map<string, Row[]> {
  const rows = new Map<string, Row[]>()
  for (const line of panel.lines)
    for (const point of line.points) {
      const category = typeof point.x === 'number' ? `${name} ${shortNumber(point.x)}` : point.x
      rows.set(category, [...(rows.get(category) ?? []), { line, point }])
    }
  return rows
}

function drawRow(row: Row, style: LineStyle, x: Scale, y: number, isLog: boolean, m: Metric) {
  const { point, line } = row
  const { lowest, firstQuartile, median, thirdQuartile, highest } = point.spread
  const start = x.place(x.domain[0])
  return element(
    'g',
    { class: `row ${classOf(style, line)}` },
    element('title', {}, escapeText(pointTitle(line, point, '', m))),
    isLog
      ? element('line', {
          x1: start,
          x2: x.place(median),
          y1: y,
          y2: y,
          'stroke-opacity': 0.35,
          'stroke-dasharray': '1 3',
        })
      : element('rect', {
          class: 'bar',
          x: start,
          y: y - 7,
          width: Math.max(0, x.place(median) - start),
          height: 14,
          rx: 2,
        }),
    element('line', {
      'stroke-width': 1.2,
      x1: x.place(lowest),
      x2: x.place(highest),
      y1: y,
      y2: y,
    }),
    element('line', {
      'stroke-width': 6,
      'stroke-opacity': 0.35,
      x1: x.place(firstQuartile),
      x2: x.place(thirdQuartile),
      y1: y,
      y2: y,
    }),
    trialDots(point, (value) => [x.place(value), y]),
    markShape(style.mark, x.place(median), y, line.isEmphasised ? 5 : 4.2),
  )
}

/** The most that labels may have of a plot's width. */
const MOST_LEFT = 420

/** With room for a typeface that runs wide: a label that is longer than it was thought is cut off at the plot's edge. */
const labelWidth = (label: string): number => 1.12 * textWidth(label, FONT)

function rowPanel(panel: Panel, data: PlotData, styles: Styles): Drawing {
  const { plot, metric, panels } = data
  const categories = rowsByCategory(panel, plot.x)
  const isSingle = [...categories.values()].every((rows) => rows.length === 1)
  const labels = [...categories].flatMap(([category, rows]) =>
    rows.map(({ line }) => (isSingle ? category : line.label)),
  )
  const left = Math.min(MOST_LEFT, Math.max(...labels.map(labelWidth)) + 24)
  const right = WIDTH - 96
  const values = spreadValues(panels.flatMap(({ lines }) => lines.flatMap(({ points }) => points)))
  const isLog = plot.yScale === 'log'
  const x = isLog ? logScale(values, left, right) : linearScale(values, left, right, 7)
  const parts: string[] = []
  let y = 4
  if (panel.title !== '') {
    parts.push(text(panel.title, { class: 'strong', x: 0, y: y + 10 }))
    y += 26
  }
  parts.push(
    text(axisText(metric), {
      class: 'small soft',
      x: left,
      y: y + 8,
    }),
  )
  y += 20
  const top = y
  const rowParts: string[] = []
  for (const [category, rows] of categories) {
    if (!isSingle) {
      rowParts.push(text(category, { class: 'strong', x: 0, y: y + 19 }))
      y += 28
    }
    for (const row of rows) {
      const style = styles.get(row.line.label)!
      const middle = y + ROW_HEIGHT / 2
      const label = isSingle ? category : row.line.label
      rowParts.push(
        text(label, {
          class: row.line.isEmphasised ? 'end strong' : 'end',
          // What is too long is squeezed rather than cut off.
          ...(labelWidth(label) > left - 24 && {
            textLength: left - 24,
            lengthAdjust: 'spacingAndGlyphs',
          }),
          x: left - 12,
          y: middle + 4,
        }),
        drawRow(row, style, x, middle, isLog, metric),
        text(shortValue(row.point.spread.median, metric.unit), {
          class: 'end',
          x: WIDTH - 4,
          y: middle + 4,
        }),
      )
      y += ROW_HEIGHT
    }
    if (!isSingle) y += 6
  }
  const frame: Frame = { left, right, top, bottom: y + 4 }
  let edge = -Infinity
  for (const tick of x.ticks) {
    const place = x.place(tick)
    parts.push(
      element('line', { class: 'rule', x1: place, x2: place, y1: frame.top, y2: frame.bottom }),
    )
    const label = tickText(tick, metric.unit)
    const half = textWidth(label, SMALL) / 2 + 4
    if (place - half < edge) continue
    edge = place + half
    parts.push(text(label, { class: 'small soft middle', x: place, y: frame.bottom + 16 }))
  }
  return { svg: parts.join('') + rowParts.join(''), height: frame.bottom + 26 }
}

export function rowPlot(data: PlotData, styles: Styles): Drawing {
  const parts: string[] = []
  let y = 0
  for (const panel of data.panels) {
    const drawn = rowPanel(panel, data, styles)
    parts.push(move(0, y, drawn.svg))
    y += drawn.height + PANEL_GAP
  }
  return { svg: parts.join(''), height: y - PANEL_GAP }
}
