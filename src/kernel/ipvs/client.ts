import { createGenericNetlink, type GenericNetlinkSocket } from 'netlink'
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
  FAMILY,
  Forwarding,
  InfoAttribute,
  IpvsCommand,
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
  VERSION,
} from './attributes.js'

const AF_INET = 2
const AF_INET6 = 10
const NLM_F_DUMP = 0x300
const ADDRESS_BYTES = 16
/** Of the socket each way: the kernel sends a listing in parts, as they are read. */
const BUFFER_BYTES = 1 << 20
const protocolNumbers: Record<ServiceProtocol, number> = { tcp: 6, udp: 17, sctp: 132 }
const protocolNames = new Map(
  Object.entries(protocolNumbers).map(([name, number]) => [number, name as ServiceProtocol]),
)

/** A sync daemon of the kernel, as `ipvsadm --start-daemon` describes it. */
export interface SyncDaemon {
  state: 'master' | 'backup'
  interface: string
  syncId: number
  /** The rest is the kernel's default where it is absent. */
  maxLength?: number
  group?: string
  port?: number
  ttl?: number
}

/** The kernel's IPVS refused a request: `code` is its errno, `message` what it means for that request. */
export class KernelIpvsError extends Error {
  constructor(
    readonly code: string,
    /** What was asked for. */
    readonly operation: string,
    options?: ErrorOptions,
  ) {
    super(meaningOf(code, operation), options)
    this.name = 'KernelIpvsError'
  }
}

/**
 * The kernel's IPVS over generic netlink, of the network namespace that the process is in. Its types are the
 * director's own, so what one lists the other can be given.
 *
 *   const kernel = await IpvsClient.open()
 *   await kernel.addService({ protocol: 'tcp', address: '192.0.2.1', port: 80 }, options)
 *   for (const service of await kernel.services()) …
 *   kernel.close()
 *
 * Every method throws KernelIpvsError with what the kernel means by its refusal.
 */
export class IpvsClient {
  private constructor(
    private readonly socket: GenericNetlinkSocket,
    private readonly family: number,
  ) {}

  /** Connects to the kernel, which loads IPVS if it can. */
  static async open(): Promise<IpvsClient> {
    const socket = createGenericNetlink({
      ref: false,
      recvBufferSize: BUFFER_BYTES,
      sendBufferSize: BUFFER_BYTES,
    })
    // An 'error' that nobody listens to would end the process inside the library's native callback.
    socket.socket.socket.on('error', () => {})
    try {
      const family = await familyNumber(socket)
      return new IpvsClient(socket, family)
    } catch (error) {
      socket.socket.close()
      throw error
    }
  }

  close(): void {
    this.socket.socket.close()
  }

  /** Version of IPVS as `1.2.1`, and buckets in its connection table. */
  async info(): Promise<{ version: string; tableSize: number }> {
    const [answer] = await this.request('get info', IpvsCommand.getInfo, [])
    const version = answer!.number(InfoAttribute.version)
    return {
      version: `${(version >> 16) & 0xff}.${(version >> 8) & 0xff}.${version & 0xff}`,
      tableSize: answer!.number(InfoAttribute.tableSize),
    }
  }

  /** All services with their destinations, in the kernel's order. */
  async services(): Promise<ServiceStatus[]> {
    const answers = await this.request('list services', IpvsCommand.getService, [], NLM_F_DUMP)
    const services: ServiceStatus[] = []
    for (const answer of answers) {
      const service = parseService(answer.nested(CommandAttribute.service)!)
      try {
        services.push({ ...service, destinations: await this.destinations(service.service) })
      } catch (error) {
        // It was deleted meanwhile.
        if (!(error instanceof KernelIpvsError && error.code === 'ESRCH')) throw error
      }
    }
    return services
  }

  /** One service; undefined when the kernel has none of this key. */
  async service(key: ServiceKey): Promise<ServiceStatus | undefined> {
    try {
      const [answer] = await this.request('get service', IpvsCommand.getService, [
        nested(CommandAttribute.service, serviceKey(key)),
      ])
      const service = parseService(answer!.nested(CommandAttribute.service)!)
      return { ...service, destinations: await this.destinations(key) }
    } catch (error) {
      if (error instanceof KernelIpvsError && error.code === 'ESRCH') return undefined
      throw error
    }
  }

