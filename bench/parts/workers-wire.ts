/** What a packet costs one worker, and two of which one receives it and the other carries it, on the same processor. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ApiClient } from '../../src/control/api-client.js'
import { runOrThrow } from '../../src/lab/process.js'
import type { Context, Metric, Part, Subject } from '../suite/measurement.js'
import { prepareMachine } from '../wire/machine.js'
import { findThroughput, LOSS_BOUND, lossOf } from '../wire/search.js'
import { SERVER_ADDRESS, Testbed, VIRTUAL_ADDRESS } from '../wire/testbed.js'
import { SERVICE_PORT, type Lane } from '../wire/tester-messages.js'

const perPacket: Metric = { name: 'processor time of a packet', unit: 'ns', better: 'lower' }
const throughput: Metric = { name: 'throughput', unit: 'packets/s', better: 'higher' }
const handedOver: Metric = { name: 'packets handed over', unit: '%', better: 'lower' }

const one: Subject = { name: 'uvs, one worker', role: 'uvs' }
const two: Subject = { name: 'uvs, two workers', role: 'uvs' }

/** Those of 64 clients: about half of them belong to either worker. */
const FLOWS = 65_536
const FRAME_BYTES = 64
/** Packets a second, below what either carries. */
const RATES = [50_000, 100_000, 200_000, 300_000]
const CREATION_RATE = 100_000
const ATTEMPTS = 3
/** Where the search for a throughput begins, and how far from there it looks at first. */
const FIRST_GUESS = 450_000
const STEP = 1.15
const PRECISION = 1.03

const program = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

interface Running {
  readonly subject: Subject
  readonly lane: Lane
  readonly pid: number
  readonly api: ApiClient
}

export const workersWire: Part = {
  name: 'workers-wire',
  title: 'Two workers on one processor',
  description:
    'What it costs that a packet is handed over, on AF_XDP: the testbed of the part wire, its director masquerading with ' +
    'one worker, and with two that have a queue each. Both have the same single processor, since the generator needs ' +
    'the other one of this machine, so this is not how fast two workers are but what they take: the processor time of ' +
    'all threads of uvsd, system calls included, for each packet, at steady rates that both carry with at most ' +
    `${LOSS_BOUND * 100} % lost. All packets come in by the first queue, and those of half of the clients belong to ` +
    'the worker of the second. The workers sleep whenever there is nothing to do, so that waiting is no work; waking ' +
    'the other worker is part of what is measured, the more of it the fewer packets come at once, and so is that two ' +
    'threads take turns on a processor. With a processor each there is no taking turns; see the part workers.',
  needsRoot: true,
  seconds: 30,
  quickSeconds: 7,
  leastSeconds: 22,
  claims: [
    {
      text: 'Where packets come many at once, one that half of the time is handed over takes hardly more processor time',
      metric: perPacket.name,
      parameters: { 'packets per second': RATES.at(-1)! },
      subject: two.name,
      against: one.name,
      atMost: 1.2,
    },
    {
      text: 'Two workers that take turns on one processor carry more than half of what one carries there',
      metric: throughput.name,
      parameters: {},
      subject: two.name,
      against: one.name,
      atLeast: 0.5,
    },
  ],
  plots: [
    {
      title: 'Processor time of a packet, by load',
      metric: perPacket.name,
      x: 'packets per second',
      xScale: 'linear',
      yScale: 'linear',
      caption: 'All threads of uvsd, user and system, with both workers on one processor.',
    },
  ],
  async run(context) {
    const testbed = new Testbed()
    context.defer(() => testbed.end())
    context.defer(prepareMachine())
    const running = [await open(testbed, one, 1), await open(testbed, two, 2)]
    await testbed.openTester()
    for (const { lane } of running)
      await testbed.measure(lane, {
        packetsPerSecond: CREATION_RATE,
        frameBytes: FRAME_BYTES,
        flows: FLOWS,
        durationMs: (2000 * FLOWS) / CREATION_RATE,
      })
    for (const round of context.rounds({ least: 3, most: 20, share: 0.6 })) {
      for (const rate of RATES)
        for (const subject of round % 2 === 0 ? running : [...running].reverse())
          await takeTime(context, testbed, subject, rate, round)
      for (const { subject, lane } of round % 2 === 0 ? running : [...running].reverse()) {
        context.progress(`round ${round + 1}: ${subject.name}, throughput`)
        await context.trial(subject, {}, round, async () => {
          const found = await findThroughput({
            probe: (packetsPerSecond) =>
              testbed.measure(lane, {
                packetsPerSecond,
                frameBytes: FRAME_BYTES,
                flows: FLOWS,
                durationMs: context.quick ? 100 : 200,
              }),
            guess: FIRST_GUESS,
            step: STEP,
            precision: context.quick ? STEP : PRECISION,
          })
          return [[throughput, found]]
        })
      }
    }
  },
}

async function open(testbed: Testbed, subject: Subject, workers: number): Promise<Running> {
  const to = { virtual: VIRTUAL_ADDRESS, server: SERVER_ADDRESS }
  const director = await testbed.addDirector(`workers${workers}`, to, workers)
  const socket = join(testbed.folder, `workers${workers}.sock`)
  const { pid } = await testbed.startDirector(
    director,
    [
      process.execPath, program('../../src/cli/uvsd.js'), '--socket', socket, '--workers', String(workers),
      '--patience', '0', '--port', 'afxdp:eth0', '--port', 'afxdp:eth1',
    ], // prettier-ignore
    /uvsd: ready/,
  )
  const uvsadm = (...args: string[]): Promise<string> =>
    runOrThrow(process.execPath, [program('../../src/cli/uvsadm.js'), ...args], {
      environment: { UVS_SOCKET: socket },
    })
  const service = `${VIRTUAL_ADDRESS}:${SERVICE_PORT}`
  await uvsadm('-A', '-u', service, '-s', 'rr')
  await uvsadm('-a', '-u', service, '-r', `${SERVER_ADDRESS}:${SERVICE_PORT}`, '-m')
  return { subject, lane: director.lane, pid, api: new ApiClient(socket) }
}

async function takeTime(
  context: Context,
  testbed: Testbed,
  { subject, lane, pid, api }: Running,
  packetsPerSecond: number,
  round: number,
): Promise<void> {
  context.progress(`round ${round + 1}: ${subject.name}, ${packetsPerSecond} packets a second`)
  const parameters = { 'packets per second': packetsPerSecond }
  await context.trial(subject, parameters, round, async () => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const handedOverBefore = await handedOverPackets(api)
      const before = processorTime(pid)
      const result = await testbed.measure(lane, {
        packetsPerSecond,
        frameBytes: FRAME_BYTES,
        flows: FLOWS,
        durationMs: context.quick ? 100 : 300,
      })
      const taken = processorTime(pid) - before
      if (lossOf(result) > LOSS_BOUND) continue
      const share = ((await handedOverPackets(api)) - handedOverBefore) / result.received
      return [
        [perPacket, taken / result.received],
        [handedOver, 100 * share],
      ]
    }
    context.note(
      `${subject.name} lost packets at ${packetsPerSecond} a second in round ${round + 1}`,
    )
    return []
  })
}

/** Of all threads of a process so far, in ns. */
function processorTime(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce(
    (sum, thread) =>
      sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
    0,
  )
}

async function handedOverPackets(api: ApiClient): Promise<number> {
  return ((await api.status()) as { handedOverPackets: number }).handedOverPackets
}
