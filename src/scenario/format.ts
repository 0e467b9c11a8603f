/** Scenarios as text again, which parses to the same: what generates, shrinks or records scenarios writes here. */
import { dirname, relative } from 'node:path'
import * as sctp from '../wire/sctp.js'
import {
  DEFAULT_TTL,
  headerBytes,
  sctpChunks,
  sctpPacket,
  tcpFlagNames,
  tcpFlags,
  tcpPacket,
  udpPacket,
  type Endpoint,
  type PacketFields,
  type SctpChunkName,
} from './packets.js'
import type { Directive, Event, PacketOptions, Scenario } from './scenario.js'
import { addressesInPacket } from './wiring.js'

const TCP = 6
const UDP = 17
const SCTP = 132
const TCP_FLAGS_OFFSET = 13

/**
 * A scenario as text, a line for each directive; comments and blank lines are gone.
 *
 * @param file where the text is to stand: captures are named from there
 * @throws RangeError for an argument that no line can hold, one with a line break
 */
export function formatScenario(scenario: Scenario, file: string = scenario.name): string {
  return scenario.directives.map((directive) => `${formatDirective(directive, file)}\n`).join('')
}

/** One directive as text, without a line break. @see formatScenario */
export function formatDirective(directive: Directive, file: string): string {
  switch (directive.kind) {
    case 'at':
      return `at ${decimal(directive.seconds)}`
    case 'pcap': {
      const path = quoted(relative(dirname(file), directive.file))
      return ['pcap', path, ...formatOptions(directive)].join(' ')
    }
    case 'ipvsadm':
    case 'sysctl':
    case 'packet':
      return formatAction(directive)
  }
}

/** The same for a list of events; packets of captures stand as packets of their own. */
export function formatEvents(events: readonly Event[]): string {
  const lines: string[] = []
  let atMs = 0
  for (const event of events) {
    if (event.atMs !== atMs) lines.push(`at ${decimal(event.atMs / 1000)}`)
    atMs = event.atMs
    lines.push(formatAction(event))
  }
  return lines.map((line) => `${line}\n`).join('')
}

function formatAction(action: Exclude<Directive, { kind: 'at' | 'pcap' }> | Event): string {
  switch (action.kind) {
    case 'ipvsadm':
      return ['ipvsadm', ...action.args.map(quoted)].join(' ')
    case 'sysctl':
      return `sysctl ${quoted(`${action.key}=${action.value}`)}`
    case 'packet':
      return [...packetWords(action.packet), ...formatOptions(action)].join(' ')
  }
}

function formatOptions({ side, mark }: PacketOptions): string[] {
  return [...(mark === 0 ? [] : [`mark=${mark}`]), ...(side === 'client' ? [] : [`in=${side}`])]
}

/** A packet in the words of a directive where they make just this packet, else in hex. */
export function packetWords(packet: Uint8Array): string[] {
  return describe(packet) ?? ['raw', Buffer.from(packet).toString('hex')]
}

function describe(packet: Uint8Array): string[] | undefined {
  const [source, destination] = addressesInPacket(packet)
  if (source === undefined || destination === undefined) return undefined
  const family = packet[0]! >> 4 === 4 ? 4 : 6
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  const protocol = packet[family === 4 ? 9 : 6]!
  const transport = family === 4 ? 20 : 40
  if (packet.length < transport + 8) return undefined
  const fields = {
    from: { address: source, port: view.getUint16(transport) },
    to: { address: destination, port: view.getUint16(transport + 2) },
    ttl: packet[family === 4 ? 8 : 7]!,
    identification: family === 4 ? view.getUint16(4) : 0,
  }
  switch (protocol) {
    case TCP: {
      const length = packet.length - headerBytes('tcp', family)
      if (length < 0) return undefined
      const bits = packet[transport + TCP_FLAGS_OFFSET]!
      const flags = tcpFlagNames.filter((name) => bits & tcpFlags[name]).join('')
      if (flags === '') return undefined
      return wordsIfSame(packet, 'tcp', { ...fields, length }, tcpPacket, flags)
    }
    case UDP: {
      const length = packet.length - headerBytes('udp', family)
      return wordsIfSame(packet, 'udp', { ...fields, length }, udpPacket)
    }
    case SCTP: {
      const chunk = chunkAt(packet, transport + sctp.FIRST_CHUNK)
      if (chunk === undefined) return undefined
      // Behind a chunk there may be padding, which is not of its length.
      const chunkBytes = view.getUint16(transport + sctp.FIRST_CHUNK + 2)
      const length = transport + sctp.FIRST_CHUNK + chunkBytes - headerBytes(chunk, family)
      if (length < 0 || length > packet.length) return undefined
      return wordsIfSame(packet, 'sctp', { ...fields, length }, sctpPacket, chunk)
    }
    default:
      return undefined
  }
}

function chunkAt(packet: Uint8Array, at: number): SctpChunkName | undefined {
  if (packet.length < at + sctp.CHUNK_HEADER_BYTES) return undefined
  const names = Object.keys(sctpChunks) as SctpChunkName[]
  return names.find((name) => sctpChunks[name].type === packet[at])
}

/** The directive's words if its packet is this one to the byte. */
function wordsIfSame<What extends string>(
  packet: Uint8Array,
  protocol: string,
  fields: PacketFields,
  build: (fields: PacketFields, what: What) => Uint8Array,
  what?: What,
): string[] | undefined {
  if (Buffer.compare(build(fields, what!), packet) !== 0) return undefined
  const { from, to, length, ttl, identification } = fields
  return [
    protocol,
    formatEndpoint(from),
    '>',
    formatEndpoint(to),
    ...(what === undefined ? [] : [what]),
    ...(length === 0 ? [] : [`len=${length}`]),
    ...(ttl === DEFAULT_TTL ? [] : [`ttl=${ttl}`]),
    ...(identification === 0 ? [] : [`id=${identification}`]),
  ]
}

function formatEndpoint({ address, port }: Endpoint): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** A word as a shell and a scenario read it. */
function quoted(word: string): string {
  if (/[\r\n]/.test(word)) throw new RangeError(`a line cannot hold ${JSON.stringify(word)}`)
  return /^[\w@%+=:,./[\]-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** A number without an exponent, which `at` does not read. */
function decimal(seconds: number): string {
  const [digits = '', exponent] = String(seconds).split('e-')
  if (exponent === undefined) return digits
  return `0.${'0'.repeat(Number(exponent) - 1)}${digits.replace('.', '')}`
}
