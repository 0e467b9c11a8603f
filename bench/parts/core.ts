/** The director by itself: what it does with a packet, with a connection, and how long it makes the others wait. */
import { ConnectionTable } from '../../src/core/connection-table.js'
import { LINE_BYTES } from '../../src/core/connection.js'
import { mapShared } from '../../src/kernel/memory.js'
import { ManualClock } from '../../src/port/clock.js'
import { MapDirector } from '../core/map-director.js'
import { RandomWalk } from '../core/random-walk.js'
import { Load } from '../load.js'
import type { Claim, Context, Metric, Part, Plot, Subject } from '../suite/measurement.js'

const TIME: Metric = { name: 'CPU time per packet', unit: 'ns', better: 'lower' }
const CREATED: Metric = { name: 'connections created', unit: 'connections/s', better: 'higher' }
const EXPIRED: Metric = { name: 'connections expired', unit: 'connections/s', better: 'higher' }
const MEMORY: Metric = { name: 'memory per connection', unit: 'bytes', better: 'lower' }
const LONGEST: Metric = { name: 'longest pause', unit: 'ms', better: 'lower' }
const RARE: Metric = { name: 'pause p99.9', unit: 'ms', better: 'lower' }

const UVS: Subject = { name: 'uvs', role: 'uvs' }
const JS_MAP: Subject = { name: 'JavaScript Map', role: 'peer' }
const TWO_LOADS: Subject = { name: 'two dependent loads', role: 'limit' }
const WRITTEN: Subject = { name: 'packet written by the load', role: 'limit' }
const COPIED: Subject = { name: 'packet copied', role: 'limit' }

const KINDS = [
  { subject: 'uvs, direct routing', forwarding: 'direct-route', family: 4 },
  { subject: 'uvs, masquerading', forwarding: 'masquerade', family: 4 },
  { subject: 'uvs, tunneling', forwarding: 'tunnel', family: 4 },
  { subject: 'uvs, masquerading IPv6', forwarding: 'masquerade', family: 6 },
] as const
const DIRECT = KINDS[0].subject
const MASQUERADING = KINDS[1].subject

const CONNECTIONS = [1024, 65536, 1 << 20, 1 << 22]
const PACKETS_PER_TRIAL = 128 * 1024
const FRAME_WORDS = 16

/** Connections that begin, and end together, in a trial of connections and in one of pauses. */
const PASSING = 200_000
const JIFFIES_UNTIL_EXPIRED = 200 * 100

/** Nanoseconds of processor time that `body` takes: what other programs take meanwhile does not count. */
function processorTime(body: () => void): number {
  const before = process.cpuUsage()
  body()
  const { user, system } = process.cpuUsage(before)
  return (user + system) * 1000
}

/** Copies a frame of 64 bytes, again and again, to a place and back. */
function copyPackets(words: Int32Array, count: number): void {
  for (let i = 0; i < count; i++) {
    const from = (i & 63) * 512
    const to = from + 64 * 512
    for (let word = 0; word < FRAME_WORDS; word++) words[to + word] = words[from + word]!
  }
}

/** What two loads have to wait for: as many bytes as lines and index of so many masqueraded connections take. */
function footprintOf(connections: number): number {
  return connections * LINE_BYTES + 2 * 2 * connections * 8
}

async function measurePackets(context: Context, connections: number, share: number): Promise<void> {
  context.progress(`${connections.toLocaleString('en-US')} connections: opening them`)
  const parameters = { connections }
  const loads = KINDS.map(
    ({ forwarding, family }) =>
      new Load({
        forwarding,
        family,
        connections,
        clock: new ManualClock(),
      }),
  )
  const requests = loads[0]!
  const mapDirector = new MapDirector(requests.pool)
  const toMap = (network: number, length: number): boolean => mapDirector.process(network, length)
  requests.runWith(connections, toMap)
  if (mapDirector.count !== connections) throw new Error(`${mapDirector.count} in the Map`)
  const walk = new RandomWalk(footprintOf(connections))
  const words = new Int32Array(128 * 512)
  const packets = context.quick ? PACKETS_PER_TRIAL / 16 : PACKETS_PER_TRIAL

  const director = (load: Load): number =>
    (processorTime(() => load.runDirector(packets)) - processorTime(() => load.write(packets))) /
    packets
  const subjects: { subject: Subject; measure: () => number }[] = [
    ...KINDS.map(({ subject }, i) => ({
      subject: { name: subject, role: 'uvs' as const },
      measure: () => director(loads[i]!),
    })),
    {
      subject: JS_MAP,
      measure: () => {
        const whole = processorTime(() => requests.runWith(packets, toMap))
        return (whole - processorTime(() => requests.write(packets))) / packets
      },
    },
    { subject: TWO_LOADS, measure: () => processorTime(() => walk.walk(2 * packets)) / packets },
    { subject: WRITTEN, measure: () => processorTime(() => requests.write(packets)) / packets },
    { subject: COPIED, measure: () => processorTime(() => copyPackets(words, packets)) / packets },
  ]
  for (const { measure } of subjects) for (let i = 0; i < 3; i++) measure()
  context.progress(`${connections.toLocaleString('en-US')} connections: packets`)
  for (const round of context.rounds({ least: 3, most: 25, share }))
    for (let i = 0; i < subjects.length; i++) {
      const { subject, measure } = subjects[(i + round) % subjects.length]!
      await context.trial(subject, parameters, round, () => [[TIME, measure()]])
    }
}

