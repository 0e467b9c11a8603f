/**
 * The Call-ID of a SIP message in a datagram, as the kernel's persistence engine `sip` finds it
 * (net/netfilter/ipvs/ip_vs_pe_sip.c with the header parser of net/netfilter/nf_conntrack_sip.c): the first
 * line but the message's first that is a header `Call-ID` or `i`. Lines end with CR, LF or CRLF, and go on
 * where the next one begins with a blank.
 */

const CR = 0x0d
const LF = 0x0a
const SPACE = 0x20
const TAB = 0x09
const COLON = 0x3a
const AT = 0x40

/** The header's name and its compact form, in lower case. */
const NAME = 'call-id'
const COMPACT_NAME = 'i'.charCodeAt(0)

/** Longer ones are of no use (IP_VS_PEDATA_MAXLEN). */
const MAX_LENGTH = 255

/**
 * @param start,end the datagram's payload
 * @returns the Call-ID, a character a byte, undefined when there is none that could be used
 */
export function findCallId(bytes: Uint8Array, start: number, end: number): string | undefined {
  for (let from = start; ;) {
    const at = findHeader(bytes, from, end)
    if (at < 0) return undefined
    const length = callIdLength(bytes, at, end)
    if (length === 0) {
      // The kernel looks on from twice as far into the message.
      from += at - start
      continue
    }
    const after = at + length
    // A header is followed by the end of its line.
    if (length > MAX_LENGTH || after === end || !isLineEnd(bytes[after]!)) return undefined
    return String.fromCharCode(...bytes.subarray(at, after))
  }
}

/** Where the value of the next Call-ID header begins, -1 when there is none. */
function findHeader(bytes: Uint8Array, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    if (!isLineEnd(bytes[at]!)) continue
    at = behindLineEnd(bytes, at, end)
    if (at >= end) return -1
    if (isBlank(bytes[at]!)) continue
    const length = nameLength(bytes, at, end)
    if (length === 0) continue
    at = skipBlanks(bytes, at + length, end)
    if (at < 0 || at >= end || bytes[at] !== COLON || ++at >= end) return -1
    return skipBlanks(bytes, at, end)
  }
  return -1
}

/** Bytes of the header's name if the line at `at` has one; a compact name is not followed by a letter. */
function nameLength(bytes: Uint8Array, at: number, end: number): number {
  if (end - at >= NAME.length) {
    const name = String.fromCharCode(...bytes.subarray(at, at + NAME.length))
    if (name.toLowerCase() === NAME) return NAME.length
  }
  const isCompact =
    end - at >= 2 && (bytes[at]! | 0x20) === COMPACT_NAME && !isLetter(bytes[at + 1]!)
  return isCompact ? 1 : 0
}

/** Behind blanks, and a line's end if the next line goes on with it; -1 where the header ends instead. */
function skipBlanks(bytes: Uint8Array, from: number, end: number): number {
  let at = from
  while (at < end && isBlank(bytes[at]!)) at++
  if (at >= end || !isLineEnd(bytes[at]!)) return at
  at = behindLineEnd(bytes, at, end)
  if (at >= end || !isBlank(bytes[at]!)) return -1
  while (at < end && isBlank(bytes[at]!)) at++
  return at
}

/** The byte after the line's end at `at`: CR LF is one. */
function behindLineEnd(bytes: Uint8Array, at: number, end: number): number {
  return bytes[at] === CR && at + 1 < end && bytes[at + 1] === LF ? at + 2 : at + 1
}

/** `word` or `word@word`, 0 when it is neither. */
function callIdLength(bytes: Uint8Array, at: number, end: number): number {
  const length = wordLength(bytes, at, end)
  if (length === 0 || at + length === end || bytes[at + length] !== AT) return length
  const rest = wordLength(bytes, at + length + 1, end)
  return rest === 0 ? 0 : length + 1 + rest
}

function wordLength(bytes: Uint8Array, from: number, end: number): number {
  let at = from
  while (at < end && isWordCharacter(bytes[at]!)) at++
  return at - from
}

const WORD_PUNCTUATION = new Set(Array.from('!"%()*+:<>?[\\]_`{}~-./\'', (c) => c.charCodeAt(0)))

function isWordCharacter(byte: number): boolean {
  return isLetter(byte) || (byte >= 0x30 && byte <= 0x39) || WORD_PUNCTUATION.has(byte)
}

/** The kernel's are those of Latin 1. */
function isLetter(byte: number): boolean {
  const lower = byte | 0x20
  return (lower >= 0x61 && lower <= 0x7a) || (byte >= 0xc0 && byte !== 0xd7 && byte !== 0xf7)
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB
}

function isLineEnd(byte: number): boolean {
  return byte === CR || byte === LF
}
