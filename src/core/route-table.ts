import { AddressSort, HopState, NO_HOP, type Neighbours } from '../port/neighbours.js'
import { LinkLayer } from '../port/packet-port.js'
import { parseMac } from '../wire/ethernet.js'
import {
  formatAddress,
  isLimitedBroadcast,
  isMulticast,
  isUnspecified,
  parseAddress,
  parsePrefix,
} from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import { Ipv6Prefixes } from './ipv6-prefixes.js'
import { selectSourceIpv6 } from './source-address.js'

/** Which interfaces of the kernel a port of the data plane reaches. */
export interface PortInterfaces {
  /** Index of the port in the data plane. */
  port: number
  linkLayer: LinkLayer
  /**
   * Interface indexes whose routes leave by this port: the interface itself; for a station on a bridge
   * the bridge, since that is where the kernel keeps routes and neighbours. Empty for a TUN device that
   * the kernel routes into: its packets leave by the kernel's own interfaces.
   */
  interfaces: number[]
}

export interface RouteLink {
  index: number
  name: string
  /** Bytes of IP. */
  mtu: number
  /** `02:00:00:00:00:01`; absent where there is no Ethernet. */
  mac?: string
  /** Administratively up (IFF_UP). A lost carrier does not count, as in the kernel's default. */
  up: boolean
  /** Index of the bridge or bond that this interface belongs to. */
  master?: number
}

export interface RouteAddress {
  interfaceIndex: number
  address: string
  prefixLength: number
  secondary?: boolean
}

/** The tables that the kernel's own three rules look into, in that order. */
export type RouteTableName = 'local' | 'main' | 'default'

export interface RouteNextHop {
  interfaceIndex: number
  /** Absent when the destination is on the link. */
  gateway?: string
  /** Share among several next hops, 1 when absent. */
  weight?: number
}

export interface Route {
  table: RouteTableName
  /** `10.0.0.0/8`, `0.0.0.0/0`, `fd00::/8` */
  prefix: string
  /** `throw` makes the lookup go on in the next table. */
  type: 'unicast' | 'local' | 'broadcast' | 'unreachable' | 'blackhole' | 'prohibit' | 'throw'
  metric: number
  preferredSource?: string
  /** MTU of the route itself, where it is set. */
  mtu?: number
  nextHops: RouteNextHop[]
}

export type NeighbourState =
  | 'none'
  | 'incomplete'
  | 'reachable'
  | 'stale'
  | 'delay'
  | 'probe'
  | 'failed'
  | 'noarp'
  | 'permanent'

export interface RouteNeighbour {
  interfaceIndex: number
  address: string
  /** Absent while it is unknown. */
  mac?: string
  state: NeighbourState
}

/** What the follower of the kernel's tables tells the route table, as plain JSON values. */
export type RouteUpdate =
  | { op: 'set-ports'; ports: PortInterfaces[] }
  /** Each of these replaces everything of its kind. */
  | { op: 'links'; links: RouteLink[] }
  | { op: 'addresses'; addresses: RouteAddress[] }
  | { op: 'routes'; routes: Route[] }
  | { op: 'neighbours'; neighbours: RouteNeighbour[] }
  /** One of its kind came or changed, or went. */
  | { op: 'set-link'; link: RouteLink }
  | { op: 'delete-link'; index: number }
  | { op: 'set-address'; address: RouteAddress }
  | { op: 'delete-address'; address: RouteAddress }
  /** Among routes of the same prefix and metric the first wins: a new one goes first unless it says otherwise. */
  | { op: 'set-route'; route: Route; place?: 'replace' | 'append' }
  | { op: 'delete-route'; route: Route }
  | { op: 'set-neighbour'; neighbour: RouteNeighbour }
  | { op: 'delete-neighbour'; interfaceIndex: number; address: string }
  /** Every few seconds: neighbours in use that have become stale are asked for again. */
  | { op: 'review' }

/** A neighbour whose Ethernet address is to be asked for. */
export interface WantedNeighbour {
  interfaceIndex: number
  address: string
}

/** Hops are 16-bit numbers in the connection table. */
const MAX_HOPS = 65536
/** Unused hops go this many at a time, oldest first, when numbers run out. */
const HOPS_RECYCLED = MAX_HOPS / 4
const CACHE_SIZE = 4096
const MAX_WANTED = 1024
const MAX_GENERATION = 65535

