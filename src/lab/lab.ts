import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
} from 'node:fs'
import { join } from 'node:path'
import {
  CommandError,
  run,
  runOrThrow,
  sleep,
  type CommandOptions,
  type CommandResult,
} from './process.js'

/** Logs, sockets and captures of each lab that is up, in a folder of its name. */
const LABS_FOLDER = '/run/uvs-lab'

/** Where ip(8) has the names of namespaces. */
const NAMESPACES_FOLDER = '/run/netns'

/** A step of building or using a lab that went wrong. The message says which, and why. */
export class LabError extends Error {
  constructor(
    readonly step: string,
    override readonly cause: Error,
  ) {
    super(`step failed: ${step}: ${cause.message}`)
    this.name = 'LabError'
  }
}

/** Labs of this process that have to be gone when it ends, however it ends. */
const live = new Set<Lab>()
let endsAtExit = false
let endsOnSignals = false

function endAtExit(): void {
  if (endsAtExit) return
  endsAtExit = true
  process.on('exit', () => {
    for (const lab of live) endLab(lab.name)
  })
}

function endOnSignals(): void {
  if (endsOnSignals) return
  endsOnSignals = true
  for (const [signal, number] of [
    ['SIGHUP', 1],
    ['SIGINT', 2],
    ['SIGTERM', 15],
  ] as const) {
    process.on(signal, () => {
      if (live.size > 0) process.stderr.write(`\nlab: ${signal}: taking everything down\n`)
      process.exit(128 + number)
    })
  }
}

/** Prints what is being done; the default says nothing. */
export type Narrator = (line: string) => void

/**
 * A set of network namespaces, the links between them and the processes in them. Its name is unique on the
 * machine and starts every namespace's name (`uvs4711-client`), so that labs stand side by side and one can
 * be ended by its name alone. Everything is removed by `end`, when this process exits, and when it is
 * interrupted, unless its maker sees to signals; `keep` leaves it up.
 */
export class Lab {
  readonly namespaces: Namespace[] = []
  /** Where logs, sockets and captures go; removed with the lab. */
  readonly folder: string
  private readonly processes: LabProcess[] = []
  private ended = false

  private constructor(
    readonly name: string,
    private readonly narrate: Narrator,
  ) {
    this.folder = labFolder(name)
  }

  /**
   * An empty lab. Throws without root, saying so.
   *
   * @param seesToSignals whether the caller ends it, or the process, when a signal comes; otherwise a signal ends both
   */
  static create(narrate: Narrator = () => undefined, seesToSignals = false): Lab {
    if (process.geteuid?.() !== 0)
      throw new Error('making network namespaces needs root: run it with sudo')
    endAtExit()
    if (!seesToSignals) endOnSignals()
    mkdirSync(LABS_FOLDER, { recursive: true, mode: 0o755 })
    for (let attempt = 0; ; attempt++) {
      const name = `uvs${process.pid}${attempt === 0 ? '' : `x${attempt}`}`
      try {
        // mkdir is the lock: whoever makes the folder has the name.
        mkdirSync(join(LABS_FOLDER, name), { mode: 0o755 })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue
        throw error
      }
      const lab = new Lab(name, narrate)
      live.add(lab)
      return lab
    }
  }

  /** Does a part of the work under a name, told by `announcement`, that a failure is reported with. */
  async step<T>(
    description: string,
    work: () => Promise<T>,
    announcement = `• ${description}`,
  ): Promise<T> {
    this.narrate(announcement)
    try {
      return await work()
    } catch (error) {
      throw error instanceof LabError ? error : new LabError(description, error as Error)
    }
  }

  /** Makes a namespace with its loopback up, IPv6 silent and reverse path filters off. */
  async addNamespace(role: string): Promise<Namespace> {
    const namespace = new Namespace(this, role)
    await runOrThrow('ip', ['netns', 'add', namespace.name])
    this.namespaces.push(namespace)
    await namespace.ip('link', 'set', 'lo', 'up')
    await namespace.sysctl({
      // Neighbour discovery would only be noise in the captures; nothing here speaks IPv6.
      'net.ipv6.conf.all.disable_ipv6': 1,
      'net.ipv6.conf.default.disable_ipv6': 1,
      // The effective value is the larger of all and the interface's.
      'net.ipv4.conf.all.rp_filter': 0,
      'net.ipv4.conf.default.rp_filter': 0,
    })
    return namespace
  }

