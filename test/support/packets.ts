/**
 * Literal packets for tests. Everything here is written the plain way, byte by byte in network order, and
 * shares nothing with src/: a test that builds and checks packets with these does not check code against
 * itself.
 *
 *   const request = tcpPacket({ from: '10.0.0.1:1234', to: '192.0.2.1:80', flags: 'S' })
 *   const frame = ethernetFrame({ from: '02:00:00:00:00:01', to: '02:00:00:00:00:02' }, request)
 *   t.strictSame(packetProblems(sent), [])          // checksums, lengths, nested packets
 *   samePacket(t, sent, expected, 'rewritten')      // says which field differs
 */

import {
  addressBytesIpv6,
  addressTextIpv6,
  ipv6Packet,
  payloadOfIpv6,
  type Ipv6Fields,
} from './packets-ipv6.js'

/** The four bytes of `10.0.0.1`. */
export function addressBytes(address: string): number[] {
  const bytes = address.split('.').map(Number)
  if (bytes.length !== 4 || bytes.some((b) => !(b >= 0 && b <= 255)))
    throw new Error(`not an IPv4 address: ${address}`)
  return bytes
}

/** An IPv4 address as a native (little-endian) 32-bit load of its four bytes: the `...Be` values of src/. */
export function addressBe(address: string): number {
  const [a, b, c, d] = addressBytes(address)
  return a! | (b! << 8) | (c! << 16) | (d! << 24)
}

/** A port as a native 16-bit load of its two bytes. */
export function portBe(port: number): number {
  return ((port & 0xff) << 8) | (port >> 8)
}

/** The six bytes of `02:00:00:00:00:01`. */
export function macBytes(mac: string): number[] {
  const bytes = mac.split(':').map((hex) => parseInt(hex, 16))
  if (bytes.length !== 6 || bytes.some((b) => !(b >= 0 && b <= 255)))
    throw new Error(`not an Ethernet address: ${mac}`)
  return bytes
}

/** Bytes from hexadecimal text; blanks and line ends are skipped. */
export function hex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, '')
  if (digits.length % 2 !== 0 || /[^0-9a-f]/i.test(digits)) throw new Error(`not hex: ${text}`)
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16))
}

/**
 * The internet checksum of some bytes as RFC 1071 defines it, the slow way: the value to put into the
 * packet, or 0 when the bytes already contain a right one.
 */
export function plainChecksum(...pieces: ArrayLike<number>[]): number {
  let sum = 0
  for (const piece of pieces)
    for (let i = 0; i < piece.length; i++) sum += i % 2 === 0 ? piece[i]! * 256 : piece[i]!
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000)
  return 0xffff - sum
}

/**
 * TCP's and UDP's checksum over the pseudo-header of RFC 793, or of RFC 8200 when the addresses are long, and the
 * segment (same result convention).
 */
export function transportChecksum(
  source: ArrayLike<number>,
  destination: ArrayLike<number>,
  protocol: number,
  segment: ArrayLike<number>,
): number {
  const length = segment.length
  return plainChecksum(source, destination, [0, protocol, length >> 8, length & 0xff], segment)
}

const big16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff]
const big32 = (value: number): number[] => [...big16(value >>> 16), ...big16(value)]

export const IpProtocol = {
  icmp: 1,
  ipip: 4,
  tcp: 6,
  udp: 17,
  sctp: 132,
  ipv6: 41,
  icmpv6: 58,
} as const

/** The bytes of an address of either family. */
function anyAddressBytes(address: string): number[] {
  return address.includes(':') ? addressBytesIpv6(address) : addressBytes(address)
}

/** A packet of the family of its addresses. */
function ipPacket(fields: Ipv4Fields & Ipv6Fields, payload: ArrayLike<number>): Uint8Array {
  return fields.source.includes(':') ? ipv6Packet(fields, payload) : ipv4Packet(fields, payload)
}

