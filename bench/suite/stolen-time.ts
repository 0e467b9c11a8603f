/**
 * What others took of the time of a trial: the hypervisor from all processors, which is the field 'steal' of
 * /proc/stat (proc_stat(5)); and other programs from this thread, which is what it waited to run, the second
 * field of its schedstat (Documentation/scheduler/sched-stats.rst). Where the work is that of many processes, it is what
 * other programs had of all processors.
 */
import { readFileSync } from 'node:fs'
import { NS_PER_TICK, readOthersNs } from './others-time.js'

export interface CpuTime {
  readonly total: number
  readonly stolen: number
}

/** user nice system idle iowait irq softirq steal; guest and guest_nice are contained in user and nice. */
const FIELDS = 8
const STEAL = 7

/** @param stat text of /proc/stat */
export function parseCpuTime(stat: string): CpuTime {
  const fields = /^cpu +(.*)$/m.exec(stat)?.[1]?.split(' ').slice(0, FIELDS).map(Number) ?? []
  return { total: fields.reduce((sum, field) => sum + field, 0), stolen: fields[STEAL] ?? 0 }
}

/** Share of the time between two readings, of all CPUs, in 0..1; 0 if no tick has passed. */
export function stolenShare(before: CpuTime, after: CpuTime): number {
  const total = after.total - before.total
  return total > 0 ? Math.max(0, after.stolen - before.stolen) / total : 0
}

/** Share of the time of all CPUs that others had, in 0..1. */
export function othersShare(othersNs: number, totalTicks: number): number {
  return totalTicks > 0 ? Math.min(1, Math.max(0, othersNs / NS_PER_TICK / totalTicks)) : 0
}

/** What was taken since a certain moment. */
export interface Taken {
  readonly stolenShare: number
  readonly waitedShare: number
  readonly othersShare?: number
}

/** Nanoseconds that this process's first thread has run, and has waited to; 0 from a kernel that does not count. */
function schedulingNs(): { ran: number; waited: number } {
  try {
    const [ran, waited] = readFileSync('/proc/self/schedstat', 'utf8').split(' ').map(Number)
    return { ran: ran!, waited: waited! }
  } catch {
    return { ran: 0, waited: 0 }
  }
}

/**
 * Share of a trial that the thread waited for a processor. A thread that sleeps most of the time, while others
 * work for it, is not kept from anything: 0.
 */
export function waitedShare(ranMs: number, waitedMs: number, durationMs: number): number {
  return ranMs + waitedMs < 0.8 * durationMs ? 0 : Math.min(1, waitedMs / durationMs)
}

/**
 * Begins to watch; the function that it returns says what was taken until then.
 *
 * @param looksAtOthers whether it looks at all processes of the machine, which takes some milliseconds
 */
export function watchTaken(looksAtOthers = false): () => Taken {
  const readCpu = (): CpuTime => parseCpuTime(readFileSync('/proc/stat', 'utf8'))
  const othersBefore = looksAtOthers ? readOthersNs() : 0
  const cpu = readCpu()
  const start = schedulingNs()
  const startMs = performance.now()
  return () => {
    const { ran, waited } = schedulingNs()
    const cpuAfter = readCpu()
    return {
      ...(looksAtOthers && {
        othersShare: othersShare(readOthersNs() - othersBefore, cpuAfter.total - cpu.total),
      }),
      stolenShare: stolenShare(cpu, cpuAfter),
      waitedShare: waitedShare(
        (ran - start.ran) / 1e6,
        (waited - start.waited) / 1e6,
        performance.now() - startMs,
      ),
    }
  }
}
