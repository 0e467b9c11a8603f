#!/usr/bin/env node
// The end of IPIP tunnels (RFC 2003) for real servers whose kernel has no ipip.
//   node decapsulator.js DEVICE
// Makes a TUN device; the kernel routes what is of protocol 4 into it, and gets the inner packets back by
// it, as it would by tunl0. Ends when the device is deleted, or by a signal.
import { mapFrames, Waiter } from '../drivers/waiter.js'
import { TunPort } from '../drivers/tun.js'
import { Gathered } from '../core/reassembly.js'
import { Ipv4Reassembly } from '../core/reassembly-ipv4.js'
import { JIFFIES_PER_SECOND } from '../port/clock.js'
import { FrameBatch, FramePool, IP_HEADROOM, SCRATCH_BYTES } from '../port/frame-pool.js'
import * as ipv4 from '../wire/ipv4.js'

/** A frame holds any packet that was put together. */
const FRAME_BYTES = 128 * 1024
const FRAMES = 256
const EBADFD = 77

const device = process.argv[2] ?? 'decap0'
const pool = new FramePool(mapFrames(FRAME_BYTES * FRAMES + SCRATCH_BYTES), FRAME_BYTES, FRAMES)
const reassembly = new Ipv4Reassembly(pool)
const PASSAGE = { inPort: 0, isForwarded: false, mark: 0 }
const port = new TunPort({ name: device, pool })
const waiter = new Waiter(port.descriptors)
const received = new FrameBatch(64)
const inner = new FrameBatch(64)

process.stdout.write(`decapsulator on ${port.interfaceName}: ready\n`)
// A signal ends a process that has no handler for it even while it waits in poll.
while (port.receiveErrno !== EBADFD) {
  waiter.wait(-1)
  port.receive(received)
  const now = Math.floor((performance.now() / 1000) * JIFFIES_PER_SECOND)
  reassembly.expire(now, () => undefined)
  for (let i = 0; i < received.count; i++)
    decapsulate(received.offsets[i]!, received.lengths[i]!, now)
  received.count = 0
  port.transmit(inner)
}

/** The packet inside goes on; anything else ends here. */
function decapsulate(offset: number, length: number, now: number): void {
  const { words, halfs, bytes } = pool
  const isTunnelled =
    ipv4.validate(words, halfs, bytes, offset, length) === ipv4.Malformed.none &&
    ipv4.protocol(bytes, offset) === ipv4.IpProtocol.ipip
  if (!isTunnelled) return pool.give(offset)
  if (!ipv4.isFragment(halfs, offset)) return passInner(offset)
  const gathered = reassembly.add(offset, length, PASSAGE, now)
  if (gathered === Gathered.unusable) return pool.give(offset)
  if (gathered !== Gathered.complete) return
  const frame = pool.take()
  if (frame < 0) return
  const { network } = reassembly
  bytes.copyWithin(frame + IP_HEADROOM, network, network + reassembly.length)
  passInner(frame + IP_HEADROOM)
}

function passInner(offset: number): void {
  const { bytes } = pool
  const headerBytes = ipv4.headerBytes(bytes, offset)
  inner.push(offset + headerBytes, ipv4.totalLength(bytes, offset) - headerBytes)
}
