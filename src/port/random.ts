/** A source of 32-bit random integers, injected so that runs can be repeated. */
export interface Random {
  /** The next 32 random bits as a signed integer. */
  next(): number
}

/** A small seeded generator (xorshift32, Marsaglia 2003): repeatable, not secret. */
export class SeededRandom implements Random {
  private state: number

  constructor(seed: number) {
    this.state = seed | 0 || 0x9e3779b9 | 0
  }
  next(): number {
    let x = this.state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.state = x
    return x
  }
}
