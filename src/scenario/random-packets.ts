import type { Random } from '../port/random.js'
import { onesSum, Protocol } from './decode.js'
import { addressBytes, sctpPacket, tcpPacket, udpPacket, type SctpChunkName } from './packets.js'

/**
 * Packets made of packets for random scenarios: quoted in ICMP errors, wrapped by tunnels, cut into fragments,
 * and spoilt. All take and give whole IP packets.
 */

/** Dice: what scenarios are made with. */
export class Dice {
  constructor(private readonly random: Random) {}

  /** From 0 up to, not including, `count`. */
  below(count: number): number {
    return (this.random.next() >>> 0) % count
  }
  /** Both included. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1)
  }
  chance(probability: number): boolean {
    return (this.random.next() >>> 0) / 0x1_0000_0000 < probability
  }
  shuffled<T>(list: readonly T[]): T[] {
    const left = [...list]
    return list.map(() => left.splice(this.below(left.length), 1)[0]!)
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }
  /** A key by its weight. */
  weighted<K extends string>(weights: Readonly<Partial<Record<K, number>>>): K {
    return this.weightedOf(Object.entries(weights) as [K, number][])
  }
  weightedOf<T>(list: readonly (readonly [T, number])[]): T {
    let rest =
      ((this.random.next() >>> 0) / 0x1_0000_0000) *
      list.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [value, weight] of list) {
      rest -= weight
      if (rest < 0) return value
    }
    return list.at(-1)![0]
  }
}

function isIpv6(packet: Uint8Array): boolean {
  return packet[0]! >> 4 === 6
}

function put16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 8
  bytes[offset + 1] = value & 0xff
}

function fixHeaderChecksum(packet: Uint8Array): void {
  put16(packet, 10, 0)
  put16(packet, 10, 0xffff - onesSum(packet, 0, (packet[0]! & 15) * 4))
}

/** A packet of a transport, `what` being TCP flags or an SCTP chunk. */
export function packetOf(
  transport: 'tcp' | 'udp' | 'sctp',
  source: string,
  sourcePort: number,
  destination: string,
  destinationPort: number,
  what: string,
  length = 0,
): Uint8Array {
  const fields = {
    from: { address: source, port: sourcePort },
    to: { address: destination, port: destinationPort },
    length,
    ttl: 64,
    identification: 0,
  }
  if (transport === 'tcp') return tcpPacket(fields, what)
  return transport === 'udp' ? udpPacket(fields) : sctpPacket(fields, what as SctpChunkName)
}

/** A packet around some bytes, of the family of its addresses. */
export function ipPacket(
  source: string,
  destination: string,
  protocol: number,
  data: Uint8Array,
  ttl = 64,
): Uint8Array {
  const [from, to] = [addressBytes(source), addressBytes(destination)]
  if (from.length === 16) {
    const packet = new Uint8Array(40 + data.length)
    packet[0] = 0x60
    put16(packet, 4, data.length)
    packet[6] = protocol
    packet[7] = ttl
    packet.set(from, 8)
    packet.set(to, 24)
    packet.set(data, 40)
    return packet
  }
  const packet = new Uint8Array(20 + data.length)
  packet[0] = 0x45
  put16(packet, 2, packet.length)
  packet[8] = ttl
  packet[9] = protocol
  packet.set(from, 12)
  packet.set(to, 16)
  packet.set(data, 20)
  fixHeaderChecksum(packet)
  return packet
}

/** An ICMP message, ICMPv6 between IPv6 addresses. */
export function icmpMessage(
  source: string,
  destination: string,
  type: number,
  code: number,
  secondWord: number,
  data: Uint8Array,
): Uint8Array {
  const message = new Uint8Array(8 + data.length)
  message[0] = type
  message[1] = code
  put16(message, 4, secondWord >>> 16)
  put16(message, 6, secondWord & 0xffff)
  message.set(data, 8)
  if (source.includes(':')) {
    const packet = ipPacket(source, destination, Protocol.icmpv6, message)
    const initial = onesSum(packet, 8, 40) + Protocol.icmpv6 + message.length
    put16(packet, 42, 0xffff - onesSum(message, 0, message.length, initial))
    return packet
  }
  put16(message, 2, 0xffff - onesSum(message, 0, message.length))
  return ipPacket(source, destination, Protocol.icmp, message)
}

