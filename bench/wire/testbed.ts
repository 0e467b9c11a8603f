// The testbed: one box that measures, and beside it one director for each subject, all of the same make.
//
//    tester                          director-SUBJECT
//   ┌──────────────────┐            ┌───────────────────────────────┐
//   │ generator     tN ├────────────┤ eth0  10.0.0.1, VIP 10.0.0.100│
//   │                  │            │                               │
//   │ receiver      rN ├────────────┤ eth1  10.1.0.1                │
//   └──────────────────┘            └───────────────────────────────┘
//
// Frames come from clients in 10.64.0.0/16, a hop behind tN, and are for the server 10.1.0.2 at rN. Neighbours are
// entered by hand: the tester's ends are BPF programs that answer nothing. All directors are up at once, so that
// trials of one round come one right after another; only one has anything to do at a time.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { LabProcess, Namespace } from '../../src/lab/lab.js'
import { createLab } from '../suite/labs.js'
import { PRIORITY, withReceivingThreads } from './machine.js'
import {
  CLIENT_NETWORK,
  INTERRUPTION,
  type FromTester,
  type Lane,
  type ToTester,
  type TrialOrder,
  type TrialResult,
} from './tester-messages.js'

export const VIRTUAL_ADDRESS = '10.0.0.100'
export const SERVER_ADDRESS = '10.1.0.2'
const CLIENTS_GATEWAY = '10.0.0.2'

/** Processors of the tester and of the directors' processes. */
export const TESTER_CPU = 0
export const DIRECTOR_CPU = availableParallelism() > 1 ? 1 : 0

/** A trial is interrupted this long after its end. */
const INTERRUPTION_MS = 5

const onCpu = (cpu: number): string[] => ['chrt', ...PRIORITY, 'taskset', '-c', String(cpu)]

const program = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

/** A director that is set up, with what frames for it look like. */
export interface Director {
  readonly namespace: Namespace
  readonly lane: Lane
}

export class Testbed {
  private readonly lab = createLab()
  private readonly lanes: Lane[] = []
  private tester: Namespace | undefined
  private child: ChildProcess | undefined

  /** Where files can be put that go with it. */
  get folder(): string {
    return this.lab.folder
  }

  /**
   * Adds a director: its namespace, links, addresses and neighbours. What forwards in it is the caller's.
   *
   * @param to where frames are addressed to, and where they have to be addressed to when they come out of it
   * @param queues of each of its interfaces
   */
  async addDirector(
    role: string,
    to: { virtual: string; server: string },
    queues = 1,
  ): Promise<Director> {
    const tester = (this.tester ??= await this.addTester())
    const namespace = await this.lab.addNamespace(`director-${role}`)
    const number = this.lanes.length
    const [transmit, receive] = [`t${number}`, `r${number}`]
    await this.lab.connect(tester, transmit, namespace, 'eth0', queues)
    await this.lab.connect(namespace, 'eth1', tester, receive, queues)
    await namespace.ip('address', 'add', '10.0.0.1/24', 'dev', 'eth0')
    await namespace.ip('address', 'add', `${VIRTUAL_ADDRESS}/32`, 'dev', 'eth0')
    await namespace.ip('address', 'add', '10.1.0.1/24', 'dev', 'eth1')
    for (const [address, device, station] of [
      [CLIENTS_GATEWAY, 'eth0', transmit],
      [SERVER_ADDRESS, 'eth1', receive],
    ] as const) {
      const neighbour = ['lladdr', await tester.mac(station), 'dev', device, 'nud', 'permanent']
      await namespace.ip('neighbour', 'replace', address, ...neighbour)
    }
    await namespace.ip('route', 'add', `${CLIENT_NETWORK}/16`, 'via', CLIENTS_GATEWAY)
    // A veth takes redirected frames only if its receiving side has NAPI, which this turns on.
    await namespace.run('ethtool', '-K', 'eth0', 'gro', 'on')
    await namespace.sysctl({ 'net.ipv4.ip_forward': 1 })
    const lane: Lane = {
      transmit,
      receive,
      directorMac: await namespace.mac('eth0'),
      virtualAddress: to.virtual,
      serverAddress: to.server,
    }
    this.lanes.push(lane)
    return { namespace, lane }
  }

  /** A lane without a director: what generator and receiver do by themselves. */
  async addShortcut(): Promise<Lane> {
    const tester = (this.tester ??= await this.addTester())
    const number = this.lanes.length
    const [transmit, receive] = [`t${number}`, `r${number}`]
    await this.lab.connect(tester, transmit, tester, receive)
    const lane: Lane = {
      transmit,
      receive,
      directorMac: await tester.mac(receive),
      virtualAddress: SERVER_ADDRESS,
      serverAddress: SERVER_ADDRESS,
    }
    this.lanes.push(lane)
    return lane
  }

  /** Starts a director's program on the directors' processor and waits until it says that it is ready. */
  async startDirector(
    { namespace }: Director,
    command: readonly string[],
    ready: RegExp,
  ): Promise<LabProcess> {
    const [first, ...rest] = [...onCpu(DIRECTOR_CPU), ...command]
    const process = this.lab.start(namespace, `${namespace.role}-program`, first!, rest)
    await withReceivingThreads(() => process.waitForLine(ready, 60_000), DIRECTOR_CPU)
    return process
  }

  /** Starts the tester, once all directors are there. */
  async openTester(): Promise<void> {
    this.child = spawn(
      'ip',
      [
        'netns', 'exec', this.tester!.name,
        ...onCpu(TESTER_CPU), process.execPath, program('tester.js'),
      ], // prettier-ignore
      // A group of its own, as all processes of the lab: it ends when the lab does.
      { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], detached: true },
    )
    await this.ask({ kind: 'open', lanes: this.lanes })
  }

  /** One trial on a director's lane. */
  async measure(lane: Lane, order: Omit<TrialOrder, 'lane'>): Promise<TrialResult> {
    // Its program sends nothing beyond the end by itself. Should this come before it begins, the next one counts.
    const interruption = setInterval(
      () => this.child!.kill(INTERRUPTION),
      order.durationMs + INTERRUPTION_MS,
    )
    const answer = await this.ask({
      kind: 'trial',
      order: { ...order, lane: this.lanes.indexOf(lane) },
    }).finally(() => clearInterval(interruption))
    if (answer.kind !== 'result') throw new Error(`the tester answered '${answer.kind}'`)
    return answer.result
  }

  /** Removes everything. */
  async end(): Promise<void> {
    const { child } = this
    if (child?.connected) {
      const exit = once(child, 'exit')
      child.disconnect()
      await exit
    }
    await this.lab.end()
  }

  private async addTester(): Promise<Namespace> {
    return this.lab.addNamespace('tester')
  }

  private async ask(message: ToTester): Promise<FromTester> {
    const child = this.child!
    const waiting = new AbortController()
    const { signal } = waiting
    child.send(message)
    const [answer] = (await Promise.race([
      once(child, 'message', { signal }),
      once(child, 'exit', { signal }).then(([code, killedBy]) => {
        throw new Error(`the tester has ended (${code ?? killedBy})`)
      }),
    ]).finally(() => waiting.abort())) as [FromTester]
    if (answer.kind === 'failed') throw new Error(`the tester: ${answer.message}`)
    return answer
  }
}