const TABLE_ORDER: readonly RouteTableName[] = ['local', 'main', 'default']
/** The kernel's NUD_VALID: the address may be used, if perhaps not for long. */
const USABLE: ReadonlySet<NeighbourState> = new Set<NeighbourState>([
  'reachable',
  'stale',
  'delay',
  'probe',
  'noarp',
  'permanent',
])

interface StoredRoute extends Route {
  /** What tells two routes apart: all of it. */
  identity: string
  /** Of IPv4. */
  sourceBe: number
  gatewaysBe: Int32Array
  /** Of IPv6. */
  source: Int32Array | undefined
}

/** The routes of one prefix, in the order in which the kernel looks at them. */
type Bucket = StoredRoute[]

interface StoredAddress extends RouteAddress {
  addressBe: number
  maskBe: number
}

/** An address of IPv6. */
export interface StoredAddressIpv6 extends RouteAddress {
  words: Int32Array
}

/**
 * The kernel's routing and neighbour tables, as far as the director needs them: longest prefix, lowest
 * metric, in the tables local, main and default. Rules of policy routing are not followed: packets that
 * the director sends itself are routed as by the kernel's three default rules.
 *
 * A lookup is made once a connection, or once a connection and change of routes. Lookups that repeat are
 * answered from a direct-mapped cache.
 *
 * Among several next hops the destination address decides, so one destination always takes the same way.
 */
export class RouteTable implements Neighbours {
  readonly state = new Uint8Array(MAX_HOPS)
  readonly port = new Int32Array(MAX_HOPS)
  readonly mac = new Uint16Array(3 * MAX_HOPS)
  readonly mtu = new Int32Array(MAX_HOPS)
  readonly sourceBe = new Int32Array(MAX_HOPS)
  readonly sourceIpv6 = new Int32Array(4 * MAX_HOPS)
  readonly used = new Uint8Array(MAX_HOPS)

  private currentGeneration = 1

  private readonly links = new Map<number, RouteLink>()
  private addresses: StoredAddress[] = []
  private addressesIpv6: StoredAddressIpv6[] = []
  private readonly own = new Set<number>()
  private readonly routes: Record<RouteTableName, (Map<number, Bucket> | undefined)[]> = {
    local: [],
    main: [],
    default: [],
  }
  private readonly routesIpv6: Record<RouteTableName, Ipv6Prefixes<StoredRoute>> = {
    local: new Ipv6Prefixes(),
    main: new Ipv6Prefixes(),
    default: new Ipv6Prefixes(),
  }
  private readonly neighbours = new Map<string, RouteNeighbour>()
  private readonly portOf = new Map<number, PortInterfaces>()
  /** The last list of each kind as JSON, to know one that changes nothing. */
  private readonly lastLists = new Map<RouteUpdate['op'], string>()

  // Hops: what each is made of, and where to find it again.
  private readonly hopInterface = new Int32Array(MAX_HOPS)
  /** The neighbour's address as text, empty for hops that need none. */
  private readonly hopNext: string[] = []
  private readonly routeMtuOf = new Int32Array(MAX_HOPS)
  private readonly hopKey: (string | undefined)[] = []
  private readonly hopByKey = new Map<string, number>()
  private readonly hopsOfNeighbour = new Map<string, number[]>()
  private nextHopNumber = 1

  private readonly cacheAddressBe = new Int32Array(CACHE_SIZE)
  private readonly cacheHop = new Uint16Array(CACHE_SIZE)
  /** Generation of the entry; 0 when it was never filled. */
  private readonly cacheGeneration = new Uint16Array(CACHE_SIZE)

  private readonly cacheAddressesIpv6 = new Int32Array(4 * CACHE_SIZE)
  private readonly cacheHopIpv6 = new Uint16Array(CACHE_SIZE)
  private readonly cacheGenerationIpv6 = new Uint16Array(CACHE_SIZE)

  private readonly isWanted = new Uint8Array(MAX_HOPS)
  private readonly wanted = new Int32Array(MAX_WANTED)
  private wantedCount = 0

  get generation(): number {
    return this.currentGeneration
  }

