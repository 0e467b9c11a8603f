/**
 * rtnetlink messages of IPv4: what the daemon reads and writes, and their bytes. The library's own typed
 * messages do not say whether something came or went, and leave out attributes that they do not know, so
 * only its attribute streams are used here. Layouts are those of include/uapi/linux/{rtnetlink,if_link,
 * if_addr,neighbour,fib_rules}.h.
 */
import { AttrStream, parseAttributes, putString, putU32, putU8, readU16, readU32 } from 'netlink'
import type { NeighbourState } from '../core/route-table.js'
import { formatMac, parseMac } from '../wire/ethernet.js'

/** The rtnetlink protocol number (RTPROT_*) on everything that uvs has programmed: 'u'. Nobody else has registered it. */
export const UVS_PROTOCOL = 117
/** What the kernel marks its own three rules with. */
export const KERNEL_PROTOCOL = 2

export const Table = { default: 253, main: 254, local: 255 } as const

export const MessageType = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  newAddress: 20,
  deleteAddress: 21,
  getAddress: 22,
  newRoute: 24,
  deleteRoute: 25,
  getRoute: 26,
  newNeighbour: 28,
  deleteNeighbour: 29,
  getNeighbour: 30,
  newRule: 32,
  deleteRule: 33,
  getRule: 34,
} as const

/** Multicast groups (RTNLGRP_*). */
export const Group = { link: 1, neighbour: 3, address: 5, route: 7, rule: 8 } as const

export interface KernelLink {
  index: number
  name: string
  /** IFF_UP. */
  up: boolean
  mtu: number
  /** Absent where there is no Ethernet address. */
  mac?: string
  master?: number
  isLoopback: boolean
}

export interface KernelAddress {
  interfaceIndex: number
  address: string
  prefixLength: number
  secondary: boolean
}

export const RouteType = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
  nat: 10,
} as const
export type RouteTypeName = keyof typeof RouteType

export interface KernelNextHop {
  interfaceIndex: number
  gateway?: string
  weight: number
}

export interface KernelRoute {
  table: number
  /** `10.0.0.0/8` */
  prefix: string
  tos: number
  type: RouteTypeName
  /** RTPROT_* */
  protocol: number
  /** RT_SCOPE_*: 0 universe, 253 link, 254 host. */
  scope: number
  metric: number
  preferredSource?: string
  mtu?: number
  nextHops: KernelNextHop[]
}

export type RuleAction = 'lookup' | 'goto' | 'nop' | 'other'

export interface KernelRule {
  priority: number
  action: RuleAction
  /** Table of `lookup`; goto and nop rules keep one too, without meaning. */
  table: number
  /** Priority that `goto` goes on at. */
  target?: number
  /** FRA_PROTOCOL: who made it. */
  protocol: number
  /** Interface that the packet came in by, `lo` for the machine's own. */
  inputInterface?: string
  /** True while there is no interface of that name. */
  inputInterfaceMissing?: boolean
  /** Prefixes. */
  from?: string
  to?: string
  ipProtocol?: number
  destinationPorts?: [first: number, last: number]
  sourcePorts?: [first: number, last: number]
  /** It has selectors beyond those above, so it is never one of ours. */
  hasMore?: boolean
}

export interface KernelNeighbour {
  interfaceIndex: number
  address: string
  mac?: string
  state: NeighbourState
  /** A proxy entry: ARP for the address is answered on behalf of another machine. */
  proxy: boolean
  protocol: number
}

/** One change that the kernel tells of. */
export type KernelEvent =
  | { kind: 'link'; gone: boolean; link: KernelLink }
  | { kind: 'address'; gone: boolean; address: KernelAddress }
  | { kind: 'route'; gone: boolean; route: KernelRoute; place: 'replace' | 'append' | undefined }
  | { kind: 'neighbour'; gone: boolean; neighbour: KernelNeighbour }
  | { kind: 'rule'; gone: boolean; rule: KernelRule }

const AF_INET = 2
const ANY_ADDRESS = '0.0.0.0'

