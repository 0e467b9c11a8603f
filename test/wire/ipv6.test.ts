import fc from '../support/properties.js'
import t from 'tap'
import { Reason } from '../../src/core/verdict.js'
import { delta16, deltaAddressIpv6, update, updateUdp } from '../../src/wire/checksum.js'
import * as icmpv6 from '../../src/wire/icmpv6.js'
import { swap32 } from '../../src/wire/ipv4.js'
import * as ipv6 from '../../src/wire/ipv6.js'
import {
  hex,
  icmpv6Packet,
  IpProtocol,
  packetProblems,
  samePacket,
  tcpPacket,
  transportChecksum,
  udpPacket,
} from '../support/packets.js'
import {
  addressBytesIpv6,
  addressWordsIpv6,
  fragmentHeader,
  ipv6Packet,
} from '../support/packets-ipv6.js'
import { views } from './views.js'

// a SYN from fd01::2 port 1234 to fd00::1 port 80, hop limit 64
const syn = hex(`6000 0000 0014 0640
                 fd01 0000 0000 0000 0000 0000 0000 0002
                 fd00 0000 0000 0000 0000 0000 0000 0001
                 04d2 0050 0000 0000 0000 0000 5002 ffff b0bb 0000`)

t.test('builder and literal bytes agree', async (t) => {
  const built = tcpPacket({
    from: '[fd01::2]:1234',
    to: '[fd00::1]:80',
    flags: 'S',
    sequence: 0,
    window: 65535,
  })
  t.strictSame(packetProblems(syn), [])
  samePacket(t, built, syn)
})

t.test('validation', async (t) => {
  const check = (data: Uint8Array, available = data.length): number =>
    ipv6.validate(views(data, 272).bytes, 272, available)
  t.equal(ipv6.Malformed.truncated, Reason['truncated-ip-header'])
  t.equal(ipv6.Malformed.version, Reason['bad-ip-version'])
  t.equal(ipv6.Malformed.totalLength, Reason['bad-total-length'])
  t.equal(check(syn), ipv6.Malformed.none)
  t.equal(check(Uint8Array.of(...syn, 0, 0)), ipv6.Malformed.none, 'padded')
  t.equal(check(syn, 0), ipv6.Malformed.truncated)
  t.equal(check(syn, 39), ipv6.Malformed.truncated)
  t.equal(check(syn, 59), ipv6.Malformed.totalLength)
  t.equal(check(Uint8Array.of(0x45, ...syn.slice(1))), ipv6.Malformed.version)
})

t.test('header fields are written and read', async (t) => {
  const memory = new ArrayBuffer(80)
  const words = new Int32Array(memory)
  const bytes = new Uint8Array(memory)
  const from = addressWordsIpv6('fd01::2')
  const to = addressWordsIpv6('fd00:1:2:3:4:5:6:7')
  ipv6.writeHeader(words, 4, 0xa5, 1500, 41, 63, from, 0, to, 0)
  t.strictSame(
    bytes.slice(4, 44),
    hex(`6a50 0000 05b4 293f fd01 0000 0000 0000 0000 0000 0000 0002
         fd00 0001 0002 0003 0004 0005 0006 0007`),
  )
  t.equal(ipv6.trafficClass(bytes, 4), 0xa5)
  t.equal(ipv6.totalLength(bytes, 4), 1500)
  t.equal(ipv6.hopLimit(bytes, 4), 63)
  t.ok(ipv6.isSameAddress(words, ipv6.sourceAt(4), from, 0))
  t.ok(ipv6.isSameAddress(words, ipv6.destinationAt(4), to, 0))
  ipv6.writeTotalLength(bytes, 4, 1280)
  t.equal(ipv6.totalLength(bytes, 4), 1280)
})

