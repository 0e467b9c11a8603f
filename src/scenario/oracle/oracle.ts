/** A real kernel that runs scenarios: it says what IPVS does. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { eventsOf } from '../events.js'
import { ScenarioError, type Event, type Scenario } from '../scenario.js'
import type { Trace } from '../trace.js'
import { guestUnavailable, SHARED, sharedDirectory, startGuest } from './guest.js'
import { jobFile, parseQuestion, resultFile, type Job, type JobResult } from './job.js'
import { nativeLibrary } from './native-library.js'
import { OwnedProcess } from './owned-process.js'
import { jobOf } from './wire-up.js'

const AGENT = fileURLToPath(new URL('agent.js', import.meta.url))
/** All that a scenario may need, so that none of its time goes into loading. */
const MODULES = [
  'ip_vs',
  ...['rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'dh', 'sh', 'sed', 'nq', 'fo', 'ovf', 'mh'].map(
    (name) => `ip_vs_${name}`,
  ),
  ...['ip_vs_pe_sip', 'veth', 'ipip', 'ip6_tunnel', 'sit', 'ip_gre', 'fou'],
]
const MEMORY_MEGABYTES = 512
/** Of the host's time. */
const START_TIMEOUT_MS = 120_000
const RUN_TIMEOUT_MS = 120_000

/** `running`: the kernel of this machine, in real time; `guest`: one in a guest, in virtual time. */
export type OracleKernel = 'running' | 'guest'

/** Why the kernel of this machine cannot be asked, false when it can. Its module is loaded if it has one. */
export function runningUnavailable(): string | false {
  if (process.getuid?.() !== 0) return 'to ask the running kernel takes root'
  const hasIpvs = (): boolean => existsSync('/proc/net/ip_vs')
  if (!hasIpvs()) spawnSync('modprobe', ['-q', 'ip_vs'], { stdio: 'ignore' })
  if (!hasIpvs()) return 'the running kernel has no IPVS (module ip_vs)'
  for (const [path, name] of [
    ['/usr/sbin/ipvsadm', 'ipvsadm'],
    ['/usr/sbin/ip', 'iproute2'],
  ] as const)
    if (!existsSync(path)) return `${path} is missing: install the package ${name}`
  return false
}

/** Why no kernel can be asked here, false when one can. */
export function oracleUnavailable(kernel?: OracleKernel): string | false {
  const library = nativeLibrary('fork-server')
  if (!existsSync(library)) return `${library} is missing: run scripts/build-addon`
  const running = kernel === 'guest' ? 'the guest is asked' : runningUnavailable()
  return running && kernel !== 'running' ? guestUnavailable({ virtualTime: true }) : running
}

export interface OracleOptions {
  /** Without it, the running kernel if it has IPVS, else a guest. */
  kernel?: OracleKernel
}

interface Promised<T> {
  resolve(value: T): void
  reject(error: Error): void
}

interface Request extends Promised<Trace> {
  name: string
  job: Job
}

export class Oracle {
  /** The kernel's version, as `uname -r` says it. */
  release = ''
  private readonly waiting: Request[] = []
  private current: Request | undefined
  /** Of the job that runs or has run last. */
  private number = 0
  private idle = false
  private failure: Error | undefined
  private timer: NodeJS.Timeout | undefined
  private stopped = false

  private constructor(
    readonly kernel: OracleKernel,
    private readonly agent: OwnedProcess,
    /** Where jobs and results lie, as this process sees it. */
    private readonly directory: string,
    private starting: Promised<Oracle> | undefined,
  ) {
    createInterface({ input: agent.channel })
      .on('line', (line) => this.answer(line))
      // Passed on from the channel, whose end `ended` tells.
      .on('error', () => {})
    agent.ended.then(
      () => this.fail('it ended'),
      (error: Error) => this.fail(`it could not be started: ${error.message}`),
    )
    this.limit(START_TIMEOUT_MS, 'start')
  }

