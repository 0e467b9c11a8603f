/** Bits of the three flags that ipvsadm -b sets (IP_VS_SVC_F_SCHED1 to 3): each scheduler has its own use for them. */
export const SchedulerFlag = { first: 1, second: 2, third: 4 } as const

/** What sh and mh make of them. */
export const HashFlag = {
  /** A client whose destination takes no connections is sent to another one. */
  fallback: SchedulerFlag.first,
  /** The source port is hashed with the address. */
  port: SchedulerFlag.second,
} as const

/** Names of a scheduler's three flags, in the order in which ipvsadm lists them. */
export function schedulerFlagNames(scheduler: string): string[] {
  return scheduler === 'sh' || scheduler === 'mh'
    ? [`${scheduler}-fallback`, `${scheduler}-port`, 'flag-3']
    : ['flag-1', 'flag-2', 'flag-3']
}

/**
 * The bits of flags by their names, of which `flag-1` to `flag-3` go with any scheduler.
 *
 * @returns undefined when one of them is no flag of the scheduler
 */
export function schedulerFlagBits(scheduler: string, names: readonly string[]): number | undefined {
  const own = schedulerFlagNames(scheduler)
  const generic = schedulerFlagNames('')
  let bits = 0
  for (const name of names) {
    const bit = Math.max(own.indexOf(name), generic.indexOf(name))
    if (bit < 0) return undefined
    bits |= 1 << bit
  }
  return bits
}

/** The names of flags, as the scheduler has them. */
export function schedulerFlagsOf(scheduler: string, bits: number): string[] {
  return schedulerFlagNames(scheduler).filter((_name, i) => (bits & (1 << i)) !== 0)
}
