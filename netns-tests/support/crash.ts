// Loaded before uvsd (--import): faults that nothing in it can cause. A file CRASH.main makes the main
// thread throw outside of everything, a file CRASH.thread the data-plane thread in the middle of a round.
import { existsSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'

const fault = `${process.env['CRASH']}.${isMainThread ? 'main' : 'thread'}`

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
