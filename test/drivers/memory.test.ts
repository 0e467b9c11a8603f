import t from 'tap'
import { FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { LoadPort, MemoryPort } from '../../src/drivers/memory.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { ethernetFrame, macBytes, udpPacket } from '../support/packets.js'

const packet = udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2' })
const newPool = (frames = 4): FramePool =>
  new FramePool(new ArrayBuffer(frames * 2048), 2048, frames)

t.test('a packet in, the same packet out, frames back', async (t) => {
  const pool = newPool()
  const port = new MemoryPort({ pool, linkLayer: LinkLayer.ip })
  const batch = new FrameBatch(8)
  t.ok(port.inject(packet))
  t.equal(port.pending, 1)
  t.equal(port.receive(batch), 1)
  t.equal(port.pending, 0)
  t.equal(batch.offsets[0]! % 4, 0, 'the IP header is aligned')
  t.equal(batch.lengths[0], packet.length)
  t.equal(pool.available, 3)
  port.transmit(batch)
  t.equal(batch.count, 0)
  t.equal(pool.available, 4)
  t.strictSame(port.takeTransmitted(), [packet])
  t.strictSame(port.takeTransmitted(), [])
  t.strictSame(port.counters, {
    rxPackets: 1,
    rxBytes: packet.length,
    txPackets: 1,
    txBytes: packet.length,
    rxDropped: 0,
    txDropped: 0,
  })
})

t.test('Ethernet frames leave IP aligned', async (t) => {
  const pool = newPool()
  const mac = Uint8Array.from(macBytes('02:00:00:00:00:02'))
  const port = new MemoryPort({ pool, linkLayer: LinkLayer.ethernet, mac })
  const batch = new FrameBatch(8)
  port.inject(ethernetFrame({ from: '02:00:00:00:00:01', to: '02:00:00:00:00:02' }, packet))
  port.receive(batch)
  t.equal((batch.offsets[0]! + 14) % 4, 0)
  t.throws(() => new MemoryPort({ pool, linkLayer: LinkLayer.ethernet }), /needs a mac of 6 bytes/)
})

t.test('batches, an empty pool and packets that are too long', async (t) => {
  const pool = newPool(4)
  const port = new MemoryPort({ pool, linkLayer: LinkLayer.ip })
  for (let i = 0; i < 6; i++) port.inject(packet)
  t.notOk(port.inject(new Uint8Array(2048 - 272 + 1)))
  t.ok(port.inject(new Uint8Array(2048 - 272)))
  t.equal(port.counters.rxDropped, 1)
  const small = new FrameBatch(3)
  t.equal(port.receive(small), 3, 'a full batch')
  t.equal(port.receive(small), 0)
  const large = new FrameBatch(8)
  t.equal(port.receive(large), 1, 'an empty pool')
  t.equal(port.pending, 3, 'the rest waits')
  port.transmit(small)
  t.equal(port.receive(large), 3)
})

t.test('a load port writes its packets into frames and stops at its budget', async (t) => {
  const pool = newPool()
  const source = {
    written: 0,
    write(pool: FramePool, offset: number): number {
      pool.bytes[offset] = this.written++
      return 20
    },
  }
  const port = new LoadPort({ pool, linkLayer: LinkLayer.ip }, source)
  const batch = new FrameBatch(2)
  t.equal(port.receive(batch), 0)
  port.budget = 3
  t.equal(port.receive(batch), 2)
  t.equal(pool.bytes[batch.offsets[1]!], 1)
  port.transmit(batch)
  t.equal(port.receive(batch), 1)
  port.transmit(batch)
  t.equal(port.receive(batch), 0)
  t.equal(port.counters.txBytes, 60)
  t.equal(pool.available, 4)
})
