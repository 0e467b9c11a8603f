import t from 'tap'
import {
  icmpPacket,
  ipipPacket,
  packetProblems,
  samePacket,
  tcpPacket,
  udpPacket,
} from '../support/packets.js'
import { Harness, SERVER_SIDE, tcpService, udpService, VIP } from './harness.js'

const CLIENT = '198.51.100.7'
const ROUTER = '203.0.113.5'
const SERVER = '10.0.0.2'

function connected(forwarding: 'masquerade' | 'direct-route' | 'tunnel' = 'masquerade'): Harness {
  const h = new Harness()
  h.addService(udpService(53))
  const port = forwarding === 'masquerade' ? 5353 : 53
  h.addDestination(udpService(53), `${SERVER}:${port}`, { forwarding })
  h.send(udpPacket({ from: `${CLIENT}:9`, to: `${VIP}:53` }))
  return h
}

/** What a real server quotes of the request it got, and what the client is to see of it. */
const got = { from: `${CLIENT}:9`, to: `${SERVER}:5353`, ttl: 62, payload: 'question' }
/** As many bytes as fit in the classic quote: the IP header and eight more. */
const brief = (packet: Uint8Array): Uint8Array => packet.slice(0, 28)
/** The quoted transport checksum is left as it was, as the kernel leaves it. */
function quoteOf(packet: Uint8Array, before: Uint8Array): Uint8Array {
  const quote = brief(packet)
  quote.set(before.subarray(26, 28), 26)
  return quote
}

t.test('a real server’s error reaches the client as one of the virtual address', (t) => {
  const h = connected()
  const error = { to: CLIENT, type: 3, code: 3 }
  const out = h.send(icmpPacket({ ...error, from: SERVER, payload: brief(udpPacket(got)) }))
  const quote = quoteOf(udpPacket({ ...got, to: `${VIP}:53` }), udpPacket(got))
  samePacket(t, out.packet, icmpPacket({ ...error, from: VIP, ttl: 63, payload: quote }))
  t.equal(out.hop, 1)
  t.match(h.service(udpService(53)).counters, { outPackets: 1, outBytes: 56 })
  t.end()
})

t.test('so does an error of a router between director and real server', (t) => {
  const h = connected()
  const error = { to: CLIENT, type: 11, code: 0 }
  const out = h.send(icmpPacket({ ...error, from: '10.0.0.99', payload: udpPacket(got) }))
  t.equal(out.verdict, 'forward')
  t.match(out.packet!.slice(12, 16), Uint8Array.from([192, 0, 2, 1]))
  t.end()
})

t.test('an error about a reply reaches the real server, about what it had sent', (t) => {
  const h = connected()
  const seen = { from: `${VIP}:53`, to: `${CLIENT}:9`, ttl: 60, payload: 'answer' }
  const error = { from: ROUTER, type: 3, code: 4, rest: 1300 }
  const out = h.send(icmpPacket({ ...error, to: VIP, payload: brief(udpPacket(seen)) }))
  const quote = quoteOf(udpPacket({ ...seen, from: `${SERVER}:5353` }), udpPacket(seen))
  samePacket(t, out.packet, icmpPacket({ ...error, to: SERVER, ttl: 63, payload: quote }))
  t.equal(out.hop, 2)
  t.match(h.service(udpService(53)).counters, { inPackets: 2 })
  t.end()
})

t.test('by direct routing and tunneling the error itself goes the way of the requests', (t) => {
  const seen = udpPacket({ from: `${VIP}:53`, to: `${CLIENT}:9` })
  const error = { from: ROUTER, to: VIP, type: 3, code: 1, payload: seen }
  const direct = connected('direct-route').send(icmpPacket(error))
  samePacket(t, direct.packet, icmpPacket({ ...error, ttl: 63 }))
  t.equal(direct.hop, 2)
  const through = connected('tunnel').send(icmpPacket(error))
  samePacket(
    t,
    through.packet,
    ipipPacket(
      { source: SERVER_SIDE, destination: SERVER, ttl: 63, id: 0 },
      icmpPacket({ ...error, ttl: 63 }),
    ),
  )
  t.end()
})

