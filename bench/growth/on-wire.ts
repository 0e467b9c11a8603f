/**
 * What grows with the number of services, through real interfaces: each size and each subject has a director of its
 * own, and all are up at once. The service that gets the traffic stands in the middle of the others.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runOrThrow, sleep } from '../../src/lab/process.js'
import type { Claim, Context, Metric, Plot, Subject } from '../suite/measurement.js'
import { whyMissing } from '../suite/missing.js'
import { prepareMachine } from '../wire/machine.js'
import { steerToDirectorCpu } from '../wire/peers.js'
import { findThroughput } from '../wire/search.js'
import { SERVER_ADDRESS, Testbed, VIRTUAL_ADDRESS, type Director } from '../wire/testbed.js'
import { SERVICE_PORT, type Lane, type TrialResult } from '../wire/tester-messages.js'
import { SERVICES } from './in-memory.js'
import { virtualAddress } from './load.js'

const THROUGHPUT: Metric = { name: 'throughput', unit: 'packets/s', better: 'higher' }
/**
 * What a director carries of more than it can. With this it is not to be compared with another program, which may
 * spend its time on what it drops, but with itself: it takes a tenth of a second, so there can be many trials.
 */
const SATURATED: Metric = { name: 'saturated rate', unit: 'packets/s', better: 'higher' }

const NEW = 'every packet a new connection'
const KNOWN = '4,096 known connections'
const KNOWN_FLOWS = 4096
/** So many that none comes twice while its connection lives. */
const NEW_FLOWS = 1 << 26
const FRAME_BYTES = 64

const CONNECTIONS = 1 << 20
const program = (file: string): string => fileURLToPath(new URL(file, import.meta.url))
const server = `${SERVER_ADDRESS}:${SERVICE_PORT}`

/**
 * The others have addresses of their own, a few hundred, and differ by port: an address more makes each of the
 * device's others dearer in the kernel, and tens of thousands take it minutes, whoever adds them.
 */
const ADDRESSES = 256

interface Endpoint {
  readonly address: string
  readonly port: number
}

/** So many services, the one with the traffic in the middle. */
function endpoints(services: number): Endpoint[] {
  const all = Array.from({ length: services }, (_, i) => ({
    address: virtualAddress(i % ADDRESSES),
    port: 1024 + Math.floor(i / ADDRESSES),
  }))
  all[services >> 1] = { address: VIRTUAL_ADDRESS, port: SERVICE_PORT }
  return all
}

interface Contestant {
  readonly subject: Subject
  readonly role: string
  /** Makes the director translate for so many services. */
  configure(testbed: Testbed, director: Director, services: number): Promise<void>
  /** New connections a second that it carried somewhere, about: where the first search begins. */
  guess(services: number): number
}

async function startUvs(testbed: Testbed, director: Director, services: number): Promise<void> {
  const { role } = director.namespace
  const socket = join(testbed.folder, `${role}.sock`)
  const command = [
    process.execPath, program('../../src/cli/uvsd.js'), '--socket', socket,
    '--connections', String(CONNECTIONS), '--port', 'afxdp:eth0', '--port', 'afxdp:eth1',
  ] // prettier-ignore
  await testbed.startDirector(director, command, /uvsd: ready/)
  const rules = endpoints(services).flatMap(({ address, port }) => [
    `-A -u ${address}:${port} -s rr`,
    `-a -u ${address}:${port} -r ${server} -m -w 1`,
  ])
  const uvsadm = (args: string[], input?: string): Promise<string> =>
    runOrThrow(process.execPath, [program('../../src/cli/uvsadm.js'), ...args], {
      environment: { UVS_SOCKET: socket },
      ...(input === undefined ? {} : { input }),
    })
  await uvsadm(['-R'], rules.map((rule) => `${rule}\n`).join(''))
  await uvsadm(['--set', '0', '0', '1'])
}

/** New connections are gone a second after their packet, as uvs's are. */
async function prepareKernel(director: Director): Promise<void> {
  await steerToDirectorCpu(director)
  await director.namespace.sysctl({ 'net.netfilter.nf_conntrack_udp_timeout': 1 })
}

