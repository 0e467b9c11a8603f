import fc from '../support/properties.js'
import t from 'tap'
import { fragmentIpv6 } from '../../src/core/fragment.js'
import { Gathered } from '../../src/core/reassembly.js'
import { Ipv6Reassembly } from '../../src/core/reassembly-ipv6.js'
import { FrameBatch, FramePool, IP_HEADROOM, SCRATCH_BYTES } from '../../src/port/frame-pool.js'
import { SeededRandom } from '../../src/port/random.js'
import { hex, samePacket, udpPacket, type UdpFields } from '../support/packets.js'
import { fragmentHeader, ipv6Packet } from '../support/packets-ipv6.js'

const FRAMES = 64
const ENDS = { source: 'fd01::2', destination: 'fd00::1' }
const UDP = 17

class World {
  readonly pool = new FramePool(new ArrayBuffer(2048 * FRAMES + SCRATCH_BYTES), 2048, FRAMES)
  readonly reassembly = new Ipv6Reassembly(this.pool)
  now = 0

  /** The frame is the reassembly's afterwards, or is free. */
  add(packet: Uint8Array): Gathered {
    const offset = this.pool.take() + IP_HEADROOM
    this.pool.bytes.set(packet, offset)
    const result = this.reassembly.add(offset, 0, this.now)
    if (result === Gathered.unusable || result === Gathered.single) this.pool.give(offset)
    return result
  }
  get packet(): Uint8Array {
    const { network, length } = this.reassembly
    return this.pool.bytes.slice(network, network + length)
  }
  lost(): number {
    const { lost } = this.reassembly
    this.reassembly.lost = 0
    return lost
  }
}

/** A piece of the data of a packet. */
const piece = (
  data: Uint8Array,
  from: number,
  to: number,
  isMore: boolean,
  more: { id?: number; tos?: number; ttl?: number } = {},
): Uint8Array =>
  ipv6Packet(
    {
      ...ENDS,
      protocol: UDP,
      ...more,
      extensions: [fragmentHeader(from, isMore, more.id ?? 7)],
    },
    data.slice(from, to),
  )

const data = Uint8Array.from({ length: 2000 }, (_, i) => i * 7)
const whole = (more = {}): Uint8Array => ipv6Packet({ ...ENDS, protocol: UDP, ...more }, data)

t.test('two fragments, in any order, byte for byte', async (t) => {
  const bytes = hex(`6000 0000 0018 2c40
    fd01 0000 0000 0000 0000 0000 0000 0002 fd00 0000 0000 0000 0000 0000 0000 0001
    1100 0001 1234 5678 0102 0304 0506 0708 0910 1112 1314 1516`)
  const rest = hex(`6000 0000 000a 2c40
    fd01 0000 0000 0000 0000 0000 0000 0002 fd00 0000 0000 0000 0000 0000 0000 0001
    1100 0010 1234 5678 1718`)
  const all = hex(`6000 0000 0012 1140
    fd01 0000 0000 0000 0000 0000 0000 0002 fd00 0000 0000 0000 0000 0000 0000 0001
    0102 0304 0506 0708 0910 1112 1314 1516 1718`)
  for (const order of [
    [bytes, rest],
    [rest, bytes],
  ]) {
    const world = new World()
    t.equal(world.add(order[0]!), Gathered.waits)
    t.equal(world.pool.available, FRAMES - 1)
    t.equal(world.add(order[1]!), Gathered.complete)
    t.strictSame(world.packet, all)
    t.equal(world.pool.available, FRAMES)
    t.equal(world.reassembly.largest, 64)
    t.strictSame(world.reassembly.geometry, { first: 56, later: [2] })
  }
})

t.test('what is cut comes together again, however it is shuffled and repeated', async () => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.uint8Array({ minLength: 100, maxLength: 9000 }),
      fc.integer({ min: 600, max: 1500 }),
      fc.constantFrom([], [[0, [0, 1, 4, 0, 0, 0, 0]]], [[43, [0, 0, 0, 0, 0, 0, 0]]]),
      (seed, payload, mtu, extensions) => {
        const world = new World()
        const { pool, reassembly } = world
        const fields = { from: '[fd01::2]:1', to: '[fd00::1]:2', payload, extensions } as UdpFields
        const packet = udpPacket(fields)
        pool.bytes.set(packet, pool.scratch + IP_HEADROOM)
        const pieces = new FrameBatch(64)
        const start = pool.scratch + IP_HEADROOM
        if (!fragmentIpv6(pool, start, packet.length, mtu, seed, pieces)) return false
        pool.bytes.fill(0, pool.scratch)
        const offsets = Array.from(pieces.offsets.slice(0, pieces.count))
        const sizes = Array.from(pieces.lengths.slice(0, pieces.count))
        const random = new SeededRandom(seed)
        offsets.sort(() => random.next())
        const results = offsets.map((offset) => reassembly.add(offset, 0, 0))
        const last = results.pop()
        return (
          last === Gathered.complete &&
          results.every((result) => result === Gathered.waits) &&
          Buffer.compare(world.packet, packet) === 0 &&
          reassembly.largest === Math.max(...sizes) &&
          reassembly.geometry.later.length === sizes.length - 1 &&
          pool.available === FRAMES &&
          reassembly.waiting === 0
        )
      },
    ),
  )
})

