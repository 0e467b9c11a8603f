import t from 'tap'
import { segment } from '../../src/core/segmentation.js'
import { FrameBatch, FramePool, IP_HEADROOM, MALFORMED } from '../../src/port/frame-pool.js'
import { SeededRandom } from '../../src/port/random.js'
import {
  delta16,
  delta32,
  fold,
  sumPseudoHeader,
  sumRange,
  update,
} from '../../src/wire/checksum.js'
import * as ipv4 from '../../src/wire/ipv4.js'
import * as virtio from '../../src/wire/virtio.js'

const FRAME_BYTES = 128 * 1024

/** A pool with offload, with one packet in a frame as a TUN device gives it. */
function received(header: string, packet: Uint8Array, frames = 64) {
  const pool = new FramePool(
    new ArrayBuffer(FRAME_BYTES * frames),
    FRAME_BYTES,
    frames,
    undefined,
    true,
  )
  const offset = pool.take() + IP_HEADROOM
  pool.bytes.set(Buffer.from(header.replaceAll(' ', ''), 'hex'), offset - virtio.HEADER_BYTES)
  pool.bytes.set(packet, offset)
  pool.noteRequest(offset, packet.length)
  return { pool, offset }
}

const hex = (text: string): Uint8Array => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')

/**
 * 10.0.0.1:1024 to 10.0.0.2:80, CWR FIN PSH ACK, sequence ffff fffe, "abcde". The pseudo-header's sum is
 * 0a00 + 0001 + 0a00 + 0002 + 0006 + 0019 (length 25) = 1422.
 */
const TCP = hex(`
  4500 002d 0007 4000 4006 26c0 0a00 0001 0a00 0002
  0400 0050 ffff fffe 0000 0000 5099 1000 1422 0000 6162 6364 65`)
/** Needs a checksum, TCP of IPv4, 64 bytes of headers claimed, 2 in a segment, checksum from 20 at 16. */
const TCP_HEADER = '01 01 4000 0200 1400 1000 0000'

t.test(
  'a TCP packet is cut into segments, each with its own sequence, flags, length and checksum',
  async (t) => {
    const { pool, offset } = received(TCP_HEADER, TCP)
    t.equal(pool.wireBytes(offset, TCP.length), 42, 'the longest on the wire')
    const pieces = new FrameBatch(8)
    t.ok(segment(pool, offset, TCP.length, pieces))
    const texts = Array.from({ length: pieces.count }, (_, i) =>
      Buffer.from(
        pool.bytes.slice(pieces.offsets[i], pieces.offsets[i]! + pieces.lengths[i]!),
      ).toString('hex'),
    )
    // The first checksum: 0a00 + 0001 + 0a00 + 0002 + 0006 + 0016, ports, sequence, 5090 + 1000 + 6162 is da60.
    t.same(texts, [
      '4500002a00074000400626c50a0000010a000002' + '04000050fffffffe0000000050901000259f00006162',
      '4500002a00084000400626c40a0000010a000002' + '04000050000000000000000050101000241c00006364',
      '4500002900094000400626c40a0000010a000002' + '040000500000000200000000501910002276000065',
    ])
  },
)

t.test(
  'addresses and ports are updated as in any packet, and the kernel gets the pseudo-header back',
  async (t) => {
    const { pool, offset } = received(TCP_HEADER, TCP)
    const { words, halfs } = pool
    const checksumAt = (offset + 36) >> 1
    const addressBe = ipv4.parseAddress('192.168.7.9')!
    const portBe = ipv4.swap16(8080)
    const delta =
      delta32(words[(offset + ipv4.DESTINATION) >> 2]!, addressBe) +
      delta16(halfs[(offset + 22) >> 1]!, portBe)
    words[(offset + ipv4.DESTINATION) >> 2] = addressBe
    halfs[(offset + 22) >> 1] = portBe
    halfs[checksumAt] = update(halfs[checksumAt]!, delta)
    pool.writeRequest(offset)
    // 0a00 + 0001 + c0a8 + 0709 + 0006 + 0019
    t.equal(ipv4.swap16(halfs[checksumAt]!), 0xd1d1)
    t.equal(
      Buffer.from(pool.bytes.slice(offset - 12, offset)).toString('hex'),
      '010128000200140010000000',
      'the header says how long the headers are',
    )
  },
)

