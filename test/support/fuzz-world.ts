/** A director with a bit of everything, and frames of every kind of badness to throw at it. */
import { createDataPlane, type DataPlane } from '../../src/core/data-plane.js'
import type { Command, DestinationOptions, ServiceOptions } from '../../src/core/commands.js'
import { RouteTable, type RouteUpdate } from '../../src/core/route-table.js'
import { MemoryPort } from '../../src/drivers/memory.js'
import { ManualClock } from '../../src/port/clock.js'
import { FramePool, SCRATCH_BYTES } from '../../src/port/frame-pool.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { SeededRandom, type Random } from '../../src/port/random.js'
import { ObservedDirector } from './observed-director.js'
import {
  ethernetFrame,
  icmpPacket,
  ipipPacket,
  ipv4Packet,
  macBytes,
  plainChecksum,
  tcpPacket,
  udpPacket,
} from './packets.js'
import { linkUpdate, neighbourUpdate, routeUpdate } from './route-updates.js'
import { destinationOptions, serviceOptions } from '../core/harness.js'

export const FRAMES = 1024
const DIRECTOR_MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const
const PEER_MAC = '02:00:00:00:00:ff'
const VIP = '192.0.2.1'
const ANY_PORT_VIP = '192.0.2.2'
const MARKED = '192.0.2.3'

/** Sound servers; one silent neighbour; one behind the kernel; one without a route; one behind a narrow link; the director. */
const SERVERS = ['10.0.0.2', '10.0.0.3', '10.0.0.9', '10.7.0.2', '10.8.0.2', '10.6.0.2', '10.0.0.1']

const service = (protocol: 'tcp' | 'udp', port: number, address = VIP) =>
  ({ protocol, address, port }) as const

function configuration(): Command[] {
  const commands: Command[] = []
  const add = (
    key: Extract<Command, { op: 'add-service' }>['service'],
    options: Partial<ServiceOptions>,
    forwarding: DestinationOptions['forwarding'],
    servers: readonly string[] = SERVERS,
    upperThreshold = 0,
  ): void => {
    commands.push({
      op: 'add-service',
      service: key,
      options: serviceOptions(options),
    })
    const port = !('fwmark' in key) && key.port !== 0 && forwarding === 'masquerade' ? 8080 : 0
    for (const address of servers)
      commands.push({
        op: 'add-destination',
        service: key,
        destination: { address, port },
        options: destinationOptions({ forwarding, upperThreshold }),
      })
  }
  add(service('tcp', 80), {}, 'masquerade')
  add(service('udp', 53), { scheduler: 'wlc' }, 'masquerade')
  add(service('tcp', 81), { scheduler: 'wrr' }, 'direct-route')
  add(service('udp', 82), { scheduler: 'lc' }, 'tunnel')
  add(service('tcp', 83), { persistentTimeoutSeconds: 30, persistentPrefixLength: 24 }, 'tunnel')
  add(service('udp', 5060), { onePacket: true }, 'masquerade')
  add(service('tcp', 21), {}, 'masquerade')
  add(service('tcp', 84), {}, 'masquerade', [])
  add(service('tcp', 85), {}, 'direct-route', SERVERS.slice(0, 2), 3)
  add(service('udp', 0, ANY_PORT_VIP), { persistentTimeoutSeconds: 30 }, 'masquerade')
  add({ fwmark: 7, family: 4 }, { persistentTimeoutSeconds: 5 }, 'masquerade')
  commands.push({ op: 'set-marks', rules: [{ mark: 7, destination: `${MARKED}/32` }] })
  return commands
}

function routes(): RouteUpdate[] {
  const neighbour = (interfaceIndex: number, address: string): RouteUpdate =>
    neighbourUpdate(interfaceIndex, address, PEER_MAC)
  return [
    {
      op: 'set-ports',
      ports: [
        { port: 0, linkLayer: LinkLayer.ethernet, interfaces: [2] },
        { port: 1, linkLayer: LinkLayer.ethernet, interfaces: [3, 4] },
      ],
    },
    linkUpdate(2, 'clients'),
    linkUpdate(3, 'servers'),
    linkUpdate(4, 'narrow', 576),
    linkUpdate(9, 'elsewhere'),
    {
      op: 'addresses',
      addresses: [
        { interfaceIndex: 2, address: '198.51.100.1', prefixLength: 24 },
        { interfaceIndex: 3, address: '10.0.0.1', prefixLength: 24 },
        { interfaceIndex: 4, address: '10.6.0.1', prefixLength: 24 },
      ],
    },
    routeUpdate('198.51.100.0/24', 2),
    routeUpdate('20.0.0.0/8', 2, '198.51.100.254'),
    routeUpdate('10.0.0.0/24', 3),
    routeUpdate('10.6.0.0/24', 4),
    routeUpdate('10.7.0.0/24', 9),
    neighbour(2, '198.51.100.254'),
    neighbour(3, '10.0.0.2'),
    neighbour(3, '10.0.0.3'),
    neighbour(4, '10.6.0.2'),
  ]
}

