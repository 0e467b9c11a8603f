/** The director by itself: what it does with a packet, with a connection, and how long it makes the others wait. */
import { setTimeout } from 'node:timers/promises'
import type { Command } from '../../src/core/commands.js'
import { ConnectionTable } from '../../src/core/connection-table.js'
import { LINE_BYTES } from '../../src/core/connection.js'
import { joinParts } from '../../src/core/parts.js'
import { YOUNG_GENERATION_MB } from '../../src/daemon/thread.js'
import { mapShared } from '../../src/kernel/memory.js'
import { threadTimeNs } from '../../src/kernel/processor-time.js'
import { ManualClock } from '../../src/port/clock.js'
import { startPackets, type PacketsThread } from '../core/packets.js'
import {
  configure,
  growth,
  growthWhileListed,
  inParts,
  passTime,
  type Pauses,
} from '../core/pauses.js'
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

const MOST_CONNECTIONS = 1 << 22
const CONNECTIONS = [1024, 65536, 1 << 20, MOST_CONNECTIONS]
const PACKETS_PER_TRIAL = 128 * 1024
const FRAME_WORDS = 16

/** Connections that begin, and end together, in a trial of connections and in one of pauses. */
const PASSING = 200_000
const JIFFIES_UNTIL_EXPIRED = 200 * 100

/** Nanoseconds of the thread's processor time that `body` takes: what other programs take meanwhile does not count. */
function processorTime(body: () => void): number {
  const before = threadTimeNs()
  body()
  return threadTimeNs() - before
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
  // Of IPv6 the largest table would take twice the memory.
  const kinds = connections < MOST_CONNECTIONS ? KINDS : KINDS.slice(0, 3)
  const packets = context.quick ? PACKETS_PER_TRIAL / 16 : PACKETS_PER_TRIAL
  const threads: PacketsThread[] = []
  try {
    const subjects: { subject: Subject; measure: () => number | Promise<number> }[] = []
    for (const { subject, forwarding, family } of kinds) {
      const thread = await startPackets({ forwarding, family, connections, packets })
      threads.push(thread)
      subjects.push({
        subject: { name: subject, role: 'uvs' },
        measure: () => thread.ask('director'),
      })
    }
    const [requests] = threads as [PacketsThread]
    subjects.push(
      { subject: JS_MAP, measure: () => requests.ask('map') },
      { subject: WRITTEN, measure: () => requests.ask('writing') },
    )
    const walk = new RandomWalk(footprintOf(connections))
    const words = new Int32Array(128 * 512)
    const timeOf = (body: () => void) => (): number => processorTime(body) / packets
    subjects.push(
      { subject: TWO_LOADS, measure: timeOf(() => walk.walk(2 * packets)) },
      { subject: COPIED, measure: timeOf(() => copyPackets(words, packets)) },
    )
    // For the compiler.
    for (const { measure } of subjects) for (let i = 0; i < 6; i++) await measure()
    context.progress(`${connections.toLocaleString('en-US')} connections: packets`)
    for (const round of context.rounds({ least: 3, most: 25, share }))
      for (let i = 0; i < subjects.length; i++) {
        const { subject, measure } = subjects[(i + round) % subjects.length]!
        await context.trial(subject, parameters, round, async () => [[TIME, await measure()]])
      }
  } finally {
    for (const thread of threads) await thread.end()
  }
}

/** A director whose every packet is the SYN of a new connection, with room for so many. */
function beginning(clock: ManualClock, room: number, counterSlots?: number): Load {
  const load = new Load({
    forwarding: 'masquerade',
    connections: FIRST_CONNECTIONS,
    clock,
    newConnectionEvery: 1,
    passingConnections: room,
    ...(counterSlots && { counterSlots }),
  })
  load.requestsOnly = true
  return load
}

