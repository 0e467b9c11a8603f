/**
 * A whole data plane on memory ports with a load of many TCP connections: for bench/parts/core.ts and
 * test/core/steady-state.test.ts. Once it is built, running it allocates nothing.
 */
import { createDataPlane, type DataPlane } from '../src/core/data-plane.js'
import { Director } from '../src/core/director.js'
import { MOST_AHEAD } from '../src/core/hit-path.js'
import type { DestinationKey, ForwardingMethod, ServiceKey } from '../src/core/commands.js'
import { RouteTable, type RouteUpdate } from '../src/core/route-table.js'
import { LoadPort } from '../src/drivers/memory.js'
import type { Clock } from '../src/port/clock.js'
import { ConnectionTable } from '../src/core/connection-table.js'
import { CounterRegion } from '../src/core/counters.js'
import { mapShared } from '../src/kernel/memory.js'
import { Verdict } from '../src/core/verdict.js'
import { ETHERNET_HEADROOM, FrameBatch, FramePool } from '../src/port/frame-pool.js'
import { LinkLayer } from '../src/port/packet-port.js'
import { SeededRandom } from '../src/port/random.js'
import { fold, sum32 } from '../src/wire/checksum.js'
import { parseAddress, swap16 } from '../src/wire/ipv4.js'
import { routesIpv6, SegmentSourceIpv6, serverAddressIpv6, VIRTUAL_IPV6 } from './load-ipv6.js'
import { Segments } from './segments.js'
import {
  address,
  CLIENTS_INTERFACE,
  DIRECTOR_MACS,
  interfaces,
  neighbour,
  PLAIN_SERVICE,
  plainDestination,
  route,
  SERVERS_INTERFACE,
} from './two-sided.js'

export const TCP_SYN = 0x02
export const TCP_ACK = 0x10
export const TCP_SYN_ACK = TCP_SYN | TCP_ACK

export const VIRTUAL = '192.0.2.1'
export const SERVERS = 4
export const serverAddress = (i: number): string => `10.0.0.${i + 2}`

const CLIENTS_GATEWAY = '198.51.100.254'

const FRAME_SIZE = 2048
const FRAMES = 4096
/** A segment with 6 bytes of payload: with its Ethernet header the shortest frame there is. */
const IP_BYTES = 46
const ETHERNET_BYTES = 14
const FRAME_WORDS = 16
/** Of packets that are written and processed together, as in the data plane. */
const BATCH = MOST_AHEAD

/**
 * Segments over IPv4. Connection i comes from client 20.0.x.x, where the lower 16 bits of i stand in the address
 * and the upper ones in the port.
 */
class SegmentSource extends Segments {
  private ipSum = 0
  private tcpSum = 0

  /**
   * @param servers address of the real server of connection i at 4 * (i modulo 4), if the segments are replies
   */
  constructor(
    count: number,
    private readonly destinationMac: Uint8Array,
    private readonly servers: Int32Array | undefined,
    private readonly serverPort: number,
  ) {
    super(count, FRAME_WORDS)
    this.set(TCP_ACK, true)
  }

  write(pool: FramePool, offset: number): number {
    const i = this.next()
    const { words, halfs } = pool
    this.copyTemplate(words, offset)
    const ip = (offset + ETHERNET_BYTES) >> 1
    const low = i & 0xffff
    const clientPort = swap16(1024 + (i >>> 16))
    let ipSum = this.ipSum + low
    let tcpSum = this.tcpSum + low + clientPort
    if (this.servers === undefined) {
      halfs[ip + 7] = low
      halfs[ip + 10] = clientPort
    } else {
      const serverBe = this.servers[4 * (i & (SERVERS - 1))]!
      ipSum += sum32(serverBe)
      tcpSum += sum32(serverBe)
      words[(ip + 6) >> 1] = serverBe
      halfs[ip + 9] = low
      halfs[ip + 11] = clientPort
    }
    halfs[ip + 5] = fold(ipSum) ^ 0xffff
    halfs[ip + 18] = fold(tcpSum) ^ 0xffff
    if (this.newEvery !== 0 && --this.untilNew === 0) this.makeNew(pool.halfs, ip)
    return ETHERNET_BYTES + IP_BYTES
  }

