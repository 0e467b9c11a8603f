import fc from '../support/properties.js'
import t from 'tap'
import { fragmentIpv4 } from '../../src/core/fragment.js'
import { Gathered, type Expired } from '../../src/core/reassembly.js'
import { Ipv4Reassembly, type RoomBehind } from '../../src/core/reassembly-ipv4.js'
import { FrameBatch, FramePool, IP_HEADROOM, SCRATCH_BYTES } from '../../src/port/frame-pool.js'
import { SeededRandom } from '../../src/port/random.js'
import { hex, ipv4Packet, samePacket, udpPacket } from '../support/packets.js'

const FRAMES = 128
const SHARE = FRAMES / 4
const ENDS = { source: '198.51.100.2', destination: '192.0.2.1' }
const UDP = 17
const { waits, complete, unusable } = Gathered

class World {
  readonly pool: FramePool
  readonly reassembly: Ipv4Reassembly
  now = 0

  constructor(
    room?: RoomBehind,
    private readonly frames = FRAMES,
  ) {
    this.pool = new FramePool(new ArrayBuffer(2048 * frames + SCRATCH_BYTES), 2048, frames)
    this.reassembly = new Ipv4Reassembly(this.pool, room)
  }

  /** The frame is the reassembly's afterwards, or is free. */
  add(packet: Uint8Array, passage = { inPort: 0, isForwarded: true, mark: 0 }): Gathered {
    const offset = this.pool.take() + IP_HEADROOM
    this.pool.bytes.set(packet, offset)
    const result = this.reassembly.add(offset, packet.length, passage, this.now)
    if (result === unusable) this.pool.give(offset)
    return result
  }
  get packet(): Uint8Array {
    const { network, length } = this.reassembly
    return this.pool.bytes.slice(network, network + length)
  }
  get held(): number {
    return this.frames - this.pool.available
  }
  lost(): number {
    const { lost } = this.reassembly
    this.reassembly.lost = 0
    return lost
  }
  expire(): Expired[] {
    const expired: Expired[] = []
    this.reassembly.expire(this.now, (one) => expired.push(one))
    return expired
  }
}

interface Fields {
  id?: number
  tos?: number
  ttl?: number
  dontFragment?: boolean
  source?: string
  ipOptions?: number[]
}

const data = Uint8Array.from({ length: 70_000 }, (_, i) => i * 7)

/** A piece of the data of a packet. */
const piece = (from: number, to: number, isMore: boolean, fields: Fields = {}): Uint8Array =>
  ipv4Packet(
    {
      ...ENDS,
      protocol: UDP,
      id: 7,
      dontFragment: false,
      ...fields,
      moreFragments: isMore,
      fragmentOffset: from >> 3,
    },
    data.slice(from, to),
  )
const whole = (bytes: number, fields: Fields = {}): Uint8Array =>
  ipv4Packet(
    { ...ENDS, protocol: UDP, id: 7, dontFragment: false, ...fields },
    data.slice(0, bytes),
  )

t.test('two fragments, in any order, byte for byte', async (t) => {
  const bytes = hex(`4500 0024 1234 2000 4011 5c5e c633 6402 c000 0201
    0102 0304 0506 0708 0910 1112 1314 1516`)
  const rest = hex('4500 0016 1234 0002 4011 7c6a c633 6402 c000 0201 1718')
  const all = hex(`4500 0026 1234 0000 4011 7c5c c633 6402 c000 0201
    0102 0304 0506 0708 0910 1112 1314 1516 1718`)
  for (const order of [
    [bytes, rest],
    [rest, bytes],
  ]) {
    const world = new World()
    t.equal(world.add(order[0]!), waits)
    t.equal(world.held, 1)
    t.equal(world.add(order[1]!), complete)
    samePacket(t, world.packet, all)
    t.equal(world.held, 0)
    t.equal(world.reassembly.largest, 36)
    t.strictSame(world.reassembly.geometry, { first: 36, later: [2], headroom: 20 })
  }
})

