/** Medians with their spread, and what was measured as series of them. */
import type { Metric, Parameters, Subject } from './measurement.js'
import type { PartResult, Sample } from './result.js'

export interface Spread {
  readonly count: number
  readonly lowest: number
  readonly firstQuartile: number
  readonly median: number
  readonly thirdQuartile: number
  readonly highest: number
}

/** The value below which a share `q` of the ascending `sorted` lies, between two of them by proportion. */
export function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) throw new Error('no values have no quantile')
  const place = q * (sorted.length - 1)
  const below = Math.floor(place)
  const above = Math.min(below + 1, sorted.length - 1)
  return sorted[below]! + (sorted[above]! - sorted[below]!) * (place - below)
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  return {
    count: sorted.length,
    lowest: quantile(sorted, 0),
    firstQuartile: quantile(sorted, 0.25),
    median: quantile(sorted, 0.5),
    thirdQuartile: quantile(sorted, 0.75),
    highest: quantile(sorted, 1),
  }
}

/** The same text for the same parameters, in whichever order they were given. */
export const parametersKey = (parameters: Parameters): string =>
  JSON.stringify(Object.entries(parameters).sort(([a], [b]) => (a < b ? -1 : 1)))

/** Whether `parameters` have all of `wanted`. */
export const hasParameters = (parameters: Parameters, wanted: Parameters): boolean =>
  Object.entries(wanted).every(([name, value]) => parameters[name] === value)

/** So many undisturbed trials, or half of all, make a median. */
const LEAST_UNDISTURBED = 3

/** All trials of one subject with one set of parameters, seen by one metric. */
export interface Series {
  readonly metric: Metric
  readonly subject: Subject
  readonly parameters: Parameters
  readonly samples: readonly Sample[]
  /** Trials that count: the undisturbed ones, unless they are too few. */
  readonly used: readonly Sample[]
  /** How many trials were disturbed. */
  readonly disturbed: number
  readonly spread: Spread
}

export const isDisturbed = (sample: Sample, disturbedBound: number): boolean =>
  Math.max(sample.stolenShare, sample.waitedShare, sample.othersShare ?? 0) > disturbedBound

/** The series of a part, in the order in which they were first measured. */
export function seriesOf(part: PartResult, disturbedBound: number): Series[] {
  const groups = new Map<string, Sample[]>()
  for (const sample of part.samples) {
    const key = `${sample.metric}\n${sample.subject}\n${parametersKey(sample.parameters)}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [sample])
    else group.push(sample)
  }
  return [...groups.values()].map((samples) => {
    const undisturbed = samples.filter((sample) => !isDisturbed(sample, disturbedBound))
    const isEnough = undisturbed.length >= Math.min(LEAST_UNDISTURBED, samples.length / 2)
    const used = isEnough ? undisturbed : samples
    const { metric, subject, parameters } = samples[0]!
    return {
      metric: part.metrics.find(({ name }) => name === metric)!,
      subject: part.subjects.find(({ name }) => name === subject)!,
      parameters,
      samples,
      used,
      disturbed: samples.length - undisturbed.length,
      spread: spreadOf(used.map(({ value }) => value)),
    }
  })
}

/** Median of what counts, round by round. */
function medianByRound(series: Series): Map<number, number> {
  const rounds = new Map<number, number[]>()
  for (const { round, value } of series.used) {
    const values = rounds.get(round)
    if (values === undefined) rounds.set(round, [value])
    else values.push(value)
  }
  return new Map([...rounds].map(([round, values]) => [round, spreadOf(values).median]))
}

/** The ratios subject / against of the rounds that both have: what disturbs a whole round does not change them. */
export function pairedRatios(subject: Series, against: Series): number[] {
  const others = medianByRound(against)
  return [...medianByRound(subject)].flatMap(([round, value]) => {
    const other = others.get(round)
    return other === undefined ? [] : [value / other]
  })
}
