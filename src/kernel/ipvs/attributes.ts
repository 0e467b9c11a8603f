/**
 * The words of IPVS's generic netlink family (include/uapi/linux/ip_vs.h), and attributes as bytes. Numbers
 * are in the machine's byte order unless it says otherwise; x86 and ARM are little-endian.
 */

export const FAMILY = 'IPVS'
export const VERSION = 1

export const IpvsCommand = {
  newService: 1,
  setService: 2,
  deleteService: 3,
  getService: 4,
  newDestination: 5,
  setDestination: 6,
  deleteDestination: 7,
  getDestination: 8,
  newDaemon: 9,
  deleteDaemon: 10,
  getDaemon: 11,
  setConfig: 12,
  getConfig: 13,
  setInfo: 14,
  getInfo: 15,
  zero: 16,
  flush: 17,
} as const

export const CommandAttribute = {
  service: 1,
  destination: 2,
  daemon: 3,
  timeoutTcp: 4,
  timeoutTcpFin: 5,
  timeoutUdp: 6,
} as const

export const ServiceAttribute = {
  family: 1,
  protocol: 2,
  address: 3,
  port: 4,
  fwmark: 5,
  scheduler: 6,
  flags: 7,
  timeout: 8,
  netmask: 9,
  stats: 10,
  persistenceEngine: 11,
  stats64: 12,
} as const

export const DestinationAttribute = {
  address: 1,
  port: 2,
  forwarding: 3,
  weight: 4,
  upperThreshold: 5,
  lowerThreshold: 6,
  activeConnections: 7,
  inactiveConnections: 8,
  persistentConnections: 9,
  stats: 10,
  family: 11,
  stats64: 12,
  tunnelType: 13,
  tunnelPort: 14,
  tunnelFlags: 15,
} as const

export const DaemonAttribute = {
  state: 1,
  interface: 2,
  syncId: 3,
  maxLength: 4,
  group: 5,
  group6: 6,
  port: 7,
  ttl: 8,
} as const

/** Of `stats` and `stats64`; which of them holds 64-bit packets and rates is in the length of each. */
export const StatsAttribute = {
  connections: 1,
  inPackets: 2,
  outPackets: 3,
  inBytes: 4,
  outBytes: 5,
  connectionsPerSecond: 6,
  inPacketsPerSecond: 7,
  outPacketsPerSecond: 8,
  inBytesPerSecond: 9,
  outBytesPerSecond: 10,
} as const

export const InfoAttribute = { version: 1, tableSize: 2 } as const

export const ServiceFlag = {
  persistent: 0x01,
  hashed: 0x02,
  onePacket: 0x04,
  scheduler1: 0x08,
  scheduler2: 0x10,
  scheduler3: 0x20,
} as const

/** The forwarding methods, in three bits of a destination's connection flags. */
export const Forwarding = {
  masquerade: 0,
  localNode: 1,
  tunnel: 2,
  directRoute: 3,
  bypass: 4,
  mask: 7,
} as const

export const TunnelType = { ipip: 0, gue: 1, gre: 2 } as const
export const TunnelFlag = { noChecksum: 0, checksum: 1, remoteChecksum: 2 } as const
export const DaemonState = { master: 1, backup: 2 } as const

const HEADER_BYTES = 4
const NESTED = 0x8000
const TYPE_MASK = 0x3fff
const align = (length: number): number => (length + 3) & ~3

/** An attribute: its type, and its value as bytes. */
export function attribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc(align(HEADER_BYTES + value.length))
  bytes.writeUInt16LE(HEADER_BYTES + value.length, 0)
  bytes.writeUInt16LE(type, 2)
  bytes.set(value, HEADER_BYTES)
  return bytes
}

export function nested(type: number, attributes: readonly Uint8Array[]): Buffer {
  return attribute(type | NESTED, Buffer.concat(attributes))
}

export function u8(type: number, value: number): Buffer {
  return attribute(type, Uint8Array.of(value))
}

export function u16(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(value)
  return attribute(type, bytes)
}

/** In network order. */
export function u16Be(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return attribute(type, bytes)
}

export function u32(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return attribute(type, bytes)
}

export function text(type: number, value: string): Buffer {
  return attribute(type, Buffer.from(`${value}\0`))
}

/** The attributes in a value, by type; of several of one type the last counts, as in the kernel. */
export class Attributes {
  private readonly values = new Map<number, Buffer>()

  /** @throws RangeError when the bytes are no attributes */
  constructor(bytes: Buffer) {
    for (let at = 0; at + HEADER_BYTES <= bytes.length;) {
      const length = bytes.readUInt16LE(at)
      if (length < HEADER_BYTES || at + length > bytes.length)
        throw new RangeError(`an attribute of ${length} bytes where ${bytes.length - at} are left`)
      this.values.set(
        bytes.readUInt16LE(at + 2) & TYPE_MASK,
        bytes.subarray(at + HEADER_BYTES, at + length),
      )
      at += align(length)
    }
  }

  has(type: number): boolean {
    return this.values.has(type)
  }

  bytes(type: number): Buffer | undefined {
    return this.values.get(type)
  }

  nested(type: number): Attributes | undefined {
    const value = this.values.get(type)
    return value && new Attributes(value)
  }

  /** A number of 1, 2, 4 or 8 bytes, 0 when it is absent; above 2^53 it is rounded. */
  number(type: number): number {
    const value = this.values.get(type)
    switch (value?.length) {
      case 1:
        return value.readUInt8()
      case 2:
        return value.readUInt16LE()
      case 4:
        return value.readUInt32LE()
      case 8:
        return Number(value.readBigUInt64LE())
      default:
        return 0
    }
  }

  /** 16 bits in network order. */
  numberBe(type: number): number {
    const value = this.values.get(type)
    return value && value.length >= 2 ? value.readUInt16BE() : 0
  }

  text(type: number): string {
    const value = this.values.get(type)
    return value ? value.toString('utf8').replace(/\0.*$/s, '') : ''
  }
}
