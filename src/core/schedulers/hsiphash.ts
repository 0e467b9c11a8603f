/** "somepseudorandomlygeneratedbytes": the words of the 64-bit state, the lower before the upper. */
const START = [
  0x70736575, 0x736f6d65, 0x6e646f6d, 0x646f7261, 0x6e657261, 0x6c796765, 0x79746573, 0x74656462,
]

/** A message of one 32-bit word has four bytes, which stands in the upper bits of its last block. */
const LENGTH = 4 << 24
/** One for the block, three to finish. */
const ROUNDS = 4

/**
 * The kernel's hsiphash of one 32-bit word as 64-bit machines have it: SipHash with one round a block and three
 * to finish, of which the lower half is the hash (include/linux/siphash.h, lib/siphash.c; J.-P. Aumasson and
 * D. J. Bernstein, SipHash: a fast short-input PRF, 2012).
 */
export class Hsiphash {
  private readonly start: Int32Array

  /** @param key two numbers of 64 bits, the lower halves first: four words */
  constructor(key: readonly [number, number, number, number]) {
    this.start = Int32Array.from(START, (word, i) => word ^ key[i & 3]!)
  }

  /** @returns 32 bits, unsigned */
  hash(word: number): number {
    return this.signed(word) >>> 0
  }

  /** The hash modulo a number below 2^31: a small integer, which is no allocation wherever it is passed. */
  hashModulo(word: number, modulus: number): number {
    return ((this.signed(word) >>> 0) % modulus) | 0
  }

  /** The four numbers of the state are two words each, all in variables: this is on the way of every decision. */
  private signed(word: number): number {
    const { start } = this
    let low0 = start[0]!
    let high0 = start[1]!
    let low1 = start[2]!
    let high1 = start[3]!
    let low2 = start[4]!
    let high2 = start[5]!
    let low3 = start[6]! ^ word
    let high3 = start[7]! ^ LENGTH
    let low: number
    for (let round = 0; round < ROUNDS; round++) {
      if (round === 1) {
        low0 ^= word
        high0 ^= LENGTH
        low2 ^= 0xff
      }
      // 0 += 1; 1 <<<= 13; 1 ^= 0; 0 <<<= 32
      low = (low0 + low1) | 0
      high0 = (high0 + high1 + carry(low0, low1, low)) | 0
      low0 = low
      low = (low1 << 13) | (high1 >>> 19)
      high1 = ((high1 << 13) | (low1 >>> 19)) ^ high0
      low1 = low ^ low0
      low = low0
      low0 = high0
      high0 = low
      // 2 += 3; 3 <<<= 16; 3 ^= 2
      low = (low2 + low3) | 0
      high2 = (high2 + high3 + carry(low2, low3, low)) | 0
      low2 = low
      low = (low3 << 16) | (high3 >>> 16)
      high3 = ((high3 << 16) | (low3 >>> 16)) ^ high2
      low3 = low ^ low2
      // 0 += 3; 3 <<<= 21; 3 ^= 0
      low = (low0 + low3) | 0
      high0 = (high0 + high3 + carry(low0, low3, low)) | 0
      low0 = low
      low = (low3 << 21) | (high3 >>> 11)
      high3 = ((high3 << 21) | (low3 >>> 11)) ^ high0
      low3 = low ^ low0
      // 2 += 1; 1 <<<= 17; 1 ^= 2; 2 <<<= 32
      low = (low2 + low1) | 0
      high2 = (high2 + high1 + carry(low2, low1, low)) | 0
      low2 = low
      low = (low1 << 17) | (high1 >>> 15)
      high1 = ((high1 << 17) | (low1 >>> 15)) ^ high2
      low1 = low ^ low2
      low = low2
      low2 = high2
      high2 = low
    }
    return low0 ^ low1 ^ low2 ^ low3
  }
}

/** Out of two lower words and their sum: 1 or 0, without a branch, which nothing could predict. */
function carry(one: number, other: number, sum: number): number {
  return ((one & other) | ((one | other) & ~sum)) >>> 31
}