  /** Turns a request into a SYN from 20.1.x.x, to 20.255.x.x and around. */
  private makeNew(halfs: Uint16Array, ip: number): void {
    this.untilNew = this.newEvery
    const i = this.newConnections++ & 0x7fffff
    const high = 20 | ((1 + (i >>> 16)) << 8)
    const low = i & 0xffff
    const flags = (halfs[ip + 16]! & 0xff) | (TCP_SYN << 8)
    const change = high - halfs[ip + 6]! + low - halfs[ip + 7]!
    halfs[ip + 5] = fold((halfs[ip + 5]! ^ 0xffff) + change + 0xffff * 2) ^ 0xffff
    halfs[ip + 18] =
      fold((halfs[ip + 18]! ^ 0xffff) + change + flags - halfs[ip + 16]! + 0xffff * 3) ^ 0xffff
    halfs[ip + 6] = high
    halfs[ip + 7] = low
    halfs[ip + 16] = flags
  }

  /** Client, server and checksums are left out; the sums of the rest are kept. */
  protected buildTemplate(): void {
    const bytes = new Uint8Array(this.template.buffer)
    const view = new DataView(this.template.buffer, 2)
    bytes.fill(0)
    bytes.set(this.destinationMac, 2)
    bytes.set([2, 0, 0, 0, 0, 0xff], 8)
    view.setUint16(12, 0x0800)
    const ip = ETHERNET_BYTES
    view.setUint8(ip, 0x45)
    view.setUint16(ip + 2, IP_BYTES)
    view.setUint16(ip + 6, 0x4000)
    view.setUint8(ip + 8, 64)
    view.setUint8(ip + 9, 6)
    const isReply = this.servers !== undefined
    view.setUint16(ip + (isReply ? 16 : 12), 20 << 8)
    if (!isReply) view.setInt32(ip + 16, parseAddress(VIRTUAL)!, true)
    const tcp = ip + 20
    view.setUint16(tcp + (isReply ? 0 : 2), isReply ? this.serverPort : 80)
    view.setUint32(tcp + 4, 1)
    view.setUint8(tcp + 12, 5 << 4)
    view.setUint8(tcp + 13, this.flags)
    view.setUint16(tcp + 14, 0xfaf0)
    const halfs = new Uint16Array(this.template.buffer)
    let sum = 0
    for (let half = 8; half < 18; half++) sum += halfs[half]!
    this.ipSum = sum
    let segment = halfs[14]! + halfs[15]! + halfs[16]! + halfs[17]! + (6 << 8)
    segment += (IP_BYTES - 20) << 8
    for (let half = 18; half < 31; half++) segment += halfs[half]!
    this.tcpSum = segment
  }
}

/** Clients behind a gateway on the first port, servers on the second. */
export const routes = (): RouteUpdate[] => [
  ...interfaces(),
  address(CLIENTS_INTERFACE, '198.51.100.1', 24),
  address(SERVERS_INTERFACE, '10.0.0.1', 24),
  route('0.0.0.0/0', CLIENTS_INTERFACE, CLIENTS_GATEWAY),
  route('10.0.0.0/24', SERVERS_INTERFACE),
  neighbour(CLIENTS_INTERFACE, CLIENTS_GATEWAY, '02:00:00:00:01:00'),
  ...Array.from({ length: SERVERS }, (_, i) =>
    neighbour(SERVERS_INTERFACE, serverAddress(i), `02:00:00:00:02:0${i}`),
  ),
]

export interface LoadOptions {
  forwarding: ForwardingMethod
  /** 4 when absent. */
  family?: 4 | 6
  /** A power of two, 1024 to 2^22. */
  connections: number
  clock: Clock
  /** Beside them, every so many-th request is the SYN of a new client, whose connection ends by its timer; 0 for none. */
  newConnectionEvery?: number
  /** Beside them room for so many connections that come and go; PASSING_CONNECTIONS when absent. */
  passingConnections?: number
  /** Services and destinations that there is room for; as a director has it by default when absent. */
  counterSlots?: number
}

/** Room in the table for the connections that come and go. */
const PASSING_CONNECTIONS = 1 << 16

/** Two ports, a director with one service and four real servers, and as many established connections as asked for. */
export class Load {
  readonly pool = new FramePool(mapShared(FRAME_SIZE * (FRAMES + BATCH)), FRAME_SIZE, FRAMES)
  readonly director: Director
  /** Received on port 0 are requests, on port 1 replies (masquerading only). */
  readonly ports: readonly [LoadPort, LoadPort]
  private readonly plane: DataPlane
  private readonly requests: Segments
  private readonly replies: Segments
  private readonly hasReplies: boolean
  private readonly batch = new FrameBatch(BATCH)
  private readonly clock: Clock
  /** Of runDirector: its frames, which it keeps, and where it has put the packets of a batch. */
  private readonly frames = Int32Array.from({ length: BATCH }, (_, i) => (FRAMES + i) * FRAME_SIZE)
  private readonly offsets = new Int32Array(BATCH)
  private readonly lengths = new Int32Array(BATCH)
  private writesReplies = false
  /** From here on `write` and `runDirector` leave the replies out. */
  requestsOnly = false

