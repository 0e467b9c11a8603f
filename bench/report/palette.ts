/**
 * How a line looks: a colour that is told from the others with any kind of colour sight (Okabe and Ito 2008,
 * brought to 3:1 on both backgrounds), and a mark of its own for those who see none. Limits are grey and dashed.
 */
import type { Subject } from '../suite/measurement.js'
import type { Line } from './panels.js'

export interface LineStyle {
  /** Number of the colour, or 'limit'. */
  readonly colour: number | 'limit'
  readonly mark: Mark
  readonly dash?: string
}

export const MARKS = ['circle', 'square', 'diamond', 'triangle', 'cross', 'inverted'] as const
export type Mark = (typeof MARKS)[number]

/** On a light and on a dark background. The first is uvs's wherever it stands beside others. */
const COLOURS = [
  { light: '#0068a8', dark: '#5cb8f0' },
  { light: '#c94f00', dark: '#ff8f4a' },
  { light: '#00835f', dark: '#2fc79a' },
  { light: '#b0508a', dark: '#e58fc0' },
  { light: '#9a6b00', dark: '#efb73e' },
  { light: '#6b55c8', dark: '#a996ff' },
  { light: '#00808a', dark: '#45c9d6' },
  { light: '#a33b3b', dark: '#f08a8a' },
] as const
const LIMIT = { light: '#6d7480', dark: '#9aa3b2' }

const DASHES = ['5 4', '2 3', '9 4', '9 3 2 3']

/** A style for each name, in their order. */
function styleNames(names: readonly { name: string; isLimit: boolean }[]): Map<string, LineStyle> {
  const styles = new Map<string, LineStyle>()
  let colours = 0
  let limits = 0
  for (const { name, isLimit } of names) {
    if (styles.has(name)) continue
    if (isLimit) {
      const dash = DASHES[limits % DASHES.length]!
      styles.set(name, { colour: 'limit', mark: MARKS[limits % MARKS.length]!, dash })
      limits++
      continue
    }
    const turn = Math.floor(colours / COLOURS.length)
    styles.set(name, {
      colour: colours % COLOURS.length,
      mark: MARKS[(colours + turn) % MARKS.length]!,
      ...(turn === 0 ? {} : { dash: DASHES[(turn - 1) % DASHES.length]! }),
    })
    colours++
  }
  return styles
}

/** The looks of a part's subjects, the same in all its plots: uvs first, then as they come. */
export function styleSubjects(subjects: readonly Subject[]): Map<string, LineStyle> {
  const isUvs = ({ role }: Subject): boolean => role === 'uvs'
  const ordered = [...subjects.filter(isUvs), ...subjects.filter((subject) => !isUvs(subject))]
  return styleNames(ordered.map(({ name, role }) => ({ name, isLimit: role === 'limit' })))
}

/**
 * The looks of a plot's lines by their labels: those of the subjects, unless a subject has several lines, or there
 * are more subjects in the part than colours and no more lines in the plot.
 */
export function styleLines(
  lines: readonly Line[],
  subjects: ReadonlyMap<string, LineStyle>,
): Map<string, LineStyle> {
  const labels = new Map(lines.map(({ label, subject }) => [label, subject]))
  const shown = new Set([...labels.values()].map(({ name }) => name))
  const styles = [...shown].map((name) => subjects.get(name)!)
  const colours = styles.map(({ colour }) => colour).filter((colour) => colour !== 'limit')
  const isAmbiguous =
    shown.size < labels.size ||
    (colours.length <= COLOURS.length && new Set(colours).size < colours.length)
  if (isAmbiguous)
    return styleNames([...labels].map(([name, { role }]) => ({ name, isLimit: role === 'limit' })))
  return new Map([...labels].map(([label, { name }]) => [label, subjects.get(name)!]))
}

const SURFACES = {
  light: { paper: '#ffffff', ink: '#1c2330', soft: '#5b6472', rule: '#dfe3ea' },
  dark: { paper: '#161b24', ink: '#e8ebf1', soft: '#a3adbc', rule: '#303848' },
} as const

/** Rules of one scheme for plots. Written out instead of with variables: not everything that draws SVG knows these. */
function schemeStyle(scheme: 'light' | 'dark'): string {
  const { paper, ink, soft, rule } = SURFACES[scheme]
  const colour = (name: string, value: string): string =>
    `.plot .${name}{stroke:${value};fill:${value}}`
  return [
    `.plot .paper{fill:${paper}}.plot text{fill:${ink}}.plot .soft{fill:${soft}}`,
    `.plot .rule{stroke:${rule}}.plot .mark{stroke:${paper}}`,
    `.plot .line text{fill:${ink}}`,
    ...COLOURS.map((pair, i) => colour(`c${i}`, pair[scheme])),
    colour('c-limit', LIMIT[scheme]),
  ].join('')
}

/** Everything that a plot needs to know of CSS. */
export const plotStyle = [
  '.plot{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-size:13px}',
  '.plot .title{font-size:17px;font-weight:650}.plot .strong{font-weight:600}',
  '.plot .small{font-size:12px}.plot .end{text-anchor:end}.plot .middle{text-anchor:middle}',
  '.plot .rule{stroke-width:1}',
  '.plot text{font-variant-numeric:tabular-nums}',
  schemeStyle('light'),
  `@media (prefers-color-scheme:dark){${schemeStyle('dark')}}`,
  // More specific than the colours, which are given to a whole line with all its parts.
  '.plot .line .path,.plot .row .path{fill:none;stroke-width:1.8;stroke-linejoin:round}',
  '.plot .line.emphasised .path{stroke-width:2.8}',
  '.plot .line .hair{fill:none;stroke-width:.8;stroke-opacity:.6}',
  '.plot .line .band,.plot .row .band{stroke:none;fill-opacity:.13}',
  '.plot .line .trial,.plot .row .trial{stroke:none;fill-opacity:.32}',
  '.plot .line .disturbed,.plot .row .disturbed{fill:none;stroke-width:1;stroke-opacity:.5}',
  '.plot .line .bar,.plot .row .bar{stroke:none;fill-opacity:.22}',
  '.plot .line .mark,.plot .row .mark{stroke-width:1.5}',
  '.plot .line text,.plot .row text{stroke:none}',
  '@media (hover:hover){.plot:has(.line:hover) .line:not(:hover){opacity:.2}}',
].join('\n')
