import { foldAddress, isSameAddress } from '../wire/ipv6.js'
import type { Address } from './address.js'
import { ConnectionFlag } from './connection.js'
import type { ForwardingMethod, TunnelOptions } from './commands.js'
import type { PathMtu } from './path-mtus.js'
import type { Service } from './service.js'
import { AddressSet } from './workers/address-set.js'
import type { CommonState } from './workers/common-state.js'

/** Connection flag bits of a forwarding method. */
export const forwardingFlag: Record<ForwardingMethod, number> = {
  masquerade: ConnectionFlag.masquerade,
  tunnel: ConnectionFlag.tunnel,
  'direct-route': ConnectionFlag.directRoute,
}

/** The tunnel of destinations that name none. */
export const IPIP: Readonly<TunnelOptions> = { type: 'ipip', port: 0, checksum: 'none' }

/**
 * A real server of one service. Connections name it by its slot, which stays its own as long as it lives,
 * in the service's list or in the trash.
 */
export class Destination {
  /** Of its address: 4 or 6. */
  readonly family: number
  /** The IPv4 address, or the fold of the IPv6 address. */
  readonly addressBe: number
  service: Service
  forwarding: ForwardingMethod = 'masquerade'
  /** Of its packets, when they are tunneled. */
  tunnel: Readonly<TunnelOptions> = IPIP
  weight = 1
  /** The last weight that was not 0; what it was given at first, even if that is 0. */
  lastWeight = 1
  upperThreshold = 0
  lowerThreshold = 0
  /** In its service's list; false once it has been removed (the kernel's IP_VS_DEST_F_AVAILABLE). */
  available = false
  /** The upper threshold was met and the lower not yet again (IP_VS_DEST_F_OVERLOAD). */
  overloaded = false
  activeConnections = 0
  inactiveConnections = 0
  persistentConnections = 0
  /** Those whose replies have to come by, also when the forwarding method is another one by now. */
  masqueradedConnections = 0

  /** Cached next hop, good while `hopGeneration` is the neighbours' generation. */
  hop = 0
  hopGeneration = 0
  /** What is known of the MTU of the way, good while `pathMtuGeneration` is that of PathMtus. */
  pathMtu: PathMtu | undefined
  pathMtuGeneration = 0

  /** In the trash: since when no connection has used it, undefined when not known yet. */
  idleSinceJiffies: number | undefined

  constructor(
    readonly slot: number,
    /** Place of its counters, see CounterRegion. */
    readonly counters: number,
    service: Service,
    readonly address: Address,
    readonly portBe: number,
    /** Where its connections are counted with those of other workers; undefined where there are none. */
    readonly common?: CommonState,
  ) {
    this.service = service
    this.family = address.family
    this.addressBe = foldAddress(address.words, 0)
  }

  /** Which removal of a destination it was that it went to the trash by, from 1 on; the same for a whole crew. */
  discards = 0
  /** When that was. */
  discardedJiffies = 0
  /** Packets from its address may be replies that are masqueraded, or may have been since it came. */
  mayMasquerade = false
  private memories = 0

  /** How often this director's scheduler remembers it. */
  get remembered(): number {
    return this.memories
  }
  set remembered(memories: number) {
    this.common?.remember(this.slot, memories - this.memories)
    this.memories = memories
  }

  /** What names this destination: connections, templates, and a scheduler's memory. */
  get references(): number {
    this.common?.refresh(this)
    return (
      this.activeConnections +
      this.inactiveConnections +
      this.persistentConnections +
      (this.common ? this.common.remembered(this.slot) : this.memories)
    )
  }

  /**
   * What schedulers weigh (ip_vs_dest_conn_overhead): active connections cost 256 times what inactive
   * ones do. 32 bits, as in the kernel.
   */
  get overhead(): number {
    return ((this.activeConnections << 8) + this.inactiveConnections) | 0
  }

  /** Counts a connection or template that was bound to it (ip_vs_bind_dest). */
  bind(flags: number): void {
    this.count(flags, 1)
    if (
      this.upperThreshold !== 0 &&
      this.activeConnections + this.inactiveConnections >= this.upperThreshold
    )
      this.setOverloaded(true)
  }

  /** Counts one that ended (ip_vs_unbind_dest). Without a lower threshold three quarters of the upper one count. */
  unbind(flags: number): void {
    this.count(flags, -1)
    const total = this.activeConnections + this.inactiveConnections
    if (this.lowerThreshold !== 0) {
      if (total < this.lowerThreshold) this.setOverloaded(false)
    } else if (this.upperThreshold === 0 || total * 4 < this.upperThreshold * 3) {
      this.setOverloaded(false)
    }
  }

  /** Counts so many inactive connections as active ones from now on. */
  activate(count: number): void {
    if (this.common !== undefined) return this.common.activate(this, count)
    this.activeConnections += count
    this.inactiveConnections -= count
  }

  setOverloaded(overloaded: boolean): void {
    this.overloaded = overloaded
    if (this.common !== undefined) this.common.setOverloaded(this.slot, overloaded)
  }

  private count(flags: number, by: number): void {
    if (this.common !== undefined) return this.common.count(this, flags, by)
    if (hasReplies(flags)) this.masqueradedConnections += by
    if ((flags & ConnectionFlag.template) !== 0) this.persistentConnections += by
    else if ((flags & ConnectionFlag.inactive) !== 0) this.inactiveConnections += by
    else this.activeConnections += by
  }
}

/** True for connections whose replies come by to be rewritten. */
export function hasReplies(flags: number): boolean {
  const mask = ConnectionFlag.forwardingMask | ConnectionFlag.template | ConnectionFlag.onePacket
  return (flags & mask) === 0
}

/** All destinations by slot, those in the trash included. */
export class DestinationSlots {
  /** Dense, with `undefined` where a slot is free. */
  readonly all: (Destination | undefined)[] = []
  /** Addresses that packets come from whose source may have to be masqueraded. */
  readonly masqueradedAddresses = new AddressSet()
  private readonly free: number[] = []

  /** The slot that the next `put` takes. */
  take(): number {
    return this.free.pop() ?? this.all.length
  }

  /** True if packets from the address may be replies to be rewritten. For what is rarer than a packet. */
  mayReply(family: number, addresses: Int32Array, at: number): boolean {
    return this.all.some(
      (destination) =>
        destination !== undefined &&
        hasMasqueraded(destination) &&
        destination.family === family &&
        (family === 6
          ? isSameAddress(destination.address.words, 0, addresses, at)
          : destination.addressBe === addresses[at]),
    )
  }

  put(destination: Destination): void {
    this.all[destination.slot] = destination
  }

  /** To be called whenever a destination has got its forwarding method. */
  expectReplies(destination: Destination): void {
    if (destination.mayMasquerade || destination.forwarding !== 'masquerade') return
    destination.mayMasquerade = true
    const [a, b, c, d] = destination.address.words
    this.masqueradedAddresses.add(a!, b!, c!, d!)
  }

  release(destination: Destination): void {
    if (destination.mayMasquerade) {
      const [a, b, c, d] = destination.address.words
      this.masqueradedAddresses.remove(a!, b!, c!, d!)
    }
    this.all[destination.slot] = undefined
    this.free.push(destination.slot)
  }
}

/** Whether there are connections whose replies have to be masqueraded, of any worker. */
function hasMasqueraded(destination: Destination): boolean {
  destination.common?.refresh(destination)
  return destination.masqueradedConnections > 0
}
