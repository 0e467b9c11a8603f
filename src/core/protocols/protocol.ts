import { JIFFIES_PER_SECOND } from '../../port/clock.js'
import { ConnectionFlag } from '../connection.js'

/**
 * Which column of a state table a packet reads. A director that sees only one side of a connection (direct
 * routing, tunneling) has tables of its own for what it sees.
 */
export const enum Direction {
  /** From the client. */
  input = 0,
  /** From the real server. */
  output = 1,
  /** From the client, of a connection whose other side has not been seen. */
  inputOnly = 2,
}

/**
 * The direction to use for a packet of a connection with these flags. (The kernel's connections that are not
 * masqueraded start with NO_OUTPUT; a packet from the real server, if one is ever seen, clears it: the
 * caller does that when it passes `output`.)
 *
 * @param direction input or output
 */
export function effectiveDirection(direction: Direction, flags: number): Direction {
  return direction === Direction.input && (flags & ConnectionFlag.noOutput) !== 0
    ? Direction.inputOnly
    : direction
}

/** The event of a packet that moves its connection to no other state: its header is not all there. */
export const NO_EVENT = -1

/** Names of a template's state: whether one of its connections was ever established. */
export const TemplateState = { none: 0, assured: 1 } as const

/** What every protocol's tables have. */
export interface ProtocolStates {
  /** As `ipvsadm -Lnc` shows it. */
  readonly name: string
  /** Timeout in jiffies of each state. */
  readonly timeouts: Int32Array
  /** Whether a connection in the state counts as active. */
  isActive(state: number): boolean
  stateName(state: number): string
}

/** Timeouts in jiffies. In memory of its own: V8 moves what is in its heap, so it cannot build the address into code. */
export function seconds(...values: number[]): Int32Array {
  const timeouts = new Int32Array(new ArrayBuffer(4 * values.length))
  timeouts.set(values.map((value) => value * JIFFIES_PER_SECOND))
  return timeouts
}

/**
 * Makes a state table from text: a line for each event, a word for each present state, and the word is the
 * code of the next state.
 *
 * @param codes of the states, in their order
 * @returns next state at [event * codes.length + state]
 */
export function parseTable(codes: readonly string[], text: string): Uint8Array {
  const words = text.trim().split(/\s+/)
  return Uint8Array.from(words, (word) => {
    const state = codes.indexOf(word)
    if (state < 0) throw new Error(`state table: there is no state ${word}`)
    return state
  })
}
