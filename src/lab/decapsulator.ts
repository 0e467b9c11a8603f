#!/usr/bin/env node
// The end of IPIP tunnels (RFC 2003) for real servers whose kernel has no ipip.
//   node decapsulator.js DEVICE
// Makes a TUN device; the kernel routes what is of protocol 4 into it, and gets the inner packets back by
// it, as it would by tunl0. Ends when the device is deleted, or by a signal.
import { mapFrames, Waiter } from '../drivers/waiter.js'
import { TunPort } from '../drivers/tun.js'
import { FrameBatch, FramePool } from '../port/frame-pool.js'

const FRAME_BYTES = 2048
const FRAMES = 256
const EBADFD = 77
const PROTOCOL_IPIP = 4
const MIN_HEADER_BYTES = 20

const device = process.argv[2] ?? 'decap0'
const pool = new FramePool(mapFrames(FRAME_BYTES * FRAMES), FRAME_BYTES, FRAMES)
const port = new TunPort({ name: device, pool })
const waiter = new Waiter(port.descriptors)
const received = new FrameBatch(64)
const inner = new FrameBatch(64)

process.stdout.write(`decapsulator on ${port.interfaceName}: ready\n`)
// A signal ends a process that has no handler for it even while it waits in poll.
while (port.receiveErrno !== EBADFD) {
  waiter.wait(-1)
  port.receive(received)
  for (let i = 0; i < received.count; i++) decapsulate(received.offsets[i]!, received.lengths[i]!)
  received.count = 0
  port.transmit(inner)
}

/** The packet inside goes on; anything else ends here. */
function decapsulate(offset: number, length: number): void {
  const { bytes } = pool
  const headerBytes = (bytes[offset]! & 15) * 4
  const isWhole = ((bytes[offset + 6]! & 0x3f) | bytes[offset + 7]!) === 0
  if (
    length >= headerBytes + MIN_HEADER_BYTES &&
    bytes[offset]! >> 4 === 4 &&
    bytes[offset + 9] === PROTOCOL_IPIP &&
    isWhole
  )
    inner.push(offset + headerBytes, length - headerBytes)
  else pool.give(offset)
}
