/**
 * Packets in words: every bit of a packet as a list of named fields, for people and for comparison. Written
 * the plain way and sharing nothing with `src/wire`, so that what is compared and shown does not depend on
 * the code that is judged. Nothing here throws, whatever the bytes are.
 */

/** A field by its name, as `destination` or, of a packet within a packet, `inner destination`. */
export type Field = readonly [name: string, value: string]

/** The fields of an IP packet; between them they cover all of its bytes. */
export function decodePacket(packet: Uint8Array): Field[] {
  const fields: Field[] = []
  decodeIp(packet, '', fields)
  return fields
}

/** Bytes of hexadecimal text, as traces have it. */
export function bytesOf(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length >> 1)
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(hex.slice(2 * i, 2 * i + 2), 16)
  return bytes
}

export function hexOf(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0')
  return text
}

export const Protocol = {
  hopByHop: 0,
  icmp: 1,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  icmpv6: 58,
  destinationOptions: 60,
  sctp: 132,
} as const

const protocolNames: Record<number, string> = {
  [Protocol.icmp]: 'ICMP',
  [Protocol.ipip]: 'IPIP',
  [Protocol.tcp]: 'TCP',
  [Protocol.udp]: 'UDP',
  [Protocol.ipv6]: 'IPv6',
  [Protocol.gre]: 'GRE',
  50: 'ESP',
  51: 'AH',
  [Protocol.icmpv6]: 'ICMPv6',
  [Protocol.sctp]: 'SCTP',
}

const icmpNames: Record<string, string> = {
  '0/0': 'echo reply',
  '3/0': 'network unreachable',
  '3/1': 'host unreachable',
  '3/2': 'protocol unreachable',
  '3/3': 'port unreachable',
  '3/4': 'fragmentation needed',
  '3/13': 'administratively prohibited',
  '4/0': 'source quench',
  '5/0': 'redirect for the network',
  '5/1': 'redirect for the host',
  '8/0': 'echo request',
  '11/0': 'TTL exceeded',
  '11/1': 'reassembly time exceeded',
  '12/0': 'parameter problem',
}
const icmpv6Names: Record<string, string> = {
  '1/0': 'no route',
  '1/1': 'administratively prohibited',
  '1/3': 'address unreachable',
  '1/4': 'port unreachable',
  '2/0': 'packet too big',
  '3/0': 'hop limit exceeded',
  '3/1': 'reassembly time exceeded',
  '4/0': 'erroneous header',
  '4/1': 'unknown next header',
  '128/0': 'echo request',
  '129/0': 'echo reply',
}

const chunkNames: Record<number, string> = {
  0: 'DATA',
  1: 'INIT',
  2: 'INIT_ACK',
  3: 'SACK',
  4: 'HEARTBEAT',
  5: 'HEARTBEAT_ACK',
  6: 'ABORT',
  7: 'SHUTDOWN',
  8: 'SHUTDOWN_ACK',
  9: 'ERROR',
  10: 'COOKIE_ECHO',
  11: 'COOKIE_ACK',
  14: 'SHUTDOWN_COMPLETE',
}

function big16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!
}

function big32(bytes: Uint8Array, offset: number): number {
  return ((big16(bytes, offset) << 16) | big16(bytes, offset + 2)) >>> 0
}

export function ipv4Text(bytes: Uint8Array, offset: number): string {
  return [...bytes.subarray(offset, offset + 4)].join('.')
}

/** As RFC 5952 writes it. */
export function ipv6Text(bytes: Uint8Array, offset: number): string {
  const groups: string[] = []
  for (let i = 0; i < 8; i++) groups.push(big16(bytes, offset + 2 * i).toString(16))
  let best = { start: 0, length: 0 }
  for (let start = 0; start < 8; start++) {
    let length = 0
    while (start + length < 8 && groups[start + length] === '0') length++
    if (length > best.length) best = { start, length }
  }
  if (best.length < 2) return groups.join(':')
  const head = groups.slice(0, best.start).join(':')
  return `${head}::${groups.slice(best.start + best.length).join(':')}`
}

/** RFC 1071's sum over some bytes, folded: 0xffff over bytes that include a right checksum. */
export function onesSum(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  let sum = initial
  for (let i = start; i < end; i++) sum += (i - start) % 2 === 0 ? bytes[i]! << 8 : bytes[i]!
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000)
  return sum
}

/** Sum over the pseudo-header of the packet whose header starts at 0. */
function pseudoSum(packet: Uint8Array, protocol: number, length: number): number {
  const isIpv6 = packet[0]! >> 4 === 6
  const addresses = isIpv6 ? onesSum(packet, 8, 40) : onesSum(packet, 12, 20)
  return addresses + protocol + length
}