t.test('chains of extension headers', async (t) => {
  const chain = new ipv6.HeaderChain()
  const walk = (
    extensions: readonly (readonly [number, ArrayLike<number>])[],
    protocol: number,
    payload = 8,
    cut = 0,
  ): unknown[] => {
    const packet = ipv6Packet(
      { source: 'fd01::2', destination: 'fd00::1', protocol, extensions },
      new Uint8Array(payload),
    )
    const { bytes } = views(packet, 4)
    chain.walk(bytes, 4, 4 + packet.length - cut)
    return [chain.protocol, chain.transport - 4, chain.fragmentOffset, chain.isFragment]
  }
  const options = [0, ...new Uint8Array(6)]
  const longOptions = [1, ...new Uint8Array(14)]
  const authentication = [4, ...new Uint8Array(22)]
  t.strictSame(walk([], 6), [6, 40, 0, false])
  t.strictSame(walk([[0, options]], 17), [17, 48, 0, false], 'hop-by-hop options')
  t.strictSame(
    walk(
      [
        [60, longOptions],
        [43, options],
        [0, options],
      ],
      6,
    ),
    [6, 72, 0, false],
    'any order',
  )
  t.strictSame(walk([[51, authentication]], 6), [6, 64, 0, false], 'AH counts in fours')
  t.strictSame(walk([], 59), [59, 40, 0, false], 'no next header')
  t.strictSame(walk([], 50), [50, 40, 0, false], 'ESP is a protocol')
  t.strictSame(walk([fragmentHeader(0, true, 7)], 17), [17, 48, 0, true], 'a first fragment')
  t.strictSame(walk([fragmentHeader(1448, true, 7)], 17), [17, 0, 1448, true], 'a later one')
  t.strictSame(walk([fragmentHeader(1448, false, 7)], 59), [59, 0, 1448, true])
  t.strictSame(
    walk([fragmentHeader(1448, false, 7), [60, options]], 17),
    [-1, 0, 0, true],
    'of which nobody knows the protocol',
  )
  t.strictSame(walk([[0, options]], 17, 0, 7), [-1, 0, 0, false], 'cut off')
  t.strictSame(walk([[0, options]], 17, 0, 0), [17, 48, 0, false], 'nothing behind')
  t.strictSame(walk([[0, [9]]], 17, 8), [17, 120, 0, false], 'longer than the packet')
})

t.test('addresses as text', async (t) => {
  const same = ['::', '::1', '::2', 'fd00::1', 'fd00::', '1:2:3:4:5:6:7:8', '1:0:0:2::3']
  const more = ['::ffff:1.2.3.4', '::1.2.3.4', '2001:db8:0:1:1:1:1:1', '1::2:0:0:3:4', '0:1::']
  for (const text of [...same, ...more]) {
    const words = ipv6.parseAddress(text)
    t.ok(words, text)
    t.equal(words && ipv6.formatAddress(words), text)
  }
  t.equal(ipv6.formatAddress(ipv6.parseAddress('2001:DB8:0:0::C')!), '2001:db8::c')
  t.equal(ipv6.formatAddress(ipv6.parseAddress('1:2:3:4:5:6:1.2.3.4')!), '1:2:3:4:5:6:102:304')
  t.equal(ipv6.formatAddress(ipv6.parseAddress('64:ff9b::192.0.2.1')!), '64:ff9b::c000:201')
  t.strictSame(ipv6.parseAddress('fd00:1:2:3::9'), addressWordsIpv6('fd00:1:2:3::9'))
  const wrong = ['', ':', ':::', '1', '1::2::3', '1:2:3:4:5:6:7:8:9', '::12345', 'g::', '1:', ':1']
  const wrongToo = [
    '::1%lo',
    '::1.2.3',
    '::256.1.1.1',
    '::01.1.1.1',
    '1:2:3:4:5:6:7::8',
    '10.0.0.1',
  ]
  for (const text of [...wrong, ...wrongToo, '1:2:3:4:5:6:7:1.2.3.4', '::1 ', ':1::'])
    t.equal(ipv6.parseAddress(text), undefined, text)
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 4, maxLength: 4 }), (words) => {
      const address = Int32Array.from(words, (word) => (word % 3 === 0 ? 0 : word))
      const again = ipv6.parseAddress(ipv6.formatAddress(address))
      return again !== undefined && ipv6.isSameAddress(again, 0, address, 0)
    }),
  )
})

