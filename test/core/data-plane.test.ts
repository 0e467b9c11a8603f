// The data plane between ports of memory: a real director, the real route table, time by hand.
//
//   clients 198.51.100.0/24 ── port 0 ── director ── port 1 ── real servers 10.0.0.0/24
//                                            └────── port 2: the kernel's stack
import fc from '../support/properties.js'
import t from 'tap'
import {
  BATCH_SIZE,
  createDataPlane,
  type DataPlane,
  type KernelPath,
} from '../../src/core/data-plane.js'
import { Director } from '../../src/core/director.js'
import { RouteTable, type RouteNeighbour } from '../../src/core/route-table.js'
import type { Reason } from '../../src/core/verdict.js'
import { MemoryPort } from '../../src/drivers/memory.js'
import { WrappedPort } from '../../src/drivers/wrapped-port.js'
import { ManualClock } from '../../src/port/clock.js'
import { FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { LinkLayer, type PacketPort } from '../../src/port/packet-port.js'
import { SeededRandom } from '../../src/port/random.js'
import {
  ethernetFrame,
  hex,
  ipipPacket,
  macBytes,
  packetProblems,
  packetSummary,
  tcpPacket,
  udpPacket,
} from '../support/packets.js'
import { destinationOptions, serviceOptions } from './harness.js'

const FRAMES = 256
const VIP = '192.0.2.1'
const CLIENT = '198.51.100.7'
const clientMac = '02:00:00:00:01:07'
const outerMac = '02:00:00:00:01:01'
const innerMac = '02:00:00:00:02:01'
const serverMac = (n: number): string => `02:00:00:00:02:${10 + n}`

interface WorldOptions {
  frames?: number
  /** Bytes of IP on the way to the real servers. */
  mtu?: number
  kernel?: 'ip' | 'ethernet' | 'none'
  /** Real servers behind the service, 10.0.0.11 and up. */
  servers?: number
  /** Those that the kernel knows the Ethernet address of; all when absent. */
  known?: readonly number[]
  forwarding?: 'masquerade' | 'tunnel' | 'direct-route'
  wrapInner?: (port: PacketPort, pool: FramePool) => PacketPort
}

class World {
  readonly pool: FramePool
  readonly outer: MemoryPort
  readonly inner: MemoryPort
  readonly kernel: MemoryPort
  readonly clock = new ManualClock()
  readonly routes = new RouteTable()
  readonly director: Director
  readonly plane: DataPlane

  constructor(options: WorldOptions = {}) {
    const { frames = FRAMES, mtu = 1500, kernel = 'ip', servers = 1, forwarding } = options
    const pool = new FramePool(new ArrayBuffer(frames * 2048), 2048, frames)
    this.pool = pool
    const mac = (text: string): Uint8Array => Uint8Array.from(macBytes(text))
    const ethernet = LinkLayer.ethernet
    this.outer = new MemoryPort({ pool, linkLayer: ethernet, mac: mac(outerMac), name: 'outer' })
    this.inner = new MemoryPort({ pool, linkLayer: ethernet, mac: mac(innerMac), name: 'inner' })
    this.kernel =
      kernel === 'ethernet'
        ? new MemoryPort({ pool, linkLayer: ethernet, mac: mac('02:00:00:00:03:01') })
        : new MemoryPort({ pool, linkLayer: LinkLayer.ip })
    this.routes.apply([
      {
        op: 'set-ports',
        ports: [
          { port: 0, linkLayer: ethernet, interfaces: [1] },
          { port: 1, linkLayer: ethernet, interfaces: [2] },
        ],
      },
      {
        op: 'links',
        links: [
          { index: 1, name: 'outer', mtu: 1500, mac: outerMac, up: true },
          { index: 2, name: 'inner', mtu, mac: innerMac, up: true },
          { index: 3, name: 'elsewhere', mtu: 1500, up: true },
        ],
      },
      {
        op: 'addresses',
        addresses: [
          { interfaceIndex: 1, address: '198.51.100.1', prefixLength: 24 },
          { interfaceIndex: 2, address: '10.0.0.1', prefixLength: 24 },
        ],
      },
      {
        op: 'routes',
        routes: [
          { prefix: '198.51.100.0/24', interfaceIndex: 1 },
          { prefix: '10.0.0.0/24', interfaceIndex: 2 },
          { prefix: '172.16.0.0/12', interfaceIndex: 3 },
        ].map(({ prefix, interfaceIndex }) => ({
          table: 'main',
          type: 'unicast',
          metric: 0,
          prefix,
          nextHops: [{ interfaceIndex }],
        })),
      },
      {
        op: 'neighbours',
        neighbours: [
          { interfaceIndex: 1, address: CLIENT, mac: clientMac, state: 'reachable' },
          ...(options.known ?? range(1, servers)).map(known),
        ],
      },
    ])
    const inner = options.wrapInner?.(this.inner, pool) ?? this.inner
    const ports = [this.outer, inner, this.kernel]
    this.director = new Director({
      pool,
      neighbours: this.routes,
      random: new SeededRandom(1),
      table: { maxConnections: 1024, seed: 1 },
    })
    const kernelPath: KernelPath = {
      port: 2,
      ...(kernel === 'ethernet' ? { mac: mac('02:00:00:00:03:02') } : {}),
    }
    this.plane = createDataPlane({
      pool,
      ports,
      director: this.director,
      neighbours: this.routes,
      clock: this.clock,
      ...(kernel === 'none' ? {} : { kernelPath }),
    })
    const service = { protocol: 'udp', address: VIP, port: 53 } as const
    this.director.execute({ op: 'add-service', service, options: serviceOptions() })
    for (const n of range(1, servers))
      this.director.execute({
        op: 'add-destination',
        service,
        destination: { address: server(n), port: 53 },
        options: destinationOptions(forwarding ? { forwarding } : {}),
      })
  }

  /** A frame from the client's side, as the client would send it. */
  inject(packet: Uint8Array): void {
    this.outer.inject(ethernetFrame({ from: clientMac, to: outerMac }, packet))
  }

  /** Rounds until a round receives nothing. */
  run(): void {
    while (this.plane.round() > 0);
  }

  /** Reasons that have been counted, without those that have not. */
  counted(): Partial<Record<Reason, number>> {
    const { reasons: counts } = this.director.execute({ op: 'get-counters' })
    return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0))
  }

  /** Frames that nobody has, with those of the waiting packets. */
  get accounted(): number {
    return this.pool.available + this.plane.waitingPackets
  }

  neighbour(neighbour: RouteNeighbour): void {
    this.routes.apply([{ op: 'set-neighbour', neighbour }])
  }
}