/** Whether the TCP, UDP or ICMPv6 checksum of a whole packet is right. */
export function hasRightChecksum(packet: Uint8Array, transport: number, protocol: number): boolean {
  const initial = pseudoSum(packet, protocol, packet.length - transport)
  return onesSum(packet, transport, packet.length, initial) === 0xffff
}

const hex = (value: number, digits: number): string =>
  `0x${value.toString(16).padStart(digits, '0')}`

/** A payload: most are zeros, and then only their number counts. */
function payload(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'none'
  const zero = bytes.every((byte) => byte === 0)
  return zero ? `${bytes.length} zero bytes` : `${bytes.length} bytes ${hexOf(bytes)}`
}

function protocolText(protocol: number): string {
  return protocolNames[protocol] ?? String(protocol)
}

function decodeIp(packet: Uint8Array, prefix: string, fields: Field[], isQuote = false): void {
  const version = packet.length > 0 ? packet[0]! >> 4 : 0
  if (version === 4 && packet.length >= 20) decodeIpv4(packet, prefix, fields, isQuote)
  else if (version === 6 && packet.length >= 40) decodeIpv6(packet, prefix, fields, isQuote)
  else fields.push([`${prefix}bytes`, hexOf(packet)])
}

function decodeIpv4(packet: Uint8Array, prefix: string, fields: Field[], isQuote: boolean): void {
  const add = (name: string, value: string): void => void fields.push([prefix + name, value])
  const headerBytes = Math.max(20, Math.min(packet.length, (packet[0]! & 15) * 4))
  const fragment = big16(packet, 6)
  const protocol = packet[9]!
  add('version', '4')
  add('header length', String((packet[0]! & 15) * 4))
  add('type of service', hex(packet[1]!, 2))
  const totalLength = big16(packet, 2)
  add('total length', String(totalLength))
  add('identification', hex(big16(packet, 4), 4))
  add('DF', fragment & 0x4000 ? 'set' : 'clear')
  if (fragment & 0x8000) add('reserved flag', 'set')
  if (fragment & 0x2000) add('MF', 'set')
  if (fragment & 0x1fff) add('fragment offset', String((fragment & 0x1fff) * 8))
  add('TTL', String(packet[8]))
  add('protocol', protocolText(protocol))
  const right = onesSum(packet, 0, headerBytes) === 0xffff
  add('header checksum', `${hex(big16(packet, 10), 4)} ${right ? '(right)' : '(WRONG)'}`)
  add('source', ipv4Text(packet, 12))
  add('destination', ipv4Text(packet, 16))
  if (headerBytes > 20) add('options', hexOf(packet.subarray(20, headerBytes)))
  if (!isQuote && totalLength !== packet.length) add('bytes there', String(packet.length))
  const whole = (fragment & 0x3fff) === 0 && totalLength === packet.length
  if (fragment & 0x1fff) add('fragment data', payload(packet.subarray(headerBytes)))
  else decodeTransport(packet, headerBytes, protocol, prefix, fields, whole)
}

function decodeIpv6(packet: Uint8Array, prefix: string, fields: Field[], isQuote: boolean): void {
  const add = (name: string, value: string): void => void fields.push([prefix + name, value])
  const first = big32(packet, 0)
  add('version', '6')
  add('traffic class', hex((first >>> 20) & 0xff, 2))
  add('flow label', hex(first & 0xfffff, 5))
  const payloadLength = big16(packet, 4)
  add('payload length', String(payloadLength))
  add('TTL', String(packet[7]))
  add('source', ipv6Text(packet, 8))
  add('destination', ipv6Text(packet, 24))
  if (!isQuote && payloadLength + 40 !== packet.length) add('bytes there', String(packet.length))
  let next = packet[6]!
  let offset = 40
  let whole = payloadLength + 40 === packet.length
  const extensions: number[] = [Protocol.hopByHop, Protocol.routing, Protocol.destinationOptions]
  for (;;) {
    if (extensions.includes(next) && offset + 8 <= packet.length) {
      const length = 8 + packet[offset + 1]! * 8
      const end = Math.min(packet.length, offset + length)
      add(`extension header ${next} at ${offset}`, hexOf(packet.subarray(offset, end)))
      next = packet[offset]!
      offset = end
    } else if (next === Protocol.fragment && offset + 8 <= packet.length) {
      const place = big16(packet, offset + 2)
      add('fragment offset', String(place & 0xfff8))
      add('MF', place & 1 ? 'set' : 'clear')
      add('identification', hex(big32(packet, offset + 4), 8))
      next = packet[offset]!
      offset += 8
      whole = false
      if ((place & 0xfff8) !== 0) {
        add('protocol', protocolText(next))
        add('fragment data', payload(packet.subarray(offset)))
        return
      }
    } else break
  }
  add('protocol', protocolText(next))
  decodeTransport(packet, offset, next, prefix, fields, whole)
}

