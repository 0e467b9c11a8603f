/**
 * The process in which one part runs, alone: neither the compiler's opinions nor the heap of the parts before
 * are in its way. Says what it measures to the runner, and cleans up before it ends, whatever ends it.
 */
import { setImmediate } from 'node:timers/promises'
import { parts } from '../parts/index.js'
import type { Context, Metric, Parameters, Part, PartOptions, Subject } from './measurement.js'
import type { Sample } from './result.js'
import { watchTaken } from './stolen-time.js'

/** What the runner wants, as JSON in the first argument. */
export interface Order {
  readonly part: string
  readonly quick: boolean
  readonly seconds: number
  readonly files: readonly string[]
  readonly options: PartOptions
  /** When the whole run began, by Date.now. */
  readonly runStart: number
}

export type Message =
  | { readonly type: 'progress' | 'note' | 'failed'; readonly text: string }
  | {
      readonly type: 'sample'
      readonly metric: Metric
      readonly subject: Subject
      readonly sample: Sample
    }

const interruption = new AbortController()
const interrupt = (): void => interruption.abort(new Error('interrupted'))
const deferred: (() => void | Promise<void>)[] = []

const send = (message: Message): void => {
  if (process.connected) process.send!(message)
}
/** Of a part that was interrupted nobody wants to hear how it fares without what has been taken away from it. */
const tell = (message: Message): void => {
  if (!interruption.signal.aborted) send(message)
}

function contextOf(
  { quick, seconds, files, options, runStart }: Order,
  { usesAllProcessors, seconds: usualSeconds }: Part,
): Context {
  const { signal } = interruption
  const sinceStart = runStart - performance.timeOrigin
  return {
    quick,
    seconds,
    files,
    options,
    signal,
    progress: (text) => tell({ type: 'progress', text }),
    note: (text) => tell({ type: 'note', text }),
    defer: (cleanUp) => void deferred.push(cleanUp),
    *rounds({ least, most, share }) {
      const start = performance.now()
      const end = start + share * seconds * 1000
      const limit = quick ? 1 : most * Math.max(1, seconds / usualSeconds)
      for (let round = 0; round < limit; round++) {
        signal.throwIfAborted()
        const now = performance.now()
        const oneMore = round > 0 ? (now - start) / round : 0
        if (round >= least && now + oneMore > end) return
        yield round
      }
    },
    async trial(subject: Subject, parameters: Parameters, round, run) {
      await setImmediate() // signals are heard between trials
      signal.throwIfAborted()
      const startMs = performance.now() - sinceStart
      const taken = watchTaken(usesAllProcessors)
      const values = await run()
      const shares = taken()
      const endMs = performance.now() - sinceStart
      for (const [metric, value] of values) {
        const sample = {
          metric: metric.name,
          subject: subject.name,
          parameters,
          round,
          value,
          startMs,
          endMs,
          ...shares,
        }
        tell({ type: 'sample', metric, subject, sample })
      }
    },
  }
}

async function cleanUp(): Promise<void> {
  for (const step of deferred.reverse()) {
    try {
      await step()
    } catch (error) {
      send({ type: 'note', text: `cleaning up: ${(error as Error).message}` })
    }
  }
}

async function main(): Promise<void> {
  const order = JSON.parse(process.argv[2]!) as Order
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, interrupt)
  // Its runner is gone, and with it whoever read what is printed.
  process.on('disconnect', interrupt)
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
  const part = await parts.get(order.part)!()
  const { signal } = interruption
  const interrupted = new Promise<never>((_, reject) =>
    signal.addEventListener('abort', () => reject(signal.reason as Error)),
  )
  try {
    await Promise.race([part.run(contextOf(order, part)), interrupted])
  } catch (error) {
    const { message, stack } = error as Error
    send({ type: 'failed', text: signal.aborted ? 'interrupted' : message })
    if (!signal.aborted) process.stderr.write(`${stack}\n`)
  } finally {
    await cleanUp()
  }
  process.removeAllListeners('disconnect')
  if (process.connected) process.disconnect()
  process.exit()
}

await main()
