/** Runs parts one after the other, each in a process of its own, and collects what they measure. */
import { fork, type ChildProcess } from 'node:child_process'
import { loadavg } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Metric, Part, PartOptions, Subject } from './measurement.js'
import { endAbandonedLabs, endLabsOf } from './labs.js'
import { restoreAbandoned } from './machine-settings.js'
import type { Message, Order } from './part-process.js'
import { ownOptions } from './part-options.js'
import { emptyResult, type PartResult } from './result.js'

export interface RunnerOptions {
  readonly quick: boolean
  /** For each part, all together; what the parts themselves say if it is not given. */
  readonly seconds?: number
  readonly files: readonly string[]
  /** For the parts that have them. */
  readonly options?: PartOptions
  /** Aborted, the part that runs cleans up and ends. */
  readonly signal: AbortSignal
  /** Aborted, it is killed, and what it has left is removed. */
  readonly killSignal?: AbortSignal
  /** What a part says that it does. */
  readonly onProgress: (text: string) => void
  /** Notes, and whatever else a part prints. */
  readonly onLine: (text: string) => void
}

/** A part that was interrupted cleans up in this time, or is killed and what it has left is removed. */
const KILL_AFTER_MS = 20_000

const partProcess = fileURLToPath(new URL('./part-process.js', import.meta.url))

export const isRoot = (): boolean => process.getuid?.() === 0

/** Seconds for each of the parts, in proportion to what they ask for. */
export function shareSeconds(parts: readonly Part[], total?: number): number[] {
  const sum = parts.reduce((sum, { seconds }) => sum + seconds, 0)
  return parts.map(({ seconds }) => (total === undefined ? seconds : (seconds * total) / sum))
}

/** How long a part will take, about, that is given so many seconds. */
export const estimatedSeconds = (
  { quickSeconds, leastSeconds, needsRoot }: Part,
  seconds: number,
  quick: boolean,
): number => {
  if (needsRoot && !isRoot()) return 0
  return quick ? quickSeconds : Math.max(leastSeconds, seconds)
}

function remember<T extends Metric | Subject>(known: T[], one: T): void {
  if (!known.some(({ name }) => name === one.name)) known.push(one)
}

function receive(result: PartResult, message: Message, options: RunnerOptions): void {
  switch (message.type) {
    case 'progress':
      return options.onProgress(message.text)
    case 'note':
      result.notes.push(message.text)
      return options.onLine(message.text)
    case 'failed':
      result.failure = message.text
      return
    case 'sample':
      remember(result.metrics, message.metric)
      remember(result.subjects, message.subject)
      result.samples.push(message.sample)
  }
}

/** Kills a process and those that it started, but for those that have a group of their own. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // All have ended meanwhile.
  }
}

/** Ctrl-C is for the runner alone, which tells the part: its programs would otherwise die before it can clean up. */
function endOnInterrupt(
  child: ChildProcess,
  { signal, killSignal }: Pick<RunnerOptions, 'signal' | 'killSignal'>,
): () => void {
  let killer: NodeJS.Timeout | undefined
  const kill = (): void => killGroup(child.pid!)
  const interrupt = (): void => {
    child.kill('SIGINT')
    killer = setTimeout(kill, KILL_AFTER_MS)
  }
  if (signal.aborted) interrupt()
  else signal.addEventListener('abort', interrupt)
  killSignal?.addEventListener('abort', kill)
  return () => {
    clearTimeout(killer)
    signal.removeEventListener('abort', interrupt)
    killSignal?.removeEventListener('abort', kill)
  }
}

/** What a part leaves that was killed, or that was interrupted while it was making something. */
function removeLeftovers(pid: number): void {
  killGroup(pid)
  if (!isRoot()) return
  endLabsOf(pid)
  restoreAbandoned()
}

/** Removes what runs that were killed together with their parts have left on this machine. */
export function removeAbandoned(): void {
  if (!isRoot()) return
  endAbandonedLabs()
  restoreAbandoned()
}

/** Runs one part. What goes wrong stands in the result. */
export async function runPart(
  part: Part,
  seconds: number,
  runStart: number,
  options: RunnerOptions,
): Promise<PartResult> {
  const result = emptyResult(part, ownOptions(part, options.options ?? {}))
  result.startMs = Date.now() - runStart
  result.loadAverage.before = loadavg()[0]!
  if (part.needsRoot && !isRoot()) {
    result.failure = 'needs root, for interfaces and network namespaces'
    result.endMs = result.startMs
    return result
  }
  const { quick } = options
  const order: Order = {
    part: part.name,
    quick,
    seconds,
    runStart,
    files: part.files === undefined ? [] : options.files,
    options: ownOptions(part, options.options ?? {}),
  }
  const child = fork(partProcess, [JSON.stringify(order)], {
    execArgv: [...process.execArgv, ...(part.nodeFlags ?? [])],
    detached: true, // a process group of its own
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  child.on('message', (message) => receive(result, message as Message, options))
  for (const stream of [child.stdout!, child.stderr!])
    createInterface({ input: stream }).on('line', options.onLine)
  const stopListening = endOnInterrupt(child, options)
  // Before its streams are closed, which a program that it has left might hold.
  child.on('exit', () => removeLeftovers(child.pid!))
  const ending = await new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(`cannot be started: ${error.message}`))
    child.on('close', (code, killedBy) =>
      resolve(code === 0 ? undefined : `its process ended with ${killedBy ?? `status ${code}`}`),
    )
  })
  stopListening()
  if (ending !== undefined) result.failure ??= ending
  result.endMs = Date.now() - runStart
  result.loadAverage.after = loadavg()[0]!
  return result
}