const range = (from: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => from + i)
const server = (n: number): string => `10.0.0.${10 + n}`
const known = (n: number): RouteNeighbour => ({
  interfaceIndex: 2,
  address: server(n),
  mac: serverMac(n),
  state: 'reachable',
})
/** A request of the client's, each of a connection of its own. */
const request = (n = 1, fields = {}): Uint8Array =>
  udpPacket({ from: `${CLIENT}:${1000 + n}`, to: `${VIP}:53`, ...fields })
const macOf = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':')
const frame = (bytes: Uint8Array) => ({
  to: macOf(bytes.subarray(0, 6)),
  from: macOf(bytes.subarray(6, 12)),
  type: (bytes[12]! << 8) | bytes[13]!,
  packet: bytes.subarray(14),
})

t.test('a request goes to a real server, its reply to the client', async (t) => {
  const world = new World()
  world.inject(request())
  world.run()
  const [sent] = world.inner.takeTransmitted().map(frame)
  t.match(sent, { from: innerMac, to: serverMac(1), type: 0x0800 })
  t.strictSame(packetProblems(sent!.packet), [])
  t.match(packetSummary(sent!.packet), /198\.51\.100\.7:1001 > 10\.0\.0\.11:53/)

  const reply = udpPacket({ from: `${server(1)}:53`, to: `${CLIENT}:1001` })
  world.inner.inject(ethernetFrame({ from: serverMac(1), to: innerMac }, reply))
  world.run()
  const [back] = world.outer.takeTransmitted().map(frame)
  t.match(back, { from: outerMac, to: clientMac, type: 0x0800 })
  t.match(packetSummary(back!.packet), /192\.0\.2\.1:53 > 198\.51\.100\.7:1001/)
  t.strictSame(world.counted(), {})
  t.equal(world.accounted, FRAMES)
})