  /** Makes a veth pair between two namespaces, both ends up, with so many queues in each direction. */
  async connect(
    a: Namespace,
    aDevice: string,
    b: Namespace,
    bDevice: string,
    queues = 1,
  ): Promise<void> {
    const counts = ['numtxqueues', String(queues), 'numrxqueues', String(queues)]
    const pair = ['link', 'add', 'name', aDevice, 'netns', a.name, ...counts, 'type', 'veth']
    await runOrThrow('ip', [...pair, 'peer', 'name', bDevice, 'netns', b.name, ...counts])
    for (const [namespace, device] of [
      [a, aDevice],
      [b, bDevice],
    ] as const) {
      // A local stack leaves the checksum to the device, and a veth never computes it: a frame that a
      // userspace program sees in between would carry the pseudo-header's sum alone.
      await namespace.run('ethtool', '-K', device, 'tx', 'off')
      await namespace.ip('link', 'set', device, 'up')
    }
  }

  /** A namespace that is nothing but a switch: a bridge, ports are added by `plug`. */
  async addSwitch(role: string): Promise<Namespace> {
    const namespace = await this.addNamespace(role)
    await addBridge(namespace, 'br0')
    return namespace
  }

  /** Connects a station to a switch; the switch's port has the station's role for a name. */
  async plug(station: Namespace, device: string, lan: Namespace, queues = 1): Promise<void> {
    await this.connect(station, device, lan, station.role, queues)
    await lan.ip('link', 'set', station.role, 'master', 'br0')
  }

  /** Starts a program in a namespace; its output goes to `NAME.log` in the lab's folder. */
  start(namespace: Namespace, name: string, command: string, args: readonly string[]): LabProcess {
    const process = new LabProcess(this, namespace, name, command, args)
    this.processes.push(process)
    return process
  }

  /** Whether it stays up when this process ends. */
  get kept(): boolean {
    return !live.has(this) && !this.ended
  }

  /** Leaves the lab up when this process ends. */
  keep(): void {
    live.delete(this)
    for (const process of this.processes) process.forget()
  }

  /** Stops every process (SIGTERM first, so that they clean up), removes every namespace and the folder. */
  async end(): Promise<void> {
    if (this.ended) return
    this.ended = true
    await Promise.all(this.processes.map((process) => process.stop()))
    endLab(this.name)
    live.delete(this)
  }
}

/** Makes a bridge that forwards at once: no spanning tree, no learning of groups, no netfilter detour. */
export async function addBridge(namespace: Namespace, device: string): Promise<void> {
  await namespace.ip('link', 'add', 'name', device, 'type', 'bridge')
  await namespace.ip(
    'link',
    'set',
    device,
    'type',
    'bridge',
    'stp_state',
    '0',
    'mcast_snooping',
    '0',
  )
  if (existsSync('/proc/sys/net/bridge'))
    await namespace.sysctl({ 'net.bridge.bridge-nf-call-iptables': 0 })
  await namespace.ip('link', 'set', device, 'up')
}

/** One network namespace of a lab. */
export class Namespace {
  readonly name: string

  constructor(
    readonly lab: Lab,
    readonly role: string,
  ) {
    this.name = `${lab.name}-${role}`
  }

  /** `ip` in this namespace; its output. */
  ip(...args: string[]): Promise<string> {
    return runOrThrow('ip', ['-n', this.name, ...args])
  }

  /** Runs a program here to its end; its output. Another status than 0 is an error. */
  run(command: string, ...args: string[]): Promise<string> {
    return runOrThrow('ip', ['netns', 'exec', this.name, command, ...args])
  }

  /** Runs a program here to its end and returns all that is known of it. */
  try(
    command: string,
    args: readonly string[],
    options: CommandOptions = {},
  ): Promise<CommandResult> {
    return run('ip', ['netns', 'exec', this.name, command, ...args], options)
  }

  /** Sets kernel parameters of this namespace. */
  async sysctl(values: Record<string, number>): Promise<void> {
    await this.run('sysctl', '-q', '-w', ...Object.entries(values).map(([k, v]) => `${k}=${v}`))
  }

  /** The Ethernet address of a device, as `02:00:…`. */
  async mac(device: string): Promise<string> {
    const [link] = JSON.parse(await this.ip('-json', 'link', 'show', 'dev', device)) as [
      { address: string },
    ]
    return link.address
  }
}

/** A program that runs in a namespace until it is stopped. */
export class LabProcess {
  readonly logFile: string
  private readonly child: ChildProcess
  private readonly exited: Promise<void>
  private status: number | undefined
  private failure: Error | undefined