/** A datagram of SIP. @param callId none when undefined */
export function sipPacket(
  source: string,
  sourcePort: number,
  destination: string,
  destinationPort: number,
  callId: string | undefined,
): Uint8Array {
  const header = callId === undefined ? '' : `Call-ID: ${callId}\r\n`
  const text = Buffer.from(`INVITE sip:a@b SIP/2.0\r\n${header}Content-Length: 0\r\n\r\n`)
  const packet = packetOf('udp', source, sourcePort, destination, destinationPort, '', text.length)
  const transport = isIpv6(packet) ? 40 : 20
  packet.set(text, transport + 8)
  put16(packet, transport + 6, 0)
  const length = packet.length - transport
  const [start, end] = transport === 40 ? [8, 40] : [12, 20]
  const sum = onesSum(
    packet,
    transport,
    packet.length,
    onesSum(packet, start, end) + Protocol.udp + length,
  )
  put16(packet, transport + 6, 0xffff - sum || 0xffff)
  return packet
}

/** A packet within another, as IPIP and its kin send it. */
export function encapsulate(source: string, destination: string, inner: Uint8Array): Uint8Array {
  const protocol = isIpv6(inner) ? Protocol.ipv6 : Protocol.ipip
  return ipPacket(source, destination, protocol, inner, 63)
}

/**
 * A packet in fragments.
 *
 * @param at where to cut its data: bytes, multiples of 8, rising
 * @param id identification that they share
 */
export function fragments(packet: Uint8Array, at: readonly number[], id: number): Uint8Array[] {
  const headerBytes = isIpv6(packet) ? 40 : (packet[0]! & 15) * 4
  const data = packet.subarray(headerBytes)
  const cuts = [0, ...at.filter((cut) => cut > 0 && cut < data.length), data.length]
  return cuts.slice(0, -1).map((start, i) => {
    const piece = data.subarray(start, cuts[i + 1])
    const more = i < cuts.length - 2
    if (isIpv6(packet)) {
      const fragment = new Uint8Array(48 + piece.length)
      fragment.set(packet.subarray(0, 40))
      put16(fragment, 4, 8 + piece.length)
      fragment[6] = Protocol.fragment
      fragment[40] = packet[6]!
      put16(fragment, 42, start | (more ? 1 : 0))
      put16(fragment, 46, id)
      fragment.set(piece, 48)
      return fragment
    }
    const fragment = new Uint8Array(headerBytes + piece.length)
    fragment.set(packet.subarray(0, headerBytes))
    put16(fragment, 2, fragment.length)
    put16(fragment, 4, id)
    put16(fragment, 6, (start >> 3) | (more ? 0x2000 : 0))
    fragment.set(piece, headerBytes)
    fixHeaderChecksum(fragment)
    return fragment
  })
}

/** A way in which the fragments of one packet are not as they should be. It may change those that it is given. */
type Disturbance = (pieces: Uint8Array[], dice: Dice) => Uint8Array[]

