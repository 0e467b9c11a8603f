import * as ipv6 from '../wire/ipv6.js'

/** An address of the director's own. */
interface Candidate {
  interfaceIndex: number
  words: Int32Array
}

/** Scopes of unicast addresses, as multicast counts them. */
const SCOPE_LINK = 2
const SCOPE_SITE = 5
const SCOPE_GLOBAL = 14

/** The policy table of RFC 6724, section 2.1, as Linux has it: the longest prefix gives the label. */
const LABELS: readonly (readonly [prefix: ipv6.Prefix, label: number])[] = (
  [
    ['::1/128', 0],
    ['::ffff:0:0/96', 4],
    ['::/96', 3],
    ['2001::/32', 6],
    ['2001:10::/28', 7],
    ['2002::/16', 2],
    ['fc00::/7', 5],
    ['::/0', 1],
  ] as const
).map(([text, label]) => [ipv6.parsePrefix(text)!, label] as const)

/**
 * The director's own address towards another one, if it leaves by this interface: the rules of RFC 6724,
 * section 5, that need no knowledge of an address but itself, in their order (ipv6_dev_get_saddr of
 * net/ipv6/addrconf.c). Of equals the first is taken; undefined when there is none.
 */
export function selectSourceIpv6(
  candidates: readonly Candidate[],
  interfaceIndex: number,
  destination: Int32Array,
  destinationAt: number,
): Int32Array | undefined {
  const scope = scopeOf(destination, destinationAt)
  const label = labelOf(destination, destinationAt)
  const isBetter = (a: Candidate, b: Candidate): boolean => {
    const isSame = (candidate: Candidate): number =>
      Number(ipv6.isSameAddress(candidate.words, 0, destination, destinationAt))
    if (isSame(a) !== isSame(b)) return isSame(a) > isSame(b)
    const [scopeA, scopeB] = [scopeOf(a.words, 0), scopeOf(b.words, 0)]
    if (scopeA !== scopeB) return scopeA < scopeB ? scopeA >= scope : scopeB < scope
    const leaves = (candidate: Candidate): number =>
      Number(candidate.interfaceIndex === interfaceIndex)
    if (leaves(a) !== leaves(b)) return leaves(a) > leaves(b)
    const fits = (candidate: Candidate): number => Number(labelOf(candidate.words, 0) === label)
    if (fits(a) !== fits(b)) return fits(a) > fits(b)
    const common = (candidate: Candidate): number =>
      commonPrefixLength(candidate.words, destination, destinationAt)
    return common(a) > common(b)
  }
  let best: Candidate | undefined
  for (const candidate of candidates) {
    if (!ipv6.isUnicast(candidate.words, 0) || ipv6.isLoopback(candidate.words, 0)) continue
    // Link-local addresses are of one link.
    if (scope <= SCOPE_LINK && candidate.interfaceIndex !== interfaceIndex) continue
    if (best === undefined || isBetter(candidate, best)) best = candidate
  }
  return best?.words
}

function scopeOf(words: Int32Array, at: number): number {
  if (ipv6.isMulticast(words, at)) return (words[at]! >>> 8) & 0x0f
  if (ipv6.isLinkLocal(words, at) || ipv6.isLoopback(words, at)) return SCOPE_LINK
  // fec0::/10
  return (words[at]! & 0xc0ff) === 0xc0fe ? SCOPE_SITE : SCOPE_GLOBAL
}

function labelOf(words: Int32Array, at: number): number {
  const found = LABELS.find(([prefix]) =>
    prefix.words.every(
      (word, i) => (words[at + i]! & ipv6.maskWordBe(prefix.prefixLength, i)) === word,
    ),
  )
  return found![1]
}

function commonPrefixLength(a: Int32Array, b: Int32Array, bAt: number): number {
  for (let i = 0; i < ipv6.ADDRESS_WORDS; i++) {
    const differing = a[i]! ^ b[bAt + i]!
    if (differing === 0) continue
    // Network order: the first byte is the lowest.
    for (let byte = 0; byte < 4; byte++) {
      const bits = (differing >>> (8 * byte)) & 0xff
      if (bits !== 0) return 32 * i + 8 * byte + Math.clz32(bits) - 24
    }
  }
  return ipv6.ADDRESS_BITS
}
