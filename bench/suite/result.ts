/** What a run of the benchmark leaves: the raw data, from which everything else is computed. */
import type { Claim, Metric, Parameters, Part, PartOptions, Plot, Subject } from './measurement.js'
import type { Machine } from './machine.js'

export const FORMAT = 'uvs-bench 1'

/**
 * Trials from which the hypervisor or other programs took more than this share of the processor's time do not
 * count.
 */
export const DISTURBED_BOUND = 0.05

/** One trial of one subject, metric and subject by name. */
export interface Sample {
  readonly metric: string
  readonly subject: string
  readonly parameters: Parameters
  /** Trials of one round ran one right after another, in a changing order: their ratios are taken pair by pair. */
  readonly round: number
  /** In the metric's unit. */
  readonly value: number
  /** Milliseconds since the run began. */
  readonly startMs: number
  readonly endMs: number
  /** Share of the processors' time that the hypervisor gave to others. */
  readonly stolenShare: number
  /** Share of the time that the part's own thread was ready to run and other programs had the processor. */
  readonly waitedShare: number
  /** Share of the processors' time that other programs had, of parts whose work is on all of them. */
  readonly othersShare?: number
}

export interface PartResult {
  readonly name: string
  readonly title: string
  readonly description: string
  readonly claims: readonly Claim[]
  readonly plots: readonly Plot[]
  readonly metrics: Metric[]
  readonly subjects: Subject[]
  readonly samples: Sample[]
  readonly notes: string[]
  startMs: number
  endMs: number
  /** Of the last minute, before and after: what else the machine was doing. */
  loadAverage: { before: number; after: number }
  /** Why it was not run, or not to its end; samples until then are kept. */
  failure?: string
}

export interface RunResult {
  readonly format: typeof FORMAT
  /** As it was typed, without the node and the path. */
  readonly command: string
  readonly startedAt: string
  readonly quick: boolean
  readonly disturbedBound: number
  readonly machine: Machine
  readonly parts: PartResult[]
}

export const emptyResult = (part: Part, options: PartOptions = {}): PartResult => ({
  name: part.name,
  title: part.title,
  description: part.description,
  claims: part.claims.filter((claim) => part.judges?.(claim, options) ?? true),
  plots: part.plots,
  metrics: [],
  subjects: [],
  samples: [],
  notes: [],
  startMs: 0,
  endMs: 0,
  loadAverage: { before: 0, after: 0 },
})

/**
 * Reads a raw result again.
 *
 * @throws Error if it is not one
 */
export function parseResult(text: string): RunResult {
  const result = JSON.parse(text) as Partial<RunResult>
  if (result.format !== FORMAT)
    throw new Error(`this is '${String(result.format)}' and not '${FORMAT}'`)
  return result as RunResult
}
