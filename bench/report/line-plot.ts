/** Lines with bands over numbers, in panels of the same scale. */
import type { Metric } from '../suite/measurement.js'
import { axisText, tickText, xAxis, yAxis, type Frame } from './axes.js'
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
import { linearScale, logScale, measuredScale, spreadLabels, type Scale } from './scale.js'
import { element, escapeText, path, text, textWidth } from './svg.js'

/** A line of more points, as of something over time, has a mark at some of them only. */
const MOST_MARKS = 24

function drawLine(
  line: Line,
  style: LineStyle,
  x: Scale,
  y: Scale,
  name: string,
  metric: Metric,
): string {
  const places = line.points.map((point) => x.place(point.x as number))
  const along = (of: (point: Point) => number): (readonly [number, number])[] =>
    line.points.map((point, i) => [places[i]!, y.place(of(point))])
  const band = (low: (point: Point) => number, high: (point: Point) => number): string =>
    line.points.length < 2
      ? ''
      : element('path', { class: 'band', d: `${path([...along(low), ...along(high).reverse()])}Z` })
  const between = Math.ceil(line.points.length / MOST_MARKS)
  const marks = line.points.map((point, i) => {
    const place = places[i]!
    return element(
      'g',
      {},
      element('title', {}, escapeText(pointTitle(line, point, name, metric))),
      line.points.length < 2
        ? element('line', {
            x1: place,
            x2: place,
            y1: y.place(point.spread.lowest),
            y2: y.place(point.spread.highest),
          })
        : '',
      between > 1 ? '' : trialDots(point, (value) => [place, y.place(value)]),
      i % between > 0
        ? ''
        : markShape(style.mark, place, y.place(point.spread.median), line.isEmphasised ? 4.5 : 3.8),
    )
  })
  return element(
    'g',
    { class: `line ${classOf(style, line)}` },
    band(
      ({ spread }) => spread.lowest,
      ({ spread }) => spread.highest,
    ),
    band(
      ({ spread }) => spread.firstQuartile,
      ({ spread }) => spread.thirdQuartile,
    ),
    element('path', {
      class: 'path',
      'stroke-dasharray': style.dash,
      d: path(along(({ spread }) => spread.median)),
    }),
    ...marks,
  )
}

/** Names at the lines' ends, moved apart, with a hair from the end to the name. */
function endLabels(lines: readonly Line[], styles: Styles, x: Scale, y: Scale, f: Frame): string {
  const ends = lines.map(({ points }) => points[points.length - 1]!)
  const places = ends.map(({ spread }) => y.place(spread.median))
  const labels = spreadLabels(places, 16, f.top + 4, f.bottom)
  return lines
    .map((line, i) => {
      const style = styles.get(line.label)!
      const from = x.place(ends[i]!.x as number)
      return element(
        'g',
        { class: `line ${classOf(style)}` },
        element('path', {
          class: 'hair',
          d: path([
            [from + 6, places[i]!],
            [f.right + 8, places[i]!],
            [f.right + 16, labels[i]!],
          ]),
        }),
        markShape(style.mark, f.right + 22, labels[i]!, 3.2),
        text(line.label, {
          class: line.isEmphasised ? 'small strong' : 'small',
          x: f.right + 31,
          y: labels[i]! + 4,
        }),
      )
    })
    .join('')
}

interface PanelSize {
  readonly width: number
  readonly height: number
  /** Room for names at the lines' ends; 0 if a legend has them. */
  readonly labelWidth: number
}

function linePanel(
  panel: Panel,
  { plot, metric, panels }: PlotData,
  styles: Styles,
  size: PanelSize,
): string {
  // All panels have the same scale, so that they can be compared.
  const all = panels.flatMap(({ lines }) => lines.flatMap(({ points }) => points))
  const top = panel.title === '' ? 26 : 46
  const bottom = size.height - 46
  const isLog = plot.yScale === 'log'
  const values = spreadValues(all)
  const y = isLog ? logScale(values, bottom, top) : linearScale(values, bottom, top, 6)
  const tickWidths = y.ticks.map((tick) => textWidth(tickText(tick, metric.unit), SMALL))
  const left = Math.max(...tickWidths) + 14
  const right = size.width - 14 - size.labelWidth
  const frame: Frame = { left, right, top, bottom }
  const inset = 12
  const xs = all.map((point) => point.x as number)
  const x = measuredScale(xs, left + inset, right - inset, plot.xScale === 'log')
  return [
    ...(panel.title === '' ? [] : [text(panel.title, { class: 'strong', x: 0, y: 14 })]),
    text(axisText(metric), {
      class: 'small soft',
      x: 0,
      y: top - 14,
    }),
    yAxis(y, frame, metric.unit),
    xAxis(x, frame, plot.x),
    // uvs on top of the others.
    ...[...panel.lines]
      .sort((a, b) => Number(a.subject.role === 'uvs') - Number(b.subject.role === 'uvs'))
      .map((line) => drawLine(line, styles.get(line.label)!, x, y, plot.x, metric)),
    ...(size.labelWidth > 0 ? [endLabels(panel.lines, styles, x, y, frame)] : []),
  ].join('')
}

/** Names with their marks, in as many lines as they need. */
function legend(lines: readonly Line[], styles: Styles): Drawing {
  let x = 0
  let y = 10
  const items = lines.map((line) => {
    const { label } = line
    const style = styles.get(label)!
    const width = textWidth(label, FONT) + 52
    if (x + width > WIDTH && x > 0) {
      x = 0
      y += 22
    }
    const item = move(
      x,
      y,
      element(
        'g',
        { class: `line ${classOf(style, line)}` },
        element('path', { class: 'path', 'stroke-dasharray': style.dash, d: 'M0 0L26 0' }),
        markShape(style.mark, 13, 0, 4),
      ),
      text(label, { class: line.isEmphasised ? 'strong' : undefined, x: 33, y: 4 }),
    )
    x += width
    return item
  })
  return { svg: items.join(''), height: y + 16 }
}

/** One line for each label. */
const linesOf = (panels: readonly Panel[]): Line[] => [
  ...new Map(panels.flatMap(({ lines }) => lines.map((line) => [line.label, line]))).values(),
]

const MOST_END_LABELS = 16

export function linePlot(data: PlotData, styles: Styles): Drawing {
  const { panels } = data
  const lines = linesOf(panels)
  if (panels.length === 1 && lines.length <= MOST_END_LABELS) {
    const height = Math.max(400, lines.length * 17 + 100)
    const widest = Math.max(...lines.map(({ label }) => textWidth(label, FONT)))
    const size = { width: WIDTH, height, labelWidth: Math.min(320, widest + 28) }
    return { svg: linePanel(panels[0]!, data, styles, size), height }
  }
  const names = legend(lines, styles)
  const columns = panels.length === 1 ? 1 : 2
  const width = (WIDTH - PANEL_GAP * (columns - 1)) / columns
  const height = columns === 1 ? 400 : 310
  const drawn = panels.map((panel, i) =>
    move(
      (i % columns) * (width + PANEL_GAP),
      names.height + 8 + Math.floor(i / columns) * (height + PANEL_GAP),
      linePanel(panel, data, styles, { width, height, labelWidth: 0 }),
    ),
  )
  const rows = Math.ceil(panels.length / columns)
  return {
    svg: names.svg + drawn.join(''),
    height: names.height + 8 + rows * (height + PANEL_GAP) - PANEL_GAP,
  }
}
