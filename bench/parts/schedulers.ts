/** The schedulers, for people who choose one: what each costs, and what it makes of a load. */
import { kindOf, parseCandidate, type Candidate } from '../schedulers/candidates.js'
import { CostWorld } from '../schedulers/cost.js'
import type { Party } from '../schedulers/load.js'
import * as metrics from '../schedulers/metrics.js'
import { options, parseOptions, trialsOf, type Trial, type Wanted } from '../schedulers/options.js'
import { imbalanceOf, qualityOf, type Quality } from '../schedulers/quality.js'
import { replayLoad, type Course } from '../schedulers/replay.js'
import { presentSchedulers } from '../schedulers/text.js'
import type { Claim, Context, Metric, Part, Plot, Subject } from '../suite/measurement.js'

const DESTINATIONS = [2, 16, 128, 1024, 4096]
/** The share of the time that costs get; what a load becomes is the same in every run. */
const COST_SHARE = 0.6
const CHANGES_A_TRIAL = 5
const GARBAGE_SHARE = 0.05
const GARBAGE_DESTINATIONS = 16
/** So many that a page of V8’s heap (256 KiB), by which it counts, is less than a byte of each. */
const GARBAGE_DECISIONS = 400_000
/** How full servers are meant to be by those for which a weight is a number of connections. */
const FULLNESS = 0.8
const LINES = 100
/** Weights that the notes name. */
const MOST_WRITTEN = 16

const subjectOf = ({ name }: Candidate): Subject => ({ name, role: 'uvs' })

const hashes = ['dh', 'sh', 'mh'].map(parseCandidate)
const all = parseOptions({}, []).candidates

const claims: readonly Claim[] = [
  ...all
    .filter(({ flags }) => flags.length === 0)
    .map(({ name }) => ({
      text: `${name} decides without making garbage`,
      metric: metrics.cost.garbage.name,
      parameters: {},
      subject: name,
      against: 1,
      atMost: 1,
    })),
  ...hashes.map(({ name }) => ({
    text: `${name} decides as fast among 1,024 servers as among 16`,
    metric: metrics.cost.decision.name,
    parameters: { destinations: 1024 },
    subject: name,
    against: name,
    againstParameters: { destinations: 16 },
    atMost: 1.5,
  })),
]

/** What else is on the heap comes and goes: three times is enough for a median. */
async function measureMemory(
  context: Context,
  world: CostWorld,
  candidate: Candidate,
): Promise<void> {
  const { destinations } = world
  for (let round = 0; round < (context.quick ? 1 : 3); round++)
    await context.trial(subjectOf(candidate), { destinations }, round, () => [
      [metrics.cost.memory, world.bytesHeld(candidate)],
    ])
}

function tryUse(context: Context, world: CostWorld, candidate: Candidate): boolean {
  try {
    world.use(candidate)
    return true
  } catch (error) {
    // Flags do not matter to it.
    if (candidate.flags.length === 0) context.note((error as Error).message)
    return false
  }
}

async function measureCosts(context: Context, candidates: readonly Candidate[]): Promise<void> {
  const sizes = context.quick ? DESTINATIONS.slice(0, 3) : DESTINATIONS
  const milliseconds = context.quick ? 1 : 8
  const worlds: { world: CostWorld; candidates: Candidate[] }[] = []
  for (const destinations of sizes) {
    context.progress(`memory with ${destinations} servers`)
    const world = new CostWorld(destinations)
    const usable = candidates.filter((candidate) => tryUse(context, world, candidate))
    worlds.push({ world, candidates: usable })
    for (const candidate of usable) {
      world.use(candidate)
      await measureMemory(context, world, candidate)
    }
  }
  for (const round of context.rounds({ least: 3, most: 15, share: COST_SHARE })) {
    for (const { world, candidates: usable } of worlds) {
      const { destinations } = world
      context.progress(`cost of a decision among ${destinations}, round ${round + 1}`)
      await context.trial(metrics.NOTHING, { destinations }, round, () => [
        [metrics.cost.decision, world.nanosecondsPerNothing(milliseconds)],
      ])
      // The order turns by one each round.
      for (let i = 0; i < usable.length; i++) {
        const candidate = usable[(i + round) % usable.length]!
        world.use(candidate)
        await context.trial(subjectOf(candidate), { destinations }, round, () => [
          [metrics.cost.decision, world.nanosecondsPerDecision(milliseconds)],
        ])
        for (const kind of metrics.changes)
          await context.trial(subjectOf(candidate), { destinations, change: kind }, round, () => [
            [metrics.change, world.nanosecondsPerChange(kind, CHANGES_A_TRIAL)],
          ])
      }
    }
  }
}

