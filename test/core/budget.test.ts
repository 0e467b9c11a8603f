/**
 * However little a call of `advance` may do, it comes to the same: two directors get the same packets and commands at
 * the same time, one of them may do anything at once and the other next to nothing, and connections, counters and
 * listings are the same, bit by bit.
 */
import t from 'tap'
import type { Command } from '../../src/core/commands.js'
import { LINE_WORDS } from '../../src/core/connection.js'
import { CounterRegion } from '../../src/core/counters.js'
import type { Director } from '../../src/core/director.js'
import { Cost, WORK_PER_CALL, type Work } from '../../src/core/work.js'
import { CommonState } from '../../src/core/workers/common-state.js'
import { JIFFIES_PER_SECOND } from '../../src/port/clock.js'
import { SeededRandom } from '../../src/port/random.js'
import { tcpPacket, udpPacket } from '../support/packets.js'
import { seedOr } from '../support/seed.js'
import {
  destinationKey,
  destinationOptions,
  Harness,
  serviceOptions,
  tcpService,
  udpService,
  VIP,
} from './harness.js'

const TRIALS = 6
const STEPS = 100
const SLOTS = 120
/** With less, a call comes no further than the moment. */
const LEAST_WORK = Cost.moment + 1

/** Has each call of `advance` do no more than this. */
function limitWork(director: Director, budget: number): void {
  const { work } = director as unknown as { work: Work }
  let left = 0
  Object.defineProperty(work, 'left', {
    get: () => left,
    set: (value: number) => (left = value === WORK_PER_CALL ? budget : value),
  })
}

function advance(h: Harness): void {
  for (let calls = 0; !h.director.advance(h.now); calls++)
    if (calls > 1e6) throw new Error('advance comes to no end')
}

function stateOf(h: Harness): { lines: Buffer; counters: Buffer; listing: string } {
  const { table, counters } = h.director
  const { words } = table
  const { values } = counters
  return {
    lines: Buffer.from(words.buffer, words.byteOffset, table.highWater * LINE_WORDS * 4),
    counters: Buffer.from(values.buffer, values.byteOffset, values.byteLength),
    listing: JSON.stringify(h.execute({ op: 'list-services' })),
  }
}

const names = ['rr', 'wlc', 'lblc', 'lblcr', 'sh', 'mh', 'sed']
const settings = [
  ['expire_nodest_conn', '1'],
  ['expire_nodest_conn', '0'],
  ['drop_entry', '3'],
  ['drop_entry', '0'],
  ['lblc_expiration', '86400'],
  ['lblc_expiration', '60'],
  ['run_estimation', '0'],
  ['run_estimation', '1'],
] as const

/** A command, packet, or some time: the same for both. */
function nextStep(random: SeededRandom): (h: Harness) => void {
  const below = (n: number): number => (random.next() >>> 0) % n
  const service = below(4) === 0 ? udpService() : tcpService(80 + below(3))
  const destination = destinationKey(`10.0.0.${2 + below(20)}:8080`)
  const tell =
    (command: Command) =>
    (h: Harness): void => {
      try {
        h.execute(command)
      } catch {
        // It is there already, or not there: for both alike.
      }
    }
  switch (below(12)) {
    case 0:
      if (below(3) === 0) return tell({ op: 'flush' })
      return tell({ op: 'delete-service', service })
    case 1:
    case 2: {
      const persistentTimeoutSeconds = below(2) * 90
      const scheduler = names[below(names.length)]!
      return tell({
        op: 'add-service',
        service,
        options: serviceOptions({ scheduler, persistentTimeoutSeconds }),
      })
    }
    case 3:
    case 4:
    case 5: {
      const options = destinationOptions({ weight: 1 + below(3) })
      return tell({ op: 'add-destination', service, destination, options })
    }
    case 6:
      return tell({ op: 'delete-destination', service, destination })
    case 7: {
      const [name, value] = settings[below(settings.length)]!
      return tell({ op: 'set-setting', name, value })
    }
    case 8: {
      const jiffies = below([3, 250, 70 * JIFFIES_PER_SECOND, 3600 * JIFFIES_PER_SECOND][below(4)]!)
      return (h) => {
        h.now = (h.now + jiffies) | 0
        advance(h)
      }
    }
    default: {
      const first = below(60_000)
      const packets = Array.from({ length: 1 + below(30) }, (_, i) => {
        const from = `198.51.100.${2 + below(200)}:${1024 + ((first + i) % 60_000)}`
        return 'port' in service && service.protocol === 'udp'
          ? udpPacket({ from, to: `${VIP}:53`, payload: Uint8Array.of(1, 2) })
          : tcpPacket({ from, to: `${VIP}:${(service as { port: number }).port}`, flags: 'S' })
      })
      return (h) => {
        for (const packet of packets) h.send(packet)
      }
    }
  }
}

