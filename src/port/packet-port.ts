import type { FrameBatch } from './frame-pool.js'

/** What a packet starts with on a port. */
export const LinkLayer = { ip: 0, ethernet: 1 } as const
export type LinkLayer = (typeof LinkLayer)[keyof typeof LinkLayer]

/** Counters of a port. Doubles are exact up to 2^53, which outlasts any counter here. */
export interface PortCounters {
  rxPackets: number
  rxBytes: number
  txPackets: number
  txBytes: number
  /** Received packets thrown away by the port: no frame free, too long for a frame, kernel ring overflow. */
  rxDropped: number
  /** Packets handed to `transmit` that could not be sent: ring full, device down. */
  txDropped: number
}

/**
 * One queue of one interface as the data plane sees it: receive a batch of frames in place, transmit a
 * batch. All ports of a thread share one FramePool. No method throws for anything that a packet or a
 * peer can cause, and none allocates.
 */
export interface PacketPort {
  /** As users name it: `afxdp:eth0`. */
  readonly name: string
  readonly linkLayer: LinkLayer
  /** The port's own Ethernet address, 6 bytes; undefined when linkLayer is ip. */
  readonly mac: Uint8Array | undefined
  /** The kernel's index of the interface, 0 when there is none (memory, pcap). */
  readonly interfaceIndex: number
  /** Largest IP packet in bytes. */
  readonly mtu: number
  /** Descriptors that become readable when there is something to receive. Empty: never block on this port. */
  readonly descriptors: readonly number[]
  readonly counters: PortCounters
  /** It takes packets without their checksums, and whole ones of many segments: requests of FramePool. */
  readonly hasOffload?: boolean

  /** Appends received frames to the batch until it is full or nothing is left; returns how many. The caller owns them. */
  receive(batch: FrameBatch): number
  /**
   * Transmits all frames of the batch and empties it. The port owns them from here on and gives each back
   * to the pool when it is sent, or at once (counted in txDropped) when it cannot be.
   */
  transmit(batch: FrameBatch): void
  /** Gives frames whose transmission has ended back to the pool and offers the kernel frames to receive into; called once a round. */
  service(): void
  /** True while the port holds frames whose transmission has not ended (so an idle thread must come back soon). */
  readonly transmitting: boolean
  close(): void
}