  hopFor(addressBe: number): number {
    const slot = cacheSlot(addressBe)
    if (
      this.cacheGeneration[slot] === this.currentGeneration &&
      this.cacheAddressBe[slot] === addressBe
    )
      return this.cacheHop[slot]!
    const hop = this.match(addressBe)
    this.cacheAddressBe[slot] = addressBe
    this.cacheHop[slot] = hop
    this.cacheGeneration[slot] = this.currentGeneration
    return hop
  }

  hopForIpv6(addresses: Int32Array, at: number): number {
    const slot = cacheSlot(ipv6.foldAddress(addresses, at))
    if (
      this.cacheGenerationIpv6[slot] === this.currentGeneration &&
      ipv6.isSameAddress(this.cacheAddressesIpv6, 4 * slot, addresses, at)
    )
      return this.cacheHopIpv6[slot]!
    const hop = this.matchIpv6(addresses, at)
    ipv6.copyAddress(addresses, at, this.cacheAddressesIpv6, 4 * slot)
    this.cacheHopIpv6[slot] = hop
    this.cacheGenerationIpv6[slot] = this.currentGeneration
    return hop
  }

  /** As the kernel's inet_addr_type: the table of local routes alone knows. */
  sortOf(addressBe: number): AddressSort {
    if (isUnspecified(addressBe) || isLimitedBroadcast(addressBe)) return AddressSort.broadcast
    if (isMulticast(addressBe)) return AddressSort.multicast
    if (this.own.has(addressBe)) return AddressSort.local
    for (let length = 32; length >= 0; length--) {
      const type = this.routes.local[length]?.get(addressBe & maskBe(length))?.[0]?.type
      if (type === 'local') return AddressSort.local
      if (type === 'broadcast') return AddressSort.broadcast
    }
    return AddressSort.unicast
  }

  sourceOfErrorIpv6(port: number, addresses: Int32Array, at: number, to: Int32Array): void {
    let incoming = 0
    for (const [interfaceIndex, each] of this.portOf)
      if (each.port === port) {
        incoming = interfaceIndex
        break
      }
    const source = selectSourceIpv6(this.addressesIpv6, incoming, addresses, at)
    if (source) ipv6.copyAddress(source, 0, to, 0)
    else to.fill(0, 0, ipv6.ADDRESS_WORDS)
  }

  want(hop: number): void {
    if (this.isWanted[hop] !== 0 || this.wantedCount === MAX_WANTED) return
    this.isWanted[hop] = 1
    this.wanted[this.wantedCount++] = hop
  }

  /** True when `takeWanted` has something to say. */
  get hasWanted(): boolean {
    return this.wantedCount > 0
  }

  /**
   * The neighbours that packets wait for, and those in use that have to be confirmed. Each is named once
   * until the kernel has answered or a review has passed.
   */
  takeWanted(): WantedNeighbour[] {
    const list: WantedNeighbour[] = []
    for (let i = 0; i < this.wantedCount; i++) {
      const hop = this.wanted[i]!
      const address = this.hopNext[hop]!
      if (address !== '') list.push({ interfaceIndex: this.hopInterface[hop]!, address })
    }
    this.wantedCount = 0
    return list
  }

  /** Takes over changes, in order. Throws a RangeError for text that is no address, prefix or MAC. */
  apply(updates: readonly RouteUpdate[]): void {
    let changed = false
    for (const update of updates) if (this.applyOne(update)) changed = true
    if (!changed) return
    this.advanceGeneration()
    for (let hop = 1; hop < this.hopKey.length; hop++)
      if (this.hopKey[hop] !== undefined) this.refreshHop(hop)
  }

