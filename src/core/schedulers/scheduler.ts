import type { Random } from '../../port/random.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Service } from '../service.js'
import type { Settings } from '../settings.js'
import type { Tasks } from '../tasks.js'

/**
 * A scheduler at work for one service: it chooses the destination of each new connection. What it
 * remembers between choices is its own; the service, its list of destinations and its flags are there to
 * be read. Called once a connection, never for a packet that belongs to one.
 */
export interface Scheduler {
  /**
   * Where it stands, if it goes round, in up to 14 words: all that it remembers between choices but what follows from
   * the service. Somebody else may set it between choices.
   */
  readonly position?: Int32Array
  /** The destination of a new connection, undefined when none can take it. */
  schedule(packet: Packet): Destination | undefined
  /** A destination was put at the head of the service's list. */
  added?(destination: Destination): void
  /** A destination was taken out of the service's list, where it stood at `index`. */
  removed?(destination: Destination, index: number): void
  /** A destination's weight or thresholds were set anew. */
  updated?(destination: Destination): void
  /** It is needed no more: the service was removed, or has another scheduler. It lets go of what it holds. */
  done?(): void
}

/** What a director's schedulers share. */
export interface SchedulerContext {
  readonly settings: Settings
  readonly random: Random
  /** The time, and what a scheduler does by itself when it has come. */
  readonly tasks: Tasks
}

export interface SchedulerKind {
  /** As ipvsadm -s has it. */
  readonly name: string
  /**
   * Begins scheduling for a service, which may have destinations already.
   *
   * @throws IpvsError when it cannot
   */
  create(service: Service, context: SchedulerContext): Scheduler
}

/** True when a destination takes new connections: it is neither quiesced nor overloaded. */
export function isUsable(destination: Destination): boolean {
  return !destination.overloaded && destination.weight > 0
}

/**
 * Whether `load / weight` is more than `otherLoad / otherWeight`, by cross products as in the kernel: exact
 * for all 32-bit integers, weight 0 included.
 */
export function isMoreLaden(
  load: number,
  weight: number,
  otherLoad: number,
  otherWeight: number,
): boolean {
  const product = load * otherWeight
  const otherProduct = otherLoad * weight
  if (product !== otherProduct) return product > otherProduct
  // Rounding never turns products round; but from 2^53 on it may make two alike that differ in low bits.
  return ((Math.imul(load, otherWeight) - Math.imul(otherLoad, weight)) | 0) > 0
}
