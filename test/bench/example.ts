/** A result such as a run leaves, with every kind of plot, claim and mishap. */
import type { Machine } from '../../bench/suite/machine.js'
import type { Claim, Metric, Parameters, Plot, Subject } from '../../bench/suite/measurement.js'
import { FORMAT, type PartResult, type RunResult } from '../../bench/suite/result.js'

export const LATENCY: Metric = { name: 'time per packet', unit: 'ns', better: 'lower' }
export const RATE: Metric = { name: 'packets per second', unit: 'packets/s', better: 'higher' }

export const UVS: Subject = { name: 'uvs', role: 'uvs' }
export const PEER: Subject = { name: 'nftables <DNAT>', role: 'peer' }
export const FLOOR: Subject = { name: 'random-access floor', role: 'limit' }

export const machine: Machine = {
  cpu: 'An example of a CPU',
  cores: 2,
  architecture: 'x64',
  caches: 'L1d 32K',
  memoryBytes: 2 ** 33,
  kernel: '6.1.0 #1 SMP',
  governor: 'none to choose',
  transparentHugePages: 'madvise',
  hypervisor: 'none seen',
  mitigations: { meltdown: 'Not affected', retbleed: 'Mitigation: untrained return thunk' },
  allowedCpus: '0-1',
  node: 'v20.20.2',
  v8: '11.3',
  nodeFlags: 'none',
  uvs: '0.1.0',
  commit: '0123456789ab',
}

/** Rounds' values of one subject with one set of parameters. */
export interface Measured {
  readonly metric: Metric
  readonly subject: Subject
  readonly parameters: Parameters
  /** By round. */
  readonly values: readonly number[]
  /** Rounds whose trial was disturbed. */
  readonly disturbed?: readonly number[]
}

export function partOf(
  name: string,
  measured: readonly Measured[],
  claims: readonly Claim[] = [],
  plots: readonly Plot[] = [],
): PartResult {
  const unique = <T extends { name: string }>(all: readonly T[]): T[] => [
    ...new Map(all.map((one) => [one.name, one])).values(),
  ]
  return {
    name,
    title: `Part ${name}`,
    description: `What ${name} measures & how.`,
    claims,
    plots,
    metrics: unique(measured.map(({ metric }) => metric)),
    subjects: unique(measured.map(({ subject }) => subject)),
    samples: measured.flatMap(({ metric, subject, parameters, values, disturbed = [] }) =>
      values.map((value, round) => ({
        metric: metric.name,
        subject: subject.name,
        parameters,
        round,
        value,
        startMs: round * 100,
        endMs: round * 100 + 50,
        stolenShare: disturbed.includes(round) ? 0.2 : 0,
        waitedShare: 0,
      })),
    ),
    notes: [],
    startMs: 0,
    endMs: 1000,
    loadAverage: { before: 0.1, after: 1.2 },
  }
}

export const runOf = (...parts: PartResult[]): RunResult => ({
  format: FORMAT,
  command: 'uvs bench',
  startedAt: '2026-01-02T03:04:05.000Z',
  quick: false,
  disturbedBound: 0.05,
  machine,
  parts,
})

const around = (value: number, width = 0.08): number[] =>
  [0, 0.7, -0.5, 1, -1, 0.3, -0.2].map((shift) => value * (1 + shift * width))

const SIZES = [1024, 65536, 1048576, 4194304]