  constructor(options: LoadOptions) {
    const { forwarding, connections, clock, family = 4 } = options
    const passing = options.passingConnections ?? PASSING_CONNECTIONS
    const lines = connections + (options.newConnectionEvery ? passing : 0)
    // Connections of IPv6 take two lines, and line 1 has no other half.
    const maxConnections = family === 6 ? 2 * lines + 1 : lines
    const { pool } = this
    this.clock = clock
    const neighbours = new RouteTable()
    neighbours.apply([...routes(), ...routesIpv6()])
    this.director = new Director({
      pool,
      neighbours,
      random: new SeededRandom(1),
      table: {
        maxConnections,
        seed: 12345,
        region: mapShared(ConnectionTable.bytesFor(maxConnections)),
      },
      ports: [
        { name: 'memory:clients', interface: 'clients' },
        { name: 'memory:servers', interface: 'servers' },
      ],
      now: clock.nowJiffies(),
      ...(options.counterSlots && {
        counters: new SharedArrayBuffer(CounterRegion.bytesFor(options.counterSlots)),
      }),
    })
    this.hasReplies = forwarding === 'masquerade'
    const serverPort = this.hasReplies ? 8080 : 80
    const servers = new Int32Array(4 * SERVERS)
    const Source = family === 6 ? SegmentSourceIpv6 : SegmentSource
    const [mac0, mac1] = DIRECTOR_MACS
    this.requests = new Source(connections, mac0, undefined, serverPort)
    this.replies = new Source(connections, mac1, servers, serverPort)
    const linkLayer = LinkLayer.ethernet
    this.ports = [
      new LoadPort({ pool, linkLayer, mac: mac0, name: 'memory:clients' }, this.requests),
      new LoadPort({ pool, linkLayer, mac: mac1, name: 'memory:servers' }, this.replies),
    ]
    const { director, ports } = this
    this.plane = createDataPlane({ pool, ports, director, neighbours, clock })
    this.configure(family, forwarding, serverPort)
    this.establish(connections, servers)
    this.requests.addNewConnections(options.newConnectionEvery ?? 0)
  }

  /** Carries `count` packets through the data plane: for masquerading half of them requests, half replies. */
  run(count: number): void {
    this.budget(this.hasReplies ? count / 2 : count, this.hasReplies ? count / 2 : 0)
  }

  /** The same packets on the same ports without a director between: what the load and the ports cost. */
  runBare(count: number): void {
    const [clients, servers] = this.ports
    const { batch } = this
    clients.budget = this.hasReplies ? count / 2 : count
    servers.budget = this.hasReplies ? count / 2 : 0
    while (clients.budget + servers.budget > 0) {
      clients.receive(batch)
      servers.transmit(batch)
      servers.receive(batch)
      clients.transmit(batch)
    }
  }

  /** Writes `count` packets of `run` into frames, batch by batch, and does nothing else: what `runDirector` contains. */
  write(count: number): void {
    for (let left = count; left > 0; left -= BATCH) this.writeBatch(left)
  }

  /**
   * Writes `count` packets into frames and has the director process them, batch by batch, as the data plane does,
   * but without ports and link layers.
   *
   * @throws Error when one is not forwarded
   */
  runDirector(count: number): void {
    const { director, clock } = this
    let forwarded = 0
    for (let left = count; left > 0; left -= BATCH) {
      director.advance(clock.nowJiffies())
      forwarded += this.directBatch(this.writeBatch(left))
    }
    if (forwarded !== count) throw new Error(`${forwarded} of ${count} packets were forwarded`)
  }

  /** A function of its own, since V8 gives up the code of one that has come to its end for the first time. */
  private directBatch(packets: number): number {
    const { director, offsets, lengths } = this
    const port = this.writesReplies ? 1 : 0
    let forwarded = 0
    director.lookAhead(offsets, packets, ETHERNET_BYTES)
    for (let i = 0; i < packets; i++) {
      const network = offsets[i]! + ETHERNET_BYTES
      const length = lengths[i]! - ETHERNET_BYTES
      if (director.process(network, length, port, director.candidate(i)) === Verdict.forward)
        forwarded++
    }
    return forwarded
  }

