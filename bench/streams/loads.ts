/** What is sent through the directors, by iperf3 and wrk, and what they say of it. */
import type { Namespace } from '../../src/lab/lab.js'
import type { Metric } from '../suite/measurement.js'
import { IPERF_PORT } from './testbed.js'

export interface Outcome {
  /** In the metric's unit. */
  readonly rate: number
  /** What has been moved in all: gigabits, or requests. */
  readonly amount: number
}

export interface Load {
  /** As in the parameter 'load'. */
  readonly name: string
  readonly rate: Metric
  /** CPU time for what has been moved. */
  readonly cost: Metric
  /** The same above what it takes without a director. */
  readonly share: Metric
  /** Nanoseconds in the cost's unit. */
  readonly costUnitNs: number
  run(client: Namespace, address: string, seconds: number): Promise<Outcome>
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

function bulk(streams: number): Load {
  return {
    name: streams === 1 ? '1 stream' : `${streams} streams`,
    rate: { name: 'throughput', unit: 'bit/s', better: 'higher' },
    cost: { name: 'CPU time per gigabit', unit: 's', better: 'lower' },
    share: { name: "director's CPU time per gigabit", unit: 's', better: 'lower' },
    costUnitNs: 1e9,
    async run(client, address, seconds) {
      const options = ['--json', '--time', String(seconds), '--parallel', String(streams)]
      const { stdout, stderr } = await client.try('iperf3', [
        ...['--client', address, '--port', String(IPERF_PORT), '--connect-timeout', '2000'],
        ...options,
      ])
      if (stdout === '') throw new Error(`iperf3: ${stderr.trim()}`)
      return parseIperf(stdout)
    },
  }
}

const CONNECTIONS = 64

function http(name: string, metric: string, headers: readonly string[]): Load {
  return {
    name,
    rate: { name: metric, unit: `${metric.split(' ')[0]!}/s`, better: 'higher' },
    cost: { name: 'CPU time per request', unit: 'ns', better: 'lower' },
    share: { name: "director's CPU time per request", unit: 'ns', better: 'lower' },
    costUnitNs: 1,
    async run(client, address, seconds) {
      const { stdout, stderr } = await client.try('wrk', [
        ...['--threads', '1', '--connections', String(CONNECTIONS), '--duration', `${seconds}s`],
        ...['--timeout', '2s', ...headers.flatMap((header) => ['--header', header])],
        `http://${address}/`,
      ])
      return parseWrk(stdout || stderr)
    },
  }
}

export const loads = {
  oneStream: bulk(1),
  eightStreams: bulk(8),
  kept: http('kept connections', 'requests per second', []),
  opened: http('a connection for each request', 'connections per second', ['Connection: close']),
} satisfies Record<string, Load>
