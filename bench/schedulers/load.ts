/** A load: which packets come to a virtual service from which clients, and when. */
import type { ServiceProtocol } from '../../src/core/commands.js'
import type { FramePool } from '../../src/port/frame-pool.js'

/** What the load's packets are addressed to. */
export interface Target {
  readonly family: 4 | 6
  readonly protocol: ServiceProtocol
  readonly port: number
  /** The virtual address; of several, the service is one by firewall mark. */
  readonly addresses: readonly string[]
}

/** Who may have a server of his own: clients, or the addresses that they ask for. */
export type Party = 'client' | 'site'

/** Packets by their numbers, in the order in which they come. */
export interface Load {
  /** What it is, in a few words. */
  readonly title: string
  readonly target: Target
  readonly durationMs: number
  readonly clientCount: number
  readonly packetCount: number
  /** Since the start. */
  timeMs(packet: number): number
  /** Who sends it: from 0 to below clientCount. */
  clientOf(packet: number): number
  /** What it is sent to: index of the target's address. */
  siteOf(packet: number): number
  /**
   * Writes it with its IP header at a byte offset of the pool's memory, a multiple of 4.
   *
   * @returns its length
   */
  write(packet: number, pool: FramePool, offset: number): number
}
