import fc from '../support/properties.js'
import t from 'tap'
import * as sctp from '../../src/wire/sctp.js'
import { hex, plainCrc32c } from '../support/packets.js'
import { views } from './views.js'

/** The four bytes as a native load. */
const load = (bytes: number[]): number => new Int32Array(Uint8Array.from(bytes).buffer)[0]!

t.test('CRC-32c of the vectors of RFC 3720, B.4', async (t) => {
  const crc = (data: Uint8Array): number => {
    const { words, bytes } = views(data)
    return sctp.crc32c(words, bytes, 0, data.length)
  }
  t.equal(crc(new Uint8Array(32)), load([0xaa, 0x36, 0x91, 0x8a]))
  t.equal(crc(new Uint8Array(32).fill(0xff)), load([0x43, 0xab, 0xa8, 0x62]))
  t.equal(crc(Uint8Array.from({ length: 32 }, (_, i) => i)), load([0x4e, 0x79, 0xdd, 0x46]))
  t.equal(crc(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), load([0x5c, 0xdb, 0x3f, 0x11]))
})

t.test('CRC-32c of any range equals the plain one', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(20).map((n) => n * 4),
      (data, offset) => {
        const { words, bytes } = views(data, offset)
        return sctp.crc32c(words, bytes, offset, data.length) === load(plainCrc32c(data))
      },
    ),
  )
})

t.test('a packet as Linux masqueraded it has a right checksum', async (t) => {
  const packet = hex('0400 1f90 0000 0000 f0c4 d45c 0100 0014' + '00'.repeat(16))
  const { words, bytes } = views(packet, 20)
  t.ok(sctp.hasRightChecksum(words, bytes, 20, packet.length))
  t.same(bytes.slice(20, 20 + packet.length), packet, 'looking changes nothing')
  bytes[20] = 5
  t.notOk(sctp.hasRightChecksum(words, bytes, 20, packet.length))
  bytes[20] = 4
  bytes.fill(0, 28, 32)
  sctp.writeChecksum(words, bytes, 20, packet.length)
  t.same(bytes.slice(20, 20 + packet.length), packet)
})

t.test('the chunk that decides', async (t) => {
  const header = '0400 0050 0000 0000 0000 0000'
  const deciding = (chunks: string, cut = 0): number => {
    const packet = hex(header + chunks)
    return sctp.decidingChunk(views(packet).bytes, 0, packet.length - cut)
  }
  const { init, abort, cookieEcho, cookieAck, data } = sctp.ChunkType
  t.equal(deciding('0100 0004'), init)
  t.equal(deciding('0100 0004', 1), -1, 'no whole chunk')
  t.equal(sctp.firstChunk(hex(header), 0, 12), -1)
  t.equal(deciding('0a00 0004 0600 0004'), abort, 'ABORT behind COOKIE-ECHO')
  t.equal(deciding('0b00 0005 7800 0000 0600 0004'), abort, 'ABORT behind a padded COOKIE-ACK')
  t.equal(deciding('0a00 0004 0600 0004', 1), cookieEcho, 'an ABORT cut short')
  t.equal(deciding('0a00 0003 0600 0004'), cookieEcho, 'a length that is none')
  t.equal(deciding('0a00 ffff 0600 0004'), cookieEcho, 'a length beyond the packet')
  t.equal(deciding('0b00 0004 0000 0004'), cookieAck)
  t.equal(deciding('0000 0004 0600 0004'), data, 'behind others it does not count')
})
