import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from '../support/properties.js'
import t from 'tap'
import {
  CaptureError,
  LinkType,
  PcapPort,
  PcapReader,
  PcapWriter,
  linkLayerOf,
} from '../../src/drivers/pcap.js'
import { FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { ethernetFrame, hex, tcpPacket, udpPacket } from '../support/packets.js'

const time = { seconds: 1_700_000_000, nanoseconds: 123_456_789 }
const packet = udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2' })

/** Writes a capture into memory. */
function written(format: 'pcap' | 'pcapng', write: (writer: PcapWriter) => void): Uint8Array {
  const pieces: Buffer[] = []
  const writer = new PcapWriter((bytes) => pieces.push(Buffer.from(bytes)), { format })
  write(writer)
  writer.close()
  return Buffer.concat(pieces)
}

t.test('pcap in all four dialects', async (t) => {
  const body = 'deadbeef01'
  for (const [name, file, nanoseconds] of [
    [
      'little, micro',
      'd4c3b2a1 0200 0400 00000000 00000000 ffff0000 65000000 00000064 05000000 05000000 09000000',
      5000,
    ],
    [
      'little, nano',
      '4d3cb2a1 0200 0400 00000000 00000000 ffff0000 65000000 00000064 05000000 05000000 09000000',
      5,
    ],
    [
      'big, micro',
      'a1b2c3d4 0002 0004 00000000 00000000 0000ffff 00000065 64000000 00000005 00000005 00000009',
      5000,
    ],
    [
      'big, nano',
      'a1b23c4d 0002 0004 00000000 00000000 0000ffff 00000065 64000000 00000005 00000005 00000009',
      5,
    ],
  ] as const) {
    const reader = new PcapReader(hex(file + body))
    t.equal(reader.format, 'pcap')
    t.strictSame(
      [...reader],
      [
        {
          time: { seconds: 0x64000000, nanoseconds },
          linkType: LinkType.raw,
          interfaceIndex: 0,
          interfaceName: undefined,
          direction: undefined,
          originalLength: 9,
          bytes: hex(body),
          fileOffset: 24,
        },
      ],
      name,
    )
  }
})

t.test('pcapng, both byte orders, each kind of packet block', async (t) => {
  const little = hex(`
    0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000
    01000000 28000000 0100 0000 00000000 0200 0400 65746830 0900 0100 03000000 0000 0000 28000000
    99000000 10000000 01020304 10000000
    06000000 2c000000 00000000 00000000 d2040000 03000000 05000000 aabbcc00 0200 0400 02000000 2c000000
    03000000 14000000 04000000 01020304 14000000
    02000000 24000000 0000 0000 01000000 00000000 01000000 01000000 ff000000 24000000`)
  const big = hex(`
    0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c
    00000001 00000028 0001 0000 00000000 0002 0004 65746830 0009 0001 03000000 0000 0000 00000028
    00000099 00000010 01020304 00000010
    00000006 0000002c 00000000 00000000 000004d2 00000003 00000005 aabbcc00 0002 0004 00000002 0000002c
    00000003 00000014 00000004 01020304 00000014
    00000002 00000024 0000 0000 00000001 00000000 00000001 00000001 ff000000 00000024`)
  const expected = [
    {
      time: { seconds: 1, nanoseconds: 234_000_000 },
      linkType: 1,
      interfaceIndex: 0,
      interfaceName: 'eth0',
      direction: 'out',
      originalLength: 5,
      bytes: hex('aabbcc'),
      fileOffset: 84,
    },
    {
      time: undefined,
      linkType: 1,
      interfaceIndex: 0,
      interfaceName: 'eth0',
      direction: undefined,
      originalLength: 4,
      bytes: hex('01020304'),
      fileOffset: 128,
    },
    {
      time: { seconds: 4294967, nanoseconds: 296_000_000 },
      linkType: 1,
      interfaceIndex: 0,
      interfaceName: 'eth0',
      direction: undefined,
      originalLength: 1,
      bytes: hex('ff'),
      fileOffset: 148,
    },
  ]
  t.strictSame([...new PcapReader(little)], expected)
  t.strictSame([...new PcapReader(big)], expected)
  const both = [...new PcapReader(Buffer.concat([little, big]))]
  t.equal(both.length, 6, 'sections of different byte order in one file')
})

t.test('if_tsresol in powers of two, if_tsoffset', async (t) => {
  const file = hex(`
    0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000
    01000000 2c000000 0100 0000 00000000 0900 0100 81000000 0e00 0800 6400000000000000 0000 0000 2c000000
    06000000 24000000 00000000 00000000 03000000 01000000 01000000 aa000000 24000000`)
  t.strictSame([...new PcapReader(file)][0]!.time, { seconds: 101, nanoseconds: 500_000_000 })
})

t.test('malformed files are refused at the byte that is wrong', async (t) => {
  const good = written('pcapng', (writer) => {
    writer.addInterface('eth0', LinkType.ethernet)
    writer.write(packet, time)
  })
  const patched = (at: number, bytes: string): Uint8Array => {
    const copy = Uint8Array.from(good)
    copy.set(hex(bytes), at)
    return copy
  }
  const pcap = 'd4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000'
  const cases: [string, Uint8Array, number, RegExp][] = [
    ['empty', hex(''), 0, /file ends inside the magic number: 4 bytes needed, 0 left/],
    ['text', Buffer.from('hello, world'), 0, /magic number 0x68656c6c is neither/],
    ['cut header', hex('d4c3b2a1 0200'), 0, /ends inside the file header/],
    ['pcap version', hex(pcap.replace('0200', '0300')), 4, /pcap version 3.4, not 2.4/],
    ['cut record', hex(`${pcap} 00000000`), 24, /ends inside a packet header/],
    [
      'cut packet',
      hex(`${pcap} 00000000 00000000 04000000 04000000 aa`),
      40,
      /4 bytes needed, 1 left/,
    ],
    [
      'no length',
      hex(`${pcap} 00000000 00000000 ffffffff 04000000 aa`),
      32,
      /packet of 4294967295 bytes/,
    ],
    ['byte order', patched(8, '00000000'), 8, /no byte-order magic/],
    ['version', patched(12, '0200'), 12, /pcapng version 2, not 1/],
    ['block length', patched(32, '0b000000'), 32, /a block of 11 bytes/],
    ['trailer', patched(24, '20000000'), 24, /block length 32 does not repeat 28/],
    ['long block', patched(32, 'fcffff7c'), 28, /ends inside a block/],
    ['option', patched(46, 'ff00'), 44, /option 2 of 255 bytes leaves its block/],
    ['cut block', good.subarray(0, good.length - 2), 68, /ends inside a block/],
    ['interface', patched(76, '01000000'), 76, /interface 1, which is not described/],
    ['packet length', patched(88, 'ff000000'), 88, /packet of 255 bytes in a block with/],
  ]
  for (const [name, file, byteOffset, message] of cases)
    t.throws(
      () => [...new PcapReader(file, 'x.pcap')],
      { name: 'CaptureError', byteOffset, message },
      name,
    )
  t.throws(() => new PcapReader(hex('00000000'), 'dir/x.pcap'), {
    message: /^dir\/x.pcap: byte 0: /,
  })
})

t.test('random bytes and mutated files never cause another error', async () => {
  const good = written('pcapng', (writer) => {
    writer.addInterface('eth0', LinkType.ethernet)
    for (let i = 0; i < 3; i++) writer.write(packet, time, 0, 'in')
  })
  const survives = (file: Uint8Array): boolean => {
    try {
      return [...new PcapReader(file)].every((p) => p.bytes.length >= 0)
    } catch (error) {
      return error instanceof CaptureError
    }
  }
  const edits = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), {
    minLength: 1,
    maxLength: 8,
  })
  fc.assert(
    fc.property(edits, fc.nat(good.length), (changes, length) => {
      const copy = Uint8Array.from(good)
      for (const [at, value] of changes) copy[at] = value
      return survives(copy.subarray(0, length)) && survives(copy)
    }),
  )
  fc.assert(fc.property(fc.uint8Array(), survives))
})

