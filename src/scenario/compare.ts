import {
  bytesOf,
  decodePacket,
  guePacket,
  hasRightChecksum,
  hexOf,
  isIcmpError,
  onesSum,
  Protocol,
} from './decode.js'
import { withoutTimes } from './option-times.js'
import type { Event } from './scenario.js'
import type {
  ConnectionRecord,
  EndRecord,
  IpvsadmRecord,
  PacketRecord,
  SentPacket,
  Trace,
  TraceRecord,
} from './trace.js'

/**
 * The comparison of two traces. All that a trace holds is compared; what is left out is left out by name:
 *
 * - what the kernel draws at random in packets that the director itself originates (a tunnel's outer header,
 *   an ICMP error): the IPv4 identification where DF is clear, or in fragments that have one, and with it the header checksum, which must be
 *   right; the flow label of an ICMPv6 error; the UDP source port of Generic UDP Encapsulation
 * - the identification of IPv6 fragments that the director cuts, of which it has put none but its own there
 * - the order of services and of connections in listings, which in the kernel depends on where its data
 *   structures lie in memory
 * - the times of day in IPv4 timestamp options, and checksums over them, which must be right
 * - a second more or less in what is left of a connection's time
 */

/** The first difference of two traces. */
export interface Difference {
  /** What sort of difference it is, equal for two that have the same cause most likely: `out: TTL`. */
  readonly kind: string
  /** Line of the scenario, undefined at the end of it. */
  readonly line: number | undefined
  /** Place of the records in their traces. */
  readonly index: number
  /** Undefined where a trace ends early. */
  readonly ours: TraceRecord | undefined
  readonly kernels: TraceRecord | undefined
  /** What differs in these records, for people. */
  readonly details: readonly Detail[]
}

export interface Detail {
  /** What differs, as `TTL of the 1st packet sent`. */
  readonly name: string
  readonly ours: string
  readonly kernels: string
}

/** Differences in one record, the one that says most first. */
interface Found {
  kind: string
  details: Detail[]
}

/** Seconds that the time left to a connection may differ by. */
const EXPIRE_TOLERANCE_SECONDS = 1

/**
 * Compares what uvs and the kernel made of the same scenario.
 *
 * @param events of the scenario; every packet and ipvsadm command among them has a record in the traces
 * @returns the first difference, undefined when the traces agree
 */
export function compareTraces(
  events: readonly Event[],
  ours: Trace,
  kernels: Trace,
): Difference | undefined {
  const recorded = events.filter((event) => event.kind !== 'sysctl')
  const count = Math.max(ours.length, kernels.length, recorded.length + 1)
  for (let index = 0; index < count; index++) {
    const event = recorded[index]
    const found = compareRecords(event, ours[index], kernels[index])
    if (found)
      return {
        ...found,
        line: event?.line,
        index,
        ours: ours[index],
        kernels: kernels[index],
      }
  }
  return undefined
}

function compareRecords(
  event: Event | undefined,
  ours: TraceRecord | undefined,
  kernels: TraceRecord | undefined,
): Found | undefined {
  if (ours && kernels) {
    const found = compareSent(undefined, ours.before ?? [], kernels.before ?? [])
    if (found) return { ...found, kind: `${found.kind} as time passes` }
    if ('out' in ours && 'out' in kernels && event?.kind === 'packet')
      return comparePackets(event.packet, ours, kernels)
    if ('exit' in ours && 'exit' in kernels && event?.kind === 'ipvsadm')
      return compareCommands(ours, kernels)
    if ('end' in ours && 'end' in kernels && event === undefined) return compareEnds(ours, kernels)
  }
  const [a, b] = [recordName(ours), recordName(kernels)]
  return { kind: 'records', details: [{ name: 'record', ours: a, kernels: b }] }
}

function recordName(record: TraceRecord | undefined): string {
  if (!record) return 'none: the trace has ended'
  if ('end' in record) return 'the end'
  return `${'out' in record ? 'a packet' : 'a command'} of line ${record.line}`
}

// -- packets

function comparePackets(
  received: Uint8Array,
  ours: PacketRecord,
  kernels: PacketRecord,
): Found | undefined {
  const sent = compareSent(received, ours.out, kernels.out)
  if (ours.declined === kernels.declined) return sent
  const declined = {
    name: 'declined',
    ours: String(ours.declined),
    kernels: String(kernels.declined),
  }
  return { kind: 'declined', details: [declined, ...(sent?.details ?? [])] }
}