t.test('what is no packet for this station ends here, counted', async (t) => {
  const cases: [string, Uint8Array, Reason][] = [
    ['nothing', new Uint8Array(0), 'truncated-link-header'],
    ['one byte short of a header', new Uint8Array(13), 'truncated-link-header'],
    [
      'of another station',
      ethernetFrame({ from: clientMac, to: serverMac(1) }, request()),
      'not-for-us',
    ],
    [
      'broadcast',
      ethernetFrame({ from: clientMac, to: 'ff:ff:ff:ff:ff:ff' }, request()),
      'not-for-us',
    ],
    [
      'of another port of ours',
      ethernetFrame({ from: clientMac, to: innerMac }, request()),
      'not-for-us',
    ],
    ['ARP', hex(`${outerMac} ${clientMac} 0806 0001 0800 0604 0001`.replace(/:/g, '')), 'not-ip'],
    [
      'IPv6 cut short',
      hex(`${outerMac} ${clientMac} 86dd 6000 0000`.replace(/:/g, '')),
      'truncated-ip-header',
    ],
    [
      'IPv6 that says IPv4',
      hex(`${outerMac} ${clientMac} 0800 6000 0000`.replace(/:/g, '')),
      'not-ip',
    ],
    [
      'IPv4 that says IPv6',
      hex(`${outerMac} ${clientMac} 86dd 4500 0000`.replace(/:/g, '')),
      'not-ip',
    ],
    ['a VLAN tag', hex(`${outerMac} ${clientMac} 8100 0001 0800`.replace(/:/g, '')), 'not-ip'],
    [
      'a header alone',
      hex(`${outerMac} ${clientMac} 0800`.replace(/:/g, '')),
      'truncated-ip-header',
    ],
  ]
  for (const [what, bytes, reason] of cases) {
    const world = new World()
    world.outer.inject(bytes)
    world.run()
    t.strictSame(world.counted(), { [reason]: 1 }, `${what}: ${reason}`)
    t.equal(world.accounted, FRAMES, 'its frame is free again')
    t.strictSame(
      [world.outer, world.inner, world.kernel].flatMap((port) => port.takeTransmitted()),
      [],
      'nothing is sent',
    )
  }
})

t.test('each bit of a link header counts, and of the version behind it', async (t) => {
  const outcomes = (at: number): string => {
    if (at < 6) return 'not-for-us'
    return at < 12 ? 'sent' : 'not-ip'
  }
  const versions = {
    0x05: 'bad-ip-version',
    0x65: 'not-ip',
    0xc5: 'bad-ip-version',
    0x55: 'bad-ip-version',
  }
  const cases: [at: number, byte: number, outcome: string][] = [
    ...Object.entries(versions).map(
      ([byte, outcome]) => [14, Number(byte), outcome] as [number, number, string],
    ),
  ]
  const sound = ethernetFrame({ from: clientMac, to: outerMac }, request())
  for (let at = 0; at < 14; at++)
    for (let bit = 0; bit < 8; bit++) cases.push([at, sound[at]! ^ (1 << bit), outcomes(at)])
  for (const [at, byte, outcome] of cases) {
    const world = new World()
    world.outer.inject(Uint8Array.from(sound).fill(byte, at, at + 1))
    world.run()
    const seen = world.inner.takeTransmitted().length > 0 ? 'sent' : Object.keys(world.counted())[0]
    if (seen !== outcome) t.fail(`byte ${at} is ${byte}: ${seen}, not ${outcome}`)
    if (world.accounted !== FRAMES) t.fail('a frame is lost')
  }
  t.equal(cases.length, 14 * 8 + 4)
})

t.test('what the director declines goes to the kernel as it came', async (t) => {
  const ours = udpPacket({ from: `${CLIENT}:1`, to: '198.51.100.1:22' })

  await t.test('by a TUN device', async (t) => {
    const world = new World()
    world.inject(ours)
    world.run()
    t.strictSame(world.kernel.takeTransmitted(), [ours])
    t.equal(world.accounted, FRAMES)
  })
  await t.test('by a bridge, whose Ethernet address may change', async (t) => {
    const world = new World({ kernel: 'ethernet' })
    world.inject(ours)
    world.run()
    t.match(world.kernel.takeTransmitted().map(frame), [
      { to: '02:00:00:00:03:02', from: '02:00:00:00:03:01', type: 0x0800, packet: ours },
    ])
    world.plane.setKernelMac(Uint8Array.from(macBytes('02:00:00:00:03:99')))
    world.inject(ours)
    world.run()
    t.match(world.kernel.takeTransmitted().map(frame), [{ to: '02:00:00:00:03:99' }])
  })
  await t.test('where there is no way to it, it ends', async (t) => {
    const world = new World({ kernel: 'none' })
    world.inject(ours)
    world.run()
    t.equal(world.accounted, FRAMES)
    t.equal(
      Object.values(world.counted()).reduce((a, b) => a + b, 0),
      1,
      'counted once',
    )
  })
})

