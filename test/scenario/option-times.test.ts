import t from 'tap'
import { onesSum } from '../../src/scenario/decode.js'
import { withoutTimes } from '../../src/scenario/option-times.js'

/** An IPv4 header with a timestamp option of one address and time, and data behind it. */
function packetWith(time: number, protocol: number, data: readonly number[] = []): Uint8Array {
  const options = [68, 12, 13, 1, 10, 1, 0, 1, 0, 0, 0, time]
  const packet = Uint8Array.of(
    ...[0x48, 0, 0, 32 + data.length, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 1, 0, 9, 10, 2, 0, 9],
    ...options,
    ...data,
  )
  setSum(packet, 10, 0, 32)
  return packet
}

function setSum(packet: Uint8Array, at: number, start: number, end: number): void {
  const sum = 0xffff - onesSum(packet, start, end)
  packet.set([sum >> 8, sum & 255], at)
}

t.test('packets that differ in the time alone become equal', (t) => {
  t.same(withoutTimes(packetWith(1, 6)), withoutTimes(packetWith(2, 6)))
  const quoting = (time: number): Uint8Array => {
    const packet = packetWith(time, 1, [3, 1, 0, 0, 0, 0, 0, 0, ...packetWith(time, 17)])
    setSum(packet, 34, 32, packet.length)
    return packet
  }
  t.same(withoutTimes(quoting(1)), withoutTimes(quoting(9)), 'in an error and its quote')
  t.same(
    withoutTimes(packetWith(1, 4, [...packetWith(1, 6)])),
    withoutTimes(packetWith(2, 4, [...packetWith(2, 6)])),
    'in a tunnel',
  )
  t.end()
})

t.test('a wrong checksum stays wrong, and what has no times stays as it is', (t) => {
  const wrong = packetWith(1, 6)
  wrong[10]! ^= 1
  t.notSame(withoutTimes(wrong), withoutTimes(packetWith(1, 6)))
  const plain = Uint8Array.of(0x45, ...new Uint8Array(19))
  t.equal(withoutTimes(plain), plain)
  t.end()
})
