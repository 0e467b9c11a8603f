import t from 'tap'
import {
  ethernetFrame,
  hex,
  icmpPacket,
  ipipPacket,
  packetDifferences,
  packetProblems,
  packetSummary,
  plainChecksum,
  samePacket,
  tcpPacket,
  udpPacket,
} from './packets.js'

t.test('a checksum known from the literature', async (t) => {
  // the example of RFC 1071, section 3: 0001 f203 f4f5 f6f7 sums to ddf2
  t.equal(plainChecksum(hex('0001 f203 f4f5 f6f7')), 0xffff - 0xddf2)
  t.equal(plainChecksum(hex('01')), 0xfeff, 'an odd last byte is padded with zero')
})

t.test('literal bytes', async (t) => {
  // a SYN of which tcpdump says that both checksums are correct
  t.strictSame(
    tcpPacket({ from: '10.0.0.1:1234', to: '192.0.2.1:80', flags: 'S', sequence: 1, window: 512 }),
    hex(`4500 0028 1234 4000 4006 5c9a 0a00 0001 c000 0201
         04d2 0050 0000 0001 0000 0000 5002 0200 dcbd 0000`),
  )
})

t.test('what is built is valid, what is broken is found', async (t) => {
  const tcp = tcpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2', flags: 'SA', payload: 'odd' })
  const udp = udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2' })
  const icmp = icmpPacket({ from: '10.0.0.1', to: '10.0.0.2', type: 3, code: 4, payload: udp })
  const ipip = ipipPacket({ source: '10.9.9.9', destination: '10.8.8.8' }, tcp)
  for (const packet of [tcp, udp, icmp, ipip]) t.strictSame(packetProblems(packet), [])
  const broken = Uint8Array.from(tcp)
  broken[42]! ^= 1
  t.strictSame(packetProblems(broken), ['TCP checksum'])
  broken[8]! ^= 1
  t.strictSame(packetProblems(broken), ['IP header checksum', 'TCP checksum'])
  t.strictSame(packetProblems(ipipPacket({ source: '1.1.1.1', destination: '2.2.2.2' }, broken)), [
    'inner packet: IP header checksum',
    'inner packet: TCP checksum',
  ])
  t.equal(
    packetSummary(ipip).split(' ttl')[0],
    '10.9.9.9 > 10.8.8.8 IPIP [10.0.0.1:1 > 10.0.0.2:2 TCP SA',
  )
})

t.test('differences are named by field', async (t) => {
  const a = udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2' })
  const b = udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2', ttl: 63 })
  t.equal(packetDifferences(b, a)[0], 'ttl: was 63, should be 64')
  samePacket(t, a, a)
  t.equal(ethernetFrame({ from: '02:00:00:00:00:01', to: '02:00:00:00:00:02' }, a).length, 14 + 32)
})
