import type {
  Counters,
  DestinationKey,
  DestinationOptions,
  DestinationStatus,
  ForwardingMethod,
  Rates,
  ServiceKey,
  ServiceOptions,
  ServiceProtocol,
  ServiceStatus,
  Timeouts,
  TunnelOptions,
} from '../../core/commands.js'
import * as ipv4 from '../../wire/ipv4.js'
import * as ipv6 from '../../wire/ipv6.js'
import {
  attribute,
  Attributes,
  CommandAttribute,
  DaemonAttribute,
  DaemonState,
  DestinationAttribute,
  Forwarding,
  InfoAttribute,
  nested,
  ServiceAttribute,
  ServiceFlag,
  StatsAttribute,
  text,
  TunnelFlag,
  TunnelType,
  u16,
  u16Be,
  u32,
  u8,
} from './attributes.js'

/**
 * What travels in IPVS's messages, to and from the director's own types. Functions that end in Attribute
 * make one attribute of a command; those that start with parse take the attributes of an answer.
 */

export const AF_INET = 2
export const AF_INET6 = 10
const ADDRESS_BYTES = 16
const protocolNumbers: Record<ServiceProtocol, number> = { tcp: 6, udp: 17, sctp: 132 }
const protocolNames = new Map(
  Object.entries(protocolNumbers).map(([name, number]) => [number, name as ServiceProtocol]),
)

/** A sync daemon of the kernel, as `ipvsadm --start-daemon` describes it. */
export interface SyncDaemon {
  state: 'master' | 'backup'
  /** Interface of the multicast group. */
  interface: string
  /** 0 to 255; a backup takes only what a master with its number sends, with 0 everything. */
  syncId: number
  /** The longest message in bytes. This and what follows is the kernel's default where it is absent. */
  maxLength?: number
  /** Multicast group, IPv4 or IPv6. */
  group?: string
  port?: number
  ttl?: number
}

/** A service that is only named. @throws RangeError for what is no address, as whatever takes one here */
export function serviceKeyAttribute(key: ServiceKey): Buffer {
  return nested(CommandAttribute.service, serviceKey(key))
}

// -- services

const familyOfAddress = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET)

/** AF_INET or AF_INET6. */
export function familyOfService(key: ServiceKey): number {
  if ('fwmark' in key) return key.family === 6 ? AF_INET6 : AF_INET
  return familyOfAddress(key.address)
}

function serviceKey(key: ServiceKey): Buffer[] {
  const family = u16(ServiceAttribute.family, familyOfService(key))
  if ('fwmark' in key) return [family, u32(ServiceAttribute.fwmark, key.fwmark)]
  return [
    family,
    u16(ServiceAttribute.protocol, protocolNumbers[key.protocol]),
    attribute(ServiceAttribute.address, addressBytes(key.address)),
    u16Be(ServiceAttribute.port, key.port),
  ]
}

/** A service with everything that it is to have. */
export function serviceAttribute(key: ServiceKey, options: ServiceOptions): Buffer {
  const isV6 = familyOfService(key) === AF_INET6
  const flags = Buffer.alloc(8)
  flags.writeUInt32LE(flagsOf(options))
  // The mask: all flags are said.
  flags.writeUInt32LE(0xffffffff, 4)
  const prefix = options.persistentPrefixLength
  return nested(CommandAttribute.service, [
    ...serviceKey(key),
    text(ServiceAttribute.scheduler, options.scheduler),
    ...(options.persistenceEngine
      ? [text(ServiceAttribute.persistenceEngine, options.persistenceEngine)]
      : []),
    attribute(ServiceAttribute.flags, flags),
    u32(ServiceAttribute.timeout, options.persistentTimeoutSeconds),
    // IPv4's netmask is an address, IPv6's a prefix length.
    u32(ServiceAttribute.netmask, isV6 ? prefix : ipv4.netmaskBe(prefix)),
  ])
}

