import { native } from './native.js'

const cell = new Int32Array(2)

/**
 * Processor time that the calling thread has had, in nanoseconds: without what it has waited for other programs, and
 * without V8's other threads.
 */
export function threadTimeNs(): number {
  native().readThreadClock(cell)
  return cell[0]! * 1e9 + cell[1]!
}