/** A director whose every packet is the SYN of a new connection. */
function beginning(clock: ManualClock): Load {
  const load = new Load({
    forwarding: 'masquerade',
    connections: 1024,
    clock,
    newConnectionEvery: 1,
    passingConnections: PASSING + 4096,
  })
  load.requestsOnly = true
  return load
}

/** Connections that begin by a SYN each, and then all end by their timers. */
async function measureConnections(context: Context, share: number): Promise<void> {
  const clock = new ManualClock()
  const count = context.quick ? PASSING / 8 : PASSING
  const load = beginning(clock)
  const { director } = load
  const measure = (): (readonly [Metric, number])[] => {
    const before = director.table.count
    const writing = processorTime(() => load.write(count))
    const creating = processorTime(() => load.runDirector(count)) - writing
    if (director.table.count - before !== count)
      throw new Error(`${director.table.count - before} of ${count} connections have begun`)
    clock.advanceJiffies(JIFFIES_UNTIL_EXPIRED)
    const expiring = processorTime(() => {
      while (!director.advance(clock.nowJiffies()));
    })
    return [
      [CREATED, (count * 1e9) / creating],
      [EXPIRED, (count * 1e9) / expiring],
    ]
  }
  for (let i = 0; i < 2; i++) measure()
  context.progress('connections that begin and end')
  for (const round of context.rounds({ least: 3, most: 15, share }))
    await context.trial(UVS, { connections: count }, round, measure)
}

/** Memory that is there after so many connections have begun, and was not before. */
async function measureMemory(context: Context): Promise<void> {
  const count = context.quick ? 1 << 16 : 1 << 20
  context.progress(`memory of ${count.toLocaleString('en-US')} connections`)
  for (const round of context.rounds({ least: 2, most: 3, share: 0.02 })) {
    await context.trial(UVS, { connections: count }, round, () => {
      const options = { maxConnections: count, seed: 1 }
      const region = mapShared(ConnectionTable.bytesFor(count))
      const before = process.memoryUsage.rss()
      const table = new ConnectionTable(region, options)
      for (let i = 0; i < count; i++) table.create(6, i, 1024, 1, 80, i & 3, 8080, 0)
      return [[MEMORY, (process.memoryUsage.rss() - before) / table.count]]
    })
    await context.trial(JS_MAP, { connections: count }, round, () => {
      const collect = (globalThis as { gc?: () => void }).gc!
      collect()
      const before = process.memoryUsage().heapUsed
      const map = new Map<number, object>()
      for (let i = 0; i < count; i++)
        map.set(i * 65536 + 1024, { serverBe: i & 3, port: 8080, state: 1, expires: i, packets: 0 })
      collect()
      return [[MEMORY, (process.memoryUsage().heapUsed - before) / map.size]]
    })
  }
}

/** Processor time of each of so many steps: the longest, and that which one of a thousand takes. */
function pauses(steps: number, step: () => void): (readonly [Metric, number])[] {
  const times = new Float64Array(steps)
  for (let i = 0; i < steps; i++) times[i] = processorTime(step) / 1e6
  times.sort()
  return [
    [LONGEST, times[steps - 1]!],
    [RARE, times[Math.floor(steps * 0.999)]!],
  ]
}

