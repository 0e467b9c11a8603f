/**
 * IPv6 (RFC 8200). Headers start at a multiple of 4.
 *
 * An address is four words in network order as loaded on a little-endian machine, signed, from some index
 * of an array on. Where both families are possible an IPv4 address is the first of four words, with 0
 * behind it, as in the kernel's nf_inet_addr.
 */

export const HEADER_BYTES = 40

/** Every path carries packets of so many bytes (RFC 8200, section 5). */
export const MIN_MTU = 1280

/** Offsets in bytes from the header's start. */
export const PAYLOAD_LENGTH = 4
export const NEXT_HEADER = 6
export const HOP_LIMIT = 7
export const SOURCE = 8
export const DESTINATION = 24

export const ADDRESS_WORDS = 4
export const ADDRESS_BITS = 128

/** Extension headers, and what ends their chain. */
export const NextHeader = {
  hopByHop: 0,
  routing: 43,
  fragment: 44,
  authentication: 51,
  none: 59,
  destinationOptions: 60,
} as const

/** What is wrong with a header: the numbers of the reasons for malformed packets in core/verdict.ts. */
export const Malformed = { none: 0, truncated: 1, version: 2, totalLength: 4 } as const
export type Malformed = (typeof Malformed)[keyof typeof Malformed]

/**
 * Checks a header once, so that nothing behind it has to be careful: afterwards the header and
 * totalLength() bytes are there. More may be (Ethernet pads short packets). Jumbograms are not taken.
 *
 * @param available bytes received from the header's start
 */
export function validate(bytes: Uint8Array, offset: number, available: number): Malformed {
  if (available < 1) return Malformed.truncated
  if (bytes[offset]! >>> 4 !== 6) return Malformed.version
  if (available < HEADER_BYTES) return Malformed.truncated
  return totalLength(bytes, offset) > available ? Malformed.totalLength : Malformed.none
}

/** Length of the packet in bytes, header included. */
export function totalLength(bytes: Uint8Array, offset: number): number {
  return (
    HEADER_BYTES + ((bytes[offset + PAYLOAD_LENGTH]! << 8) | bytes[offset + PAYLOAD_LENGTH + 1]!)
  )
}

export function writeTotalLength(bytes: Uint8Array, offset: number, length: number): void {
  bytes[offset + PAYLOAD_LENGTH] = (length - HEADER_BYTES) >> 8
  bytes[offset + PAYLOAD_LENGTH + 1] = length - HEADER_BYTES
}

export function hopLimit(bytes: Uint8Array, offset: number): number {
  return bytes[offset + HOP_LIMIT]!
}

/** The byte that IPv4 calls type of service. */
export function trafficClass(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset]! << 4) & 0xf0) | (bytes[offset + 1]! >>> 4)
}

/** Index of the first word of the source address. */
export function sourceAt(offset: number): number {
  return (offset + SOURCE) >> 2
}

/** Index of the first word of the destination address. */
export function destinationAt(offset: number): number {
  return (offset + DESTINATION) >> 2
}

/** Writes a header without a flow label. */
export function writeHeader(
  words: Int32Array,
  offset: number,
  trafficClass: number,
  totalLength: number,
  nextHeader: number,
  hopLimit: number,
  source: Int32Array,
  sourceAt: number,
  destination: Int32Array,
  destinationAt: number,
): void {
  const at = offset >> 2
  const payload = totalLength - HEADER_BYTES
  words[at] = 0x60 | (trafficClass >>> 4) | ((trafficClass & 0x0f) << 12)
  words[at + 1] = (payload >>> 8) | ((payload & 0xff) << 8) | (nextHeader << 16) | (hopLimit << 24)
  copyAddress(source, sourceAt, words, at + 2)
  copyAddress(destination, destinationAt, words, at + 6)
}

/**
 * The chain of extension headers of one packet, walked as the kernel's ipv6_find_hdr does for IPVS: hop-by-hop
 * and destination options, routing, fragment and authentication headers are passed over, whatever their order
 * and number; anything else, ESP and "no next header" included, is the protocol. One object, filled in anew
 * for each packet.
 */
