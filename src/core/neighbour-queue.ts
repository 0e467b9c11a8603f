/**
 * Packets that wait for the address of their next hop, in order of arrival. Small and bounded, as the
 * kernel's own queue of an unresolved neighbour is: one silent neighbour cannot take all of it.
 */
import type { Neighbours } from '../port/neighbours.js'

const CAPACITY = 512
const PER_HOP = 64

export class NeighbourQueue {
  readonly offsets = new Int32Array(CAPACITY)
  readonly lengths = new Int32Array(CAPACITY)
  readonly hops = new Int32Array(CAPACITY)
  /** Path MTUs, see DataPlane.send. */
  readonly mtus = new Int32Array(CAPACITY)
  readonly deadlines = new Int32Array(CAPACITY)
  private readonly waitingPerHop: Uint16Array
  count = 0

  constructor(neighbours: Neighbours) {
    this.waitingPerHop = new Uint16Array(neighbours.state.length)
  }

  /** Appends a packet; false when there is no room for it. */
  add(offset: number, length: number, hop: number, mtu: number, deadline: number): boolean {
    if (this.count === CAPACITY) return false
    if (this.waitingPerHop[hop]! >= PER_HOP) return false
    this.waitingPerHop[hop]!++
    const i = this.count++
    this.offsets[i] = offset
    this.lengths[i] = length
    this.hops[i] = hop
    this.mtus[i] = mtu
    this.deadlines[i] = deadline
    return true
  }

  /** Moves entry i to place `to` (i or before it). */
  keep(i: number, to: number): void {
    this.offsets[to] = this.offsets[i]!
    this.lengths[to] = this.lengths[i]!
    this.hops[to] = this.hops[i]!
    this.mtus[to] = this.mtus[i]!
    this.deadlines[to] = this.deadlines[i]!
  }

  /** Entry i has left the queue. */
  left(i: number): void {
    this.waitingPerHop[this.hops[i]!]!--
  }
}