/** How long a batch of 64 packets takes, with what else the director has to do at the time. */
async function measurePauses(context: Context, share: number): Promise<void> {
  const batches = Math.floor((context.quick ? PASSING / 8 : PASSING) / 64)
  // Once for the compiler.
  const first = beginning(new ManualClock())
  pauses(batches, () => first.runDirector(64))
  for (const round of context.rounds({ least: 3, most: 10, share })) {
    context.progress('pauses')
    const clock = new ManualClock()
    const load = beginning(clock)
    const batch = (): void => load.runDirector(64)
    await context.trial(UVS, { during: 'growth of the table' }, round, () => pauses(batches, batch))
    // As time passes, until their jiffy comes and they all end in rounds right behind one another.
    const expiry = (): void => {
      clock.advanceJiffies(10)
      load.director.advance(clock.nowJiffies())
    }
    await context.trial(UVS, { during: 'expiry of all connections' }, round, () =>
      pauses(JIFFIES_UNTIL_EXPIRED / 10, expiry),
    )
    if (load.director.table.count >= 2048)
      throw new Error(`${load.director.table.count} connections have not expired`)
    for (let i = 0; i < SERVICES; i++) load.addService(i)
    let from = 0
    const list = (): void => {
      const { services } = load.director.execute({ op: 'list-services', from, limit: PAGE })
      from = services.length === PAGE ? from + PAGE : 0
    }
    await context.trial(UVS, { during: `listing of ${SERVICES} services` }, round, () =>
      pauses(200, list),
    )
  }
}

const SERVICES = 1000
/** Services that the daemon asks for at a time. */
const PAGE = 64

const NANOSECONDS = [
  { subject: DIRECT, text: 'Direct routing takes 40 ns a packet at most', atMost: 40 },
  { subject: MASQUERADING, text: 'Masquerading takes 60 ns a packet at most', atMost: 60 },
]

const claims: readonly Claim[] = [
  ...NANOSECONDS.map(({ subject, text, atMost }) => ({
    text: `${text}, at 65,536 connections in random order`,
    metric: TIME.name,
    parameters: { connections: 65536 },
    subject,
    against: atMost,
    atMost: 1,
  })),
  ...[DIRECT, MASQUERADING].map((subject) => ({
    text: `At a million connections a packet takes no longer than 1.5 times two dependent loads: ${subject}`,
    metric: TIME.name,
    parameters: { connections: 1 << 20 },
    subject,
    against: TWO_LOADS.name,
    atMost: 1.5,
  })),
  {
    text: 'A packet that is masqueraded, with all that goes with it, takes less than the least of it on a JavaScript Map, at 65,536 connections and more',
    metric: TIME.name,
    parameters: { connections: 1 << 20 },
    subject: MASQUERADING,
    against: JS_MAP.name,
    atMost: 1,
  },
  {
    text: '500,000 connections can begin in a second',
    metric: CREATED.name,
    parameters: {},
    subject: UVS.name,
    against: 500_000,
    atLeast: 1,
  },
  {
    text: 'A million connections take 100 MB at most',
    metric: MEMORY.name,
    parameters: { connections: 1 << 20 },
    subject: UVS.name,
    against: 100,
    atMost: 1,
  },
  {
    text: 'Growth, expiry and listings hold packets up for 1 ms at most',
    metric: LONGEST.name,
    parameters: {},
    subject: UVS.name,
    against: 1,
    atMost: 1,
  },
]

const plots: readonly Plot[] = [
  {
    title: 'A packet against the number of connections',
    metric: TIME.name,
    x: 'connections',
    xScale: 'log',
    yScale: 'log',
    caption:
      'Connections in random order: from some ten thousand on, what a packet waits for is memory. The director looks ' +
      'up a batch at a time, so that its packets wait together; two loads of which one depends on the other cannot.',
  },
  {
    title: 'Pauses',
    metric: LONGEST.name,
    x: 'during',
    xScale: 'category',
    yScale: 'linear',
    caption: 'The longest time for which the director does something else than the next batch.',
  },
]

export const core: Part = {
  name: 'core',
  title: 'The director by itself',
  description:
    'A packet’s figure is Director.process as the daemon runs it: header check, lookup in a table of established TCP ' +
    'connections in random order, state, timer, counters of destination, service and total, route, and the ' +
    'rewritten packet; masquerading is half requests, half replies. Batches of 64 are looked up ahead, as in the ' +
    'data plane. Not in it are devices, link-layer headers, and the load, whose writing of the packet into its frame ' +
    'is measured in the same trial, taken off, and shown by itself. Beside it: two loads at random places, the ' +
    'second of which depends on the first, in as much memory as the table takes, all of it in large pages where ' +
    'there are any; a copy of the packet; and the least of a director on a JavaScript Map. All times are of the ' +
    'processor, so that what other programs take meanwhile does not count.',
  needsRoot: false,
  seconds: 150,
  nodeFlags: ['--expose-gc'],
  claims,
  plots,
  async run(context) {
    const sizes = context.quick ? CONNECTIONS.slice(0, 2) : CONNECTIONS
    for (const connections of sizes) await measurePackets(context, connections, 0.1)
    await measureConnections(context, 0.1)
    await measureMemory(context)
    await measurePauses(context, 0.1)
  },
}
