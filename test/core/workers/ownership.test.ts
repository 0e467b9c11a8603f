// Whose packet it is follows from the packet alone, and is the same for both directions of a connection.
import fc from '../../support/properties.js'
import t from 'tap'
import { Director } from '../../../src/core/director.js'
import { CommonState } from '../../../src/core/workers/common-state.js'
import { FramePool, IP_HEADROOM } from '../../../src/port/frame-pool.js'
import { SeededRandom } from '../../../src/port/random.js'
import {
  icmpPacket,
  icmpv6Packet,
  ipv4Packet,
  tcpPacket,
  udpPacket,
} from '../../support/packets.js'
import { destinationOptions, serviceOptions, TestNeighbours, VIP } from '../harness.js'

const VIP6 = '2001:db8::1'

function directorOf(workers: number, self = 0) {
  const pool = new FramePool(new ArrayBuffer(4096 * 2), 4096, 2)
  const director = new Director({
    pool,
    neighbours: new TestNeighbours(),
    random: new SeededRandom(1),
    table: { maxConnections: 64, seed: 99 },
    crew: {
      self,
      workers,
      clientPrefixLength: 32,
      common: new SharedArrayBuffer(CommonState.bytesFor(1024)),
    },
  })
  for (const [address, server] of [
    [VIP, '10.0.0.1'],
    [VIP6, 'fd00::1'],
  ] as const) {
    const service = { protocol: 'udp', address, port: 53 } as const
    director.execute({
      op: 'add-service',
      service,
      options: serviceOptions({
        persistentPrefixLength: address === VIP ? 32 : 128,
      }),
    })
    director.execute({
      op: 'add-destination',
      service,
      destination: { address: server, port: 53 },
      options: destinationOptions(),
    })
  }
  const ownerOf = (packet: Uint8Array): number => {
    pool.bytes.fill(0)
    pool.bytes.set(packet, IP_HEADROOM)
    return director.ownerOf(IP_HEADROOM, packet.length, 0)
  }
  return { director, ownerOf }
}

const workersCount = fc.integer({ min: 2, max: 17 })
const client4 = fc
  .tuple(fc.integer({ min: 1, max: 223 }), fc.nat(255), fc.nat(255), fc.nat(255))
  .map((numbers) => numbers.join('.'))
  .filter((address) => address !== VIP)
const client6 = fc
  .array(fc.nat(0xffff), { minLength: 7, maxLength: 7 })
  .map((parts) => ['2400', ...parts.map((part) => (part | 1).toString(16))].join(':'))
const port = fc.integer({ min: 1, max: 65535 })

t.test('requests, replies, fragments and ICMP errors of a client have one owner', async () => {
  fc.assert(
    fc.property(workersCount, client4, port, port, (workers, client, one, another) => {
      const { ownerOf } = directorOf(workers)
      const request = udpPacket({ from: `${client}:${one}`, to: `${VIP}:53` })
      const owner = ownerOf(request)
      if (owner < 0 || owner >= workers) throw new Error(`owner ${owner}`)
      const toServer = udpPacket({ from: `${client}:${one}`, to: '10.0.0.1:53' })
      const reply = udpPacket({ from: '10.0.0.1:53', to: `${client}:${one}` })
      const toClient = udpPacket({ from: `${VIP}:53`, to: `${client}:${one}` })
      const piece = (fragmentOffset: number): Uint8Array =>
        ipv4Packet(
          { source: client, destination: VIP, protocol: 17, fragmentOffset, moreFragments: true },
          request.subarray(20),
        )
      for (const packet of [
        tcpPacket({ from: `${client}:${another}`, to: `${VIP}:80` }),
        reply,
        piece(0),
        piece(3),
        icmpPacket({ from: '10.0.0.1', to: client, type: 3, code: 3, payload: toServer }),
        icmpPacket({ from: client, to: VIP, type: 3, code: 3, payload: toClient }),
        icmpPacket({ from: '203.0.113.1', to: VIP, type: 11, payload: toClient }),
      ])
        if (ownerOf(packet) !== owner) throw new Error(Buffer.from(packet).toString('hex'))
    }),
  )
})