/** Connections that begin by a SYN each, and then all end by their timers. */
async function measureConnections(context: Context, share: number): Promise<void> {
  const clock = new ManualClock()
  const count = context.quick ? PASSING / 8 : PASSING
  const load = beginning(clock, PASSING + 4096)
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

/** Memory that is there after so many connections have begun, and was not before; in large pages, as far as there are any. */
async function measureMemory(context: Context): Promise<void> {
  const sizes = context.quick ? CONNECTIONS.slice(1, 2) : CONNECTIONS.slice(1)
  const fill = (count: number): ConnectionTable => {
    const region = mapShared(ConnectionTable.bytesFor(count))
    const table = new ConnectionTable(region, { maxConnections: count, seed: 1 })
    for (let i = 0; i < count; i++) table.create(6, i, 1024, 1, 80, i & 3, 8080, 0)
    return table
  }
  fill(sizes[0]!)
  for (const round of context.rounds({ least: 2, most: 3, share: 0.02 }))
    for (const count of sizes) {
      context.progress(`memory of ${count.toLocaleString('en-US')} connections`)
      await quietly()
      await context.trial(UVS, { connections: count }, round, () => {
        const before = process.memoryUsage.rss()
        const table = fill(count)
        return [[MEMORY, (process.memoryUsage.rss() - before) / table.count]]
      })
      if (count > MOST_IN_MAP) continue
      await quietly()
      await context.trial(JS_MAP, { connections: count }, round, async () => {
        const before = process.memoryUsage().heapUsed
        const map = new Map<number, object>()
        for (let i = 0; i < count; i++)
          map.set(i * 65536 + 1024, {
            serverBe: i & 3,
            port: 8080,
            state: 1,
            expires: i,
            packets: 0,
          })
        await quietly()
        return [[MEMORY, (process.memoryUsage().heapUsed - before) / map.size]]
      })
    }
}

/** Four million of its entries take seconds to collect. */
const MOST_IN_MAP = 1 << 20

/**
 * What packets have to wait for beside other packets, in the steps that the data plane has between two batches. The
 * time is that of the thread, so neither other programs are in it nor V8's other threads, but its collections are.
 */
async function measurePauses(context: Context, share: number): Promise<void> {
  const connections = context.quick ? 1 << 16 : 1 << 20
  const services = context.quick ? 1000 : 25_000
  const ofOne = context.quick ? 1000 : 10_000
  const slots = 3 * services + ofOne
  context.progress(`pauses: ${slots.toLocaleString('en-US')} services and destinations`)
  const clock = new ManualClock()
  const configured = { load: beginning(clock, 4096, slots + 16), clock, services, ofOne, slots }
  configure(configured.load, services, ofOne)
  // For the compiler.
  for (let i = 0; i < 2; i++)
    await takePauses(configured, connections / 4, async (_, take) => take())
  for (const round of context.rounds({ least: 3, most: 9, share })) {
    context.progress('pauses')
    await takePauses(configured, connections, (during, take) =>
      context.trial(UVS, { during }, round, async () => {
        const pauses = await take()
        return [
          [LONGEST, pauses[0]!],
          [RARE, pauses[Math.floor(pauses.length / 1000)]!],
        ]
      }),
    )
  }
}

interface Configured {
  load: Load
  clock: ManualClock
  services: number
  /** Destinations of one of them; the others have two. */
  ofOne: number
  /** Services and destinations. */
  slots: number
}

type Trial = (during: string, take: () => Pauses | Promise<Pauses>) => Promise<unknown>

async function takePauses(
  configured: Configured,
  connections: number,
  trial: Trial,
): Promise<void> {
  await quietly()
  const many = connections.toLocaleString('en-US')
  const passing = connections - 2 * FIRST_CONNECTIONS
  const clock = new ManualClock()
  let load = beginning(clock, connections - FIRST_CONNECTIONS)
  await trial(`growth to ${many} connections`, () => growth(load, passing))
  load.director.execute({ op: 'set-setting', name: 'drop_entry', value: '3' })
  await trial(`a look for connections to drop`, () => passTime(load, clock, DEFENCE_JIFFIES))
  load.director.execute({ op: 'set-setting', name: 'drop_entry', value: '0' })
  load.director.execute({ op: 'set-setting', name: 'expire_nodest_conn', value: '1' })
  load.removeDestination()
  await trial('the end of a removed destination’s connections', () =>
    passTime(load, clock, DEFENCE_JIFFIES),
  )
  await trial('the expiry of all others at once', () => passTime(load, clock, LONG_JIFFIES))
  if (load.director.table.count > FIRST_CONNECTIONS)
    throw new Error(`${load.director.table.count} connections have not expired`)

  load = beginning(clock, connections - FIRST_CONNECTIONS)
  await quietly()
  await trial('growth while another thread lists the connections', () =>
    growthWhileListed(load, passing),
  )
  await quietly()
  const { slots, services, ofOne } = configured
  await trial(`a listing of ${slots.toLocaleString('en-US')} services and destinations`, () => {
    const { pauses, parts } = inParts(configured.load, { op: 'list-services' })
    const listed = joinParts<ListServices>('list-services', parts).services
    if (listed.length !== services + 2 || !listed.some((one) => one.destinations.length === ofOne))
      throw new Error(`${listed.length} services were listed`)
    return pauses
  })
  // What joining has left is another thread's in the daemon.
  await quietly()
  await trial('the steering of their packets', () => {
    return inParts(configured.load, { op: 'get-steering' }).pauses
  })
  await trial('the rates of all of them', () =>
    passTime(configured.load, configured.clock, RATES_JIFFIES),
  )
}

/** What is not used any more is given back, so that it is not during what comes. */
async function quietly(): Promise<void> {
  const collect = (globalThis as { gc?: () => void }).gc!
  for (let i = 0; i < 2; i++) {
    collect()
    await setTimeout(20)
  }
}

type ListServices = Extract<Command, { op: 'list-services' }>

/** Connections that a load has from the start. */
const FIRST_CONNECTIONS = 1024
/** Until the defence has looked at the table once, and nothing else has ended yet. */
const DEFENCE_JIFFIES = 110
/** Longer than a connection lasts that has only begun, by far: tasks have come due many times, too. */
const LONG_JIFFIES = 600 * 100
/** Between two samples of the counters. */
const RATES_JIFFIES = 208

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
    caption:
      'The longest time for which the director does something else than the next batch, or takes for it: processor ' +
      'time of the thread, V8’s collections included.',
  },
]

