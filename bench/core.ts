/**
 * What a packet costs in the whole data plane without a device: ports in memory, director with connection
 * states, timers and counters, routes and link-layer headers. Established TCP connections, taken in random
 * order, so that beyond the caches' size each packet misses them.
 *
 *   node dist/bench/core.js [--json] [--connections 4096,65536,1048576] [--trials 7] [--packets 1000000] [--family 4]
 *
 * Beside the director's figures, of the same trials:
 *   bare     the same packets on the same ports, handed from one to the other: what the load generator and
 *            the copy of a packet cost, and so what is to be taken off
 *   random   one dependent load at a random place in as many bytes as the connections take: what one miss
 *            of the caches costs on this machine, below which nothing that looks a connection up can stay
 *
 * Everything runs in turn, trial by trial, so that a disturbance hits all alike. Given are the median and
 * the lowest and highest trial.
 */
import { arch, cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import type { ForwardingMethod } from '../src/core/commands.js'
import { LINE_BYTES } from '../src/core/connection.js'
import { MonotonicClock } from '../src/drivers/monotonic-clock.js'
import { SeededRandom } from '../src/port/random.js'
import { Load } from './load.js'

const METHODS = ['direct-route', 'masquerade', 'tunnel'] as const
const LOADS_PER_TRIAL = 2_000_000

interface Spread {
  median: number
  lowest: number
  highest: number
}

interface Row {
  connections: number
  footprintBytes: number
  /** Nanoseconds of one dependent load. */
  random: Spread
  methods: Record<ForwardingMethod, { director: Spread; bare: Spread }>
}

function spread(values: number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const median =
    sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  return { median, lowest: sorted[0]!, highest: sorted[sorted.length - 1]! }
}

/** Nanoseconds each of `count` things that `body` does. */
function nanosecondsEach(count: number, body: () => void): number {
  const start = process.hrtime.bigint()
  body()
  return Number(process.hrtime.bigint() - start) / count
}

/** One cycle through cache lines in random order (Sattolo 1986): each holds the place of the next. */
class RandomWalk {
  private readonly lines: Int32Array
  private at = 0

  constructor(bytes: number) {
    const wordsPerLine = LINE_BYTES / 4
    const count = bytes / LINE_BYTES
    const order = Int32Array.from({ length: count }, (_, i) => i)
    const random = new SeededRandom(1)
    for (let i = count - 1; i > 0; i--) {
      const j = (random.next() >>> 0) % i
      const swapped = order[i]!
      order[i] = order[j]!
      order[j] = swapped
    }
    this.lines = new Int32Array(count * wordsPerLine)
    for (let i = 0; i < count; i++) this.lines[i * wordsPerLine] = order[i]! * wordsPerLine
  }

  walk(steps: number): void {
    const { lines } = this
    let at = this.at
    for (let i = 0; i < steps; i++) at = lines[at]!
    this.at = at
  }
}

function measure(family: 4 | 6, connections: number, trials: number, packets: number): Row {
  const clock = new MonotonicClock()
  const loads = METHODS.map((forwarding) => new Load({ family, forwarding, connections, clock }))
  const footprintBytes = connections * LINE_BYTES * (family === 6 ? 2 : 1)
  const walk = new RandomWalk(footprintBytes)
  const director = METHODS.map((): number[] => [])
  const bare = METHODS.map((): number[] => [])
  const random: number[] = []
  for (let trial = -1; trial < trials; trial++) {
    loads.forEach((load, i) => {
      const withDirector = nanosecondsEach(packets, () => load.run(packets))
      const without = nanosecondsEach(packets, () => load.runBare(packets))
      if (trial < 0) return // the first warms caches and compiler up
      director[i]!.push(withDirector)
      bare[i]!.push(without)
    })
    const each = nanosecondsEach(LOADS_PER_TRIAL, () => walk.walk(LOADS_PER_TRIAL))
    if (trial >= 0) random.push(each)
  }
  for (const load of loads) load.check((trials + 1) * 2 * packets)
  const methods = Object.fromEntries(
    METHODS.map((method, i) => [
      method,
      { director: spread(director[i]!), bare: spread(bare[i]!) },
    ]),
  ) as Row['methods']
  return { connections, footprintBytes, random: spread(random), methods }
}

function integers(name: string, text: string, isGood: (value: number) => boolean): number[] {
  const values = text.split(',').map(Number)
  for (const [i, value] of values.entries())
    if (!Number.isInteger(value) || !isGood(value))
      throw new Error(
        `--${name}: '${text.split(',')[i]}' cannot be used; see the head of bench/core.ts`,
      )
  return values
}

const isPowerOfTwo = (value: number): boolean =>
  value >= 1024 && value <= 1 << 20 && (value & (value - 1)) === 0

function main(): void {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      connections: { type: 'string', default: '4096,65536,1048576' },
      trials: { type: 'string', default: '7' },
      packets: { type: 'string', default: '1000000' },
      family: { type: 'string', default: '4' },
    },
  })
  const sizes = integers('connections', values.connections, isPowerOfTwo)
  const trials = integers('trials', values.trials, (n) => n >= 1)[0]!
  const packets = integers('packets', values.packets, (n) => n >= 1000 && n % 2 === 0)[0]!
  const family = integers('family', values.family, (n) => n === 4 || n === 6)[0] === 6 ? 6 : 4
  const machine = {
    node: process.version,
    v8: process.versions.v8,
    kernel: release(),
    architecture: arch(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: cpus().length,
    loadAverageBefore: loadavg()[0]!,
  }
  if (!values.json) {
    console.log(
      `${machine.cpu}, ${machine.cpus} CPUs, load ${machine.loadAverageBefore.toFixed(1)}, node ${machine.node}`,
    )
    console.log(
      `ns a packet: median of ${trials} trials of ${packets} packets (lowest to highest)\n`,
    )
    console.log(
      ['connections', 'method', 'director', 'bare', 'random load']
        .map((heading, i) => heading.padEnd(COLUMNS[i]!))
        .join(''),
    )
  }
  const rows: Row[] = []
  for (const connections of sizes) {
    const row = measure(family, connections, trials, packets)
    rows.push(row)
    if (!values.json) print(row)
  }
  if (values.json)
    console.log(
      JSON.stringify({ unit: 'nanoseconds', family, trials, packets, machine, rows }, null, 2),
    )
}

const COLUMNS = [13, 14, 26, 22, 22]

function print(row: Row): void {
  const shown = ({ median, lowest, highest }: Spread): string =>
    `${median.toFixed(1)} (${lowest.toFixed(1)} to ${highest.toFixed(1)})`
  METHODS.forEach((method, i) => {
    const { director, bare } = row.methods[method]
    const cells = [
      i === 0 ? String(row.connections) : '',
      method,
      shown(director),
      shown(bare),
      i === 0 ? shown(row.random) : '',
    ]
    console.log(
      cells
        .map((cell, column) => cell.padEnd(COLUMNS[column]!))
        .join('')
        .trimEnd(),
    )
  })
}

try {
  main()
} catch (error) {
  console.error(`bench: ${(error as Error).message}`)
  process.exitCode = 1
}
