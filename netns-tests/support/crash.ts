// Loaded before uvsd (--import): faults that nothing in it can cause. A file CRASH.main makes the main
// thread throw outside of everything, a file CRASH.thread the data-plane thread in the middle of a round; where there
// are several of them, CRASH.1 the second one.
import { existsSync } from 'node:fs'
import { isMainThread, workerData } from 'node:worker_threads'
import type { ThreadOptions } from '../../src/daemon/thread-messages.js'

const crew = isMainThread ? undefined : (workerData as Partial<ThreadOptions> | null)?.crew
const fault = `${process.env['CRASH']}.${isMainThread ? 'main' : (crew?.self ?? 'thread')}`

if (isMainThread) {
  setInterval(() => {
    if (existsSync(fault)) throw new Error('a fault in the main thread')
  }, 20).unref()
} else {
  const load = Atomics.load
  Atomics.load = ((cells: Int32Array, index: number) => {
    if (existsSync(fault)) throw new Error('a fault in the data-plane thread')
    return load(cells, index)
  }) as typeof Atomics.load
}
