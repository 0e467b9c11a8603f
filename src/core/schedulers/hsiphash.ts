/** Where the words of the 64-bit state are, the lower before the upper. */
const V0 = 0
const V1 = 2
const V2 = 4
const V3 = 6

/** "somepseudorandomlygeneratedbytes" */
const START = [
  0x70736575, 0x736f6d65, 0x6e646f6d, 0x646f7261, 0x6e657261, 0x6c796765, 0x79746573, 0x74656462,
]

/** A message of one 32-bit word has four bytes, which stands in the upper bits of its last block. */
const LENGTH = 4 << 24

/**
 * The kernel's hsiphash of one 32-bit word as 64-bit machines have it: SipHash with one round a block and three
 * to finish, of which the lower half is the hash (include/linux/siphash.h, lib/siphash.c; J.-P. Aumasson and
 * D. J. Bernstein, SipHash: a fast short-input PRF, 2012).
 */
export class Hsiphash {
  private readonly start: Int32Array
  private readonly state = new Int32Array(8)

  /** @param key two numbers of 64 bits, the lower halves first: four words */
  constructor(key: readonly [number, number, number, number]) {
    this.start = Int32Array.from(START, (word, i) => word ^ key[i & 3]!)
  }

  /** @returns 32 bits, unsigned */
  hash(word: number): number {
    const v = this.state
    v.set(this.start)
    v[V3]! ^= word
    v[V3 + 1]! ^= LENGTH
    round(v)
    v[V0]! ^= word
    v[V0 + 1]! ^= LENGTH
    v[V2]! ^= 0xff
    round(v)
    round(v)
    round(v)
    return (v[V0]! ^ v[V1]! ^ v[V2]! ^ v[V3]!) >>> 0
  }
}

function round(v: Int32Array): void {
  add(v, V0, V1)
  rotate(v, V1, 13)
  xor(v, V1, V0)
  swap(v, V0)
  add(v, V2, V3)
  rotate(v, V3, 16)
  xor(v, V3, V2)
  add(v, V0, V3)
  rotate(v, V3, 21)
  xor(v, V3, V0)
  add(v, V2, V1)
  rotate(v, V1, 17)
  xor(v, V1, V2)
  swap(v, V2)
}

function add(v: Int32Array, to: number, from: number): void {
  const low = (v[to]! + v[from]!) | 0
  const carry = low >>> 0 < v[from]! >>> 0 ? 1 : 0
  v[to] = low
  v[to + 1] = (v[to + 1]! + v[from + 1]! + carry) | 0
}

/** To the left, by 1 to 31 bits. */
function rotate(v: Int32Array, at: number, bits: number): void {
  const low = v[at]!
  const high = v[at + 1]!
  v[at] = (low << bits) | (high >>> (32 - bits))
  v[at + 1] = (high << bits) | (low >>> (32 - bits))
}

/** A rotation by 32 bits. */
function swap(v: Int32Array, at: number): void {
  const low = v[at]!
  v[at] = v[at + 1]!
  v[at + 1] = low
}

function xor(v: Int32Array, to: number, from: number): void {
  v[to]! ^= v[from]!
  v[to + 1]! ^= v[from + 1]!
}
