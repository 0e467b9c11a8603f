import t from 'tap'
import { MemoryPort } from '../../src/drivers/memory.js'
import { PcapReader, PcapWriter } from '../../src/drivers/pcap.js'
import { Tracer, timeOfDay } from '../../src/drivers/tracer.js'
import { FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { tcpPacket, udpPacket } from '../support/packets.js'

t.test('what passes is recorded with its direction, and passes', async (t) => {
  const pool = new FramePool(new ArrayBuffer(8 * 2048), 2048, 8)
  const inner = new MemoryPort({ pool, linkLayer: LinkLayer.ip, name: 'tun:uvs0' })
  const pieces: Buffer[] = []
  const writer = new PcapWriter((bytes) => pieces.push(Buffer.from(bytes)))
  const time = { seconds: 1, nanoseconds: 2 }
  const port = new Tracer(inner, pool, writer, () => time)
  const udp = udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2' })
  const tcp = tcpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2' })
  inner.inject(udp)
  inner.inject(tcp)
  const batch = new FrameBatch(8)
  t.equal(port.receive(batch), 2)
  t.equal(port.receive(batch), 0)
  port.transmit(batch)
  t.strictSame(inner.takeTransmitted(), [udp, tcp])
  t.equal(pieces.length, 0)
  port.service()
  t.equal(pieces.length, 1, 'flushed once a round')
  const read = [...new PcapReader(Buffer.concat(pieces))]
  t.strictSame(
    read.map((p) => [p.interfaceName, p.direction, p.time, Uint8Array.from(p.bytes)]),
    [
      ['tun:uvs0', 'in', time, udp],
      ['tun:uvs0', 'in', time, tcp],
      ['tun:uvs0', 'out', time, udp],
      ['tun:uvs0', 'out', time, tcp],
    ],
  )
  t.equal(port.name, 'tun:uvs0')
  t.equal(port.counters, inner.counters)
})

t.test('the time of day', async (t) => {
  const before = Math.floor(Date.now() / 1000)
  const { seconds, nanoseconds } = timeOfDay()
  t.ok(before - 1 <= seconds && seconds <= Date.now() / 1000 + 1)
  t.ok(nanoseconds >= 0 && nanoseconds < 1e9 && Number.isInteger(nanoseconds))
})
