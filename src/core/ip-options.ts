import { MIN_HEADER_BYTES, SOURCE, writeChecksum } from '../wire/ipv4.js'
import type { FramePool } from '../port/frame-pool.js'

/**
 * IPv4 options as Linux treats them (net/ipv4/ip_options.c). The stack looks at them before IPVS does: what is broken
 * is answered with parameter problem, a source route is dropped, and every machine that a packet passes records itself
 * where the packet asks for it. All of this is rarer than rare, so it is done apart from the packet path proper.
 */

/** Options by their first byte (RFC 791, RFC 2113; CIPSO is IPSO's successor for labels). */
export const IpOption = {
  end: 0,
  noOperation: 1,
  recordRoute: 7,
  timestamp: 68,
  looseSourceRoute: 131,
  cipso: 134,
  strictSourceRoute: 137,
  routerAlert: 148,
} as const

/** What a timestamp option asks for, in the low half of its fourth byte; how many found no room is in the high half. */
const TimestampFlag = { timeOnly: 0, timeAndAddress: 1, prespecified: 3 } as const
const MAX_OVERFLOW = 15

export const MAX_OPTION_BYTES = 40

/** What the options of a packet are filled in with. */
export interface OptionsOwner {
  /**
   * Whether an address is a single host's, but not the director's own (inet_addr_type).
   *
   * @param addressBe in network order
   */
  isUnicast(addressBe: number): boolean
  /** Milliseconds since midnight, UTC. */
  millisecondsOfDay(): number
}

/** The options of one packet: filled in anew for each that has some. */
export class IpOptions {
  /** Where the last `read` has found each of these: bytes from the IP header's start, 0 when it is not there. */
  private recordRoute = 0
  private timestamp = 0
  private cipso = 0
  private needsRouteAddress = false
  private needsTimestampAddress = false
  private needsTime = false
  /** There is a source route. */
  hasSourceRoute = false
  /** The packet has come along it, so that an error would have to go back along it. */
  private hasReturnRoute = false
  private readonly original = new Uint8Array(MAX_OPTION_BYTES)

  /**
   * Reads the options of a packet and records the director's address and the time where they ask for it
   * (ip_options_compile). The header's checksum stays as it was: the kernel makes it right when it sends the packet on.
   *
   * @param network byte offset of the IP header
   * @param headerBytes of it with its options
   * @param ownBe the director's address for this packet, in network order
   * @returns 0, or where the options are broken: bytes from the header's start
   */
  read(
    bytes: Uint8Array,
    network: number,
    headerBytes: number,
    ownBe: number,
    owner: OptionsOwner,
  ): number {
    this.recordRoute = this.timestamp = this.cipso = 0
    this.needsRouteAddress = this.needsTimestampAddress = this.needsTime = false
    this.hasSourceRoute = this.hasReturnRoute = false
    const end = network + headerBytes
    let at = network + MIN_HEADER_BYTES
    this.original.set(bytes.subarray(at, end))
    while (at < end) {
      const kind = bytes[at]!
      if (kind === IpOption.end) {
        bytes.fill(IpOption.end, at, end)
        return 0
      }
      if (kind === IpOption.noOperation) {
        at++
        continue
      }
      if (end - at < 2) return at - network
      const length = bytes[at + 1]!
      if (length < 2 || length > end - at) return at - network
      const broken = this.readOne(bytes, network, at, kind, length, ownBe, owner)
      if (broken >= 0) return at + broken - network
      at += length
    }
    return 0
  }

  /** @returns the place of what is broken within the option, -1 when nothing is */
  private readOne(
    bytes: Uint8Array,
    network: number,
    at: number,
    kind: number,
    length: number,
    ownBe: number,
    owner: OptionsOwner,
  ): number {
    switch (kind) {
      case IpOption.looseSourceRoute:
      case IpOption.strictSourceRoute:
        if (length < 3) return 1
        if (bytes[at + 2]! < 4) return 2
        if (this.hasSourceRoute) return 0
        this.hasSourceRoute = true
        this.hasReturnRoute = isReturnRoute(bytes, network, at, length)
        return -1
      case IpOption.recordRoute: {
        if (this.recordRoute !== 0) return 0
        if (length < 3) return 1
        const pointer = bytes[at + 2]!
        if (pointer < 4) return 2
        if (pointer <= length) {
          if (pointer + 3 > length) return 2
          putAddress(bytes, at + pointer - 1, ownBe)
          bytes[at + 2] = pointer + 4
          this.needsRouteAddress = true
        }
        this.recordRoute = at - network
        return -1
      }
      case IpOption.timestamp:
        return this.readTimestamp(bytes, network, at, length, ownBe, owner)
      case IpOption.routerAlert:
        return length < 4 ? 1 : -1
      case IpOption.cipso:
        // A label of a domain that nobody has told the machine of.
        if (this.cipso !== 0) return 0
        this.cipso = at - network
        return length < 8 ? 1 : 2
      default:
        return -1
    }
  }