/** Fields of an IPv4 header; what is left out is ordinary and right, what is given is used even if wrong. */
export interface Ipv4Fields {
  source: string
  destination: string
  protocol: number
  /** Type of service, 0. */
  tos?: number
  /** Identification, 0x1234. */
  id?: number
  /** Don't fragment, true. */
  dontFragment?: boolean
  moreFragments?: boolean
  /** In units of 8 bytes. */
  fragmentOffset?: number
  /** 64. */
  ttl?: number
  /** IP options, padded by the caller to a multiple of 4. */
  ipOptions?: ArrayLike<number>
  version?: number
  /** In 32-bit words. */
  headerLength?: number
  totalLength?: number
  headerChecksum?: number
}

/** An IPv4 packet with its header checksum. */
export function ipv4Packet(fields: Ipv4Fields, payload: ArrayLike<number>): Uint8Array {
  const options = Array.from(fields.ipOptions ?? [])
  const headerLength = fields.headerLength ?? 5 + options.length / 4
  const fragment =
    ((fields.dontFragment ?? true) ? 0x4000 : 0) |
    (fields.moreFragments ? 0x2000 : 0) |
    (fields.fragmentOffset ?? 0)
  const header = [
    ((fields.version ?? 4) << 4) | headerLength,
    fields.tos ?? 0,
    ...big16(fields.totalLength ?? 20 + options.length + payload.length),
    ...big16(fields.id ?? 0x1234),
    ...big16(fragment),
    fields.ttl ?? 64,
    fields.protocol,
    ...big16(0),
    ...addressBytes(fields.source),
    ...addressBytes(fields.destination),
    ...options,
  ]
  const checksum = big16(fields.headerChecksum ?? plainChecksum(header))
  header[10] = checksum[0]!
  header[11] = checksum[1]!
  return Uint8Array.from([...header, ...Array.from(payload)])
}

/**
 * What the packet builders take beside their protocol's own fields: `10.0.0.1:1234` on both sides, or
 * `[fd00::1]:1234`, which makes an IPv6 packet.
 */
export interface Ends extends Partial<
  Omit<Ipv4Fields & Ipv6Fields, 'source' | 'destination' | 'protocol'>
> {
  from: string
  to: string
}

export interface TcpFields extends Ends {
  /** Letters as tcpdump has them: S, A, F, R, P, U; `SA` is a SYN+ACK. Default `A`. */
  flags?: string
  sequence?: number
  acknowledgement?: number
  window?: number
  /** TCP options, padded by the caller to a multiple of 4. */
  tcpOptions?: ArrayLike<number>
  /** In 32-bit words. */
  dataOffset?: number
  payload?: ArrayLike<number> | string
  /** Used instead of the right one. */
  checksum?: number
}

const tcpFlagBits: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32, E: 64, C: 128 }

function splitEnd(end: string): { address: string; port: number } {
  const colon = end.lastIndexOf(':')
  if (colon < 0) throw new Error(`an end needs an address and a port: ${end}`)
  const address = end.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  return { address, port: Number(end.slice(colon + 1)) }
}

function payloadBytes(payload: ArrayLike<number> | string | undefined): number[] {
  return Array.from(typeof payload === 'string' ? Buffer.from(payload) : (payload ?? []))
}

/** A TCP segment in an IP packet, checksums right. */
export function tcpPacket(fields: TcpFields): Uint8Array {
  const from = splitEnd(fields.from)
  const to = splitEnd(fields.to)
  const options = Array.from(fields.tcpOptions ?? [])
  let flags = 0
  for (const letter of fields.flags ?? 'A') {
    const bit = tcpFlagBits[letter]
    if (bit === undefined) throw new Error(`not a TCP flag: ${letter}`)
    flags |= bit
  }
  const segment = [
    ...big16(from.port),
    ...big16(to.port),
    ...big32(fields.sequence ?? 0x01020304),
    ...big32(fields.acknowledgement ?? (flags & 16 ? 0x0a0b0c0d : 0)),
    (fields.dataOffset ?? 5 + options.length / 4) << 4,
    flags,
    ...big16(fields.window ?? 0xfaf0),
    ...big16(0),
    ...big16(0),
    ...options,
    ...payloadBytes(fields.payload),
  ]
  const right = transportChecksum(
    anyAddressBytes(from.address),
    anyAddressBytes(to.address),
    IpProtocol.tcp,
    segment,
  )
  const checksum = big16(fields.checksum ?? right)
  segment[16] = checksum[0]!
  segment[17] = checksum[1]!
  return ipPacket(
    { ...fields, source: from.address, destination: to.address, protocol: IpProtocol.tcp },
    segment,
  )
}