  /** Returns whether answers of `hopFor` may be different now. */
  private applyOne(update: RouteUpdate): boolean {
    switch (update.op) {
      case 'set-ports':
        this.portOf.clear()
        for (const port of update.ports)
          for (const index of port.interfaces) this.portOf.set(index, port)
        return true
      case 'links':
        if (this.isRepeated(update)) return false
        this.links.clear()
        for (const link of update.links) this.links.set(link.index, link)
        return true
      case 'addresses':
        if (this.isRepeated(update)) return false
        this.addressesIpv6 = update.addresses.filter(isIpv6).map(storeAddressIpv6)
        this.setAddresses(update.addresses.filter((address) => !isIpv6(address)).map(storeAddress))
        this.lastLists.set(update.op, JSON.stringify(update))
        return true
      case 'routes':
        if (this.isRepeated(update)) return false
        for (const table of TABLE_ORDER) {
          this.routes[table] = []
          this.routesIpv6[table] = new Ipv6Prefixes()
        }
        // The kernel lists routes of one prefix and metric in its own order.
        for (const route of update.routes) this.setRoute(route, 'append')
        return true
      case 'neighbours': {
        const gone = new Set(this.neighbours.keys())
        for (const neighbour of update.neighbours) {
          gone.delete(neighbourKey(neighbour.interfaceIndex, neighbour.address))
          this.setNeighbour(neighbour)
        }
        for (const key of gone) this.deleteNeighbour(key)
        return false
      }
      case 'set-link': {
        const { link } = update
        this.lastLists.delete('links')
        const before = this.links.get(link.index)
        this.links.set(link.index, link)
        return before === undefined || before.up !== link.up || before.mtu !== link.mtu
      }
      case 'delete-link':
        this.lastLists.delete('links')
        for (const [key, neighbour] of this.neighbours)
          if (neighbour.interfaceIndex === update.index) this.deleteNeighbour(key)
        return this.links.delete(update.index)
      case 'set-address': {
        if (isIpv6(update.address)) return this.setAddressIpv6(update.address)
        const address = storeAddress(update.address)
        const before = this.addresses.findIndex((other) => isSameAddress(other, address))
        if (before < 0) this.setAddresses([...this.addresses, address])
        else if (this.addresses[before]!.secondary === address.secondary) return false
        else this.setAddresses(this.addresses.map((other, i) => (i === before ? address : other)))
        return true
      }
      case 'delete-address': {
        if (isIpv6(update.address)) return this.deleteAddressIpv6(update.address)
        const address = storeAddress(update.address)
        const rest = this.addresses.filter((other) => !isSameAddress(other, address))
        if (rest.length === this.addresses.length) return false
        this.setAddresses(rest)
        return true
      }
      case 'set-route':
        this.lastLists.delete('routes')
        return this.setRoute(update.route, update.place)
      case 'delete-route':
        this.lastLists.delete('routes')
        return this.deleteRoute(update.route)
      case 'set-neighbour':
        this.setNeighbour(update.neighbour)
        return false
      case 'delete-neighbour':
        this.deleteNeighbour(neighbourKey(update.interfaceIndex, update.address))
        return false
      case 'review':
        this.review()
        return false
    }
  }

  /** Whether a list is word for word the one before, with no change of its kind between. */
  private isRepeated(update: RouteUpdate): boolean {
    const text = JSON.stringify(update)
    if (this.lastLists.get(update.op) === text) return true
    this.lastLists.set(update.op, text)
    return false
  }

  // -- lookup

  private match(addressBe: number): number {
    if (this.own.has(addressBe)) return this.localHop()
    for (const table of TABLE_ORDER) {
      const hop = this.matchIn(this.routes[table], addressBe)
      if (hop >= 0) return hop
    }
    return NO_HOP
  }

  private matchIpv6(addresses: Int32Array, at: number): number {
    for (const own of this.addressesIpv6)
      if (ipv6.isSameAddress(own.words, 0, addresses, at)) return this.localHop()
    for (const table of TABLE_ORDER) {
      const hop = this.matchIpv6In(this.routesIpv6[table], addresses, at)
      if (hop >= 0) return hop
    }
    return NO_HOP
  }

  /** The hop that one table gives, -1 when the lookup has to go on in the next. */
  private matchIpv6In(
    prefixes: Ipv6Prefixes<StoredRoute>,
    addresses: Int32Array,
    at: number,
  ): number {
    let longest = ipv6.ADDRESS_BITS
    for (;;) {
      const bucket = prefixes.match(addresses, at, longest)
      if (bucket === undefined) return -1
      const length = prefixes.matchedLength
      for (const route of bucket) {
        if (route.type === 'throw') return -1
        if (route.type === 'local') return this.localHop()
        if (route.type !== 'unicast') return NO_HOP
        const choice = this.chooseNextHop(route, ipv6.foldAddress(addresses, at))
        if (choice >= 0) return this.hopOfIpv6(route, choice, addresses, at)
      }
      longest = length - 1
    }
  }

