/** A thread that lists the connections of a table again and again, as the daemon's main thread does for whoever asks. */
import { workerData } from 'node:worker_threads'
import { ConnectionTable } from '../../src/core/connection-table.js'
import { describeConnections } from '../../src/core/describe.js'

export interface ListerOptions {
  region: SharedArrayBuffer
  maxConnections: number
  /** [0] is set by whoever wants it to end, [1] counts the connections listed, up to 2^31. */
  state: SharedArrayBuffer
}

const { region, maxConnections, state } = workerData as ListerOptions
const cells = new Int32Array(state)
const table = new ConnectionTable(region, { maxConnections, seed: 0, initialise: false })
while (Atomics.load(cells, 0) === 0)
  for (const connection of describeConnections(table, 0)) {
    if (connection.client === '') throw new Error('a connection without a client')
    if ((Atomics.add(cells, 1, 1) & 1023) === 0 && Atomics.load(cells, 0) !== 0) break
  }
