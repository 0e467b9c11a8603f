/**
 * How long packets have to wait for something else that the director does: each thing in steps, as the data-plane
 * thread takes them between batches, and each step timed.
 */
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads'
import type { Command, Reply, ServiceKey } from '../../src/core/commands.js'
import type { ConnectionTable } from '../../src/core/connection-table.js'
import { BATCH_SIZE } from '../../src/core/data-plane.js'
import { MemoryAhead, TableAhead } from '../../src/daemon/memory-ahead.js'
import { threadTimeNs } from '../../src/kernel/processor-time.js'
import type { ManualClock } from '../../src/port/clock.js'
import { serverAddress, type Load } from '../load.js'
import type { ListerOptions } from './lister.js'

/** Milliseconds of this thread's processor time, the longest first. */
export type Pauses = Float64Array

/** Takes steps until there are no more, and times each. */
function timeSteps(step: () => boolean): Pauses {
  const times: number[] = []
  for (let goesOn = true; goesOn;) {
    const before = threadTimeNs()
    goesOn = step()
    times.push((threadTimeNs() - before) / 1e6)
  }
  return Float64Array.from(times).sort().reverse()
}

/** Connections begin, a batch of them a step, while another thread touches memory ahead as it does in the daemon. */
export async function growth(load: Load, connections: number): Promise<Pauses> {
  const { table } = load.director
  const memory = await MemoryAhead.start([regionOf(table)], table.maxConnections, (error) => {
    throw error
  })
  const ahead = new TableAhead(table, memory.cells, 0)
  let left = Math.floor(connections / BATCH_SIZE)
  const pauses = timeSteps(() => {
    load.runDirector(BATCH_SIZE)
    ahead.look()
    return --left > 0
  })
  await memory.stop()
  if (table.count < connections - BATCH_SIZE)
    throw new Error(`${table.count} of ${connections} connections have begun`)
  return pauses
}

function regionOf(table: ConnectionTable): SharedArrayBuffer {
  return table.words.buffer as SharedArrayBuffer
}

/** The same while another thread lists them all, again and again. */
export async function growthWhileListed(load: Load, connections: number): Promise<Pauses> {
  const { table } = load.director
  const state = new SharedArrayBuffer(8)
  const cells = new Int32Array(state)
  const options: ListerOptions = {
    region: regionOf(table),
    maxConnections: table.maxConnections,
    state,
  }
  const lister = new Worker(new URL('./lister.js', import.meta.url), { workerData: options })
  const ended = new Promise<void>((resolve, reject) => {
    lister.on('exit', () => resolve()).on('error', reject)
  })
  while (Atomics.load(cells, 1) === 0)
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 1))])
  const pauses = await growth(load, connections)
  Atomics.store(cells, 0, 1)
  await ended
  return pauses
}

/** Time passes all at once, and what is due by then is done. */
export function passTime(load: Load, clock: ManualClock, jiffies: number): Pauses {
  clock.advanceJiffies(jiffies)
  return timeSteps(() => !load.director.advance(clock.nowJiffies()))
}

/** One thread's part of a command: its parts are made, and handed over to another thread. */
export function inParts<C extends Command>(
  load: Load,
  command: C,
): { pauses: Pauses; parts: Reply<C>[] } {
  const { port1, port2 } = new MessageChannel()
  const parts: Reply<C>[] = []
  const generator = load.director.carryOut(command)
  const pauses = timeSteps(() => {
    const { value, done } = generator.next()
    port1.postMessage({ kind: 'part', id: 1, part: value })
    return done !== true
  })
  for (let one = receiveMessageOnPort(port2); one; one = receiveMessageOnPort(port2))
    parts.push((one as { message: { part: Reply<C> } }).message.part)
  port1.close()
  return { pauses, parts }
}

/** So many services of two destinations each, and one of many. */
export function configure(load: Load, services: number, ofOne: number): void {
  const { director } = load
  const options = {
    scheduler: 'rr',
    schedulerFlags: [],
    persistentTimeoutSeconds: 0,
    persistentPrefixLength: 32,
    onePacket: false,
  }
  const add = (service: ServiceKey, destinations: number): void => {
    director.execute({ op: 'add-service', service, options })
    for (let i = 0; i < destinations; i++)
      director.execute({
        op: 'add-destination',
        service,
        destination: { address: serverAddress(i % 4), port: 1 + (i >> 2) },
        options: { forwarding: 'masquerade', weight: 1, upperThreshold: 0, lowerThreshold: 0 },
      })
  }
  for (let i = 0; i < services; i++)
    add(
      { protocol: 'tcp', address: `203.0.${113 + (i & 1)}.${(i >> 1) & 0xff}`, port: 1 + (i >> 9) },
      2,
    )
  add({ protocol: 'udp', address: '203.0.113.1', port: 1 }, ofOne)
}
