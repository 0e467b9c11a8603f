import {
  ADDRESS_BITS,
  ADDRESS_WORDS,
  foldAddress,
  isSameAddress,
  maskWordBe,
  type Prefix,
} from '../wire/ipv6.js'

interface Entry<T> {
  words: Int32Array
  list: T[]
}

/**
 * Lists by IPv6 prefix, for lookups by the longest prefix first. A lookup allocates nothing: prefixes of one
 * length are found by the fold of their words.
 */
export class Ipv6Prefixes<T> {
  private readonly byLength: (Map<number, Entry<T>[]> | undefined)[] = []
  /** Lengths that there are, the longest first. */
  private lengths: number[] = []
  private readonly masked = new Int32Array(ADDRESS_WORDS)

  /** The list of exactly this prefix; made if `create` says so. */
  get(prefix: Prefix, create = false): T[] | undefined {
    const { words, prefixLength } = prefix
    let folds = this.byLength[prefixLength]
    if (folds === undefined) {
      if (!create) return undefined
      folds = this.byLength[prefixLength] = new Map()
      this.lengths = [...this.lengths, prefixLength].sort((a, b) => b - a)
    }
    const fold = foldAddress(words, 0)
    let entries = folds.get(fold)
    if (entries === undefined) {
      if (!create) return undefined
      folds.set(fold, (entries = []))
    }
    let entry = entries.find((other) => isSameAddress(other.words, 0, words, 0))
    if (entry === undefined) {
      if (!create) return undefined
      entries.push((entry = { words, list: [] }))
    }
    return entry.list
  }

  /** Forgets a prefix, with its list. */
  delete(prefix: Prefix): void {
    const { words, prefixLength } = prefix
    const folds = this.byLength[prefixLength]
    const fold = foldAddress(words, 0)
    const entries = folds?.get(fold)?.filter((other) => !isSameAddress(other.words, 0, words, 0))
    if (folds === undefined || entries === undefined) return
    if (entries.length > 0) folds.set(fold, entries)
    else folds.delete(fold)
    if (folds.size > 0) return
    this.byLength[prefixLength] = undefined
    this.lengths = this.lengths.filter((length) => length !== prefixLength)
  }

  /**
   * The list of the longest prefix that an address is in, of at most `longest` bits; undefined when there is
   * none. `matchedLength` is the prefix's then.
   */
  match(addresses: Int32Array, at: number, longest = ADDRESS_BITS): T[] | undefined {
    const { masked } = this
    for (const length of this.lengths) {
      if (length > longest) continue
      for (let i = 0; i < ADDRESS_WORDS; i++) masked[i] = addresses[at + i]! & maskWordBe(length, i)
      const entries = this.byLength[length]!.get(foldAddress(masked, 0))
      if (entries === undefined) continue
      for (const entry of entries)
        if (isSameAddress(entry.words, 0, masked, 0)) {
          this.matchedLength = length
          return entry.list
        }
    }
    return undefined
  }

  /** Bits of the prefix that `match` has found last. */
  matchedLength = 0
}
