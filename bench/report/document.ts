/**
 * Puts the claims of a run and a plot of each part into docs/performance.md:
 *
 *   npm run bench:document -- uvs-bench/TIME/result.json
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { boundOf, judgeAll, type Judgement } from '../suite/claims.js'
import { parseResult, type RunResult } from '../suite/result.js'
import { unitOf } from '../suite/summary.js'
import { threeDigits, withUnit } from '../suite/units.js'
import { renderPlots, type PlotFile } from './report.js'

const BEGIN = '<!-- figures -->'
const END = '<!-- /figures -->'
const SIGNS = { met: '✓', 'not met': '✗', 'not measured': '–' } as const

interface Figures {
  readonly markdown: string
  /** What it refers to, to lie in docs/images. */
  readonly plots: readonly PlotFile[]
}

function claimRow(judgement: Judgement, unit: string): string {
  const { claim, verdict, ratio, values } = judgement
  const against = values?.against
  const other =
    against === undefined
      ? ''
      : typeof against === 'number'
        ? withUnit(against, unit)
        : withUnit(against.median, unit)
  const cells = [
    `${SIGNS[verdict]} ${verdict}`,
    claim.text,
    ratio === undefined ? '' : threeDigits(ratio.median),
    boundOf(claim),
    values === undefined ? '' : withUnit(values.subject.median, unit),
    other,
  ]
  return `| ${cells.map((cell) => cell.replace(/\|/g, '\\|')).join(' | ')} |`
}

/** The figures of a run as Markdown. */
export function figuresOf(result: RunResult): Figures {
  const judgements = judgeAll(result)
  const all = renderPlots(result)
  const { machine } = result
  const plots: PlotFile[] = []
  const sections = result.parts.flatMap((part) => {
    const own = all.filter((file) => file.part === part.name)
    const headlines = own.filter(({ plot }) => plot.isHeadline)
    const shown = headlines.length > 0 ? headlines : own.slice(0, 1)
    const claims = judgements.filter((judgement) => judgement.part === part.name)
    if (shown.length === 0 && claims.length === 0) return []
    plots.push(...shown)
    return [
      `### ${part.title}`,
      ...(claims.length === 0
        ? []
        : [
            [
              '| | Claim | Ratio | Wanted | uvs | Against |',
              '|---|---|--:|--:|--:|--:|',
              ...claims.map((judgement) => claimRow(judgement, unitOf(result, judgement))),
            ].join('\n'),
          ]),
      ...shown.map(({ plot, name }) => `![${plot.title}](images/${name})`),
    ]
  })
  const lead =
    `${result.startedAt.slice(0, 10)}, commit ${machine.commit}: ${machine.cpu}, ${machine.cores} CPUs ` +
    `(hypervisor: ${machine.hypervisor}), Linux ${machine.kernel.split(' ')[0]!}, node ${machine.node}. ` +
    `\`${result.command}\`.`
  return { markdown: `${[lead, ...sections].join('\n\n')}\n`, plots }
}

/**
 * The page with its figures replaced.
 *
 * @throws Error if it has no place for them
 */
export function insertFigures(page: string, markdown: string): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END)
  if (begin < 0 || end < begin) throw new Error(`the page has no '${BEGIN}' … '${END}'`)
  return `${page.slice(0, begin)}${BEGIN}\n\n${markdown}\n${page.slice(end)}`
}

/** @param file a result.json */
function document(file: string): void {
  const docs = fileURLToPath(new URL('../../../docs', import.meta.url))
  const images = join(docs, 'images')
  const page = join(docs, 'performance.md')
  const { markdown, plots } = figuresOf(parseResult(readFileSync(file, 'utf8')))
  writeFileSync(page, insertFigures(readFileSync(page, 'utf8'), markdown))
  mkdirSync(images, { recursive: true })
  for (const old of readdirSync(images)) if (old.endsWith('.svg')) rmSync(join(images, old))
  for (const { name, svg } of plots) writeFileSync(join(images, name), svg)
}

const [, program, file] = process.argv
if (program === fileURLToPath(import.meta.url)) {
  if (file === undefined) {
    process.stderr.write('usage: npm run bench:document -- RESULT.json\n')
    process.exitCode = 2
  } else document(file)
}
