/** The thread of MemoryAhead: touches what is wanted of lines and index of each table, a step of each in turn, and sleeps. */
import { workerData } from 'node:worker_threads'
import { ConnectionTable } from '../core/connection-table.js'
import { BELL, bytesWanted, STEP_BYTES, stepsUp, type AheadOptions } from './memory-ahead.js'

/** Where there are no large pages. */
const PAGE_WORDS = 4096 / 4

const options = workerData as AheadOptions
const cells = new Int32Array(options.cells)
const index = ConnectionTable.indexOffset(options.maxConnections)
const parts = options.tables.flatMap((table, i) =>
  [new Int32Array(table, 0, index / 4), new Int32Array(table, index)].map((words, part) => ({
    words,
    cell: BELL + 1 + 2 * i + part,
    touchedBytes: 0,
  })),
)

for (;;) {
  const rung = Atomics.load(cells, BELL)
  while (parts.map(touchStep).includes(true));
  Atomics.wait(cells, BELL, rung)
}

/**
 * Touches the next step, if one is wanted. Nothing changes by it, not even what is in use by then. madvise(2) has
 * MADV_POPULATE_WRITE for this, but whoever else maps memory waits until it is done.
 */
function touchStep(part: (typeof parts)[number]): boolean {
  const { words } = part
  const used = Atomics.load(cells, part.cell)
  // Where the owner was faster, it has touched that itself.
  const from = Math.max(part.touchedBytes, stepsUp(used))
  const to = Math.min(from + STEP_BYTES, bytesWanted(used), words.byteLength)
  if (from >= to) return false
  for (let i = from / 4; i < to / 4; i += PAGE_WORDS) Atomics.or(words, i, 0)
  part.touchedBytes = to
  return true
}