  constructor(
    lab: Lab,
    readonly namespace: Namespace,
    readonly name: string,
    readonly command: string,
    readonly args: readonly string[],
  ) {
    this.logFile = join(lab.folder, `${name}.log`)
    const log = openSync(this.logFile, 'w')
    // A process group of its own: Ctrl-C is for us alone, and we stop it in order.
    // `ip netns exec` becomes the program, so the pid is the program's.
    this.child = spawn('ip', ['netns', 'exec', namespace.name, command, ...args], {
      detached: true,
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    this.exited = new Promise((resolve) => {
      this.child.on('error', (error) => {
        this.failure = error
        resolve()
      })
      this.child.on('exit', (code, signal) => {
        this.status = code ?? (signal === 'SIGKILL' ? 137 : 143)
        resolve()
      })
    })
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  /** Exit status, undefined while it runs. */
  get exitStatus(): number | undefined {
    return this.status
  }

  /** What it has printed so far, on both streams. */
  get output(): string {
    return readFileSync(this.logFile, 'utf8')
  }

  /** Waits until it has printed a line that matches. Throws with its output when it ends before, or takes too long. */
  async waitForLine(pattern: RegExp, timeoutMs = 60_000): Promise<string> {
    const deadline = Date.now() + timeoutMs
    for (;;) {
      // Read before the status: what it said last is there when it has ended.
      const ended = this.status !== undefined || this.failure !== undefined
      const line = this.output.split('\n').find((candidate) => pattern.test(candidate))
      if (line !== undefined) return line
      if (this.failure) throw this.failure
      if (ended)
        throw new CommandError(`${this.name} (${[this.command, ...this.args].join(' ')})`, {
          status: this.status!,
          stdout: this.output,
          stderr: '',
        })
      if (Date.now() > deadline)
        throw new Error(
          `${this.name} has not said ${pattern} within ${timeoutMs / 1000} s; it said: ${this.output.trim().slice(-2000) || 'nothing'}`,
        )
      await sleep(15)
    }
  }

  signal(signal: NodeJS.Signals): void {
    if (this.status === undefined) this.child.kill(signal)
  }

  /** Waits for its end and returns its exit status; 128 + n for a signal. */
  async waitForExit(timeoutMs = 60_000): Promise<number> {
    const tooLate = new AbortController()
    const timer = setTimeout(() => tooLate.abort(), timeoutMs)
    await Promise.race([this.exited, once(tooLate.signal, 'abort')])
    clearTimeout(timer)
    if (tooLate.signal.aborted)
      throw new Error(`${this.name} (pid ${this.pid}) still runs after ${timeoutMs} ms`)
    if (this.failure) throw this.failure
    return this.status!
  }

  /** SIGTERM, after twenty seconds SIGKILL: a machine that is busy keeps nobody from cleaning up. */
  async stop(): Promise<void> {
    if (this.status !== undefined || this.failure) return
    this.signal('SIGTERM')
    const killer = setTimeout(() => this.signal('SIGKILL'), 20_000)
    await this.exited
    clearTimeout(killer)
  }

  /** Lets this process end without waiting for it. */
  forget(): void {
    this.child.unref()
  }
}

/** Where a lab's logs, sockets and captures are. */
export const labFolder = (name: string): string => join(LABS_FOLDER, name)

/** Names of the labs that are up on this machine, those of others included. */
export function listLabs(): string[] {
  return existsSync(LABS_FOLDER) ? readdirSync(LABS_FOLDER).sort() : []
}

/** Names of the labs that a process has made, by what is left of them: a folder, or a namespace alone. */
export function labsOf(pid: number): string[] {
  const namespaces = existsSync(NAMESPACES_FOLDER) ? readdirSync(NAMESPACES_FOLDER) : []
  const ofPid = new RegExp(`^uvs${pid}(x\\d+)?(?=-|$)`)
  return [...new Set([...listLabs(), ...namespaces].flatMap((name) => ofPid.exec(name)?.[0] ?? []))]
}

/**
 * Ends a lab by its name alone, at once: kills what runs in its namespaces, removes them and its folder.
 * Synchronous, because it also runs while the process exits. Returns whether there was anything.
 */
export function endLab(name: string): boolean {
  const namespaces = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' })
    .stdout.split('\n')
    .map((line) => line.split(' ')[0]!)
    .filter((namespace) => namespace.startsWith(`${name}-`))
  const pidsIn = (): number[] =>
    namespaces.flatMap((namespace) =>
      spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' })
        .stdout.split('\n')
        .filter((pid) => pid !== '')
        .map(Number),
    )
  for (const [signal, patienceMs] of [
    ['SIGTERM', 1500],
    ['SIGKILL', 1500],
  ] as const) {
    const pids = pidsIn()
    for (const pid of pids) killIfThere(pid, signal)
    const deadline = Date.now() + patienceMs
    while (pids.some(isRunning) && Date.now() < deadline) pause(10)
  }
  for (const namespace of namespaces) spawnSync('ip', ['netns', 'delete', namespace])
  const folder = join(LABS_FOLDER, name)
  const existed = namespaces.length > 0 || existsSync(folder)
  rmSync(folder, { recursive: true, force: true })
  return existed
}

function killIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** A zombie waits for an event loop that may not turn any more: it counts as gone. */
export function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}
