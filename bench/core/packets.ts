/** What a packet costs, measured in threads that have one director each. */
import type { ForwardingMethod } from '../../src/core/commands.js'
import { MeasuringThread } from '../suite/measuring-thread.js'

/** A thread's task. */
export interface PacketsTask {
  forwarding: ForwardingMethod
  family: 4 | 6
  connections: number
  /** Of a trial. */
  packets: number
}

/**
 * What of a load's packets is measured: a director, their writing by the load, or a director on a JavaScript Map. The
 * answer is in nanoseconds of the thread's processor time for a packet, without the writing unless it is the question.
 */
export type Measured = 'director' | 'writing' | 'map'

export type PacketsThread = MeasuringThread<Measured>

/** Resolves when all connections are there. */
export const startPackets = (task: PacketsTask): Promise<PacketsThread> =>
  MeasuringThread.start(new URL('packets-thread.js', import.meta.url), task)
