import { native } from './native.js'

const cell = new Int32Array(2)

/** CLOCK_MONOTONIC in nanoseconds. */
export function readMonotonic(): bigint {
  native().readClock(cell)
  return BigInt(cell[0]!) * 1_000_000_000n + BigInt(cell[1]!)
}

/** Blocks the thread until CLOCK_MONOTONIC shows so many nanoseconds. */
export function sleepUntil(nanoseconds: bigint): void {
  native().sleepUntil(Number(nanoseconds / 1_000_000_000n), Number(nanoseconds % 1_000_000_000n))
}
