/** SCTP services: the bytes are those that the kernel's IPVS (Linux 6.1) sent for the same packets. */
import t from 'tap'
import { hex, ipv4Packet, packetProblems, samePacket, sctpPacket } from '../support/packets.js'
import { Harness, VIP } from './harness.js'

const CLIENT = '198.51.100.7'
const SERVER = '10.0.0.2'
const DATA = 0
const INIT = 1
const INIT_ACK = 2
const ABORT = 6
const COOKIE_ECHO = 10
const COOKIE_ACK = 11

const service = { protocol: 'sctp', address: VIP, port: 80 } as const

function balancing(forwarding: 'masquerade' | 'tunnel' | 'direct-route', port = 8080): Harness {
  const h = new Harness()
  h.addService(service)
  h.addDestination(service, `${SERVER}:${port}`, { forwarding })
  return h
}

const fromClient = (
  type: number,
  value: ArrayLike<number> | string = [],
  more: object = {},
): Uint8Array =>
  sctpPacket({ from: `${CLIENT}:1024`, to: `${VIP}:80`, chunks: [[type, value]], ...more })
const fromServer = (type: number, value: ArrayLike<number> | string = []): Uint8Array =>
  sctpPacket({ from: `${SERVER}:8080`, to: `${CLIENT}:1024`, chunks: [[type, value]] })

t.test('an association through masquerading', async (t) => {
  const h = balancing('masquerade')
  const state = (): string | undefined => h.connections()[0]?.split(' ').slice(1, 3).join(' ')
  t.match(h.send(fromClient(DATA, 'x')), { verdict: 'decline', reason: 'no-connection' })

  const out = h.send(fromClient(INIT, new Uint8Array(16))).packet!
  t.strictSame(packetProblems(out), [])
  samePacket(
    t,
    out,
    sctpPacket({
      from: `${CLIENT}:1024`,
      to: `${SERVER}:8080`,
      ttl: 63,
      chunks: [[INIT, new Uint8Array(16)]],
    }),
  )
  t.equal(state(), '00:04 INIT1')
  const back = h.send(fromServer(INIT_ACK, new Uint8Array(16))).packet!
  samePacket(
    t,
    back,
    sctpPacket({
      from: `${VIP}:80`,
      to: `${CLIENT}:1024`,
      ttl: 63,
      chunks: [[INIT_ACK, new Uint8Array(16)]],
    }),
  )
  t.equal(state(), '01:01 C-SENT')
  h.send(fromClient(COOKIE_ECHO, 'cookie'))
  t.equal(state(), '01:01 C-REPLIED')
  h.send(fromServer(COOKIE_ACK))
  t.equal(state(), '15:00 ESTABLISHED')
  t.match(h.destination(service, `${SERVER}:8080`), { activeConnections: 1 })
  h.send(fromClient(ABORT))
  t.equal(state(), '01:01 CLOSED')
  t.match(h.destination(service, `${SERVER}:8080`), { activeConnections: 0 })
})

t.test(
  'the checksum is computed anew with another port, and left alone with the same',
  async (t) => {
    const bad = { checksum: [1, 2, 3, 4] }
    const other = balancing('masquerade')
    other.send(fromClient(INIT))
    const mended = other.send(fromClient(DATA, 'x', bad)).packet!
    t.strictSame(packetProblems(mended), [])
    const same = balancing('masquerade', 80)
    same.send(fromClient(INIT))
    const left = same.send(fromClient(DATA, 'x', bad)).packet!
    t.same(left.slice(28, 32), [1, 2, 3, 4])
  },
)

t.test('the bytes that the kernel sends', async (t) => {
  const h = balancing('masquerade')
  const out = h.send(
    sctpPacket({
      from: '10.1.0.2:1024',
      to: `${VIP}:80`,
      id: 0,
      dontFragment: false,
      chunks: [[INIT, new Uint8Array(16)]],
    }),
  )
  t.same(out.packet!.slice(20), hex('04001f9000000000f0c4d45c01000014' + '00'.repeat(16)))
})

t.test('packets cut short', async (t) => {
  const h = balancing('masquerade')
  const cut = (bytes: number): Uint8Array =>
    ipv4Packet(
      { source: CLIENT, destination: VIP, protocol: 132 },
      fromClient(INIT, 'xxxxxxxx').slice(20, 20 + bytes),
    )
  const truncated = { verdict: 'drop', reason: 'truncated-transport-header' } as const
  for (const bytes of [0, 3, 4, 11, 12, 15]) t.match(h.send(cut(bytes)), truncated, `${bytes}, new`)
  t.strictSame(h.connections(), [])
  t.match(h.send(cut(16)), { verdict: 'forward' })
  for (const bytes of [3, 4, 11]) t.match(h.send(cut(bytes)), truncated, `${bytes}, known`)
  for (const bytes of [12, 15]) t.match(h.send(cut(bytes)), { verdict: 'forward' }, `${bytes}`)
  const { inPackets } = h.service(service).counters
  t.equal(inPackets, 5, 'those with ports are counted')
})

t.test('direct routing sees one side', async (t) => {
  const h = balancing('direct-route')
  const state = (): string | undefined => h.connections()[0]?.split(' ')[2]
  samePacket(t, h.send(fromClient(INIT)).packet, fromClient(INIT, [], { ttl: 63 }))
  h.send(fromClient(COOKIE_ECHO))
  t.equal(state(), 'ESTABLISHED')
  const abort = { chunks: [[COOKIE_ECHO, 'x'], [ABORT]] }
  h.send(fromClient(0, [], abort))
  t.equal(state(), 'CLOSED', 'an ABORT behind a COOKIE-ECHO counts')
  h.addDestination(service, '10.0.0.3:8080', { forwarding: 'direct-route' })
  h.send(fromClient(INIT))
  h.advance(0.1)
  t.match(
    h.connections()[0],
    /INIT1 .* 10\.0\.0\.3:80/,
    'an INIT after the end is a new association',
  )
})

t.test('sloppy_sctp lets any chunk but ABORT begin', async (t) => {
  const h = balancing('tunnel')
  h.execute({ op: 'set-setting', name: 'sloppy_sctp', value: '1' })
  t.match(h.send(fromClient(ABORT)), { verdict: 'decline', reason: 'no-connection' })
  t.match(h.send(fromClient(DATA)), { verdict: 'forward' })
  t.match(h.connections()[0], /ESTABLISHED/)
})