t.test('prefixes and kinds of addresses', async (t) => {
  const prefix = (text: string): unknown => {
    const parsed = ipv6.parsePrefix(text)
    return parsed && `${ipv6.formatAddress(parsed.words)}/${parsed.prefixLength}`
  }
  t.equal(prefix('fd00:1:2:3:ffff::1/68'), 'fd00:1:2:3:f000::/68')
  t.equal(prefix('fd00::1'), 'fd00::1/128')
  t.equal(prefix('ffff::/0'), '::/0')
  for (const text of ['fd00::/129', 'fd00::/', 'fd00::/01', '10.0.0.0/8', 'fd00::/-1'])
    t.equal(ipv6.parsePrefix(text), undefined, text)
  const kinds = (text: string): string => {
    const words = ipv6.parseAddress(text)!
    const { isUnicast, isMulticast, isLoopback, isLinkLocal, isUnspecified } = ipv6
    return [isUnicast, isMulticast, isLoopback, isLinkLocal, isUnspecified]
      .filter((is) => is(words, 0))
      .map((is) => is.name.slice(2))
      .join(' ')
  }
  t.equal(kinds('fd00::1'), 'Unicast')
  t.equal(kinds('::1'), 'Unicast Loopback')
  t.equal(kinds('::2'), 'Unicast')
  t.equal(kinds('::'), 'Unspecified')
  t.equal(kinds('ff02::1'), 'Multicast')
  t.equal(kinds('fe80::1'), 'Unicast LinkLocal')
  t.equal(kinds('febf::1'), 'Unicast LinkLocal')
  t.equal(kinds('fec0::1'), 'Unicast')
  t.equal(kinds('::ffff:1.2.3.4'), '')
})

t.test('a checksum updated for new addresses and ports is the full one', async (t) => {
  const address = fc.uint8Array({ minLength: 16, maxLength: 16 })
  const port = fc.integer({ min: 0, max: 0xffff })
  const text = (bytes: Uint8Array): string =>
    Array.from({ length: 8 }, (_, i) =>
      (bytes[2 * i]! * 256 + bytes[2 * i + 1]!).toString(16),
    ).join(':')
  fc.assert(
    fc.property(
      address,
      address,
      address,
      port,
      port,
      fc.constantFrom('tcp' as const, 'udp' as const),
      fc.uint8Array({ maxLength: 40 }),
      (client, virtual, server, virtualPort, serverPort, protocol, payload) => {
        const build = protocol === 'tcp' ? tcpPacket : udpPacket
        const to = (bytes: Uint8Array, port: number): Uint8Array =>
          build({ from: `[${text(client)}]:1024`, to: `[${text(bytes)}]:${port}`, payload })
        const sent = to(virtual, virtualPort)
        const { words, halfs, bytes } = views(sent, 4)
        const at = (4 + 40 + (protocol === 'tcp' ? 16 : 6)) >> 1
        const portAt = (4 + 40 + 2) >> 1
        const replacement = new Int32Array(server.slice().buffer)
        const newPort = ((serverPort & 255) << 8) | (serverPort >> 8)
        const delta =
          deltaAddressIpv6(words, ipv6.destinationAt(4), replacement, 0) +
          delta16(halfs[portAt]!, newPort)
        halfs[at] = protocol === 'tcp' ? update(halfs[at]!, delta) : updateUdp(halfs[at]!, delta)
        ipv6.copyAddress(replacement, 0, words, ipv6.destinationAt(4))
        halfs[portAt] = newPort
        const rewritten = bytes.slice(4, 4 + sent.length)
        return Buffer.compare(rewritten, to(server, serverPort)) === 0
      },
    ),
    { numRuns: 500 },
  )
  t.pass('500 of each shape')
})

