/** Directors on the wire: the packet rates that they carry, and how long a packet takes through them. */
import type { Claim, Context, Metric, Parameters, Part, Plot } from '../suite/measurement.js'
import { whyMissing } from '../suite/missing.js'
import { prepareMachine } from '../wire/machine.js'
import { peers, type Peer } from '../wire/peers.js'
import { findThroughput, LOSS_BOUND, measureLatency } from '../wire/search.js'
import { Testbed } from '../wire/testbed.js'
import type { Lane } from '../wire/tester-messages.js'

const THROUGHPUT: Metric = { name: 'throughput', unit: 'packets/s', better: 'higher' }
const latency = (which: string): Metric => ({
  name: `latency ${which}`,
  unit: 'ns',
  better: 'lower',
})
const LATENCY = { p50: latency('p50'), p99: latency('p99'), p999: latency('p99.9'), max: latency('max') } // prettier-ignore

/** Where all subjects are compared; the others vary one of the two. */
const USUAL = { flows: 4096, frameBytes: 64 }
const VARIED = [
  { flows: 1, frameBytes: 64 },
  { flows: 65_536, frameBytes: 64 },
  { flows: 1_048_576, frameBytes: 64 },
  { flows: 4096, frameBytes: 512 },
  { flows: 4096, frameBytes: 1518 },
]
type Shape = typeof USUAL

/** Of its own throughput. */
const LOADS = [0.1, 0.5, 0.9]

const everybody: readonly Peer[] = Object.values(peers)
/** For whom more than the usual load is of interest. */
const varied: readonly Peer[] = [
  peers.masquerading,
  peers.directRouting,
  peers.forwarder,
  peers.nftables,
  peers.ceiling,
]

/** Where the first search for a throughput begins, and how far from there it looks; and those that know an earlier one. */
const FIRST_GUESS = 400_000
const FIRST_STEP = 1.4
const NEXT_STEP = 1.08
/** Rate at which connections are created before they are measured, and for how long at least: to let a compiler see it. */
const CREATION_RATE = 250_000
const WARM_UP_MS = 400

const parametersOf = ({ flows, frameBytes }: Shape): Parameters => ({
  flows,
  'frame bytes': frameBytes,
})
const loadName = (share: number): string => `${share * 100} %`

interface Open {
  readonly peer: Peer
  readonly lane: Lane
}

class Measurement {
  private readonly testbed = new Testbed()
  private readonly opened: Open[] = []
  /** Flows that a peer has connections for. */
  private readonly known = new Map<Peer, number>()
  /** The last throughput of each, where the next search begins. */
  private readonly found = new Map<Peer, number>()
  private readonly durationMs: number
  private readonly precision: number

  constructor(private readonly context: Context) {
    this.durationMs = context.quick ? 100 : 200
    this.precision = context.quick ? 1.1 : 1.02
    context.defer(() => this.testbed.end())
    context.defer(prepareMachine())
  }

  async open(): Promise<void> {
    for (const peer of everybody) {
      const { name } = peer.subject
      this.context.progress(`setting up ${name}`)
      try {
        this.opened.push({ peer, lane: await peer.open(this.testbed) })
      } catch (error) {
        if (peer.subject.role === 'uvs') throw error
        this.context.note(`${name} is missing: ${whyMissing(error)}`)
      }
    }
    await this.testbed.openTester()
  }

  /** The throughputs of some peers with frames of one shape, by round. */
  async throughputs(who: readonly Peer[], shape: Shape, rounds: Iterable<number>): Promise<void> {
    for (const round of rounds)
      for (const one of this.inOrder(who, round)) await this.throughput(one, shape, round)
  }

  /** The latencies of some peers at the loads, in each round after the throughput that they are shares of. */
  async latencies(who: readonly Peer[], shape: Shape, rounds: Iterable<number>): Promise<void> {
    for (const round of rounds) {
      const order = this.inOrder(who, round)
      const found = new Map<Open, number>()
      for (const one of order) found.set(one, await this.throughput(one, shape, round))
      for (const load of LOADS)
        for (const one of order) await this.latency(one, shape, round, load, found.get(one)!)
    }
  }

  private inOrder(who: readonly Peer[], round: number): Open[] {
    const some = this.opened.filter(({ peer }) => who.includes(peer))
    const first = round % some.length
    return [...some.slice(first), ...some.slice(0, first)]
  }

  private async throughput({ peer, lane }: Open, shape: Shape, round: number): Promise<number> {
    const { context, testbed, durationMs, precision } = this
    const { subject } = peer
    context.progress(
      `round ${round + 1}: ${subject.name}, ${shape.flows} flows, ${shape.frameBytes} bytes`,
    )
    await this.createConnections({ peer, lane }, shape)
    const guess = this.found.get(peer)
    let found = 0
    await context.trial(subject, parametersOf(shape), round, async () => {
      found = await findThroughput({
        probe: (packetsPerSecond) =>
          testbed.measure(lane, { packetsPerSecond, durationMs, ...shape }),
        guess: guess ?? FIRST_GUESS,
        step: guess === undefined ? FIRST_STEP : NEXT_STEP,
        precision,
      })
      return [[THROUGHPUT, found]]
    })
    if (found > 0) this.found.set(peer, found)
    return found
  }