async function translateByIptables(
  _testbed: Testbed,
  director: Director,
  services: number,
): Promise<void> {
  const { namespace } = director
  // The classic tables, where the kernel has them: iptables is otherwise nftables by another name.
  const hasTables = (await namespace.try('iptables-legacy', ['-t', 'nat', '-L'])).status === 0
  const rules = endpoints(services).map(
    ({ address, port }) =>
      `-A PREROUTING -d ${address}/32 -p udp -m udp --dport ${port} -j DNAT --to-destination ${server}\n`,
  )
  const input = `*nat\n${rules.join('')}COMMIT\n`
  const restore = hasTables ? 'iptables-legacy-restore' : 'iptables-restore'
  const { status, stderr } = await namespace.try(restore, [], { input })
  if (status !== 0) throw new Error(`${restore}: ${stderr.trim()}`)
  await prepareKernel(director)
}

async function translateByNftables(
  _testbed: Testbed,
  director: Director,
  services: number,
): Promise<void> {
  const elements = endpoints(services).map(
    ({ address, port }) => `${address} . ${port} : ${SERVER_ADDRESS} . ${SERVICE_PORT}`,
  )
  const input = `table ip nat {
  map services {
    type ipv4_addr . inet_service : ipv4_addr . inet_service
    elements = { ${elements.join(', ')} }
  }
  chain prerouting {
    type nat hook prerouting priority -100
    ip protocol udp dnat to ip daddr . udp dport map @services
  }
}
`
  const { status, stderr } = await director.namespace.try('nft', ['-f', '-'], { input })
  if (status !== 0) throw new Error(`nft: ${stderr.trim()}`)
  await prepareKernel(director)
}

const uvs: Contestant = {
  subject: { name: 'uvs', role: 'uvs' },
  role: 'uvs',
  configure: startUvs,
  guess: () => 300_000,
}
const iptables: Contestant = {
  subject: { name: 'iptables DNAT, a rule for each', role: 'peer' },
  role: 'ipt',
  configure: translateByIptables,
  guess: (services) => 250_000 / (1 + services / 3500),
}
const nftables: Contestant = {
  subject: { name: 'nftables DNAT, a map', role: 'peer' },
  role: 'nft',
  configure: translateByNftables,
  guess: () => 230_000,
}
const contestants = [uvs, iptables, nftables]

const MOST = SERVICES[SERVICES.length - 1]!
/** The ends are measured one right after the other. */
const WIRE_SIZES = [1, MOST, 1000, 10_000]
const QUICK_SIZES = [1, 1000]

export const onWireClaims: readonly Claim[] = [
  ...[KNOWN, NEW].map((packets) => ({
    text: `On the wire uvs carries with ${MOST.toLocaleString('en-US')} services what it carries with one: ${packets}`,
    metric: SATURATED.name,
    parameters: { services: MOST, packets },
    subject: uvs.subject.name,
    against: uvs.subject.name,
    againstParameters: { services: 1, packets },
    atLeast: 0.95,
  })),
  {
    text: `With ${MOST.toLocaleString('en-US')} services uvs opens ten times as many connections as iptables with as many rules`,
    metric: THROUGHPUT.name,
    parameters: { services: MOST, packets: NEW },
    subject: uvs.subject.name,
    against: iptables.subject.name,
    atLeast: 10,
  },
]

/** What is offered to saturate it, and for how long. */
const SATURATION = { packetsPerSecond: 1_200_000, durationMs: 100 }

export const onWirePlots: readonly Plot[] = [
  {
    title: 'New connections per second against services, on the wire',
    metric: THROUGHPUT.name,
    x: 'services',
    xScale: 'log',
    yScale: 'log',
    where: { packets: NEW },
    caption:
      'The first packet of a connection has to find its service: iptables tries its rules one after the other.',
  },
  {
    title: 'Packets of known connections against services, on the wire',
    metric: THROUGHPUT.name,
    x: 'services',
    xScale: 'log',
    yScale: 'linear',
    where: { packets: KNOWN },
    caption: 'A connection that is known does not depend on services or rules for anybody.',
  },
]

interface Open {
  readonly contestant: Contestant
  readonly services: number
  readonly lane: Lane
  /** Where the next search begins, by what is sent. */
  readonly guesses: Map<string, number>
}

const KNOWN_GUESS = 480_000
const FIRST_STEP = 1.2
const NEXT_STEP = 1.06
/** A rate at which a compiler sees what is to be measured, and for how long. */
const WARM_UP = { share: 0.5, durationMs: 800 }
/** Packets that may wait for the kernel to get at them (net.core.netdev_max_backlog). */
const BACKLOG = 1000