t.test('ICMPv6 errors', async (t) => {
  const packet = udpPacket({
    from: '[fd01::2]:1234',
    to: '[fd00::1]:53',
    payload: 'x'.repeat(1400),
  })
  const answer = (data: Uint8Array, type: number, code: number, restBe: number): Uint8Array => {
    const { words, halfs, bytes } = views(data, 272)
    const source = addressWordsIpv6('fd00::1')
    const length = icmpv6.prependError(
      words,
      halfs,
      bytes,
      272,
      data.length,
      type,
      code,
      restBe,
      source,
      0,
    )
    return bytes.slice(272 - 48, 272 - 48 + length)
  }
  samePacket(
    t,
    answer(packet, icmpv6.Icmpv6Type.packetTooBig, 0, swap32(1300)),
    icmpv6Packet({
      from: 'fd00::1',
      to: 'fd01::2',
      type: 2,
      rest: 1300,
      payload: packet.slice(0, 1232),
    }),
  )
  const short = udpPacket({ from: '[fd01::2]:1234', to: '[fd00::1]:53', payload: 'odd' })
  samePacket(
    t,
    answer(short, icmpv6.Icmpv6Type.destinationUnreachable, icmpv6.UnreachableCode.port, 0),
    icmpv6Packet({ from: 'fd00::1', to: 'fd01::2', type: 1, code: 4, payload: short }),
  )
  const { words, halfs, bytes } = views(answer(short, 1, 4, 0), 4)
  t.ok(icmpv6.hasRightChecksum(words, halfs, bytes, 4, 44, short.length + 8))
  bytes[60]! ^= 1
  t.notOk(icmpv6.hasRightChecksum(words, halfs, bytes, 4, 44, short.length + 8))
})

t.test('what may be answered with an ICMPv6 error', async (t) => {
  const chain = new ipv6.HeaderChain()
  const mayAnswer = (packet: Uint8Array, type = 1): boolean => {
    const { words, bytes } = views(packet, 4)
    chain.walk(bytes, 4, 4 + packet.length)
    return icmpv6.mayAnswer(words, bytes, 4, chain, 4 + packet.length, type)
  }
  const udp = (from: string, to: string): Uint8Array =>
    udpPacket({ from: `[${from}]:1`, to: `[${to}]:2` })
  t.ok(mayAnswer(udp('fd01::2', 'fd00::1')))
  t.notOk(mayAnswer(udp('fd01::2', 'ff02::1')), 'multicast')
  t.ok(mayAnswer(udp('fd01::2', 'ff02::1'), 2), 'but packet too big is told')
  t.notOk(mayAnswer(udp('::', 'fd00::1')), 'from nobody')
  t.notOk(mayAnswer(udp('ff02::2', 'fd00::1')), 'from many')
  const icmp = (type: number): Uint8Array => icmpv6Packet({ from: 'fd01::2', to: 'fd00::1', type })
  t.ok(mayAnswer(icmp(128)), 'an echo request')
  for (const type of [1, 2, 3, 4, 100]) t.notOk(mayAnswer(icmp(type)), `ICMPv6 type ${type}`)
  const cut = ipv6Packet(
    { source: 'fd01::2', destination: 'fd00::1', protocol: IpProtocol.icmpv6 },
    [],
  )
  t.notOk(mayAnswer(cut), 'ICMPv6 without a type')
  t.ok(
    mayAnswer(
      ipv6Packet(
        {
          source: 'fd01::2',
          destination: 'fd00::1',
          protocol: IpProtocol.icmpv6,
          extensions: [fragmentHeader(8, false, 1)],
        },
        [],
      ),
    ),
    'a later fragment of one',
  )
  t.equal(
    transportChecksum(
      addressBytesIpv6('fd01::2'),
      addressBytesIpv6('fd00::1'),
      58,
      icmp(1).slice(40),
    ),
    0,
  )
})