t.test('the same with IPv6', async () => {
  fc.assert(
    fc.property(workersCount, client6, port, (workers, client, port) => {
      const { ownerOf } = directorOf(workers)
      const owner = ownerOf(udpPacket({ from: `[${client}]:${port}`, to: `[${VIP6}]:53` }))
      const toServer = udpPacket({ from: `[${client}]:${port}`, to: '[fd00::1]:53' })
      const toClient = udpPacket({ from: `[${VIP6}]:53`, to: `[${client}]:${port}` })
      for (const packet of [
        udpPacket({ from: '[fd00::1]:53', to: `[${client}]:${port}` }),
        icmpv6Packet({ from: 'fd00::1', to: client, type: 1, code: 4, payload: toServer }),
        icmpv6Packet({ from: client, to: VIP6, type: 1, code: 4, payload: toClient }),
      ])
        if (ownerOf(packet) !== owner) throw new Error(Buffer.from(packet).toString('hex'))
    }),
  )
})

t.test('fragments of what is marked by its port belong to its owner', async (t) => {
  const { director, ownerOf } = directorOf(13)
  const rule = { protocol: 'udp', destination: '203.0.113.0/24', ports: [53, 53], mark: 5 } as const
  director.execute({ op: 'set-marks', rules: [{ ...rule, ports: [53, 53] }] })
  const service = { fwmark: 5, family: 4 } as const
  director.execute({ op: 'add-service', service, options: serviceOptions() })
  director.execute({
    op: 'add-destination',
    service,
    destination: { address: '10.0.0.9', port: 53 },
    options: destinationOptions(),
  })
  for (let n = 1; n < 20; n++) {
    const ends = { source: `198.51.100.${n}`, destination: '203.0.113.7', protocol: 17 }
    const whole = udpPacket({ from: `198.51.100.${n}:9`, to: '203.0.113.7:53' })
    const owner = ownerOf(whole)
    t.equal(ownerOf(udpPacket({ from: '10.0.0.9:53', to: `198.51.100.${n}:9` })), owner)
    for (const fragmentOffset of [0, 1])
      t.equal(
        ownerOf(ipv4Packet({ ...ends, fragmentOffset, moreFragments: true }, whole.subarray(20))),
        owner,
      )
  }
})

t.test('all directors of a crew agree, and bytes of any kind have an owner', async () => {
  const crew = [0, 1, 2].map((self) => directorOf(3, self))
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 200 }), fc.boolean(), (bytes, isIpv4) => {
      if (bytes.length > 0) bytes[0] = isIpv4 ? 0x45 : 0x60
      const owners = crew.map(({ ownerOf }) => ownerOf(bytes))
      for (const owner of owners) if (!(owner >= 0 && owner < 3)) throw new Error(`owner ${owner}`)
      if (bytes.length >= 40 && new Set(owners).size !== 1) throw new Error(`owners ${owners}`)
    }),
  )
})

t.test('clients are spread evenly', async (t) => {
  const { ownerOf } = directorOf(4)
  const counts = [0, 0, 0, 0]
  for (let n = 0; n < 4096; n++)
    counts[ownerOf(udpPacket({ from: `198.51.${n >> 8}.${n & 255}:1`, to: `${VIP}:53` }))]!++
  for (const count of counts) t.ok(count > 850 && count < 1200, `${count} of 4096`)
})

t.test('an address is virtual as long as a service has it', async (t) => {
  const { director, ownerOf } = directorOf(7)
  const service = { protocol: 'tcp', address: VIP, port: 80 } as const
  const packet = udpPacket({ from: '198.51.100.77:1', to: `${VIP}:53` })
  const reply = udpPacket({ from: '10.0.0.1:53', to: '198.51.100.77:1' })
  director.execute({ op: 'add-service', service, options: serviceOptions() })
  director.execute({ op: 'delete-service', service })
  t.equal(ownerOf(packet), ownerOf(reply))
  // 500 more addresses, and gone again: the set grows and forgets.
  for (const op of ['add-service', 'delete-service'] as const)
    for (let n = 0; n < 500; n++) {
      const service = { protocol: 'tcp', address: `203.0.${n >> 8}.${n & 255}`, port: 80 } as const
      director.execute({ op, service, options: serviceOptions() })
      if (n % 100 === 0) t.equal(ownerOf(packet), ownerOf(reply))
    }
})
