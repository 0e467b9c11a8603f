import t from 'tap'
import * as icmp from '../../src/wire/icmp.js'
import * as ipv4 from '../../src/wire/ipv4.js'
import { icmpPacket, packetProblems, tcpPacket, udpPacket } from '../support/packets.js'
import { views } from './views.js'

const director = ipv4.parseAddress('10.0.0.254')!

/** The error that answers the packet. */
function answer(
  packet: Uint8Array,
  type: number,
  code: number,
  restBe = 0,
  mtu = 1500,
): Uint8Array {
  const { words, halfs, bytes } = views(packet, 272)
  const length = icmp.prependError(
    words,
    halfs,
    bytes,
    272,
    packet.length,
    type,
    code,
    restBe,
    director,
    0,
    mtu,
  )
  return bytes.slice(272 - icmp.ERROR_HEADER_BYTES, 272 - icmp.ERROR_HEADER_BYTES + length)
}

function mayAnswer(packet: Uint8Array): boolean {
  const { words, halfs, bytes } = views(packet, 4)
  return icmp.mayAnswer(words, halfs, bytes, 4)
}

t.test('port unreachable quotes the whole of a short packet', async (t) => {
  const packet = udpPacket({ from: '10.0.0.1:1234', to: '192.0.2.1:53', payload: 'hi!' })
  const error = answer(packet, icmp.IcmpType.destinationUnreachable, icmp.UnreachableCode.port)
  t.strictSame(packetProblems(error), [])
  t.equal(error.length, 28 + packet.length)
  t.strictSame([...error.slice(12, 20)], [10, 0, 0, 254, 10, 0, 0, 1])
  t.strictSame([...error.slice(20, 22)], [3, 3])
  t.equal(error[1], 0xc0, 'precedence internetwork control')
  t.equal(error[8], 64)
  t.strictSame(error.slice(28), packet)
})

t.test('fragmentation needed says the MTU and is 576 bytes at most', async (t) => {
  const packet = tcpPacket({
    from: '10.0.0.1:1234',
    to: '192.0.2.1:80',
    flags: 'A',
    payload: 'x'.repeat(1460),
  })
  const { destinationUnreachable } = icmp.IcmpType
  const error = answer(packet, destinationUnreachable, 4, ipv4.swap32(1480))
  t.strictSame(packetProblems(error), [])
  t.equal(error.length, 576)
  t.strictSame([...error.slice(24, 28)], [0, 0, 1480 >> 8, 1480 & 0xff])
  t.strictSame(error.slice(28), packet.slice(0, 548))
  t.equal(answer(packet, destinationUnreachable, 4, 0, 68).length, 68, 'a smaller MTU')
  t.equal(answer(packet, destinationUnreachable, 4, 0, 48).length, 0, 'no room for a quote')
})

t.test('an odd quote', async (t) => {
  const packet = udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2', payload: 'odd' })
  t.strictSame(packetProblems(answer(packet, icmp.IcmpType.timeExceeded, 0)), [])
})

t.test('what may be answered', async (t) => {
  const udp = (from: string, to: string): Uint8Array => udpPacket({ from, to })
  t.ok(mayAnswer(udp('10.0.0.1:1', '10.0.0.2:2')))
  t.notOk(mayAnswer(udp('10.0.0.1:1', '224.0.0.1:2')), 'multicast')
  t.notOk(mayAnswer(udp('10.0.0.1:1', '255.255.255.255:2')), 'broadcast')
  t.notOk(mayAnswer(udp('0.0.0.0:1', '10.0.0.2:2')), 'from nobody')
  t.notOk(mayAnswer(udp('127.0.0.1:1', '10.0.0.2:2')), 'from a loopback')
  const ping = { from: '10.0.0.1', to: '10.0.0.2', code: 0, payload: new Uint8Array(8) }
  t.ok(mayAnswer(icmpPacket({ ...ping, type: 8 })), 'an echo request')
  for (const type of [3, 4, 5, 11, 12, 40])
    t.notOk(mayAnswer(icmpPacket({ ...ping, type })), `ICMP type ${type}`)
  const later = udp('10.0.0.1:1', '10.0.0.2:2')
  later[7] = 1
  t.notOk(mayAnswer(later), 'a later fragment')
})