/** @param received the packet that they were sent because of, if they were */
function compareSent(
  received: Uint8Array | undefined,
  ours: readonly SentPacket[],
  kernels: readonly SentPacket[],
): Found | undefined {
  const details: Detail[] = []
  let kind: string | undefined
  const differ = (what: string, name: string, a: string, b: string): void => {
    kind ??= what
    details.push({ name, ours: a, kernels: b })
  }
  const [a, b] = [bySide(ours), bySide(kernels)]
  if (a.length !== b.length)
    differ(
      `out: ${a.length} packets instead of ${b.length}`,
      'packets sent',
      String(a.length),
      String(b.length),
    )
  const [ourIds, kernelIds] = [new Map<string, number>(), new Map<string, number>()]
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const of = a.length > 1 ? ` of packet ${i + 1}` : ''
    for (const field of ['side', 'dmac'] as const)
      if (a[i]![field] !== b[i]![field])
        differ(`out: ${field}`, field + of, a[i]![field], b[i]![field])
    const [x, y] = [
      withoutTimes(withoutRandom(received ?? NOTHING, bytesOf(a[i]!.ip), ourIds)),
      withoutTimes(withoutRandom(received ?? NOTHING, bytesOf(b[i]!.ip), kernelIds)),
    ]
    for (const { name, ours, kernels } of differingFields(x, y))
      differ(`out: ${name}`, name + of, ours, kernels)
  }
  return kind === undefined ? undefined : { kind, details }
}

const NOTHING = new Uint8Array()

/** Packets sent on both links are compared link by link: which went first is not to be seen from outside. */
function bySide(out: readonly SentPacket[]): SentPacket[] {
  return [
    ...out.filter(({ side }) => side === 'client'),
    ...out.filter(({ side }) => side === 'server'),
  ]
}

/** What differs between two packets, in words; a field that only one has is `none` in the other. */
export function differingFields(ours: Uint8Array, kernels: Uint8Array): Detail[] {
  const [a, b] = [new Map(decodePacket(ours)), new Map(decodePacket(kernels))]
  const details: Detail[] = []
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [x, y] = [a.get(name) ?? 'none', b.get(name) ?? 'none']
    if (x !== y) details.push({ name, ours: x, kernels: y })
  }
  // Fields before checksums: these follow from those.
  const isSum = ({ name }: Detail): boolean => /checksum$|total length$/.test(name)
  return [...details.filter((detail) => !isSum(detail)), ...details.filter(isSum)]
}

/**
 * A packet with what the kernel draws at random in it replaced: identifications by their order of appearance,
 * so that fragments still have to share theirs; the header checksum by 0 if it is right; a flow label and a
 * port by 0. Any other packet as it is.
 *
 * @param ids identifications that earlier packets of the same record had, by the packets they were in
 */
function withoutRandom(
  received: Uint8Array,
  sent: Uint8Array,
  ids: Map<string, number>,
): Uint8Array {
  const isOwn = isOriginated(received, sent, ids)
  if (sent.length > 0 && sent[0]! >> 4 === 6) {
    const copy = withoutIdentificationIpv6(received, sent, ids)
    if (!isOwn) return copy
    const { protocol, offset } = transportOf(copy)!
    if (protocol === Protocol.icmpv6) {
      copy[1]! &= 0xf0
      copy[2] = copy[3] = 0
    }
    return maskGuePort(copy, offset)
  }
  if (!isOwn) return sent
  const copy = sent.slice()
  const headerBytes = (copy[0]! & 15) * 4
  // With DF it is 0, but in fragments of a packet that had none.
  const isFragment = (((copy[6]! << 8) | copy[7]!) & 0x3fff) !== 0
  const isDrawn = (copy[6]! & 0x40) === 0 || (isFragment && (copy[4]! | copy[5]!) !== 0)
  if (isDrawn) {
    const key = fragmentKey(copy)
    const id = ids.get(key) ?? ids.size + 1
    ids.set(key, id)
    const right = onesSum(copy, 0, headerBytes) === 0xffff
    copy[4] = id >> 8
    copy[5] = id & 0xff
    if (right) copy[10] = copy[11] = 0
  }
  return maskGuePort(copy, headerBytes)
}

