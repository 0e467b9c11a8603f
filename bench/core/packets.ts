/** What a packet costs, measured in threads that have one director each. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { ForwardingMethod } from '../../src/core/commands.js'

/** What of a load's packets is measured: a director, their writing by the load, or a director on a JavaScript Map. */
export type Measured = 'director' | 'writing' | 'map'

/** A thread's task. */
export interface PacketsTask {
  forwarding: ForwardingMethod
  family: 4 | 6
  connections: number
  /** Of a trial. */
  packets: number
}

/**
 * A load in a thread of its own, as each of the daemon's data planes has one: of a function that a thread has once V8 makes
 * code for the very memory that it works on.
 */
export class PacketsThread {
  private constructor(private readonly worker: Worker) {}

  /** Resolves when all connections are there. */
  static async start(task: PacketsTask): Promise<PacketsThread> {
    const worker = new Worker(new URL('packets-thread.js', import.meta.url), { workerData: task })
    await once(worker, 'message')
    return new PacketsThread(worker)
  }

  /** One trial: nanoseconds of the thread's processor time for a packet, without the writing unless it is what is measured. */
  async measure(measured: Measured): Promise<number> {
    this.worker.postMessage(measured)
    const [nanoseconds] = (await once(this.worker, 'message')) as [number]
    return nanoseconds
  }

  async end(): Promise<void> {
    await this.worker.terminate()
  }
}
