import t from 'tap'
import { fragmentIpv4 } from '../../src/core/fragment.js'
import { FrameBatch, FramePool, IP_HEADROOM } from '../../src/port/frame-pool.js'
import { plainChecksum, udpPacket } from '../support/packets.js'

function poolWith(packet: Uint8Array): { pool: FramePool; offset: number } {
  const pool = new FramePool(new ArrayBuffer(2048 * 8), 2048, 8)
  const offset = pool.take() + IP_HEADROOM
  pool.bytes.set(packet, offset)
  return { pool, offset }
}

const datagram = (bytes: number, fields = {}) =>
  udpPacket({
    from: '10.0.0.1:1',
    to: '10.0.0.2:2',
    dontFragment: false,
    payload: Uint8Array.from({ length: bytes }, (_, i) => i * 7),
    ...fields,
  })

t.test('a packet longer than the path takes becomes fragments that add up to it', async (t) => {
  const packet = datagram(1400)
  const { pool, offset } = poolWith(packet)
  const into = new FrameBatch(8)
  t.equal(fragmentIpv4(pool, offset, packet.length, 576, into), true)
  t.equal(into.count, 3)
  const rebuilt = new Uint8Array(packet.length - 20)
  for (let i = 0; i < into.count; i++) {
    const start = into.offsets[i]!
    const length = into.lengths[i]!
    const piece = pool.bytes.slice(start, start + length)
    t.ok(length <= 576, 'fits the path')
    t.equal(plainChecksum(piece.subarray(0, 20)), 0, 'has a valid header checksum')
    t.equal((piece[2]! << 8) | piece[3]!, length, 'says its length')
    const field = (piece[6]! << 8) | piece[7]!
    t.equal((field & 0x2000) !== 0, i < into.count - 1, 'all but the last say that more follow')
    rebuilt.set(piece.subarray(20), (field & 0x1fff) * 8)
  }
  t.same(rebuilt, packet.subarray(20))
  t.equal(pool.available, 8 - 1 - 3)
})

t.test('a fragment that is cut again keeps its place and its flag', async (t) => {
  const packet = datagram(800, { moreFragments: true, fragmentOffset: 10 })
  const { pool, offset } = poolWith(packet)
  const into = new FrameBatch(8)
  t.equal(fragmentIpv4(pool, offset, packet.length, 500, into), true)
  const fields = Array.from({ length: into.count }, (_, i) => {
    const start = into.offsets[i]!
    return (pool.bytes[start + 6]! << 8) | pool.bytes[start + 7]!
  })
  t.same(fields, [0x2000 | 10, 0x2000 | (10 + 60)])
})

t.test('without room for all fragments none is made', async (t) => {
  const packet = datagram(1400)
  const { pool, offset } = poolWith(packet)
  const into = new FrameBatch(2)
  t.equal(fragmentIpv4(pool, offset, packet.length, 576, into), false)
  while (pool.available > 2) pool.take()
  t.equal(fragmentIpv4(pool, offset, packet.length, 576, new FrameBatch(8)), false)
  t.equal(pool.available, 2)
  t.equal(into.count, 0)
  t.equal(
    fragmentIpv4(pool, offset, packet.length, 24, new FrameBatch(8)),
    false,
    'no room for 8 bytes',
  )
})
