// The rings between workers: what is pushed arrives once, in order, and every frame has exactly one owner.
import { Worker } from 'node:worker_threads'
import fc from '../../support/properties.js'
import t from 'tap'
import { Handover } from '../../../src/core/workers/handover.js'
import { FramePool } from '../../../src/port/frame-pool.js'

const FRAME_SIZE = 2048

function crewOf(workers: number, framesEach: number) {
  const rings = new SharedArrayBuffer(Handover.bytesFor(workers))
  const frames = new ArrayBuffer(FRAME_SIZE * framesEach * workers)
  const woken: number[] = []
  const members = Array.from({ length: workers }, (_, self) => {
    const share = { index: self, of: workers }
    const pool = new FramePool(frames, FRAME_SIZE, framesEach * workers, share)
    const wake = (worker: number): void => void woken.push(worker)
    return { pool, handover: new Handover(rings, self, workers, pool, wake) }
  })
  return { members, woken }
}

const step = fc.oneof(
  fc.record({
    do: fc.constant('push' as const),
    from: fc.nat(2),
    to: fc.nat(2),
    count: fc.nat(300),
  }),
  fc.record({ do: fc.constant('announce' as const), from: fc.nat(2) }),
  fc.record({ do: fc.constant('receive' as const), from: fc.nat(2), to: fc.nat(2) }),
)

t.test('packets arrive once and in order, and no frame is lost or owned twice', async () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const framesEach = 700
      const { members } = crewOf(3, framesEach)
      // By pair: what was pushed, announced or not, and has not arrived.
      const underWay = members.map(() => members.map((): number[] => []))
      let next = 1
      const receive = (from: number, to: number): number => {
        const { handover, pool } = members[to]!
        const { available } = pool
        const lostBefore = handover.lost
        const count = handover.receive(from)
        const lost = handover.lost - lostBefore
        if (lost > 0 && count < available) throw new Error('a packet was lost that had a frame')
        for (let i = 0; i < count; i++) {
          const number = underWay[from]![to]!.shift()
          if (handover.lengths[i] !== number)
            throw new Error(`${handover.lengths[i]}, not ${number}`)
          if (handover.ports[i] !== number % 7) throw new Error('another port')
          if (pool.words[handover.offsets[i]! >> 2] !== number) throw new Error('another packet')
          pool.give(handover.offsets[i]!)
        }
        // Whoever has pushed nearly all of its frames may have none to give for what comes in.
        underWay[from]![to]!.splice(0, lost)
        return count + lost
      }
      for (const one of steps) {
        const { handover, pool } = members[one.from]!
        if (one.do === 'announce') handover.announce()
        else if (one.from === one.to) continue
        else if (one.do === 'receive') receive(one.from, one.to)
        else
          for (let i = 0; i < one.count; i++) {
            const frame = pool.take()
            if (frame < 0) break
            pool.words[(frame + 256) >> 2] = next
            if (handover.push(one.to, frame + 256, next, next % 7, next))
              underWay[one.from]![one.to]!.push(next++)
            else pool.give(frame)
          }
      }
      for (let moved = 1; moved > 0;) {
        moved = 0
        for (const { handover } of members) handover.announce()
        for (const from of [0, 1, 2])
          for (const to of [0, 1, 2]) if (from !== to) moved += receive(from, to)
      }
      const owned = new Set<number>()
      for (const { pool } of members) {
        if (pool.available !== framesEach) throw new Error('a pool has become smaller or larger')
        for (let i = 0; i < framesEach; i++) owned.add(pool.take())
      }
      if (owned.size !== 3 * framesEach) throw new Error('a frame has two owners')
    }),
    { numRuns: 100 },
  )
})

t.test('a full ring takes no more, and takes again when the other has received', async (t) => {
  const { members } = crewOf(2, 2048)
  const [one, other] = members
  let pushed = 0
  while (one!.handover.push(1, one!.pool.take(), 60, 0, 0)) pushed++
  t.equal(pushed, 1024)
  one!.handover.announce()
  const count = other!.handover.receive(0)
  t.ok(count > 0)
  for (let i = 0; i < count; i++) t.ok(one!.handover.push(1, one!.pool.take(), 60, 0, 0))
  t.notOk(one!.handover.push(1, 0, 60, 0, 0))
})

t.test('who has no frame to give for another keeps none, and says so', async (t) => {
  const { members } = crewOf(2, 8)
  const [one, other] = members
  while (other!.pool.available > 0) other!.pool.take()
  for (let i = 0; i < 8; i++) one!.handover.push(1, one!.pool.take(), 60, 0, 0)
  one!.handover.announce()
  t.equal(other!.handover.receive(0), 0)
  t.equal(other!.handover.lost, 8)
  one!.handover.announce()
  t.equal(one!.pool.available, 8)
})

t.test('only who sleeps is woken, and nobody goes to sleep on what is there', async (t) => {
  const { members, woken } = crewOf(2, 8)
  const [one, other] = members
  const send = (): void => {
    one!.handover.push(1, one!.pool.take(), 60, 0, 0)
    one!.handover.announce()
  }
  send()
  t.same(woken, [])
  t.notOk(other!.handover.maySleep())
  other!.handover.awake()
  other!.handover.receive(0)
  t.ok(other!.handover.maySleep())
  send()
  t.same(woken, [1])
  other!.handover.awake()
  send()
  t.same(woken, [1])
})

t.test('two threads exchange packets as fast as they can', async (t) => {
  const packets = 200_000
  const rings = new SharedArrayBuffer(Handover.bytesFor(2))
  const frames = new SharedArrayBuffer(FRAME_SIZE * 4096)
  const run = (self: number): Promise<{ received: number; wrong: number; available: number }> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./handover-thread.js', import.meta.url), {
        workerData: { self, rings, frames, packets },
      })
      worker.once('message', resolve)
      worker.once('error', reject)
    })
  for (const result of await Promise.all([run(0), run(1)]))
    t.same(result, { received: packets, wrong: 0, available: 2048 })
})