  async addService(key: ServiceKey, options: ServiceOptions): Promise<void> {
    await this.request('add service', IpvsCommand.newService, [serviceAttribute(key, options)])
  }

  async editService(key: ServiceKey, options: ServiceOptions): Promise<void> {
    await this.request('edit service', IpvsCommand.setService, [serviceAttribute(key, options)])
  }

  async deleteService(key: ServiceKey): Promise<void> {
    await this.request('delete service', IpvsCommand.deleteService, [
      nested(CommandAttribute.service, serviceKey(key)),
    ])
  }

  async destinations(key: ServiceKey): Promise<DestinationStatus[]> {
    const answers = await this.request(
      'list destinations',
      IpvsCommand.getDestination,
      [nested(CommandAttribute.service, serviceKey(key))],
      NLM_F_DUMP,
    )
    return answers.map((answer) =>
      parseDestination(answer.nested(CommandAttribute.destination)!, familyOfService(key)),
    )
  }

  async addDestination(
    service: ServiceKey,
    destination: DestinationKey,
    options: DestinationOptions,
  ): Promise<void> {
    await this.request('add destination', IpvsCommand.newDestination, [
      nested(CommandAttribute.service, serviceKey(service)),
      destinationAttribute(destination, options),
    ])
  }

  async editDestination(
    service: ServiceKey,
    destination: DestinationKey,
    options: DestinationOptions,
  ): Promise<void> {
    await this.request('edit destination', IpvsCommand.setDestination, [
      nested(CommandAttribute.service, serviceKey(service)),
      destinationAttribute(destination, options),
    ])
  }

  async deleteDestination(service: ServiceKey, destination: DestinationKey): Promise<void> {
    await this.request('delete destination', IpvsCommand.deleteDestination, [
      nested(CommandAttribute.service, serviceKey(service)),
      destinationAttribute(destination),
    ])
  }

  /** Zeroes the counters of one service, or of all. */
  async zero(service?: ServiceKey): Promise<void> {
    const which = service ? [nested(CommandAttribute.service, serviceKey(service))] : []
    await this.request('zero counters', IpvsCommand.zero, which)
  }

  /** Deletes all services. Connections live on, as the kernel has it. */
  async flush(): Promise<void> {
    await this.request('flush services', IpvsCommand.flush, [])
  }

  async timeouts(): Promise<Timeouts> {
    const [answer] = await this.request('get timeouts', IpvsCommand.getConfig, [])
    return {
      tcp: answer!.number(CommandAttribute.timeoutTcp),
      tcpFin: answer!.number(CommandAttribute.timeoutTcpFin),
      udp: answer!.number(CommandAttribute.timeoutUdp),
    }
  }

  /** In seconds; 0 leaves one as it is. */
  async setTimeouts({ tcp, tcpFin, udp }: Timeouts): Promise<void> {
    await this.request('set timeouts', IpvsCommand.setConfig, [
      u32(CommandAttribute.timeoutTcp, tcp),
      u32(CommandAttribute.timeoutTcpFin, tcpFin),
      u32(CommandAttribute.timeoutUdp, udp),
    ])
  }

  async daemons(): Promise<SyncDaemon[]> {
    const answers = await this.request('list daemons', IpvsCommand.getDaemon, [], NLM_F_DUMP)
    return answers.map((answer) => parseDaemon(answer.nested(CommandAttribute.daemon)!))
  }

  async startDaemon(daemon: SyncDaemon): Promise<void> {
    await this.request('start daemon', IpvsCommand.newDaemon, [daemonAttribute(daemon)])
  }

  async stopDaemon(state: SyncDaemon['state']): Promise<void> {
    await this.request('stop daemon', IpvsCommand.deleteDaemon, [
      nested(CommandAttribute.daemon, [u32(DaemonAttribute.state, DaemonState[state])]),
    ])
  }

  private async request(
    operation: string,
    command: number,
    attributes: readonly Uint8Array[],
    flags = 0,
  ): Promise<Attributes[]> {
    try {
      const [messages] = await this.socket.request(
        this.family,
        command,
        VERSION,
        Buffer.concat(attributes),
        { flags },
      )
      return messages.map((message) => new Attributes(message.data))
    } catch (error) {
      throw refusal(error, operation)
    }
  }
}

