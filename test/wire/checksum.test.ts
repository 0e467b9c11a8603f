import fc from '../support/properties.js'
import t from 'tap'
import * as checksum from '../../src/wire/checksum.js'
import { hex, plainChecksum, tcpPacket, udpPacket } from '../support/packets.js'
import { views } from './views.js'

/** A stored checksum as a native load, from the number that its bytes make. */
const be = (value: number): number => ((value & 0xff) << 8) | (value >>> 8)

t.test('the example of RFC 1071', async (t) => {
  const { halfs, bytes } = views(hex('0001 f203 f4f5 f6f7'))
  t.equal(checksum.fold(checksum.sumRange(halfs, bytes, 0, 8)), be(0xddf2))
  t.equal(checksum.finish(checksum.sumRange(halfs, bytes, 0, 8)), be(0xffff - 0xddf2))
  t.equal(checksum.internetChecksum(bytes, 0, 8), 0xffff - 0xddf2)
})

t.test('the example of RFC 1624, section 4', async (t) => {
  // HC = 0xdd2f, m = 0x5555, m' = 0x3285 gives 0x0000, where RFC 1141 gave 0xffff
  t.equal(checksum.update16(be(0xdd2f), be(0x5555), be(0x3285)), 0x0000)
})

t.test('sums of any range equal the plain sum', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(20).map((n) => n * 2),
      (data, offset) => {
        const { halfs, bytes } = views(data, offset)
        const expected = plainChecksum(data)
        return (
          checksum.finish(checksum.sumRange(halfs, bytes, offset, data.length)) === be(expected) &&
          checksum.internetChecksum(bytes, offset, data.length) === expected
        )
      },
    ),
  )
})

t.test('the longest range of the largest words does not overflow', async (t) => {
  const data = new Uint8Array(65535).fill(0xff)
  const { halfs, bytes } = views(data)
  const sum = checksum.sumRange(halfs, bytes, 0, data.length)
  const pseudo = checksum.sumPseudoHeader(255, -1, -1, 65535)
  t.ok(sum + pseudo < 2 ** 32)
  t.equal(checksum.finish(sum), be(plainChecksum(data)))
})

t.test('incremental equals full', async () => {
  fc.assert(
    fc.property(
      // a first byte that is not 0: only a range of zeros alone has two checksums
      fc.uint8Array({ minLength: 12, maxLength: 80 }).map((data) => {
        data[0] = data[0]! | 1
        return data
      }),
      fc.integer(),
      fc.nat(0xffff),
      fc.nat(1),
      (data, new32, new16, choice) => {
        const { words, halfs, bytes } = views(data)
        const length = data.length
        const before = checksum.finish(checksum.sumRange(halfs, bytes, 0, length))
        const old32 = words[1]!
        const old16 = halfs[4]!
        words[1] = new32
        halfs[4] = new16
        const after = checksum.finish(checksum.sumRange(halfs, bytes, 0, length))
        const stepwise = checksum.update16(checksum.update32(before, old32, new32), old16, new16)
        const delta = checksum.delta32(old32, new32) + checksum.delta16(old16, new16)
        return (choice === 0 ? stepwise : checksum.update(before, delta)) === after
      },
    ),
  )
})

t.test('UDP: zero is written as 0xffff', async (t) => {
  t.equal(checksum.updateUdp(be(0xdd2f), checksum.delta16(be(0x5555), be(0x3285))), 0xffff)
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 0xffff }), fc.integer(), fc.integer(), (sum, a, b) => {
      const updated = checksum.updateUdp(sum, checksum.delta32(a, b))
      return updated !== 0 && updated % 0xffff === checksum.update32(sum, a, b) % 0xffff
    }),
  )
})

t.test('transport checksums of real packets', async (t) => {
  for (const [protocol, packet] of [
    [6, tcpPacket({ from: '10.0.0.1:1234', to: '192.0.2.1:80', flags: 'PA', payload: 'odd' })],
    [17, udpPacket({ from: '10.0.0.1:1234', to: '192.0.2.1:53', payload: 'even' })],
  ] as const) {
    const { words, halfs, bytes } = views(packet)
    const verify = (): boolean =>
      checksum.verifyTransport(halfs, bytes, protocol, words[3]!, words[4]!, 20, packet.length - 20)
    t.ok(verify())
    bytes[packet.length - 1]! ^= 0x10
    t.notOk(verify())
  }
})
