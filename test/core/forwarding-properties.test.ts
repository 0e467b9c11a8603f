/**
 * Properties of forwarding, for random packets and whatever order: what arrives sound leaves sound, with
 * nothing changed but what the method says. Checksums are verified by the plain implementation of
 * test/support/packets.ts, never by the director's own.
 */
import fc from '../support/properties.js'
import t from 'tap'
import {
  icmpPacket,
  packetDifferences,
  packetProblems,
  packetSummary,
  tcpPacket,
  udpPacket,
} from '../support/packets.js'
import { Harness, tcpService, udpService, VIP } from './harness.js'

const SERVER = '10.0.0.2'

const client = fc
  .tuple(fc.integer({ min: 2, max: 254 }), fc.integer({ min: 1, max: 65535 }))
  // Packets from port 20 belong to FTP and are not scheduled.
  .filter(([, port]) => port !== 20)
  .map(([host, port]) => `198.51.100.${host}:${port}`)

const common = fc.record({
  tos: fc.nat(255),
  id: fc.nat(65535),
  dontFragment: fc.boolean(),
  ttl: fc.integer({ min: 2, max: 255 }),
  ipOptions: fc.constantFrom([], [1, 1, 1, 1], [1, 1, 1, 0]),
  payload: fc.uint8Array({ maxLength: 64 }),
})

const tcpFields = fc.record({
  sequence: fc.integer({ min: 0, max: 0xffffffff }),
  acknowledgement: fc.integer({ min: 0, max: 0xffffffff }),
  window: fc.nat(65535),
  tcpOptions: fc.constantFrom([], [2, 4, 5, 180], [1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7]),
})

/** One of the two protocols: what builds its packets, with the ports of the service and of the server. */
const load = fc.record({
  isTcp: fc.boolean(),
  withoutChecksum: fc.boolean(),
  client,
  serverPort: fc.integer({ min: 1, max: 65535 }),
  request: common,
  reply: common,
  tcp: tcpFields,
})
type LoadOf<T> = T extends fc.Arbitrary<infer U> ? U : never
type Load = LoadOf<typeof load>

function build(
  { isTcp, withoutChecksum, tcp }: Load,
  fields: Load['request'],
  from: string,
  to: string,
  flags: string,
): Uint8Array {
  if (isTcp) return tcpPacket({ ...fields, ...tcp, from, to, flags })
  return udpPacket({ ...fields, from, to, ...(withoutChecksum ? { checksum: 0 } : {}) })
}

function world(
  { isTcp, serverPort }: Load,
  forwarding: 'masquerade' | 'direct-route' | 'tunnel',
): { h: Harness; vip: string; server: string } {
  const h = new Harness()
  const servicePort = isTcp ? 80 : 53
  const service = isTcp ? tcpService(servicePort) : udpService(servicePort)
  h.addService(service)
  const port = forwarding === 'masquerade' ? serverPort : servicePort
  h.addDestination(service, `${SERVER}:${port}`, { forwarding })
  return { h, vip: `${VIP}:${servicePort}`, server: `${SERVER}:${port}` }
}

/** Fails with what differs between a packet that was sent and what it should be. */
function same(sent: Uint8Array | undefined, expected: Uint8Array): void {
  if (!sent) throw new Error(`nothing sent instead of ${packetSummary(expected)}`)
  const problems = [...packetProblems(sent), ...packetDifferences(sent, expected)]
  if (problems.length > 0) throw new Error(problems.join('; '))
}

const afterHop = (fields: Load['request']): Load['request'] => ({ ...fields, ttl: fields.ttl - 1 })

t.test('masquerading there and back gives what the plain builder builds', async () => {
  fc.assert(
    fc.property(load, (load) => {
      const { h, vip, server } = world(load, 'masquerade')
      const request = h.send(build(load, load.request, load.client, vip, 'S'))
      // A datagram without a checksum gets one.
      const whole = { ...load, withoutChecksum: false }
      same(request.packet, build(whole, afterHop(load.request), load.client, server, 'S'))
      const reply = h.send(build(load, load.reply, server, load.client, 'SA'))
      same(reply.packet, build(whole, afterHop(load.reply), vip, load.client, 'SA'))
    }),
    { numRuns: 1000 },
  )
})

t.test('direct routing takes one from the TTL, a tunnel wraps that', async () => {
  fc.assert(
    fc.property(load, fc.boolean(), (load, isTunnel) => {
      const { h, vip } = world(load, isTunnel ? 'tunnel' : 'direct-route')
      const out = h.send(build(load, load.request, load.client, vip, 'S')).packet
      const expected = build(load, afterHop(load.request), load.client, vip, 'S')
      if (!out || !isTunnel) return same(out, expected)
      const problems = packetProblems(out)
      if (problems.length > 0) throw new Error(problems.join('; '))
      same(out.slice(20), expected)
    }),
    { numRuns: 1000 },
  )
})

t.test('a damaged packet is forwarded as damaged as it came, not repaired', async () => {
  fc.assert(
    fc.property(load, fc.nat(), fc.integer({ min: 1, max: 255 }), (load, at, change) => {
      fc.pre(load.isTcp || !load.withoutChecksum)
      const { h, vip, server } = world(load, 'masquerade')
      h.send(build(load, { ...load.request, payload: new Uint8Array(4) }, load.client, vip, 'S'))
      const packet = build(load, load.request, load.client, vip, 'A')
      const payloadBytes = load.request.payload.length
      fc.pre(payloadBytes > 0)
      packet[packet.length - 1 - (at % payloadBytes)]! ^= change
      const out = h.send(packet).packet!
      const expected = load.isTcp ? 'TCP checksum' : 'UDP checksum'
      const problems = packetProblems(out)
      if (problems.join() !== expected) throw new Error(`problems: ${problems.join() || 'none'}`)
      if (packetSummary(out).split(' ')[2] !== server) throw new Error(packetSummary(out))
    }),
    { numRuns: 500 },
  )
})

t.test('an ICMP error about a masqueraded request is about what the client sent', async () => {
  fc.assert(
    fc.property(load, fc.constantFrom(3, 11), fc.nat(3), fc.nat(64), (load, type, code, more) => {
      const { h, vip, server } = world(load, 'masquerade')
      const sent = build(load, load.request, load.client, vip, 'S')
      const passed = h.send(sent).packet!
      const quoted = Math.min(passed.length, (sent[0]! & 15) * 4 + 8 + more)
      const error = { to: load.client.split(':')[0]!, type, code }
      const out = h.send(
        icmpPacket({ ...error, from: SERVER, payload: passed.slice(0, quoted) }),
      ).packet
      if (!out) throw new Error(`nothing sent about ${server}`)
      const problems = packetProblems(out)
      if (problems.length > 0) throw new Error(problems.join('; '))
      const inner = out.slice(28)
      // The client's own packet up to the ports; its checksum was the server's side's and is not known to be right.
      const headerBytes = (sent[0]! & 15) * 4
      const expected = Uint8Array.from(build(load, afterHop(load.request), load.client, vip, 'S'))
      const shown = (bytes: Uint8Array): string =>
        Buffer.from(bytes.slice(0, headerBytes + 4)).toString('hex')
      if (shown(inner) !== shown(expected))
        throw new Error(`quotes ${shown(inner)} instead of ${shown(expected)}`)
      if (packetSummary(out).split(' ')[0] !== VIP) throw new Error(packetSummary(out))
    }),
    { numRuns: 500 },
  )
})
