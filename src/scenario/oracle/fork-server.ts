import { spawn, spawnSync } from 'node:child_process'
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { basename, join } from 'node:path'
import { nativeLibrary } from './native-library.js'

const NUMBER_BYTES = 4
const HEADER_BYTES = 3 * NUMBER_BYTES

export interface CommandResult {
  exit: number
  stdout: string
  stderr: string
}

/**
 * A program that is kept ready to run command lines, each in a process of its own that is forked from it; see
 * native/fork-server.c. They run in the network namespace of the calling process, and the caller waits for them.
 */
export class ForkServer {
  private readonly requests: number
  private readonly answers: number

  /** @param scratch a directory on a file system that can have FIFOs */
  constructor(
    private readonly program: string,
    scratch: string,
  ) {
    const paths = ['requests', 'answers'].map((name) =>
      join(scratch, `${basename(program)}.${name}`),
    )
    const { status, stderr } = spawnSync('mkfifo', paths, { encoding: 'utf8' })
    if (status !== 0) throw new Error(`mkfifo: ${stderr}`)
    // Whoever opens a FIFO waits for the other end, unless it has both.
    const both = paths.map((path) => openSync(path, 'r+'))
    const [theirRequests, theirAnswers] = [openSync(paths[0]!, 'r'), openSync(paths[1]!, 'w')]
    this.requests = openSync(paths[0]!, 'w')
    this.answers = openSync(paths[1]!, 'r')
    const child = spawn(program, [], {
      stdio: [theirRequests, theirAnswers, 'inherit'],
      env: {
        ...process.env,
        LC_ALL: 'C',
        // All at once before the first fork, instead of in each process when it calls.
        LD_BIND_NOW: '1',
        LD_PRELOAD: nativeLibrary('fork-server'),
        FORK_SERVER_NETNS: `/proc/${process.pid}/ns/net`,
      },
    })
    if (child.pid === undefined) throw new Error(`${program} cannot be started`)
    child.unref()
    for (const fd of [...both, theirRequests, theirAnswers]) closeSync(fd)
    for (const path of paths) rmSync(path)
  }

  /** Runs the program with these arguments. One that a signal kills is an error. */
  run(args: readonly string[], input = ''): CommandResult {
    const words = [basename(this.program), ...args]
    const text = Buffer.from(words.map((word) => `${word}\0`).join(''))
    const stdin = Buffer.from(input)
    const header = Buffer.from(Uint32Array.of(words.length, text.length, stdin.length).buffer)
    writeAll(this.requests, Buffer.concat([header, text, stdin]))
    const answer = this.read(HEADER_BYTES)
    const [exit, stdoutBytes, stderrBytes] = [0, 1, 2].map((index) =>
      answer.readInt32LE(index * NUMBER_BYTES),
    ) as [number, number, number]
    const stdout = this.read(stdoutBytes).toString()
    const stderr = this.read(stderrBytes).toString()
    if (exit < 0)
      throw new Error(`${words.join(' ')} was killed by signal ${-exit}: ${stdout}${stderr}`)
    return { exit, stdout, stderr }
  }

  private read(bytes: number): Buffer {
    const buffer = Buffer.alloc(bytes)
    for (let done = 0; done < bytes;) {
      const count = readSync(this.answers, buffer, done, bytes - done, null)
      if (count === 0) throw new Error(`the fork server of ${this.program} has ended`)
      done += count
    }
    return buffer
  }
}

function writeAll(fd: number, buffer: Buffer): void {
  for (let done = 0; done < buffer.length;) done += writeSync(fd, buffer, done)
}
