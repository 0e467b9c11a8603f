import t from 'tap'
import { IpvsError } from '../../../src/core/commands.js'
import { ConnectionFlag } from '../../../src/core/connection.js'
import { Protocols } from '../../../src/core/protocols/index.js'
import { Direction, effectiveDirection } from '../../../src/core/protocols/protocol.js'
import { SctpState } from '../../../src/core/protocols/sctp.js'
import { TcpProtocol, TcpState } from '../../../src/core/protocols/tcp.js'

const input = Direction.input
const output = Direction.output
const inputOnly = Direction.inputOnly
const [FIN, SYN, RST, PSH, ACK] = [1, 2, 4, 8, 16] as const

/** Names of the states that a connection goes through. */
function story(tcp: TcpProtocol, packets: [direction: Direction, flags: number][]): string[] {
  let state: number = TcpState.none
  return packets.map(([direction, flags]) => {
    state = tcp.transition(state, flags, direction)
    return tcp.stateName(state)
  })
}

t.test('TCP, masqueraded, from handshake to the end', async (t) => {
  const tcp = new TcpProtocol()
  t.strictSame(
    story(tcp, [
      [input, SYN],
      [output, SYN | ACK],
      [input, ACK],
      [input, PSH | ACK],
      [output, ACK],
      [input, FIN | ACK],
      [output, FIN | ACK],
      [input, ACK],
    ]),
    [
      'SYN_RECV',
      'SYN_RECV',
      'ESTABLISHED',
      'ESTABLISHED',
      'ESTABLISHED',
      'CLOSE_WAIT',
      'TIME_WAIT',
      'TIME_WAIT',
    ],
  )
})

t.test('TCP, the server closes first', async (t) => {
  t.strictSame(
    story(new TcpProtocol(), [
      [input, SYN],
      [output, SYN | ACK],
      [input, ACK],
      [output, FIN | ACK],
      [input, ACK],
      [input, FIN | ACK],
    ]),
    ['SYN_RECV', 'SYN_RECV', 'ESTABLISHED', 'FIN_WAIT', 'FIN_WAIT', 'TIME_WAIT'],
  )
})

t.test('TCP, only the client is seen', async (t) => {
  t.strictSame(
    story(new TcpProtocol(), [
      [inputOnly, SYN],
      [inputOnly, ACK],
      [inputOnly, FIN | ACK],
      [inputOnly, ACK],
    ]),
    ['SYN_RECV', 'ESTABLISHED', 'FIN_WAIT', 'FIN_WAIT'],
  )
})

t.test('TCP: resets, and packets with no flag that counts', async (t) => {
  const tcp = new TcpProtocol()
  const after = (state: number, flags: number, direction: Direction): string =>
    tcp.stateName(tcp.transition(state, flags, direction))
  t.equal(after(TcpState.established, RST | ACK, input), 'CLOSE')
  t.equal(after(TcpState.established, RST | SYN, output), 'CLOSE', 'RST before SYN')
  t.equal(after(TcpState.none, SYN | FIN, input), 'SYN_RECV', 'SYN before FIN')
  t.equal(
    after(TcpState.synReceived, RST, input),
    'SYN_RECV',
    'a client cannot reset what is not up',
  )
  t.equal(after(TcpState.established, PSH, input), 'CLOSE')
  t.equal(after(TcpState.established, 0, output), 'CLOSE')
  t.equal(after(TcpState.none, ACK, input), 'ESTABLISHED', 'taken up in the middle')
  t.equal(after(TcpState.established, ACK | 0xc0, input), 'ESTABLISHED', 'ECN bits do not matter')
})

t.test('TCP with the secure_tcp defence', async (t) => {
  const tcp = new TcpProtocol()
  tcp.setSecure(true)
  t.strictSame(
    story(tcp, [
      [input, SYN],
      [input, ACK],
      [output, SYN | ACK],
      [input, ACK],
      [output, ACK],
    ]),
    ['SYN_RECV', 'SYN_RECV', 'SYNACK', 'SYNACK', 'ESTABLISHED'],
  )
  tcp.setSecure(false)
  t.equal(tcp.transition(TcpState.synReceived, ACK, input), TcpState.established)
})

t.test('every transition leads to a state', async (t) => {
  const { tcp, sctp } = new Protocols()
  let wrong = 0
  for (const secure of [false, true]) {
    tcp.setSecure(secure)
    for (const direction of [input, output, inputOnly]) {
      for (let flags = 0; flags < 256; flags++)
        for (let state = 0; state < 11; state++)
          if (tcp.stateName(tcp.transition(state, flags, direction)) === 'ERR!') wrong++
      for (let chunk = 0; chunk < 256; chunk++)
        for (let state = 0; state < 14; state++)
          if (sctp.stateName(sctp.transition(state, chunk, direction)) === 'ERR!') wrong++
    }
  }
  t.equal(wrong, 0)
})