const IFF_UP = 0x1
const IFF_LOOPBACK = 0x8
const ARPHRD_ETHER = 1
const IFLA = { address: 1, name: 3, mtu: 4, master: 10, txQueueLength: 13 } as const
const IFA = { address: 1, local: 2, flags: 8 } as const
const IFA_F_SECONDARY = 0x01
const RTA = {
  destination: 1,
  source: 2,
  inputInterface: 3,
  outputInterface: 4,
  gateway: 5,
  priority: 6,
  preferredSource: 7,
  metrics: 8,
  multipath: 9,
  table: 15,
  via: 18,
} as const
const RTAX_MTU = 2
const RTM_F_CLONED = 0x200
const FRA = {
  destination: 1,
  source: 2,
  inputInterface: 3,
  goto: 4,
  priority: 6,
  flow: 11,
  suppressPrefixLength: 14,
  table: 15,
  pad: 18,
  protocol: 21,
  ipProtocol: 22,
  sourcePorts: 23,
  destinationPorts: 24,
} as const
const FIB_RULE_INVERT = 0x2
const FIB_RULE_IIF_DETACHED = 0x8
const RULE_ACTIONS: readonly RuleAction[] = ['other', 'lookup', 'goto', 'nop']
const NDA = { destination: 1, linkLayerAddress: 2, protocol: 12 } as const
/** Flags of a neighbour (NTF_*). */
export const NTF_USE = 0x01
const NTF_PROXY = 0x08
const NEIGHBOUR_STATES: Record<NeighbourState, number> = {
  none: 0,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
}
const stateNames = new Map(
  Object.entries(NEIGHBOUR_STATES).map(([name, bit]) => [bit, name as NeighbourState]),
)
const routeTypeNames = new Map(
  Object.entries(RouteType).map(([name, number]) => [number, name as RouteTypeName]),
)
const NLM_F_REPLACE = 0x100
const NLM_F_APPEND = 0x800

type Attributes = Map<number, Buffer>

function attributesOf(bytes: Buffer): Attributes {
  const attributes: Attributes = new Map()
  parseAttributes(bytes, ({ type, data }) => attributes.set(type, Buffer.from(data)))
  return attributes
}

const u16 = (bytes: Buffer, offset = 0): number => readU16.call(bytes, offset)
const u32 = (bytes: Buffer, offset = 0): number => readU32.call(bytes, offset)
const number = (bytes: Buffer | undefined): number | undefined =>
  bytes === undefined ? undefined : u32(bytes)
const text = (bytes: Buffer | undefined): string | undefined =>
  bytes === undefined ? undefined : bytes.toString('utf8', 0, bytes.indexOf(0))
const dotted = (bytes: Buffer | undefined): string | undefined =>
  bytes?.length === 4 ? bytes.join('.') : undefined
const macText = (bytes: Buffer | undefined): string | undefined =>
  bytes?.length === 6 ? formatMac(bytes) : undefined

/** Leaves out what is undefined, as exactOptionalPropertyTypes asks. */
function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]: V })
}

// -- from the kernel

/** What a message of the kernel says; undefined when it is not about IPv4 or not of interest. */
export function readMessage(type: number, flags: number, data: Buffer): KernelEvent | undefined {
  switch (type) {
    case MessageType.newLink:
    case MessageType.deleteLink: {
      const link = readLink(data)
      return link && { kind: 'link', gone: type === MessageType.deleteLink, link }
    }
    case MessageType.newAddress:
    case MessageType.deleteAddress: {
      const address = readAddress(data)
      return address && { kind: 'address', gone: type === MessageType.deleteAddress, address }
    }
    case MessageType.newRoute:
    case MessageType.deleteRoute: {
      const route = readRoute(data)
      const place =
        (flags & NLM_F_REPLACE) !== 0
          ? 'replace'
          : (flags & NLM_F_APPEND) !== 0
            ? 'append'
            : undefined
      return route && { kind: 'route', gone: type === MessageType.deleteRoute, route, place }
    }
    case MessageType.newNeighbour:
    case MessageType.deleteNeighbour: {
      const neighbour = readNeighbour(data)
      return (
        neighbour && { kind: 'neighbour', gone: type === MessageType.deleteNeighbour, neighbour }
      )
    }
    case MessageType.newRule:
    case MessageType.deleteRule: {
      const rule = readRule(data)
      return rule && { kind: 'rule', gone: type === MessageType.deleteRule, rule }
    }
    default:
      return undefined
  }
}

