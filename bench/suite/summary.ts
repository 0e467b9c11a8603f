/** The result as text for a terminal: claims with their verdicts, then medians with their spread. */
import { boundOf, judgeAll, roundsText, type Judgement } from './claims.js'
import type { PartResult, RunResult } from './result.js'
import { seriesOf, type Series } from './statistics.js'
import { parametersText, threeDigits, withUnit } from './units.js'

const VERDICT_SIGNS = { met: '✓', 'not met': '✗', 'not measured': '–' } as const

/** As 'uvs 31.2 ns, JavaScript Map 90.1 ns: ratio 0.35 (0.33 to 0.38), wanted ≤ 0.5'. */
export function evidenceOf(judgement: Judgement, unit: string): string {
  const { claim, ratio, values, parameters, reason } = judgement
  if (ratio === undefined || values === undefined) return reason ?? ''
  const where = parameters === undefined ? '' : parametersText(parameters)
  const subject = `${claim.subject} ${withUnit(values.subject.median, unit)}`
  const against =
    typeof values.against === 'number'
      ? withUnit(values.against, unit)
      : `${claim.againstParameters ? `at ${parametersText(claim.againstParameters)}` : claim.against} ` +
        withUnit(values.against.median, unit)
  const range = `${threeDigits(ratio.lowest)} to ${threeDigits(ratio.highest)}`
  return (
    `${subject} against ${against}${where && ` (${where})`}: ` +
    `ratio ${threeDigits(ratio.median)} (${range} in ${roundsText(ratio.count)}), wanted ${boundOf(claim)}`
  )
}

export const unitOf = (result: RunResult, { part, claim }: Judgement): string =>
  result.parts.find(({ name }) => name === part)?.metrics.find(({ name }) => name === claim.metric)
    ?.unit ?? ''

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows
    .map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join('  ')}`.trimEnd())
    .join('\n')
}

const rowOf = ({ subject, parameters, metric, spread, disturbed, samples }: Series): string[] => [
  metric.name,
  parametersText(parameters),
  subject.name,
  withUnit(spread.median, metric.unit),
  `${withUnit(spread.lowest, metric.unit)} to ${withUnit(spread.highest, metric.unit)}`,
  `${samples.length}${disturbed > 0 ? `, ${disturbed} disturbed` : ''}`,
]

function partText(part: PartResult, disturbedBound: number): string {
  const rows = seriesOf(part, disturbedBound).map(rowOf)
  const heading = ['metric', 'parameters', 'subject', 'median', 'lowest to highest', 'trials']
  return [
    `${part.name}: ${part.title}`,
    ...(part.failure === undefined ? [] : [`  ended early: ${part.failure}`]),
    ...part.notes.map((note) => `  note: ${note}`),
    ...(rows.length > 0 ? [table([heading, ...rows])] : []),
  ].join('\n')
}

/** @param own what parts that can say it better have said about their results, by name */
export function summarise(result: RunResult, own: ReadonlyMap<string, string> = new Map()): string {
  const claims = judgeAll(result).map(
    (judgement) =>
      `${VERDICT_SIGNS[judgement.verdict]} ${judgement.claim.text}\n` +
      `    ${judgement.verdict}: ${evidenceOf(judgement, unitOf(result, judgement))}\n` +
      `    ${judgement.command}`,
  )
  const { machine } = result
  return [
    `${machine.cpu}, ${machine.cores} CPUs, kernel ${machine.kernel.split(' ')[0]}, node ${machine.node}`,
    ...result.parts.map((part) => own.get(part.name) ?? partText(part, result.disturbedBound)),
    ...(claims.length > 0 ? [claims.join('\n')] : []),
    '',
  ].join('\n\n')
}
