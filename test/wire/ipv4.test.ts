import fc from '../support/properties.js'
import t from 'tap'
import { Reason } from '../../src/core/verdict.js'
import * as ipv4 from '../../src/wire/ipv4.js'
import * as tcp from '../../src/wire/tcp.js'
import * as udp from '../../src/wire/udp.js'
import { hex, plainChecksum } from '../support/packets.js'
import { views } from './views.js'

// a SYN from 10.0.0.1:1234 to 192.0.2.1:80, TTL 64, DF
const syn = hex(`4500 0028 1234 4000 4006 5c9a 0a00 0001 c000 0201
                 04d2 0050 0000 0001 0000 0000 5002 0200 dcbd 0000`)

const check = (data: Uint8Array, available = data.length): number => {
  const { words, halfs, bytes } = views(data, 272)
  return ipv4.validate(words, halfs, bytes, 272, available)
}

t.test('codes are the numbers of the reasons', async (t) => {
  t.equal(ipv4.Malformed.truncated, Reason['truncated-ip-header'])
  t.equal(ipv4.Malformed.version, Reason['bad-ip-version'])
  t.equal(ipv4.Malformed.headerLength, Reason['bad-header-length'])
  t.equal(ipv4.Malformed.totalLength, Reason['bad-total-length'])
  t.equal(ipv4.Malformed.checksum, Reason['bad-ip-checksum'])
})

t.test('a good header, exact and padded', async (t) => {
  t.equal(check(syn), ipv4.Malformed.none)
  t.equal(check(Uint8Array.of(...syn, 0, 0, 0, 0, 0, 0)), ipv4.Malformed.none)
})

t.test('each way to be wrong', async (t) => {
  const changed = (index: number, value: number): Uint8Array => {
    const copy = Uint8Array.from(syn)
    copy[index] = value
    return copy
  }
  t.equal(check(syn, 0), ipv4.Malformed.truncated)
  t.equal(check(syn, 19), ipv4.Malformed.truncated)
  t.equal(check(syn, 39), ipv4.Malformed.totalLength, 'shorter than it says')
  t.equal(check(changed(0, 0x65)), ipv4.Malformed.version)
  t.equal(check(changed(0, 0x44)), ipv4.Malformed.headerLength)
  t.equal(check(changed(0, 0x4f)), ipv4.Malformed.truncated, 'options beyond the packet')
  t.equal(check(changed(3, 19)), ipv4.Malformed.totalLength, 'shorter than its header')
  t.equal(check(changed(8, 63)), ipv4.Malformed.checksum)
})

t.test('options are part of the checksum', async (t) => {
  const header = hex('4600 0018 0000 0000 4011 0000 0a00 0001 0a00 0002 9404 0000')
  const sum = plainChecksum(header)
  header[10] = sum >> 8
  header[11] = sum & 0xff
  t.equal(check(header), ipv4.Malformed.none)
  header[22] = 1
  t.equal(check(header), ipv4.Malformed.checksum)
})

t.test('no bytes are too strange to be judged', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (data) => {
      if (data.length > 0) data[0] = 0x40 | (data[0]! & 0x0f)
      const code = check(data)
      return code >= 0 && code <= 5
    }),
  )
})

t.test('getters', async (t) => {
  const { words, halfs, bytes } = views(syn, 4)
  t.equal(ipv4.headerBytes(bytes, 4), 20)
  t.equal(ipv4.totalLength(bytes, 4), 40)
  t.equal(ipv4.ttl(bytes, 4), 64)
  t.equal(ipv4.protocol(bytes, 4), ipv4.IpProtocol.tcp)
  t.equal(ipv4.sourceBe(words, 4), ipv4.parseAddress('10.0.0.1'))
  t.equal(ipv4.destinationBe(words, 4), ipv4.parseAddress('192.0.2.1'))
  t.ok(ipv4.dontFragment(halfs, 4))
  t.notOk(ipv4.isFragment(halfs, 4))
  t.equal(tcp.ports(words, 24), 0xd204 | (0x5000 << 16))
  t.equal(tcp.flags(bytes, 24), tcp.TcpFlag.syn)
  t.equal(tcp.checksumBe(halfs, 24), 0xbddc)
})

t.test('fragments', async (t) => {
  const { halfs, bytes } = views(syn)
  const set = (field: number): void => {
    bytes[6] = field >> 8
    bytes[7] = field & 0xff
  }
  set(0x2000)
  t.ok(ipv4.isFragment(halfs, 0), 'the first of several')
  t.notOk(ipv4.isLaterFragment(halfs, 0))
  set(0x0001)
  t.ok(ipv4.isFragment(halfs, 0), 'the last')
  t.ok(ipv4.isLaterFragment(halfs, 0))
  set(0x1000)
  t.ok(ipv4.isLaterFragment(halfs, 0))
  set(0x4000)
  t.notOk(ipv4.isFragment(halfs, 0))
})

