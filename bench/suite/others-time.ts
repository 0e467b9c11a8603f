/**
 * Processor time of other programs: of all processes that this one can see but itself and those that it has started,
 * threads and children included (/proc/PID/stat, proc_pid_stat(5)). The kernel's threads are nobody's: they may work for
 * whoever measures.
 */
import { readdirSync, readFileSync } from 'node:fs'

/** Of a tick (USER_HZ), which is a hundredth of a second on every machine that Linux runs on today. */
export const NS_PER_TICK = 1e7

const KERNEL_THREADS = 2

export interface ProcessTime {
  readonly pid: number
  readonly parent: number
  /** Also of its children that have ended and that it has waited for. */
  readonly ticks: number
}

/** @param stat text of /proc/PID/stat */
export function parseProcessTime(stat: string): ProcessTime {
  // Its name may contain everything, also brackets. Behind it: state ppid … utime stime cutime cstime
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
  return { pid: parseInt(stat, 10), parent: Number(fields[1]), ticks }
}

/** Nanoseconds of all but `own`, its descendants, and the kernel's threads. */
export function othersNs(processes: readonly ProcessTime[], own: number): number {
  const parents = new Map(processes.map(({ pid, parent }) => [pid, parent]))
  const isOther = (pid: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined && at !== 0; at = parents.get(at))
      if (at === own || at === KERNEL_THREADS) return false
    return true
  }
  return (
    processes.reduce((sum, { pid, ticks }) => sum + (isOther(pid) ? ticks : 0), 0) * NS_PER_TICK
  )
}

/** All processes of the machine, as far as this one can see them; it reads a file for each. */
export function readProcesses(): ProcessTime[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      return [parseProcessTime(readFileSync(`/proc/${name}/stat`, 'utf8'))]
    } catch {
      return [] // It has ended meanwhile.
    }
  })
}

/** Takes some milliseconds. */
export const readOthersNs = (): number => othersNs(readProcesses(), process.pid)