export const core: Part = {
  name: 'core',
  title: 'The director by itself',
  description:
    'A packet’s figure is Director.process as the daemon runs it: header check, lookup in a table of established TCP ' +
    'connections in random order, state, timer, counters of destination, service and total, route, and the ' +
    'rewritten packet; masquerading is half requests, half replies. Each has a thread of its own, and batches of 256 are looked up ' +
    'ahead, as in the data plane. Not in it are devices, link-layer headers, and the load, whose writing of the packet into its frame ' +
    'is measured in the same trial, taken off, and shown by itself. Beside it: two loads at random places, the ' +
    'second of which depends on the first, in as much memory as the table takes, all of it in large pages where ' +
    'there are any; a copy of the packet; and the least of a director on a JavaScript Map. All times are of the ' +
    'processor, so that what other programs take meanwhile does not count.',
  needsRoot: false,
  seconds: 120,
  quickSeconds: 4,
  leastSeconds: 60,
  // The young generation is three semi-spaces.
  nodeFlags: ['--expose-gc', `--max-semi-space-size=${YOUNG_GENERATION_MB / 3}`],
  claims,
  plots,
  async run(context) {
    const sizes = context.quick ? CONNECTIONS.slice(0, 2) : CONNECTIONS
    await measureConnections(context, 0.1)
    await measureMemory(context)
    await measurePauses(context, 0.2)
    for (const connections of sizes) {
      await measurePackets(context, connections, 0.08)
      await quietly()
    }
  },
}