t.test('what is written is read back', async (t) => {
  const packets = [
    packet,
    tcpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2', payload: 'x'.repeat(1401) }),
  ]
  for (const format of ['pcap', 'pcapng'] as const) {
    const count = 500 // more than the writer's buffer
    const file = written(format, (writer) => {
      writer.addInterface('tun:uvs0', LinkType.raw)
      for (let i = 0; i < count; i++)
        writer.write(packets[i % 2]!, { seconds: i, nanoseconds: i }, 0, i % 3 ? 'in' : 'out')
    })
    const read = [...new PcapReader(file)]
    t.equal(read.length, count)
    t.ok(
      read.every(
        (p, i) =>
          p.time!.seconds === i &&
          p.time!.nanoseconds === i &&
          Buffer.compare(p.bytes, packets[i % 2]!) === 0 &&
          p.linkType === LinkType.raw &&
          (format === 'pcap' || p.direction === (i % 3 ? 'in' : 'out')) &&
          p.interfaceName === (format === 'pcap' ? undefined : 'tun:uvs0'),
      ),
      format,
    )
  }
  t.throws(
    () =>
      written('pcap', (writer) => {
        writer.addInterface('a', LinkType.raw)
        writer.addInterface('b', LinkType.ethernet)
      }),
    /interface b has link type 1, but the pcap file has 101 for all/,
  )
  t.equal(linkLayerOf(LinkType.ipv4), LinkLayer.ip)
  t.equal(linkLayerOf(113), undefined)
})