export class HeaderChain {
  /** The protocol behind the chain, -1 when the packet ends within it. */
  protocol = -1
  /** Byte offset of the protocol's header; of the IPv6 header in a later fragment, which has none. */
  transport = 0
  /** Where in the original packet's fragmentable part this fragment belongs, in bytes; 0 in others. */
  fragmentOffset = 0
  /** A fragment header was among them. */
  isFragment = false

  /**
   * @param offset of the IPv6 header, which is whole
   * @param end of the bytes that are there
   * @returns the protocol, -1 when the packet ends within the chain
   */
  walk(bytes: Uint8Array, offset: number, end: number): number {
    let next = bytes[offset + NEXT_HEADER]!
    let at = offset + HEADER_BYTES
    this.transport = offset
    this.fragmentOffset = 0
    this.isFragment = false
    while (isExtension(next)) {
      if (at + 2 > end) return (this.protocol = -1)
      const following = bytes[at]!
      if (next === NextHeader.fragment) {
        this.isFragment = true
        if (at + 4 > end) return (this.protocol = -1)
        const fragmentOffset = ((bytes[at + 2]! << 8) | bytes[at + 3]!) & 0xfff8
        if (fragmentOffset !== 0) {
          // The protocol is known only if no other extension header follows.
          if (isExtension(following)) return (this.protocol = -1)
          this.fragmentOffset = fragmentOffset
          return (this.protocol = following)
        }
      }
      at += extensionBytes(bytes, at, next)
      next = following
    }
    this.transport = at
    return (this.protocol = next)
  }
}

/** Whether a header of this type may be followed by another that says what the packet carries. */
export function isExtension(header: number): boolean {
  switch (header) {
    case NextHeader.hopByHop:
    case NextHeader.routing:
    case NextHeader.fragment:
    case NextHeader.authentication:
    case NextHeader.destinationOptions:
      return true
    default:
      return false
  }
}

/** Length in bytes of the extension header of this type at an offset. */
export function extensionBytes(bytes: Uint8Array, offset: number, type: number): number {
  switch (type) {
    case NextHeader.fragment:
      return 8
    case NextHeader.authentication:
      return (bytes[offset + 1]! + 2) << 2
    default:
      return (bytes[offset + 1]! + 1) << 3
  }
}

// -- addresses

export function copyAddress(from: Int32Array, fromAt: number, to: Int32Array, toAt: number): void {
  to[toAt] = from[fromAt]!
  to[toAt + 1] = from[fromAt + 1]!
  to[toAt + 2] = from[fromAt + 2]!
  to[toAt + 3] = from[fromAt + 3]!
}

export function isSameAddress(a: Int32Array, aAt: number, b: Int32Array, bAt: number): boolean {
  return (
    a[aAt] === b[bAt] &&
    a[aAt + 1] === b[bAt + 1] &&
    a[aAt + 2] === b[bAt + 2] &&
    a[aAt + 3] === b[bAt + 3]
  )
}

/**
 * The four words of an address in one, by exclusive or: what IPVS hashes in place of an IPv4 address. (An IPv4
 * address in four words is its own fold.)
 */
export function foldAddress(words: Int32Array, at: number): number {
  return words[at]! ^ words[at + 1]! ^ words[at + 2]! ^ words[at + 3]!
}

/** Word `index` of the netmask of a prefix length of 0 to 128. */
export function maskWordBe(prefixLength: number, index: number): number {
  const bits = Math.min(32, Math.max(0, prefixLength - 32 * index))
  if (bits === 0) return 0
  const mask = -1 << (32 - bits)
  return (mask << 24) | ((mask & 0xff00) << 8) | ((mask >>> 8) & 0xff00) | ((mask >>> 24) & 0xff)
}

/** ff00::/8. */
export function isMulticast(words: Int32Array, at: number): boolean {
  return (words[at]! & 0xff) === 0xff
}

/** ::1. */
export function isLoopback(words: Int32Array, at: number): boolean {
  return (
    words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0 && words[at + 3] === 0x01000000
  )
}

/** `::`. */
export function isUnspecified(words: Int32Array, at: number): boolean {
  return (words[at]! | words[at + 1]! | words[at + 2]! | words[at + 3]!) === 0
}

/** fe80::/10. */
export function isLinkLocal(words: Int32Array, at: number): boolean {
  return (words[at]! & 0xc0ff) === 0x80fe
}