  /** Boots the guest, if there has to be one, and is ready for scenarios. */
  static async start(options: OracleOptions = {}): Promise<Oracle> {
    const unavailable = oracleUnavailable(options.kernel)
    if (unavailable) throw new Error(`there is no kernel to ask: ${unavailable}`)
    const kernel = options.kernel ?? (runningUnavailable() ? 'guest' : 'running')
    const agent = kernel === 'guest' ? startInGuest() : startBeside()
    return new Promise(
      (resolve, reject) =>
        new Oracle(kernel, agent, sharedDirectory(agent.directory), { resolve, reject }),
    )
  }

  /** Which kernel it is, for people. */
  get description(): string {
    return this.kernel === 'guest'
      ? `Linux ${this.release} in a User-Mode Linux guest, in virtual time`
      : `the running kernel, Linux ${this.release}, in real time`
  }

  /** What the kernel does in a scenario. Scenarios wait for those before them. */
  run(scenario: Scenario): Promise<Trace> {
    return this.runEvents(eventsOf(scenario), scenario.name)
  }

  /** The same for a list of events. @param name how errors call it */
  runEvents(events: readonly Event[], name: string): Promise<Trace> {
    return new Promise((resolve, reject) => {
      if (this.failure) return reject(this.failure)
      if (this.stopped) return reject(new Error('the oracle has been stopped'))
      this.waiting.push({ name, job: jobOf(events), resolve, reject })
      if (this.idle) this.next()
    })
  }

  /** Ends guest and agent, and removes what they left. */
  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    await this.agent.stop()
  }

  /** The agent asks for the next job, which tells that the last one has ended. */
  private answer(line: string): void {
    const asked = parseQuestion(line)
    if (asked?.finished !== this.number) return this.fail(`its agent said: ${line}`)
    clearTimeout(this.timer)
    const request = this.current
    this.current = undefined
    this.idle = true
    if (this.starting) {
      this.release = asked.release
      this.starting.resolve(this)
      this.starting = undefined
    } else {
      const file = join(this.directory, resultFile(this.number))
      const result = JSON.parse(readFileSync(file, 'utf8')) as JobResult
      rmSync(file)
      rmSync(join(this.directory, jobFile(this.number)))
      if ('trace' in result) request!.resolve(result.trace)
      else if (result.line !== undefined)
        request!.reject(new ScenarioError(request!.name, result.line, 1, result.error))
      else request!.reject(new Error(`${request!.name}: ${result.error}`))
    }
    this.next()
  }

  private next(): void {
    const request = this.waiting.shift()
    if (!request) return
    this.idle = false
    this.current = request
    this.number++
    writeFileSync(join(this.directory, jobFile(this.number)), JSON.stringify(request.job))
    const lastMs = request.job.events.at(-1)?.atMs ?? 0
    this.limit(RUN_TIMEOUT_MS + (this.kernel === 'running' ? lastMs : 0), 'run a scenario')
    this.agent.channel.write('\n')
  }

  private limit(timeoutMs: number, what: string): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(
      () => this.fail(`it did not ${what} within ${timeoutMs / 1000} s`),
      timeoutMs,
    )
  }

  private fail(why: string): void {
    clearTimeout(this.timer)
    if (this.failure || this.stopped) return
    const who = this.kernel === 'guest' ? 'guest' : 'agent'
    this.failure = new Error(
      `the oracle's ${who} failed: ${why}; its console:\n${this.agent.console}`,
    )
    this.agent.kill()
    for (const promised of [this.starting, this.current, ...this.waiting.splice(0)])
      promised?.reject(this.failure)
  }
}

function startInGuest(): OwnedProcess {
  return startGuest({
    command: `exec ${[process.execPath, AGENT, 'guest', SHARED].map(quoted).join(' ')}`,
    modules: MODULES,
    memoryMegabytes: MEMORY_MEGABYTES,
    virtualTime: true,
  })
}

function startBeside(): OwnedProcess {
  return OwnedProcess.start('uvs-oracle-', (directory) => {
    mkdirSync(sharedDirectory(directory))
    return {
      program: process.execPath,
      args: [AGENT, 'running', sharedDirectory(directory)],
      environment: {},
    }
  })
}

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`
