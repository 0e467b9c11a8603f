/**
 * The short way and the long way are one: two directors get the same packets in the same batches, one of them goes
 * only the long way, and all that leaves, all counters, and the whole memory of the connection table are the same.
 */
import t from 'tap'
import { CounterRegion } from '../../src/core/counters.js'
import type { Command } from '../../src/core/commands.js'
import { LINE_WORDS } from '../../src/core/connection.js'
import { Director } from '../../src/core/director.js'
import { HitPath, THE_LONG_WAY } from '../../src/core/hit-path.js'
import { SeededRandom } from '../../src/port/random.js'
import { frameFor, FuzzWorld, soundPackets, spoil, SPOILS } from '../support/fuzz-world.js'
import { icmpPacket, packetSummary, tcpPacket, udpPacket } from '../support/packets.js'
import { destinationOptions, Harness, serviceOptions, VIP } from './harness.js'

const BATCHES = 800

/** Which connections there are, in which state, with which deadline, where in the wheel. */
function memoryOf({ table }: Director): Int32Array {
  return table.words.subarray(0, table.highWater * LINE_WORDS)
}

function countersOf({ counters }: Director): Float64Array {
  return counters.values.subarray(0, CounterRegion.bytesFor(100) / 8)
}

/** Counts how often the short way was taken. */
class Counted {
  taken = 0
  asked = 0
  constructor(hits: HitPath) {
    const short = hits.process.bind(hits)
    hits.process = (...args) => {
      const verdict = short(...args)
      this.asked++
      if (verdict !== THE_LONG_WAY) this.taken++
      return verdict
    }
  }
}

const hitsOf = (director: Director): HitPath => (director as unknown as { hits: HitPath }).hits

/** Addresses of clients beside ordinary ones: those that no packet is taken from, a real server, and the virtual address. */
const STRANGE_CLIENTS = [
  '127.0.0.1',
  '224.0.0.9',
  '0.0.0.0',
  '255.255.255.255',
  '10.0.0.2',
  '10.0.0.3',
  VIP,
]

// In the small table the index is in use to its end, and is full again and again.
for (const [seed, maxConnections] of [
  [1, 2048],
  [2, 2048],
  [3, 128],
] as const)
  t.test(`packets of all kinds in batches, seed ${seed}`, { timeout: 600_000 }, async (t) => {
    const random = new SeededRandom(seed)
    const below = (n: number): number => (random.next() >>> 0) % n
    const sound = soundPackets(random)
    const worlds = [
      new FuzzWorld(seed, maxConnections),
      new FuzzWorld(seed, maxConnections),
    ] as const
    const counted = new Counted(hitsOf(worlds[0].director))
    worlds[1].director.goTheLongWay()

    // Established connections, whose packets come again and again, between all the others.
    const flows = Array.from({ length: 56 }, (_, i) => {
      const strange = i < 40 ? undefined : STRANGE_CLIENTS[(i - 40) % STRANGE_CLIENTS.length]!
      const client = `${strange ?? `20.0.0.${2 + (i % 20)}`}:${5000 + i}`
      const port = [80, 81, 53, 82][i % 4]!
      const isUdp = port === 53 || port === 82
      const build = (from: string, to: string, flags: string): Uint8Array => {
        const ip = { ttl: 2 + below(63), id: below(65536), dontFragment: below(2) === 0 }
        const payload = new Uint8Array(below(3) * below(700)).fill(below(256))
        return isUdp
          ? udpPacket({ ...ip, from, to, payload, ...(below(5) === 0 ? { checksum: 0 } : {}) })
          : tcpPacket({ ...ip, from, to, flags, payload })
      }
      return (): { port: 0 | 1; packet: Uint8Array } => {
        const server = `10.0.0.${2 + below(2)}:${8080}`
        // What it quotes begins a connection, as schedule_icmp is on.
        if (strange !== undefined && below(4) === 0) {
          const payload = build(`${VIP}:${port}`, client, 'A').subarray(0, 28)
          return { port: 0, packet: icmpPacket({ from: '20.0.0.9', to: VIP, type: 3, payload }) }
        }
        const flags = ['A', 'A', 'A', 'A', 'A', 'PA', 'PA', 'S', 'FA', 'R'][below(10)]!
        if (below(3) === 0)
          return { port: 1, packet: build(server, client, flags.replace(/^S$/, 'SA')) }
        return { port: 0, packet: build(client, `${VIP}:${port}`, flags) }
      }
    })

    const options = destinationOptions()
    const service = { protocol: 'tcp', address: VIP, port: 80 } as const
    const destination = { address: '10.0.0.3', port: 8080 }
    const changes: Command[] = [
      { op: 'delete-destination', service, destination },
      { op: 'add-destination', service, destination, options },
      { op: 'edit-destination', service, destination, options: { ...options, weight: 0 } },
      { op: 'edit-destination', service, destination, options },
      { op: 'set-timeouts', timeouts: { tcp: 100, tcpFin: 7, udp: 20 } },
      { op: 'set-timeouts', timeouts: { tcp: 900, tcpFin: 120, udp: 300 } },
      ...['secure_tcp', 'sloppy_tcp', 'expire_nodest_conn'].flatMap((name) => [
        { op: 'set-setting', name, value: name === 'secure_tcp' ? '3' : '1' } as const,
        { op: 'set-setting', name, value: '0' } as const,
      ]),
      // With it there is no short way.
      ...['1', '0', '0', '0'].map(
        (value) => ({ op: 'set-setting', name: 'nat_icmp_send', value }) as const,
      ),
    ]
    for (const { director } of worlds)
      director.execute({ op: 'set-setting', name: 'schedule_icmp', value: '1' })

    for (let batch = 0; batch < BATCHES; batch++) {
      const frames = Array.from({ length: 1 + below(below(20) === 0 ? 600 : 40) }, () => {
        const { port, packet } =
          below(4) === 0 ? sound[below(sound.length)]! : flows[below(flows.length)]!()
        const frame = frameFor(port, packet)
        return {
          port,
          frame: below(20) === 0 ? spoil(frame, random, SPOILS[below(SPOILS.length)]!) : frame,
        }
      })
      const jiffies = below(10) === 0 ? below(30) : below(2)
      const change = below(40) === 0 ? changes[below(changes.length)]! : undefined
      const sent = worlds.map((world) => {
        world.clock.advanceJiffies(jiffies)
        if (change !== undefined) {
          try {
            world.director.execute(change)
          } catch {
            // It is there already, or not there: in both worlds alike.
          }
        }
        for (const { port, frame } of frames) world.ports[port].inject(frame)
        return world.carry()
      })
      const differs = sent[0]!.findIndex((packets, port) => !isSame(packets, sent[1]![port]!))
      if (differs >= 0)
        return t.fail(`batch ${batch}: what port ${differs} sends differs`, {
          short: sent[0]![differs]!.map((frame) => packetSummary(frame.subarray(14))),
          long: sent[1]![differs]!.map((frame) => packetSummary(frame.subarray(14))),
        })
      if (
        Buffer.compare(
          bytesOf(memoryOf(worlds[0].director)),
          bytesOf(memoryOf(worlds[1].director)),
        ) !== 0
      )
        return t.fail(`batch ${batch}: the connection tables differ`)
    }
    t.strictSame(countersOf(worlds[0].director), countersOf(worlds[1].director), 'the counters')
    t.strictSame(worlds[0].director.ends, worlds[1].director.ends)
    t.strictSame(worlds[0].director.violations, [])
    worlds[0].director.table.check()
    t.comment(`${counted.taken} of ${counted.asked} packets went the short way`)
    t.ok(counted.taken > counted.asked / 16, 'the short way was taken')
  })

