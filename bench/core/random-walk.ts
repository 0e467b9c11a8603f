import { LINE_BYTES } from '../../src/core/connection.js'
import { mapShared } from '../../src/kernel/memory.js'
import { SeededRandom } from '../../src/port/random.js'

/**
 * One cycle through cache lines in random order (Sattolo 1986), in memory of the same kind as the connection table:
 * each line holds the place of the next, so no load can begin before the one before it has ended.
 */
export class RandomWalk {
  private readonly lines: Int32Array
  private at = 0

  constructor(bytes: number) {
    const wordsPerLine = LINE_BYTES / 4
    const count = Math.floor(bytes / LINE_BYTES)
    const order = Int32Array.from({ length: count }, (_, i) => i)
    const random = new SeededRandom(1)
    for (let i = count - 1; i > 0; i--) {
      const j = (random.next() >>> 0) % i
      const swapped = order[i]!
      order[i] = order[j]!
      order[j] = swapped
    }
    this.lines = new Int32Array(mapShared(count * LINE_BYTES), 0, count * wordsPerLine)
    for (let i = 0; i < count; i++) this.lines[i * wordsPerLine] = order[i]! * wordsPerLine
  }

  walk(steps: number): void {
    const { lines } = this
    let at = this.at
    for (let i = 0; i < steps; i++) at = lines[at]!
    this.at = at
  }
}