function readLink(data: Buffer): KernelLink | undefined {
  // A bridge tells of its ports in messages of family AF_BRIDGE, which say nothing of the interface itself.
  if (data[0] !== 0) return undefined
  const attributes = attributesOf(data.subarray(16))
  const flags = u32(data, 8)
  const isEthernet = u16(data, 2) === ARPHRD_ETHER
  return {
    index: u32(data, 4),
    name: text(attributes.get(IFLA.name)) ?? '',
    up: (flags & IFF_UP) !== 0,
    mtu: number(attributes.get(IFLA.mtu)) ?? 0,
    isLoopback: (flags & IFF_LOOPBACK) !== 0,
    ...optional('mac', isEthernet ? macText(attributes.get(IFLA.address)) : undefined),
    ...optional('master', number(attributes.get(IFLA.master))),
  }
}

function readAddress(data: Buffer): KernelAddress | undefined {
  if (data[0] !== AF_INET) return undefined
  const attributes = attributesOf(data.subarray(8))
  // On a point-to-point link IFA_ADDRESS is the peer's.
  const address = dotted(attributes.get(IFA.local)) ?? dotted(attributes.get(IFA.address))
  if (address === undefined) return undefined
  const flags = number(attributes.get(IFA.flags)) ?? data[2]!
  return {
    interfaceIndex: u32(data, 4),
    address,
    prefixLength: data[1]!,
    secondary: (flags & IFA_F_SECONDARY) !== 0,
  }
}

function readRoute(data: Buffer): KernelRoute | undefined {
  if (data[0] !== AF_INET || (u32(data, 8) & RTM_F_CLONED) !== 0) return undefined
  const attributes = attributesOf(data.subarray(12))
  const type = routeTypeNames.get(data[7]!)
  if (type === undefined) return undefined
  const metrics = attributes.get(RTA.metrics)
  return {
    table: number(attributes.get(RTA.table)) ?? data[4]!,
    prefix: `${dotted(attributes.get(RTA.destination)) ?? ANY_ADDRESS}/${data[1]}`,
    tos: data[3]!,
    type,
    protocol: data[5]!,
    scope: data[6]!,
    metric: number(attributes.get(RTA.priority)) ?? 0,
    ...optional('preferredSource', dotted(attributes.get(RTA.preferredSource))),
    ...optional('mtu', metrics && number(attributesOf(metrics).get(RTAX_MTU))),
    nextHops: readNextHops(attributes),
  }
}

/** Next hops with an IPv6 gateway are left out: IPv4 packets for them stay with the kernel. */
function readNextHops(attributes: Attributes): KernelNextHop[] {
  const multipath = attributes.get(RTA.multipath)
  if (multipath === undefined) {
    const interfaceIndex = number(attributes.get(RTA.outputInterface))
    if (interfaceIndex === undefined || attributes.has(RTA.via)) return []
    return [
      { interfaceIndex, ...optional('gateway', dotted(attributes.get(RTA.gateway))), weight: 1 },
    ]
  }
  const nextHops: KernelNextHop[] = []
  for (let at = 0; at + 8 <= multipath.length;) {
    const length = u16(multipath, at)
    const own = attributesOf(multipath.subarray(at + 8, at + length))
    if (!own.has(RTA.via))
      nextHops.push({
        interfaceIndex: u32(multipath, at + 4),
        ...optional('gateway', dotted(own.get(RTA.gateway))),
        // rtnh_hops is the weight less one.
        weight: multipath[at + 3]! + 1,
      })
    at += (length + 3) & ~3
  }
  return nextHops
}

function readNeighbour(data: Buffer): KernelNeighbour | undefined {
  if (data[0] !== AF_INET) return undefined
  const attributes = attributesOf(data.subarray(12))
  const address = dotted(attributes.get(NDA.destination))
  if (address === undefined) return undefined
  return {
    interfaceIndex: u32(data, 4),
    address,
    ...optional('mac', macText(attributes.get(NDA.linkLayerAddress))),
    state: stateNames.get(u16(data, 8)) ?? 'none',
    proxy: (data[10]! & NTF_PROXY) !== 0,
    protocol: attributes.get(NDA.protocol)?.[0] ?? 0,
  }
}

/** Attributes that the kernel always sends, or that are read here. */
const plainRuleAttributes = new Set<number>(Object.values(FRA))

