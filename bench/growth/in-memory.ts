/** What grows, in memory: the director without devices. */
import type { Claim, Context, Metric, Parameters, Plot, Subject } from '../suite/measurement.js'
import { parametersText } from '../suite/units.js'
import { MeasuringThread } from '../suite/measuring-thread.js'
import type { GrowthOptions } from './load.js'
import type { GrowthTrial } from './load-thread.js'

/** Of the processor, which does not count while other programs have it. */
const TIME: Metric = { name: 'CPU time per packet', unit: 'ns', better: 'lower' }
const UVS: Subject = { name: 'uvs', role: 'uvs' }

export const SERVICES = [1, 10, 100, 1000, 10_000, 50_000]
const DESTINATIONS = [1, 16, 256, 4096]
const CONNECTIONS = [1024, 16384, 262144, 1048576]
const PACKETS_PER_TRIAL = 200_000
const TRIAL_MS = 150
/** Packets of connections that there are, where it is not the connections that grow. */
const SOME_CONNECTIONS = 4096

type GrowthThread = MeasuringThread<GrowthTrial>
const THREAD = new URL('load-thread.js', import.meta.url)

interface Case {
  readonly parameters: Parameters
  readonly options: GrowthOptions
}

/** What grows, and beside it only what tells the cases of one size apart. */
interface Group {
  readonly cases: readonly Case[]
  /** A claim is made of the first and the last of them: only those are measured in most rounds. */
  readonly isClaimed?: true
}

/** One of so many rounds measures all cases of a group of whose ends something is claimed. */
const ROUNDS_PER_FULL = 4
/** How much more time such a group has than others. */
const CLAIMED_WEIGHT = 3

const base: GrowthOptions = {
  services: 1,
  destinationsPerService: 2,
  scheduler: 'rr',
  connections: SOME_CONNECTIONS,
  targets: 'one',
  packetsPerJiffy: 5000,
}

const NEW = 'new connections'
const KNOWN = 'known connections'
const ALL = 'new connections, to all services alike'

function groups(quick: boolean): Group[] {
  const sizes = (all: readonly number[]): readonly number[] => (quick ? all.slice(0, 2) : all)
  const serviceCases = (packets: string, change: Partial<GrowthOptions>): Case[] =>
    sizes(SERVICES).map((services) => ({
      parameters: { services, packets },
      options: { ...base, services, ...change },
    }))
  return [
    { cases: serviceCases(KNOWN, {}), isClaimed: true },
    { cases: serviceCases(NEW, { connections: 0 }), isClaimed: true },
    { cases: serviceCases(ALL, { connections: 0, targets: 'all' }) },
    ...['rr', 'wlc', 'mh'].map((scheduler) => ({
      cases: sizes(DESTINATIONS).map((destinationsPerService) => ({
        parameters: { destinations: destinationsPerService, scheduler },
        options: {
          ...base,
          destinationsPerService,
          scheduler,
          connections: 0,
          packetsPerJiffy: 500,
        },
      })),
    })),
    {
      cases: sizes(CONNECTIONS).map((connections) => ({
        parameters: { connections },
        options: { ...base, connections },
      })),
    },
  ]
}

const MOST = SERVICES[SERVICES.length - 1]!

export const inMemoryClaims: readonly Claim[] = [KNOWN, NEW].map((packets) => ({
  text: `With ${MOST.toLocaleString('en-US')} services a packet costs what it costs with one: ${packets}`,
  metric: TIME.name,
  parameters: { services: MOST, packets },
  subject: UVS.name,
  against: UVS.name,
  againstParameters: { services: SERVICES[0]!, packets },
  atMost: 1.05,
}))

export const inMemoryPlots: readonly Plot[] = [
  {
    title: 'CPU time per packet against services, in memory',
    metric: TIME.name,
    x: 'services',
    xScale: 'log',
    yScale: 'linear',
    lines: 'packets',
    subjects: [UVS.name],
    caption:
      'Known connections and new ones to one of the services, whose cost does not depend on how many others there are; ' +
      'and new ones to all of them, which wait for the memory of ever more services.',
  },
  {
    title: 'CPU time per new connection against destinations, in memory',
    metric: TIME.name,
    x: 'destinations',
    xScale: 'log',
    yScale: 'log',
    lines: 'scheduler',
    caption:
      'rr takes the next destination and mh looks it up; wlc compares all of them, as in the kernel.',
  },
  {
    title: 'CPU time per packet against connections, in memory',
    metric: TIME.name,
    x: 'connections',
    xScale: 'log',
    yScale: 'linear',
    caption: 'Packets of connections in random order: what grows is the wait for memory.',
  },
]

/** @param share of the part's time */
export async function measureInMemory(context: Context, share: number): Promise<void> {
  const all = groups(context.quick)
  const trial: GrowthTrial = {
    packets: context.quick ? PACKETS_PER_TRIAL / 10 : PACKETS_PER_TRIAL,
    milliseconds: TRIAL_MS,
  }
  const weightOf = ({ isClaimed }: Group): number => (isClaimed ? CLAIMED_WEIGHT : 1)
  const weights = all.reduce((sum, group) => sum + weightOf(group), 0)
  for (const group of all) {
    const { cases, isClaimed } = group
    context.progress(`in memory, ${parametersText(cases[0]!.parameters)} and more`)
    const subjects: { parameters: Parameters; thread: GrowthThread }[] = []
    try {
      for (const { parameters, options } of cases)
        subjects.push({ parameters, thread: await MeasuringThread.start(THREAD, options) })
      const ends = [subjects[0]!, subjects[subjects.length - 1]!]
      for (const round of context.rounds({
        least: isClaimed ? 9 : 3,
        most: isClaimed ? 45 : 15,
        share: (share * 0.7 * weightOf(group)) / weights,
      })) {
        const some = isClaimed && round % ROUNDS_PER_FULL > 0 ? ends : subjects
        for (let i = 0; i < some.length; i++) {
          const { parameters, thread } = some[(i + round) % some.length]!
          await context.trial(UVS, parameters, round, async () => [[TIME, await thread.ask(trial)]])
        }
      }
    } finally {
      for (const { thread } of subjects) await thread.end()
    }
  }
}