async function familyNumber(socket: GenericNetlinkSocket): Promise<number> {
  const GET_FAMILY = 3
  try {
    const [answer] = await socket.ctrlRequest(GET_FAMILY, { familyName: FAMILY })
    return answer!.familyId!
  } catch (error) {
    throw refusal(error, 'find IPVS')
  }
}

/** The library says the errno in its message alone. */
function refusal(error: unknown, operation: string): Error {
  const code = /: (E[A-Z0-9]+|\d+)$/.exec((error as Error).message)?.[1]
  if (code === undefined) return error as Error
  return new KernelIpvsError(code, operation, { cause: error })
}

/** What each errno means depends on the request (net/netfilter/ipvs/ip_vs_ctl.c). */
const meanings: Record<string, string> = {
  EPERM: 'the kernel allows it only with CAP_NET_ADMIN: run as root',
  'find IPVS ENOENT': 'the kernel has no IPVS: modprobe ip_vs',
  'add service EEXIST': 'there is such a service already',
  'add service ENOENT': 'the kernel has no such scheduler or persistence engine',
  'edit service ENOENT': 'the kernel has no such scheduler or persistence engine',
  'add destination EEXIST': 'the service has such a destination already',
  'edit destination ENOENT': 'the service has no such destination',
  'delete destination ENOENT': 'the service has no such destination',
  'add destination ERANGE': 'a weight or threshold is out of range',
  'start daemon EEXIST': 'such a sync daemon runs already',
  'stop daemon ESRCH': 'no such sync daemon runs',
  'start daemon ENODEV': 'there is no such interface',
  ESRCH: 'there is no such service',
  EINVAL: 'the kernel takes no such value',
  EAFNOSUPPORT: 'the kernel was built without IPVS for this address family',
  ENOMEM: 'the kernel has no memory left for it',
}

function meaningOf(code: string, operation: string): string {
  const meaning = meanings[`${operation} ${code}`] ?? meanings[code]
  return meaning ? `${operation}: ${meaning} (${code})` : `${operation}: ${code}`
}

// -- services

const familyOfAddress = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET)

function familyOfService(key: ServiceKey): number {
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

function serviceAttribute(key: ServiceKey, options: ServiceOptions): Buffer {
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

function parseService(attributes: Attributes): Omit<ServiceStatus, 'destinations'> {
  const family = attributes.number(ServiceAttribute.family)
  const isV6 = family === AF_INET6
  const scheduler = attributes.text(ServiceAttribute.scheduler)
  const flags = attributes.bytes(ServiceAttribute.flags)?.readUInt32LE() ?? 0
  const engine = attributes.text(ServiceAttribute.persistenceEngine)
  const names = schedulerFlagNames[scheduler] ?? []
  const netmask = attributes.number(ServiceAttribute.netmask)
  const isPersistent = (flags & ServiceFlag.persistent) !== 0
  return {
    service: attributes.has(ServiceAttribute.fwmark)
      ? { fwmark: attributes.number(ServiceAttribute.fwmark), family: isV6 ? 6 : 4 }
      : {
          protocol: protocolNames.get(attributes.number(ServiceAttribute.protocol)) ?? 'tcp',
          address: addressText(attributes.bytes(ServiceAttribute.address)!, family),
          port: attributes.numberBe(ServiceAttribute.port),
        },
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

// -- destinations

const forwardingNumbers: Record<ForwardingMethod, number> = {
  masquerade: Forwarding.masquerade,
  tunnel: Forwarding.tunnel,
  'direct-route': Forwarding.directRoute,
}

function destinationAttribute(key: DestinationKey, options?: DestinationOptions): Buffer {
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

function parseDestination(attributes: Attributes, serviceFamily: number): DestinationStatus {
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

function daemonAttribute(daemon: SyncDaemon): Buffer {
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

function parseDaemon(attributes: Attributes): SyncDaemon {
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

// -- addresses: 16 bytes in network order, of which IPv4 takes the first four

function addressBytes(address: string): Buffer {
  const bytes = Buffer.alloc(ADDRESS_BYTES)
  if (familyOfAddress(address) === AF_INET6)
    ipv6.parseAddress(address)!.forEach((word, i) => bytes.writeInt32LE(word, 4 * i))
  else bytes.writeInt32LE(ipv4.parseAddress(address)!)
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
