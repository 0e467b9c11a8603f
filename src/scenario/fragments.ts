/** What a fragment's packet is, for who reads about it: which lines it came with, and the whole when it is. */
import { internetChecksum } from '../wire/checksum.js'
import { hexOf, Protocol } from './decode.js'
import type { Event, PacketDirective } from './scenario.js'

/** A packet is given up this long after its first fragment, by the kernel's defaults. */
const LIFETIME_MS = { 4: 30_000, 6: 60_000 } as const

export interface Gathered {
  /** Lines of the packet's fragments up to the one that was asked about, which is the last. */
  readonly lines: readonly number[]
  /** The packet, when that one completes it. */
  readonly whole: Uint8Array | undefined
}

interface Fragment {
  readonly key: string
  readonly version: 4 | 6
  readonly offset: number
  readonly isLast: boolean
  readonly payload: Uint8Array
  /** A whole packet of this one's headers and such a payload. */
  around(payload: Uint8Array): Uint8Array
}

interface Queue {
  readonly since: number
  readonly lines: number[]
  pieces: Fragment[]
}

/**
 * Follows the fragments of a scenario up to one of its packets.
 *
 * @returns undefined when that is no fragment
 */
export function gatheredWith(
  events: readonly Event[],
  asked: Event & PacketDirective,
): Gathered | undefined {
  const queues = new Map<string, Queue>()
  for (const event of events) {
    if (event.kind !== 'packet') continue
    const piece = fragmentOf(event.packet)
    if (!piece) {
      if (event === asked) return undefined
      continue
    }
    let queue = queues.get(piece.key)
    if (!queue || event.atMs - queue.since >= LIFETIME_MS[piece.version]) {
      queue = { since: event.atMs, lines: [], pieces: [] }
      queues.set(piece.key, queue)
    }
    queue.lines.push(event.line)
    queue.pieces.push(piece)
    const whole = wholeOf(queue.pieces)
    if (event === asked) return { lines: queue.lines, whole }
    if (whole) queues.delete(piece.key)
  }
  return undefined
}

/** Pieces that follow each other from the first to the last; where they overlap there is no packet. */
function wholeOf(pieces: readonly Fragment[]): Uint8Array | undefined {
  const inOrder = [...pieces].sort((a, b) => a.offset - b.offset)
  const payload: number[] = []
  for (const piece of inOrder) {
    const isAgain =
      piece.offset + piece.payload.length <= payload.length && piece.payload.length > 0
    if (isAgain) continue
    if (piece.offset !== payload.length) return undefined
    payload.push(...piece.payload)
  }
  return inOrder.at(-1)?.isLast ? inOrder[0]!.around(Uint8Array.from(payload)) : undefined
}

function fragmentOf(packet: Uint8Array): Fragment | undefined {
  if (packet.length >= 20 && packet[0]! >> 4 === 4) return fragmentOfIpv4(packet)
  if (packet.length >= 40 && packet[0]! >> 4 === 6) return fragmentOfIpv6(packet)
  return undefined
}

function fragmentOfIpv4(packet: Uint8Array): Fragment | undefined {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length)
  const place = view.getUint16(6) & 0x3fff
  if (place === 0) return undefined
  const headerBytes = (packet[0]! & 15) * 4
  const id = view.getUint16(4)
  return {
    key: `4 ${packet[9]} ${id} ${hexOf(packet.subarray(12, 20))}`,
    version: 4,
    offset: (place & 0x1fff) * 8,
    isLast: (place & 0x2000) === 0,
    payload: packet.subarray(headerBytes, view.getUint16(2)),
    around(payload) {
      const whole = Uint8Array.from([...packet.subarray(0, headerBytes), ...payload])
      const header = new DataView(whole.buffer)
      header.setUint16(2, whole.length)
      header.setUint16(6, 0)
      header.setUint16(10, 0)
      header.setUint16(10, internetChecksum(whole, 0, headerBytes))
      return whole
    },
  }
}

function fragmentOfIpv6(packet: Uint8Array): Fragment | undefined {
  const passedOver: number[] = [Protocol.hopByHop, Protocol.routing, Protocol.destinationOptions]
  /** Where the number of the header at `at` is written. */
  let numberAt = 6
  let at = 40
  while (passedOver.includes(packet[numberAt]!) && at + 8 <= packet.length) {
    numberAt = at
    at += (packet[at + 1]! + 1) * 8
  }
  if (packet[numberAt] !== Protocol.fragment || at + 8 > packet.length) return undefined
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length)
  const place = view.getUint16(at + 2)
  return {
    key: `6 ${hexOf(packet.subarray(at + 4, at + 8))} ${hexOf(packet.subarray(8, 40))}`,
    version: 6,
    offset: place & 0xfff8,
    isLast: (place & 1) === 0,
    payload: packet.subarray(at + 8, 40 + view.getUint16(4)),
    around(payload) {
      const whole = Uint8Array.from([...packet.subarray(0, at), ...payload])
      whole[numberAt] = packet[at]!
      new DataView(whole.buffer).setUint16(4, whole.length - 40)
      return whole
    },
  }
}
