/** What is sent through the directors, by iperf3 and wrk, and what they say of it. */
import { sleep, type CommandResult } from '../../src/lab/process.js'
import type { Metric } from '../suite/measurement.js'
import { readOthersNs } from '../suite/others-time.js'
import { readBusyNs } from './busy-time.js'
import { IPERF_PORT } from './testbed.js'

export interface Outcome {
  /** In the metric's unit. */
  readonly rate: number
  /** What has been moved in all: gigabits, or requests. */
  readonly amount: number
}

export interface MeasuredOutcome extends Outcome {
  /** CPU time of all processors meanwhile, without what other programs had of it. */
  readonly busyNs: number
}

/** Where programs run that send. */
export interface Client {
  ask(command: string, args: readonly string[]): Promise<CommandResult>
}

export interface Load {
  /** The programs that it takes. */
  readonly programs: readonly string[]
  /** As in the parameter 'load'. */
  readonly name: string
  readonly rate: Metric
  /** CPU time for what has been moved. */
  readonly cost: Metric
  /** The same above what it takes without a director. */
  readonly share: Metric
  /** Nanoseconds in the cost's unit. */
  readonly costUnitNs: number
  run(client: Client, address: string, seconds: number): Promise<MeasuredOutcome>
}

const GIGA = 1e9

interface IperfReport {
  readonly error?: string
  readonly end: {
    readonly sum_received: { readonly bytes: number; readonly bits_per_second: number }
  }
}

/** @throws Error with what iperf3 says when it has no result */
export function parseIperf(text: string): Outcome {
  if (!text.startsWith('{')) throw new Error(`iperf3: ${text.trim() || 'nothing'}`)
  const report = JSON.parse(text) as IperfReport
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`)
  const { bytes, bits_per_second: rate } = report.end.sum_received
  return { rate, amount: (8 * bytes) / GIGA }
}

/** @throws Error when wrk has no result, or when many requests have failed */
export function parseWrk(text: string): Outcome {
  const requests = Number(/^ +(\d+) requests in /m.exec(text)?.[1])
  const rate = Number(/^Requests\/sec: +([\d.]+)/m.exec(text)?.[1])
  if (!(requests > 0 && rate > 0)) throw new Error(`wrk: ${text.trim() || 'nothing'}`)
  const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text)
  const failed =
    (errors?.slice(1).reduce((sum, count) => sum + Number(count), 0) ?? 0) +
    Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0)
  if (failed > requests / 100) throw new Error(`wrk: ${failed} of ${requests} requests failed`)
  return { rate, amount: requests }
}

async function measure(
  client: Client,
  [command, ...args]: readonly string[],
  parse: (text: string) => Outcome,
): Promise<MeasuredOutcome> {
  const othersBefore = readOthersNs()
  const before = readBusyNs()
  const { stdout, stderr } = await client.ask(command!, args)
  const busyNs = readBusyNs() - before
  const othersNs = Math.max(0, readOthersNs() - othersBefore)
  return { ...parse(stdout || stderr), busyNs: Math.max(0, busyNs - othersNs) }
}

const ATTEMPTS = 20
const ATTEMPT_PAUSE_MS = 100

function bulk(streams: number): Load {
  return {
    programs: ['iperf3'],
    name: streams === 1 ? '1 stream' : `${streams} streams`,
    rate: { name: 'throughput', unit: 'bit/s', better: 'higher' },
    cost: { name: 'CPU time per gigabit', unit: 's', better: 'lower' },
    share: { name: "director's CPU time per gigabit", unit: 's', better: 'lower' },
    costUnitNs: 1e9,
    async run(client, address, seconds) {
      const options = ['--json', '--time', String(seconds), '--parallel', String(streams)]
      const server = ['--client', address, '--port', String(IPERF_PORT)]
      for (let attempt = 1; ; attempt++) {
        try {
          return await measure(client, ['iperf3', ...server, ...options], parseIperf)
        } catch (error) {
          // Its server takes a moment to be done with who was there before.
          if (attempt === ATTEMPTS) throw error
          await sleep(ATTEMPT_PAUSE_MS)
        }
      }
    },
  }
}

const CONNECTIONS = 64

function http(name: string, metric: string, headers: readonly string[]): Load {
  return {
    programs: ['wrk', 'nginx'],
    name,
    rate: { name: metric, unit: `${metric.split(' ')[0]!}/s`, better: 'higher' },
    cost: { name: 'CPU time per request', unit: 'ns', better: 'lower' },
    share: { name: "director's CPU time per request", unit: 'ns', better: 'lower' },
    costUnitNs: 1,
    async run(client, address, seconds) {
      const size = ['--threads', '1', '--connections', String(CONNECTIONS)]
      const time = ['--duration', `${seconds}s`, '--timeout', '2s']
      const options = headers.flatMap((header) => ['--header', header])
      return measure(client, ['wrk', ...size, ...time, ...options, `http://${address}/`], parseWrk)
    },
  }
}

export const loads = {
  oneStream: bulk(1),
  eightStreams: bulk(8),
  kept: http('kept connections', 'requests per second', []),
  opened: http('a connection for each request', 'connections per second', ['Connection: close']),
} satisfies Record<string, Load>
