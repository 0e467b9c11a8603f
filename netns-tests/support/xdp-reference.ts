// What the XDP program should do, from its description and written the plain way. It shares no code with
// src/, so that the two do not agree in a mistake.
import type { MarkRule, ServiceProtocol } from '../../src/core/commands.js'

export interface End {
  protocol: ServiceProtocol
  address: string
  port: number
}

export interface Flows {
  virtual: readonly End[]
  replies: readonly End[]
  marks: readonly MarkRule[]
}

interface Quintuple {
  protocol: ServiceProtocol
  source: string
  destination: string
  sourcePort: number
  destinationPort: number
}

const protocols: Record<number, ServiceProtocol | undefined> = { 6: 'tcp', 17: 'udp', 132: 'sctp' }
const ICMP = 1
const IPIP = 4
const icmpErrors = [3, 4, 11, 12]

/** Whether a frame belongs to the director. */
export function belongs(frame: Uint8Array, mac: readonly number[], flows: Flows): boolean {
  if (!mac.every((byte, i) => frame[i] === byte)) return false
  if (frame[12] !== 8 || frame[13] !== 0) return false
  const packet = readIp(frame.subarray(14))
  if (packet === undefined) return false
  const { protocol, number, rest } = packet
  if (packet.offset !== 0 || packet.more) return protocol !== undefined && isOurFragment()
  if (number === ICMP) return isOurError(rest, flows)
  const flow = flowOf(packet)
  return flow !== undefined && isOurs(flow, flows)

  function isOurFragment(): boolean {
    const { source, destination } = packet!
    return (
      flows.virtual.some((end) => end.protocol === protocol && end.address === destination) ||
      flows.replies.some((end) => end.protocol === protocol && end.address === source) ||
      flows.marks.some(
        (rule) =>
          rule.ports === undefined &&
          isMarked(
            { protocol: protocol!, source, destination, sourcePort: 0, destinationPort: 0 },
            rule,
          ),
      )
    )
  }
}

function isOurError(message: Uint8Array, flows: Flows): boolean {
  if (message.length < 8 || !icmpErrors.includes(message[0]!)) return false
  const quoted = readIp(message.subarray(8))
  if (quoted === undefined || quoted.offset !== 0) return false
  if (quoted.number === IPIP) {
    const inner = readIp(quoted.rest)
    const flow = inner && inner.offset === 0 ? flowOf(inner) : undefined
    return flow !== undefined && isOurs(flow, flows)
  }
  const flow = flowOf(quoted)
  if (flow === undefined) return false
  const back = {
    protocol: flow.protocol,
    source: flow.destination,
    destination: flow.source,
    sourcePort: flow.destinationPort,
    destinationPort: flow.sourcePort,
  }
  return isOurs(flow, { ...flows, marks: [] }) || isOurs(back, flows)
}

function isOurs(flow: Quintuple, { virtual, replies, marks }: Flows): boolean {
  const hits = (end: End, address: string, port: number): boolean =>
    end.protocol === flow.protocol &&
    end.address === address &&
    (end.port === 0 || end.port === port)
  return (
    virtual.some((end) => hits(end, flow.destination, flow.destinationPort)) ||
    replies.some((end) => hits(end, flow.source, flow.sourcePort)) ||
    marks.some((rule) => isMarked(flow, rule))
  )
}

function isMarked(flow: Quintuple, rule: MarkRule): boolean {
  const [first, last] = rule.ports ?? [0, 65535]
  return (
    (rule.protocol === undefined || rule.protocol === flow.protocol) &&
    (rule.source === undefined || isIn(flow.source, rule.source)) &&
    (rule.destination === undefined || isIn(flow.destination, rule.destination)) &&
    flow.destinationPort >= first &&
    flow.destinationPort <= last
  )
}

function isIn(address: string, prefix: string): boolean {
  const [network = '', length = '32'] = prefix.split('/')
  const bits = (text: string): string =>
    text
      .split('.')
      .map((byte) => Number(byte).toString(2).padStart(8, '0'))
      .join('')
      .slice(0, Number(length))
  return bits(address) === bits(network)
}

function readIp(bytes: Uint8Array) {
  const headerBytes = ((bytes[0] ?? 0) & 15) * 4
  if (bytes.length < 20 || bytes[0]! >> 4 !== 4 || headerBytes < 20) return undefined
  return {
    source: bytes.slice(12, 16).join('.'),
    destination: bytes.slice(16, 20).join('.'),
    number: bytes[9]!,
    protocol: protocols[bytes[9]!],
    more: (bytes[6]! & 0x20) !== 0,
    offset: (bytes[6]! & 0x1f) * 256 + bytes[7]!,
    rest: bytes.subarray(headerBytes),
  }
}

function flowOf(packet: NonNullable<ReturnType<typeof readIp>>): Quintuple | undefined {
  const { protocol, source, destination, rest } = packet
  if (protocol === undefined || rest.length < 4) return undefined
  return {
    protocol,
    source,
    destination,
    sourcePort: rest[0]! * 256 + rest[1]!,
    destinationPort: rest[2]! * 256 + rest[3]!,
  }
}