function readRule(data: Buffer): KernelRule | undefined {
  if (data[0] !== AF_INET) return undefined
  const attributes = attributesOf(data.subarray(12))
  const flags = u32(data, 8)
  const prefix = (type: number, length: number): string | undefined => {
    const address = dotted(attributes.get(type))
    return address === undefined ? undefined : `${address}/${length}`
  }
  const ports = (type: number): [number, number] | undefined => {
    const range = attributes.get(type)
    return range && [u16(range, 0), u16(range, 2)]
  }
  const hasMore =
    [...attributes.keys()].some((type) => !plainRuleAttributes.has(type)) ||
    (flags & FIB_RULE_INVERT) !== 0 ||
    data[3] !== 0 ||
    (number(attributes.get(FRA.flow)) ?? 0) !== 0 ||
    (number(attributes.get(FRA.suppressPrefixLength)) ?? 0xffffffff) !== 0xffffffff
  return {
    priority: number(attributes.get(FRA.priority)) ?? 0,
    action: RULE_ACTIONS[data[7]!] ?? 'other',
    table: number(attributes.get(FRA.table)) ?? data[4]!,
    ...optional('target', number(attributes.get(FRA.goto))),
    protocol: attributes.get(FRA.protocol)?.[0] ?? 0,
    ...optional('inputInterface', text(attributes.get(FRA.inputInterface))),
    ...((flags & FIB_RULE_IIF_DETACHED) !== 0 ? { inputInterfaceMissing: true } : {}),
    ...optional('from', prefix(FRA.source, data[2]!)),
    ...optional('to', prefix(FRA.destination, data[1]!)),
    ...optional('ipProtocol', attributes.get(FRA.ipProtocol)?.[0]),
    ...optional('destinationPorts', ports(FRA.destinationPorts)),
    ...optional('sourcePorts', ports(FRA.sourcePorts)),
    ...(hasMore ? { hasMore } : {}),
  }
}

// -- to the kernel

/** A header of 12 bytes in front of the attributes: rtmsg, fib_rule_hdr and ndmsg. */
function message(headerBytes: number): { out: AttrStream; header: Buffer } {
  const out = new AttrStream()
  const header = Buffer.alloc(headerBytes)
  out.emit(header)
  return { out, header }
}

function addressBytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number))
}

function splitPrefix(prefix: string): [address: Buffer, length: number] {
  const [address = '', length = '32'] = prefix.split('/')
  return [addressBytes(address), Number(length)]
}

function u16Pair([first, last]: [number, number]): Buffer {
  return Buffer.from(Uint16Array.of(first, last).buffer)
}

/** Asks for a dump; `proxy` for the proxy entries among neighbours. */
export function dumpRequest(type: number, proxy = false): Buffer[] {
  const header = Buffer.alloc(type === MessageType.getLink ? 16 : 12)
  if (type !== MessageType.getLink) header[0] = AF_INET
  if (proxy) header[10] = NTF_PROXY
  return [type === MessageType.getAddress ? header.subarray(0, 8) : header]
}

export interface LinkChange {
  interfaceIndex: number
  up?: boolean
  mtu?: number
  /** Index of the bridge to enslave the interface to; 0 frees it. */
  master?: number
  /** Packets that the kernel queues for the device. */
  txQueueLength?: number
}

export function linkMessage(change: LinkChange): Buffer[] {
  const { out, header } = message(16)
  header.writeInt32LE(change.interfaceIndex, 4)
  if (change.up !== undefined) {
    header.writeUInt32LE(change.up ? IFF_UP : 0, 8)
    header.writeUInt32LE(IFF_UP, 12)
  }
  if (change.mtu !== undefined) out.push(IFLA.mtu, putU32(change.mtu))
  if (change.master !== undefined) out.push(IFLA.master, putU32(change.master))
  if (change.txQueueLength !== undefined) out.push(IFLA.txQueueLength, putU32(change.txQueueLength))
  return buffersOf(out)
}

export function addressMessage(address: Omit<KernelAddress, 'secondary'>): Buffer[] {
  const { out, header } = message(8)
  header[0] = AF_INET
  header[1] = address.prefixLength
  header.writeUInt32LE(address.interfaceIndex, 4)
  const bytes = addressBytes(address.address)
  out.push(IFA.local, bytes)
  out.push(IFA.address, bytes)
  return buffersOf(out)
}