  private async latency(
    { peer, lane }: Open,
    shape: Shape,
    round: number,
    load: number,
    throughput: number,
  ): Promise<void> {
    if (throughput === 0) return
    const { context, testbed, durationMs } = this
    const name = loadName(load)
    context.progress(`round ${round + 1}: latency of ${peer.subject.name} at ${name} load`)
    await context.trial(peer.subject, { ...parametersOf(shape), load: name }, round, async () => {
      const found = await measureLatency(() =>
        testbed.measure(lane, {
          packetsPerSecond: throughput * load,
          durationMs: 2 * durationMs,
          ...shape,
        }),
      )
      if (found === undefined) {
        context.note(
          `${peer.subject.name} did not carry ${name} of its throughput in round ${round + 1}, so there is no latency`,
        )
        return []
      }
      return [
        [LATENCY.p50, found.p50],
        [LATENCY.p99, found.p99],
        [LATENCY.p999, found.p999],
        [LATENCY.max, found.max],
      ]
    })
  }

  /** Every flow is sent once, not too fast, before it counts: creating a connection is another measurement. */
  private async createConnections(
    { peer, lane }: Open,
    { flows, frameBytes }: Shape,
  ): Promise<void> {
    if ((this.known.get(peer) ?? 0) >= flows) return
    this.known.set(peer, flows)
    await this.testbed.measure(lane, {
      packetsPerSecond: CREATION_RATE,
      frameBytes,
      flows,
      durationMs: Math.max(WARM_UP_MS, (1000 * flows) / CREATION_RATE),
    })
  }
}

const uvsNames = [peers.masquerading, peers.directRouting].map(({ subject }) => subject.name)
const C = peers.forwarder.subject.name
const NFTABLES = peers.nftables.subject.name
const UNSTEERED = peers.nftablesUnsteered.subject.name

const claims: readonly Claim[] = uvsNames.flatMap((subject) => [
  {
    text: `${subject}: the packet rate of a C program that does nothing but swap addresses`,
    metric: THROUGHPUT.name,
    parameters: parametersOf(USUAL),
    subject,
    against: C,
    atLeast: 0.95,
  },
  ...[NFTABLES, UNSTEERED].map((against) => ({
    text: `${subject}: the packet rate of ${against}`,
    metric: THROUGHPUT.name,
    parameters: parametersOf(USUAL),
    subject,
    against,
    atLeast: 1,
  })),
  {
    text: `${subject}: the latency of ${NFTABLES} at half load`,
    metric: LATENCY.p99.name,
    parameters: { ...parametersOf(USUAL), load: loadName(0.5) },
    subject,
    against: NFTABLES,
    atMost: 1.5,
  },
])

const plots: readonly Plot[] = [
  {
    title: 'Throughput by number of flows',
    metric: THROUGHPUT.name,
    x: 'flows',
    xScale: 'log',
    yScale: 'linear',
    where: { 'frame bytes': USUAL.frameBytes },
    caption: `Packets a second with at most ${LOSS_BOUND * 100} % lost, frames of ${USUAL.frameBytes} bytes.`,
  },
  {
    title: 'Throughput by size of the frames',
    metric: THROUGHPUT.name,
    x: 'frame bytes',
    xScale: 'log',
    yScale: 'linear',
    where: { flows: USUAL.flows },
    caption: `Packets a second with at most ${LOSS_BOUND * 100} % lost, ${USUAL.flows} flows.`,
  },
  ...[LATENCY.p50, LATENCY.p99, LATENCY.p999].map(({ name }) => ({
    title: `${name[0]!.toUpperCase()}${name.slice(1)}`,
    metric: name,
    x: 'load',
    xScale: 'category' as const,
    yScale: 'log' as const,
    where: parametersOf(USUAL),
    caption: 'From the generator to the receiver, at shares of what each one carries.',
  })),
]

export const wire: Part = {
  name: 'wire',
  title: 'Packets on the wire',
  description:
    'Directors between two veth links, each in a network namespace of its own and all of the same make. A BPF ' +
    'program in the kernel sends UDP frames one by one as a clock says, whatever becomes of them; another one at ' +
    'the far end counts them and sorts their latencies, from the moment each frame left the generator. Throughput ' +
    `is the highest rate with no more than ${LOSS_BOUND * 100} % lost, found by binary search; frames that the ` +
    'generator had no time for count as lost. The generator and what receives frames on their behalf have one ' +
    "processor, the director the other: the kernel's forwarding is steered there (RPS), except “by the sender”, where " +
    'it goes on in the generator’s own softirq. The C forwarder has the same AF_XDP sockets, rings and wake-ups as ' +
    'uvs, and does nothing but swap Ethernet addresses. “No device” is generator and receiver alone.',
  needsRoot: true,
  seconds: 220,
  quickSeconds: 25,
  leastSeconds: 120,
  claims,
  plots,
  async run(context) {
    const measurement = new Measurement(context)
    await measurement.open()
    await measurement.latencies(
      everybody,
      USUAL,
      context.rounds({ least: 2, most: 20, share: 0.55 }),
    )
    if (context.quick) return
    for (const shape of VARIED)
      await measurement.throughputs(
        varied,
        shape,
        context.rounds({ least: 1, most: 5, share: 0.4 / VARIED.length }),
      )
  },
}