  /** The hop that one table gives, -1 when the lookup has to go on in the next. */
  private matchIn(
    lengths: readonly (Map<number, Bucket> | undefined)[],
    addressBe: number,
  ): number {
    for (let length = 32; length >= 0; length--) {
      const bucket = lengths[length]?.get(addressBe & maskBe(length))
      if (bucket === undefined) continue
      for (const route of bucket) {
        if (route.type === 'throw') return -1
        if (route.type === 'local') return this.localHop()
        if (route.type !== 'unicast') return NO_HOP
        const choice = this.chooseNextHop(route, addressBe)
        if (choice >= 0) return this.hopOf(route, choice, addressBe)
        // All of its interfaces are down: the next route is tried, as in the kernel.
      }
    }
    return -1
  }

  /** Index of the next hop for the address, among those whose interface is up; -1 if there is none. */
  private chooseNextHop(route: StoredRoute, addressBe: number): number {
    const { nextHops } = route
    if (nextHops.length === 1) return this.isUp(nextHops[0]!.interfaceIndex) ? 0 : -1
    let weights = 0
    for (const hop of nextHops) if (this.isUp(hop.interfaceIndex)) weights += hop.weight ?? 1
    if (weights === 0) return -1
    let rest = (hash(addressBe) >>> 0) % weights
    for (let i = 0; i < nextHops.length; i++) {
      const hop = nextHops[i]!
      if (!this.isUp(hop.interfaceIndex)) continue
      rest -= hop.weight ?? 1
      if (rest < 0) return i
    }
    return -1
  }

  private isUp(interfaceIndex: number): boolean {
    return this.links.get(interfaceIndex)?.up === true
  }

  private localHop(): number {
    return this.hop('local', 0, '', 0, undefined, 0)
  }

  private hopOf(route: StoredRoute, choice: number, addressBe: number): number {
    const { interfaceIndex } = route.nextHops[choice]!
    const port = this.portOf.get(interfaceIndex)
    const gatewayBe = route.gatewaysBe[choice]!
    const nextBe = gatewayBe !== 0 ? gatewayBe : addressBe
    const sourceBe =
      route.sourceBe !== 0 ? route.sourceBe : this.selectSource(interfaceIndex, nextBe)
    const routeMtu = route.mtu ?? 0
    // Where no Ethernet address is needed, all neighbours of an interface are one hop.
    const needsNeighbour = port !== undefined && port.linkLayer === LinkLayer.ethernet
    const key = `${interfaceIndex} ${needsNeighbour ? nextBe : 0} ${sourceBe} ${routeMtu}`
    return (
      this.hopByKey.get(key) ??
      this.hop(
        key,
        interfaceIndex,
        needsNeighbour ? formatAddress(nextBe) : '',
        sourceBe,
        undefined,
        routeMtu,
      )
    )
  }

  private hopOfIpv6(route: StoredRoute, choice: number, addresses: Int32Array, at: number): number {
    const { interfaceIndex, gateway } = route.nextHops[choice]!
    const port = this.portOf.get(interfaceIndex)
    const needsNeighbour = port !== undefined && port.linkLayer === LinkLayer.ethernet
    const next = !needsNeighbour ? '' : (gateway ?? ipv6.formatAddress(addresses, at))
    const source =
      route.source ?? selectSourceIpv6(this.addressesIpv6, interfaceIndex, addresses, at)
    const routeMtu = route.mtu ?? 0
    const from = source === undefined ? '' : ipv6.formatAddress(source)
    const key = `${interfaceIndex} ${next} ${from} ${routeMtu} IPv6`
    return this.hop(key, interfaceIndex, next, 0, source, routeMtu)
  }

  /** The kernel's inet_select_addr: an address of the interface, best of the neighbour's own network. */
  private selectSource(interfaceIndex: number, nextBe: number): number {
    let ofInterface = 0
    let ofAny = 0
    for (const address of this.addresses) {
      if (address.secondary === true) continue
      const { addressBe } = address
      if (address.interfaceIndex === interfaceIndex) {
        if (((addressBe ^ nextBe) & address.maskBe) === 0) return addressBe
        if (ofInterface === 0) ofInterface = addressBe
      } else if (ofAny === 0 && (addressBe & 0xff) !== 127) {
        ofAny = addressBe
      }
    }
    return ofInterface !== 0 ? ofInterface : ofAny
  }

