/** Packets of numbered connections, of which load.ts and load-ipv6.ts write one family each. */
import type { PacketSource } from '../src/drivers/memory.js'
import type { FramePool } from '../src/port/frame-pool.js'

/** `count` connections, a power of two, numbered from 0. */
export abstract class Segments implements PacketSource {
  protected flags = 0
  protected readonly template: Int32Array
  /** On every so many-th packet the SYN of a client that was not there before; 0 for none. */
  protected newEvery = 0
  /** Packets until the next that begins a connection of its own, and how many such there were. */
  protected untilNew = 0
  protected newConnections = 0
  private shuffled = true
  private position = 0
  private readonly mask: number
  private readonly shift: number

  constructor(
    count: number,
    private readonly frameWords: number,
  ) {
    this.template = new Int32Array(frameWords)
    this.mask = count - 1
    this.shift = Math.max(1, (31 - Math.clz32(count)) >> 1)
  }

  abstract write(pool: FramePool, offset: number): number

  /** All of a frame but what is different from connection to connection, with `flags` as its TCP flags. */
  protected abstract buildTemplate(): void

  /**
   * What is written from here on, and whether in the order of the connections' numbers from 0, or in an order
   * without pattern that takes each connection once a cycle.
   */
  set(flags: number, shuffled: boolean): void {
    this.flags = flags
    this.shuffled = shuffled
    this.position = 0
    this.buildTemplate()
  }

  addNewConnections(every: number): void {
    this.newEvery = every
    this.untilNew = every
  }

  /** @returns the number of the connection whose turn it is */
  protected next(): number {
    const i = this.position
    if (!this.shuffled) {
      this.position = (i + 1) & this.mask
      return i
    }
    // A full period (Hull and Dobell 1962), and a bijection on top of it for the regular low bits.
    this.position = (Math.imul(i, 1664525) + 1013904223) & this.mask
    return i ^ (i >>> this.shift)
  }

  /** The frame starts 2 bytes after a word's start, and so does the template. */
  protected copyTemplate(words: Int32Array, offset: number): void {
    const first = (offset - 2) >> 2
    const { template, frameWords } = this
    for (let word = 0; word < frameWords; word++) words[first + word] = template[word]!
  }
}