/** Where the fragment header of an IPv6 packet is, undefined when it has none. */
function fragmentHeaderIpv6(packet: Uint8Array): number | undefined {
  if (packet.length < 40 || packet[0]! >> 4 !== 6) return undefined
  const passedOver: readonly number[] = [
    Protocol.hopByHop,
    Protocol.routing,
    Protocol.destinationOptions,
  ]
  let next = packet[6]!
  let at = 40
  while (passedOver.includes(next) && at + 2 <= packet.length) {
    const length = (packet[at + 1]! + 1) * 8
    next = packet[at]!
    at += length
  }
  return next === Protocol.fragment && at + 8 <= packet.length ? at : undefined
}

/** A copy with a fragment's identification replaced by its order of appearance, unless it is the received one's. */
function withoutIdentificationIpv6(
  received: Uint8Array,
  sent: Uint8Array,
  ids: Map<string, number>,
): Uint8Array {
  const copy = sent.slice()
  const header = fragmentHeaderIpv6(sent)
  if (header === undefined) return copy
  const before = fragmentHeaderIpv6(received)
  const key = identificationIpv6(sent, header)
  if (before !== undefined && identificationIpv6(received, before) === key) return copy
  const id = ids.get(key) ?? ids.size + 1
  ids.set(key, id)
  copy.set([0, 0, id >> 8, id & 0xff], header + 4)
  return copy
}

function identificationIpv6(packet: Uint8Array, header: number): string {
  return hexOf(packet.subarray(header + 4, header + 8))
}

/**
 * In an originated packet only Generic UDP Encapsulation is UDP. Its source port is a hash with a secret, and
 * its checksum, which may be absent, covers that.
 */
function maskGuePort(packet: Uint8Array, at: number): Uint8Array {
  const transport = transportOf(packet)
  if (transport?.protocol !== Protocol.udp || transport.isLaterFragment) return packet
  if (packet.length < at + 8) return packet
  const hasChecksum = packet[at + 6] !== 0 || packet[at + 7] !== 0
  const isRight = transport.isFragment || hasRightChecksum(packet, at, Protocol.udp)
  packet[at] = packet[at + 1] = 0
  packet[at + 6] = 0
  packet[at + 7] = hasChecksum ? (isRight ? 1 : 2) : 0
  return packet
}

/**
 * Whether the director made the packet's first header by itself: an ICMP error that is not the one that it
 * received, or the outer header of a tunnel. A later fragment is what its first one is.
 */
function isOriginated(
  received: Uint8Array,
  sent: Uint8Array,
  ids: ReadonlyMap<string, number>,
): boolean {
  const transport = transportOf(sent)
  if (transport === undefined) return false
  if (transport.isLaterFragment) return sent[0]! >> 4 === 4 && ids.has(fragmentKey(sent))
  const data = sent.subarray(transport.offset)
  switch (transport.protocol) {
    case Protocol.icmp:
    case Protocol.icmpv6: {
      if (data.length < 8) return false
      if (!isIcmpError(data[0]!, transport.protocol === Protocol.icmpv6)) return false
      const complaint = errorQuote(received)
      if (!complaint) return true
      // An error about a tunnel's packet is answered by one about the packet inside it: the quote goes deeper.
      const inner = tunnelled(complaint)
      const quote = data.subarray(8)
      return inner !== undefined && sameEnds(inner, quote)
    }
    case Protocol.ipip:
    case Protocol.ipv6:
    case Protocol.gre:
    case Protocol.udp: {
      const inner = tunnelled(sent)
      if (inner === undefined || sameEnds(sent, received)) return false
      return sameEnds(inner, received) || (transport.isFragment && beginsAs(inner, received))
    }
    default:
      return false
  }
}

interface Transport {
  protocol: number
  offset: number
  /** Of any kind. */
  isFragment: boolean
  isLaterFragment: boolean
}

function transportOf(packet: Uint8Array): Transport | undefined {
  const version = packet.length > 0 ? packet[0]! >> 4 : 0
  if (version === 4 && packet.length >= 20) {
    const field = (packet[6]! << 8) | packet[7]!
    return {
      protocol: packet[9]!,
      offset: (packet[0]! & 15) * 4,
      isFragment: (field & 0x3fff) !== 0,
      isLaterFragment: (field & 0x1fff) !== 0,
    }
  }
  if (version !== 6 || packet.length < 40) return undefined
  const header = fragmentHeaderIpv6(packet)
  if (header === undefined)
    return { protocol: packet[6]!, offset: 40, isFragment: false, isLaterFragment: false }
  return {
    protocol: packet[header]!,
    offset: header + 8,
    isFragment: true,
    isLaterFragment: ((packet[header + 2]! << 8) | (packet[header + 3]! & 0xf8)) !== 0,
  }
}

