/** What the part 'schedulers' measures, by the names under which the result keeps it. */
import type { Metric, Parameters, Subject } from '../suite/measurement.js'
import { DISTURBED_BOUND, type PartResult } from '../suite/result.js'
import { hasParameters, seriesOf, spreadOf, type Series } from '../suite/statistics.js'
import type { Change } from './cost.js'
import type { Party } from './load.js'

const metric = (name: string, unit: string, better: Metric['better'] = 'lower'): Metric => ({
  name,
  unit,
  better,
})

/** By number of destinations. */
export const cost = {
  decision: metric('time per decision', 'ns'),
  garbage: metric('garbage per decision', 'bytes'),
  memory: metric('memory', 'bytes'),
} as const

/** By number of destinations and change: until the next decision is made. */
export const change = metric('time per change', 'ns')
export const changes: readonly Change[] = ['add', 'remove', 're-weight']

/** By load. */
export const quality = {
  /** Connections per weight of the busiest server against the mean, over the steady time. */
  busiest: metric('busiest server against the mean', '×'),
  worst: metric('busiest server at the worst moment', '×'),
  variation: metric('variation between servers', '%'),
  same: metric('same server again', '%', 'higher'),
  fill: metric('time to fill a cold server', 's'),
  flood: metric('new connections of a cold server against its fair share', '×'),
  connections: metric('connections at a time', 'connections', 'higher'),
  attempts: metric('connections asked for', 'connections', 'higher'),
} as const

/** By load and moment: when nothing happens, a server leaves, it returns. */
export const moved = metric('moved to another server', '%')
/** The same: those of the server that leaves; what it takes to have its share again when it returns. */
export const leastMoved = metric('has to move', '%')
export const moments = ['nothing happens', 'a server leaves', 'it returns'] as const
export type Moment = (typeof moments)[number]

/** By load and moment: while all servers work, and while one has weight 0. */
export const refused = metric('connections refused', '%')
export const refusals = ['servers work', 'one is drained'] as const

/** By load and second. */
export const overTime = metric('imbalance over time', '×')

/** By load, and by whose way to the same server is looked at: how many there are. */
export const servers = metric('servers', 'servers', 'higher')
export const LOAD: Subject = { name: 'the load itself', role: 'limit' }

/** What a loop costs that decides nothing: no scheduler can be below. */
export const NOTHING: Subject = { name: 'no decision', role: 'limit' }

/** The figures of a result. */
export class Figures {
  private readonly byName = new Map<string, Series[]>()

  constructor(readonly part: PartResult) {
    for (const series of seriesOf(part, DISTURBED_BOUND)) {
      const key = `${series.metric.name}\n${series.subject.name}`
      this.byName.set(key, [...(this.byName.get(key) ?? []), series])
    }
  }

  /** Median of the rounds that count; undefined if it was not measured, or could not be told. */
  of({ name }: Metric, subject: string, parameters: Parameters): number | undefined {
    const values = (this.byName.get(`${name}\n${subject}`) ?? [])
      .filter((series) => hasParameters(series.parameters, parameters))
      .flatMap(({ used }) => used.map(({ value }) => value))
    return values.length === 0 ? undefined : spreadOf(values).median
  }

  /** Names of those that were measured, in order. */
  subjects({ name }: Metric, parameters: Parameters): string[] {
    const own = this.part.samples.filter(
      (sample) => sample.metric === name && hasParameters(sample.parameters, parameters),
    )
    return [...new Set(own.map(({ subject }) => subject))]
  }

  /** How many servers a load is for, and whose way to the same one is looked at. */
  ofLoad(load: string): { servers: number; party: Party } {
    const sample = this.part.samples.find(
      ({ metric, parameters }) => metric === servers.name && parameters.load === load,
    )
    if (sample === undefined) throw new Error(`no load ${load} was measured`)
    return { servers: sample.value, party: sample.parameters.party as Party }
  }

  /** Values that a parameter has with a metric, in order. */
  values<T extends number | string>({ name }: Metric, parameter: string): T[] {
    const own = this.part.samples.filter((sample) => sample.metric === name)
    return [...new Set(own.map(({ parameters }) => parameters[parameter] as T))]
  }
}
