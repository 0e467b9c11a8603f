/**
 * Memory of the connection tables that is touched before it is needed. The first touch of a large page takes milliseconds
 * where a hypervisor's host has to provide it, and packets would wait for that while a table grows. So a thread of
 * its own does it, ahead of the data-plane threads, which say how far they have come.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { ConnectionTable } from '../core/connection-table.js'

/** What is touched in one go: a large page. */
export const STEP_BYTES = 1 << 21

/**
 * Most that is touched ahead of what is in use, of lines and of the index each. These grow by up to 122 MB/s each
 * (1.9 million connections/s), and slow hosts provide 140 MB/s.
 */
export const MOST_AHEAD_BYTES = 1 << 24

/** The cell that the thread sleeps on, until it is rung. Behind it are those of lines and index of each table. */
export const BELL = 0

/** The same, in times of what is in use: a small table stays small. */
const MOST_AHEAD_TIMES = 3

/** Bytes that are to be touched of lines or an index of which so many are in use. */
export function bytesWanted(used: number): number {
  return stepsUp(used + Math.min(MOST_AHEAD_TIMES * used, MOST_AHEAD_BYTES))
}

/** How many may be in use until more than these are wanted. */
function bytesEnough(wanted: number): number {
  return Math.max(wanted / (1 + MOST_AHEAD_TIMES), wanted - MOST_AHEAD_BYTES)
}

/** The next whole step, in bytes. */
export function stepsUp(bytes: number): number {
  return Math.ceil(bytes / STEP_BYTES) * STEP_BYTES
}

/** What the thread is given. */
export interface AheadOptions {
  tables: readonly SharedArrayBuffer[]
  maxConnections: number
  cells: SharedArrayBuffer
}

/** The thread, as seen by who starts it. It sleeps while nothing is wanted, and keeps nobody from ending. */
export class MemoryAhead {
  private constructor(
    private readonly worker: Worker,
    /** For TableAhead. */
    readonly cells: SharedArrayBuffer,
  ) {}

  /**
   * @param tables regions of connection tables of `maxConnections` each
   * @param failed told when the thread has ended by an error
   */
  static async start(
    tables: readonly SharedArrayBuffer[],
    maxConnections: number,
    failed: (error: Error) => void,
  ): Promise<MemoryAhead> {
    const cells = new SharedArrayBuffer(4 * (1 + 2 * tables.length))
    const workerData: AheadOptions = { tables, maxConnections, cells }
    const worker = new Worker(new URL('./memory-ahead-thread.js', import.meta.url), {
      workerData,
      name: 'uvsd-memory-ahead',
    })
    await once(worker, 'online')
    worker.unref()
    worker.on('error', (error) =>
      failed(new Error(`the thread that touches memory has failed: ${error.stack}`)),
    )
    return new MemoryAhead(worker, cells)
  }

  async stop(): Promise<void> {
    await this.worker.terminate()
  }
}

/** The thread, as seen by who owns one of the tables. */
export class TableAhead {
  private readonly cells: Int32Array
  private readonly linesCell: number
  /** When more bytes are in use, more have to be touched. The first step is the owner's own. */
  private lineMark = bytesEnough(STEP_BYTES)
  private indexMark = bytesEnough(STEP_BYTES)

  /**
   * @param cells of MemoryAhead
   * @param number of the table among those that the thread was started with
   */
  constructor(
    private readonly table: ConnectionTable,
    cells: SharedArrayBuffer,
    number: number,
  ) {
    this.cells = new Int32Array(cells)
    this.linesCell = BELL + 1 + 2 * number
  }

  /** To be called between two batches of packets: has memory touched if the table has come near to what it has not used yet. */
  look(): void {
    const { lineBytes, indexBytes } = this.table
    if (lineBytes > this.lineMark) this.lineMark = this.ask(this.linesCell, lineBytes)
    if (indexBytes > this.indexMark) this.indexMark = this.ask(this.linesCell + 1, indexBytes)
  }

  /** Returns what may be in use before more is wanted. */
  private ask(cell: number, used: number): number {
    const { cells } = this
    Atomics.store(cells, cell, used)
    Atomics.add(cells, BELL, 1)
    Atomics.notify(cells, BELL)
    return bytesEnough(bytesWanted(used))
  }
}