  // -- hops

  private hop(
    key: string,
    interfaceIndex: number,
    next: string,
    sourceBe: number,
    sourceIpv6: Int32Array | undefined,
    routeMtu: number,
  ): number {
    const known = this.hopByKey.get(key)
    if (known !== undefined) return known
    const hop = this.newHop()
    this.hopKey[hop] = key
    this.hopByKey.set(key, hop)
    this.hopInterface[hop] = interfaceIndex
    this.hopNext[hop] = next
    this.sourceBe[hop] = sourceBe
    this.sourceIpv6.fill(0, 4 * hop, 4 * hop + 4)
    if (sourceIpv6 !== undefined) this.sourceIpv6.set(sourceIpv6, 4 * hop)
    this.routeMtuOf[hop] = routeMtu
    if (next !== '') {
      const neighbour = neighbourKey(interfaceIndex, next)
      const hops = this.hopsOfNeighbour.get(neighbour)
      if (hops === undefined) this.hopsOfNeighbour.set(neighbour, [hop])
      else hops.push(hop)
    }
    this.refreshHop(hop)
    return hop
  }

  private newHop(): number {
    const hop = this.nextHopNumber
    if (this.hopKey[hop] !== undefined) {
      // All numbers are taken. Whoever holds a number asks again because the generation changes.
      for (let i = 0; i < HOPS_RECYCLED && hop + i < MAX_HOPS; i++) this.forgetHop(hop + i)
      this.advanceGeneration()
    }
    this.nextHopNumber = hop + 1 === MAX_HOPS ? 1 : hop + 1
    return hop
  }

  private forgetHop(hop: number): void {
    const key = this.hopKey[hop]
    if (key === undefined) return
    this.hopByKey.delete(key)
    this.hopKey[hop] = undefined
    this.state[hop] = HopState.unreachable
    this.used[hop] = 0
    this.isWanted[hop] = 0
    const next = this.hopNext[hop]!
    if (next === '') return
    const neighbour = neighbourKey(this.hopInterface[hop]!, next)
    const rest = this.hopsOfNeighbour.get(neighbour)!.filter((other) => other !== hop)
    if (rest.length === 0) this.hopsOfNeighbour.delete(neighbour)
    else this.hopsOfNeighbour.set(neighbour, rest)
    this.hopNext[hop] = ''
  }

  /** Works state, port, MTU and Ethernet address of a hop out anew. */
  private refreshHop(hop: number): void {
    const interfaceIndex = this.hopInterface[hop]!
    if (interfaceIndex === 0) {
      this.state[hop] = HopState.local
      this.mtu[hop] = 65535
      return
    }
    const link = this.links.get(interfaceIndex)
    const linkMtu = link === undefined ? 0 : link.mtu
    const routeMtu = this.routeMtuOf[hop]!
    this.mtu[hop] = routeMtu > 0 && routeMtu < linkMtu ? routeMtu : linkMtu
    const port = this.portOf.get(interfaceIndex)
    if (link === undefined || !link.up) this.state[hop] = HopState.unreachable
    else if (port === undefined) this.state[hop] = HopState.kernel
    else {
      this.port[hop] = port.port
      if (port.linkLayer === LinkLayer.ip) this.state[hop] = HopState.ready
      else this.refreshNeighbour(hop)
    }
  }

  private refreshNeighbour(hop: number): void {
    const next = this.hopNext[hop]!
    const neighbour = this.neighbours.get(neighbourKey(this.hopInterface[hop]!, next))
    if (neighbour?.mac === undefined || !USABLE.has(neighbour.state)) {
      this.state[hop] = HopState.unresolved
      return
    }
    const bytes = parseMac(neighbour.mac)!
    for (let i = 0; i < 3; i++) this.mac[3 * hop + i] = bytes[2 * i]! | (bytes[2 * i + 1]! << 8)
    this.state[hop] = HopState.ready
  }