t.test('what is cut comes together again, however it is shuffled and repeated', async () => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.uint8Array({ minLength: 100, maxLength: 9000 }),
      fc.integer({ min: 400, max: 1500 }),
      fc.constantFrom([], [1, 1, 1, 0], [227, 4, 1, 2]),
      (seed, payload, mtu, ipOptions) => {
        const world = new World()
        const { pool, reassembly } = world
        const ends = { from: '198.51.100.2:1', to: '192.0.2.1:2', id: 9 }
        const packet = udpPacket({ ...ends, payload, ipOptions, dontFragment: false })
        const start = pool.scratch + IP_HEADROOM
        pool.bytes.set(packet, start)
        const pieces = new FrameBatch(64)
        if (!fragmentIpv4(pool, start, packet.length, mtu, pieces)) return false
        if (pieces.count < 2) return true
        pool.bytes.fill(0, pool.scratch)
        const cut = Array.from(pieces.offsets.slice(0, pieces.count), (offset, i) =>
          pool.bytes.slice(offset, offset + pieces.lengths[i]!),
        )
        for (const offset of pieces.offsets.slice(0, pieces.count)) pool.give(offset)
        const random = new SeededRandom(seed)
        cut.sort(() => random.next())
        const last = cut.pop()!
        // Each of the others may come again.
        for (const one of cut)
          for (let times = 1 + (random.next() & 1); times > 0; times--)
            if (world.add(one) !== waits) return false
        return (
          world.add(last) === complete &&
          Buffer.compare(world.packet, packet) === 0 &&
          reassembly.largest === Math.max(...[...cut, last].map(({ length }) => length)) &&
          reassembly.geometry.later.length === cut.length &&
          world.held === 0 &&
          reassembly.waiting === 0
        )
      },
    ),
  )
})

t.test('whatever comes, no more is held than the share, and all is given back', async () => {
  const fragment = fc.record({
    source: fc.constantFrom('198.51.100.2', '198.51.100.3'),
    id: fc.nat(20),
    start: fc.nat(30),
    size: fc.nat(64),
    isMore: fc.boolean(),
    tos: fc.nat(3),
    isForwarded: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(fragment, { maxLength: 300 }), (fragments) => {
      const world = new World()
      let count = 0
      let used = 0
      for (const { start, size, isMore, isForwarded, ...fields } of fragments) {
        const bytes = piece(8 * start, 8 * start + size, isMore, fields)
        const before = world.held
        const result = world.add(bytes, { inPort: 0, isForwarded, mark: 0 })
        if (result === complete) used += before + 1 - world.held
        if (result === unusable) count++
        if (world.held > SHARE) return false
      }
      world.now += 3600 * 100
      world.expire()
      return (
        world.held === 0 &&
        world.reassembly.waiting === 0 &&
        // Each has ended in one way.
        world.lost() + count + used === fragments.length
      )
    }),
  )
})

t.test('a fragment that is no part of another', async (t) => {
  const world = new World()
  t.equal(world.add(piece(0, 800, true)), waits)
  t.equal(world.add(piece(0, 800, true)), waits, 'the same again')
  t.equal(world.lost(), 1)
  t.equal(world.add(piece(800, 1600, true)), waits)
  t.equal(world.add(piece(400, 1200, true)), waits, 'within what has come')
  t.equal(world.lost(), 1)
  t.equal(world.add(piece(1600, 1700, false)), complete)
  samePacket(t, world.packet, whole(1700))

  world.add(piece(0, 800, true))
  t.equal(world.add(piece(400, 1200, true)), unusable, 'an overlap spoils the packet')
  t.equal(world.lost(), 1)
  t.equal(world.held, 0)

  // What came behind a gap is no run with what closes the gap.
  world.add(piece(800, 1600, true))
  world.add(piece(0, 400, true))
  t.equal(world.add(piece(400, 800, true)), waits)
  t.equal(world.add(piece(200, 600, true)), unusable, 'an overlap of two')
  t.equal(world.lost(), 3)
})

t.test('what tells packets apart', async (t) => {
  const world = new World()
  const local = { inPort: 0, isForwarded: false, mark: 0 }
  t.equal(world.add(piece(0, 8, true)), waits)
  t.equal(world.add(piece(8, 16, false, { id: 8 })), waits, 'identification')
  t.equal(world.add(piece(8, 16, false, { source: '198.51.100.3' })), waits, 'source')
  t.equal(world.add(piece(8, 16, false), local), waits, 'for the machine itself')
  t.equal(world.add(piece(8, 16, false)), complete)
  t.equal(world.add(piece(0, 8, true), { ...local, mark: 5 }), complete)
  t.equal(world.reassembly.mark, 5)
  t.equal(world.reassembly.waiting, 2)
})

t.test('fragments that cannot be', async (t) => {
  const world = new World()
  t.equal(world.add(piece(8, 8, false)), unusable, 'nothing in it')
  t.equal(world.add(piece(8, 15, true)), unusable, 'less than eight bytes with more to come')
  world.add(piece(800, 900, false))
  t.equal(world.add(piece(800, 1000, false)), unusable, 'two ends')
  world.add(piece(800, 1600, true))
  t.equal(world.add(piece(0, 100, false)), unusable, 'an end before what has come')
  world.add(piece(800, 900, false))
  t.equal(world.add(piece(800, 1000, true)), unusable, 'more behind the end')
  t.equal(world.held, 0)
  t.equal(world.reassembly.waiting, 0)
  t.equal(world.lost(), 3)
  t.equal(world.add(piece(0, 804, true)), waits, 'the rest of eight bytes is cut off')
  t.equal(world.add(piece(800, 900, false)), complete)
  samePacket(t, world.packet, whole(900))
})

