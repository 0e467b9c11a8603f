/** Draws a plot as SVG: lines with bands over numbers, rows with whiskers over categories. */
import type { Metric } from '../suite/measurement.js'
import { shortNumber, threeDigits, withUnit } from '../suite/units.js'
import type { LineStyle, Mark } from './palette.js'
import { plotStyle } from './palette.js'
import type { Line, Panel, PlotData, Point } from './panels.js'
import { linearScale, logScale, measuredScale, spreadLabels, type Scale } from './scale.js'
import { element, escapeText, path, text, textWidth } from './svg.js'

const WIDTH = 900
const FONT = 13
const SMALL = 12
const LINE_HEIGHT = 17

interface Drawing {
  readonly svg: string
  readonly height: number
}

type Styles = ReadonlyMap<string, LineStyle>

const classOf = ({ colour, isEmphasised }: LineStyle): string =>
  `c${colour === 'limit' ? '-limit' : colour}${isEmphasised ? ' emphasised' : ''}`

const move = (x: number, y: number, ...children: string[]): string =>
  element('g', { transform: `translate(${Math.round(x)} ${Math.round(y)})` }, ...children)

function markShape(mark: Mark, x: number, y: number, size: number): string {
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

/** A value at an axis, without the unit where the axis has it. */
function tickText(value: number, unit: string): string {
  if (value === 0) return '0'
  if (unit === 'ns' || unit === 'bytes') return withUnit(value, unit).replace(/\.0+ /, ' ')
  const prefix = value >= 1e9 ? 1e9 : value >= 1e6 ? 1e6 : value >= 1e3 ? 1e3 : 1
  const digits = Number((value / prefix).toPrecision(3))
  return `${digits}${{ 1e9: 'G', 1e6: 'M', 1e3: 'k', 1: '' }[prefix]}`
}

/** What an axis shows; a rate's name says its unit. */
function axisText({ name, unit, better }: Metric): string {
  const direction = better === 'higher' ? 'higher is better' : 'lower is better'
  const saysUnit = unit.endsWith('/s') && name.includes('per second')
  return `${name}${saysUnit ? '' : `, ${unit}`} (${direction})`
}

function pointTitle(line: Line, point: Point, x: string, metric: Metric): string {
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

const spreadValues = (points: readonly Point[]): number[] =>
  points.flatMap(({ spread }) => [spread.lowest, spread.median, spread.highest])

/** Single trials, if they are few enough to be seen: disturbed ones are rings. */
function trialDots(point: Point, placeOf: (value: number) => readonly [number, number]): string {
  if (point.trials.length < 2 || point.trials.length > 60) return ''
  return point.trials
    .map(({ value, disturbed }) => {
      const [cx, cy] = placeOf(value)
      return element('circle', { class: disturbed ? 'disturbed' : 'trial', cx, cy, r: 1.8 })
    })
    .join('')
}

interface Frame {
  readonly left: number
  readonly right: number
  readonly top: number
  readonly bottom: number
}

function xAxis(x: Scale, frame: Frame, name: string): string {
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

const yAxis = (y: Scale, frame: Frame, unit: string): string =>
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
      trialDots(point, (value) => [place, y.place(value)]),
      markShape(style.mark, place, y.place(point.spread.median), style.isEmphasised ? 4.5 : 3.8),
    )
  })
  return element(
    'g',
    { class: `line ${classOf(style)}` },
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
          class: style.isEmphasised ? 'small strong' : 'small',
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
function legend(labels: readonly string[], styles: Styles): Drawing {
  let x = 0
  let y = 10
  const items = labels.map((label) => {
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
        { class: `line ${classOf(style)}` },
        element('path', { class: 'path', 'stroke-dasharray': style.dash, d: 'M0 0L26 0' }),
        markShape(style.mark, 13, 0, 4),
      ),
      text(label, { class: style.isEmphasised ? 'strong' : undefined, x: 33, y: 4 }),
    )
    x += width
    return item
  })
  return { svg: items.join(''), height: y + 16 }
}

const labelsOf = (panels: readonly Panel[]): string[] => [
  ...new Set(panels.flatMap(({ lines }) => lines.map(({ label }) => label))),
]

const MOST_END_LABELS = 16
const PANEL_GAP = 28