const disturbances: readonly Disturbance[] = [
  (pieces) => pieces.reverse(),
  (pieces, dice) => dice.shuffled(pieces),
  // One is lost, or comes twice, or comes late.
  (pieces, dice) => pieces.filter((_, i) => i !== dice.below(pieces.length)),
  (pieces, dice) => [...pieces, dice.pick(pieces)],
  (pieces, dice) => {
    pieces.splice(dice.below(pieces.length), 0, dice.pick(pieces))
    return pieces
  },
  // Of IPv4: all of them, or some, have DF or another type of service; one is shorter or longer or elsewhere.
  (pieces) => changed(pieces, () => true, setDontFragment),
  (pieces, dice) => changed(pieces, () => dice.chance(0.5), setDontFragment),
  (pieces, dice) =>
    changed(
      pieces,
      () => dice.chance(0.6),
      (piece) => (piece[1] = dice.pick([0, 1, 2, 3])),
    ),
  (pieces, dice) =>
    changed(
      pieces,
      () => dice.chance(0.4),
      (piece) => (piece[8] = dice.pick([1, 2, 255])),
    ),
  (pieces, dice) =>
    changed(
      pieces,
      (i) => i === dice.below(pieces.length),
      (piece) => put16(piece, 2, dice.between(20, piece.length)),
    ),
  (pieces, dice) =>
    changed(
      pieces,
      (i) => i === dice.below(pieces.length),
      (piece) => put16(piece, 6, dice.between(0, 12) | (dice.chance(0.5) ? 0x2000 : 0)),
    ),
  (pieces, dice) => {
    const more = dice.pick(pieces).slice()
    return isIpv6(more)
      ? pieces
      : [
          ...pieces.slice(0, -1),
          ...changed(
            [more],
            () => true,
            (piece) => put16(piece, 6, 0x2000 | dice.between(0, 12)),
          ),
          pieces.at(-1)!,
        ]
  },
  (pieces, dice) =>
    pieces.map((piece) =>
      !isIpv6(piece) && dice.chance(0.5) ? withOptions(piece, dice.pick(harmlessOptions)) : piece,
    ),
]

function changed(
  pieces: Uint8Array[],
  which: (index: number) => boolean,
  change: (piece: Uint8Array) => void,
): Uint8Array[] {
  return pieces.map((piece, i) => {
    if (isIpv6(piece) || !which(i)) return piece
    const copy = piece.slice()
    change(copy)
    fixHeaderChecksum(copy)
    return copy
  })
}

function setDontFragment(piece: Uint8Array): void {
  piece[6]! |= 0x40
}

/** Fragments of one packet with something strange about them. */
export function disturb(pieces: Uint8Array[], dice: Dice): Uint8Array[] {
  return dice.pick(disturbances)([...pieces], dice)
}

/** A way to spoil a packet of TCP, UDP or SCTP. It may change the packet that it is given, or make another. */
type Spoiler = (packet: Uint8Array, dice: Dice) => Uint8Array

const spoilers: readonly Spoiler[] = [
  // Cut off, with or without a header that tells so.
  (packet, dice) => packet.slice(0, dice.between(isIpv6(packet) ? 40 : 20, packet.length - 1)),
  (packet, dice) => {
    const header = isIpv6(packet) ? 40 : 20
    const short = packet.slice(0, dice.between(header, Math.min(packet.length, header + 20)))
    if (isIpv6(short)) put16(short, 4, short.length - 40)
    else {
      put16(short, 2, short.length)
      fixHeaderChecksum(short)
    }
    return short
  },
  // Padded, as the link layer may.
  (packet, dice) => {
    const padded = new Uint8Array(packet.length + dice.between(1, 18))
    padded.set(packet)
    return padded
  },
  // A wrong checksum of the transport.
  (packet, dice) => {
    packet[packet.length - 1 - dice.below(Math.min(8, packet.length - 40))]! ^= 0x55
    return packet
  },
  // TCP's data offset.
  (packet, dice) => {
    const offset = (isIpv6(packet) ? 40 : 20) + 12
    if (offset < packet.length) packet[offset] = dice.pick([0x00, 0x40, 0x60, 0xf0])
    return packet
  },
  // UDP's length and checksum.
  (packet, dice) => {
    const transport = isIpv6(packet) ? 40 : 20
    put16(packet, transport + dice.pick([4, 6]), dice.pick([0, 7, 8, 9, 0xffff]))
    return packet
  },
  // Other transports.
  (packet, dice) => {
    packet[isIpv6(packet) ? 6 : 9] = dice.pick([2, 4, 33, 47, 50, 51, 59, 103, 136, 255])
    if (!isIpv6(packet)) fixHeaderChecksum(packet)
    return packet
  },
  // The address of the sender.
  (packet, dice) => {
    const v6 = isIpv6(packet)
    const source = v6
      ? dice.pick(['::', '::1', 'ff02::1', 'fe80::1', 'fd01::1', 'fd02::3'])
      : dice.pick([
          ...['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255', '240.0.0.1'],
          ...['10.1.0.1', '10.2.0.3', '10.1.255.255', '10.1.0.0'],
        ])
    packet.set(addressBytes(source), v6 ? 8 : 12)
    if (!v6) fixHeaderChecksum(packet)
    return packet
  },
  // IPv4's header.
  (packet, dice) => {
    if (isIpv6(packet)) {
      packet[0] = dice.pick([0x40, 0x50, 0x70, 0x6f])
      return packet
    }
    switch (dice.below(6)) {
      case 0:
        packet[0] = dice.pick([0x44, 0x46, 0x4f, 0x55, 0x35, 0x65])
        fixHeaderChecksum(packet.subarray(0, 60))
        break
      case 1:
        put16(packet, 2, dice.pick([0, 19, 20, 24, packet.length + 1, 0xffff]))
        fixHeaderChecksum(packet)
        break
      case 2:
        packet[10]! ^= 1
        break
      case 3:
        // Not for flags that IPv4 does not have.
        packet[6]! |= 0x80
        fixHeaderChecksum(packet)
        break
      default:
        return withOptions(packet, dice.pick(someOptions))
    }
    return packet
  },
]

