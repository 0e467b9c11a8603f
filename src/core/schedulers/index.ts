import { lc } from './lc.js'
import { rr } from './rr.js'
import type { SchedulerKind } from './scheduler.js'
import { wlc } from './wlc.js'
import { wrr } from './wrr.js'

/** The schedulers by ipvsadm's names. */
export const schedulers: ReadonlyMap<string, SchedulerKind> = new Map(
  [rr, wrr, lc, wlc].map((kind) => [kind.name, kind]),
)