t.test(
  'what is sent through a tunnel has the outer headers in front of each segment',
  async (t) => {
    const { pool, offset } = received(TCP_HEADER, TCP)
    const outer = offset - 20
    ipv4.writeHeader(
      pool.words,
      outer,
      0,
      65,
      ipv4.swap16(5),
      0,
      64,
      ipv4.IpProtocol.ipip,
      0x0100000a,
      0x0300000a,
    )
    const pieces = new FrameBatch(8)
    t.ok(segment(pool, outer, TCP.length + 20, pieces))
    t.equal(pieces.count, 3)
    for (let i = 0; i < 3; i++) {
      const at = pieces.offsets[i]!
      t.equal(ipv4.totalLength(pool.bytes, at), pieces.lengths[i])
      t.equal(ipv4.swap16(pool.halfs[(at + 4) >> 1]!), 5 + i)
      t.equal(fold(sumRange(pool.halfs, pool.bytes, at, 20)), 0xffff)
      t.equal(ipv4.totalLength(pool.bytes, at + 20), pieces.lengths[i]! - 20)
    }
  },
)

t.test('segments put together are the packet, whatever its size', async (t) => {
  const random = new SeededRandom(7)
  for (let trial = 0; trial < 200; trial++) {
    const isUdp = (random.next() & 1) === 0
    const headers = isUdp ? 28 : 40
    const payload = Uint8Array.from({ length: random.next() & 0xfff }, () => random.next())
    const size = 200 + (random.next() & 0x3ff)
    const packet = new Uint8Array(headers + payload.length)
    const view = new DataView(packet.buffer)
    packet.set(hex('4500 0000 0007 4000 4000 0000 0a00 0001 0a00 0002 0400 0050'))
    packet[9] = isUdp ? 17 : 6
    view.setUint16(2, packet.length)
    if (!isUdp) packet[32] = 0x50
    packet.set(payload, headers)
    const halfs = new Uint16Array(Uint8Array.from([...packet.subarray(0, 20)]).buffer)
    const words = new Int32Array(halfs.buffer)
    const checksum = isUdp ? 6 : 16
    new Uint16Array(packet.buffer, 0, headers >> 1)[(20 + checksum) >> 1] = fold(
      sumPseudoHeader(packet[9]!, words[3]!, words[4]!, packet.length - 20),
    )
    const header = Buffer.alloc(12)
    header.set([1, isUdp ? 5 : 1])
    header.writeUInt16LE(size, 4)
    header.writeUInt16LE(20, 6)
    header.writeUInt16LE(checksum, 8)
    const { pool, offset } = received(header.toString('hex'), packet)
    const pieces = new FrameBatch(64)
    t.ok(segment(pool, offset, packet.length, pieces))
    const parts: Uint8Array[] = []
    for (let i = 0; i < pieces.count; i++) {
      const at = pieces.offsets[i]!
      const length = pieces.lengths[i]!
      const pseudo = sumPseudoHeader(
        packet[9]!,
        pool.words[(at + 12) >> 2]!,
        pool.words[(at + 16) >> 2]!,
        length - 20,
      )
      if (fold(pseudo + sumRange(pool.halfs, pool.bytes, at + 20, length - 20)) !== 0xffff)
        t.fail(`trial ${trial}: segment ${i} has a wrong checksum`)
      if (ipv4.validate(pool.words, pool.halfs, pool.bytes, at, length) !== ipv4.Malformed.none)
        t.fail(`trial ${trial}: segment ${i} has a bad header`)
      parts.push(pool.bytes.slice(at + headers, at + length))
    }
    if (!Buffer.concat(parts).equals(payload)) t.fail(`trial ${trial}: other bytes`)
  }
})

t.test('too few frames: no segment at all', async (t) => {
  const { pool, offset } = received(TCP_HEADER, TCP, 3)
  const pieces = new FrameBatch(8)
  t.notOk(segment(pool, offset, TCP.length, pieces))
  t.equal(pieces.count, 0)
  t.equal(pool.available, 2)
})

t.test('a header that does not go with its packet is told', async (t) => {
  for (const [what, header] of [
    ['segments without a checksum to complete', '00 01 2800 0200 1400 1000 0000'],
    ['checksum behind the end', '01 00 2800 0000 1400 1a00 0000'],
    ['checksum at an odd place', '01 00 2800 0000 1500 1000 0000'],
    ['checksum in the IP header', '01 00 2800 0000 0000 1000 0000'],
    ['segments of no bytes', '01 01 2800 0000 1400 1000 0000'],
    ['IPv6 in an IPv4 packet', '01 04 2800 0200 1400 1000 0000'],
    ['UDP with TCP’s checksum', '01 05 2800 0200 1400 1000 0000'],
    ['a type that nobody knows', '01 07 2800 0200 1400 1000 0000'],
  ] as const) {
    const { pool, offset } = received(header, TCP)
    t.equal(pool.requestOf(offset), MALFORMED, what)
  }
  const { pool, offset } = received('00 00 0000 0000 0000 0000 0000', TCP)
  t.equal(pool.requestOf(offset), 0, 'nothing is asked for')
})