t.test('what lookAhead has found is void when a connection begins meanwhile', async (t) => {
  const harness = new Harness()
  const { director, pool } = harness
  director.execute({
    op: 'add-service',
    service: { protocol: 'tcp', address: VIP, port: 80 },
    options: {
      scheduler: 'rr',
      schedulerFlags: [],
      persistentTimeoutSeconds: 0,
      persistentPrefixLength: 32,
      onePacket: false,
    },
  })
  director.execute({
    op: 'add-destination',
    service: { protocol: 'tcp', address: VIP, port: 80 },
    destination: { address: '10.0.0.2', port: 80 },
    options: { forwarding: 'direct-route', weight: 1, upperThreshold: 0, lowerThreshold: 0 },
  })
  const packet = (port: number, flags: string) =>
    tcpPacket({ from: `198.51.100.7:${port}`, to: `${VIP}:80`, flags })
  for (const flags of ['S', 'A']) harness.send(packet(1000, flags))
  const offset = 256
  pool.bytes.set(packet(1000, 'A'), offset)
  director.lookAhead(Int32Array.of(offset), 1, 0)
  t.equal(director.candidate(0), director.table.first())
  harness.send(packet(1001, 'S'))
  t.equal(director.candidate(0), 0)
})

t.test(
  'no packet is taken from a martian source, though an ICMP error has made its connection',
  async (t) => {
    const service = { protocol: 'udp', address: VIP, port: 53 } as const
    for (const client of ['127.0.0.1', '224.0.0.9', '0.0.0.0', '255.255.255.255']) {
      const harness = new Harness()
      const { director } = harness
      director.execute({ op: 'set-setting', name: 'schedule_icmp', value: '1' })
      director.execute({ op: 'add-service', service, options: serviceOptions() })
      director.execute({
        op: 'add-destination',
        service,
        destination: { address: '10.0.0.2', port: 53 },
        options: destinationOptions(),
      })
      const quote = udpPacket({ from: `${VIP}:53`, to: `${client}:1000` }).subarray(0, 28)
      const error = icmpPacket({ from: '198.51.100.7', to: VIP, type: 3, payload: quote })
      t.equal(harness.send(error).verdict, 'forward')
      t.equal(director.table.count, 1)
      const { verdict, reason } = harness.send(
        udpPacket({ from: `${client}:1000`, to: `${VIP}:53`, payload: 'x' }),
      )
      t.strictSame({ verdict, reason }, { verdict: 'drop', reason: 'martian-source' }, client)
    }
  },
)

function bytesOf(words: Int32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
}

function isSame(some: Uint8Array[], others: Uint8Array[]): boolean {
  return (
    some.length === others.length && some.every((one, i) => Buffer.compare(one, others[i]!) === 0)
  )
}
