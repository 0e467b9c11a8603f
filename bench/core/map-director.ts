import type { FramePool } from '../../src/port/frame-pool.js'
import { delta16, delta32, update } from '../../src/wire/checksum.js'
import { decrementTtl, isFragment, Malformed, validate } from '../../src/wire/ipv4.js'

interface MapConnection {
  serverBe: number
  serverPortBe: number
  state: number
  expires: number
  packets: number
  bytes: number
}

const TIMEOUT_JIFFIES = 90_000

/**
 * The least of a director that masquerades requests, as one writes it in JavaScript: a Map of objects, its key client
 * address and port in one number. It checks the header, finds the connection, counts, notes a deadline, and
 * rewrites; it has no services, no replies, no timers that fire, and no routes.
 */
export class MapDirector {
  private readonly connections = new Map<number, MapConnection>()
  now = 0
  packets = 0
  bytes = 0

  constructor(private readonly pool: FramePool) {}

  get count(): number {
    return this.connections.size
  }

  /** @returns whether the packet is forwarded; one that belongs to no connection begins one */
  process(network: number, available: number): boolean {
    const { words, halfs, bytes } = this.pool
    if (validate(words, halfs, bytes, network, available) !== Malformed.none) return false
    if (isFragment(halfs, network)) return false
    const at = network >> 2
    const length = (bytes[network + 2]! << 8) | bytes[network + 3]!
    const key = (words[at + 3]! >>> 0) * 65536 + (words[at + 5]! & 0xffff)
    let connection = this.connections.get(key)
    if (connection === undefined) {
      const serverBe = 0x0000000a | ((2 + (this.connections.size & 3)) << 24)
      connection = { serverBe, serverPortBe: 0x901f, state: 1, expires: 0, packets: 0, bytes: 0 }
      this.connections.set(key, connection)
    }
    connection.packets++
    connection.bytes += length
    this.packets++
    this.bytes += length
    connection.expires = this.now + TIMEOUT_JIFFIES
    decrementTtl(halfs, network)
    const addressDelta = delta32(words[at + 4]!, connection.serverBe)
    const portAt = (network + 22) >> 1
    const portDelta = delta16(halfs[portAt]!, connection.serverPortBe)
    words[at + 4] = connection.serverBe
    halfs[portAt] = connection.serverPortBe
    halfs[(network + 10) >> 1] = update(halfs[(network + 10) >> 1]!, addressDelta)
    const checksumAt = (network + 36) >> 1
    halfs[checksumAt] = update(halfs[checksumAt]!, addressDelta + portDelta)
    return true
  }
}