/** What an ICMP error quotes, undefined when the packet is none. */
function errorQuote(packet: Uint8Array): Uint8Array | undefined {
  const transport = transportOf(packet)
  if (!transport || transport.isLaterFragment) return undefined
  const isIpv6 = transport.protocol === Protocol.icmpv6
  if (transport.protocol !== Protocol.icmp && !isIpv6) return undefined
  const data = packet.subarray(transport.offset)
  return data.length >= 8 && isIcmpError(data[0]!, isIpv6) ? data.subarray(8) : undefined
}

/** The packet inside a tunnel's, or what of it is there; undefined when there is none. */
function tunnelled(packet: Uint8Array): Uint8Array | undefined {
  const transport = transportOf(packet)
  if (!transport || transport.isLaterFragment) return undefined
  const data = packet.subarray(transport.offset)
  switch (transport.protocol) {
    case Protocol.ipip:
    case Protocol.ipv6:
      return data
    case Protocol.gre: {
      if (data.length < 4) return undefined
      const words = [0x80, 0x20, 0x10].filter((bit) => data[0]! & bit).length
      return data.subarray(4 + 4 * words)
    }
    case Protocol.udp: {
      if (data.length < 12) return undefined
      // Of a fragment or a quote only the beginning is there, so the lengths inside need not agree.
      return guePacket(data) ?? data.subarray(12 + (data[8]! & 0x1f) * 4)
    }
    default:
      return undefined
  }
}

/** Whether what is there of an IPv4 header that does not fit into a fragment is of the packet that was received. */
function beginsAs(inner: Uint8Array, received: Uint8Array): boolean {
  const isShort = inner.length < 20 && received.length >= 20 && received[0]! >> 4 === 4
  return isShort && inner.subarray(12).every((byte, i) => byte === received[12 + i])
}

/** Whether two packets have the same source, destination and protocol: one is the other, forwarded. */
function sameEnds(a: Uint8Array, b: Uint8Array): boolean {
  const version = a.length > 0 ? a[0]! >> 4 : 0
  if (b.length === 0 || b[0]! >> 4 !== version) return false
  const [start, end] = version === 6 ? [8, 40] : [12, 20]
  if (a.length < end || b.length < end) return false
  if (transportOf(a)?.protocol !== transportOf(b)?.protocol) return false
  for (let i = start; i < end; i++) if (a[i] !== b[i]) return false
  return true
}

/** What the fragments of one packet have in common. */
function fragmentKey(packet: Uint8Array): string {
  const id = (packet[4]! << 8) | packet[5]!
  return [packet[9], id, ...packet.subarray(12, 20)].join('.')
}

// -- commands and listings

function compareCommands(ours: IpvsadmRecord, kernels: IpvsadmRecord): Found | undefined {
  if (ours.exit !== kernels.exit || ours.stderr !== kernels.stderr) {
    const details: Detail[] = []
    if (ours.exit !== kernels.exit)
      details.push({ name: 'exit', ours: String(ours.exit), kernels: String(kernels.exit) })
    if (ours.stderr !== kernels.stderr)
      details.push({ name: 'stderr', ours: ours.stderr, kernels: kernels.stderr })
    return { kind: details[0]!.name, details }
  }
  if (ours.stdout === kernels.stdout) return undefined
  const [a, b] = [parseConnections(ours.stdout), parseConnections(kernels.stdout)]
  if (a && b) return compareConnections(a, b)
  return compareServices(ours.stdout, kernels.stdout, 'stdout')
}

function compareEnds(ours: EndRecord, kernels: EndRecord): Found | undefined {
  return (
    compareServices(ours.services, kernels.services, 'services') ??
    compareConnections(ours.connections, kernels.connections)
  )
}

/**
 * Compares listings of services as `-L` or `-S` print them, each service with its destinations in their
 * order, the services in any.
 */