/** The flags of some schedulers have names. */
const schedulerFlagNames: Record<string, readonly string[]> = {
  sh: ['sh-fallback', 'sh-port'],
  mh: ['mh-fallback', 'mh-port'],
}
const schedulerFlagBits = [
  ServiceFlag.scheduler1,
  ServiceFlag.scheduler2,
  ServiceFlag.scheduler3,
] as const

function flagsOf(options: ServiceOptions): number {
  let flags = 0
  if (options.persistentTimeoutSeconds > 0) flags |= ServiceFlag.persistent
  if (options.onePacket) flags |= ServiceFlag.onePacket
  const names = schedulerFlagNames[options.scheduler] ?? []
  schedulerFlagBits.forEach((bit, i) => {
    const { schedulerFlags } = options
    if (schedulerFlags.includes(names[i] ?? '') || schedulerFlags.includes(`flag-${i + 1}`))
      flags |= bit
  })
  return flags
}

/** A service; undefined for one of a protocol that virtual services do not have in the words of ipvsadm. */
export function parseService(
  attributes: Attributes,
): Omit<ServiceStatus, 'destinations'> | undefined {
  const family = attributes.number(ServiceAttribute.family)
  const isV6 = family === AF_INET6
  const scheduler = attributes.text(ServiceAttribute.scheduler)
  const flags = attributes.bytes(ServiceAttribute.flags)?.readUInt32LE() ?? 0
  const engine = attributes.text(ServiceAttribute.persistenceEngine)
  const names = schedulerFlagNames[scheduler] ?? []
  const netmask = attributes.number(ServiceAttribute.netmask)
  const isPersistent = (flags & ServiceFlag.persistent) !== 0
  const service = parseServiceKey(attributes, family)
  if (!service) return undefined
  return {
    service,
    options: {
      scheduler,
      schedulerFlags: schedulerFlagBits.flatMap((bit, i) =>
        (flags & bit) !== 0 ? [names[i] ?? `flag-${i + 1}`] : [],
      ),
      persistentTimeoutSeconds: isPersistent ? attributes.number(ServiceAttribute.timeout) : 0,
      persistentPrefixLength: isV6 ? netmask : bitsIn(netmask),
      onePacket: (flags & ServiceFlag.onePacket) !== 0,
      ...(engine !== '' && { persistenceEngine: engine }),
    },
    ...parseStats(attributes, ServiceAttribute),
  }
}

function parseServiceKey(attributes: Attributes, family: number): ServiceKey | undefined {
  if (attributes.has(ServiceAttribute.fwmark))
    return {
      fwmark: attributes.number(ServiceAttribute.fwmark),
      family: family === AF_INET6 ? 6 : 4,
    }
  const protocol = protocolNames.get(attributes.number(ServiceAttribute.protocol))
  if (!protocol) return undefined
  return {
    protocol,
    address: addressText(attributes.bytes(ServiceAttribute.address)!, family),
    port: attributes.numberBe(ServiceAttribute.port),
  }
}

// -- destinations

const forwardingNumbers: Record<ForwardingMethod, number> = {
  masquerade: Forwarding.masquerade,
  tunnel: Forwarding.tunnel,
  'direct-route': Forwarding.directRoute,
}

/** A destination, without options only named. */
export function destinationAttribute(key: DestinationKey, options?: DestinationOptions): Buffer {
  const identity = [
    u16(DestinationAttribute.family, familyOfAddress(key.address)),
    attribute(DestinationAttribute.address, addressBytes(key.address)),
    u16Be(DestinationAttribute.port, key.port),
  ]
  if (!options) return nested(CommandAttribute.destination, identity)
  return nested(CommandAttribute.destination, [
    ...identity,
    u32(DestinationAttribute.forwarding, forwardingNumbers[options.forwarding]),
    u32(DestinationAttribute.weight, options.weight),
    u32(DestinationAttribute.upperThreshold, options.upperThreshold),
    u32(DestinationAttribute.lowerThreshold, options.lowerThreshold),
    ...tunnelAttributes(options),
  ])
}