function linePlot(data: PlotData, styles: Styles): Drawing {
  const { panels } = data
  const labels = labelsOf(panels)
  if (panels.length === 1 && labels.length <= MOST_END_LABELS) {
    const height = Math.max(400, labels.length * 17 + 100)
    const widest = Math.max(...labels.map((label) => textWidth(label, FONT)))
    const size = { width: WIDTH, height, labelWidth: Math.min(300, widest + 24) }
    return { svg: linePanel(panels[0]!, data, styles, size), height }
  }
  const names = legend(labels, styles)
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

const ROW_HEIGHT = 23

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
    { class: `row ${classOf(style)}` },
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
    markShape(style.mark, x.place(median), y, style.isEmphasised ? 5 : 4.2),
  )
}

function rowPanel(panel: Panel, data: PlotData, styles: Styles): Drawing {
  const { plot, metric, panels } = data
  const categories = rowsByCategory(panel, plot.x)
  const isSingle = [...categories.values()].every((rows) => rows.length === 1)
  const labels = [...categories].flatMap(([category, rows]) =>
    rows.map(({ line }) => (isSingle ? category : line.label)),
  )
  const left = Math.min(320, Math.max(...labels.map((label) => textWidth(label, FONT))) + 24)
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
          class: style.isEmphasised ? 'end strong' : 'end',
          x: left - 12,
          y: middle + 4,
        }),
        drawRow(row, style, x, middle, isLog, metric),
        text(withUnit(row.point.spread.median, metric.unit).replace(metric.unit, '').trim(), {
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

function rowPlot(data: PlotData, styles: Styles): Drawing {
  const parts: string[] = []
  let y = 0
  for (const panel of data.panels) {
    const drawn = rowPanel(panel, data, styles)
    parts.push(move(0, y, drawn.svg))
    y += drawn.height + PANEL_GAP
  }
  return { svg: parts.join(''), height: y - PANEL_GAP }
}

const draw = (data: PlotData, styles: Styles): Drawing =>
  data.plot.xScale === 'category' ? rowPlot(data, styles) : linePlot(data, styles)

/** What a reader who does not see the picture is told: the medians. */
function description({ plot, metric, panels }: PlotData): string {
  const lines = panels.flatMap(({ title, lines }) =>
    lines.map(({ label, points }) => {
      const values = points.map(
        ({ x, spread }) => `${shortNumber(x)}: ${withUnit(spread.median, metric.unit)}`,
      )
      return `${title === '' ? '' : `${title}: `}${label}: ${values.join(', ')}.`
    }),
  )
  return `${plot.caption} ${metric.name} by ${plot.x}. ${lines.join(' ')}`
}

/** For a page that has plotStyle, the title and the caption. */
export function inlinePlot(data: PlotData, styles: Styles): string {
  const { svg, height } = draw(data, styles)
  return element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      class: 'plot',
      viewBox: `-2 -2 ${WIDTH + 4} ${Math.ceil(height) + 4}`,
      role: 'img',
      'aria-label': `${data.plot.title}. ${description(data)}`,
    },
    svg,
  )
}

/** Words in lines of at most this width. */
function wrap(content: string, width: number, size: number): string[] {
  const lines: string[] = []
  for (const word of content.split(' ')) {
    const last = lines[lines.length - 1]
    if (last !== undefined && textWidth(`${last} ${word}`, size) <= width)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}

/** A file of its own, with title and caption. */
export function standalonePlot(data: PlotData, styles: Styles, source: string): string {
  const padding = 24
  const { svg, height } = draw(data, styles)
  const caption = wrap(data.plot.caption, WIDTH, FONT)
  const captionTop = 30
  const plotTop = captionTop + caption.length * LINE_HEIGHT + 10
  const sourceTop = plotTop + height + 22
  const fullWidth = WIDTH + 2 * padding
  const fullHeight = Math.ceil(sourceTop + 2 * padding)
  return element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      class: 'plot',
      viewBox: `0 0 ${fullWidth} ${fullHeight}`,
      width: fullWidth,
      height: fullHeight,
      role: 'img',
    },
    element('title', {}, escapeText(data.plot.title)),
    element('desc', {}, escapeText(description(data))),
    element('style', {}, escapeText(plotStyle)),
    element('rect', { class: 'paper', width: fullWidth, height: fullHeight, rx: 10 }),
    move(
      padding,
      padding,
      text(data.plot.title, { class: 'title', x: 0, y: 12 }),
      ...caption.map((line, i) =>
        text(line, { class: 'soft', x: 0, y: captionTop + 4 + i * LINE_HEIGHT }),
      ),
      move(0, plotTop, svg),
      text(source, { class: 'small soft', x: 0, y: sourceTop }),
    ),
  )
}

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
        text(threeDigits(limit), {
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