t.test('where the route leaves by no port of ours, the kernel sends', async (t) => {
  const world = new World()
  const service = { protocol: 'udp', address: VIP, port: 54 } as const
  world.director.execute({ op: 'add-service', service, options: serviceOptions() })
  world.director.execute({
    op: 'add-destination',
    service,
    destination: { address: '172.16.0.9', port: 54 },
    options: destinationOptions(),
  })
  world.inject(udpPacket({ from: `${CLIENT}:1`, to: `${VIP}:54` }))
  world.run()
  const [packet] = world.kernel.takeTransmitted()
  t.match(packetSummary(packet!), /198\.51\.100\.7:1 > 172\.16\.0\.9:54/)
  t.strictSame(world.counted(), {})
  t.equal(world.accounted, FRAMES)
})

t.test('packets wait for a neighbour', async (t) => {
  const ports = (world: World): number[] =>
    world.inner.takeTransmitted().map((bytes) => {
      const { packet } = frame(bytes)
      return (packet[20]! << 8) | packet[21]!
    })

  await t.test('and go out in order when it answers', async (t) => {
    const world = new World({ known: [] })
    for (const n of range(1, 5)) world.inject(request(n))
    world.run()
    t.equal(world.plane.waitingPackets, 5)
    t.equal(world.plane.busy, true)
    t.strictSame(
      world.routes.takeWanted(),
      [{ interfaceIndex: 2, address: server(1) }],
      'asked for',
    )
    t.equal(world.routes.hasWanted, false, 'once')
    t.strictSame(world.inner.takeTransmitted(), [])
    world.clock.advanceSeconds(1)
    world.run()
    t.equal(world.plane.waitingPackets, 5)

    world.neighbour({ ...known(1), mac: '02:00:00:00:02:77' })
    world.run()
    const sent = world.inner.takeTransmitted()
    t.strictSame(
      sent.map((bytes) => frame(bytes).to),
      Array(5).fill('02:00:00:00:02:77'),
    )
    t.strictSame(
      sent.map((bytes) => packetProblems(frame(bytes).packet)),
      Array(5).fill([]),
    )
    t.strictSame(
      sent.map((bytes) => (bytes[34]! << 8) | bytes[35]!),
      range(1001, 5),
    )
    t.equal(world.plane.busy, false)
    t.strictSame(world.counted(), {})
    t.equal(world.accounted, FRAMES)
  })

  await t.test('as long as the kernel asks for it, each for itself', async (t) => {
    const world = new World({ known: [] })
    world.inject(request(1))
    world.run()
    world.clock.advanceSeconds(2)
    world.inject(request(2))
    world.run()
    world.clock.advanceSeconds(0.99)
    world.run()
    t.equal(world.plane.waitingPackets, 2)
    world.clock.advanceSeconds(0.01)
    world.run()
    t.equal(world.plane.waitingPackets, 1, 'the first is given up after three seconds')
    t.strictSame(world.counted(), { 'neighbour-unresolved': 1 })
    world.neighbour(known(1))
    world.run()
    t.strictSame(ports(world), [1002], 'the second is sent')
    t.equal(world.accounted, FRAMES)
  })

  await t.test('not more than 64 for one, and others are not held up', async (t) => {
    const world = new World({ servers: 2, known: [2] })
    for (const n of range(1, 200)) world.inject(request(n))
    world.run()
    t.equal(ports(world).length, 100, 'every other goes to the server that is there')
    t.equal(world.plane.waitingPackets, 64)
    t.strictSame(world.counted(), { 'neighbour-queue-full': 36 })
    world.neighbour(known(1))
    world.run()
    const late = ports(world)
    t.equal(late.length, 64)
    t.strictSame(
      late,
      [...late].sort((a, b) => a - b),
      'in order',
    )
    for (const n of range(201, 200)) world.inject(request(n))
    world.run()
    t.equal(ports(world).length, 200, 'and its place is free again')
    t.equal(world.accounted, FRAMES)
  })

  await t.test('not more than 512 in all', async (t) => {
    const world = new World({ frames: 2048, servers: 10, known: [] })
    for (const n of range(1, 700)) world.inject(request(n))
    world.run()
    t.equal(world.plane.waitingPackets, 512)
    t.strictSame(world.counted(), { 'neighbour-queue-full': 188 })
    world.clock.advanceSeconds(3)
    world.run()
    t.equal(world.plane.waitingPackets, 0)
    t.strictSame(world.counted(), { 'neighbour-queue-full': 188, 'neighbour-unresolved': 512 })
    t.equal(world.accounted, 2048)
  })

  await t.test('and end when the way is gone meanwhile', async (t) => {
    const world = new World({ known: [] })
    world.inject(request())
    world.run()
    world.routes.apply([
      { op: 'set-link', link: { index: 2, name: 'inner', mtu: 1500, mac: innerMac, up: false } },
    ])
    world.run()
    t.equal(world.plane.waitingPackets, 0)
    t.strictSame(world.counted(), { 'no-route': 1 })
    t.equal(world.accounted, FRAMES)
  })

  await t.test('a failed one is asked for again by the next packet', async (t) => {
    const world = new World({ known: [] })
    world.inject(request(1))
    world.run()
    t.equal(world.routes.takeWanted().length, 1)
    world.neighbour({ interfaceIndex: 2, address: server(1), state: 'failed' })
    world.inject(request(2))
    world.run()
    t.equal(world.routes.takeWanted().length, 1)
    t.equal(world.plane.waitingPackets, 2)
  })
})

