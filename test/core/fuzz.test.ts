/**
 * Bad input: whatever comes in, nothing is thrown, every packet ends in exactly one way and is counted,
 * every frame comes back to the pool, and memory stays as it is.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from '../support/properties.js'
import t from 'tap'
import type { Command } from '../../src/core/commands.js'
import { Verdict } from '../../src/core/verdict.js'
import { ETHERNET_HEADROOM } from '../../src/port/frame-pool.js'
import { SeededRandom } from '../../src/port/random.js'
import { FRAMES, frameFor, FuzzWorld, soundPackets, spoil, SPOILS } from '../support/fuzz-world.js'
import { isLaterFragment } from '../support/observed-director.js'
import { packetProblems, packetSummary } from '../support/packets.js'

const BULK_FRAMES = 300_000
const BATCH = 100
const HEAP_SLACK_BYTES = 3_000_000

/** Runs a batch of frames through a world and adds up what came out: packets, later fragments not counted. */
function throwAt(world: FuzzWorld, frames: { port: 0 | 1; frame: Uint8Array }[]): number {
  for (const { port, frame } of frames) world.ports[port].inject(frame)
  return countSent(world, world.carry())
}

function countSent(world: FuzzWorld, sent: Uint8Array[][]): number {
  let count = 0
  sent.forEach((packets, port) => {
    for (const packet of packets) {
      const ip = port === 2 ? packet : packet.subarray(14)
      if (!isLaterFragment(ip)) count++
      // What the kernel gets is as it came; what leaves by the director's own hand has a sound header.
      if (port === 2) continue
      const problems = packetProblems(ip).filter((p) => /^(IP |total|header of)/.test(p))
      if (problems.length > 0)
        world.director.violations.push(`sent: ${packetSummary(ip)}: ${problems.join(', ')}`)
    }
  })
  return count
}

/** What the books say must have been sent, all told. */
function expectedSent(world: FuzzWorld): number {
  const { ends, gatheredEnds, lost } = world.director
  const afterwards = ['neighbour-unresolved', 'neighbour-queue-full', 'no-route', 'no-frame']
  const lostAfterwards = afterwards.reduce((sum, reason) => sum + (lost[reason] ?? 0), 0)
  const ofFragments = gatheredEnds.sent + gatheredEnds.timeouts
  return ends.forwarded + ends.answered + ends.declined + ofFragments - lostAfterwards
}

function expectedReceived(world: FuzzWorld): number {
  const { ends, lost } = world.director
  const linkReasons = ['truncated-link-header', 'not-for-us', 'not-ip']
  const lostBefore = linkReasons.reduce((sum, reason) => sum + (lost[reason] ?? 0), 0)
  return Object.values(ends).reduce((sum, count) => sum + count, lostBefore)
}

function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  return process.memoryUsage().heapUsed
}