/** ::ffff:0:0/96, IPv4 addresses in IPv6's clothes. */
export function isMappedIpv4(words: Int32Array, at: number): boolean {
  return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === (0xffff0000 | 0)
}

/** An address of one host: what the kernel's ipv6_addr_type calls unicast. */
export function isUnicast(words: Int32Array, at: number): boolean {
  return !isMulticast(words, at) && !isUnspecified(words, at) && !isMappedIpv4(words, at)
}

/**
 * Reads an address as inet_pton(3) does; undefined if the text is not one. Without a zone: `fe80::1%eth0` is
 * none.
 */
export function parseAddress(text: string): Int32Array | undefined {
  let groupsText = text
  const tail: number[] = []
  const dotted = /^(.*:)(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (dotted !== null) {
    const parts = dotted.slice(2)
    if (parts.some((part) => Number(part) > 255 || (part.length > 1 && part.startsWith('0'))))
      return undefined
    const [a, b, c, d] = parts.map(Number)
    tail.push((a! << 8) | b!, (c! << 8) | d!)
    groupsText = dotted[1]!
    // The colon before the dotted part belongs to `::`, or else separates.
    if (!groupsText.endsWith('::')) groupsText = groupsText.slice(0, -1)
  }
  const halves = groupsText.split('::')
  if (halves.length > 2) return undefined
  const groupsOf = (half: string): number[] | undefined => {
    if (half === '') return []
    const groups = half.split(':')
    if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined
    return groups.map((group) => parseInt(group, 16))
  }
  const head = groupsOf(halves[0]!)
  const rest = groupsOf(halves[1] ?? '')
  if (head === undefined || rest === undefined) return undefined
  const zeros = 8 - head.length - rest.length - tail.length
  if (halves.length === 1 ? zeros !== 0 : zeros < 1) return undefined
  const groups = [...head, ...Array<number>(zeros).fill(0), ...rest, ...tail]
  const words = new Int32Array(ADDRESS_WORDS)
  const bytes = new Uint8Array(words.buffer)
  groups.forEach((group, i) => {
    bytes[2 * i] = group >>> 8
    bytes[2 * i + 1] = group
  })
  return words
}

/** The text of an address as inet_ntop(3) of the GNU C library writes it. */
export function formatAddress(words: Int32Array, at = 0): string {
  const groups: number[] = []
  for (let i = 0; i < 8; i++) {
    const half = words[at + (i >> 1)]! >>> (16 * (i & 1))
    groups.push(((half & 0xff) << 8) | ((half >>> 8) & 0xff))
  }
  // The first of the longest runs of at least two zeros.
  let best = -1
  let bestLength = 1
  for (let i = 0; i < 8; i++) {
    let length = 0
    while (i + length < 8 && groups[i + length] === 0) length++
    if (length > bestLength) {
      best = i
      bestLength = length
    }
    i += length
  }
  const hex = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(':')
  if (best < 0) return hex(0, 8)
  if (best === 0 && (bestLength === 6 || (bestLength === 5 && groups[5] === 0xffff))) {
    const [a, b] = [groups[6]!, groups[7]!]
    return `::${hex(bestLength, 6)}${bestLength === 5 ? ':' : ''}${a >>> 8}.${a & 255}.${b >>> 8}.${b & 255}`
  }
  return `${hex(0, best)}::${hex(best + bestLength, 8)}`
}

export interface Prefix {
  /** The network's address: bits beyond the prefix are 0. */
  words: Int32Array
  prefixLength: number
}

/** `fd00::/8`, or an address alone, which is a /128; undefined if the text is neither. Host bits are cleared. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/')
  const words = parseAddress(slash < 0 ? text : text.slice(0, slash))
  const length = slash < 0 ? String(ADDRESS_BITS) : text.slice(slash + 1)
  if (words === undefined || !/^(0|[1-9]\d{0,2})$/.test(length)) return undefined
  const prefixLength = Number(length)
  if (prefixLength > ADDRESS_BITS) return undefined
  for (let i = 0; i < ADDRESS_WORDS; i++) words[i]! &= maskWordBe(prefixLength, i)
  return { words, prefixLength }
}