const tcpdump = ['/usr/bin/tcpdump', '/usr/sbin/tcpdump'].find((path) => existsSync(path))

t.test(
  'tcpdump reads what is written',
  { skip: tcpdump ? false : 'tcpdump is not installed' },
  async (t) => {
    const directory = t.testdir({})
    const frame = ethernetFrame({ from: '02:00:00:00:00:01', to: '02:00:00:00:00:02' }, packet)
    for (const name of ['x.pcap', 'x.pcapng']) {
      const path = join(directory, name)
      const writer = PcapWriter.create(path)
      writer.addInterface('afxdp:eth0', LinkType.ethernet)
      writer.write(frame, time, 0, 'in')
      writer.write(frame, { ...time, seconds: time.seconds + 1 })
      writer.close()
      const text = execFileSync(tcpdump!, ['-tt', '--nano', '-nevr', path], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      t.match(text, /^1700000000\.123456789 02:00:00:00:00:01 > 02:00:00:00:00:02/)
      t.match(text, /\n1700000001\.123456789 /)
      t.match(text, /10\.0\.0\.1\.1 > 10\.0\.0\.2\.2: (\[udp sum ok\] )?UDP, length 4/)
      t.notMatch(text, /bad cksum|truncated/)
    }
  },
)

t.test(
  'what tcpdump writes is read',
  { skip: tcpdump ? false : 'tcpdump is not installed' },
  async (t) => {
    const directory = t.testdir({})
    const from = join(directory, 'from.pcap')
    const to = join(directory, 'to.pcap')
    const writer = PcapWriter.create(from)
    writer.addInterface('x', LinkType.raw)
    for (let i = 0; i < 10; i++) writer.write(packet, { ...time, seconds: i })
    writer.close()
    execFileSync(tcpdump!, ['-nr', from, '-w', to], { stdio: 'ignore' })
    const read = [...PcapReader.open(to)]
    t.equal(read.length, 10)
    t.strictSame(Uint8Array.from(read[9]!.bytes), packet)
    t.strictSame(
      read[9]!.time,
      { seconds: 9, nanoseconds: 123_456_000 },
      'tcpdump rounds to microseconds',
    )
  },
)

t.test('a port on captures', async (t) => {
  const directory = t.testdir({})
  const long = new Uint8Array(2000)
  writeFileSync(
    join(directory, 'in.pcapng'),
    written('pcapng', (writer) => {
      writer.addInterface('a', LinkType.ethernet)
      writer.addInterface('b', LinkType.ipv4)
      writer.write(packet, time, 1)
      writer.write(packet, time, 0)
      writer.write(long, time, 1)
      writer.write(packet, { ...time, seconds: 7 }, 1)
    }),
  )
  const out = join(directory, 'out.pcapng')
  const pool = new FramePool(new ArrayBuffer(4 * 2048), 2048, 4)
  const port = new PcapPort({
    pool,
    reader: PcapReader.open(join(directory, 'in.pcapng')),
    writer: PcapWriter.create(out),
    linkLayer: LinkLayer.ip,
  })
  const batch = new FrameBatch(8)
  t.equal(port.pending, 4)
  t.strictSame(port.nextTime, time)
  t.equal(port.receive(batch), 2)
  t.equal(port.pending, 0)
  t.equal(port.counters.rxDropped, 2, 'another link layer, too long')
  port.transmit(batch)
  port.close()
  t.equal(pool.available, 4)
  const sent = [...new PcapReader(readFileSync(out))]
  t.equal(sent.length, 2)
  t.strictSame(Uint8Array.from(sent[0]!.bytes), packet)
  t.match(sent[1], { time: { seconds: 7 }, interfaceName: 'pcap', direction: 'out' })
})