  private readTimestamp(
    bytes: Uint8Array,
    network: number,
    at: number,
    length: number,
    ownBe: number,
    owner: OptionsOwner,
  ): number {
    if (this.timestamp !== 0) return 0
    if (length < 4) return 1
    const pointer = bytes[at + 2]!
    const flag = bytes[at + 3]! & 0xf
    const slot = at + pointer - 1
    if (pointer < 5) return 2
    if (pointer <= length) {
      if (pointer + 3 > length) return 2
      const hasAddress =
        flag === TimestampFlag.timeAndAddress || flag === TimestampFlag.prespecified
      if (hasAddress && pointer + 7 > length) return 2
      if (flag === TimestampFlag.timeOnly) {
        putTime(bytes, slot, owner)
        bytes[at + 2] = pointer + 4
        this.needsTime = true
      } else if (flag === TimestampFlag.timeAndAddress) {
        putAddress(bytes, slot, ownBe)
        putTime(bytes, slot + 4, owner)
        bytes[at + 2] = pointer + 8
        this.needsTimestampAddress = this.needsTime = true
      } else if (flag === TimestampFlag.prespecified && !owner.isUnicast(addressAt(bytes, slot))) {
        putTime(bytes, slot + 4, owner)
        bytes[at + 2] = pointer + 8
        this.needsTime = true
      }
    } else if (flag !== TimestampFlag.prespecified) {
      const overflow = bytes[at + 3]! >>> 4
      if (overflow === MAX_OVERFLOW) return 3
      bytes[at + 3] = flag | ((overflow + 1) << 4)
    }
    this.timestamp = at - network
    return -1
  }

  /** Puts the options back as they came: another is going to read them. */
  restore(bytes: Uint8Array, network: number, headerBytes: number): void {
    const optionBytes = headerBytes - MIN_HEADER_BYTES
    bytes.set(this.original.subarray(0, optionBytes), network + MIN_HEADER_BYTES)
  }

  /**
   * A router sends the packet on (ip_forward_options): what it records of its route is the address that it leaves
   * from. The header's checksum is made right.
   *
   * @param fromBe that address, in network order
   */
  passOn(
    { halfs, bytes }: Pick<FramePool, 'halfs' | 'bytes'>,
    network: number,
    fromBe: number,
  ): void {
    if (this.needsRouteAddress) {
      const at = network + this.recordRoute
      putAddress(bytes, at + bytes[at + 2]! - 5, fromBe)
    }
    writeChecksum(halfs, bytes, network)
  }

  /**
   * The options that an ICMP error about the packet has itself: those that record, which go on doing so
   * (ip_options_echo, ip_options_build). Where one would have to go back along a source route none is sent.
   *
   * @param fromBe the address that the error comes from
   * @param to room for MAX_OPTION_BYTES
   * @returns bytes of them, a multiple of 4; -1 when no error is sent, also for want of room in them
   */
  echo(
    bytes: Uint8Array,
    network: number,
    fromBe: number,
    owner: OptionsOwner,
    to: Uint8Array,
  ): number {
    if (this.hasReturnRoute) return -1
    let length = 0
    const copy = (option: number): number => {
      const at = network + option
      const optionBytes = bytes[at + 1]!
      to.set(bytes.subarray(at, at + optionBytes), length)
      length += optionBytes
      return optionBytes
    }
    if (this.recordRoute !== 0) {
      const start = length
      const optionBytes = copy(this.recordRoute)
      const pointer = to[start + 2]!
      if (this.needsRouteAddress && pointer <= optionBytes) {
        if (pointer + 3 > optionBytes) return -1
        putAddress(to, start + pointer - 1, fromBe)
        to[start + 2] = pointer + 4
      }
    }
    if (this.timestamp !== 0) {
      const start = length
      const optionBytes = copy(this.timestamp)
      if (to[start + 2]! <= optionBytes && !this.echoTime(to, start, optionBytes, fromBe, owner))
        return -1
    }
    if (this.cipso !== 0) copy(this.cipso)
    while ((length & 3) !== 0) to[length++] = IpOption.end
    return length
  }

  /** @returns false when there is no room */
  private echoTime(
    to: Uint8Array,
    start: number,
    optionBytes: number,
    fromBe: number,
    owner: OptionsOwner,
  ): boolean {
    let pointer = to[start + 2]!
    if (this.needsTimestampAddress) {
      if (pointer + 3 > optionBytes) return false
      putAddress(to, start + pointer - 1, fromBe)
      pointer += 4
    }
    if (this.needsTime) {
      if (pointer + 3 > optionBytes) return false
      if ((to[start + 3]! & 0xf) !== TimestampFlag.prespecified) {
        putTime(to, start + pointer - 1, owner)
        pointer += 4
      } else if (
        pointer + 7 <= optionBytes &&
        !owner.isUnicast(addressAt(to, start + pointer - 1))
      ) {
        putTime(to, start + pointer + 3, owner)
        pointer += 8
      }
    }
    to[start + 2] = pointer
    return true
  }
}

/** Whether a source route that has been gone along leaves something to go back along, but the packet's source. */
function isReturnRoute(bytes: Uint8Array, network: number, at: number, length: number): boolean {
  const pointer = Math.min(bytes[at + 2]!, length + 1)
  const gone = Math.floor((pointer - 4) / 4)
  if (gone < 1) return false
  const first = at + pointer - 1 - 4 * gone
  return gone > 1 || addressAt(bytes, first) !== addressAt(bytes, network + SOURCE)
}

function putAddress(bytes: Uint8Array, at: number, addressBe: number): void {
  bytes[at] = addressBe & 0xff
  bytes[at + 1] = (addressBe >>> 8) & 0xff
  bytes[at + 2] = (addressBe >>> 16) & 0xff
  bytes[at + 3] = addressBe >>> 24
}

function addressAt(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
}

/** Milliseconds since midnight in network order. */
function putTime(bytes: Uint8Array, at: number, owner: OptionsOwner): void {
  const milliseconds = owner.millisecondsOfDay()
  bytes[at] = milliseconds >>> 24
  bytes[at + 1] = (milliseconds >>> 16) & 0xff
  bytes[at + 2] = (milliseconds >>> 8) & 0xff
  bytes[at + 3] = milliseconds & 0xff
}
