/** Jiffies that a timer has to run at least to be on each level of the kernel's wheel, from level 1 on. */
const LEVEL_STARTS = [63, 504, 4032, 32_256, 258_048, 2_064_384, 16_515_072]
/** Each level's slots are so many bits coarser than those of the level below. */
const LEVEL_SHIFT = 3

/**
 * When a timer of the kernel fires that was set to `expires`, `delay` jiffies ahead: never early, and late by
 * up to an eighth of the delay, since it waits in a wheel whose slots are the coarser the further ahead they
 * are (kernel/time/timer.c of Linux 6.1 with HZ=100). One jiffy it is late in any case.
 *
 * IPVS's connections live as long as these timers let them, so ours do, too. Slots begin at multiples of
 * their length in jiffies; up to delays of five hours they divide 32768.
 *
 * @returns jiffies, 32 bits of them as `expires`
 */
export function timerFires(expires: number, delay: number): number {
  let level = 0
  while (level < LEVEL_STARTS.length && delay >= LEVEL_STARTS[level]!) level++
  const shift = level * LEVEL_SHIFT
  return ((expires >> shift) + 1) << shift
}