t.test('what is longer than the path takes', async (t) => {
  const long = (n: number): Uint8Array =>
    request(n, { dontFragment: false, payload: new Uint8Array(1300).fill(n) })

  await t.test('goes in fragments', async (t) => {
    const world = new World({ mtu: 600 })
    world.inject(long(1))
    world.run()
    const sent = world.inner.takeTransmitted().map(frame)
    t.equal(sent.length, 3)
    for (const { from, to, packet } of sent) {
      t.match({ from, to }, { from: innerMac, to: serverMac(1) })
      t.ok(packet.length <= 600)
    }
    t.equal(
      sent.reduce((sum, { packet }) => sum + packet.length - 20, 0),
      1308,
    )
    t.equal(world.accounted, FRAMES)
  })
  await t.test('also after it has waited for its neighbour', async (t) => {
    const world = new World({ mtu: 600, known: [] })
    world.inject(long(1))
    world.run()
    t.equal(world.plane.waitingPackets, 1)
    world.neighbour(known(1))
    world.run()
    t.equal(world.inner.takeTransmitted().length, 3)
    t.equal(world.accounted, FRAMES)
  })
  await t.test('ends where no frames are left for them', async (t) => {
    const world = new World({ mtu: 600, frames: 3 })
    world.inject(long(1))
    world.run()
    t.strictSame(world.counted(), { 'no-frame': 1 })
    t.strictSame(world.inner.takeTransmitted(), [])
    t.equal(world.accounted, 3)
  })
})

t.test('more packets than a batch holds, from several ports to one', async (t) => {
  const frames = 4 * BATCH_SIZE
  const world = new World({ forwarding: 'tunnel', frames })
  const count = BATCH_SIZE + BATCH_SIZE / 2 + 5
  for (const n of range(1, count)) {
    world.inject(request(n))
    world.inner.inject(ethernetFrame({ from: serverMac(1), to: innerMac }, request(1000 + n)))
  }
  world.run()
  const sent = world.inner.takeTransmitted()
  t.equal(sent.length, 2 * count)
  const expected = ipipPacket({ source: '10.0.0.1', destination: server(1) }, request(1))
  t.equal(frame(sent[0]!).packet.length, expected.length)
  t.strictSame(world.counted(), {})
  t.equal(world.accounted, frames)
})

t.test('with an empty pool packets stay where they are, and nothing is lost', async (t) => {
  const world = new World({ frames: 8 })
  const held = range(1, 8).map(() => world.pool.take())
  world.inject(request(1))
  t.equal(world.plane.round(), 0)
  t.equal(world.outer.pending, 1)
  for (const offset of held) world.pool.give(offset)
  world.run()
  t.equal(world.inner.takeTransmitted().length, 1)
  t.equal(world.accounted, 8)
})

