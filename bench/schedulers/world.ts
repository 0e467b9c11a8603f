/** A director with one service and any number of servers, as the daemon would have it, without devices. */
import type { DestinationKey, ServiceKey } from '../../src/core/commands.js'
import type { Destination } from '../../src/core/destination.js'
import { Director } from '../../src/core/director.js'
import { RouteTable, type RouteUpdate } from '../../src/core/route-table.js'
import type { Service } from '../../src/core/service.js'
import { FramePool, IP_HEADROOM } from '../../src/port/frame-pool.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import * as ipv6 from '../../src/wire/ipv6.js'
import type { Candidate } from './candidates.js'
import type { Target } from './load.js'
import { randomOf } from './synthetic-load.js'

/** Room for the longest packet that a capture may hold. */
const FRAME_BYTES = 1 << 17
const MARK = 1
const MTU = 65535
const CLIENTS_INTERFACE = 2
const SERVERS_INTERFACE = 3
const GATEWAY = { 4: '198.51.100.2', 6: 'fd75:7673:1::2' } as const
const OWN = { 4: '198.51.100.1', 6: 'fd75:7673:1::1' } as const

/** Of server number i: in the network for benchmarks (RFC 2544), where no client of a capture is. */
export function serverAddress(family: 4 | 6, i: number): string {
  const number = i + 1
  return family === 6
    ? `fd75:7673:2::${number.toString(16)}`
    : `198.18.${(number >> 8) & 0xff}.${number & 0xff}`
}

class BenchDirector extends Director {
  /** The only service. */
  get service(): Service {
    return this.services.first()!
  }
}

export interface WorldOptions {
  readonly target: Target
  /** Of the servers, in the order in which they are added. */
  readonly weights: readonly number[]
  readonly maxConnections: number
  readonly seed: number
}

export class World {
  readonly pool = new FramePool(new ArrayBuffer(FRAME_BYTES), FRAME_BYTES, 1)
  /** Where the packet to be processed begins. */
  readonly offset = IP_HEADROOM
  readonly director: BenchDirector
  readonly service: Service
  private readonly family: 4 | 6
  private readonly port: number
  private readonly key: ServiceKey
  private readonly routes = new RouteTable()

  constructor({ target, weights, maxConnections, seed }: WorldOptions) {
    const { family, protocol, port, addresses } = target
    this.family = family
    this.routes.apply(routeUpdates(family, weights.length))
    this.director = new BenchDirector({
      pool: this.pool,
      neighbours: this.routes,
      random: randomOf(seed),
      table: { maxConnections, seed },
      // A server that is gone has no connections: as kube-proxy and keepalived's manuals set it, so that one that
      // comes back is cold.
      settings: { expireNoDestinationConnections: 1 },
    })
    const isByMark = addresses.length > 1
    this.port = isByMark ? 0 : port
    this.key = isByMark ? { fwmark: MARK, family } : { protocol, address: addresses[0]!, port }
    if (isByMark)
      this.director.execute({
        op: 'set-marks',
        rules: [{ mark: MARK, protocol, ports: [port, port] }],
      })
    this.director.execute({
      op: 'add-service',
      service: this.key,
      options: serviceOptions('rr', []),
    })
    this.service = this.director.service
    for (let i = 0; i < weights.length; i++) this.add(i, weights[i]!)
  }

  use({ scheduler, flags }: Candidate): void {
    const options = serviceOptions(scheduler, flags)
    this.director.execute({ op: 'edit-service', service: this.key, options })
  }

  add(server: number, weight: number): void {
    const { key } = this
    const destination = this.destinationKey(server)
    const options = destinationOptions(weight)
    this.director.execute({ op: 'add-destination', service: key, destination, options })
  }

  weigh(server: number, weight: number): void {
    const { key } = this
    const destination = this.destinationKey(server)
    const options = destinationOptions(weight)
    this.director.execute({ op: 'edit-destination', service: key, destination, options })
  }

  remove(server: number): void {
    const destination = this.destinationKey(server)
    this.director.execute({ op: 'delete-destination', service: this.key, destination })
  }

  /** The number of the server that a destination is, from its address. */
  serverOf({ address }: Destination): number {
    const word = address.words[this.family === 6 ? ipv6.ADDRESS_WORDS - 1 : 0]!
    return (((word >>> 16) & 0xff) << 8) + (word >>> 24) - 1
  }

  /** The servers by the next hops that packets to them take. */
  serversByHop(): Map<number, number> {
    const { routes } = this
    return new Map(
      this.service.destinations.map((destination) => {
        const { family, addressBe, address } = destination
        const hop = family === 6 ? routes.hopForIpv6(address.words, 0) : routes.hopFor(addressBe)
        return [hop, this.serverOf(destination)]
      }),
    )
  }

  private destinationKey(server: number): DestinationKey {
    return { address: serverAddress(this.family, server), port: this.port }
  }
}

function serviceOptions(scheduler: string, flags: readonly string[]) {
  return {
    scheduler,
    schedulerFlags: [...flags],
    persistentTimeoutSeconds: 0,
    persistentPrefixLength: 32,
    onePacket: false,
  }
}

/** By direct routing, as most directors of many connections: the director sees what clients send. */
const destinationOptions = (weight: number) =>
  ({ forwarding: 'direct-route', weight, upperThreshold: 0, lowerThreshold: 0 }) as const

function routeUpdates(family: 4 | 6, servers: number): RouteUpdate[] {
  const prefixes =
    family === 6
      ? (['::/0', 'fd75:7673:2::/64'] as const)
      : (['0.0.0.0/0', '198.18.0.0/16'] as const)
  const links = [CLIENTS_INTERFACE, SERVERS_INTERFACE]
  const mac = (i: number): string =>
    `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 0xff).toString(16).padStart(2, '0')}`
  const neighbours = Array.from({ length: servers }, (_, i) => ({
    interfaceIndex: SERVERS_INTERFACE,
    address: serverAddress(family, i),
    mac: mac(i),
    state: 'permanent' as const,
  }))
  return [
    {
      op: 'set-ports',
      ports: links.map((index, port) => ({
        port,
        linkLayer: LinkLayer.ethernet,
        interfaces: [index],
      })),
    },
    {
      op: 'links',
      links: links.map((index) => ({
        index,
        name: `memory${index}`,
        mtu: MTU,
        mac: `02:01:00:00:00:0${index}`,
        up: true,
      })),
    },
    {
      op: 'addresses',
      addresses: [
        {
          interfaceIndex: CLIENTS_INTERFACE,
          address: OWN[family],
          prefixLength: family === 6 ? 64 : 24,
        },
      ],
    },
    {
      op: 'routes',
      routes: [
        {
          table: 'main',
          prefix: prefixes[0],
          type: 'unicast',
          metric: 0,
          nextHops: [{ interfaceIndex: CLIENTS_INTERFACE, gateway: GATEWAY[family] }],
        },
        {
          table: 'main',
          prefix: prefixes[1],
          type: 'unicast',
          metric: 0,
          nextHops: [{ interfaceIndex: SERVERS_INTERFACE }],
        },
      ],
    },
    {
      op: 'neighbours',
      neighbours: [
        ...neighbours,
        {
          interfaceIndex: CLIENTS_INTERFACE,
          address: GATEWAY[family],
          mac: '02:02:00:00:00:02',
          state: 'permanent',
        },
      ],
    },
  ]
}