/** @param whole whether all of the packet is there, so that its checksum can be judged */
function decodeTransport(
  packet: Uint8Array,
  offset: number,
  protocol: number,
  prefix: string,
  fields: Field[],
  whole: boolean,
): void {
  const add = (name: string, value: string): void => void fields.push([prefix + name, value])
  const data = packet.subarray(offset)
  const judged = (checksum: number, mayBeAbsent = false): string => {
    const text = hex(checksum, 4)
    if (!whole) return text
    if (mayBeAbsent && checksum === 0) return `${text} (none)`
    const right =
      protocol === Protocol.icmp
        ? onesSum(data, 0, data.length) === 0xffff
        : hasRightChecksum(packet, offset, protocol)
    return `${text} ${right ? '(right)' : '(WRONG)'}`
  }
  switch (protocol) {
    case Protocol.tcp: {
      if (data.length < 20) return void decodeShort(data, protocol, prefix, fields)
      const headerBytes = Math.max(20, Math.min(data.length, (data[12]! >> 4) * 4))
      add('source port', String(big16(data, 0)))
      add('destination port', String(big16(data, 2)))
      add('sequence', String(big32(data, 4)))
      add('acknowledgement', String(big32(data, 8)))
      add('data offset', `${(data[12]! >> 4) * 4}${data[12]! & 15 ? ` +${data[12]! & 15}` : ''}`)
      add('flags', tcpFlagsText(data[13]!))
      add('window', String(big16(data, 14)))
      add('checksum', judged(big16(data, 16)))
      add('urgent pointer', String(big16(data, 18)))
      if (headerBytes > 20) add('TCP options', hexOf(data.subarray(20, headerBytes)))
      add('payload', payload(data.subarray(headerBytes)))
      return
    }
    case Protocol.udp: {
      if (data.length < 8) return void decodeShort(data, protocol, prefix, fields)
      add('source port', String(big16(data, 0)))
      add('destination port', String(big16(data, 2)))
      add('UDP length', String(big16(data, 4)))
      add('checksum', judged(big16(data, 6), true))
      const inner = guePacket(data)
      if (inner) {
        add('GUE header', hexOf(data.subarray(8, data.length - inner.length)))
        decodeIp(inner, `${prefix}inner `, fields)
      } else add('payload', payload(data.subarray(8)))
      return
    }
    case Protocol.sctp: {
      if (data.length < 12) return void decodeShort(data, protocol, prefix, fields)
      add('source port', String(big16(data, 0)))
      add('destination port', String(big16(data, 2)))
      add('verification tag', hex(big32(data, 4), 8))
      add('checksum', hex(big32(data, 8), 8))
      const chunks = data.subarray(12)
      if (chunks.length >= 4)
        add(
          'chunk',
          `${chunkNames[chunks[0]!] ?? chunks[0]} flags ${chunks[1]} ${hexOf(chunks.subarray(2))}`,
        )
      else add('payload', payload(chunks))
      return
    }
    case Protocol.icmp:
    case Protocol.icmpv6: {
      if (data.length < 8) return void decodeShort(data, protocol, prefix, fields)
      const isIpv6 = protocol === Protocol.icmpv6
      const key = `${data[0]}/${data[1]}`
      const name = (isIpv6 ? icmpv6Names : icmpNames)[key]
      add('type', `${key}${name ? ` ${name}` : ''}`)
      add('checksum', judged(big16(data, 2)))
      add('second word', hex(big32(data, 4), 8))
      if (isIcmpError(data[0]!, isIpv6))
        decodeIp(data.subarray(8), `${prefix}quoted `, fields, true)
      else add('payload', payload(data.subarray(8)))
      return
    }
    case Protocol.ipip:
    case Protocol.ipv6:
      decodeIp(data, `${prefix}inner `, fields)
      return
    case Protocol.gre: {
      if (data.length < 4) return void decodeShort(data, protocol, prefix, fields)
      // Checksum, key and sequence take four bytes each.
      const words =
        (data[0]! & 0x80 ? 1 : 0) + (data[0]! & 0x20 ? 1 : 0) + (data[0]! & 0x10 ? 1 : 0)
      const end = Math.min(data.length, 4 + 4 * words)
      add('GRE header', hexOf(data.subarray(0, end)))
      decodeIp(data.subarray(end), `${prefix}inner `, fields)
      return
    }
    default:
      add('payload', payload(data))
  }
}