t.test('the TTL goes down and the checksum stays right', async (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 20, maxLength: 20 }),
      fc.integer({ min: 1, max: 255 }),
      (data, ttl) => {
        data[0] = 0x45
        data[8] = ttl
        const { halfs, bytes } = views(data)
        ipv4.writeChecksum(halfs, bytes, 0)
        ipv4.decrementTtl(halfs, 0)
        const updated = halfs[5]
        ipv4.writeChecksum(halfs, bytes, 0)
        return bytes[8] === ttl - 1 && updated === halfs[5]
      },
    ),
    { numRuns: 5000 },
  )
  // every value that the checksum can have
  let wrong = 0
  const { halfs, bytes } = views(hex('4500 0014 0000 0000 4006 0000 0000 0000 0000 0000'))
  for (let identification = 0; identification < 65536; identification++) {
    halfs[2] = identification
    bytes[8] = 64
    ipv4.writeChecksum(halfs, bytes, 0)
    ipv4.decrementTtl(halfs, 0)
    const updated = halfs[5]
    ipv4.writeChecksum(halfs, bytes, 0)
    if (updated !== halfs[5]) wrong++
  }
  t.equal(wrong, 0)
})

t.test('a header that is written is that header', async (t) => {
  const { words, halfs, bytes } = views(new Uint8Array(24), 4)
  ipv4.writeHeader(
    words,
    4,
    0,
    40,
    ipv4.swap16(0x1234),
    ipv4.FragmentBe.dontFragment,
    64,
    6,
    ipv4.parseAddress('10.0.0.1')!,
    ipv4.parseAddress('192.0.2.1')!,
  )
  t.strictSame(bytes.slice(4, 24), syn.slice(0, 20))
  t.equal(ipv4.validate(words, halfs, bytes, 4, 40), ipv4.Malformed.none)
})

t.test('addresses', async (t) => {
  t.equal(ipv4.formatAddress(ipv4.parseAddress('192.168.255.1')!), '192.168.255.1')
  t.equal(ipv4.parseAddress('255.255.255.255'), -1)
  t.equal(ipv4.parseAddress('0.0.0.0'), 0)
  for (const bad of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '01.2.3.4',
    ' 1.2.3.4',
    '1.2.3.4\n',
    'a.b.c.d',
    '1..2.3',
    '-1.2.3.4',
    '0x1.2.3.4',
  ])
    t.equal(ipv4.parseAddress(bad), undefined, JSON.stringify(bad))
  fc.assert(
    fc.property(
      fc.integer(),
      (addressBe) => ipv4.parseAddress(ipv4.formatAddress(addressBe)) === addressBe,
    ),
  )
  fc.assert(fc.property(fc.ipV4(), (text) => ipv4.formatAddress(ipv4.parseAddress(text)!) === text))
})

t.test('prefixes', async (t) => {
  t.equal(ipv4.formatPrefix(ipv4.parsePrefix('10.1.2.3/8')!), '10.0.0.0/8')
  t.equal(ipv4.formatPrefix(ipv4.parsePrefix('10.1.2.3')!), '10.1.2.3/32')
  t.equal(ipv4.parsePrefix('10.1.2.3/0')!.maskBe, 0)
  t.equal(ipv4.netmaskBe(32), -1)
  t.equal(ipv4.formatAddress(ipv4.netmaskBe(20)), '255.255.240.0')
  for (const bad of ['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/08', '10.0.0.0/-1', '10.0.0/8', '/8'])
    t.equal(ipv4.parsePrefix(bad), undefined, bad)
})

t.test('kinds of addresses', async (t) => {
  const martian = (text: string): boolean => ipv4.isMartianSource(ipv4.parseAddress(text)!)
  for (const bad of ['224.0.0.1', '239.9.9.9', '127.0.0.1', '0.0.0.0', '255.255.255.255'])
    t.ok(martian(bad), bad)
  for (const good of [
    '0.1.2.3',
    '240.0.0.1',
    '1.0.0.1',
    '10.0.0.1',
    '192.168.1.1',
    '223.255.255.255',
  ])
    t.notOk(martian(good), good)
})

t.test('byte order', async (t) => {
  t.equal(ipv4.swap16(0x1234), 0x3412)
  t.equal(ipv4.swap32(0x12345678), 0x78563412)
  fc.assert(fc.property(fc.integer(), (x) => ipv4.swap32(ipv4.swap32(x)) === x))
})

t.test('UDP', async (t) => {
  const { words, halfs, bytes } = views(hex('04d2 0035 000a abcd 6869'))
  t.equal(udp.ports(words, 0), 0xd204 | (0x3500 << 16))
  t.equal(udp.length(bytes, 0), 10)
  t.equal(udp.checksumBe(halfs, 0), 0xcdab)
})
