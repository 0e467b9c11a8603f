import { dh } from './dh.js'
import { fo } from './fo.js'
import { lblc } from './lblc.js'
import { lblcr } from './lblcr.js'
import { lc } from './lc.js'
import { mh } from './mh.js'
import { none } from './none.js'
import { nq } from './nq.js'
import { ovf } from './ovf.js'
import { rr } from './rr.js'
import type { SchedulerKind } from './scheduler.js'
import { sed } from './sed.js'
import { sh } from './sh.js'
import { twos } from './twos.js'
import { wlc } from './wlc.js'
import { wrr } from './wrr.js'

/** The schedulers by ipvsadm's names, in the order of its help. */
export const schedulers: ReadonlyMap<string, SchedulerKind> = new Map(
  [rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, none].map((kind) => [
    kind.name,
    kind,
  ]),
)
