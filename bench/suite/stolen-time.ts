/** How much of the CPUs' time the hypervisor gave to others: the field 'steal' of /proc/stat (proc_stat(5)). */
import { readFileSync } from 'node:fs'

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

export const readCpuTime = (): CpuTime => parseCpuTime(readFileSync('/proc/stat', 'utf8'))

/** Share of the time between two readings, of all CPUs, in 0..1; 0 if no tick has passed. */
export function stolenShare(before: CpuTime, after: CpuTime): number {
  const total = after.total - before.total
  return total > 0 ? Math.max(0, after.stolen - before.stolen) / total : 0
}
