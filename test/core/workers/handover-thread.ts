// One of two threads that hand packets to each other; each checks that what it gets is whole and in order.
import { parentPort, workerData } from 'node:worker_threads'
import { Handover } from '../../../src/core/workers/handover.js'
import { FramePool } from '../../../src/port/frame-pool.js'

const { self, rings, frames, packets } = workerData as {
  self: number
  rings: SharedArrayBuffer
  frames: SharedArrayBuffer
  packets: number
}
const FRAME_SIZE = 2048
const WORDS = 16

const other = 1 - self
const pool = new FramePool(frames, FRAME_SIZE, frames.byteLength / FRAME_SIZE, {
  index: self,
  of: 2,
})
const handover = new Handover(rings, self, 2, pool, () => {})
let sent = 0
let received = 0
let wrong = 0
while (sent < packets || received < packets) {
  for (let i = 0; i < 32 && sent < packets; i++) {
    const frame = pool.take()
    if (frame < 0) break
    for (let word = 0; word < WORDS; word++) pool.words[(frame >> 2) + word] = sent
    if (!handover.push(other, frame, sent, self, sent)) {
      pool.give(frame)
      break
    }
    sent++
  }
  handover.announce()
  const count = handover.receive(other)
  for (let i = 0; i < count; i++) {
    const at = handover.offsets[i]! >> 2
    if (handover.lengths[i] !== received || handover.ports[i] !== other) wrong++
    for (let word = 0; word < WORDS; word++) if (pool.words[at + word] !== received) wrong++
    pool.give(handover.offsets[i]!)
    received++
  }
  // What ended for want of a frame would be counted; here each has enough.
  wrong += handover.lost
}
// The other may still have frames of ours in its hands.
const cell = new Int32Array(new SharedArrayBuffer(4))
for (let i = 0; i < 1000 && pool.available < 2048; i++) {
  handover.announce()
  Atomics.wait(cell, 0, 0, 1)
}
parentPort!.postMessage({ received, wrong, available: pool.available })
