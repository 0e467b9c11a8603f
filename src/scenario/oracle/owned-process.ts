import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** The descriptor of an owned process that is its channel. */
export const CHANNEL = 3

export interface Program {
  program: string
  args: string[]
  /** On top of this process's. */
  environment: Record<string, string | undefined>
}

const running = new Set<OwnedProcess>()
const fatalSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

function killAll(): void {
  for (const owned of [...running]) owned.kill()
}

function dieOf(signal: NodeJS.Signals): void {
  killAll()
  // With a listener of its own the program decides for itself.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal)
}

/**
 * What removes the directory when this process has been killed by SIGKILL, and with it all that would have: a shell
 * that waits for the end of its input, which nobody but this process can write to. The owned process may still be
 * about to end, so it tries again.
 */
const CARETAKER =
  'cat >/dev/null; for i in 1 2 3 4 5 6 7 8 9; do rm -rf "$0" && exit; sleep 0.2; done 2>/dev/null'

function startCaretaker(directory: string): ChildProcess {
  const caretaker = spawn('/bin/sh', ['-c', CARETAKER, directory], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  caretaker.on('error', () => {})
  caretaker.stdin.on('error', () => {})
  caretaker.unref()
  ;(caretaker.stdin as Socket).unref()
  return caretaker
}

/**
 * A process with a directory, both of which are gone after `stop()`, and also when this process ends, of whatever
 * signal. It leads a process group, which ends with it; by SIGKILL it has to see itself that its channel is closed.
 */
export class OwnedProcess {
  /** What it wrote to its stdout and stderr. */
  console = ''
  /** Settled when it has ended; rejected when it could not be started. */
  readonly ended: Promise<void>

  private constructor(
    readonly directory: string,
    private readonly child: ChildProcess,
    private readonly caretaker: ChildProcess,
  ) {
    if (running.size === 0) {
      process.on('exit', killAll)
      for (const signal of fatalSignals) process.on(signal, dieOf)
    }
    running.add(this)
    for (const stream of [child.stdout!, child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => (this.console += text))
    // Its end is told by `ended`.
    this.channel.on('error', () => {})
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', () => resolve())
    })
    // Whoever waits sees it; nobody has to.
    this.ended.catch(() => {})
  }

  /** @param prepare fills the new directory and says what to start */
  static start(prefix: string, prepare: (directory: string) => Program): OwnedProcess {
    const directory = mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-`))
    try {
      const { program, args, environment } = prepare(directory)
      const child = spawn(program, args, {
        stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
        detached: true,
        env: { ...process.env, ...environment },
      })
      return new OwnedProcess(directory, child, startCaretaker(directory))
    } catch (error) {
      rmSync(directory, { recursive: true, force: true })
      throw error
    }
  }

  /** Both ways, text. */
  get channel(): Duplex {
    return this.child.stdio[CHANNEL] as Duplex
  }

  /** Ends it, if it has not ended, and removes its directory, at once. */
  kill(): void {
    if (!running.delete(this)) return
    if (running.size === 0) {
      process.off('exit', killAll)
      for (const signal of fatalSignals) process.off(signal, dieOf)
    }
    try {
      if (this.child.pid !== undefined) process.kill(-this.child.pid, 'SIGKILL')
    } catch {
      // It has ended.
    }
    rmSync(this.directory, { recursive: true, force: true })
    this.caretaker.stdin!.end()
  }

  /** As `kill`, and waits until it is gone. */
  async stop(): Promise<void> {
    this.kill()
    await this.ended.catch(() => {})
  }
}
