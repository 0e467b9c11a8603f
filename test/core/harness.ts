/** A director on a table of its own: packets in, packets out, time by hand. */
import type {
  Command,
  DestinationOptions,
  DestinationStatus,
  Reply,
  ServiceKey,
  ServiceOptions,
  ServiceStatus,
} from '../../src/core/commands.js'
import { describeConnections } from '../../src/core/describe.js'
import { Director, type DirectorOptions } from '../../src/core/director.js'
import { reasons, Verdict } from '../../src/core/verdict.js'
import { JIFFIES_PER_SECOND } from '../../src/port/clock.js'
import { FramePool, IP_HEADROOM } from '../../src/port/frame-pool.js'
import { AddressSort, HopState, type Neighbours } from '../../src/port/neighbours.js'
import { SeededRandom } from '../../src/port/random.js'
import { isLimitedBroadcast, isMulticast, isUnspecified } from '../../src/wire/ipv4.js'
import { addressBe } from '../support/packets.js'
import { addressTextIpv6, addressWordsIpv6 } from '../support/packets-ipv6.js'

/**
 * Routes by an IPv4 address's first three numbers, by an IPv6 address's first 64 bits, or by the whole address;
 * what is not told has none.
 */
export class TestNeighbours implements Neighbours {
  generation = 1
  readonly state = new Uint8Array(64)
  readonly port = new Int32Array(64)
  readonly mac = new Uint16Array(64 * 3)
  readonly mtu = new Int32Array(64).fill(1500)
  readonly sourceBe = new Int32Array(64)
  readonly sourceIpv6 = new Int32Array(64 * 4)
  readonly used = new Uint8Array(64)
  private readonly hops = new Map<number, number>()
  private readonly hopsIpv6 = new Map<string, number>()
  private next = 1
  lookups = 0

  /** @returns the hop */
  add(address: string, source: string, state: number = HopState.ready, mtu = 1500): number {
    const hop = this.next++
    if (address.includes(':')) {
      this.hopsIpv6.set(textOf(addressWordsIpv6(address), 0), hop)
      this.sourceIpv6.set(addressWordsIpv6(source), 4 * hop)
    } else {
      this.hops.set(addressBe(address), hop)
      this.sourceBe[hop] = addressBe(source)
    }
    this.state[hop] = state
    this.mtu[hop] = mtu
    return hop
  }
  /** Takes a route away; hops that were handed out are void. */
  remove(address: string): void {
    if (address.includes(':')) this.hopsIpv6.delete(textOf(addressWordsIpv6(address), 0))
    else this.hops.delete(addressBe(address))
    this.generation++
  }
  hopFor(address: number): number {
    this.lookups++
    return this.find(address)
  }
  hopForIpv6(addresses: Int32Array, at: number): number {
    this.lookups++
    const network = Int32Array.of(addresses[at]!, addresses[at + 1]!, 0, 0)
    return this.hopsIpv6.get(textOf(addresses, at)) ?? this.hopsIpv6.get(textOf(network, 0)) ?? 0
  }
  sortOf(address: number): AddressSort {
    if (isUnspecified(address) || isLimitedBroadcast(address)) return AddressSort.broadcast
    if (isMulticast(address)) return AddressSort.multicast
    return this.state[this.find(address)] === HopState.local
      ? AddressSort.local
      : AddressSort.unicast
  }
  private find(address: number): number {
    return this.hops.get(address) ?? this.hops.get(address & 0xffffff) ?? 0
  }
  /** That of the route back. */
  sourceOfErrorIpv6(_port: number, addresses: Int32Array, at: number, to: Int32Array): void {
    const hop = this.hopForIpv6(addresses, at)
    to.set(this.sourceIpv6.subarray(4 * hop, 4 * hop + 4))
  }
  want(): void {}
}

function textOf(words: Int32Array, at: number): string {
  return addressTextIpv6(new Uint8Array(words.buffer, words.byteOffset + 4 * at, 16), 0)
}

export interface Outcome {
  verdict: (typeof verdictNames)[number]
  /** Why the packet itself was not forwarded, undefined when it was. */
  reason: string | undefined
  /** What is sent, undefined when nothing is. */
  packet: Uint8Array | undefined
  hop: number
}

const verdictNames = ['drop', 'decline', 'forward', 'gather'] as const

export const VIP = '192.0.2.1'
/** The director's address on the clients' side and on the servers'. */
export const CLIENT_SIDE = '198.51.100.1'
export const SERVER_SIDE = '10.0.0.1'

export class Harness {
  readonly pool = new FramePool(new ArrayBuffer(4096 * 4), 4096, 4)
  readonly neighbours = new TestNeighbours()
  readonly director: Director
  now: number

