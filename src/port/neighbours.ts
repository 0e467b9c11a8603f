/** What sending to a next hop takes. */
export const enum HopState {
  /** No route: the packet is answered with ICMP host or network unreachable. */
  unreachable = 0,
  /** Port and link-layer address are known. */
  ready = 1,
  /** The port is known, the neighbour's address is being asked for: packets wait in a bounded queue. */
  unresolved = 2,
  /** The route leaves by an interface that is none of our ports: the kernel's stack takes the packet. */
  kernel = 3,
  /** The address is the director's own. */
  local = 4,
}

/** What an IPv4 address is one of, by the director's routes. */
export const AddressSort = {
  /** A single host that is not the director. */
  unicast: 0,
  local: 1,
  broadcast: 2,
  multicast: 3,
} as const
export type AddressSort = (typeof AddressSort)[keyof typeof AddressSort]

/** No route known. Also the value of "not looked up yet" in caches. */
export const NO_HOP = 0

/**
 * Routing and neighbour tables as the data plane reads them. A next hop is a small integer that indexes
 * the arrays; hop 0 is always `unreachable`. Arrays are filled behind the data plane's back only between
 * batches, by the thread that owns them.
 */
export interface Neighbours {
  /**
   * Changes whenever an id that `hopFor` returned may have become wrong (1 to 65535, wrapping).
   * Neighbour changes do not: they alter the arrays of the same id.
   */
  readonly generation: number
  /** The next hop towards an IPv4 address (its four bytes as a native 32-bit load), 0 when there is no route. */
  hopFor(addressBe: number): number
  /**
   * The same towards an IPv6 address: four words from an index on, in network order as native loads. A hop is
   * one for the packets of either family.
   */
  hopForIpv6(addresses: Int32Array, at: number): number
  /** What an IPv4 address is one of. For what is rarer than a packet. */
  sortOf(addressBe: number): AddressSort
  /**
   * The director's own address in an ICMPv6 error that answers a packet, where it is not the packet's destination: the
   * one that the interface suggests which the packet came in by. For what is rarer than a packet.
   *
   * @param port index of that interface's port
   * @param addresses holds the packet's source, at an index
   * @param to its first four words are set; zeros when there is no such address
   */
  sourceOfErrorIpv6(port: number, addresses: Int32Array, at: number, to: Int32Array): void
  /** Notes that a packet waits for an unresolved hop, so that its owner asks for the neighbour. Allocates nothing. */
  want(hop: number): void
  /** HopState of each hop. */
  readonly state: Uint8Array
  /** Index of the port that the hop leaves by (meaningful when ready or unresolved). */
  readonly port: Int32Array
  /** The neighbour's Ethernet address as three native 16-bit loads: halfs 3*hop to 3*hop+2. */
  readonly mac: Uint16Array
  /** Largest IP packet towards the hop in bytes. */
  readonly mtu: Int32Array
  /** The director's own source address towards the hop (native 32-bit load), for packets that it originates. */
  readonly sourceBe: Int32Array
  /** The same where the hop is one towards IPv6 addresses: four words, from 4*hop on. */
  readonly sourceIpv6: Int32Array
  /** Set to 1 by the data plane when it sends to a neighbour, so that its owner keeps those in use fresh. */
  readonly used: Uint8Array
}