/** The last two are of a kind that nobody knows, one to be copied into all fragments, one not. */
const harmlessOptions = [
  [1, 1, 1, 1],
  [1, 1, 1, 0],
  [227, 4, 1, 2],
  [99, 4, 1, 2],
]

/** IPv4 options: harmless ones, a source route, broken ones. */
const someOptions = [
  ...harmlessOptions,
  [148, 4, 0, 0],
  [131, 7, 4, 10, 2, 0, 3, 0],
  [7, 7, 4, 0, 0, 0, 0, 0],
  [68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [7, 60, 4, 0],
  [1, 7, 0, 0],
]

/** One or two options of any kind with lengths and pointers that may be right, in a multiple of 4 bytes. */
export function randomOptions(dice: Dice): number[] {
  const options: number[] = []
  for (let i = dice.pick([1, 1, 1, 2]); i > 0; i--) {
    const kind = dice.pick([7, 7, 7, 68, 68, 68, 131, 134, 137, 148, 130, 99, 1])
    if (kind === 1) {
      options.push(1)
      continue
    }
    const length = dice.chance(0.9) ? dice.pick([3, 4, 7, 8, 11, 12, 15]) : dice.between(0, 40)
    const pointer = dice.chance(0.7) ? (kind === 68 ? 5 : 4) : dice.between(0, length + 2)
    const option = new Array<number>(Math.max(2, Math.min(length, 18))).fill(0)
    option[0] = kind
    option[1] = length
    if (option.length > 2) option[2] = kind === 148 ? 0 : pointer
    if (kind === 68 && option.length > 3)
      option[3] = dice.pick([0, 1, 3, 3, 2, 0xf0, dice.below(256)])
    // An address to be prespecified: the director's, a virtual one, another's.
    if (kind === 68 && option.length > 7)
      option.splice(
        4,
        4,
        ...dice.pick([
          [10, 1, 0, 1],
          [10, 1, 0, 100],
          [10, 9, 9, 9],
        ]),
      )
    options.push(...option)
  }
  options.length = Math.min(options.length, 40)
  while (options.length % 4 !== 0) options.push(dice.chance(0.9) ? 0 : 1)
  return options
}

/** An IPv4 packet with options, a multiple of 4 bytes of them. */
export function withOptions(packet: Uint8Array, options: readonly number[]): Uint8Array {
  const longer = new Uint8Array(packet.length + options.length)
  longer.set(packet.subarray(0, 20))
  longer.set(options, 20)
  longer.set(packet.subarray(20), 20 + options.length)
  longer[0] = 0x45 + options.length / 4
  put16(longer, 2, longer.length)
  fixHeaderChecksum(longer)
  return longer
}

/** A packet of TCP, UDP or SCTP with something wrong or strange about it. */
export function spoil(packet: Uint8Array, dice: Dice): Uint8Array {
  return dice.pick(spoilers)(packet.slice(), dice)
}
