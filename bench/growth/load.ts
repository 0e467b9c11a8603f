/**
 * A director in memory that grows: with any number of services, of destinations and of connections, while the
 * packets go to one of the services, or to all.
 */
import { CounterRegion } from '../../src/core/counters.js'
import { createDataPlane, type DataPlane } from '../../src/core/data-plane.js'
import { Director } from '../../src/core/director.js'
import type { ServiceKey } from '../../src/core/commands.js'
import { RouteTable } from '../../src/core/route-table.js'
import { LoadPort, type PacketSource } from '../../src/drivers/memory.js'
import { ManualClock } from '../../src/port/clock.js'
import { FramePool } from '../../src/port/frame-pool.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { SeededRandom } from '../../src/port/random.js'
import { finish, fold, sum32, sumPseudoHeader, sumRange } from '../../src/wire/checksum.js'
import { IpProtocol, parseAddress, swap16 } from '../../src/wire/ipv4.js'
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
} from '../two-sided.js'

const FRAME_SIZE = 2048
const FRAMES = 1024
const ETHERNET_BYTES = 14
const IP_BYTES = 46
const FRAME_WORDS = 16
const UDP = IpProtocol.udp

const CLIENTS_GATEWAY = '198.51.100.254'
const SERVERS_GATEWAY = '10.255.255.254'
const CLIENT = '20.0.0.0'
const PORT_BE = swap16(53)

/** Address of service i: 198.18.0.0 and on, a network for benchmarks (RFC 2544). */
export const virtualAddress = (i: number): string =>
  `198.${18 + (i >>> 16)}.${(i >>> 8) & 255}.${i & 255}`

/** Address of destination i of any service. */
export const destinationAddress = (i: number): string => `10.0.${i >>> 8}.${i & 255}`

/**
 * Datagrams to the targets in turn. Connection i comes from 20.0.x.x, where the lower 16 bits of i stand in the
 * address and the upper ones in the port.
 */
class DatagramSource implements PacketSource {
  private readonly template = new Int32Array(FRAME_WORDS)
  private readonly ipSum: number
  private readonly udpSum: number
  private position = 0
  private newConnections = 0

  /**
   * @param targets virtual addresses in network order; a power of two of them
   * @param connections a power of two, in an order without pattern; 0 if every datagram is of a new one
   */
  constructor(
    private readonly targets: Int32Array,
    private readonly connections: number,
    mac: Uint8Array,
  ) {
    const { buffer } = this.template
    const bytes = new Uint8Array(buffer)
    const halfs = new Uint16Array(buffer)
    const view = new DataView(buffer, 2)
    bytes.set(mac, 2)
    bytes.set([2, 0, 0, 0, 0, 0xff], 8)
    view.setUint16(12, 0x0800)
    const ip = ETHERNET_BYTES
    view.setUint8(ip, 0x45)
    view.setUint16(ip + 2, IP_BYTES)
    view.setUint16(ip + 6, 0x4000)
    view.setUint8(ip + 8, 64)
    view.setUint8(ip + 9, UDP)
    view.setInt32(ip + 12, parseAddress(CLIENT)!, true)
    view.setUint16(ip + 22, PORT_BE, true)
    view.setUint16(ip + 24, IP_BYTES - 20)
    this.ipSum = sumRange(halfs, bytes, 2 + ip, 20)
    this.udpSum =
      sumRange(halfs, bytes, 2 + ip + 20, IP_BYTES - 20) +
      sumPseudoHeader(parseAddress(CLIENT)!, 0, UDP, IP_BYTES - 20)
  }

  write(pool: FramePool, offset: number): number {
    let i: number
    if (this.connections === 0) i = this.newConnections = (this.newConnections + 1) & 0x3fffffff
    else {
      // A full period (Hull and Dobell 1962).
      i = this.position = (Math.imul(this.position, 1664525) + 1013904223) & (this.connections - 1)
    }
    // The frame starts 2 bytes after a word's start, and so does the template.
    const { words, halfs } = pool
    const first = (offset - 2) >> 2
    const { template } = this
    for (let word = 0; word < FRAME_WORDS; word++) words[first + word] = template[word]!
    const ip = (offset + ETHERNET_BYTES) >> 1
    const low = i & 0xffff
    const clientPort = swap16(1024 + (i >>> 16))
    const target = this.targets[i & (this.targets.length - 1)]!
    const change = low + sum32(target)
    halfs[ip + 7] = low
    words[(ip + 8) >> 1] = target
    halfs[ip + 10] = clientPort
    halfs[ip + 5] = fold(this.ipSum + change) ^ 0xffff
    halfs[ip + 13] = finish(this.udpSum + change + clientPort)
    return ETHERNET_BYTES + IP_BYTES
  }
}

export interface GrowthOptions {
  readonly services: number
  readonly destinationsPerService: number
  readonly scheduler: string
  /** A power of two; or 0 if every packet is the first of a new connection, which lives a second. */
  readonly connections: number
  /** Which services packets are for: one in the middle, or all alike. */
  readonly targets: 'one' | 'all'
  /** How fast time goes: 5,000 are 500,000 packets a second. */
  readonly packetsPerJiffy: number
}

/** Jiffies after which a new connection is gone for sure: its timeout of a second, and what its timer is late. */
const LIFE_JIFFIES = 130