  /** Writes `count` packets and gives each to a function, with the offset and length of its IP packet. */
  runWith(count: number, process: (network: number, length: number) => boolean): void {
    for (let left = count; left > 0; left -= BATCH) {
      const packets = this.writeBatch(left)
      for (let i = 0; i < packets; i++)
        if (!process(this.offsets[i]! + ETHERNET_BYTES, this.lengths[i]! - ETHERNET_BYTES))
          throw new Error('a packet was not forwarded')
    }
  }

  /** A batch of requests, and the next time of replies if there are any. */
  private writeBatch(most: number): number {
    const { pool, offsets, lengths, frames } = this
    const packets = Math.min(BATCH, most)
    this.writesReplies = this.hasReplies && !this.requestsOnly && !this.writesReplies
    const source = this.writesReplies ? this.replies : this.requests
    for (let i = 0; i < packets; i++) {
      const offset = frames[i]! + ETHERNET_HEADROOM
      offsets[i] = offset
      lengths[i] = source.write(pool, offset)
    }
    return packets
  }

  /** Throws unless every packet of `run` came out again, and the books agree. */
  check(expectedPackets: number): void {
    const [clients, servers] = this.ports
    const received = clients.counters.rxPackets + servers.counters.rxPackets
    const sent = clients.counters.txPackets + servers.counters.txPackets
    const { reasons } = this.director.execute({ op: 'get-counters' })
    const lost = Object.entries(reasons).filter(([, packets]) => packets > 0)
    if (received !== expectedPackets || sent !== received || this.pool.available !== FRAMES)
      throw new Error(
        `${expectedPackets} packets expected, ${received} received, ${sent} sent, ` +
          `${FRAMES - this.pool.available} frames missing, not forwarded: ${JSON.stringify(lost)}`,
      )
  }

  /** Takes away the first of its real servers. For IPv4, masquerading. */
  removeDestination(): void {
    this.director.execute({
      op: 'delete-destination',
      service: { protocol: 'tcp', address: VIRTUAL, port: 80 },
      destination: { address: serverAddress(0), port: 8080 },
    })
  }

  private configure(family: 4 | 6, forwarding: ForwardingMethod, serverPort: number): void {
    const virtual = family === 6 ? VIRTUAL_IPV6 : VIRTUAL
    const service: ServiceKey = { protocol: 'tcp', address: virtual, port: 80 }
    this.director.execute({
      op: 'add-service',
      service,
      options: PLAIN_SERVICE,
    })
    for (let i = 0; i < SERVERS; i++) {
      const address = family === 6 ? serverAddressIpv6(i) : serverAddress(i)
      const destination: DestinationKey = { address, port: serverPort }
      this.director.execute({
        op: 'add-destination',
        service,
        destination,
        options: plainDestination(forwarding),
      })
    }
  }

  /** Opens all connections, and learns from the table which server each has got. */
  private establish(connections: number, servers: Int32Array): void {
    this.requests.set(TCP_SYN, false)
    this.budget(connections, 0)
    const { table } = this.director
    for (let i = 0, c = table.first(); i < SERVERS; i++, c = table.next(c)) {
      const { wide, destinationBe } = table.snapshot(c)!
      servers.set(wide?.destination ?? [destinationBe], 4 * i)
    }
    const chosen = new Set(
      Array.from({ length: SERVERS }, (_, i) => servers[4 * i + 3]! | servers[4 * i]!),
    )
    if (chosen.size !== SERVERS)
      throw new Error(`round robin chose ${Array.from(servers).join(', ')}`)
    if (this.hasReplies) {
      this.replies.set(TCP_SYN_ACK, false)
      this.budget(0, connections)
    }
    this.requests.set(TCP_ACK, true)
    this.replies.set(TCP_ACK, true)
    if (this.director.table.count !== connections)
      throw new Error(`${this.director.table.count} connections instead of ${connections}`)
    this.run(connections * (this.hasReplies ? 2 : 1))
    this.check(connections * (this.hasReplies ? 4 : 2))
    for (const { counters } of this.ports)
      Object.assign(counters, { rxPackets: 0, rxBytes: 0, txPackets: 0, txBytes: 0 })
  }

  private budget(requests: number, replies: number): void {
    const [clients, servers] = this.ports
    clients.budget = requests
    servers.budget = replies
    while (clients.budget + servers.budget > 0) this.plane.round()
  }
}