const checksumFlags = {
  none: TunnelFlag.noChecksum,
  full: TunnelFlag.checksum,
  remote: TunnelFlag.remoteChecksum,
} as const

function tunnelAttributes({ forwarding, tunnel }: DestinationOptions): Buffer[] {
  if (forwarding !== 'tunnel' || !tunnel) return []
  return [
    u8(DestinationAttribute.tunnelType, TunnelType[tunnel.type]),
    u16Be(DestinationAttribute.tunnelPort, tunnel.port),
    u16(DestinationAttribute.tunnelFlags, checksumFlags[tunnel.checksum]),
  ]
}

/** @param serviceFamily that of destinations of kernels that do not tell it (before 3.18) */
export function parseDestination(attributes: Attributes, serviceFamily: number): DestinationStatus {
  const number = (type: number): number => attributes.number(type)
  const family = number(DestinationAttribute.family) || serviceFamily
  const method = number(DestinationAttribute.forwarding) & Forwarding.mask
  const upperThreshold = number(DestinationAttribute.upperThreshold)
  const forwarding: ForwardingMethod =
    method === Forwarding.tunnel
      ? 'tunnel'
      : method === Forwarding.directRoute
        ? 'direct-route'
        : 'masquerade'
  return {
    address: addressText(attributes.bytes(DestinationAttribute.address)!, family),
    port: attributes.numberBe(DestinationAttribute.port),
    forwarding,
    // The kernel's weight is signed, though it takes none below 0.
    weight: number(DestinationAttribute.weight) | 0,
    upperThreshold,
    lowerThreshold: number(DestinationAttribute.lowerThreshold),
    ...(forwarding === 'tunnel' && { tunnel: parseTunnel(attributes) }),
    activeConnections: number(DestinationAttribute.activeConnections),
    inactiveConnections: number(DestinationAttribute.inactiveConnections),
    persistentConnections: number(DestinationAttribute.persistentConnections),
    // The kernel does not tell.
    overloaded: false,
    ...parseStats(attributes, DestinationAttribute),
  }
}

function parseTunnel(attributes: Attributes): TunnelOptions {
  const type = attributes.number(DestinationAttribute.tunnelType)
  const flags = attributes.number(DestinationAttribute.tunnelFlags)
  return {
    type: type === TunnelType.gue ? 'gue' : type === TunnelType.gre ? 'gre' : 'ipip',
    port: attributes.numberBe(DestinationAttribute.tunnelPort),
    checksum:
      (flags & TunnelFlag.remoteChecksum) !== 0
        ? 'remote'
        : (flags & TunnelFlag.checksum) !== 0
          ? 'full'
          : 'none',
  }
}

// -- counters

function parseStats(
  attributes: Attributes,
  names: { stats: number; stats64: number },
): { counters: Counters; rates: Rates } {
  // Kernels before 4.1 have 32-bit counters only.
  const stats =
    attributes.nested(names.stats64) ??
    attributes.nested(names.stats) ??
    new Attributes(Buffer.alloc(0))
  const number = (name: keyof typeof StatsAttribute): number => stats.number(StatsAttribute[name])
  return {
    counters: {
      connections: number('connections'),
      inPackets: number('inPackets'),
      outPackets: number('outPackets'),
      inBytes: number('inBytes'),
      outBytes: number('outBytes'),
    },
    rates: {
      connectionsPerSecond: number('connectionsPerSecond'),
      inPacketsPerSecond: number('inPacketsPerSecond'),
      outPacketsPerSecond: number('outPacketsPerSecond'),
      inBytesPerSecond: number('inBytesPerSecond'),
      outBytesPerSecond: number('outBytesPerSecond'),
    },
  }
}

// -- daemons

/** A sync daemon's state, which is enough to stop it. */
export function daemonStateAttribute(state: SyncDaemon['state']): Buffer {
  return nested(CommandAttribute.daemon, [u32(DaemonAttribute.state, DaemonState[state])])
}

