/** What the part 'schedulers' has measured, for a terminal: tables, and what they say. */
import type { PartResult } from '../suite/result.js'
import { shortNumber, withUnit } from '../suite/units.js'
import {
  isAllOnOne,
  nearestSize,
  percent,
  recommend,
  rowsOf,
  seconds,
  sentenceOf,
  times,
  type Row,
} from './advice.js'
import { kindOf, parseCandidate } from './candidates.js'
import type { Party } from './load.js'
import * as metrics from './metrics.js'
import { Figures } from './metrics.js'

const MISSING = '–'

/** A column of a table: what stands in it, and which values are good. */
interface Column<T> {
  /** Two lines. */
  readonly heading: readonly [string, string]
  readonly text: (row: T) => string
  /** The smaller the better; values that are alike the best are marked. Absent: nothing is marked. */
  readonly badness?: (row: T) => number | undefined
  /** By how much a value may be worse than the best and still be as good, beside 5 %. */
  readonly margin?: number
}

const ALIKE = 1.05

function marked<T>(rows: readonly T[], { badness, margin = 0 }: Column<T>): boolean[] {
  if (badness === undefined) return rows.map(() => false)
  const values = rows.map(badness)
  const known = values.filter((value) => value !== undefined)
  const best = Math.min(...known)
  const isGood = (value: number | undefined): boolean =>
    value !== undefined && value <= best * ALIKE + margin
  // What is true of all is worth no mark.
  return known.every(isGood) ? values.map(() => false) : values.map(isGood)
}