export class GrowthLoad {
  private readonly pool = new FramePool(
    new SharedArrayBuffer(FRAME_SIZE * FRAMES),
    FRAME_SIZE,
    FRAMES,
  )
  private readonly clock = new ManualClock()
  private readonly director: Director
  private readonly ports: readonly [LoadPort, LoadPort]
  private readonly plane: DataPlane
  private packets = 0

  constructor(private readonly options: GrowthOptions) {
    const { connections, services, destinationsPerService } = options
    const { pool, clock } = this
    const counted = services * (1 + destinationsPerService)
    const neighbours = routes()
    this.director = new Director({
      pool,
      neighbours,
      random: new SeededRandom(1),
      counters: new SharedArrayBuffer(CounterRegion.bytesFor(counted)),
      table: { maxConnections: connections || this.passingConnections, seed: 12345 },
      ports: [
        { name: 'memory:clients', interface: 'clients' },
        { name: 'memory:servers', interface: 'servers' },
      ],
      now: clock.nowJiffies(),
    })
    this.configure()
    const [mac0, mac1] = DIRECTOR_MACS
    const linkLayer = LinkLayer.ethernet
    const source = new DatagramSource(this.targets(), connections, mac0)
    this.ports = [
      new LoadPort({ pool, linkLayer, mac: mac0, name: 'memory:clients' }, source),
      new LoadPort({ pool, linkLayer, mac: mac1, name: 'memory:servers' }, source),
    ]
    const { director, ports } = this
    this.plane = createDataPlane({ pool, ports, director, neighbours, clock })
    // All connections there are, or as many as there will be; and the compiler has seen it all.
    const enough = connections === 0 ? this.passingConnections : Math.max(3 * connections, 100_000)
    this.run(enough, Infinity)
    this.check()
  }

  /**
   * Carries packets through the data plane for some time, but no more than this many.
   *
   * @returns how many
   */
  run(most: number, milliseconds: number): number {
    const [clients] = this.ports
    const { packetsPerJiffy } = this.options
    const end = performance.now() + milliseconds
    let carried = 0
    while (carried < most && performance.now() < end) {
      clients.budget = packetsPerJiffy
      while (clients.budget > 0) this.plane.round()
      this.clock.advanceJiffies(1)
      carried += packetsPerJiffy
    }
    this.packets += carried
    return carried
  }

  /** Throws unless every packet came out again, each of a connection that it had to be of. */
  check(): void {
    const [clients, servers] = this.ports
    const { reasons } = this.director.execute({ op: 'get-counters' })
    const lost = Object.entries(reasons).filter(([, packets]) => packets > 0)
    if (clients.counters.rxPackets !== this.packets || servers.counters.txPackets !== this.packets)
      throw new Error(
        `${this.packets} packets sent, ${servers.counters.txPackets} forwarded, ` +
          `the others: ${JSON.stringify(Object.fromEntries(lost))}`,
      )
    const { connections } = this.options
    const { count } = this.director.table
    if (connections === 0 ? count < this.options.packetsPerJiffy * 90 : count !== connections)
      throw new Error(`${count} connections`)
  }

  /** Most connections at a time if every packet is of a new one. */
  private get passingConnections(): number {
    return this.options.packetsPerJiffy * LIFE_JIFFIES
  }

  private configure(): void {
    const { services, destinationsPerService, scheduler, connections } = this.options
    for (let i = 0; i < services; i++) {
      const service: ServiceKey = { protocol: 'udp', address: virtualAddress(i), port: 53 }
      this.director.execute({
        op: 'add-service',
        service,
        options: { ...PLAIN_SERVICE, scheduler },
      })
      for (let j = 0; j < destinationsPerService; j++)
        this.director.execute({
          op: 'add-destination',
          service,
          destination: { address: destinationAddress(j), port: 5353 },
          options: plainDestination('masquerade'),
        })
    }
    // New ones go after a second; the others stay.
    const udp = connections === 0 ? 1 : 1_000_000
    this.director.execute({ op: 'set-timeouts', timeouts: { tcp: 0, tcpFin: 0, udp } })
  }

  /** As many addresses as the next power of two, so that the services that are left over stand twice. */
  private targets(): Int32Array {
    const { services, targets } = this.options
    if (targets === 'one') return Int32Array.of(parseAddress(virtualAddress(services >> 1))!)
    const length = 2 ** Math.ceil(Math.log2(services))
    return Int32Array.from({ length }, (_, i) => parseAddress(virtualAddress(i % services))!)
  }
}

/** Two interfaces with a gateway behind each. */
function routes(): RouteTable {
  const table = new RouteTable()
  table.apply([
    ...interfaces(),
    address(CLIENTS_INTERFACE, '198.51.100.1', 24),
    address(SERVERS_INTERFACE, '10.255.255.1', 24),
    route('0.0.0.0/0', CLIENTS_INTERFACE, CLIENTS_GATEWAY),
    route('10.0.0.0/8', SERVERS_INTERFACE, SERVERS_GATEWAY),
    neighbour(CLIENTS_INTERFACE, CLIENTS_GATEWAY, '02:00:00:00:01:00'),
    neighbour(SERVERS_INTERFACE, SERVERS_GATEWAY, '02:00:00:00:02:00'),
  ])
  return table
}