/** @throws RangeError for a group that is no address */
export function daemonAttribute(daemon: SyncDaemon): Buffer {
  const { maxLength, group, port, ttl } = daemon
  return nested(CommandAttribute.daemon, [
    u32(DaemonAttribute.state, DaemonState[daemon.state]),
    text(DaemonAttribute.interface, daemon.interface),
    u32(DaemonAttribute.syncId, daemon.syncId),
    ...(maxLength !== undefined ? [u16(DaemonAttribute.maxLength, maxLength)] : []),
    ...(group === undefined
      ? []
      : [
          group.includes(':')
            ? attribute(DaemonAttribute.group6, addressBytes(group))
            : attribute(DaemonAttribute.group, addressBytes(group).subarray(0, 4)),
        ]),
    ...(port !== undefined ? [u16(DaemonAttribute.port, port)] : []),
    ...(ttl !== undefined ? [u8(DaemonAttribute.ttl, ttl)] : []),
  ])
}

export function parseDaemon(attributes: Attributes): SyncDaemon {
  const group6 = attributes.bytes(DaemonAttribute.group6)
  const group = attributes.bytes(DaemonAttribute.group)
  return {
    state: attributes.number(DaemonAttribute.state) === DaemonState.backup ? 'backup' : 'master',
    interface: attributes.text(DaemonAttribute.interface),
    syncId: attributes.number(DaemonAttribute.syncId),
    maxLength: attributes.number(DaemonAttribute.maxLength),
    ...(group6
      ? { group: addressText(group6, AF_INET6) }
      : group
        ? { group: addressText(group, AF_INET) }
        : {}),
    port: attributes.number(DaemonAttribute.port),
    ttl: attributes.number(DaemonAttribute.ttl),
  }
}

// -- the rest

/** Seconds; 0 leaves one as it is. */
export function timeoutAttributes({ tcp, tcpFin, udp }: Timeouts): Buffer[] {
  return [
    u32(CommandAttribute.timeoutTcp, tcp),
    u32(CommandAttribute.timeoutTcpFin, tcpFin),
    u32(CommandAttribute.timeoutUdp, udp),
  ]
}

export function parseTimeouts(attributes: Attributes): Timeouts {
  return {
    tcp: attributes.number(CommandAttribute.timeoutTcp),
    tcpFin: attributes.number(CommandAttribute.timeoutTcpFin),
    udp: attributes.number(CommandAttribute.timeoutUdp),
  }
}

/** Version of IPVS as `1.2.1`, and buckets in its connection table. */
export function parseInfo(attributes: Attributes): { version: string; tableSize: number } {
  const version = attributes.number(InfoAttribute.version)
  return {
    version: `${(version >> 16) & 0xff}.${(version >> 8) & 0xff}.${version & 0xff}`,
    tableSize: attributes.number(InfoAttribute.tableSize),
  }
}

// -- addresses: 16 bytes in network order, of which IPv4 takes the first four

/** @throws RangeError for what is no address */
function addressBytes(address: string): Buffer {
  const bytes = Buffer.alloc(ADDRESS_BYTES)
  const isV6 = familyOfAddress(address) === AF_INET6
  const words = isV6 ? ipv6.parseAddress(address) : ipv4.parseAddress(address)
  if (words === undefined) throw new RangeError(`'${address}' is no address of IPv4 or IPv6`)
  if (typeof words === 'number') bytes.writeInt32LE(words)
  else words.forEach((word, i) => bytes.writeInt32LE(word, 4 * i))
  return bytes
}

function addressText(bytes: Buffer, family: number): string {
  if (family === AF_INET) return ipv4.formatAddress(bytes.readInt32LE())
  return ipv6.formatAddress(Int32Array.from([0, 4, 8, 12], (at) => bytes.readInt32LE(at)))
}

function bitsIn(mask: number): number {
  let bits = 0
  for (let rest = mask >>> 0; rest !== 0; rest >>>= 1) bits += rest & 1
  return bits
}
