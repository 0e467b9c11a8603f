import t from 'tap'
import { IpOptions, MAX_OPTION_BYTES, type OptionsOwner } from '../../src/core/ip-options.js'

const OWN = [10, 1, 0, 1]
const OWN_BE = 0x0100010a
const owner: OptionsOwner = {
  isUnicast: (addressBe) => addressBe !== OWN_BE,
  millisecondsOfDay: () => 0x01020304,
}
const HEADER = 20

/** Options behind a header of zeros, and what reading says. */
function read(options: number[]): { options: IpOptions; bytes: Uint8Array; broken: number } {
  const bytes = new Uint8Array(HEADER + options.length)
  bytes.set(options, HEADER)
  const reader = new IpOptions()
  const broken = reader.read(bytes, 0, bytes.length, OWN_BE, owner)
  return { options: reader, bytes, broken }
}

function optionsOf(bytes: Uint8Array): number[] {
  return [...bytes.subarray(HEADER)]
}

t.test('a recorded route has the director in its next slot', (t) => {
  const { bytes, broken } = read([7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1])
  t.equal(broken, 0)
  t.same(optionsOf(bytes), [7, 11, 8, ...OWN, 0, 0, 0, 0, 1])
  t.same(optionsOf(read([7, 7, 8, 1, 2, 3, 4, 0]).bytes), [7, 7, 8, 1, 2, 3, 4, 0], 'full')
  t.end()
})

t.test('timestamps', (t) => {
  const time = [1, 2, 3, 4]
  const none = [0, 0, 0, 0]
  t.same(optionsOf(read([68, 8, 5, 0, ...none]).bytes), [68, 8, 9, 0, ...time])
  t.same(optionsOf(read([68, 12, 5, 1, ...none, ...none]).bytes), [68, 12, 13, 1, ...OWN, ...time])
  const other = [68, 12, 5, 3, 10, 9, 9, 9, ...none]
  t.same(optionsOf(read(other).bytes), other, 'another’s slot is left to it')
  t.same(optionsOf(read([68, 12, 5, 3, ...OWN, ...none]).bytes), [68, 12, 13, 3, ...OWN, ...time])
  t.same(optionsOf(read([68, 8, 9, 0x20, ...none]).bytes), [68, 8, 9, 0x30, ...none], 'no room')
  t.equal(read([68, 8, 9, 0xf0, ...none]).broken, HEADER + 3, 'no room sixteen times')
  t.end()
})

t.test('what is broken is pointed at', (t) => {
  const cases: [number[], number][] = [
    [[1, 1, 1, 7], 3],
    [[99, 1, 0, 0], 0],
    [[99, 5, 0, 0], 0],
    [[1, 7, 2, 0], 2],
    [[7, 7, 3, 0, 0, 0, 0, 0], 2],
    [[7, 8, 6, 0, 0, 0, 0, 0], 2],
    [[7, 3, 4, 7, 3, 4, 0, 0], 3],
    [[131, 2, 0, 0], 1],
    [[131, 3, 3, 0], 2],
    [[68, 3, 5, 0], 1],
    [[68, 4, 4, 0], 2],
    [[148, 3, 0, 0], 1],
    [[134, 7, 0, 0, 0, 0, 0, 0], 1],
    [[134, 8, 0, 0, 0, 0, 0, 0], 2],
  ]
  for (const [options, place] of cases)
    t.equal(read(options).broken, HEADER + place, options.join(' '))
  t.equal(read([99, 4, 1, 2]).broken, 0, 'what is not known is not')
  t.end()
})

t.test('source routes are told, the end ends', (t) => {
  t.equal(read([131, 7, 4, 10, 2, 0, 3, 0]).options.hasSourceRoute, true)
  t.equal(read([1, 1, 1, 0]).options.hasSourceRoute, false)
  t.same(optionsOf(read([0, 5, 6, 7]).bytes), [0, 0, 0, 0])
  t.end()
})

t.test('options that are put back are as they came', (t) => {
  const given = [7, 7, 4, 0, 0, 0, 0, 0]
  const { options, bytes } = read(given)
  options.restore(bytes, 0, bytes.length)
  t.same(optionsOf(bytes), given)
  t.end()
})

t.test('an error goes on recording', (t) => {
  const to = new Uint8Array(MAX_OPTION_BYTES)
  const { options, bytes } = read([7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1])
  t.equal(options.echo(bytes, 0, 0x0200020a, owner, to), 12)
  t.same([...to.subarray(0, 12)], [7, 11, 12, ...OWN, 10, 2, 0, 2, 0])
  const none = read([99, 4, 1, 2])
  t.equal(none.options.echo(none.bytes, 0, OWN_BE, owner, to), 0, 'only those that record')
  const short = read([7, 8, 4, 0, 0, 0, 0, 0])
  t.equal(short.options.echo(short.bytes, 0, OWN_BE, owner, to), -1, 'half a slot is left')
  t.end()
})