t.test('packets are told apart by addresses and identification', async (t) => {
  const world = new World()
  world.add(piece(data, 0, 1000, true, { id: 1 }))
  world.add(piece(data, 1000, 2000, false, { id: 2 }))
  t.equal(world.reassembly.waiting, 2)
  t.equal(world.add(piece(data, 1000, 2000, false, { id: 1 })), Gathered.complete)
  samePacket(t, world.packet, whole())
  t.equal(world.add(piece(data, 0, 1000, true, { id: 2 })), Gathered.complete)
  samePacket(t, world.packet, whole())
})

t.test('a fragment that is no part of another', async (t) => {
  const world = new World()
  t.equal(world.add(piece(data, 0, 2000 - 48, false)), Gathered.complete, 'an atomic one')
  t.equal(world.packet.length, 2000 - 8)
  t.strictSame(world.reassembly.geometry.later, [])
})

t.test('the same again is let go, what overlaps ends the packet', async (t) => {
  const world = new World()
  world.add(piece(data, 0, 1000, true))
  t.equal(world.add(piece(data, 0, 1000, true)), Gathered.waits)
  t.equal(world.add(piece(data, 8, 800, true)), Gathered.waits, 'part of it')
  t.equal(world.lost(), 2)
  t.equal(world.add(piece(data, 992, 2000, false)), Gathered.unusable)
  t.equal(world.lost(), 1)
  t.equal(world.reassembly.waiting, 0)
  t.equal(world.pool.available, FRAMES)
})

t.test('fragments that cannot be', async (t) => {
  const world = new World()
  t.equal(world.add(piece(data, 0, 999, true)), Gathered.single, 'not a multiple of 8')
  t.equal(world.add(piece(data, 0, 0, true)), Gathered.single, 'without its header')
  t.equal(world.add(piece(data, 8, 8, true)), Gathered.unusable, 'empty')
  world.add(piece(data, 1000, 2000, false))
  t.equal(world.add(piece(data, 0, 900, false)), Gathered.unusable, 'another end')
  t.equal(world.add(piece(data, 1000, 1800, false)), Gathered.unusable)
  t.equal(world.add(piece(new Uint8Array(3000), 2000, 2800, true)), Gathered.unusable, 'behind it')
  const far = piece(new Uint8Array(70_000), 65_528, 65_536, false, { id: 9 })
  t.equal(world.add(far), Gathered.unusable, 'beyond the longest packet')
  t.equal(world.add(piece(data, 0, 1000, true)), Gathered.complete)
})

t.test('congestion that one fragment has met', async (t) => {
  const gather = (first: number, second: number): number | undefined => {
    const world = new World()
    world.add(piece(data, 0, 1000, true, { tos: first }))
    const result = world.add(piece(data, 1000, 2000, false, { tos: second }))
    if (result !== Gathered.complete) {
      t.equal(world.lost(), 2)
      return undefined
    }
    return ((world.packet[0]! & 15) << 4) | (world.packet[1]! >> 4)
  }
  t.equal(gather(0xb9, 0xe2), 0xb9, 'the first one’s traffic class')
  t.equal(gather(0x01, 0x03), 0x03)
  t.equal(gather(0x03, 0x02), 0x03)
  t.equal(gather(0xb8, 0xe0), 0xb8)
  t.equal(gather(0x00, 0x03), undefined, 'some cannot tell')
  t.equal(gather(0x02, 0x00), undefined)
})

t.test('after a minute the packet is given up, and what waits is bounded', async (t) => {
  const world = new World()
  const expire = (now: number): number[] => {
    const lengths: number[] = []
    world.reassembly.expire((world.now = now), ({ length }) => lengths.push(length))
    return lengths
  }
  world.add(piece(data, 0, 1000, true))
  world.add(piece(data, 1000, 1100, false, { id: 8 }))
  t.strictSame(expire(6000), [])
  t.equal(world.reassembly.waiting, 2)
  t.strictSame(expire(7000), [1048], 'the one that has a beginning is told of')
  t.equal(world.reassembly.waiting, 0)
  t.equal(world.lost(), 2)
  t.equal(world.pool.available, FRAMES)
  for (let id = 0; id < FRAMES; id++) world.add(piece(data, 0, 1000, true, { id }))
  t.equal(world.pool.available, FRAMES * 0.75)
  t.equal(expire(14_000).length, FRAMES / 4)
  t.equal(world.pool.available, FRAMES)
})

t.test('without a scratch nothing is put together', async (t) => {
  const pool = new FramePool(new ArrayBuffer(2048 * 4), 2048, 4)
  const offset = pool.take() + IP_HEADROOM
  pool.bytes.set(piece(data, 0, 1000, true), offset)
  t.equal(new Ipv6Reassembly(pool).add(offset, 0, 0), Gathered.unusable)
})
