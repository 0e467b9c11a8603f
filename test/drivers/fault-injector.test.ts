import fc from '../support/properties.js'
import t from 'tap'
import { FaultInjector } from '../../src/drivers/fault-injector.js'
import { MemoryPort } from '../../src/drivers/memory.js'
import { FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { SeededRandom } from '../../src/port/random.js'
import { udpPacket } from '../support/packets.js'

const packet = udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2' })
const FRAMES = 256

function build(
  rates: Partial<Pick<ConstructorParameters<typeof FaultInjector>[0], 'receive' | 'transmit'>>,
  seed = 1,
) {
  const pool = new FramePool(new ArrayBuffer(FRAMES * 2048), 2048, FRAMES)
  const inner = new MemoryPort({ pool, linkLayer: LinkLayer.ip })
  const port = new FaultInjector({ inner, pool, random: new SeededRandom(seed), ...rates })
  return { pool, inner, port }
}

/** Carries `count` packets through the port and back out of it; returns what came out. */
function carry({ inner, port }: ReturnType<typeof build>, count: number): Uint8Array[] {
  for (let i = 0; i < count; i++) inner.inject(packet)
  const batch = new FrameBatch(64)
  while (inner.pending > 0 || port.transmitting) {
    port.receive(batch)
    port.transmit(batch)
  }
  return inner.takeTransmitted()
}

t.test('without faults nothing happens', async (t) => {
  const wire = build({})
  t.strictSame(carry(wire, 200), Array(200).fill(packet))
  t.strictSame(wire.port.faults, { dropped: 0, corrupted: 0, duplicated: 0 })
})

t.test('each fault alone, at its rate', async (t) => {
  for (const direction of ['receive', 'transmit'] as const) {
    const lossy = build({ [direction]: { drop: 0.25 } })
    const left = carry(lossy, 4000).length
    t.equal(left, 4000 - lossy.port.faults.dropped)
    t.ok(left > 2850 && left < 3150, `${left} of 4000 are about three quarters`)

    const doubling = build({ [direction]: { duplicate: 0.1 } })
    const all = carry(doubling, 4000).length
    t.equal(all, 4000 + doubling.port.faults.duplicated)
    t.ok(all > 4300 && all < 4500, `${all} are about a tenth more`)

    const flipping = build({ [direction]: { corrupt: 1 } })
    const differing = carry(flipping, 100).map((bytes) =>
      bytes.reduce(
        (bits, byte, i) => bits + ((byte ^ packet[i]!).toString(2).match(/1/g)?.length ?? 0),
        0,
      ),
    )
    t.strictSame(differing, Array(100).fill(1), 'one bit each')
  }
})

t.test('no frame is lost or given back twice, whatever the rates', async () => {
  const rates = fc.record({
    drop: fc.double({ min: 0, max: 1, noNaN: true }),
    corrupt: fc.double({ min: 0, max: 1, noNaN: true }),
    duplicate: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  fc.assert(
    fc.property(rates, rates, fc.integer(), fc.nat(300), (receive, transmit, seed, count) => {
      const wire = build({ receive, transmit }, seed)
      const sent = carry(wire, count)
      const { dropped, duplicated } = wire.port.faults
      wire.port.close()
      return wire.pool.available === FRAMES && sent.length === count - dropped + duplicated
    }),
  )
})

t.test('the same seed gives the same faults; rates are checked', async (t) => {
  const receive = { drop: 0.2, corrupt: 0.2, duplicate: 0.2 }
  t.strictSame(carry(build({ receive }, 7), 300), carry(build({ receive }, 7), 300))
  t.throws(() => build({ receive: { drop: 1.5 } }), /fault rate drop 1.5: must be between 0 and 1/)
})
