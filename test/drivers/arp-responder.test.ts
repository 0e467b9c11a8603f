import t, { type Test } from 'tap'
import { answerArpRequest, ARP_FRAME_BYTES } from '../../src/drivers/arp-responder.js'
import { ETHERNET_HEADROOM, FramePool } from '../../src/port/frame-pool.js'
import { addressBe, hex } from '../support/packets.js'

const station = new Uint16Array(hex('02 00 00 00 00 99').buffer)
const own = Int32Array.of(addressBe('10.0.0.7'), addressBe('10.0.0.100'))

/** Who has 10.0.0.100? Tell 10.0.0.1 */
const request = `
  ff ff ff ff ff ff  02 00 00 00 00 01  08 06
  00 01  08 00  06  04  00 01
  02 00 00 00 00 01  0a 00 00 01
  00 00 00 00 00 00  0a 00 00 64`

/** Runs the responder on a frame and returns what it answered, undefined when it did not. */
function answer(t: Test, frame: Uint8Array, addresses = own): string | undefined {
  const pool = new FramePool(new ArrayBuffer(2048), 2048, 1)
  const offset = pool.take() + ETHERNET_HEADROOM
  pool.bytes.set(frame, offset)
  if (answerArpRequest(pool, offset, frame.length, station, addresses))
    return Buffer.from(pool.bytes.subarray(offset, offset + ARP_FRAME_BYTES)).toString('hex')
  t.same(pool.bytes.subarray(offset, offset + frame.length), frame, 'left as it was')
  return undefined
}

/** The request with some of its bytes changed, from an offset on. */
function changed(at: number, bytes: string): Uint8Array {
  const frame = hex(request)
  frame.set(hex(bytes), at)
  return frame
}

const plain = (text: string): string => Buffer.from(hex(text)).toString('hex')

t.test('a request for an own address becomes the answer', async (t) => {
  const expected = plain(`
    02 00 00 00 00 01  02 00 00 00 00 99  08 06
    00 01  08 00  06  04  00 02
    02 00 00 00 00 99  0a 00 00 64
    02 00 00 00 00 01  0a 00 00 01`)
  t.equal(answer(t, hex(request)), expected)
  const padded = new Uint8Array(60)
  padded.set(hex(request))
  t.equal(answer(t, padded), expected, 'with the padding of a real network')
  t.equal(answer(t, changed(0, '02 00 00 00 00 99')), expected, 'asked of the station alone')
})

t.test('a probe is answered, so that nobody else takes the address', async (t) => {
  t.equal(
    answer(t, changed(28, '00 00 00 00')),
    plain(`
      02 00 00 00 00 01  02 00 00 00 00 99  08 06
      00 01  08 00  06  04  00 02
      02 00 00 00 00 99  0a 00 00 64
      02 00 00 00 00 01  00 00 00 00`),
  )
})

t.test('all else is left alone', async (t) => {
  const others: [string, Uint8Array][] = [
    ['another address', changed(38, '0a 00 00 65')],
    ['an answer', changed(20, '00 02')],
    ['a reverse request', changed(20, '00 03')],
    ['an announcement', changed(28, '0a 00 00 64')],
    ['a frame for another station', changed(0, '02 00 00 00 00 98')],
    ['a question of our own', changed(22, '02 00 00 00 00 99')],
    ['a group as the asker', changed(22, '03 00 00 00 00 01')],
    ['IPv4', changed(12, '08 00')],
    ['another hardware type', changed(14, '00 06')],
    ['another protocol', changed(16, '86 dd')],
    ['another length of Ethernet addresses', changed(18, '08')],
    ['another length of addresses', changed(19, '10')],
    ['a byte too few', hex(request).subarray(0, 41)],
    ['nothing', new Uint8Array(0)],
  ]
  for (const [what, frame] of others) t.equal(answer(t, frame), undefined, what)
  t.equal(answer(t, hex(request), new Int32Array(0)), undefined, 'no addresses')
})
