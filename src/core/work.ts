/**
 * How much of what can wait one call may still do, so that packets do not wait for it: timers, samples, sweeps and
 * listings go on with the next call from where they were. Not time is counted, which would make a replay differ
 * from run to run, but what takes it, in units of some 100 ns.
 */
export class Work {
  constructor(public left = 0) {}
}

/** What it counts, in units, with most of what is touched out of the cache. */
export const enum Cost {
  /** A moment at which something may be due. */
  moment = 2,
  /** A connection whose timer fires, or that is ended otherwise. */
  expiry = 5,
  /** Something that is looked at: a line of the connection table, counters, a destination in the trash, a task. */
  look = 1,
  /** A destination that is forgotten, removed, or whose counters begin again. */
  forget = 25,
  /** A service or destination that is described for a listing, and what it takes to hand that over. */
  describe = 40,
  /** An address and port that is named, the same. */
  name = 8,
}

/** Of a director's call that packets have to wait for: about a quarter of a millisecond. */
export const WORK_PER_CALL = 2500

/** Of a command's part: less, since what it makes has to be collected now and then. */
export const WORK_PER_PART = 1000