t.test('sound packets, spoilt in every way, by the hundred thousand', async (t) => {
  const world = new FuzzWorld()
  const random = new SeededRandom(20_241)
  const below = (n: number): number => (random.next() >>> 0) % n
  const sound = soundPackets(random)
  const frames = sound.map(({ port, packet }) => ({ port, frame: frameFor(port, packet) }))
  const destination = { address: '10.0.0.3', port: 8080 }
  const service = { protocol: 'tcp', address: '192.0.2.1', port: 80 } as const
  const options = {
    forwarding: 'masquerade',
    weight: 1,
    upperThreshold: 0,
    lowerThreshold: 0,
  } as const
  const changes: Command[] = [
    { op: 'delete-destination', service, destination },
    { op: 'add-destination', service, destination, options },
    { op: 'edit-destination', service, destination, options: { ...options, weight: 0 } },
    { op: 'edit-destination', service, destination, options: { ...options, weight: 3 } },
  ]
  let injected = 0
  let sent = 0
  let heapBefore = 0
  for (let done = 0; done < BULK_FRAMES; done += BATCH) {
    if (done === BULK_FRAMES / 3) heapBefore = heapUsed()
    const batch = Array.from({ length: BATCH }, () => {
      const { port, frame } = frames[below(frames.length)]!
      const isSound = below(3) === 0
      return { port, frame: isSound ? frame : spoil(frame, random, SPOILS[below(SPOILS.length)]!) }
    })
    injected += batch.length
    sent += throwAt(world, batch)
    world.clock.advanceJiffies(below(30))
    if (below(400) === 0) world.clock.advanceSeconds(below(300))
    // The configuration changes under traffic, in an order in which each change is possible.
    if (done % (20 * BATCH) === 0) world.director.execute(changes[(done / BATCH / 20) % 4]!)
  }
  sent += countSent(world, world.settle())
  const heapAfter = heapUsed()

  t.strictSame(world.director.violations, [])
  const { reasons, connections } = world.director.execute({ op: 'get-counters' })
  const met = Object.entries(reasons).filter(([, count]) => count > 0)
  t.comment(`${injected} frames: ${JSON.stringify(world.director.ends)}`)
  t.comment(met.map(([reason, count]) => `${reason} ${count}`).join(', '))
  t.equal(
    world.ports[0].counters.rxPackets + world.ports[1].counters.rxPackets,
    injected,
    'all were received',
  )
  t.equal(expectedReceived(world), injected, 'all were counted')
  t.equal(sent, expectedSent(world), 'what was to be sent was sent')
  t.equal(world.plane.waitingPackets, 0)
  t.equal(world.pool.available, FRAMES, 'all frames are back')
  t.ok(connections > 100, `${connections} connections`)
  world.director.table.check()
  t.ok(met.length >= 20, `${met.length} reasons were met`)
  t.ok(heapAfter - heapBefore < HEAP_SLACK_BYTES, `heap grew by ${heapAfter - heapBefore} bytes`)

  // Templates wait for what they control.
  for (let minute = 0; minute < 60; minute++) {
    world.clock.advanceSeconds(60)
    world.plane.round()
  }
  world.director.table.check()
  t.equal(world.director.table.count, 0, 'all connections end')
})

t.test('any frame at all, to be shrunk when it fails', async () => {
  const sound = soundPackets(new SeededRandom(7)).map(({ port, packet }) => ({
    port,
    frame: frameFor(port, packet),
  }))
  const edited = fc
    .tuple(
      fc.nat(sound.length - 1),
      fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 6 }),
      fc.option(fc.nat(1600)),
    )
    .map(([index, edits, length]) => {
      const { port, frame } = sound[index]!
      const copy = Uint8Array.from(frame)
      for (const [at, value] of edits) if (at < copy.length) copy[at] = value
      return { port, frame: length === null ? copy : copy.subarray(0, length) }
    })
  const random = fc.record({
    port: fc.constantFrom(0 as const, 1 as const),
    frame: fc.uint8Array({ maxLength: 200 }),
  })
  const world = new FuzzWorld()
  fc.assert(
    fc.property(fc.array(fc.oneof(edited, random), { maxLength: 12 }), (frames) => {
      world.director.violations.length = 0
      throwAt(world, frames)
      world.settle()
      world.director.table.check()
      if (world.pool.available !== FRAMES)
        throw new Error(`${FRAMES - world.pool.available} frames missing`)
      if (world.director.violations.length > 0) throw new Error(world.director.violations[0])
    }),
    { numRuns: 300 },
  )
})

t.test('every length of a sound packet', async (t) => {
  const world = new FuzzWorld()
  const sound = soundPackets(new SeededRandom(3)).slice(0, 60)
  for (const { port, packet } of sound) {
    const start = world.pool.take()
    const network = start + ETHERNET_HEADROOM + 14
    for (let length = 0; length < Math.min(packet.length, 120); length++) {
      // What follows in the frame is an earlier packet's: none of it may be taken for this one's.
      world.pool.bytes.fill(0xff, start, start + world.pool.frameSize)
      world.pool.bytes.set(packet.subarray(0, length), network)
      const verdict = world.director.process(network, length, port)
      if (verdict !== Verdict.drop) t.fail(`${length} bytes of ${packetSummary(packet)}: sent`)
    }
    world.pool.give(start)
  }
  t.strictSame(world.director.violations, [])
})
