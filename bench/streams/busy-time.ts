/** How long the processors of the machine have worked, for whomever: /proc/stat (proc_stat(5)). */
import { readFileSync } from 'node:fs'
import { NS_PER_TICK } from '../suite/others-time.js'

/** All but idle, iowait and steal: user nice system idle iowait irq softirq steal. */
const BUSY_FIELDS = [0, 1, 2, 5, 6]

/** @param stat text of /proc/stat; returns nanoseconds since it was started */
export function parseBusyNs(stat: string): number {
  const fields = /^cpu +(.*)$/m.exec(stat)?.[1]?.split(' ').map(Number) ?? []
  return BUSY_FIELDS.reduce((sum, field) => sum + (fields[field] ?? 0), 0) * NS_PER_TICK
}

export const readBusyNs = (): number => parseBusyNs(readFileSync('/proc/stat', 'utf8'))