function compareServices(ours: string, kernels: string, kind: string): Found | undefined {
  const [a, b] = [serviceBlocks(ours), serviceBlocks(kernels)]
  const details: Detail[] = []
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [x, y] = [a.get(name), b.get(name)]
    if (x === y) continue
    if (x === undefined || y === undefined) {
      details.push({ name, ours: x ?? 'none', kernels: y ?? 'none' })
      continue
    }
    const [ourLines, kernelLines] = [x.split('\n'), y.split('\n')]
    for (let i = 0; i < Math.max(ourLines.length, kernelLines.length); i++)
      if (ourLines[i] !== kernelLines[i])
        details.push({ name, ours: ourLines[i] ?? 'none', kernels: kernelLines[i] ?? 'none' })
  }
  return details.length > 0 ? { kind, details } : undefined
}

/** Lines of a listing by the service that they belong to; the titles belong to none. */
function serviceBlocks(text: string): Map<string, string> {
  const blocks = new Map<string, string>()
  let name = 'title'
  for (const line of text.replace(/\n$/, '').split('\n')) {
    const service = /^(?:(?:TCP|UDP|SCTP|FWM) +\S+(?: IPv6)?|-A \S+ \S+(?: -6)?)/.exec(line)
    if (service) name = service[0].replace(/ +/g, ' ')
    const before = blocks.get(name)
    blocks.set(name, before === undefined ? line : `${before}\n${line}`)
  }
  return blocks
}

/** The entries of `ipvsadm -L -n -c`, undefined when the text is no such listing. */
export function parseConnections(text: string): ConnectionRecord[] | undefined {
  const [title, columns, ...lines] = text.trimEnd().split('\n')
  if (title !== 'IPVS connection entries' || !columns?.startsWith('pro expire')) return undefined
  const connections: ConnectionRecord[] = []
  for (const line of lines) {
    const [pro, time, state, source, virtual, destination] = line.trim().split(/\s+/)
    const [minutes, seconds] = (time ?? '').split(':').map(Number)
    if (destination === undefined || !Number.isInteger(minutes) || !Number.isInteger(seconds))
      return undefined
    const expire = minutes! * 60 + seconds!
    connections.push({
      pro: pro!,
      expire,
      state: state!,
      source: source!,
      virtual: virtual!,
      destination,
    })
  }
  return connections
}

function compareConnections(
  ours: readonly ConnectionRecord[],
  kernels: readonly ConnectionRecord[],
): Found | undefined {
  const [a, b] = [byEnds(ours), byEnds(kernels)]
  const details: Detail[] = []
  let kind: string | undefined
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [x, y] = [a.get(name) ?? [], b.get(name) ?? []]
    for (let i = 0; i < Math.max(x.length, y.length); i++) {
      const differing = connectionDifference(x[i], y[i])
      if (differing === undefined) continue
      kind ??= `connections: ${differing}`
      details.push({ name, ours: connectionText(x[i]), kernels: connectionText(y[i]) })
    }
  }
  return kind === undefined ? undefined : { kind, details }
}

/** Connections by protocol, client and virtual address; those that have the same in one order. */
function byEnds(connections: readonly ConnectionRecord[]): Map<string, ConnectionRecord[]> {
  const sorted = [...connections].sort(
    (a, b) =>
      compareText(`${a.destination} ${a.state} ${a.pro}`, `${b.destination} ${b.state} ${b.pro}`) ||
      a.expire - b.expire,
  )
  const groups = new Map<string, ConnectionRecord[]>()
  for (const connection of sorted) {
    const key = `${connection.pro} ${connection.source} > ${connection.virtual}`
    const group = groups.get(key)
    if (group) group.push(connection)
    else groups.set(key, [connection])
  }
  return new Map([...groups].sort(([a], [b]) => compareText(a, b)))
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Which field of two connections differs. */
function connectionDifference(
  ours: ConnectionRecord | undefined,
  kernels: ConnectionRecord | undefined,
): string | undefined {
  if (!kernels) return 'one too many'
  if (!ours) return 'one missing'
  if (ours.destination !== kernels.destination) return 'destination'
  if (ours.state !== kernels.state) return 'state'
  return Math.abs(ours.expire - kernels.expire) > EXPIRE_TOLERANCE_SECONDS ? 'expire' : undefined
}

function connectionText(connection: ConnectionRecord | undefined): string {
  if (!connection) return 'none'
  return `${connection.state}, to ${connection.destination}, ${connection.expire} s left`
}