t.test('a packet that is too long', async (t) => {
  const make = (end: number): [Gathered, number] => {
    const world = new World(undefined, 4 * FRAMES)
    let start = 0
    for (; start + 1480 < end; start += 1480) world.add(piece(start, start + 1480, true))
    return [world.add(piece(start, end, false)), world.lost()]
  }
  t.strictSame(make(65_515), [complete, 0])
  t.strictSame(make(65_516), [waits, 45])
})

t.test('congestion that one fragment has met', async (t) => {
  const cases: [number, number, number | undefined][] = [
    [0, 0, 0],
    [1, 1, 1],
    [2, 3, 3],
    [1, 3, 3],
    [1, 2, 1],
    [3, 3, 3],
    [0, 2, undefined],
    [0, 3, undefined],
  ]
  for (const [first, second, tos] of cases) {
    const world = new World()
    world.add(piece(0, 8, true, { tos: first }))
    const result = world.add(piece(8, 16, false, { tos: second }))
    t.equal(result, tos === undefined ? waits : complete, `${first} and ${second}`)
    if (tos !== undefined) samePacket(t, world.packet, whole(16, { tos }))
    t.equal(world.lost(), tos === undefined ? 2 : 0)
    t.equal(world.held, 0)
  }
})

t.test('DF counts if the longest fragment has it', async (t) => {
  const make = (first: boolean, second: boolean): [boolean, boolean] => {
    const world = new World()
    world.add(piece(0, 16, true, { dontFragment: first }))
    world.add(piece(16, 24, false, { dontFragment: second }))
    return [world.reassembly.hasDontFragment, (world.packet[6]! & 0x40) !== 0]
  }
  t.strictSame(make(true, true), [true, true])
  t.strictSame(make(true, false), [true, true])
  t.strictSame(make(false, true), [false, false])
  t.strictSame(make(false, false), [false, false])
})

t.test('headers are those of the first fragment', async (t) => {
  const world = new World()
  const fields = { ttl: 9, tos: 0x20, ipOptions: [99, 4, 1, 2] }
  world.add(piece(16, 24, false, { ttl: 5 }))
  t.equal(world.add(piece(0, 16, true, fields)), complete)
  samePacket(t, world.packet, whole(24, fields))
  t.strictSame(world.reassembly.geometry, { first: 40, later: [8], headroom: 20 })
})

t.test(
  'fragments of packets for the machine itself are joined as far as there is room',
  async (t) => {
    const make = (room: number): unknown => {
      const world = new World(() => room)
      const local = { inPort: 0, isForwarded: false, mark: 0 }
      world.add(piece(0, 16, true), local)
      world.add(piece(16, 40, true), local)
      world.add(piece(40, 48, false), local)
      const { first, later } = world.reassembly.geometry
      return [first, later]
    }
    t.strictSame(make(23), [36, [24, 8]])
    t.strictSame(make(24), [60, [8]])
    t.strictSame(make(32), [68, []])
  },
)

t.test('after half a minute the rest may as well not come', async (t) => {
  const world = new World()
  world.add(piece(0, 100, true), { inPort: 3, isForwarded: false, mark: 0 })
  world.add(piece(8, 16, false, { id: 8 }))
  world.now = 1000
  world.add(piece(0, 8, true, { id: 9 }))
  world.now = 2999
  t.strictSame(world.expire(), [])
  t.equal(world.held, 3)
  world.now = 3100
  t.match(world.expire(), [{ length: 20 + 96, inPort: 3, isForwarded: false }], 'with its start')
  t.equal(world.held, 1)
  t.equal(world.lost(), 2)
  t.equal(world.add(piece(96, 104, false)), waits)
  world.now = 5000
  t.equal(world.expire().length, 1)
  t.equal(world.held, 1)
})

t.test('an identification is used again after 64 other fragments of the host', async (t) => {
  for (const between of [64, 65]) {
    const world = new World()
    world.add(piece(0, 8, true))
    for (let i = 0; i < between - 1; i++) {
      // Pairs, so that they do not fill the share.
      const id = 100 + (i >> 1)
      world.add(i % 2 === 0 ? piece(0, 8, true, { id }) : piece(8, 16, false, { id }))
    }
    world.add(piece(0, 8, true, { id: 9999, source: '198.51.100.3' }))
    const result = world.add(piece(8, 16, false))
    t.equal(result, between === 64 ? complete : waits, `${between} later`)
  }
})