export interface UdpFields extends Ends {
  payload?: ArrayLike<number> | string
  /** Used instead of the right one; 0 is "no checksum". */
  checksum?: number
  /** The UDP header's length field. */
  udpLength?: number
}

/** A UDP datagram in an IP packet, checksums right. */
export function udpPacket(fields: UdpFields): Uint8Array {
  const from = splitEnd(fields.from)
  const to = splitEnd(fields.to)
  const payload = payloadBytes(fields.payload ?? 'uvs?')
  const datagram = [
    ...big16(from.port),
    ...big16(to.port),
    ...big16(fields.udpLength ?? 8 + payload.length),
    ...big16(0),
    ...payload,
  ]
  const right =
    transportChecksum(
      anyAddressBytes(from.address),
      anyAddressBytes(to.address),
      IpProtocol.udp,
      datagram,
    ) || 0xffff // RFC 768: a computed zero is sent as all ones
  const checksum = big16(fields.checksum ?? right)
  datagram[6] = checksum[0]!
  datagram[7] = checksum[1]!
  return ipPacket(
    { ...fields, source: from.address, destination: to.address, protocol: IpProtocol.udp },
    datagram,
  )
}

/** CRC-32c bit by bit (RFC 9260, appendix A), its bytes in the order of SCTP's header. */
export function plainCrc32c(bytes: ArrayLike<number>): number[] {
  let crc = 0xffffffff
  for (let i = 0; i < bytes.length; i++) {
    crc ^= bytes[i]!
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return big32(~crc).reverse()
}

export interface SctpFields extends Ends {
  /** Chunk types with the bytes of their values, in order. */
  chunks: readonly [type: number, value?: ArrayLike<number> | string][]
  verificationTag?: number
  /** Used instead of the right one: four bytes. */
  checksum?: ArrayLike<number>
}

/** An SCTP packet in an IPv4 packet, checksums right. */
export function sctpPacket(fields: SctpFields): Uint8Array {
  const from = splitEnd(fields.from)
  const to = splitEnd(fields.to)
  const packet = [
    ...big16(from.port),
    ...big16(to.port),
    ...big32(fields.verificationTag ?? 0),
    ...big32(0),
  ]
  for (const [type, payload] of fields.chunks) {
    const value = payloadBytes(payload)
    packet.push(type, 0, ...big16(4 + value.length), ...value)
    while (packet.length % 4 !== 0) packet.push(0)
  }
  Array.from(fields.checksum ?? plainCrc32c(packet)).forEach((byte, i) => (packet[8 + i] = byte))
  return ipv4Packet(
    { ...fields, source: from.address, destination: to.address, protocol: IpProtocol.sctp },
    packet,
  )
}

export interface IcmpFields extends Ends {
  type: number
  code?: number
  /** The second word of the header: identifier and sequence, gateway, or unused and MTU. */
  rest?: number
  payload?: ArrayLike<number> | string
  checksum?: number
}

/** An ICMP message in an IPv4 packet (`from` and `to` are addresses without ports), checksums right. */
export function icmpPacket(fields: IcmpFields): Uint8Array {
  const message = [
    fields.type,
    fields.code ?? 0,
    ...big16(0),
    ...big32(fields.rest ?? 0),
    ...payloadBytes(fields.payload),
  ]
  const checksum = big16(fields.checksum ?? plainChecksum(message))
  message[2] = checksum[0]!
  message[3] = checksum[1]!
  return ipv4Packet(
    { ...fields, source: fields.from, destination: fields.to, protocol: IpProtocol.icmp },
    message,
  )
}

/** An ICMPv6 message in an IPv6 packet (`from` and `to` are addresses without ports), checksums right. */
export function icmpv6Packet(fields: IcmpFields): Uint8Array {
  const message = [
    fields.type,
    fields.code ?? 0,
    ...big16(0),
    ...big32(fields.rest ?? 0),
    ...payloadBytes(fields.payload),
  ]
  const right = transportChecksum(
    addressBytesIpv6(fields.from),
    addressBytesIpv6(fields.to),
    IpProtocol.icmpv6,
    message,
  )
  const checksum = big16(fields.checksum ?? right)
  message[2] = checksum[0]!
  message[3] = checksum[1]!
  return ipv6Packet(
    { ...fields, source: fields.from, destination: fields.to, protocol: IpProtocol.icmpv6 },
    message,
  )
}

/** A packet inside an IPv4 packet, as IPIP tunneling sends it; outer TTL 64, DF as asked. */
export function ipipPacket(
  fields: Omit<Ipv4Fields, 'protocol'>,
  inner: ArrayLike<number>,
): Uint8Array {
  return ipv4Packet({ ...fields, protocol: IpProtocol.ipip }, inner)
}

/** An Ethernet II frame without padding; `type` defaults to IPv4. */
export function ethernetFrame(
  fields: { from: string; to: string; type?: number },
  payload: ArrayLike<number>,
): Uint8Array {
  return Uint8Array.from([
    ...macBytes(fields.to),
    ...macBytes(fields.from),
    ...big16(fields.type ?? 0x0800),
    ...Array.from(payload),
  ])
}

const read16 = (bytes: ArrayLike<number>, at: number): number => bytes[at]! * 256 + bytes[at + 1]!
const dotted = (bytes: Uint8Array, at: number): string => bytes.slice(at, at + 4).join('.')

/**
 * What is wrong with an IP packet, in sentences; an empty list when nothing is: version, lengths, header
 * checksum, TCP, UDP and ICMP checksums, and the same for a packet inside (IPIP).
 */
export function packetProblems(packet: Uint8Array): string[] {
  const problems: string[] = []
  if (packet[0]! >> 4 === 6) return packetProblemsIpv6(packet)
  if (packet.length < 20) return [`${packet.length} bytes are no IPv4 packet`]
  if (packet[0]! >> 4 !== 4) return [`IP version ${packet[0]! >> 4}`]
  const headerBytes = (packet[0]! & 15) * 4
  if (headerBytes < 20 || headerBytes > packet.length) return [`header of ${headerBytes} bytes`]
  const totalLength = read16(packet, 2)
  if (totalLength !== packet.length)
    problems.push(`total length ${totalLength} in a packet of ${packet.length} bytes`)
  if (plainChecksum(packet.subarray(0, headerBytes)) !== 0) problems.push('IP header checksum')
  if (read16(packet, 6) & 0x3fff) return problems // a fragment: the rest cannot be checked
  const rest = packet.subarray(headerBytes)
  return [
    ...problems,
    ...payloadProblems(packet[9]!, packet.subarray(12, 16), packet.subarray(16, 20), rest),
  ]
}

function packetProblemsIpv6(packet: Uint8Array): string[] {
  if (packet.length < 40) return [`${packet.length} bytes are no IPv6 packet`]
  const { protocol, at } = payloadOfIpv6(packet)
  const problems = payloadProblems(
    protocol,
    packet.subarray(8, 24),
    packet.subarray(24, 40),
    packet.subarray(at),
  )
  const length = read16(packet, 4)
  return length === packet.length - 40
    ? problems
    : [`payload length ${length} in a packet of ${packet.length} bytes`, ...problems]
}

function payloadProblems(
  protocol: number,
  source: Uint8Array,
  destination: Uint8Array,
  rest: Uint8Array,
): string[] {
  const problems: string[] = []
  const sum = () => transportChecksum(source, destination, protocol, rest)
  switch (protocol) {
    case IpProtocol.tcp:
      if (rest.length < 20) problems.push(`TCP header of ${rest.length} bytes`)
      else if (sum() !== 0) problems.push('TCP checksum')
      break
    case IpProtocol.udp:
      if (rest.length < 8) problems.push(`UDP header of ${rest.length} bytes`)
      else if (read16(rest, 4) !== rest.length)
        problems.push(`UDP length ${read16(rest, 4)} in a datagram of ${rest.length} bytes`)
      else if (read16(rest, 6) !== 0 && sum() !== 0) problems.push('UDP checksum')
      break
    case IpProtocol.sctp:
      if (rest.length < 12) problems.push(`SCTP header of ${rest.length} bytes`)
      else {
        const right = plainCrc32c([...rest.slice(0, 8), 0, 0, 0, 0, ...rest.slice(12)])
        if (right.some((byte, i) => byte !== rest[8 + i])) problems.push('SCTP checksum')
      }
      break
    case IpProtocol.icmp:
      if (rest.length < 8) problems.push(`ICMP header of ${rest.length} bytes`)
      else if (plainChecksum(rest) !== 0) problems.push('ICMP checksum')
      break
    case IpProtocol.icmpv6:
      if (rest.length < 8) problems.push(`ICMPv6 header of ${rest.length} bytes`)
      else if (sum() !== 0) problems.push('ICMPv6 checksum')
      break
    case IpProtocol.ipip:
    case IpProtocol.ipv6:
      problems.push(...packetProblems(rest).map((problem) => `inner packet: ${problem}`))
      break
  }
  return problems
}

/** The named fields of an IP packet in the order of its bytes, to be read by people and compared by tests. */
export function packetFields(packet: Uint8Array): Record<string, string | number> {
  const fields: Record<string, string | number> = {}
  if (packet[0]! >> 4 === 6 && packet.length >= 40) {
    fields.version = 6
    fields.tos = (read16(packet, 0) >> 4) & 0xff
    fields.flowLabel = (packet[1]! & 15) * 65536 + read16(packet, 2)
    fields.payloadLength = read16(packet, 4)
    fields.nextHeader = packet[6]!
    fields.ttl = packet[7]!
    fields.source = addressTextIpv6(packet, 8)
    fields.destination = addressTextIpv6(packet, 24)
    const { protocol, at } = payloadOfIpv6(packet)
    fields.protocol = protocol
    fields.headerBytes = at
    if (at > 40) fields.extensions = Buffer.from(packet.slice(40, at)).toString('hex')
    return addPayloadFields(fields, protocol, packet.slice(at))
  }
  if (packet.length < 20) return { bytes: Buffer.from(packet).toString('hex') }
  const headerBytes = Math.max(20, (packet[0]! & 15) * 4)
  fields.version = packet[0]! >> 4
  fields.headerBytes = (packet[0]! & 15) * 4
  fields.tos = packet[1]!
  fields.totalLength = read16(packet, 2)
  fields.id = read16(packet, 4)
  fields.fragment = read16(packet, 6).toString(16)
  fields.ttl = packet[8]!
  fields.protocol = packet[9]!
  fields.headerChecksum = read16(packet, 10).toString(16)
  fields.source = dotted(packet, 12)
  fields.destination = dotted(packet, 16)
  if (headerBytes > 20)
    fields.ipOptions = Buffer.from(packet.slice(20, headerBytes)).toString('hex')
  return addPayloadFields(fields, packet[9]!, packet.slice(headerBytes))
}

function addPayloadFields(
  fields: Record<string, string | number>,
  protocol: number,
  rest: Uint8Array,
): Record<string, string | number> {
  let payloadAt = 0
  if (
    (protocol === IpProtocol.tcp && rest.length >= 20) ||
    (protocol === IpProtocol.udp && rest.length >= 8) ||
    (protocol === IpProtocol.sctp && rest.length >= 12)
  ) {
    fields.sourcePort = read16(rest, 0)
    fields.destinationPort = read16(rest, 2)
  }
  if (protocol === IpProtocol.tcp && rest.length >= 20) {
    fields.sequence = read16(rest, 4) * 65536 + read16(rest, 6)
    fields.acknowledgement = read16(rest, 8) * 65536 + read16(rest, 10)
    fields.flags = Object.keys(tcpFlagBits)
      .filter((letter) => rest[13]! & tcpFlagBits[letter]!)
      .join('')
    fields.window = read16(rest, 14)
    fields.checksum = read16(rest, 16).toString(16)
    payloadAt = (rest[12]! >> 4) * 4
    fields.tcpOptions = Buffer.from(rest.slice(20, payloadAt)).toString('hex')
  } else if (protocol === IpProtocol.udp && rest.length >= 8) {
    fields.udpLength = read16(rest, 4)
    fields.checksum = read16(rest, 6).toString(16)
    payloadAt = 8
  } else if (protocol === IpProtocol.sctp && rest.length >= 12) {
    fields.verificationTag = read16(rest, 4) * 65536 + read16(rest, 6)
    fields.checksum = Buffer.from(rest.slice(8, 12)).toString('hex')
    payloadAt = 12
  } else if ((protocol === IpProtocol.icmp || protocol === IpProtocol.icmpv6) && rest.length >= 8) {
    fields.type = rest[0]!
    fields.code = rest[1]!
    fields.checksum = read16(rest, 2).toString(16)
    fields.rest = Buffer.from(rest.slice(4, 8)).toString('hex')
    payloadAt = 8
  } else if ((protocol === IpProtocol.ipip || protocol === IpProtocol.ipv6) && rest.length >= 20) {
    for (const [name, value] of Object.entries(packetFields(rest))) fields[`inner.${name}`] = value
    return fields
  }
  fields.payload = Buffer.from(rest.slice(payloadAt)).toString('hex')
  return fields
}

/** One line about a packet, as `10.0.0.1:1234 > 192.0.2.1:80 TCP S ttl 64, 40 bytes`. */
export function packetSummary(packet: Uint8Array): string {
  const f = packetFields(packet)
  if (f.source === undefined) return `${packet.length} bytes: ${f.bytes}`
  const end = (address: string | number | undefined, port: string | number | undefined) =>
    port === undefined ? address : `${address}:${port}`
  const name =
    { 1: 'ICMP', 4: 'IPIP', 6: 'TCP', 17: 'UDP', 41: 'IPv6', 58: 'ICMPv6', 132: 'SCTP' }[
      f.protocol!
    ] ?? `protocol ${f.protocol}`
  const more = f.flags ?? (f.type === undefined ? '' : `${f.type}/${f.code}`)
  const inner =
    f['inner.source'] === undefined
      ? ''
      : ` [${packetSummary(packet.slice(Number(f.headerBytes)))}]`
  return `${end(f.source, f.sourcePort)} > ${end(f.destination, f.destinationPort)} ${name}${more === '' ? '' : ` ${more}`}${inner} ttl ${f.ttl}, ${packet.length} bytes`
}

/** What differs between two IP packets, one line a field, `field: was X, should be Y`; empty when equal. */
export function packetDifferences(actual: Uint8Array, expected: Uint8Array): string[] {
  if (Buffer.compare(actual, expected) === 0) return []
  const was = packetFields(actual)
  const should = packetFields(expected)
  const lines = [...new Set([...Object.keys(should), ...Object.keys(was)])]
    .filter((name) => was[name] !== should[name])
    .map((name) => `${name}: was ${was[name] ?? 'absent'}, should be ${should[name] ?? 'absent'}`)
  if (lines.length > 0) return lines
  const at = Array.from(actual).findIndex((byte, i) => byte !== expected[i])
  return [`byte ${at}: was ${actual[at]}, should be ${expected[at]}`]
}

/** The part of tap's `t` that samePacket needs. */
interface Asserter {
  strictSame(actual: unknown, expected: unknown, message: string): unknown
}

/** Asserts that two IP packets are equal; a failure lists the fields that differ. */
export function samePacket(
  t: Asserter,
  actual: Uint8Array | undefined,
  expected: Uint8Array,
  message = 'same packet',
): void {
  if (actual === undefined) t.strictSame('no packet', packetSummary(expected), message)
  else t.strictSame(packetDifferences(actual, expected), [], message)
}