/** Ports 0 and 1 are Ethernet, of the clients and the servers; port 2 leads into the kernel's stack. */
export class FuzzWorld {
  readonly pool = new FramePool(new ArrayBuffer(2048 * FRAMES + SCRATCH_BYTES), 2048, FRAMES)
  readonly clock = new ManualClock()
  readonly director: ObservedDirector
  readonly ports: readonly [MemoryPort, MemoryPort, MemoryPort]
  readonly plane: DataPlane

  constructor(seed = 1, maxConnections = 2048) {
    const { pool, clock } = this
    const neighbours = new RouteTable()
    neighbours.apply(routes())
    const ethernet = (i: 0 | 1, name: string): MemoryPort =>
      new MemoryPort({
        pool,
        linkLayer: LinkLayer.ethernet,
        mac: Uint8Array.from(macBytes(DIRECTOR_MACS[i])),
        name,
      })
    this.ports = [
      ethernet(0, 'memory:clients'),
      ethernet(1, 'memory:servers'),
      new MemoryPort({ pool, linkLayer: LinkLayer.ip, name: 'memory:kernel' }),
    ]
    const { ports } = this
    this.director = new ObservedDirector({
      pool,
      neighbours,
      random: new SeededRandom(seed),
      table: { maxConnections, seed },
      ports: ports.map(({ name }) => ({ name, interface: name.split(':')[1]! })),
    })
    const { director } = this
    for (const command of configuration()) director.execute(command)
    this.plane = createDataPlane({
      pool,
      ports,
      director,
      neighbours,
      clock,
      kernelPath: { port: 2 },
    })
  }

  /** Carries what is queued, and what was sent away with it: one list a port. */
  carry(): Uint8Array[][] {
    const sent: Uint8Array[][] = [[], [], []]
    do {
      this.plane.round()
      this.ports.forEach((port, i) => sent[i]!.push(...port.takeTransmitted()))
    } while (this.ports.some((port) => port.pending > 0))
    return sent
  }

  /** The same, with time for what waits for neighbours or for the rest of its packet to be given up. */
  settle(): Uint8Array[][] {
    const sent = this.carry()
    // Answers to what is given up wait for neighbours in turn.
    for (const seconds of [40, 4]) {
      this.clock.advanceSeconds(seconds)
      this.carry().forEach((packets, i) => sent[i]!.push(...packets))
    }
    return sent
  }
}

/** Sound packets to all services and around them, and the port that each belongs on. */
export function soundPackets(random: Random): { port: 0 | 1; packet: Uint8Array }[] {
  const below = (n: number): number => (random.next() >>> 0) % n
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!
  const list: { port: 0 | 1; packet: Uint8Array }[] = []
  const flags = ['S', 'S', 'A', 'A', 'A', 'PA', 'FA', 'R', 'RA', 'SA', 'SF', '']
  const sizes = [0, 1, 5, 40, 511, 600, 1400, 1460]
  for (let i = 0; i < 1500; i++) {
    const client = `${pick(['198.51.100', '20.0.0', '20.0.0', '20.0.0', '20.9.9', '10.8.0'])}.${2 + below(2)}:${pick([1024, 40000, 40001, 40001, 20])}`
    const vip = pick([...Array<string>(16).fill(VIP), ANY_PORT_VIP, MARKED, MARKED, '203.0.113.9'])
    const port = pick([80, 80, 80, 53, 53, 81, 82, 83, 5060, 21, 84, 85, 999])
    const server = `${pick(SERVERS)}:${pick([8080, 8080, 8080, port])}`
    const ip = {
      ttl: pick([64, 64, 64, 2, 1]),
      dontFragment: below(3) > 0,
      id: below(65536),
      ...(below(12) === 0 ? { ipOptions: [1, 1, 1, 0] } : {}),
    }
    const payload = new Uint8Array(pick(sizes)).fill(i)
    const tcp = (from: string, to: string) =>
      tcpPacket({ ...ip, from, to, flags: pick(flags), payload })
    const udp = (from: string, to: string) =>
      udpPacket({ ...ip, from, to, payload, ...(below(4) === 0 ? { checksum: 0 } : {}) })
    // Mostly the protocol that the port has a service for.
    const right = [53, 82, 5060].includes(port) ? udp : tcp
    const build = below(8) === 0 ? pick([tcp, udp]) : right
    const request = build(client, `${vip}:${port}`)
    const reply = build(server, client)
    switch (below(10)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        list.push({ port: 0, packet: request })
        break
      case 5:
      case 6:
        list.push({ port: 1, packet: reply })
        break
      case 7: {
        const about = build(client, server)
        const error = {
          from: server.split(':')[0]!,
          to: client.split(':')[0]!,
          type: pick([3, 3, 11, 4, 12, 5]),
          code: below(5),
          rest: below(1500),
          payload: about.slice(0, pick([8, 20, 24, 28, 60, 548])),
        }
        list.push({ port: 1, packet: icmpPacket(error) })
        break
      }
      case 8: {
        const inner = udp(client, `${VIP}:82`)
        const outer = ipipPacket({ source: '10.0.0.1', destination: '10.0.0.2', ...ip }, inner)
        const error = {
          from: '10.0.0.2',
          to: '10.0.0.1',
          type: pick([3, 11]),
          code: pick([4, 1, 0]),
          rest: below(1500),
          payload: outer.slice(0, pick([28, 40, 48, 68, 548])),
        }
        list.push({ port: 1, packet: icmpPacket(error) })
        break
      }
      default:
        list.push({
          port: 0,
          packet: ipv4Packet(
            {
              source: client.split(':')[0]!,
              destination: vip,
              protocol: pick([1, 4, 6, 17, 47, 50, 132]),
              moreFragments: below(2) === 0,
              fragmentOffset: below(2) * below(200),
              ...ip,
            },
            payload,
          ),
        })
    }
  }
  return list
}

