/** Memory that a connection table has not used yet is there before it is. */
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { ConnectionTable } from '../../src/core/connection-table.js'
import {
  bytesWanted,
  MemoryAhead,
  MOST_AHEAD_BYTES,
  STEP_BYTES,
  TableAhead,
} from '../../src/daemon/memory-ahead.js'
import { mapShared } from '../../src/kernel/memory.js'

const MAX_CONNECTIONS = 1 << 22
const INDEX_OFFSET = ConnectionTable.indexOffset(MAX_CONNECTIONS)

class Owner {
  readonly region = mapShared(ConnectionTable.bytesFor(MAX_CONNECTIONS))
  readonly table = new ConnectionTable(this.region, { maxConnections: MAX_CONNECTIONS, seed: 1 })
  private created = 0

  /** @param look is called as between two batches */
  create(count: number, look: () => void = () => {}): void {
    for (let i = 0; i < count; i++) {
      this.table.create(6, this.created++, 1024, 1, 80, 2, 8080, 0)
      if (i % 64 === 0) look()
    }
  }

  /** Whether lines and index are what has been written. */
  get findsAll(): boolean {
    for (let client = 0; client < this.created; client++)
      if (this.table.findRequest(6, client, 1, 1024 | (80 << 16)) !== client + 1) return false
    return true
  }
}

function failed(error: Error): void {
  throw error
}

/** Kibibytes of this process that are in memory. */
function residentKib(): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1])
}

/** Waits until memory has grown by so much, and no longer than it could ever take. */
async function untilGrown(fromKib: number, byKib: number): Promise<number> {
  const end = Date.now() + 20_000
  while (residentKib() - fromKib < byKib && Date.now() < end) await setTimeout(5)
  return residentKib() - fromKib
}

t.test('how far ahead: in proportion, by whole steps, and within bounds', (t) => {
  t.equal(bytesWanted(0), 0)
  t.equal(
    bytesWanted(STEP_BYTES / 4),
    STEP_BYTES,
    'the first step is not exceeded by a small table',
  )
  t.equal(bytesWanted(STEP_BYTES), 4 * STEP_BYTES)
  const much = 100 * STEP_BYTES
  t.equal(bytesWanted(much), much + MOST_AHEAD_BYTES)
  for (let used = 0; used < much; used += 99_999) {
    const ahead = bytesWanted(used) - used
    if (ahead < 0 || ahead >= Math.min(3 * used, MOST_AHEAD_BYTES) + STEP_BYTES)
      t.fail(`${ahead} bytes ahead of ${used}`)
  }
  t.end()
})

t.test('a table says where it is used', (t) => {
  const owner = new Owner()
  const { table } = owner
  t.equal(table.lineBytes, 64, 'the header')
  const first = table.indexBytes
  let last = 0
  for (let i = 0; i < 3000; i++) {
    owner.create(1)
    if (table.indexBytes < last) t.fail('it has become less')
    last = table.indexBytes
  }
  t.equal(table.lineBytes, 64 * 3001)
  t.ok(last >= 8 * 6000 && last > first, 'two slots of each')
  const used = new Int32Array(table.words.buffer, INDEX_OFFSET)
  // Probes that begin at the last slot run on.
  t.ok(used.subarray(last / 4 + 200, last).every((word) => word === 0))
  t.end()
})

t.test('memory is touched ahead of two tables, and keeps its contents', async (t) => {
  const owners = [new Owner(), new Owner()]
  const memory = await MemoryAhead.start(
    owners.map(({ region }) => region),
    MAX_CONNECTIONS,
    failed,
  )
  t.teardown(() => memory.stop())
  const aheads = owners.map(({ table }, i) => new TableAhead(table, memory.cells, i))
  const idle = residentKib()
  for (const [i, owner] of owners.entries()) owner.create(4096, () => aheads[i]!.look())
  await setTimeout(50)
  t.ok(residentKib() - idle < 20 * 1024, 'small tables have nothing touched ahead')

  owners[1]!.create(60_000)
  const { table } = owners[1]!
  const contents = Buffer.from(table.words.slice(0, table.lineBytes / 4).buffer)
  const present = residentKib()
  aheads[1]!.look()
  const wanted = [table.lineBytes, table.indexBytes].reduce(
    (sum, bytes) => sum + bytesWanted(bytes) - bytes,
    0,
  )
  // Of the first and last large page a part may be there for other reasons.
  const least = (wanted - 4 * STEP_BYTES) / 1024
  t.ok(least > 8 * 1024)
  const grown = await untilGrown(present, least)
  t.ok(grown >= least, `${grown} of ${wanted / 1024} KiB`)
  t.ok(grown < wanted / 1024 + 16 * 1024, `${grown} KiB, and no more`)
  t.ok(contents.equals(Buffer.from(table.words.slice(0, table.lineBytes / 4).buffer)))
  t.equal(table.count, 64_096)
  t.ok(owners[1]!.findsAll)
})

t.test('while it touches, what is written there stays', async (t) => {
  const owner = new Owner()
  const memory = await MemoryAhead.start([owner.region], MAX_CONNECTIONS, failed)
  t.teardown(() => memory.stop())
  const ahead = new TableAhead(owner.table, memory.cells, 0)
  // Without a pause, so that the thread is at times behind it.
  owner.create(300_000, () => ahead.look())
  t.equal(owner.table.count, 300_000)
  t.ok(owner.findsAll)
})

t.test('a table that is full asks for no more than there is', async (t) => {
  const maxConnections = 40_000
  const region = mapShared(ConnectionTable.bytesFor(maxConnections))
  const table = new ConnectionTable(region, { maxConnections, seed: 1 })
  const memory = await MemoryAhead.start([region], maxConnections, failed)
  const ahead = new TableAhead(table, memory.cells, 0)
  while (table.create(6, table.count, 1024, 1, 80, 2, 8080, 0) !== 0) ahead.look()
  t.equal(table.count, maxConnections)
  await setTimeout(50)
  await memory.stop()
})
