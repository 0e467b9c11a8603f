/** TCP through directors: bulk streams, requests on kept connections, a connection for each request. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { loads, type Load } from '../streams/loads.js'
import { peers, type Peer } from '../streams/peers.js'
import { StreamTestbed, type Lane } from '../streams/testbed.js'
import type { Claim, Context, Metric, Part, Plot } from '../suite/measurement.js'
import { whyMissing } from '../suite/missing.js'
import { allowCubic, prepareMachine } from '../wire/machine.js'

const everybody: readonly Peer[] = Object.values(peers)
const everyLoad: readonly Load[] = Object.values(loads)
const bulk = [loads.oneStream, loads.eightStreams]

/** The shortest that iperf3 can be told. */
const TRIAL_SECONDS = 1

/** Where root's programs are, which an ordinary user's path may lack. */
const PROGRAM_FOLDERS = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin']
const isInstalled = (program: string): boolean =>
  PROGRAM_FOLDERS.some((folder) => folder !== '' && existsSync(join(folder, program)))

interface Open {
  readonly peer: Peer
  readonly lane: Lane
}

class Measurement {
  private readonly testbed = new StreamTestbed()
  private readonly opened: Open[] = []
  private readonly loads: Load[] = []
  /** Nanoseconds per gigabit or request without a director, in the round, by load. */
  private readonly without = new Map<Load, number>()

  constructor(private readonly context: Context) {
    context.defer(() => this.testbed.end())
    context.defer(prepareMachine())
    context.defer(allowCubic())
  }

  async open(): Promise<void> {
    const { context, testbed } = this
    context.progress('setting up client and server')
    for (const load of everyLoad) {
      const missing = load.programs.filter((program) => !isInstalled(program))
      if (missing.length === 0) this.loads.push(load)
      else
        context.note(
          `${load.name}: not measured, ${missing.join(' and ')} not installed (scripts/setup --bench)`,
        )
    }
    await testbed.open(new Set(this.loads.flatMap(({ programs }) => programs)))
    for (const peer of everybody) {
      const { name, role } = peer.subject
      context.signal.throwIfAborted()
      context.progress(`setting up ${name}`)
      try {
        const lane = await peer.open(testbed)
        // The first of a lane sees its program compiled, and is not kept.
        if (!context.quick) await this.loads[0]?.run(testbed, lane.virtualAddress, TRIAL_SECONDS)
        this.opened.push({ peer, lane })
      } catch (error) {
        if (role !== 'peer') throw error
        context.note(`${name} is missing: ${whyMissing(error)}`)
      }
    }
  }

  async round(round: number): Promise<void> {
    const { opened } = this
    for (const load of this.loads) {
      // What it takes without a director comes first: it is subtracted from the others'.
      const [ceiling, ...others] = opened
      const first = round % others.length
      for (const one of [ceiling!, ...others.slice(first), ...others.slice(0, first)])
        try {
          await this.trial(one, load, round)
        } catch (error) {
          if (one.peer.subject.role !== 'peer' || this.context.signal.aborted) throw error
          this.context.note(
            `${one.peer.subject.name}, ${load.name}: no result in round ${round + 1}: ${(error as Error).message}`,
          )
        }
    }
  }

  private async trial({ peer, lane }: Open, load: Load, round: number): Promise<void> {
    const { context, testbed, without } = this
    const { subject } = peer
    context.progress(`round ${round + 1}: ${subject.name}, ${load.name}`)
    await context.trial(subject, { load: load.name }, round, async () => {
      const { rate, amount, busyNs } = await load.run(testbed, lane.virtualAddress, TRIAL_SECONDS)
      const costNs = busyNs / amount
      if (peer === peers.ceiling) without.set(load, costNs)
      const values: [Metric, number][] = [
        [load.rate, rate],
        [load.cost, costNs / load.costUnitNs],
      ]
      if (peer !== peers.ceiling)
        values.push([load.share, Math.max(0, costNs - without.get(load)!) / load.costUnitNs])
      return values
    })
  }
}

const OFFLOAD = peers.offload.subject.name
const claims: readonly Claim[] = bulk.flatMap(({ name, rate }) => [
  ...(
    [
      [peers.nftables, 0.8, 'at least 0.8 of'],
      [peers.forwarder, 0.9, 'at least 0.9 of'],
      [peers.haproxy, 1, 'more than'],
      [peers.nginx, 1, 'more than'],
    ] as const
  ).map(([peer, atLeast, words]) => ({
    text: `${OFFLOAD}, ${name}: ${words} the throughput of ${peer.subject.name}`,
    metric: rate.name,
    parameters: { load: name },
    subject: OFFLOAD,
    against: peer.subject.name,
    atLeast,
  })),
])

const plots: readonly Plot[] = [
  {
    title: 'Throughput of bulk TCP',
    metric: loads.oneStream.rate.name,
    x: 'load',
    xScale: 'category',
    yScale: 'linear',
    isHeadline: true,
    caption: 'What arrives at the server, by iperf3.',
  },
  {
    title: 'CPU time of a gigabit',
    metric: loads.oneStream.cost.name,
    x: 'load',
    xScale: 'category',
    yScale: 'linear',
    caption:
      'All processors, client and server included: what is above “no director” is the director’s.',
  },
  ...[loads.kept, loads.opened].map(({ name, rate }) => ({
    title: `HTTP, ${name}`,
    metric: rate.name,
    x: 'load',
    xScale: 'category' as const,
    yScale: 'linear' as const,
    caption: 'Short answers of nginx, asked for by wrk on 64 connections at a time.',
  })),
  {
    title: 'CPU time of a request',
    metric: loads.kept.cost.name,
    x: 'load',
    xScale: 'category',
    yScale: 'linear',
    caption:
      'All processors, client and server included: what is above “no director” is the director’s.',
  },
]

export const streams: Part = {
  name: 'streams',
  title: 'TCP through directors',
  description:
    'The kernel’s own TCP at both ends: iperf3 sends one stream and eight, wrk asks nginx for short answers on kept ' +
    'connections and on a new one for each request. Client and server are a network namespace each, beside them one ' +
    'director for each subject, connected by veth; uvs masquerades. Nothing is pinned: client, director and server ' +
    'share all processors, so what a director takes is missing elsewhere. All of them run before ordinary work ' +
    '(SCHED_RR), TCP is as Linux has it by default (cubic). On AF_XDP the ends cut and sum their ' +
    'segments themselves, which a frame that passes it has to be; all others pass on what is still to be cut. The ' +
    'C TUN forwarder reads packets from a TUN device and writes them back as they are, without an address translated: ' +
    'what a program on such a device can do at best. CPU ' +
    'time is what all processors of the machine were busy with (/proc/stat, neither idle nor stolen), without what the ' +
    'processes of other programs had of it, divided by what arrived; the director’s share is what is above “no ' +
    'director” in the same round. A trial in which other programs had more than 5 % of all processors is disturbed, ' +
    'too; programs in another container cannot be seen, and count as load of its own.',
  needsRoot: true,
  usesAllProcessors: true,
  seconds: 130,
  quickSeconds: 30,
  leastSeconds: 55,
  claims,
  plots,
  async run(context) {
    const measurement = new Measurement(context)
    await measurement.open()
    // Setting up takes what is left.
    for (const round of context.rounds({ least: 2, most: 40, share: 0.9 }))
      await measurement.round(round)
  },
}
