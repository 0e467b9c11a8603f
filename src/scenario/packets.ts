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
/** Of a packet whose directive says none. */
export const DEFAULT_TTL = 64
const LONGEST = 65535

/** Bits of the flags, in the order in which people name them: SA, FA, PA. */
export const tcpFlags = { S: 0x02, F: 0x01, R: 0x04, P: 0x08, A: 0x10, U: 0x20 } as const
export type TcpFlagName = keyof typeof tcpFlags
export const tcpFlagNames = Object.keys(tcpFlags) as TcpFlagName[]

/** Initiate tag 1, a window of 65535 bytes, one stream each way, TSN 0. */
const INIT_VALUE = [0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 0]
/** The parameter that an INIT ACK must have. */
const STATE_COOKIE = [0, 7, 0, 8, 0, 0, 0, 0]
/** The whole of a user message in one chunk. */
const WHOLE_MESSAGE = 0x03

interface SctpChunk {
  readonly type: number
  readonly flags: number
  /** What its kind must have behind the chunk's header (RFC 9260); the payload follows. */
  readonly value: readonly number[]
}

const chunk = (type: number, value: readonly number[] = [], flags = 0): SctpChunk => ({
  type,
  flags,
  value,
})

/** Chunks by their names in a scenario. */
export const sctpChunks = {
  INIT: chunk(sctp.ChunkType.init, INIT_VALUE),
  INIT_ACK: chunk(sctp.ChunkType.initAck, [...INIT_VALUE, ...STATE_COOKIE]),
  COOKIE_ECHO: chunk(sctp.ChunkType.cookieEcho),
  COOKIE_ACK: chunk(sctp.ChunkType.cookieAck),
  // TSN, stream, sequence number and payload protocol 0.
  DATA: chunk(sctp.ChunkType.data, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], WHOLE_MESSAGE),
  // TSN 0, a window of 65535 bytes, no gaps, no duplicates.
  SACK: chunk(sctp.ChunkType.sack, [0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]),
  SHUTDOWN: chunk(sctp.ChunkType.shutdown, [0, 0, 0, 0]),
  SHUTDOWN_ACK: chunk(sctp.ChunkType.shutdownAck),
  SHUTDOWN_COMPLETE: chunk(sctp.ChunkType.shutdownComplete),
  ABORT: chunk(sctp.ChunkType.abort),
  // One cause: an invalid mandatory parameter.
  ERROR: chunk(sctp.ChunkType.error, [0, 7, 0, 4]),
} as const satisfies Record<string, SctpChunk>
export type SctpChunkName = keyof typeof sctpChunks

/** Bytes of headers in front of the payload. */
export function headerBytes(protocol: 'tcp' | 'udp' | SctpChunkName, family: 4 | 6): number {
  const transport =
    protocol === 'tcp'
      ? TCP_HEADER_BYTES
      : protocol === 'udp'
        ? UDP_HEADER_BYTES
        : sctp.HEADER_BYTES + sctp.CHUNK_HEADER_BYTES + sctpChunks[protocol].value.length
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
  const { type, flags, value } = sctpChunks[chunk]
  const chunkLength = sctp.CHUNK_HEADER_BYTES + value.length + fields.length
  const packet = new Uint8Array(sctp.HEADER_BYTES + ((chunkLength + 3) & ~3))
  const view = new DataView(packet.buffer)
  view.setUint16(0, fields.from.port)
  view.setUint16(2, fields.to.port)
  packet[sctp.FIRST_CHUNK] = type
  packet[sctp.FIRST_CHUNK + 1] = flags
  view.setUint16(sctp.FIRST_CHUNK + 2, chunkLength)
  packet.set(value, sctp.FIRST_CHUNK + sctp.CHUNK_HEADER_BYTES)
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