  private advanceGeneration(): void {
    if (this.currentGeneration < MAX_GENERATION) {
      this.currentGeneration++
    } else {
      this.currentGeneration = 1
      this.cacheGeneration.fill(0)
      this.cacheGenerationIpv6.fill(0)
    }
  }

  // -- contents

  private setAddresses(addresses: StoredAddress[]): void {
    this.lastLists.delete('addresses')
    this.addresses = addresses
    this.own.clear()
    for (const { addressBe } of addresses) this.own.add(addressBe)
  }

  private setAddressIpv6(address: RouteAddress): boolean {
    this.lastLists.delete('addresses')
    const rest = this.addressesIpv6.filter((other) => !isSameAddressIpv6(other, address))
    if (rest.length !== this.addressesIpv6.length) return false
    this.addressesIpv6 = [...rest, storeAddressIpv6(address)]
    return true
  }

  private deleteAddressIpv6(address: RouteAddress): boolean {
    this.lastLists.delete('addresses')
    const rest = this.addressesIpv6.filter((other) => !isSameAddressIpv6(other, address))
    if (rest.length === this.addressesIpv6.length) return false
    this.addressesIpv6 = rest
    return true
  }

  private bucketOf(route: Route, create: boolean): Bucket | undefined {
    if (route.prefix.includes(':')) {
      const prefix = ipv6.parsePrefix(route.prefix)
      if (prefix === undefined) throw new RangeError(`'${route.prefix}' is no IPv6 prefix`)
      return this.routesIpv6[route.table].get(prefix, create)
    }
    const prefix = parsePrefix(route.prefix)
    if (prefix === undefined) throw new RangeError(`'${route.prefix}' is no IPv4 prefix`)
    const lengths = this.routes[route.table]
    let buckets = lengths[prefix.prefixLength]
    if (buckets === undefined) {
      if (!create) return undefined
      buckets = lengths[prefix.prefixLength] = new Map()
    }
    let bucket = buckets.get(prefix.addressBe)
    if (bucket === undefined && create) buckets.set(prefix.addressBe, (bucket = []))
    return bucket
  }

  private setRoute(route: Route, place?: 'replace' | 'append'): boolean {
    const bucket = this.bucketOf(route, true)!
    const stored = storeRoute(route)
    const same = bucket.findIndex((other) => other.identity === stored.identity)
    const first = bucket.findIndex((other) => other.metric >= route.metric)
    if (place === 'replace' && first >= 0 && bucket[first]!.metric === route.metric) {
      if (same === first) return false
      bucket[first] = stored
      if (same >= 0) bucket.splice(same, 1)
      return true
    }
    if (same >= 0) return false
    const behind = bucket.findIndex((other) => other.metric > route.metric)
    const at = place === 'append' ? behind : first
    bucket.splice(at < 0 ? bucket.length : at, 0, stored)
    return true
  }

  private deleteRoute(route: Route): boolean {
    const bucket = this.bucketOf(route, false)
    const identity = identityOf(route)
    const at = bucket?.findIndex((other) => other.identity === identity) ?? -1
    if (at < 0) return false
    bucket!.splice(at, 1)
    if (bucket!.length === 0 && route.prefix.includes(':')) {
      this.routesIpv6[route.table].delete(ipv6.parsePrefix(route.prefix)!)
    } else if (bucket!.length === 0) {
      const prefix = parsePrefix(route.prefix)!
      const lengths = this.routes[route.table]
      const buckets = lengths[prefix.prefixLength]!
      buckets.delete(prefix.addressBe)
      if (buckets.size === 0) lengths[prefix.prefixLength] = undefined
    }
    return true
  }

  private setNeighbour(neighbour: RouteNeighbour): void {
    if (neighbour.mac !== undefined && parseMac(neighbour.mac) === undefined)
      throw new RangeError(`'${neighbour.mac}' is no Ethernet address`)
    const key = neighbourKey(neighbour.interfaceIndex, neighbour.address)
    this.neighbours.set(key, neighbour)
    this.neighbourChanged(key)
  }

  private deleteNeighbour(key: string): void {
    this.neighbours.delete(key)
    this.neighbourChanged(key)
  }

