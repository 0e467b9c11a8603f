import { spawn } from 'node:child_process'

/** What a command that ran to its end left behind. */
export interface CommandResult {
  /** Exit status; 128 + n when signal n ended it. */
  status: number
  stdout: string
  stderr: string
}

export interface CommandOptions {
  /** Text for its standard input; without it there is none. */
  input?: string
  /** Ends the command with SIGKILL after this long; five minutes when not given. */
  timeoutMs?: number
  environment?: Record<string, string>
}

/** A command that ended with another status than 0. */
export class CommandError extends Error {
  constructor(
    readonly commandLine: string,
    readonly result: CommandResult,
  ) {
    const said = (result.stderr.trim() || result.stdout.trim()).slice(-2000)
    super(`${commandLine}: exit ${result.status}${said ? `: ${said}` : ''}`)
    this.name = 'CommandError'
  }
}

/** Runs a command, without a shell, to its end. Rejects only when it cannot be started. */
export function run(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.environment },
    })
    // spawn's own timeout outlives a command that could not be started.
    const killer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 300_000)
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout!.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr!.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(killer)
      reject(
        error.code === 'ENOENT'
          ? new Error(`${command} is not installed; scripts/setup installs what the lab needs`)
          : error,
      )
    })
    child.on('close', (code, signal) => {
      clearTimeout(killer)
      resolve({
        status: code ?? 128 + signalNumber(signal),
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      })
    })
    if (child.stdin) {
      // A command may end before it has read everything; its status says what that means.
      child.stdin.on('error', () => undefined)
      child.stdin.end(options.input)
    }
  })
}

/** The same, and a status other than 0 is an error that carries what the command said. */
export async function runOrThrow(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await run(command, args, options)
  if (result.status !== 0) throw new CommandError([command, ...args].join(' '), result)
  return result.stdout
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === 'SIGKILL' ? 9 : signal === 'SIGINT' ? 2 : 15
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
