import type { Connections } from './connections.js'
import { C, type CounterRegion } from './counters.js'
import type { Destination } from './destination.js'
import type { Service } from './service.js'

/**
 * Counts what passes: for the destination, its service, and in all (ip_vs_in_stats, ip_vs_out_stats and
 * ip_vs_conn_stats). What belongs to a destination that has been removed is not counted.
 */
export class Traffic {
  private readonly values: Float64Array
  private readonly total: number

  constructor(
    private readonly connections: Connections,
    counters: CounterRegion,
  ) {
    this.values = counters.values
    this.total = counters.total
  }

  /** A packet of so many bytes, from its IP header on, from the client. */
  countIn(connection: number, bytes: number): void {
    this.count(this.connections.destinationOf(connection), C.inPackets, C.inBytes, bytes)
  }

  /** The same from the real server. */
  countOut(connection: number, bytes: number): void {
    this.count(this.connections.destinationOf(connection), C.outPackets, C.outBytes, bytes)
  }

  countConnection(service: Service, destination: Destination): void {
    const { values, total } = this
    values[destination.counters + C.connections]!++
    values[service.counters + C.connections]!++
    values[total + C.connections]!++
  }

  private count(
    destination: Destination | undefined,
    packetsPlace: number,
    bytesPlace: number,
    bytes: number,
  ): void {
    if (!destination || !destination.available) return
    const { values, total } = this
    const own = destination.counters
    const service = destination.service.counters
    values[own + packetsPlace]!++
    values[own + bytesPlace]! += bytes
    values[service + packetsPlace]!++
    values[service + bytesPlace]! += bytes
    values[total + packetsPlace]!++
    values[total + bytesPlace]! += bytes
  }
}
