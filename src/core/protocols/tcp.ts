import { type Direction, parseTable, type ProtocolStates, seconds } from './protocol.js'

/**
 * IPVS's view of a TCP connection, that of somebody in the middle who may see one side only: states,
 * transitions and timeouts of Linux 6.1's net/netfilter/ipvs/ip_vs_proto_tcp.c.
 *
 * How a packet moves a connection (set_tcp_state there):
 *
 * 1. The direction is `effectiveDirection` of the packet's; a packet from the real server clears NO_OUTPUT.
 * 2. The next state is `transition(state, flags, direction)`. RST counts before SYN, SYN before FIN, FIN
 *    before ACK; a packet with none of them closes.
 * 3. If the state changes and the connection has a destination: a connection without INACTIVE that enters a
 *    state that is not active leaves the destination's active count for the inactive one and gets
 *    INACTIVE; one with INACTIVE that enters an active state goes back. (Connections begin with INACTIVE
 *    and inactive: state NONE.) If the new state is ESTABLISHED, the template that controls the connection
 *    becomes assured.
 * 4. The timeout becomes that of the new state, whether it changed or not.
 */

export const TcpState = {
  none: 0,
  established: 1,
  synSent: 2,
  synReceived: 3,
  finWait: 4,
  timeWait: 5,
  close: 6,
  closeWait: 7,
  lastAck: 8,
  listen: 9,
  synAck: 10,
} as const

const names = [
  'NONE',
  'ESTABLISHED',
  'SYN_SENT',
  'SYN_RECV',
  'FIN_WAIT',
  'TIME_WAIT',
  'CLOSE',
  'CLOSE_WAIT',
  'LAST_ACK',
  'LISTEN',
  'SYNACK',
]

/** Codes of the states in the tables below, in their order. */
const codes = ['no', 'es', 'ss', 'sr', 'fw', 'tw', 'cl', 'cw', 'la', 'li', 'sa']

/** Events, the lines of each table: SYN, FIN, ACK, RST. */
const EVENTS = 4

// Three tables each, as Direction counts them.
const ordinary = parseTable(
  codes,
  // from: no es ss sr fw tw cl cw la li sa
  `
  sr es es sr sr sr sr sr sr sr sr
  cl cw ss tw tw tw cl cw la li tw
  es es ss es fw tw cl cw cl li es
  cl cl cl sr cl cl cl cl la li sr

  ss es ss sr ss ss ss ss ss li sr
  tw fw ss tw fw tw cl tw la li tw
  es es ss es fw tw cl cw la es es
  cl cl ss cl cl tw cl cl cl cl cl

  sr es es sr sr sr sr sr sr sr sr
  cl fw ss tw fw tw cl cw la li tw
  es es ss es fw tw cl cw cl li es
  cl cl cl sr cl cl cl cl la li cl
  `,
)

/** With the secure_tcp defence on: ESTABLISHED takes a SYN and ACK of the real server first. */
const secured = parseTable(
  codes,
  // from: no es ss sr fw tw cl cw la li sa
  `
  sr es es sr sr sr sr sr sr sr sa
  cl cw ss tw tw tw cl cw la li sa
  es es ss sr fw tw cl cw cl li sa
  cl cl cl sr cl cl cl cl la li cl

  ss es ss sa ss ss ss ss ss li sa
  tw fw ss tw fw tw cl tw la li tw
  es es ss es fw tw cl cw la es es
  cl cl ss cl cl tw cl cl cl cl cl

  sa es es sr sa sa sa sa sa sa sa
  cl fw ss tw fw tw cl cw la li tw
  es es ss es fw tw cl cw cl li es
  cl cl cl sr cl cl cl cl la li cl
  `,
)

const SYN = 0x02
const FIN = 0x01
const RST = 0x04
const ACK = 0x10

/** The event that a packet with these flags is; -1 when it is none. */
function eventOf(flags: number): number {
  if ((flags & RST) !== 0) return 3
  if ((flags & SYN) !== 0) return 0
  if ((flags & FIN) !== 0) return 1
  if ((flags & ACK) !== 0) return 2
  return -1
}

/** Spreads a table so that the flags of a packet index it: [direction:2][flags:5][state:4]. */
function byFlags(table: Uint8Array): Uint8Array {
  const next = new Uint8Array(3 << 9)
  for (let direction = 0; direction < 3; direction++)
    for (let flags = 0; flags < 32; flags++)
      for (let state = 0; state < codes.length; state++) {
        const event = eventOf(flags)
        next[(direction << 9) | (flags << 4) | state] =
          event < 0 ? TcpState.close : table[(direction * EVENTS + event) * codes.length + state]!
      }
  return next
}

const ordinaryByFlags = byFlags(ordinary)
const securedByFlags = byFlags(secured)

const active = new Uint8Array(16)
active[TcpState.established] = 1
active[TcpState.synSent] = 1
active[TcpState.synReceived] = 1
active[TcpState.synAck] = 1

export class TcpProtocol implements ProtocolStates {
  readonly name = 'TCP'
  readonly timeouts = seconds(2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120)
  /** The table in use, see `transition`; always the same array, for the hit path's sake. */
  readonly next = Uint8Array.from(ordinaryByFlags)

  /** Selects the table of the secure_tcp defence. */
  setSecure(on: boolean): void {
    this.next.set(on ? securedByFlags : ordinaryByFlags)
  }

  /** @param flags the header's flags byte */
  transition(state: number, flags: number, direction: Direction): number {
    return this.next[(direction << 9) | ((flags & 0x1f) << 4) | state]!
  }

  isActive(state: number): boolean {
    return active[state] === 1
  }

  stateName(state: number): string {
    return names[state] ?? 'ERR!'
  }
}