/** Names to the left, all else to the right, the good ones with a star. */
function table<T>(columns: readonly Column<T>[], rows: readonly T[]): string {
  const cells = columns.map((column) => {
    const stars = marked(rows, column)
    const isMarked = column.badness !== undefined
    const texts = rows.map((row, i) => `${column.text(row)}${stars[i] ? '*' : isMarked ? ' ' : ''}`)
    const headings = column.heading.map((text) => `${text}${isMarked ? ' ' : ''}`)
    return [...headings, ...texts]
  })
  const widths = cells.map((column) => Math.max(...column.map((text) => text.length)))
  return cells[0]!
    .map((_, line) =>
      cells
        .map((column, i) =>
          i === 0 ? column[line]!.padEnd(widths[i]!) : column[line]!.padStart(widths[i]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `  ${line}`)
    .join('\n')
}

const orMissing = <T>(value: T | undefined, text: (value: T) => string): string =>
  value === undefined ? MISSING : text(value)

/** Breaks a text into lines; those behind the first stand under its `indent`th character. */
export function wrap(text: string, indent: number, width = 110): string {
  const lines: string[] = []
  const words = text.trimStart()
  let line = ' '.repeat(text.length - words.length)
  for (const word of words.split(' ')) {
    if (line.length + 1 + word.length > width && line.trim() !== '') {
      lines.push(line)
      line = ' '.repeat(indent) + word
    } else line += line.trim() === '' ? word : ` ${word}`
  }
  return [...lines, line].join('\n')
}

function costText(figures: Figures): string {
  const sizes = figures.values<number>(metrics.cost.decision, 'destinations')
  const names = figures
    .subjects(metrics.cost.decision, {})
    .filter((name) => name !== metrics.NOTHING.name)
  if (names.length === 0) return ''
  const changeSize = nearestSize(figures, 1024)!
  const atChange = { destinations: changeSize }
  const decision = (name: string, destinations: number): number | undefined =>
    figures.of(metrics.cost.decision, name, { destinations })
  const columns: Column<string>[] = [
    { heading: ['', 'scheduler'], text: (name) => name },
    { heading: ['', 'work'], text: (name) => kindOf(parseCandidate(name)).order },
    ...sizes.map((size, i): Column<string> => ({
      heading: [i === 0 ? 'decision (ns) among' : '', size.toLocaleString('en-US')],
      text: (name) => orMissing(decision(name, size), (ns) => ns.toFixed(0)),
      badness: (name) => decision(name, size),
    })),
    ...metrics.changes.map((change, i): Column<string> => ({
      heading: [i === 0 ? `change among ${shortNumber(changeSize)}:` : '', change],
      text: (name) =>
        orMissing(figures.of(metrics.change, name, { ...atChange, change }), (ns) =>
          withUnit(ns, 'ns'),
        ),
    })),
    {
      heading: ['', 'memory'],
      text: (name) =>
        orMissing(figures.of(metrics.cost.memory, name, atChange), (bytes) =>
          bytes < 1024 ? '< 1 KiB' : withUnit(bytes, 'bytes'),
        ),
    },
    {
      heading: ['garbage', 'a decision'],
      text: (name) =>
        orMissing(figures.of(metrics.cost.garbage, name, {}), (bytes) =>
          bytes < 1 ? 'none' : withUnit(bytes, 'bytes'),
        ),
    },
  ]
  const loop = sizes
    .map((size) => `${decision(metrics.NOTHING.name, size)?.toFixed(0) ?? MISSING}`)
    .join(', ')
  return [
    'What it costs',
    '',
    table(columns, names),
    '',
    wrap(
      `  work: how a decision grows with the number n of servers, here as in the kernel. decision: with what binds the ` +
        `connection to its server; of it ${loop} ns are the measuring loop’s own. change: from the command to the end ` +
        `of the next decision, tables built anew included. memory: beside the servers. * the best, and what is within 5 % of it.`,
      2,
    ),
  ].join('\n')
}

const leastOf = (moved: number | undefined, least: number | undefined): string =>
  moved === undefined
    ? MISSING
    : `${percent(moved)}${least === undefined ? '' : ` (${percent(least)})`}`

/** Points of a percentage that nobody would notice. */
const POINT = 0.5

const columns: readonly Column<Row>[] = [
  { heading: ['', 'scheduler'], text: ({ name }) => name },
  {
    heading: ['busiest', 'to mean'],
    text: ({ busiest }) => orMissing(busiest, times),
    badness: ({ busiest }) => busiest,
  },
  {
    heading: ['at its', 'worst'],
    text: ({ worst }) => orMissing(worst, times),
    badness: ({ worst }) => worst,
  },
  {
    heading: ['', 'varies'],
    text: ({ variation }) => orMissing(variation, percent),
    badness: ({ variation }) => variation,
  },
  {
    heading: ['same', 'server'],
    text: ({ same }) => orMissing(same, percent),
    badness: ({ same }) => (same === undefined ? undefined : 100 - same),
    margin: POINT,
  },
  {
    heading: ['moved:', 'by itself'],
    text: ({ movedByItself }) => orMissing(movedByItself, percent),
    badness: ({ movedByItself }) => movedByItself,
    margin: POINT,
  },
  {
    heading: ['', 'one leaves'],
    text: ({ movedByLeaving, leastByLeaving }) => leastOf(movedByLeaving, leastByLeaving),
    badness: ({ movedByLeaving }) => movedByLeaving,
    margin: POINT,
  },
  {
    heading: ['', 'it returns'],
    text: ({ movedByReturn, leastByReturn }) => leastOf(movedByReturn, leastByReturn),
    badness: ({ movedByReturn }) => movedByReturn,
    margin: POINT,
  },
  {
    heading: ['cold one', 'gets'],
    text: ({ flood }) => orMissing(flood, times),
    badness: ({ flood }) => (flood === undefined ? undefined : Math.abs(flood - 1)),
    margin: 0.1,
  },
  {
    heading: ['', 'is full'],
    text: ({ fillSeconds }) => (fillSeconds === undefined ? 'never' : seconds(fillSeconds)),
  },
  {
    heading: ['', 'refused'],
    text: ({ refused }) => percent(refused),
    badness: ({ refused }) => refused,
    margin: POINT,
  },
  {
    heading: ['while one', 'drains'],
    text: ({ refusedWhileDraining }) => percent(refusedWhileDraining),
    badness: ({ refusedWhileDraining }) => refusedWhileDraining,
    margin: POINT,
  },
]

const legendFor = (party: Party): string =>
  '  busiest to mean: connections per weight of the busiest server against the mean of all, 1 × is even; varies: their ' +
  'standard deviation. same server: ' +
  `${party}s that come again and meet the server of the last time. moved: ${party}s that ` +
  'meet another one than before, when nothing happens, when one server leaves, when it returns (in brackets: what ' +
  'had to, or has to for its fair share). cold one: what the server gets when it returns, of the new connections of the first moments, 1 × is ' +
  'its fair share; when it has 90 % of what the others have. refused: connections that no server was found for. ' +
  '* good: the best, and what is about as good.'

/** Nothing is good about a scheduler that gives everything to one server. */
const sparing = (column: Column<Row>, servers: number): Column<Row> => {
  const { badness } = column
  return badness === undefined
    ? column
    : { ...column, badness: (row) => (isAllOnOne(row, servers) ? undefined : badness(row)) }
}

function loadText(figures: Figures, load: string): string {
  const { servers, party } = figures.ofLoad(load)
  const rows = rowsOf(figures, load, servers)
  const width = Math.max(...rows.map(({ name }) => name.length)) + 4
  return [
    `What it makes of the load: ${load}`,
    '',
    table(
      columns.map((column) => sparing(column, servers)),
      rows,
    ),
    '',
    wrap(legendFor(party), 2),
    '',
    ...rows.map((row) =>
      wrap(`  ${row.name.padEnd(width - 2)}${sentenceOf(row, servers, party)}`, width),
    ),
    '',
    'What the figures recommend',
    '',
    ...recommend(rows, servers, party).map((text) => wrap(`  - ${text}`, 4)),
  ].join('\n')
}

/** The whole of it. */
export function presentSchedulers(part: PartResult): string {
  const figures = new Figures(part)
  const loads = figures.values<string>(metrics.refused, 'load')
  return [
    `${part.name}: ${part.title}`,
    ...(part.failure === undefined ? [] : [`  ended early: ${part.failure}`]),
    part.notes.map((note) => wrap(`  ${note}`, 4)).join('\n'),
    ...[costText(figures)].filter((text) => text !== ''),
    ...loads.map((load) => loadText(figures, load)),
  ].join('\n\n')
}
