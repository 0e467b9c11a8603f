import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Service } from '../service.js'

/**
 * A scheduler at work for one service: it chooses the destination of each new connection. What it
 * remembers between choices is its own; the service, its list of destinations and its flags are there to
 * be read. Called once a connection, never for a packet that belongs to one.
 */
export interface Scheduler {
  /** The destination of a new connection, undefined when none can take it. */
  schedule(packet: Packet): Destination | undefined
  /** A destination was put at the head of the service's list. */
  added?(destination: Destination): void
  /** A destination was taken out of the service's list, where it stood at `index`. */
  removed?(destination: Destination, index: number): void
  /** A destination's weight or thresholds were set anew. */
  updated?(destination: Destination): void
  /** The service's options were edited, its scheduler stays. */
  edited?(): void
}

export interface SchedulerKind {
  /** As ipvsadm -s has it. */
  readonly name: string
  /** Begins scheduling for a service, which may have destinations already. */
  create(service: Service): Scheduler
}

/** True when a destination takes new connections: it is neither quiesced nor overloaded. */
export function isUsable(destination: Destination): boolean {
  return !destination.overloaded && destination.weight > 0
}
