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
import { plainChecksum } from '../support/packets.js'
import { seedOr } from '../support/seed.js'

const FRAME_BYTES = 128 * 1024

/** A pool with offload, with one packet in a frame as a TUN device gives it. */
function received(header: string, packet: Uint8Array, frames = 64, frameBytes = FRAME_BYTES) {
  const pool = new FramePool(
    new ArrayBuffer(frameBytes * frames),
    frameBytes,
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
    ['congestion, and no type', '01 80 ffff 0200 1400 1000 0000'],
    ['congestion, and nothing else', '00 80 0000 0000 0000 0000 0000'],
    ['a transport header in the middle of another', '01 01 2800 0200 1600 1000 0000'],
  ] as const) {
    const { pool, offset } = received(header, TCP)
    t.equal(pool.requestOf(offset), MALFORMED, what)
  }
  const short = Uint8Array.from(TCP)
  short[3] = 36
  t.equal(received(TCP_HEADER, short).pool.requestOf(IP_HEADROOM), MALFORMED, 'behind IP’s end')
  const { pool, offset } = received('00 00 0000 0000 0000 0000 0000', TCP)
  t.equal(pool.requestOf(offset), 0, 'nothing is asked for')
})

t.test(
  'whatever header comes with a packet, all that is written is in frames taken for it',
  async (t) => {
    const random = new SeededRandom(seedOr(23))
    const below = (n: number): number => (random.next() >>> 0) % n
    const oneOf = <T>(...values: readonly T[]): T => values[below(values.length)]!
    const FRAMES = 40
    let accepted = 0
    let cut = 0
    for (let trial = 0; trial < 3000; trial++) {
      const isIpv6 = below(3) === 0
      const isUdp = below(2) === 0
      const ipBytes = isIpv6 ? 40 : oneOf(20, 20, 24)
      const payload = below(oneOf(3, 50, 1500))
      const packet = Uint8Array.from({ length: ipBytes + (isUdp ? 8 : 20) + payload }, () =>
        random.next(),
      )
      const view = new DataView(packet.buffer)
      packet[0] = isIpv6 ? 0x60 : 0x40 | (ipBytes >> 2)
      packet[isIpv6 ? 6 : 9] = isUdp ? 17 : 6
      if (isIpv6) view.setUint16(4, packet.length - 40)
      else view.setUint16(2, packet.length)
      if (!isIpv6) {
        view.setUint16(6, 0)
        if (ipBytes > 20) packet.fill(1, 20, 24)
        view.setUint16(10, 0)
        view.setUint16(10, plainChecksum(packet.subarray(0, ipBytes)))
      }
      if (!isUdp) packet[ipBytes + 12] = 0x50
      const checksumAt = isUdp ? 6 : 16
      view.setUint16(
        ipBytes + checksumAt,
        0xffff ^ plainChecksum(pseudoHeader(packet, packet.length - ipBytes)),
      )
      // Sound, but for one in two that is not in one place, or nowhere.
      const header = Buffer.alloc(12)
      header.set([1, isUdp ? oneOf(0, 5) : oneOf(0, isIpv6 ? 4 : 1, (isIpv6 ? 4 : 1) | 0x80)])
      header.writeUInt16LE(below(65536), 2)
      header.writeUInt16LE(oneOf(1, 7, 100, 536, 1400), 4)
      header.writeUInt16LE(ipBytes, 6)
      header.writeUInt16LE(checksumAt, 8)
      const isSpoiled = below(2) === 0
      if (isSpoiled)
        for (let times = 1 + below(3); times > 0; times--)
          switch (below(5)) {
            case 0:
              packet[below(Math.min(packet.length, 60))] = random.next()
              break
            case 1:
              header.writeUInt16LE(oneOf(0, 1, 2, 0x7fff, 0xfffe, 0xffff), 2 * below(5))
              break
            case 2:
              header[1] = oneOf(0x80, 0, 1, 4, 5)
              break
            default:
              header[below(10)] = random.next()
          }
      const { pool, offset } = received(header.toString('hex'), packet, FRAMES, 2048 * 2)
      const request = pool.requestOf(offset)
      if (!isSpoiled && request === MALFORMED) return t.fail(`trial ${trial}: refused`)
      if (request <= 0) continue
      accepted++
      pool.wireBytes(offset, packet.length)
      const before = pool.bytes.slice()
      const taken = new Set<number>()
      const take = pool.take.bind(pool)
      pool.take = () => {
        const frame = take()
        taken.add(frame)
        return frame
      }
      const pieces = new FrameBatch(FRAMES)
      // The director sends no more of it than its IP header says.
      const total = Math.min(packet.length, isIpv6 ? 40 + view.getUint16(4) : view.getUint16(2))
      const isCut = segment(pool, offset, total, pieces)
      for (let frame = 0; frame < pool.bytes.length; frame += pool.frameSize) {
        if (taken.has(frame)) continue
        const end = frame + pool.frameSize
        if (Buffer.compare(before.subarray(frame, end), pool.bytes.subarray(frame, end)) !== 0)
          return t.fail(`trial ${trial}: writes into another's frame`)
      }
      if (!isCut) {
        t.equal(taken.size, 0)
        continue
      }
      cut++
      for (let i = 0; i < pieces.count; i++) {
        const piece = pool.bytes.slice(pieces.offsets[i], pieces.offsets[i]! + pieces.lengths[i]!)
        if (isSpoiled) continue
        const said = new DataView(piece.buffer).getUint16(isIpv6 ? 4 : 2) + (isIpv6 ? 40 : 0)
        const sum = plainChecksum(
          pseudoHeader(piece, piece.length - ipBytes),
          piece.subarray(ipBytes),
        )
        const ip = isIpv6 ? 0 : plainChecksum(piece.subarray(0, ipBytes))
        if (said !== piece.length || sum !== 0 || ip !== 0)
          return t.fail(`trial ${trial}: segment ${i} of ${pieces.count}`, {
            said,
            sum,
            ip,
            header,
            packet,
          })
      }
      pool.writeRequest(offset)
    }
    t.ok(accepted > 1000 && cut > 800, `${accepted} accepted, ${cut} cut`)
  },
)

/** What a transport checksum covers beside its segment, in bytes and in front of it. */
function pseudoHeader(packet: Uint8Array, transportBytes: number): Uint8Array {
  const isIpv6 = packet[0]! >>> 4 === 6
  const addresses = isIpv6 ? packet.subarray(8, 40) : packet.subarray(12, 20)
  const protocol = packet[isIpv6 ? 6 : 9]!
  return Uint8Array.of(...addresses, 0, protocol, transportBytes >> 8, transportBytes & 0xff)
}