/** A frame around a packet for the director's port. */
export function frameFor(port: 0 | 1, packet: Uint8Array): Uint8Array {
  return ethernetFrame({ from: PEER_MAC, to: DIRECTOR_MACS[port] }, packet)
}

/** The ways in which `spoil` spoils. */
export const SPOILS = [
  'truncated',
  'overlong',
  'bad version',
  'bad header length',
  'bad header checksum',
  'bad total length',
  'fragment',
  'bits turned over',
  'bytes replaced',
  'transport header replaced',
  'random frame',
  'link header replaced',
] as const

/** A bad copy of a frame: one way of badness at a time, most with the header checksum mended to get further in. */
export function spoil(frame: Uint8Array, random: Random, way: (typeof SPOILS)[number]): Uint8Array {
  const below = (n: number): number => (random.next() >>> 0) % n
  const ip = 14
  let bad = Uint8Array.from(frame)
  const mend = (): void => {
    const headerBytes = Math.min((bad[ip]! & 15) * 4, bad.length - ip)
    if (headerBytes < 20) return
    bad[ip + 10] = bad[ip + 11] = 0
    const sum = plainChecksum(bad.subarray(ip, ip + headerBytes))
    bad[ip + 10] = sum >> 8
    bad[ip + 11] = sum & 255
  }
  switch (way) {
    case 'truncated':
      return bad.subarray(0, below(bad.length))
    case 'overlong': {
      const longer = new Uint8Array(Math.min(1790, bad.length + 1 + below(400)))
      longer.set(bad)
      bad = longer
      break
    }
    case 'bad version':
      bad[ip] = (below(16) << 4) | (bad[ip]! & 15)
      mend()
      break
    case 'bad header length':
      bad[ip] = 0x40 | below(16)
      mend()
      break
    case 'bad header checksum':
      bad[ip + 10] = below(256)
      break
    case 'bad total length':
      bad[ip + 2] = below(4) === 0 ? below(256) : bad[ip + 2]!
      bad[ip + 3] = below(256)
      mend()
      break
    case 'fragment':
      bad[ip + 6] = below(256)
      bad[ip + 7] = below(256)
      mend()
      break
    case 'bits turned over':
      for (let i = 1 + below(4); i > 0; i--) {
        const bit = (14 + below(Math.min(bad.length - 14, 64))) * 8 + below(8)
        bad[bit >> 3]! ^= 1 << (bit & 7)
      }
      if (below(2) === 0) mend()
      break
    case 'bytes replaced':
      for (let i = 1 + below(8); i > 0; i--)
        bad[14 + below(Math.min(bad.length - 14, 80))] = below(256)
      mend()
      break
    case 'transport header replaced':
      for (let i = 34; i < Math.min(bad.length, 62); i++) if (below(3) === 0) bad[i] = below(256)
      break
    case 'random frame':
      bad = new Uint8Array(below(200))
      for (let i = below(3) * 14; i < bad.length; i++) bad[i] = below(256)
      bad.set(frame.subarray(0, Math.min(14, bad.length)))
      if (bad.length > 34 && below(2) === 0) {
        bad[ip] = 0x45
        bad[ip + 2] = 0
        bad[ip + 3] = bad.length - 14
        mend()
      }
      break
    case 'link header replaced':
      bad[below(14)] = below(256)
      break
  }
  return bad
}
