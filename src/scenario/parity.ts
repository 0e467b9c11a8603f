/** A scenario through uvs and through a kernel, and what comes of the comparison. */
import { compareTraces, type Difference } from './compare.js'
import { eventsOf } from './events.js'
import type { Beginning } from './explain.js'
import { Oracle, type OracleOptions } from './oracle/oracle.js'
import { parseScenario } from './parse.js'
import { replayEvents } from './replay.js'
import { ScenarioError, type Event, type Scenario } from './scenario.js'
import { shrink } from './shrink.js'
import type { Trace } from './trace.js'

/** What a scenario's events are run by. */
interface Kernel {
  runEvents(events: readonly Event[], name: string): Promise<Trace>
}

/** Several kernels that share the work. */
export class Kernels implements Kernel {
  /** Scenarios that each has yet to run. */
  private readonly load = new Map<Oracle, number>()

  private constructor(private readonly oracles: readonly Oracle[]) {
    for (const oracle of oracles) this.load.set(oracle, 0)
  }

  /** @throws Error when none can be asked */
  static async start(count: number, options: OracleOptions = {}): Promise<Kernels> {
    const started = await Promise.allSettled(
      Array.from({ length: count }, () => Oracle.start(options)),
    )
    const oracles = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
    const failed = started.find((each) => each.status === 'rejected')
    if (!failed) return new Kernels(oracles)
    await Promise.all(oracles.map((oracle) => oracle.stop()))
    throw failed.reason
  }

  get count(): number {
    return this.oracles.length
  }

  get description(): string {
    return this.oracles[0]!.description + (this.count > 1 ? `, ${this.count} of them` : '')
  }

  async runEvents(events: readonly Event[], name: string): Promise<Trace> {
    const [[oracle, waiting]] = [...this.load].sort(([, a], [, b]) => a - b) as [[Oracle, number]]
    this.load.set(oracle, waiting + 1)
    try {
      return await oracle.runEvents(events, name)
    } finally {
      this.load.set(oracle, this.load.get(oracle)! - 1)
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.oracles.map((oracle) => oracle.stop()))
  }
}

/**
 * Runs a scenario both ways. Where uvs fails at what the kernel does, that is a difference, too.
 *
 * @returns the first difference, undefined when both agree
 * @throws ScenarioError when the scenario cannot be run, an Error when the kernel cannot be asked
 */
export function differenceOf(kernel: Kernel, scenario: Scenario): Promise<Difference | undefined> {
  return differenceOfEvents(kernel, eventsOf(scenario), scenario.name)
}

async function differenceOfEvents(
  kernel: Kernel,
  events: readonly Event[],
  name: string,
): Promise<Difference | undefined> {
  const [kernels, ours] = await Promise.all([
    kernel.runEvents(events, name),
    replayEvents(events, name).catch((error: unknown) => error as Error),
  ])
  if (ours instanceof ScenarioError) throw ours
  if (!(ours instanceof Error)) return compareTraces(events, ours, kernels)
  const text = ours.stack ?? ours.message
  return {
    kind: `uvs fails: ${ours.message.replace(/\d+/g, 'N')}`,
    line: undefined,
    index: 0,
    ours: undefined,
    kernels: kernels[0],
    details: [{ name: 'replay', ours: text, kernels: `${kernels.length} records` }],
  }
}

/** A scenario that differs, as small as it gets, with the same sort of first difference. */
export function shrinkDifference(
  kernel: Kernel & { count?: number },
  name: string,
  text: string,
): Promise<string> {
  const kindOf = async (candidate: string): Promise<string | undefined> => {
    try {
      return (await differenceOf(kernel, parseScenario(candidate, name)))?.kind
    } catch {
      // A candidate that cannot be run fails otherwise.
      return undefined
    }
  }
  return shrink(text, kindOf, { width: kernel.count ?? 1 })
}

/**
 * Where a difference began that shows in a listing or at the end: the scenario is run once more with connections
 * and services listed around every event.
 *
 * @returns undefined when all listings agree, as they do where only counters differ, which the kernel sums up every
 *   two seconds
 */
export async function beginningOf(
  kernel: Kernel,
  scenario: Scenario,
  difference: Difference,
): Promise<Beginning | undefined> {
  const last = difference.line ?? Infinity
  const events = eventsOf(scenario).filter(({ line }) => line <= last)
  const listed: Event[] = []
  /** What each command and packet of `listed` belongs to. */
  const places: { index: number; isBefore: boolean }[] = []
  let nowMs = 0
  for (const [index, event] of events.entries()) {
    const list = (isBefore: boolean): void => {
      for (const args of [
        ['-L', '-n', '-c'],
        ['-L', '-n'],
      ]) {
        listed.push({ kind: 'ipvsadm', line: event.line, atMs: event.atMs, args })
        places.push({ index, isBefore })
      }
    }
    if (event.atMs > nowMs) list(true)
    nowMs = event.atMs
    listed.push(event)
    if (event.kind !== 'sysctl') places.push({ index, isBefore: false })
    list(false)
  }
  const first = await differenceOfEvents(kernel, listed, scenario.name)
  const place = first && places[first.index]
  return place && { ...place, difference: first }
}
