/** The packets of a scenario, from their words to bytes (SCENARIO format: tcp, udp and sctp directives). */
import { isIPv4 } from 'node:net'
import { ipv6Words } from '../control/address.js'
import { internetChecksum } from '../wire/checksum.js'
import * as sctp from '../wire/sctp.js'

export interface Endpoint {
  readonly address: string
  readonly port: number
}

export interface PacketFields {
  readonly from: Endpoint
  /** Of the same family. */
  readonly to: Endpoint
  /** Bytes of zeros behind the transport header. */
  readonly length: number
  /** Time to live, hop limit in IPv6. */
  readonly ttl: number
  /** IPv4's identification. */
  readonly identification: number
}

const TCP = 6
const UDP = 17
const SCTP = 132
const IPV4_HEADER_BYTES = 20
const IPV6_HEADER_BYTES = 40
const TCP_HEADER_BYTES = 20
const UDP_HEADER_BYTES = 8
const DONT_FRAGMENT = 0x4000
const WINDOW = 65535
const LONGEST = 65535

const tcpFlags = { F: 0x01, S: 0x02, R: 0x04, P: 0x08, A: 0x10, U: 0x20 } as const
export type TcpFlagName = keyof typeof tcpFlags
export const tcpFlagNames = Object.keys(tcpFlags) as TcpFlagName[]

/** Chunks by their names in a scenario: type, and how many bytes follow the chunk's header at least. */
export const sctpChunks = {
  INIT: { type: sctp.ChunkType.init, valueBytes: 16 },
  INIT_ACK: { type: sctp.ChunkType.initAck, valueBytes: 16 },
  COOKIE_ECHO: { type: sctp.ChunkType.cookieEcho, valueBytes: 0 },
  COOKIE_ACK: { type: sctp.ChunkType.cookieAck, valueBytes: 0 },
  DATA: { type: sctp.ChunkType.data, valueBytes: 12 },
  SACK: { type: sctp.ChunkType.sack, valueBytes: 12 },
  SHUTDOWN: { type: sctp.ChunkType.shutdown, valueBytes: 4 },
  SHUTDOWN_ACK: { type: sctp.ChunkType.shutdownAck, valueBytes: 0 },
  SHUTDOWN_COMPLETE: { type: sctp.ChunkType.shutdownComplete, valueBytes: 0 },
  ABORT: { type: sctp.ChunkType.abort, valueBytes: 0 },
  ERROR: { type: sctp.ChunkType.error, valueBytes: 0 },
} as const
export type SctpChunkName = keyof typeof sctpChunks

/** Bytes of headers in front of the payload. */
export function headerBytes(protocol: 'tcp' | 'udp' | SctpChunkName, family: 4 | 6): number {
  const transport =
    protocol === 'tcp'
      ? TCP_HEADER_BYTES
      : protocol === 'udp'
        ? UDP_HEADER_BYTES
        : sctp.HEADER_BYTES + sctp.CHUNK_HEADER_BYTES + sctpChunks[protocol].valueBytes
  return transport + (family === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES)
}

/** The most payload that fits into an IP packet. */
export function maxLength(protocol: 'tcp' | 'udp' | SctpChunkName, family: 4 | 6): number {
  // IPv6 does not count its own header.
  return LONGEST + (family === 4 ? 0 : IPV6_HEADER_BYTES) - headerBytes(protocol, family)
}

/** A TCP segment with sequence numbers 0 and no options. @param flags any of S A F R P U */
export function tcpPacket(fields: PacketFields, flags: string): Uint8Array {
  const segment = new Uint8Array(TCP_HEADER_BYTES + fields.length)
  const view = new DataView(segment.buffer)
  view.setUint16(0, fields.from.port)
  view.setUint16(2, fields.to.port)
  segment[12] = (TCP_HEADER_BYTES / 4) << 4
  for (const flag of flags) segment[13]! |= tcpFlags[flag as TcpFlagName]
  view.setUint16(14, WINDOW)
  view.setUint16(16, transportChecksum(fields, TCP, segment))
  return ipPacket(fields, TCP, segment, DONT_FRAGMENT)
}

/** A UDP datagram with its checksum. */
export function udpPacket(fields: PacketFields): Uint8Array {
  const datagram = new Uint8Array(UDP_HEADER_BYTES + fields.length)
  const view = new DataView(datagram.buffer)
  view.setUint16(0, fields.from.port)
  view.setUint16(2, fields.to.port)
  view.setUint16(4, datagram.length)
  view.setUint16(6, transportChecksum(fields, UDP, datagram) || 0xffff)
  return ipPacket(fields, UDP, datagram, 0)
}

/** An SCTP packet of one chunk, verification tag 0; the payload is the chunk's. */
export function sctpPacket(fields: PacketFields, chunk: SctpChunkName): Uint8Array {
  const { type, valueBytes } = sctpChunks[chunk]
  const chunkLength = sctp.CHUNK_HEADER_BYTES + valueBytes + fields.length
  const packet = new Uint8Array(sctp.HEADER_BYTES + ((chunkLength + 3) & ~3))
  const view = new DataView(packet.buffer)
  view.setUint16(0, fields.from.port)
  view.setUint16(2, fields.to.port)
  packet[sctp.FIRST_CHUNK] = type
  view.setUint16(sctp.FIRST_CHUNK + 2, chunkLength)
  sctp.writeChecksum(new Int32Array(packet.buffer), packet, 0, packet.length)
  return ipPacket(fields, SCTP, packet, 0)
}

function ipPacket(
  fields: PacketFields,
  protocol: number,
  payload: Uint8Array,
  fragment: number,
): Uint8Array {
  const isV4 = isIPv4(fields.to.address)
  const header = new Uint8Array(isV4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES)
  const view = new DataView(header.buffer)
  if (isV4) {
    header[0] = 0x45
    view.setUint16(2, IPV4_HEADER_BYTES + payload.length)
    view.setUint16(4, fields.identification)
    view.setUint16(6, fragment)
    header[8] = fields.ttl
    header[9] = protocol
    header.set(addressBytes(fields.from.address), 12)
    header.set(addressBytes(fields.to.address), 16)
    view.setUint16(10, internetChecksum(header, 0, header.length))
  } else {
    header[0] = 0x60
    view.setUint16(4, payload.length)
    header[6] = protocol
    header[7] = fields.ttl
    header.set(addressBytes(fields.from.address), 8)
    header.set(addressBytes(fields.to.address), 24)
  }
  const packet = new Uint8Array(header.length + payload.length)
  packet.set(header)
  packet.set(payload, header.length)
  return packet
}

function transportChecksum(
  { from, to }: PacketFields,
  protocol: number,
  segment: Uint8Array,
): number {
  const source = addressBytes(from.address)
  const pseudo = new Uint8Array(2 * source.length + 8 + segment.length)
  pseudo.set(source)
  pseudo.set(addressBytes(to.address), source.length)
  // RFC 8200's pseudo-header sums up to RFC 793's.
  const view = new DataView(pseudo.buffer)
  view.setUint32(2 * source.length, segment.length)
  view.setUint32(2 * source.length + 4, protocol)
  pseudo.set(segment, 2 * source.length + 8)
  return internetChecksum(pseudo, 0, pseudo.length)
}

/** The 4 or 16 bytes of an address. */
export function addressBytes(address: string): Uint8Array {
  if (isIPv4(address)) return Uint8Array.from(address.split('.').map(Number))
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  ipv6Words(address).forEach((word, i) => view.setUint32(4 * i, word))
  return bytes
}