/** Lines in one panel, beside a limit. */
function core(): PartResult {
  const costs: Record<string, number[]> = {
    'uvs, direct routing': [26, 38, 70, 90],
    'uvs, masquerading': [32, 55, 88, 120],
    'uvs, tunneling': [33, 57, 92, 122],
  }
  return partOf(
    'core',
    SIZES.flatMap((connections, i) => [
      ...Object.entries(costs).map(([name, values]) => ({
        metric: LATENCY,
        subject: { name, role: 'uvs' as const },
        parameters: { connections },
        values: around(values[i]!),
        disturbed: i === 1 ? [3] : [],
      })),
      {
        metric: LATENCY,
        subject: { name: 'JavaScript Map', role: 'peer' as const },
        parameters: { connections },
        values: around([90, 150, 700, 1400][i]!),
      },
      {
        metric: LATENCY,
        subject: FLOOR,
        parameters: { connections },
        values: around([3, 9, 70, 90][i]!),
      },
    ]),
    [
      {
        text: 'A packet costs at most 40 ns by direct routing at 64k connections',
        metric: LATENCY.name,
        parameters: { connections: 65536 },
        subject: 'uvs, direct routing',
        against: 40,
        atMost: 1,
      },
      {
        text: 'Two random accesses bound it at 1M connections',
        metric: LATENCY.name,
        parameters: { connections: 1048576 },
        subject: 'uvs, masquerading',
        against: FLOOR.name,
        atMost: 1.1,
      },
    ],
    [
      {
        title: 'Time per packet by connections',
        metric: LATENCY.name,
        x: 'connections',
        xScale: 'log',
        yScale: 'log',
        caption: 'Beyond the caches each packet waits for memory, and for nothing else.',
      },
      {
        title: 'Time per packet by connections, linear',
        metric: LATENCY.name,
        x: 'connections',
        xScale: 'log',
        yScale: 'linear',
        subjects: [...Object.keys(costs), FLOOR.name],
        caption: 'The same without the Map.',
      },
    ],
  )
}

/** Panels by a third parameter, and rows by category. */
function wire(): PartResult {
  const rates: Record<string, number> = { uvs: 0.61e6, [PEER.name]: 0.55e6, plain: 0.9e6 }
  return partOf(
    'wire',
    [1, 4096, 65536].flatMap((flows) =>
      [64, 1518].flatMap((bytes) =>
        Object.entries(rates).map(([name, rate]) => ({
          metric: RATE,
          subject: {
            name,
            role:
              name === 'uvs' ? ('uvs' as const) : name === 'plain' ? 'limit' : ('peer' as const),
          },
          parameters: { flows, bytes },
          values: around(rate * (1 - Math.log10(flows) * 0.05) * (bytes > 64 ? 0.8 : 1)),
        })),
      ),
    ),
    [
      {
        text: 'Masquerading reaches the packet rate of nftables DNAT',
        metric: RATE.name,
        parameters: { flows: 4096 },
        subject: UVS.name,
        against: PEER.name,
        atLeast: 1,
      },
      {
        text: 'A peer that is missing',
        metric: RATE.name,
        parameters: {},
        subject: UVS.name,
        against: 'HAProxy',
        atLeast: 1,
      },
    ],
    [
      {
        title: 'Throughput by flows',
        metric: RATE.name,
        x: 'flows',
        xScale: 'log',
        yScale: 'linear',
        caption: 'Each panel is a frame size.',
      },
      {
        title: 'Throughput by frame size',
        metric: RATE.name,
        x: 'bytes',
        xScale: 'category',
        yScale: 'linear',
        where: { flows: 4096 },
        caption: 'With 4,096 flows.',
      },
    ],
  )
}

/** More lines than there are colours. */
function schedulers(): PartResult {
  const names = 'rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos'.split(' ')
  return partOf(
    'schedulers',
    [2, 16, 128, 1024, 4096].flatMap((destinations) =>
      names.map((name, i) => ({
        metric: { name: 'time per decision', unit: 'ns', better: 'lower' } as const,
        subject: { name, role: 'uvs' as const },
        parameters: { destinations },
        values: around(i % 3 === 0 ? 12 + i : 8 + i + destinations * (0.5 + i / 10)),
      })),
    ),
    [],
    [
      {
        title: 'Time per decision by destinations',
        metric: 'time per decision',
        x: 'destinations',
        xScale: 'log',
        yScale: 'log',
        caption: 'Some walk all destinations, and some do not.',
      },
    ],
  )
}

/** A whole run. */
export const exampleRun = (): RunResult => {
  const failed = { ...partOf('streams', []), failure: 'needs root' }
  const noted = wire()
  noted.notes.push('HAProxy is not installed')
  return runOf(core(), noted, schedulers(), failed)
}
