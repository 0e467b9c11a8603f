import { JIFFIES_PER_SECOND } from '../../port/clock.js'
import { timerFires } from '../timer-wheel.js'
import type { Packet } from '../packet.js'
import type { Task, Tasks } from '../tasks.js'
import { Cost, Work } from '../work.js'
import { hash32, hashed } from './hash.js'

const TABLE_BITS = 10
const TABLE_SIZE = 1 << TABLE_BITS
const TABLE_MASK = TABLE_SIZE - 1

/** Above this many entries those that have not been asked for lately are forgotten. */
const MAX_ENTRIES = TABLE_SIZE * 16
const IDLE_JIFFIES = 6 * 60 * JIFFIES_PER_SECOND
const CHECK_JIFFIES = 60 * JIFFIES_PER_SECOND
/** Every so many checks that found no more than that, old entries are forgotten, too. */
const CHECKS_TO_FULL = 30

/** What is remembered of one destination address. */
export class CacheEntry<T> {
  next: CacheEntry<T> | undefined
  lastUseJiffies = 0

  private readonly word0: number
  private readonly word1: number
  private readonly word2: number
  private readonly word3: number

  constructor(
    packet: Packet,
    public value: T,
  ) {
    this.word0 = packet.destinationWord(0)
    this.word1 = packet.destinationWord(1)
    this.word2 = packet.destinationWord(2)
    this.word3 = packet.destinationWord(3)
  }

  isFor(packet: Packet): boolean {
    return (
      this.word0 === packet.destinationWord(0) &&
      this.word1 === packet.destinationWord(1) &&
      this.word2 === packet.destinationWord(2) &&
      this.word3 === packet.destinationWord(3)
    )
  }
}

/**
 * What lblc and lblcr remember by destination address, until it has not been asked for in a long time. It is
 * looked through about every minute. If it has more than 16384 entries then, those go that nobody has asked
 * for in six minutes, bucket after bucket until there are enough; if it has not for half an hour, all go that
 * nobody has asked for as long as the setting says.
 */
export class LocalityCache<T> implements Task {
  due: number
  private readonly buckets = new Array<CacheEntry<T> | undefined>(TABLE_SIZE).fill(undefined)
  private entries = 0
  /** Bucket that was looked through last. */
  private rover = 0
  private checks = 1
  /** Of the check that is under way: buckets to look through, entries to forget, how old they have to be. */
  private bucketsLeft = 0
  private goal = 0
  private keepJiffies = 0

  /**
   * @param expirationSeconds how long an entry is kept that is not asked for
   * @param forget lets go of an entry's value
   */
  constructor(
    private readonly tasks: Tasks,
    private readonly expirationSeconds: () => number,
    private readonly forget: (value: T) => void,
  ) {
    this.due = timerFires((tasks.now + CHECK_JIFFIES) | 0, CHECK_JIFFIES)
    tasks.add(this)
  }

  /** The entry of the packet's destination address, which has now been asked for. */
  find(packet: Packet): CacheEntry<T> | undefined {
    let entry = this.buckets[bucketOf(packet)]
    while (entry && !entry.isFor(packet)) entry = entry.next
    if (entry) entry.lastUseJiffies = this.tasks.now
    return entry
  }

  /** Remembers a value for the packet's destination address, which has no entry. */
  add(packet: Packet, value: T): void {
    const entry = new CacheEntry(packet, value)
    const bucket = bucketOf(packet)
    entry.lastUseJiffies = this.tasks.now
    entry.next = this.buckets[bucket]
    this.buckets[bucket] = entry
    this.entries++
  }

  /** Puts another value into an entry. As in the kernel it then counts once more than it is there. */
  replace(entry: CacheEntry<T>, value: T): void {
    this.forget(entry.value)
    entry.value = value
    this.entries++
  }

  /** Forgets everything, for good. */
  clear(): void {
    this.tasks.remove(this)
    const work = new Work(Infinity)
    for (let bucket = 0; bucket < TABLE_SIZE; bucket++) this.sweep(bucket, -1, work)
  }

  /** The periodic check. Part of Task. */
  run(nowJiffies: number, work: Work): boolean {
    if (this.bucketsLeft === 0) this.beginCheck()
    while (this.bucketsLeft > 0) {
      if (work.left <= 0) return false
      this.rover = (this.rover + 1) & TABLE_MASK
      this.goal -= this.sweep(this.rover, this.keepJiffies, work)
      this.bucketsLeft = this.goal > 0 ? this.bucketsLeft - 1 : 0
    }
    this.due = timerFires((nowJiffies + CHECK_JIFFIES) | 0, CHECK_JIFFIES)
    return true
  }

  private beginCheck(): void {
    if (this.checks % CHECKS_TO_FULL === 0) {
      // All buckets once, which ends where it began.
      this.bucketsLeft = TABLE_SIZE
      this.goal = Infinity
      this.keepJiffies = this.expirationSeconds() * JIFFIES_PER_SECOND
      this.checks = 1
    } else if (this.entries <= MAX_ENTRIES) {
      this.checks++
    } else {
      const excess = this.entries - MAX_ENTRIES
      this.bucketsLeft = TABLE_SIZE
      this.goal = Math.min(Math.trunc((excess * 4) / 3), MAX_ENTRIES / 2)
      this.keepJiffies = IDLE_JIFFIES
    }
  }

  /**
   * Forgets a bucket's entries that have not been asked for so long.
   *
   * @returns how many
   */
  private sweep(bucket: number, keepJiffies: number, work: Work): number {
    let count = 0
    work.left -= Cost.look
    let before: CacheEntry<T> | undefined
    for (let entry = this.buckets[bucket]; entry; entry = entry.next) {
      work.left -= Cost.look
      if (((this.tasks.now - entry.lastUseJiffies) | 0) < keepJiffies) {
        before = entry
        continue
      }
      if (before) before.next = entry.next
      else this.buckets[bucket] = entry.next
      this.forget(entry.value)
      this.entries--
      count++
    }
    return count
  }
}

function bucketOf(packet: Packet): number {
  return hash32(hashed(packet.destinationBe, 0), TABLE_BITS)
}
