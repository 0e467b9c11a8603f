import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { CommonState } from '../../src/core/workers/common-state.js'
import { FRAMES_PER_RING, Handover } from '../../src/core/workers/handover.js'
import { mapShared } from '../../src/kernel/memory.js'
import type { ThreadResult, ThreadTask, Traffic } from './thread.js'

const FRAME_SIZE = 2048

export interface TrialOptions {
  workers: number
  /** Directors that share nothing, where it is false. */
  isCrew: boolean
  traffic: Traffic
  /** Of all workers together. */
  connections: number
  milliseconds: number
}

export interface TrialResult {
  /** Of all workers together, if each had a processor to itself the whole time. */
  packetsPerSecond: number
  /** Processor time of a packet. */
  nanosecondsPerPacket: number
  /** Share of the packets that did not come in at their owner. */
  handedOverShare: number
  /** Share of the time that the workers were ready to run and had no processor. */
  waitedShare: number
}

/** Runs so many workers, each a thread of its own, at the same time. Throws if a packet was lost. */
export async function runTrial(options: TrialOptions): Promise<TrialResult> {
  const { workers } = options
  const framesEach = 2048 + (workers - 1) * FRAMES_PER_RING
  const task: Omit<ThreadTask, 'self'> = {
    ...options,
    framesEach,
    frames: mapShared(FRAME_SIZE * framesEach * workers),
    rings: new SharedArrayBuffer(Handover.bytesFor(workers)),
    common: new SharedArrayBuffer(CommonState.bytesFor(64)),
    gate: new SharedArrayBuffer(16),
  }
  const results = await Promise.all(
    Array.from({ length: workers }, async (_, self) => {
      const worker = new Worker(new URL('./thread.js', import.meta.url), {
        workerData: { ...task, self },
      })
      const [result] = (await once(worker, 'message')) as [ThreadResult]
      await worker.terminate()
      return result
    }),
  )
  const sum = (of: (result: ThreadResult) => number): number =>
    results.reduce((total, result) => total + of(result), 0)
  const packets = sum((result) => result.packets)
  const run = sum(({ runNanoseconds }) => runNanoseconds)
  const dropped = sum((result) => result.dropped)
  if (dropped > 0) throw new Error(`${dropped} of ${packets} packets were lost`)
  return {
    packetsPerSecond: (packets / run) * workers * 1e9,
    nanosecondsPerPacket: run / packets,
    handedOverShare: sum(({ handedOver }) => handedOver) / packets,
    waitedShare:
      sum(({ waitNanoseconds }) => waitNanoseconds) /
      (run + sum(({ waitNanoseconds }) => waitNanoseconds)),
  }
}