t.test(
  'a tunnel’s path that is too narrow is told to the client, less the tunnel’s header',
  (t) => {
    const h = connected('tunnel')
    const inner = udpPacket({ from: `${CLIENT}:9`, to: `${VIP}:53`, ttl: 63, payload: 'long' })
    const outer = ipipPacket({ source: SERVER_SIDE, destination: SERVER, ttl: 60 }, inner)
    const told = icmpPacket({
      from: ROUTER,
      to: SERVER_SIDE,
      type: 3,
      code: 4,
      rest: 1400,
      payload: outer,
    })
    const mtuOf = (packet: Uint8Array): number => packet[26]! * 256 + packet[27]!
    t.equal(mtuOf(h.send(told).packet!), 1480, 'of the route that the last packet took')
    h.send(udpPacket({ from: `${CLIENT}:9`, to: `${VIP}:53` }))
    const out = h.send(told)
    t.match(out, { verdict: 'forward', hop: 1 })
    t.strictSame(packetProblems(out.packet!), [])
    const id = out.packet![4]! * 256 + out.packet![5]!
    const error = { type: 3, code: 4, tos: 0xc0, dontFragment: false, id }
    samePacket(
      t,
      out.packet,
      icmpPacket({ ...error, from: VIP, to: CLIENT, rest: 1380, payload: inner }),
    )
    t.end()
  },
)

t.test('unrelated messages are declined and untouched', (t) => {
  const h = connected()
  const quoted = udpPacket(got)
  const messages: Uint8Array[] = [
    icmpPacket({ from: CLIENT, to: VIP, type: 8, payload: quoted }),
    icmpPacket({ from: CLIENT, to: VIP, type: 5, payload: quoted }),
    icmpPacket({ from: SERVER, to: CLIENT, type: 3, payload: quoted.slice(0, 19) }),
    icmpPacket({ from: SERVER, to: CLIENT, type: 3, payload: quoted.slice(0, 23) }),
    icmpPacket({
      from: SERVER,
      to: CLIENT,
      type: 3,
      payload: quoted.map((b, i) => (i === 0 ? 0x44 : b)),
    }),
    icmpPacket({
      from: SERVER,
      to: CLIENT,
      type: 3,
      payload: udpPacket({ ...got, to: '10.0.0.3:5353' }),
    }),
    icmpPacket({ from: SERVER, to: CLIENT, type: 3, payload: tcpPacket({ ...got, flags: 'A' }) }),
    icmpPacket({
      from: ROUTER,
      to: SERVER_SIDE,
      type: 3,
      payload: ipipPacket({ source: SERVER_SIDE, destination: SERVER }, quoted),
    }),
  ]
  for (const message of messages) {
    t.match(h.send(message), { verdict: 'decline', reason: 'icmp-unrelated' })
    samePacket(t, h.received(message.length), message)
  }
  t.end()
})

t.test('a related error with a wrong checksum is dropped', (t) => {
  const h = connected()
  const errors = [
    icmpPacket({ from: SERVER, to: CLIENT, type: 3, payload: udpPacket(got), checksum: 1 }),
    icmpPacket({
      from: ROUTER,
      to: VIP,
      type: 3,
      payload: udpPacket({ from: `${VIP}:53`, to: `${CLIENT}:9` }),
      checksum: 1,
    }),
  ]
  for (const error of errors)
    t.match(h.send(error), { verdict: 'drop', reason: 'bad-transport-checksum' })
  t.end()
})

t.test('an ICMP error is never answered with another', (t) => {
  const h = connected()
  const error = { from: SERVER, to: CLIENT, type: 3, code: 3, ttl: 1 }
  t.match(h.send(icmpPacket({ ...error, payload: udpPacket(got) })), {
    verdict: 'drop',
    reason: 'ttl-exceeded',
  })
  t.end()
})

t.test('TCP’s are treated alike', (t) => {
  const h = new Harness()
  h.addService(tcpService())
  h.addDestination(tcpService(), `${SERVER}:8080`)
  h.send(tcpPacket({ from: `${CLIENT}:9`, to: `${VIP}:80`, flags: 'S' }))
  const quoted = tcpPacket({ from: `${CLIENT}:9`, to: `${SERVER}:8080`, flags: 'S' })
  const out = h.send(icmpPacket({ from: SERVER, to: CLIENT, type: 3, code: 3, payload: quoted }))
  const packet = out.packet!
  t.equal(packet[28 + 22]! * 256 + packet[28 + 23]!, 80)
  t.strictSame(
    packetProblems(packet).filter((p) => !/quoted|inner/.test(p)),
    [],
  )
  t.end()
})

t.test('with schedule_icmp an error about FTP data of no connection is declined once', (t) => {
  const h = new Harness()
  h.execute({ op: 'set-setting', name: 'schedule_icmp', value: '1' })
  h.addService(tcpService(21))
  h.addDestination(tcpService(21), `${SERVER}:21`)
  const seen = tcpPacket({ from: `${VIP}:4000`, to: `${CLIENT}:9` })
  const out = h.send(icmpPacket({ from: ROUTER, to: VIP, type: 3, payload: brief(seen) }))
  t.match(out, { verdict: 'decline', reason: 'icmp-unrelated' })
  t.end()
})
