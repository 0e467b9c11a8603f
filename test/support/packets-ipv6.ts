/**
 * Literal IPv6 packets for tests, as packets.ts has them for IPv4; the builders there take `[fd00::1]:80` and
 * come here. Nothing is shared with src/.
 */

const big16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff]

/** The sixteen bytes of `fd00::1`; no dotted part. */
export function addressBytesIpv6(address: string): number[] {
  const [head = '', tail, ...more] = address.split('::')
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => parseInt(group, 16))
  const left = groups(head)
  const right = groups(tail ?? '')
  const zeros = 8 - left.length - right.length
  if (more.length > 0 || zeros < 0 || (tail === undefined && zeros !== 0))
    throw new Error(`not an IPv6 address: ${address}`)
  const all = [...left, ...Array<number>(zeros).fill(0), ...right]
  if (!all.every((group) => group >= 0 && group <= 0xffff))
    throw new Error(`not an IPv6 address: ${address}`)
  return all.flatMap(big16)
}

/** An IPv6 address as four native (little-endian) 32-bit loads of its bytes. */
export function addressWordsIpv6(address: string): Int32Array {
  return new Int32Array(Uint8Array.from(addressBytesIpv6(address)).buffer)
}

/** Fields of an IPv6 header; what is left out is ordinary and right, what is given is used even if wrong. */
export interface Ipv6Fields {
  source: string
  destination: string
  /** Of the payload, behind the extension headers. */
  protocol: number
  /** Traffic class, 0. */
  tos?: number
  /** 0. */
  flowLabel?: number
  /** 64. */
  ttl?: number
  /** Extension headers, each without its first byte, which says what follows. */
  extensions?: readonly (readonly [type: number, rest: ArrayLike<number>])[]
  version?: number
  payloadLength?: number
}

export function ipv6Packet(fields: Ipv6Fields, payload: ArrayLike<number>): Uint8Array {
  const extensions = fields.extensions ?? []
  const chain = [...extensions.map(([type]) => type), fields.protocol]
  const behind = [
    ...extensions.flatMap(([, rest], i) => [chain[i + 1]!, ...Array.from(rest)]),
    ...Array.from(payload),
  ]
  const tos = fields.tos ?? 0
  const label = fields.flowLabel ?? 0
  return Uint8Array.from([
    ((fields.version ?? 6) << 4) | (tos >> 4),
    ((tos & 15) << 4) | (label >> 16),
    ...big16(label & 0xffff),
    ...big16(fields.payloadLength ?? behind.length),
    chain[0]!,
    fields.ttl ?? 64,
    ...addressBytesIpv6(fields.source),
    ...addressBytesIpv6(fields.destination),
    ...behind,
  ])
}

/** The rest of a fragment header, for `extensions`. */
export function fragmentHeader(
  offsetBytes: number,
  isMore: boolean,
  id: number,
): [type: number, rest: number[]] {
  return [44, [0, ...big16(offsetBytes | (isMore ? 1 : 0)), ...big16(id >>> 16), ...big16(id)]]
}

/** Where the payload of an IPv6 packet starts and what it is, past extension headers; a later fragment's is 44. */
export function payloadOfIpv6(packet: Uint8Array): { protocol: number; at: number } {
  let protocol = packet[6]!
  let at = 40
  while ([0, 43, 44, 51, 60].includes(protocol) && at + 8 <= packet.length) {
    if (protocol === 44 && ((packet[at + 2]! << 8) | packet[at + 3]!) & 0xfff9) break
    const length = protocol === 51 ? packet[at + 1]! * 4 + 8 : packet[at + 1]! * 8 + 8
    const here = protocol
    protocol = packet[at]!
    at += here === 44 ? 8 : length
  }
  return { protocol, at }
}

/** All eight groups without leading zeros: to be compared, not to be pretty. */
export function addressTextIpv6(bytes: ArrayLike<number>, at: number): string {
  const groups: string[] = []
  for (let i = 0; i < 16; i += 2)
    groups.push((bytes[at + i]! * 256 + bytes[at + i + 1]!).toString(16))
  return groups.join(':')
}