class Measurement {
  private readonly testbed = new Testbed()
  private readonly open: Open[] = []
  private nextFlow = 0

  constructor(private readonly context: Context) {
    context.defer(() => this.testbed.end())
    context.defer(prepareMachine())
  }

  async setUp(): Promise<void> {
    const { testbed, context } = this
    for (const contestant of contestants)
      for (const services of context.quick ? QUICK_SIZES : WIRE_SIZES) {
        const { name } = contestant.subject
        context.signal.throwIfAborted()
        context.progress(`setting up ${name} with ${services} services`)
        try {
          const director = await testbed.addDirector(`${contestant.role}${services}`, {
            virtual: VIRTUAL_ADDRESS,
            server: SERVER_ADDRESS,
          })
          await contestant.configure(testbed, director, services)
          this.open.push({ contestant, services, lane: director.lane, guesses: new Map() })
        } catch (error) {
          if (contestant === uvs) throw error
          context.note(`${name} with ${services} services is missing: ${whyMissing(error)}`)
        }
      }
    await testbed.openTester()
  }

  async round(round: number): Promise<void> {
    const { open } = this
    for (let i = 0; i < open.length; i++) {
      const one = open[(i + round * WIRE_SIZES.length) % open.length]!
      await this.throughput(one, NEW, round)
      // Nobody's known connections depend on services, so the ends show it.
      if (one.services === 1 || one.services === MOST) await this.throughput(one, KNOWN, round)
    }
  }

  /** The ends of uvs, in turns, with more than they can carry. */
  async saturated(round: number): Promise<void> {
    const ends = this.open.filter(
      ({ contestant, services }) => contestant === uvs && (services === 1 || services === MOST),
    )
    if (round % 2 === 1) ends.reverse()
    const { packetsPerSecond, durationMs } = SATURATION
    for (const packets of [KNOWN, NEW])
      for (const one of ends) {
        const { services } = one
        this.context.progress(`round ${round + 1}: saturated, ${services} services, ${packets}`)
        await this.context.trial(uvs.subject, { services, packets }, round, async () => {
          const { received } = await this.send(one, packets, packetsPerSecond, durationMs)
          return [[SATURATED, (received * 1000) / durationMs]]
        })
      }
  }

  private async throughput(one: Open, packets: string, round: number): Promise<void> {
    const { context } = this
    const { contestant, services, guesses } = one
    const { subject } = contestant
    context.progress(`round ${round + 1}: ${subject.name}, ${services} services, ${packets}`)
    const last = guesses.get(packets)
    const guess = last ?? (packets === NEW ? contestant.guess(services) : KNOWN_GUESS)
    if (last === undefined || packets === KNOWN)
      await this.send(one, packets, guess * WARM_UP.share, WARM_UP.durationMs)
    await context.trial(subject, { services, packets }, round, async () => {
      const found = await findThroughput({
        probe: (rate) => this.send(one, packets, rate, context.quick ? 80 : 150),
        guess,
        step: last === undefined ? FIRST_STEP : NEXT_STEP,
        precision: context.quick ? 1.1 : 1.02,
      })
      if (found > 0) guesses.set(packets, found)
      return [[THROUGHPUT, found]]
    })
  }

  private async send(
    { contestant, services, lane }: Open,
    packets: string,
    rate: number,
    durationMs: number,
  ): Promise<TrialResult> {
    const isNew = packets === NEW
    const result = await this.testbed.measure(lane, {
      packetsPerSecond: rate,
      frameBytes: FRAME_BYTES,
      flows: isNew ? NEW_FLOWS : KNOWN_FLOWS,
      firstFlow: isNew ? this.nextFlow : 0,
      durationMs,
    })
    if (isNew) {
      this.nextFlow = (this.nextFlow + result.sent) % NEW_FLOWS
      // What is still waiting after too much would be in the way of what comes next.
      await sleep((BACKLOG / contestant.guess(services)) * 1000)
    }
    return result
  }
}

/** @param share of the part's time */
export async function measureOnWire(context: Context, share: number): Promise<void> {
  const measurement = new Measurement(context)
  await measurement.setUp()
  for (const round of context.rounds({ least: 2, most: 10, share: share * 0.7 }))
    await measurement.round(round)
  for (const round of context.rounds({ least: 20, most: 60, share: share * 0.3 }))
    await measurement.saturated(round)
}