  private neighbourChanged(key: string): void {
    const hops = this.hopsOfNeighbour.get(key)
    if (hops === undefined) return
    for (const hop of hops) {
      this.isWanted[hop] = 0
      this.refreshHop(hop)
    }
  }

  /**
   * The kernel does not see which neighbours the data plane sends to, so it would let them grow stale and
   * never find out that one has moved. Those that were sent to since the last review are asked for.
   */
  private review(): void {
    this.isWanted.fill(0)
    for (let i = 0; i < this.wantedCount; i++) this.isWanted[this.wanted[i]!] = 1
    for (let hop = 1; hop < this.hopKey.length; hop++) {
      if (this.used[hop] === 0) continue
      this.used[hop] = 0
      const next = this.hopNext[hop]!
      if (next === '') continue
      const neighbour = this.neighbours.get(neighbourKey(this.hopInterface[hop]!, next))
      if (neighbour?.state === 'stale') this.want(hop)
    }
  }
}

function maskBe(prefixLength: number): number {
  return MASKS_BE[prefixLength]!
}

const MASKS_BE = Int32Array.from(
  { length: 33 },
  (_, length) => parsePrefix(`0.0.0.0/${length}`)!.maskBe,
)

function hash(addressBe: number): number {
  const mixed = Math.imul(addressBe ^ (addressBe >>> 16), 0x45d9f3b)
  return mixed ^ (mixed >>> 16)
}

function cacheSlot(addressBe: number): number {
  return hash(addressBe) & (CACHE_SIZE - 1)
}

/** @throws RangeError when the address is none */
function neighbourKey(interfaceIndex: number, address: string): string {
  const text = address.includes(':')
    ? ipv6.formatAddress(wordsOf(address))
    : formatAddress(addressOf(address))
  return `${interfaceIndex} ${text}`
}

function isIpv6({ address }: RouteAddress): boolean {
  return address.includes(':')
}

function wordsOf(text: string): Int32Array {
  const words = ipv6.parseAddress(text)
  if (words === undefined) throw new RangeError(`'${text}' is no IPv6 address`)
  return words
}

function storeAddressIpv6(address: RouteAddress): StoredAddressIpv6 {
  return { ...address, words: wordsOf(address.address) }
}

function isSameAddressIpv6(stored: StoredAddressIpv6, address: RouteAddress): boolean {
  return (
    stored.interfaceIndex === address.interfaceIndex &&
    stored.prefixLength === address.prefixLength &&
    ipv6.isSameAddress(stored.words, 0, wordsOf(address.address), 0)
  )
}

function addressOf(text: string): number {
  const addressBe = parseAddress(text)
  if (addressBe === undefined) throw new RangeError(`'${text}' is no IPv4 address`)
  return addressBe
}

function storeAddress(address: RouteAddress): StoredAddress {
  const addressBe = addressOf(address.address)
  return { ...address, addressBe, maskBe: maskBe(address.prefixLength) }
}

function isSameAddress(a: StoredAddress, b: StoredAddress): boolean {
  return (
    a.interfaceIndex === b.interfaceIndex &&
    a.addressBe === b.addressBe &&
    a.prefixLength === b.prefixLength
  )
}

function identityOf(route: Route): string {
  const { type, metric, preferredSource = '', mtu = 0, nextHops } = route
  const hops = nextHops.map((hop) => [hop.interfaceIndex, hop.gateway ?? '', hop.weight ?? 1])
  return JSON.stringify([type, metric, preferredSource, mtu, hops])
}

function storeRoute(route: Route): StoredRoute {
  if (route.prefix.includes(':')) {
    const { preferredSource } = route
    // Only to see that they are addresses: gateways go by their text.
    for (const { gateway } of route.nextHops) if (gateway !== undefined) wordsOf(gateway)
    return {
      ...route,
      identity: identityOf(route),
      sourceBe: 0,
      gatewaysBe: new Int32Array(0),
      source: preferredSource === undefined ? undefined : wordsOf(preferredSource),
    }
  }
  return {
    ...route,
    identity: identityOf(route),
    source: undefined,
    sourceBe: route.preferredSource === undefined ? 0 : addressOf(route.preferredSource),
    gatewaysBe: Int32Array.from(route.nextHops, ({ gateway }) =>
      gateway === undefined ? 0 : addressOf(gateway),
    ),
  }
}
