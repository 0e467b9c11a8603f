import { type Direction, parseTable, type ProtocolStates, seconds } from './protocol.js'

/**
 * IPVS's view of an SCTP association: states, transitions and timeouts of Linux 6.1's
 * net/netfilter/ipvs/ip_vs_proto_sctp.c. The states are those of the real server. Two are not of RFC 9260:
 * INIT1 holds an association only briefly until a second INIT, REJECTED likewise after an ABORT of one.
 *
 * The event of a packet is that of its first chunk, except that an ABORT behind a COOKIE-ECHO or COOKIE-ACK
 * counts. Directions, active counts (ESTABLISHED only) and the assured template are as told in tcp.ts; a
 * packet too short for a chunk changes nothing.
 */

export const SctpState = {
  none: 0,
  init1: 1,
  init: 2,
  cookieSent: 3,
  cookieReplied: 4,
  cookieWait: 5,
  cookie: 6,
  cookieEchoed: 7,
  established: 8,
  shutdownSent: 9,
  shutdownReceived: 10,
  shutdownAckSent: 11,
  rejected: 12,
  closed: 13,
} as const

const names = [
  'NONE',
  'INIT1',
  'INIT',
  'C-SENT',
  'C-REPLIED',
  'C-WAIT',
  'COOKIE',
  'C-ECHOED',
  'ESTABLISHED',
  'S-SENT',
  'S-RECEIVED',
  'S-ACK-SENT',
  'REJECTED',
  'CLOSED',
]

/** Codes of the states in the table below, in their order. */
const codes = ['no', 'i1', 'in', 'cs', 'cr', 'cw', 'co', 'ce', 'es', 'ss', 'sr', 'sa', 'rj', 'cl']

/**
 * Events, the lines of each table: DATA (and SACK, HEARTBEAT, ECN), INIT, INIT-ACK, COOKIE-ECHO,
 * COOKIE-ACK, SHUTDOWN, SHUTDOWN-ACK, SHUTDOWN-COMPLETE, ERROR, ABORT.
 */
const EVENTS = 10

// Three tables, as Direction counts them.
const next = parseTable(
  codes,
  // from: no i1 in cs cr cw co ce es ss sr sa rj cl
  `
  es i1 in cs cr cw co ce es ss sr sa rj cl
  i1 in in cs cr cw co ce es ss sr sa in in
  cw cw cw cs cr co co ce es ss sr sa rj cl
  cr in in cr cr cw co ce es ss sr sa rj cl
  es i1 in cs cr cw co es es ss sr sa rj cl
  sr i1 in cs cr cw co ce sr ss sr sa rj cl
  cl in in cs cr cw co ce es cl sr cl rj cl
  cl cl cl cs cr cw co ce es ss sr cl rj cl
  cl i1 in cs cr cw co cl es ss sr sa rj cl
  cl cl cl cl cl rj cl cl cl cl cl cl cl cl

  es i1 in cs cr cw co ce es ss sr sa rj cl
  cw cw cw cw cw cw cw cw es cw cw cw cw cw
  cs cs cs cs cr cw co ce es ss sr sa rj cl
  ce ce ce ce ce ce ce ce es ss sr sa rj cl
  es es es es es es es es es ss sr sa rj cl
  ss ss ss ss ss ss ss ss ss ss sr sa rj cl
  sa sa sa sa sa cw co ce es sa sa sa rj cl
  cl i1 in cs cr cw co ce es ss sr sa rj cl
  cl cl cl cl cl cw co ce es ss sr sa rj cl
  cl rj cl cl cl cl cl cl cl cl cl cl cl cl

  es i1 in cs cr es co ce es ss sr sa rj cl
  i1 in in in in in co ce es ss sr sa in in
  ce ce ce ce ce ce co ce es ss sr sa rj cl
  es es es es es es co ce es ss sr sa rj cl
  es i1 in es es cw es es es ss sr sa rj cl
  sr i1 in cs cr cw co ce sr ss sr sa rj cl
  cl in in cs cr cw co ce cl cl sr cl rj cl
  cl cl cl cl cl cw co ce es ss cl cl rj cl
  cl i1 in cs cr cw co ce es ss sr sa rj cl
  cl cl cl cl cl rj cl cl cl cl cl cl cl cl
  `,
)

/** Event of each chunk type from 0: DATA, INIT, INIT-ACK, SACK, HEARTBEAT and its ACK, ABORT, SHUTDOWN and its ACK, ERROR, COOKIE-ECHO, COOKIE-ACK, ECNE, CWR, SHUTDOWN-COMPLETE. */
const eventOfChunk = Uint8Array.of(0, 1, 2, 0, 0, 0, 9, 5, 6, 8, 3, 4, 0, 0, 7)

export class SctpProtocol implements ProtocolStates {
  readonly name = 'SCTP'
  readonly timeouts = seconds(2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61)

  /** @param chunkType of the chunk that counts; types that are not known are as DATA */
  transition(state: number, chunkType: number, direction: Direction): number {
    const event = chunkType < eventOfChunk.length ? eventOfChunk[chunkType]! : 0
    return next[(direction * EVENTS + event) * codes.length + state]!
  }

  isActive(state: number): boolean {
    return state === SctpState.established
  }

  stateName(state: number): string {
    return names[state] ?? 'ERR!'
  }
}