/** Apart from the times: collections of garbage would have code compiled anew. */
async function measureGarbage(context: Context, candidates: readonly Candidate[]): Promise<void> {
  const world = new CostWorld(GARBAGE_DESTINATIONS)
  const destinations = GARBAGE_DESTINATIONS
  for (const round of context.rounds({ least: 3, most: 5, share: GARBAGE_SHARE }))
    for (const candidate of candidates) {
      context.progress(`garbage of ${candidate.name}, round ${round + 1}`)
      world.use(candidate)
      await context.trial(subjectOf(candidate), { destinations }, round, () => [
        [metrics.cost.garbage, world.bytesPerDecision(GARBAGE_DECISIONS)],
      ])
    }
}

/** Values that are known, of those that may be. */
const known = (
  values: readonly (readonly [Metric, number | undefined, number?])[],
): (readonly [Metric, number])[] =>
  values.flatMap(([metric, value, factor = 1]) =>
    value === undefined ? [] : [[metric, value * factor] as const],
  )

async function recordQuality(
  context: Context,
  { name: load, party }: Trial,
  subject: Subject,
  quality: Quality,
): Promise<void> {
  const record = (
    parameters: Record<string, string>,
    values: readonly (readonly [Metric, number | undefined, number?])[],
  ) => context.trial(subject, { load, party, ...parameters }, 0, () => known(values))
  await record({}, [
    [metrics.quality.busiest, quality.imbalance?.maxToMean],
    [metrics.quality.worst, quality.worst],
    [metrics.quality.variation, quality.imbalance?.variation, 100],
    [metrics.quality.same, quality.stickiness, 100],
    [metrics.quality.fill, quality.fillSeconds],
    [metrics.quality.flood, quality.flood],
    [metrics.quality.connections, quality.connections],
    [metrics.quality.attempts, quality.attempts],
  ])
  const [nothing, leaves, returns] = metrics.moments
  await record({ moment: nothing }, [[metrics.moved, quality.movedByItself, 100]])
  await record({ moment: leaves }, [
    [metrics.moved, quality.movedByLeaving, 100],
    [metrics.leastMoved, quality.leastByLeaving, 100],
  ])
  await record({ moment: returns }, [
    [metrics.moved, quality.movedByReturn, 100],
    [metrics.leastMoved, quality.leastByReturn, 100],
  ])
  const [work, drained] = metrics.refusals
  await record({ moment: work }, [[metrics.refused, quality.refused, 100]])
  await record({ moment: drained }, [[metrics.refused, quality.refusedWhileDraining, 100]])
}

/** By seconds, as a picture needs it. */
async function recordCourse(
  context: Context,
  { name: load, party }: Trial,
  subject: Subject,
  { snapshots, weights }: Course,
): Promise<void> {
  const step = Math.max(1, Math.floor(snapshots.length / LINES))
  for (let i = step - 1; i < snapshots.length; i += step) {
    const { atMs, connections } = snapshots[i]!
    const imbalance = imbalanceOf(connections, weights)
    if (imbalance === undefined) continue
    await context.trial(subject, { load, party, second: Math.round(atMs) / 1000 }, 0, () => [
      [metrics.overTime, imbalance.maxToMean],
    ])
  }
}

/**
 * By how much the weights are multiplied for those for which they are numbers of connections, so that the
 * servers together are as full as they are meant to be. wlc shows how many connections there are.
 */
function scaleOf({ load, weights }: Trial, seed: number): number {
  const wlc = replayLoad(load, parseCandidate('wlc'), weights, seed)
  const sum = weights.reduce((total, weight) => total + weight, 0)
  return Math.max(1, Math.ceil(qualityOf(wlc).connections / FULLNESS / sum))
}

/** As 'weights 1, 2, 3', without the end of a long list. */
const weightsText = (weights: readonly number[]): string =>
  `${weights.length} servers of weights ${weights.slice(0, MOST_WRITTEN).join(', ')}` +
  (weights.length > MOST_WRITTEN ? ', …' : '')

async function measureQuality(context: Context, trial: Trial, wanted: Wanted): Promise<void> {
  const { name, load, weights, onlyBySite, party } = trial
  context.note(`${name}: ${load.title}; ${weightsText(weights)}`)
  await context.trial(metrics.LOAD, { load: name, party }, 0, () => [
    [metrics.servers, weights.length],
  ])
  const scale = scaleOf(trial, wanted.seed)
  const scaled = wanted.candidates.filter((candidate) => kindOf(candidate).weighsConnections)
  if (scaled.length > 0 && scale > 1)
    context.note(
      `${name}: to ${scaled.map((candidate) => candidate.name).join(', ')} a weight is a number of connections, ` +
        `so their weights are these times ${scale}: together ${FULLNESS * 100} % full`,
    )
  const wlc = parseCandidate('wlc')
  const isWanted = (candidate: Candidate): boolean =>
    !onlyBySite || kindOf(candidate).goesBySite || candidate.name === wlc.name
  for (const candidate of wanted.candidates.filter(isWanted)) {
    context.progress(`${name}: ${candidate.name}`)
    const factor = kindOf(candidate).weighsConnections ? scale : 1
    const own = weights.map((weight) => weight * factor)
    const course = replayLoad(load, candidate, own, wanted.seed, party)
    const subject = subjectOf(candidate)
    await recordQuality(context, trial, subject, qualityOf(course))
    await recordCourse(context, trial, subject, course)
  }
}

