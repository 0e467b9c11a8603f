/** Claims against the data: met or not, by how much, and how anybody can see it for himself. */
import type { Claim, Parameters } from './measurement.js'
import type { RunResult } from './result.js'
import {
  hasParameters,
  pairedRatios,
  parametersKey,
  seriesOf,
  spreadOf,
  type Series,
  type Spread,
} from './statistics.js'

export type Verdict = 'met' | 'not met' | 'not measured'

export interface Judgement {
  readonly part: string
  readonly claim: Claim
  readonly verdict: Verdict
  /** The ratios subject / against by rounds; of several sets of parameters the worst one's. */
  readonly ratio?: Spread
  /** What the ratio is made of, in the metric's unit. */
  readonly values?: { readonly subject: Spread; readonly against: Spread | number }
  readonly parameters?: Parameters
  /** Why nothing can be said. */
  readonly reason?: string
  /** What measures it again. */
  readonly command: string
}

/** How a bound reads: '≥ 0.95'. */
export const boundOf = ({ atLeast, atMost }: Claim): string =>
  [atLeast === undefined ? '' : `≥ ${atLeast}`, atMost === undefined ? '' : `≤ ${atMost}`]
    .filter((text) => text !== '')
    .join(' and ')

type Candidate = Required<Pick<Judgement, 'ratio' | 'values' | 'parameters'>>

/** How far inside its bounds the median is: negative if outside. */
function margin({ atLeast, atMost }: Claim, ratio: Spread): number {
  return Math.min(
    atLeast === undefined ? Infinity : ratio.median - atLeast,
    atMost === undefined ? Infinity : atMost - ratio.median,
  )
}

function compare(claim: Claim, subject: Series, all: readonly Series[]): Candidate | undefined {
  const { against, againstParameters } = claim
  if (typeof against === 'number')
    return {
      ratio: spreadOf(subject.used.map(({ value }) => value / against)),
      values: { subject: subject.spread, against },
      parameters: subject.parameters,
    }
  const key = parametersKey({ ...subject.parameters, ...againstParameters })
  const other = all.find(
    (series) =>
      series.metric === subject.metric &&
      series.subject.name === against &&
      parametersKey(series.parameters) === key,
  )
  const ratios = other === undefined ? [] : pairedRatios(subject, other)
  if (other === undefined || ratios.length === 0) return undefined
  return {
    ratio: spreadOf(ratios),
    values: { subject: subject.spread, against: other.spread },
    parameters: subject.parameters,
  }
}

function judge(part: string, claim: Claim, all: readonly Series[], failure?: string): Judgement {
  const command = `uvs bench ${part}`
  const subjects = all.filter(
    ({ metric, subject, parameters }) =>
      metric.name === claim.metric &&
      subject.name === claim.subject &&
      hasParameters(parameters, claim.parameters),
  )
  const candidates = subjects.flatMap((subject) => compare(claim, subject, all) ?? [])
  const [worst] = candidates.sort((a, b) => margin(claim, a.ratio) - margin(claim, b.ratio))
  if (worst === undefined) {
    const missing = subjects.length === 0 ? claim.subject : String(claim.against)
    const reason = failure ?? `this run has no ${claim.metric} of ${missing} for it`
    return { part, claim, verdict: 'not measured', reason, command }
  }
  const verdict = margin(claim, worst.ratio) >= 0 ? 'met' : 'not met'
  return { part, claim, verdict, ...worst, command }
}

/** All claims of the parts that were run, in their order. */
export function judgeAll({ parts, disturbedBound }: RunResult): Judgement[] {
  return parts.flatMap((part) => {
    const all = seriesOf(part, disturbedBound)
    return part.claims.map((claim) => judge(part.name, claim, all, part.failure))
  })
}

/** How many rounds a ratio is of, for people. */
export function roundsText(count: number): string {
  return count === 1 ? '1 round' : `${count} rounds`
}
