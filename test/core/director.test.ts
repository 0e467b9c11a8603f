import t from 'tap'
import { IcmpType } from '../../src/wire/icmp.js'
import { HopState } from '../../src/port/neighbours.js'
import { icmpPacket, ipipPacket, samePacket, tcpPacket, udpPacket } from '../support/packets.js'
import { CLIENT_SIDE, Harness, SERVER_SIDE, tcpService, udpService, VIP } from './harness.js'

const CLIENT = '198.51.100.7'
const SERVER = '10.0.0.2'

t.test('masquerading', (t) => {
  t.test(
    'a request gets the address and port of its destination, and one hop less to live',
    (t) => {
      const h = new Harness()
      h.addService(tcpService(80))
      h.addDestination(tcpService(80), `${SERVER}:8080`)
      const syn = { from: `${CLIENT}:40000`, flags: 'S', ttl: 64, payload: 'odd' }
      const out = h.send(tcpPacket({ ...syn, to: `${VIP}:80` }))
      t.equal(out.verdict, 'forward')
      samePacket(t, out.packet, tcpPacket({ ...syn, to: `${SERVER}:8080`, ttl: 63 }))
      t.equal(out.hop, 2)
      t.end()
    },
  )

  t.test('a reply gets the virtual address and port back', (t) => {
    const h = new Harness()
    h.addService(tcpService(80))
    h.addDestination(tcpService(80), `${SERVER}:8080`)
    h.send(tcpPacket({ from: `${CLIENT}:40000`, to: `${VIP}:80`, flags: 'S' }))
    const reply = { to: `${CLIENT}:40000`, flags: 'SA', tcpOptions: [2, 4, 5, 180] }
    const out = h.send(tcpPacket({ ...reply, from: `${SERVER}:8080` }))
    samePacket(t, out.packet, tcpPacket({ ...reply, from: `${VIP}:80`, ttl: 63 }))
    t.equal(out.hop, 1)
    t.end()
  })

  t.test('UDP goes both ways, and a datagram without a checksum stays without', (t) => {
    const h = new Harness()
    h.addService(udpService(53))
    h.addDestination(udpService(53), `${SERVER}:5353`)
    for (const checksum of [undefined, 0]) {
      const fields = checksum === undefined ? {} : { checksum }
      const out = h.send(udpPacket({ from: `${CLIENT}:1`, to: `${VIP}:53`, ...fields }))
      const sent = udpPacket({ from: `${CLIENT}:1`, to: `${SERVER}:5353`, ttl: 63, ...fields })
      samePacket(t, out.packet, sent)
      const back = h.send(udpPacket({ from: `${SERVER}:5353`, to: `${CLIENT}:1`, ...fields }))
      const seen = udpPacket({ from: `${VIP}:53`, to: `${CLIENT}:1`, ttl: 63, ...fields })
      samePacket(t, back.packet, seen)
    }
    t.end()
  })
  t.end()
})

t.test('direct routing changes nothing but the TTL and the next hop', (t) => {
  const h = new Harness()
  h.addService(tcpService(80))
  h.addDestination(tcpService(80), SERVER, { forwarding: 'direct-route' })
  const syn = { from: `${CLIENT}:40000`, to: `${VIP}:80`, flags: 'S' }
  const out = h.send(tcpPacket(syn))
  samePacket(t, out.packet, tcpPacket({ ...syn, ttl: 63 }))
  t.equal(out.hop, 2)
  t.end()
})

t.test('tunneling puts an outer header before the packet, with its TOS, TTL and DF', (t) => {
  const h = new Harness()
  h.addService(tcpService(80))
  h.addDestination(tcpService(80), SERVER, { forwarding: 'tunnel' })
  const syn = { from: `${CLIENT}:40000`, to: `${VIP}:80`, flags: 'S', tos: 0x10 }
  const out = h.send(tcpPacket(syn))
  const outer = { source: SERVER_SIDE, destination: SERVER, ttl: 63, tos: 0x10 }
  samePacket(t, out.packet, ipipPacket({ ...outer, id: 0 }, tcpPacket({ ...syn, ttl: 63 })))
  const loose = { ...syn, flags: 'A', dontFragment: false }
  const second = h.send(tcpPacket(loose)).packet!
  const id = second[4]! * 256 + second[5]!
  samePacket(
    t,
    second,
    ipipPacket({ ...outer, id, dontFragment: false }, tcpPacket({ ...loose, ttl: 63 })),
  )
  t.end()
})

void icmpPacket
void IcmpType
void HopState
void CLIENT_SIDE
