/** Words of an entry: the address in four words, and how often it was added. */
const ENTRY = 5
const COUNT = 4
const FIRST_CAPACITY = 64

/**
 * Addresses of either family that are asked for by each packet: a flat table that grows, and no Map, whose lookup
 * costs several times as much. An address is in it as often as it was added; one of IPv4 has three zeros behind it.
 */
export class AddressSet {
  private mask = FIRST_CAPACITY - 1
  private cells = new Int32Array(FIRST_CAPACITY * ENTRY)
  /** Entries in use, those that were removed included until the table grows. */
  private taken = 0

  constructor() {
    this.clear()
  }

  add(a: number, b: number, c: number, d: number): void {
    if ((this.taken + 1) * 2 > this.mask + 1) this.rebuild()
    const at = this.placeOf(a, b, c, d)
    const { cells } = this
    if (cells[at + COUNT] === FREE) {
      cells[at] = a
      cells[at + 1] = b
      cells[at + 2] = c
      cells[at + 3] = d
      cells[at + COUNT] = 0
      this.taken++
    }
    cells[at + COUNT]!++
  }

  /** Takes back one `add`. */
  remove(a: number, b: number, c: number, d: number): void {
    const at = this.placeOf(a, b, c, d)
    if (this.cells[at + COUNT]! > 0) this.cells[at + COUNT]!--
  }

  has(a: number, b: number, c: number, d: number): boolean {
    return this.cells[this.placeOf(a, b, c, d) + COUNT]! > 0
  }

  /** Where the address is, or where it would be put. */
  private placeOf(a: number, b: number, c: number, d: number): number {
    const { cells, mask } = this
    let hash = Math.imul(a ^ Math.imul(b ^ Math.imul(c ^ Math.imul(d, M), M), M), M)
    hash ^= hash >>> 15
    for (let i = hash & mask; ; i = (i + 1) & mask) {
      const at = i * ENTRY
      if (cells[at + COUNT] === FREE) return at
      if (cells[at] === a && cells[at + 1] === b && cells[at + 2] === c && cells[at + 3] === d)
        return at
    }
  }

  private clear(): void {
    for (let at = COUNT; at < this.cells.length; at += ENTRY) this.cells[at] = FREE
  }

  /** Makes room, and leaves out what was removed. */
  private rebuild(): void {
    const before = this.cells
    let used = 0
    for (let at = COUNT; at < before.length; at += ENTRY) if (before[at]! > 0) used++
    let capacity = FIRST_CAPACITY
    while (capacity < 4 * (used + 1)) capacity *= 2
    this.mask = capacity - 1
    this.cells = new Int32Array(capacity * ENTRY)
    this.clear()
    this.taken = used
    for (let from = 0; from < before.length; from += ENTRY) {
      if (before[from + COUNT]! <= 0) continue
      const at = this.placeOf(
        before[from]!,
        before[from + 1]!,
        before[from + 2]!,
        before[from + 3]!,
      )
      this.cells.set(before.subarray(from, from + ENTRY), at)
    }
  }
}

/** The count of a place that no address has; one that was removed keeps its place with a count of 0. */
const FREE = -1
/** An odd multiplier. */
const M = 0x9e3779b1