t.test('active states', async (t) => {
  const { tcp, udp, sctp } = new Protocols()
  const active = (protocol: { isActive(state: number): boolean }, states: object): string[] =>
    Object.entries(states)
      .filter(([, state]) => protocol.isActive(state as number))
      .map(([name]) => name)
  t.strictSame(active(tcp, TcpState), ['established', 'synSent', 'synReceived', 'synAck'])
  t.strictSame(active(sctp, SctpState), ['established'])
  t.notOk(udp.isActive())
})

t.test('SCTP from handshake to the end', async (t) => {
  const { sctp } = new Protocols()
  const [INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK, COOKIE_ECHO, COOKIE_ACK, COMPLETE] = [
    1, 2, 7, 8, 10, 11, 14,
  ] as const
  let state: number = SctpState.none
  const names: string[] = []
  for (const [direction, chunk] of [
    [input, INIT],
    [output, INIT_ACK],
    [input, COOKIE_ECHO],
    [output, COOKIE_ACK],
    [input, 0],
    [input, SHUTDOWN],
    [output, SHUTDOWN_ACK],
    [input, COMPLETE],
  ] as const) {
    state = sctp.transition(state, chunk, direction)
    names.push(sctp.stateName(state))
  }
  t.strictSame(names, [
    'INIT1',
    'C-SENT',
    'C-REPLIED',
    'ESTABLISHED',
    'ESTABLISHED',
    'S-RECEIVED',
    'S-ACK-SENT',
    'CLOSED',
  ])
  t.equal(sctp.transition(SctpState.established, 6, input), SctpState.closed, 'ABORT')
  t.equal(sctp.transition(SctpState.established, 200, input), SctpState.established, 'unknown')
})

t.test('the direction column', async (t) => {
  t.equal(effectiveDirection(input, ConnectionFlag.noOutput), inputOnly)
  t.equal(effectiveDirection(input, 0), input)
  t.equal(effectiveDirection(output, ConnectionFlag.noOutput), output)
})

t.test('timeouts are those of the kernel, and --set changes three of them', async (t) => {
  const protocols = new Protocols()
  const seconds = (table: Int32Array): number[] => [...table].map((jiffies) => jiffies / 100)
  t.strictSame(seconds(protocols.tcp.timeouts), [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120])
  t.strictSame(seconds(protocols.udp.timeouts), [300])
  t.strictSame(protocols.getTimeouts(), { tcp: 900, tcpFin: 120, udp: 300 })
  protocols.setTimeouts({ tcp: 30, tcpFin: 0, udp: 5 })
  t.strictSame(protocols.getTimeouts(), { tcp: 30, tcpFin: 120, udp: 5 })
  protocols.setTimeouts({ tcp: 0, tcpFin: 7, udp: 0 })
  t.strictSame(seconds(protocols.tcp.timeouts), [2, 30, 120, 60, 7, 120, 10, 60, 30, 120, 120])
  for (const bad of [-1, 21474837, 1.5, NaN])
    t.throws(() => protocols.setTimeouts({ tcp: 1, tcpFin: 1, udp: bad }), IpvsError, `${bad}`)
  t.strictSame(protocols.getTimeouts(), { tcp: 30, tcpFin: 7, udp: 5 }, 'refused whole')
  t.strictSame(new Protocols().getTimeouts().tcp, 900, 'each director has its own')
})

t.test('names of states', async (t) => {
  const protocols = new Protocols()
  t.equal(protocols.stateName(6, 0, TcpState.synReceived), 'SYN_RECV')
  t.equal(protocols.stateName(17, 0, 0), 'UDP')
  t.equal(protocols.stateName(132, 0, SctpState.cookieWait), 'C-WAIT')
  t.equal(protocols.stateName(6, ConnectionFlag.template, 0), 'NONE')
  t.equal(protocols.stateName(6, ConnectionFlag.template, 1), 'ASSURED')
  t.equal(protocols.stateName(0, ConnectionFlag.template, 0), 'NONE')
  t.equal(protocols.stateName(0, 0, 0), 'NONE')
  t.equal(protocols.stateName(50, 0, 0), 'ERR!')
  t.equal(protocols.stateName(6, 0, 99), 'ERR!')
  t.equal(protocols.statesOf(6), protocols.tcp)
  t.equal(protocols.statesOf(1), undefined)
})
