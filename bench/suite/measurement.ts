/**
 * What a part of the benchmark measures, as the runner stores it (raw JSON) and the report draws it. A part is
 * one file in bench/parts, found by its name in bench/parts/index.ts.
 */

import type { PartResult } from './result.js'

/** What is varied: number of connections, frame bytes, destinations, …, by name. */
export type Parameters = Readonly<Record<string, number | string>>

/** Something that is measured beside others, in the same trials. */
export interface Subject {
  /** As 'uvs, masquerading', 'nftables DNAT', 'JavaScript Map'. */
  readonly name: string
  /** uvs itself; somebody else's work of the same kind; or what no program can do better than. */
  readonly role: 'uvs' | 'peer' | 'limit'
}

export interface Metric {
  /** As 'packets per second', 'latency p99'. */
  readonly name: string
  /** As 'ns', 'packets/s', 'bytes', 'Gbit/s', '%'; SI prefixes are the report's business. */
  readonly unit: string
  readonly better: 'higher' | 'lower'
}

/**
 * A statement that the run bears out or not: the median of the ratios subject / against, of the same rounds. If
 * more than one set of parameters was measured that has these `parameters`, it has to hold for each.
 */
export interface Claim {
  /** One sentence, as 'Masquerading reaches the packet rate of nftables DNAT'. */
  readonly text: string
  readonly metric: string
  readonly parameters: Parameters
  readonly subject: string
  /** Name of the other subject; or a number, in the metric's unit. */
  readonly against: string | number
  /** Where the other subject was measured, if not with the same parameters: in the same round all the same. */
  readonly againstParameters?: Parameters
  /** The ratio subject / against has to be at least, or at most, this. */
  readonly atLeast?: number
  readonly atMost?: number
}

/** A picture that the report is to draw of a metric. */
export interface Plot {
  readonly title: string
  readonly metric: string
  /** The parameter on the horizontal axis, and whether it is logarithmic. */
  readonly x: string
  readonly xScale: 'linear' | 'log' | 'category'
  readonly yScale: 'linear' | 'log'
  /** Only samples that have these. */
  readonly where?: Parameters
  /** Only these subjects. */
  readonly subjects?: readonly string[]
  /** A parameter whose values make lines of their own; what else varies makes panels of their own. */
  readonly lines?: string
  /** What the reader sees in it, in a sentence. */
  readonly caption: string
  /** It stands for its part in docs/performance.md; of a part that has none such the first plot does. */
  readonly isHeadline?: true
}

/** An option of a part's own: its name is its key, without the dashes. */
export interface PartOption {
  /** What stands behind it, as 'N' or 'FILE'; a switch if it is absent. */
  readonly value?: string
  /** A line for the usage, with what it is when it is not given. */
  readonly help: string
}

/** What was given of a part's options: text, or true for a switch. */
export type PartOptions = Readonly<Record<string, string | true>>

/** What a part has to work with. */
export interface Context {
  /** Fewer rounds and sizes: whether it works, not what it measures. */
  readonly quick: boolean
  /** How long the part is to take, all together. */
  readonly seconds: number
  /** Files named on the command line; empty unless the part says what `files` it takes. */
  readonly files: readonly string[]
  /** Those of its options that were given, which its `check` has accepted. */
  readonly options: PartOptions
  /** Aborted on Ctrl-C: for what the part waits for. `trial` and `rounds` throw then by themselves. */
  readonly signal: AbortSignal
  /** Is called after the part, whatever has become of it; the last deferred first. */
  defer(cleanUp: () => void | Promise<void>): void
  /**
   * Numbers of rounds from 0: `least` of them (1 of a quick run), and more until this share of the part's seconds is
   * over, but no more than `most`, and as many times that as the user gives it more seconds than it asks for.
   */
  rounds(options: { least: number; most: number; share: number }): Iterable<number>
  /** What is going on, as a person watching wants to read it: shown in place. */
  progress(text: string): void
  /**
   * Runs one trial and records what it returns. Times and stolen CPU are taken around it.
   *
   * @param run returns the values by metric
   */
  trial(
    subject: Subject,
    parameters: Parameters,
    round: number,
    run: () => Iterable<readonly [Metric, number]> | Promise<Iterable<readonly [Metric, number]>>,
  ): Promise<void>
  /** Something that the reader of the report has to know: a peer that is missing and why, a limit that was met. */
  note(text: string): void
}

/** One part of the benchmark. */
export interface Part {
  /** As on the command line: `uvs bench NAME`. */
  readonly name: string
  readonly title: string
  /** What it measures, how, and against what, in a paragraph for the report. */
  readonly description: string
  readonly needsRoot: boolean
  /** Many processes do the work: what other programs have of any processor disturbs a trial. */
  readonly usesAllProcessors?: true
  /** How long it takes unless the user says otherwise. */
  readonly seconds: number
  /** How long a quick run takes, about, on a machine that has nothing else to do. */
  readonly quickSeconds: number
  /** How long it takes, about, however little time the user gives it: setting up, and the least of rounds. */
  readonly leastSeconds: number
  /** What files it takes from the command line, as 'scenarios (.scn)'; none if it is not said. */
  readonly files?: string
  /** Options of its own, which go with `uvs bench NAME`. */
  readonly options?: Readonly<Record<string, PartOption>>
  /**
   * Looks at options and files before anything runs.
   *
   * @throws Error that names what cannot be used
   */
  check?(options: PartOptions, files: readonly string[]): void
  /** Whether a run with these options can bear a claim out or not; any run can if it is not said. */
  judges?(claim: Claim, options: PartOptions): boolean
  /** What was measured as text for a terminal, where a part can say it better than a list of medians. */
  summarise?(result: PartResult): string
  /** Each part has a process of its own, which gets these, as '--expose-gc'. */
  readonly nodeFlags?: readonly string[]
  readonly claims: readonly Claim[]
  readonly plots: readonly Plot[]
  run(context: Context): Promise<void>
}
