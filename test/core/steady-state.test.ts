/**
 * The data plane's steady state makes no garbage: ten million packets in a process of its own under
 * --trace-gc, and V8 reports not one collection. New connections, their ends and the visits of the timer
 * wheel are part of it.
 *
 * V8 writes its lines through C's buffered stdout, which knows no order with ours. So the steady state is
 * bracketed by two collections that are asked for, whose lines stand in the same stream: what happened
 * between them stands between them.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Load } from '../../bench/load.js'
import { BATCH_SIZE } from '../../src/core/data-plane.js'
import type { Clock } from '../../src/port/clock.js'

/** Masquerading, which is both directions, goes the whole way; the others differ only at the end of theirs. */
const CASES = [
  { family: 4, forwarding: 'masquerade', packets: 10_000_000 },
  { family: 4, forwarding: 'direct-route', packets: 2_000_000 },
  { family: 4, forwarding: 'tunnel', packets: 2_000_000 },
  { family: 6, forwarding: 'masquerade', packets: 2_000_000 },
  { family: 6, forwarding: 'tunnel', packets: 2_000_000 },
] as const
type Case = (typeof CASES)[number]
const WARM_UP_PACKETS = 2_000_000
const CONNECTIONS = 65536

/** A heap that grows by less than this over all packets: the compiler's own work, not that of packets. */
const HEAP_SLACK_BYTES = 600_000

/** A jiffy for 64 packets, so some a round: the wheel turns once and more while the packets pass. */
const JIFFIES_PER_ROUND = BATCH_SIZE / 64

class RoundClock implements Clock {
  private jiffies = 0
  nowJiffies(): number {
    return (this.jiffies = (this.jiffies + JIFFIES_PER_ROUND) | 0)
  }
}

interface Outcome {
  nanosecondsPerPacket: number
  grownBytes: number
  jiffies: number
  newConnections: number
  connections: number
}

/** In the process of its own. */
function run({ family, forwarding, packets }: Case): Outcome {
  const clock = new RoundClock()
  const load = new Load({
    family,
    forwarding,
    connections: CONNECTIONS,
    clock,
    newConnectionEvery: 64,
  })
  load.run(WARM_UP_PACKETS)
  const collect = (globalThis as { gc?: () => void }).gc!
  const total = () => load.director.execute({ op: 'get-counters' }).total.connections
  const newBefore = total()
  const jiffies = clock.nowJiffies()
  collect()
  const before = process.memoryUsage().heapUsed
  const start = process.hrtime.bigint()
  load.run(packets)
  const nanoseconds = Number(process.hrtime.bigint() - start)
  const grownBytes = process.memoryUsage().heapUsed - before
  collect()
  load.check(WARM_UP_PACKETS + packets)
  load.director.table.check()
  return {
    nanosecondsPerPacket: nanoseconds / packets,
    grownBytes,
    jiffies: clock.nowJiffies() - jiffies,
    newConnections: total() - newBefore,
    connections: load.director.table.count,
  }
}

const child = process.argv[2]
if (child !== undefined && child.startsWith('--run=')) {
  console.log(JSON.stringify(run(CASES[Number(child.slice('--run='.length))]!)))
} else {
  for (const [i, { family, forwarding, packets }] of CASES.entries()) {
    const name = `${forwarding}, IPv${family}`
    t.test(`${packets / 1e6} million packets, ${name}`, { timeout: 600_000 }, async (t) => {
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        ['--expose-gc', '--trace-gc', fileURLToPath(import.meta.url), `--run=${i}`],
        // without tap's loaders and coverage, whose garbage is not ours, but with its patience
        { encoding: 'utf8', env: { PATH: process.env.PATH, TAP_TIMEOUT: '600' } },
      )
      t.equal(status, 0, stderr)
      const lines = stdout.split('\n')
      const collections = lines.filter((line) => /^\[\d+:0x[0-9a-f]+\]/.test(line))
      const asked = collections.flatMap((line, i) => (line.includes('testing') ? [i] : []))
      t.equal(asked.length, 2, 'the two collections that were asked for')
      t.strictSame(collections.slice(asked[0]! + 1, asked[1]), [], 'and none between them')
      const outcome = JSON.parse(lines.find((line) => line.startsWith('{')) ?? '{}') as Outcome
      t.comment(
        `${name}: ${outcome.nanosecondsPerPacket.toFixed(0)} ns a packet, heap +${outcome.grownBytes} bytes, ` +
          `${outcome.newConnections} new connections, ${outcome.jiffies / 100} s of timers`,
      )
      t.ok(outcome.grownBytes < HEAP_SLACK_BYTES, `heap grew by ${outcome.grownBytes} bytes`)
      if (packets > 2_000_000) t.ok(outcome.jiffies > 65536, 'the timer wheel has turned')
      t.ok(outcome.newConnections > 15_000, 'connections came')
      t.ok(outcome.connections < CONNECTIONS + 10_000, 'and went')
    })
  }
}