  constructor(options: Partial<DirectorOptions> = {}) {
    this.now = options.now ?? 0
    this.director = new Director({
      pool: this.pool,
      neighbours: this.neighbours,
      random: new SeededRandom(1),
      table: { maxConnections: 4096, seed: 1 },
      ...options,
    })
    // Clients on 198.51.100.0/24, real servers on 10.0.0.0/24.
    this.neighbours.add('198.51.100.0', CLIENT_SIDE)
    this.neighbours.add('10.0.0.0', SERVER_SIDE)
    for (const own of [CLIENT_SIDE, SERVER_SIDE]) this.neighbours.add(own, own, HopState.local)
  }

  /** Lets a packet in and says what became of it. */
  send(packet: Uint8Array, inPort = 0, padding = 0): Outcome {
    const { director, pool } = this
    const network = IP_HEADROOM
    pool.bytes.fill(0)
    pool.bytes.set(packet, network)
    const before = total(director)
    const verdict = director.process(network, packet.length + padding, inPort)
    const counted = total(director) - before
    const { outOffset, outLength } = director
    if (counted > 1) throw new Error(`counted under ${counted} reasons`)
    if (counted === 0 && verdict !== Verdict.forward && verdict !== Verdict.gather)
      throw new Error(`${verdictNames[verdict]} without a reason`)
    return {
      verdict: verdictNames[verdict],
      reason: counted === 1 ? reasons[director.reason] : undefined,
      packet:
        verdict === Verdict.forward
          ? pool.bytes.slice(outOffset, outOffset + outLength)
          : undefined,
      hop: director.outHop,
    }
  }

  /** The packet that was sent in last, as it lies there now. */
  received(length: number): Uint8Array {
    return this.pool.bytes.slice(IP_HEADROOM, IP_HEADROOM + length)
  }

  advance(seconds: number): void {
    this.now += Math.round(seconds * JIFFIES_PER_SECOND)
    while (!this.director.advance(this.now));
  }

  execute<C extends Command>(command: C): Reply<C> {
    return this.director.execute(command)
  }

  /** ipvsadm -A. */
  addService(service: ServiceKey, options: Partial<ServiceOptions> = {}): void {
    this.execute({ op: 'add-service', service, options: serviceOptions(options) })
  }

  /** ipvsadm -a, with `10.0.0.2:80`. */
  addDestination(
    service: ServiceKey,
    end: string,
    options: Partial<DestinationOptions> = {},
  ): void {
    const destination = destinationKey(end)
    this.execute({
      op: 'add-destination',
      service,
      destination,
      options: destinationOptions(options),
    })
  }

  /** ipvsadm -e. */
  editDestination(
    service: ServiceKey,
    end: string,
    options: Partial<DestinationOptions> = {},
  ): void {
    const destination = destinationKey(end)
    this.execute({
      op: 'edit-destination',
      service,
      destination,
      options: destinationOptions(options),
    })
  }

  /** ipvsadm -d. */
  deleteDestination(service: ServiceKey, end: string): void {
    this.execute({ op: 'delete-destination', service, destination: destinationKey(end) })
  }

  service(service: ServiceKey): ServiceStatus {
    return this.execute({ op: 'list-services', service }).services[0]!
  }

  destination(service: ServiceKey, end: string): DestinationStatus {
    const { address, port } = destinationKey(end)
    return this.service(service).destinations.find(
      (destination) => destination.address === address && destination.port === port,
    )!
  }

  /** As `ipvsadm -Lnc` lists them: `TCP 15:00 ESTABLISHED client:port virtual:port destination:port`, sorted. */
  connections(): string[] {
    return Array.from(
      describeConnections(this.director.table, this.now),
      (c) =>
        `${c.protocol} ${clock(c.expiresSeconds)} ${c.state} ${c.client}:${c.clientPort} ` +
        `${c.virtual}:${c.virtualPort} ${c.destination}:${c.destinationPort}`,
    ).sort()
  }
}

export function destinationKey(end: string): { address: string; port: number } {
  const [, address, port] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(end)!
  return { address: address!, port: Number(port ?? 0) }
}

export function serviceOptions(options: Partial<ServiceOptions> = {}): ServiceOptions {
  return {
    scheduler: 'rr',
    schedulerFlags: [],
    persistentTimeoutSeconds: 0,
    persistentPrefixLength: 32,
    onePacket: false,
    ...options,
  }
}

export function destinationOptions(options: Partial<DestinationOptions> = {}): DestinationOptions {
  return { forwarding: 'masquerade', weight: 1, upperThreshold: 0, lowerThreshold: 0, ...options }
}

export const tcpService = (port = 80): ServiceKey => ({ protocol: 'tcp', address: VIP, port })
export const udpService = (port = 53): ServiceKey => ({ protocol: 'udp', address: VIP, port })

function total(director: Director): number {
  const { reasons: counts } = director.execute({ op: 'get-counters' })
  return Object.values(counts).reduce((sum, count) => sum + count, 0)
}

function clock(seconds: number): string {
  const two = (n: number): string => String(n).padStart(2, '0')
  return `${two(Math.floor(seconds / 60))}:${two(seconds % 60)}`
}
