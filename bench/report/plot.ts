/** Draws a plot as SVG, for the page or as a file. */
import { shortNumber, withUnit } from '../suite/units.js'
import { linePlot } from './line-plot.js'
import { FONT, WIDTH, move, type Drawing, type Styles } from './marks.js'
import { plotStyle } from './palette.js'
import type { PlotData } from './panels.js'
import { rowPlot } from './row-plot.js'
import { element, escapeText, text, textWidth } from './svg.js'

const LINE_HEIGHT = 17

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
