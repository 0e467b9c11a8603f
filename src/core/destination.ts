import { foldAddress, isSameAddress } from '../wire/ipv6.js'
import type { Address } from './address.js'
import { ConnectionFlag } from './connection.js'
import type { ForwardingMethod, TunnelOptions } from './commands.js'
import type { PathMtu } from './path-mtus.js'
import type { Service } from './service.js'

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
  ) {
    this.service = service
    this.family = address.family
    this.addressBe = foldAddress(address.words, 0)
  }

  /** How often a scheduler remembers it. */
  remembered = 0

  /** What names this destination: connections, templates, and a scheduler's memory. */
  get references(): number {
    return (
      this.activeConnections +
      this.inactiveConnections +
      this.persistentConnections +
      this.remembered
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
    if (hasReplies(flags)) this.masqueradedConnections++
    if ((flags & ConnectionFlag.template) !== 0) this.persistentConnections++
    else if ((flags & ConnectionFlag.inactive) !== 0) this.inactiveConnections++
    else this.activeConnections++
    if (
      this.upperThreshold !== 0 &&
      this.activeConnections + this.inactiveConnections >= this.upperThreshold
    )
      this.overloaded = true
  }

  /** Counts one that ended (ip_vs_unbind_dest). Without a lower threshold three quarters of the upper one count. */
  unbind(flags: number): void {
    if (hasReplies(flags)) this.masqueradedConnections--
    if ((flags & ConnectionFlag.template) !== 0) this.persistentConnections--
    else if ((flags & ConnectionFlag.inactive) !== 0) this.inactiveConnections--
    else this.activeConnections--
    const total = this.activeConnections + this.inactiveConnections
    if (this.lowerThreshold !== 0) {
      if (total < this.lowerThreshold) this.overloaded = false
    } else if (this.upperThreshold === 0 || total * 4 < this.upperThreshold * 3) {
      this.overloaded = false
    }
  }
}

/** True for connections whose replies come by to be rewritten. */
export function hasReplies(flags: number): boolean {
  const { forwardingMask, template, onePacket } = ConnectionFlag
  return (flags & (forwardingMask | template | onePacket)) === 0
}

/** All destinations by slot, those in the trash included. */
export class DestinationSlots {
  /** Dense, with `undefined` where a slot is free. */
  readonly all: (Destination | undefined)[] = []
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
        destination.masqueradedConnections > 0 &&
        destination.family === family &&
        (family === 6
          ? isSameAddress(destination.address.words, 0, addresses, at)
          : destination.addressBe === addresses[at]),
    )
  }

  put(destination: Destination): void {
    this.all[destination.slot] = destination
  }

  release(destination: Destination): void {
    this.all[destination.slot] = undefined
    this.free.push(destination.slot)
  }
}