export function routeMessage(route: KernelRoute): Buffer[] {
  const { out, header } = message(12)
  const [destination, length] = splitPrefix(route.prefix)
  header[0] = AF_INET
  header[1] = length
  header[3] = route.tos
  header[5] = route.protocol
  header[6] = route.scope
  header[7] = RouteType[route.type]
  if (length > 0) out.push(RTA.destination, destination)
  // rtm_table is one byte; the attribute holds all of it.
  out.push(RTA.table, putU32(route.table))
  if (route.metric !== 0) out.push(RTA.priority, putU32(route.metric))
  if (route.preferredSource !== undefined)
    out.push(RTA.preferredSource, addressBytes(route.preferredSource))
  if (route.mtu !== undefined)
    out.push(RTA.metrics, (metrics) => metrics.push(RTAX_MTU, putU32(route.mtu!)))
  if (route.nextHops.length === 1) {
    const { interfaceIndex, gateway } = route.nextHops[0]!
    if (interfaceIndex !== 0) out.push(RTA.outputInterface, putU32(interfaceIndex))
    if (gateway !== undefined) out.push(RTA.gateway, addressBytes(gateway))
  } else if (route.nextHops.length > 1) {
    out.push(RTA.multipath, route.nextHops.flatMap(nextHopBytes))
  }
  return buffersOf(out)
}

function nextHopBytes({ interfaceIndex, gateway, weight }: KernelNextHop): Buffer[] {
  const { out, header } = message(8)
  if (gateway !== undefined) out.push(RTA.gateway, addressBytes(gateway))
  header.writeUInt16LE(out.offset, 0)
  header[3] = weight - 1
  header.writeInt32LE(interfaceIndex, 4)
  return buffersOf(out)
}

export function ruleMessage(rule: KernelRule): Buffer[] {
  const { out, header } = message(12)
  header[0] = AF_INET
  header[7] = RULE_ACTIONS.indexOf(rule.action)
  out.push(FRA.priority, putU32(rule.priority))
  out.push(FRA.protocol, putU8(rule.protocol))
  if (rule.action === 'lookup') out.push(FRA.table, putU32(rule.table))
  if (rule.target !== undefined) out.push(FRA.goto, putU32(rule.target))
  if (rule.inputInterface !== undefined)
    out.push(FRA.inputInterface, putString(rule.inputInterface))
  if (rule.to !== undefined) {
    const [address, length] = splitPrefix(rule.to)
    header[1] = length
    out.push(FRA.destination, address)
  }
  if (rule.from !== undefined) {
    const [address, length] = splitPrefix(rule.from)
    header[2] = length
    out.push(FRA.source, address)
  }
  if (rule.ipProtocol !== undefined) out.push(FRA.ipProtocol, putU8(rule.ipProtocol))
  if (rule.sourcePorts !== undefined) out.push(FRA.sourcePorts, u16Pair(rule.sourcePorts))
  if (rule.destinationPorts !== undefined)
    out.push(FRA.destinationPorts, u16Pair(rule.destinationPorts))
  return buffersOf(out)
}

export function neighbourMessage(
  neighbour: Pick<KernelNeighbour, 'interfaceIndex' | 'address' | 'mac' | 'proxy' | 'protocol'> & {
    state?: NeighbourState
  },
  flags = 0,
): Buffer[] {
  const { out, header } = message(12)
  header[0] = AF_INET
  header.writeInt32LE(neighbour.interfaceIndex, 4)
  header.writeUInt16LE(NEIGHBOUR_STATES[neighbour.state ?? 'none'], 8)
  header[10] = flags | (neighbour.proxy ? NTF_PROXY : 0)
  out.push(NDA.destination, addressBytes(neighbour.address))
  if (neighbour.mac !== undefined) out.push(NDA.linkLayerAddress, parseMac(neighbour.mac)!)
  if (neighbour.protocol !== 0) out.push(NDA.protocol, putU8(neighbour.protocol))
  return buffersOf(out)
}

/** The library sends Buffers only. */
function buffersOf(out: AttrStream): Buffer[] {
  return out.bufs.map((bytes) => (Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes)))
}
