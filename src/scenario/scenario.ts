/**
 * A scenario: what is configured and which packets arrive, in order. Scenarios are text (`parse.ts`), and are
 * run by the director in virtual time (`replay.ts`) or by a real kernel (`oracle/`).
 */

/** The side of the director that a packet arrives on. */
export type Side = 'client' | 'server'

/** One directive. `line` counts from 1 in the file; `text` is the directive as written, without its comment. */
export type Directive = { readonly line: number; readonly text: string } & (
  | { readonly kind: 'at'; readonly seconds: number }
  | { readonly kind: 'ipvsadm'; readonly args: readonly string[] }
  | { readonly kind: 'sysctl'; readonly key: string; readonly value: string }
  | PacketDirective
  /** Packets of a capture; `file` is absolute, its relative timestamps move the clock. */
  | ({ readonly kind: 'pcap'; readonly file: string } & PacketOptions)
)

/** A packet as bytes, whole from its first IP header byte, however it was written. */
export type PacketDirective = {
  readonly kind: 'packet'
  readonly packet: Uint8Array
} & PacketOptions

export interface PacketOptions {
  readonly side: Side
  /** Firewall mark, 0 for none. */
  readonly mark: number
}

export interface Scenario {
  /** Absolute path, or a name for one that is in no file. */
  readonly name: string
  readonly directives: readonly Directive[]
}

/** What can happen at one time, after pcap files have been taken apart: the unit that replay and oracle run. */
export type Event = {
  readonly line: number
  /** Milliseconds since the start. */ readonly atMs: number
} & (
  | { readonly kind: 'ipvsadm'; readonly args: readonly string[] }
  | { readonly kind: 'sysctl'; readonly key: string; readonly value: string }
  | PacketDirective
)

/**
 * How long before a scenario starts its director begins, in jiffies. Both begin at a multiple of this, to which
 * the kernel's timers round up (those that run for less than six hours), so that they round alike and what
 * IPVS does by itself every few seconds has always the same phase. A director that replays therefore starts
 * at -LEAD_JIFFIES and is brought to 0.
 */
export const LEAD_JIFFIES = 32_768

/** A scenario that cannot be read: `message` is `FILE:LINE:COLUMN: what is wrong`. */
export class ScenarioError extends Error {
  constructor(
    readonly file: string,
    readonly line: number,
    /** From 1. */
    readonly column: number,
    readonly problem: string,
  ) {
    super(`${file}:${line}:${column}: ${problem}`)
    this.name = 'ScenarioError'
  }
}