/** What is too short for its protocol's header: as quoted by most ICMP errors, the ports are still there. */
function decodeShort(data: Uint8Array, protocol: number, prefix: string, fields: Field[]): void {
  const hasPorts = ([Protocol.tcp, Protocol.udp, Protocol.sctp] as number[]).includes(protocol)
  const isThere = hasPorts && data.length >= 4
  if (isThere) {
    fields.push([`${prefix}source port`, String(big16(data, 0))])
    fields.push([`${prefix}destination port`, String(big16(data, 2))])
  }
  fields.push([`${prefix}transport bytes`, hexOf(data.subarray(isThere ? 4 : 0))])
}

/**
 * The packet within a UDP datagram of Generic UDP Encapsulation (draft-ietf-intarea-gue), on whatever port;
 * undefined when it is none. Only a header of variant 0 that names IP and is followed by a whole packet counts.
 */
export function guePacket(datagram: Uint8Array): Uint8Array | undefined {
  if (datagram.length < 32 || datagram[8]! >> 6 !== 0) return undefined
  const protocol = datagram[9]!
  const inner = datagram.subarray(12 + (datagram[8]! & 0x1f) * 4)
  if (protocol === Protocol.ipip && inner.length >= 20)
    return inner[0]! >> 4 === 4 && big16(inner, 2) === inner.length ? inner : undefined
  if (protocol === Protocol.ipv6 && inner.length >= 40)
    return inner[0]! >> 4 === 6 && big16(inner, 4) + 40 === inner.length ? inner : undefined
  return undefined
}

/** Whether ICMP messages of the type quote the packet that caused them. */
export function isIcmpError(type: number, isIpv6: boolean): boolean {
  return isIpv6 ? type < 128 : [3, 4, 5, 11, 12].includes(type)
}

/** As scenarios write them: `SA`; `none` for none. */
function tcpFlagsText(flags: number): string {
  let text = ''
  for (const [bit, letter] of [
    [0x02, 'S'],
    [0x10, 'A'],
    [0x01, 'F'],
    [0x04, 'R'],
    [0x08, 'P'],
    [0x20, 'U'],
    [0x40, 'E'],
    [0x80, 'C'],
  ] as const)
    if (flags & bit) text += letter
  return text || 'none'
}

/** A packet in one line: `TCP 10.1.0.9:1024 > 10.1.0.100:80 S, TTL 64`. */
export function summary(packet: Uint8Array): string {
  return summaryOf(decodePacket(packet), '')
}

function summaryOf(fields: readonly Field[], prefix: string): string {
  const get = (name: string): string | undefined =>
    fields.find(([field]) => field === prefix + name)?.[1]
  const source = get('source')
  if (source === undefined) return `bytes ${get('bytes') ?? ''}`
  const protocol = get('protocol') ?? ''
  const end = (address: string, port: string | undefined): string => {
    if (port === undefined) return address
    return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
  }
  const parts = [
    `${protocol} ${end(source, get('source port'))} > ${end(get('destination')!, get('destination port'))}`,
  ]
  const flags = get('flags')
  if (flags !== undefined) parts[0] += ` ${flags}`
  const chunk = get('chunk')
  if (chunk !== undefined) parts[0] += ` ${chunk.split(' ')[0]}`
  const type = get('type')
  if (type !== undefined) parts[0] += ` ${type.replace(/^\S+ /, '')}`
  parts.push(`TTL ${get('TTL')}`)
  const length = get('payload')
  if (length !== undefined && length !== 'none') parts.push(length.split(' ', 1)[0]! + ' bytes')
  if (get('MF') === 'set' || (get('fragment offset') ?? '0') !== '0')
    parts.push(
      `fragment at ${get('fragment offset') ?? 0}${get('MF') === 'set' ? ' with more' : ''}`,
    )
  const id = get('identification')
  if (id !== undefined && !/^0x0+$/.test(id)) parts.push(`id ${id}`)
  if (/WRONG/.test(get('header checksum') ?? '')) parts.push('header checksum WRONG')
  if (/WRONG/.test(get('checksum') ?? '')) parts.push('checksum WRONG')
  for (const within of ['inner ', 'quoted '])
    if (fields.some(([field]) => field.startsWith(prefix + within)))
      parts.push(`${within.trimEnd()} [${summaryOf(fields, prefix + within)}]`)
  return parts.join(', ')
}