t.test('little by little, or all at once', { timeout: 120_000 }, async (t) => {
  const random = new SeededRandom(seedOr(11))
  for (let trial = 0; trial < TRIALS; trial++) {
    // Jiffies wrap on the way, now and then.
    const now = [0, -20_000, 0x7fffffff - 20_000][trial % 3]!
    const pair = [Infinity, LEAST_WORK + ((random.next() >>> 0) % 60)].map((budget) => {
      const counters = new ArrayBuffer(CounterRegion.bytesFor(SLOTS))
      const h = new Harness({ now, counters, random: new SeededRandom(trial) })
      limitWork(h.director, budget)
      return h
    }) as [Harness, Harness]
    for (let step = 0; step < STEPS; step++) {
      const act = nextStep(random)
      for (const h of pair) act(h)
      const [atOnce, bitByBit] = pair.map(stateOf)
      if (
        !atOnce!.lines.equals(bitByBit!.lines) ||
        !atOnce!.counters.equals(bitByBit!.counters) ||
        atOnce!.listing !== bitByBit!.listing
      )
        return t.fail(`trial ${trial}, step ${step}: they differ`)
    }
    for (const h of pair) {
      h.director.table.check()
      h.execute({ op: 'flush' })
      h.now = (h.now + 7200 * JIFFIES_PER_SECOND) | 0
      advance(h)
      h.now = (h.now + 7200 * JIFFIES_PER_SECOND) | 0
      advance(h)
      if (h.director.table.count !== 0) return t.fail(`trial ${trial}: connections are left`)
    }
  }
})

t.test('connections of a destination that is removed while others are being ended', async (t) => {
  const h = new Harness()
  const early = tcpService(81)
  for (const service of [early, tcpService()]) {
    h.addService(service)
    h.addDestination(service, '10.0.0.2:80')
  }
  h.execute({ op: 'set-setting', name: 'expire_nodest_conn', value: '1' })
  for (const port of [81, 80])
    for (let i = 0; i < 1000; i++)
      h.send(tcpPacket({ from: `198.51.100.7:${1024 + i}`, to: `${VIP}:${port}`, flags: 'S' }))
  h.deleteDestination(tcpService(), '10.0.0.2:80')
  h.now += 2
  t.notOk(h.director.advance(h.now), 'those of the first come before the second')
  h.deleteDestination(early, '10.0.0.2:80')
  h.now += 2
  advance(h)
  t.equal(h.director.table.count, 0)
})

t.test('entries are dropped no more once that is switched off', async (t) => {
  const h = new Harness()
  limitWork(h.director, 50)
  h.addService(tcpService())
  h.addDestination(tcpService(), '10.0.0.2:80')
  for (let i = 0; i < 4000; i++)
    h.send(tcpPacket({ from: `198.51.100.7:${1024 + i}`, to: `${VIP}:80`, flags: 'S' }))
  h.execute({ op: 'set-setting', name: 'drop_entry', value: '3' })
  h.now += JIFFIES_PER_SECOND + 20
  t.notOk(h.director.advance(h.now), 'it takes several calls to look at a 32nd of the table')
  const left = h.director.table.count
  t.ok(left < 4000)
  h.execute({ op: 'set-setting', name: 'drop_entry', value: '0' })
  advance(h)
  t.equal(h.director.table.count, left)
})

t.test(
  'what is removed while the time is being caught up with is kept for its period',
  async (t) => {
    const h = new Harness()
    limitWork(h.director, 20)
    h.addService(tcpService())
    for (let i = 2; i < 100; i++) h.addDestination(tcpService(), `10.0.0.${i}:80`)
    h.send(tcpPacket({ from: '198.51.100.7:1024', to: `${VIP}:80`, flags: 'S' }))
    for (let i = 2; i < 99; i++) h.deleteDestination(tcpService(), `10.0.0.${i}:80`)
    h.now += 70 * JIFFIES_PER_SECOND
    advance(h)
    h.now += 3600 * JIFFIES_PER_SECOND
    for (let calls = 0; calls < 20; calls++) t.notOk(h.director.advance(h.now))
    h.deleteDestination(tcpService(), '10.0.0.99:80')
    advance(h)
    h.now += JIFFIES_PER_SECOND
    advance(h)
    h.addDestination(tcpService(), '10.0.0.99:80')
    t.equal(h.destination(tcpService(), '10.0.0.99:80').counters.connections, 1, 'still known')
  },
)

t.test('a destination is forgotten once, however often it was found before', async (t) => {
  const common = new SharedArrayBuffer(CommonState.bytesFor(64))
  const h = new Harness({ crew: { self: 0, workers: 1, clientPrefixLength: 32, common } })
  const end = '10.0.0.2:80'
  h.addService(tcpService())
  h.addDestination(tcpService(), end)
  h.deleteDestination(tcpService(), end)
  for (let i = 0; i < 5; i++) h.advance(70)
  const found = h.director.takeForgettable()
  t.ok(found.length >= 2, 'the trash was looked through again before it was told of')
  h.director.forget(found.slice(0, 1))
  h.addDestination(tcpService(), end)
  h.send(tcpPacket({ from: '198.51.100.7:1024', to: `${VIP}:80`, flags: 'S' }))
  h.deleteDestination(tcpService(), end)
  h.director.forget(found.slice(1))
  h.addDestination(tcpService(), end)
  t.equal(h.destination(tcpService(), end).counters.connections, 1, 'it is another one')
})