/** A port with a small ring: it keeps what it transmits until it is let go, and drops what does not fit. */
class RingPort extends WrappedPort {
  readonly held: number[] = []

  constructor(
    inner: PacketPort,
    private readonly pool: FramePool,
    private readonly size: number,
  ) {
    super(inner)
  }

  override get transmitting(): boolean {
    return this.held.length > 0
  }

  override transmit(batch: FrameBatch): void {
    for (let i = 0; i < batch.count; i++) {
      if (this.held.length < this.size) {
        this.held.push(batch.offsets[i]!)
        this.counters.txPackets++
      } else {
        this.pool.give(batch.offsets[i]!)
        this.counters.txDropped++
      }
    }
    batch.count = 0
  }

  letGo(): void {
    for (const offset of this.held.splice(0)) this.pool.give(offset)
  }
}

t.test('a full ring drops, and keeps the thread coming back', async (t) => {
  let ring!: RingPort
  const world = new World({ wrapInner: (port, pool) => (ring = new RingPort(port, pool, 10)) })
  for (const n of range(1, 100)) world.inject(request(n))
  world.run()
  t.match(ring.counters, { txPackets: 10, txDropped: 90 })
  t.equal(world.accounted, FRAMES - 10)
  t.equal(world.plane.busy, true)
  ring.letGo()
  t.equal(world.plane.busy, false)
  t.equal(world.accounted, FRAMES)
})

t.test('whatever comes, every frame is accounted for', async () => {
  const bytes = fc.uint8Array({ maxLength: 200 })
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant('request'), n: fc.nat(300) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('long'), n: fc.nat(300) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('reply'), n: fc.nat(300) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('tcp'), n: fc.nat(300) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('bytes'), bytes }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('ours'), bytes }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('neighbour'), n: fc.nat(5) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('link'), n: fc.nat(1) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('time'), n: fc.nat(200) }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('round'), n: fc.constant(0) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('let go'), n: fc.constant(0) }) },
  )
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 120 }),
      fc.integer({ min: 4, max: 40 }),
      (steps, frames) => {
        let ring!: RingPort
        const world = new World({
          frames,
          servers: 3,
          known: [1],
          mtu: 600,
          wrapInner: (port, pool) => (ring = new RingPort(port, pool, 6)),
        })
        for (const one of steps) {
          const n = 'n' in one ? one.n : 0
          switch (one.kind) {
            case 'request':
              world.inject(request(n))
              break
            case 'long':
              world.inject(request(n, { dontFragment: n % 2 === 0, payload: new Uint8Array(1200) }))
              break
            case 'tcp':
              world.inject(tcpPacket({ from: `${CLIENT}:${n}`, to: `${VIP}:53`, flags: 'S' }))
              break
            case 'reply': {
              const reply = udpPacket({
                from: `${server(1 + (n % 3))}:53`,
                to: `${CLIENT}:${1000 + n}`,
              })
              world.inner.inject(ethernetFrame({ from: serverMac(1), to: innerMac }, reply))
              break
            }
            case 'bytes':
              if ('bytes' in one) world.outer.inject(one.bytes)
              break
            case 'ours':
              if ('bytes' in one) world.inject(one.bytes)
              break
            case 'neighbour': {
              const neighbour = known(1 + (n % 3))
              world.neighbour(n < 3 ? neighbour : { ...neighbour, state: 'failed' })
              break
            }
            case 'link':
              world.routes.apply([
                {
                  op: 'set-link',
                  link: { index: 2, name: 'inner', mtu: 600, mac: innerMac, up: n === 0 },
                },
              ])
              break
            case 'time':
              world.clock.advanceJiffies(n)
              break
            case 'round':
              world.plane.round()
              break
            case 'let go':
              ring.letGo()
          }
          if (world.accounted + ring.held.length !== frames)
            throw new Error(
              `${one.kind}: ${world.accounted} + ${ring.held.length} of ${frames} frames`,
            )
        }
        ring.letGo()
        world.run()
        world.clock.advanceSeconds(10)
        world.run()
        ring.letGo()
        return world.pool.available === frames
      },
    ),
    { numRuns: 300 },
  )
})