const overTime = (
  title: string,
  party: Party,
  subjects: readonly string[],
  caption: string,
): Plot => ({
  title,
  where: { party },
  metric: metrics.overTime.name,
  x: 'second',
  xScale: 'linear',
  yScale: 'log',
  subjects,
  caption,
})

const sites = ['wlc', 'dh', 'lblc', 'lblcr']

const movedPlot = (
  title: string,
  party: Party,
  subjects: readonly string[],
  caption: string,
): Plot => ({
  title,
  metric: metrics.moved.name,
  x: 'moment',
  xScale: 'category',
  yScale: 'linear',
  where: { party },
  subjects,
  caption,
})

const costPlot = (title: string, subjects: readonly string[], caption: string): Plot => ({
  title,
  metric: metrics.cost.decision.name,
  x: 'destinations',
  xScale: 'log',
  yScale: 'log',
  subjects: [metrics.NOTHING.name, ...subjects],
  caption,
})

const counting = ['lc', 'wlc', 'sed', 'nq', 'fo', 'ovf', 'twos']
const direct = ['rr', 'wrr', 'dh', 'sh', 'mh', 'lblc', 'lblcr']

const plots: readonly Plot[] = [
  costPlot(
    'Time per decision: those that look at every server',
    counting,
    'One pass over the list of servers, as in the kernel: the time grows with their number.',
  ),
  costPlot(
    'Time per decision: those that know where to look',
    direct,
    'A place in a table, or the next of the list: the number of servers does not matter. lblc and lblcr look ' +
      'at all servers only when the one that they have in mind has too many connections.',
  ),
  {
    title: 'Time of a change until the next decision',
    metric: metrics.change.name,
    x: 'destinations',
    xScale: 'log',
    yScale: 'log',
    subjects: ['rr', 'wrr', 'wlc', 'sh', 'mh'],
    caption:
      'A server is added, removed, or given another weight. mh builds its table of 4,093 places anew.',
  },
  overTime(
    'Imbalance over time: those that count connections',
    'client',
    counting.filter((name) => name !== 'fo'),
    'Connections per weight of the busiest server against the mean: 1 is even. A server leaves at 45 % of the ' +
      'time, is back at 60 %, and is drained from 80 % on.',
  ),
  overTime(
    'Imbalance over time: those that do not',
    'client',
    ['rr', 'wrr', 'sh', 'sh+port', 'mh', 'mh+port'],
    'Taking turns and hashing spread connections as they come, whatever becomes of them; a client that comes ' +
      'often is felt where it is hashed to.',
  ),
  overTime(
    'Imbalance over time: caches of many sites',
    'site',
    sites,
    'Going by the address that is asked for costs some evenness, and more where some sites are asked for often.',
  ),
  movedPlot(
    'Clients that meet another server than before',
    'client',
    ['wlc', 'sh', 'mh'],
    'Of the clients that came both before and after the moment; those of the server that leaves have to.',
  ),
  movedPlot(
    'Sites that meet another server than before',
    'site',
    sites,
    'Of the addresses that were asked for both before and after the moment: what a cache has to fetch anew.',
  ),
]

export const schedulers: Part = {
  name: 'schedulers',
  title: 'The schedulers: what each costs, and what it makes of a load',
  description:
    'Each scheduler on the services and destinations of a real director. Cost: decisions one after another, each ' +
    'bound to its destination while the oldest connection ends, by the median of pieces of 0.2 ms; a change from ' +
    'the command to the end of the next decision. Quality: a load through the director in virtual time, with ' +
    'direct routing and all states and timeouts, while one server leaves, returns and is drained. The load is by ' +
    'dice (Zipf clients, Poisson arrivals, bounded Pareto durations) or a scenario or capture of yours.',
  needsRoot: false,
  seconds: 50,
  quickSeconds: 5,
  leastSeconds: 35,
  files: 'a load (.scn, .pcap, .pcapng)',
  options,
  judges({ subject }, given) {
    return parseOptions(given, []).candidates.some(({ name }) => name === subject)
  },
  check(given, files) {
    trialsOf(parseOptions(given, files), true)
  },
  summarise: presentSchedulers,
  // Measuring memory collects garbage often; code that has not run for some collections would be thrown away.
  nodeFlags: ['--expose-gc', '--no-flush-bytecode'],
  claims,
  plots,
  async run(context) {
    const wanted = parseOptions(context.options, context.files)
    for (const trial of trialsOf(wanted, context.quick))
      await measureQuality(context, trial, wanted)
    await measureCosts(context, wanted.candidates)
    await measureGarbage(context, wanted.candidates)
  },
}
