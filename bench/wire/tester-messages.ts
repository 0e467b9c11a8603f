/** What the testbed and the tester's process say to each other. */

/** A director to measure, as the tester sees it: two of its own interfaces, and what frames are to look like. */
export interface Lane {
  readonly transmit: string
  readonly receive: string
  /** Of the director's interface that is opposite to `transmit`. */
  readonly directorMac: string
  /** Where frames are sent to, and to which address they are addressed when they come back. */
  readonly virtualAddress: string
  readonly serverAddress: string
}

/** One trial: frames at a steady rate, whatever becomes of them. */
export interface TrialOrder {
  /** Number of the lane. */
  readonly lane: number
  readonly packetsPerSecond: number
  readonly frameBytes: number
  readonly flows: number
  /** Number of the first of them, 0 if absent: for those that nobody has seen yet. */
  readonly firstFlow?: number
  readonly durationMs: number
}

export interface TrialResult {
  /** As many as the rate and the duration make. */
  readonly wanted: number
  /** As many as the generator found time for: fewer when whatever forwards them took its processor. */
  readonly sent: number
  readonly received: number
  /** Of the frames that came through; absent when none did. */
  readonly latencyNs?: Latencies
}

/** In ns. */
export interface Latencies {
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly max: number
}

export type ToTester = { kind: 'open'; lanes: Lane[] } | { kind: 'trial'; order: TrialOrder }

export type FromTester =
  { kind: 'opened' } | { kind: 'result'; result: TrialResult } | { kind: 'failed'; message: string }

/** UDP port of the virtual service and of the server. */
export const SERVICE_PORT = 4000

/** The clients, a /16 behind the tester. */
export const CLIENT_NETWORK = '10.64.0.0'

/** The signal by which a trial ends whose time is over: sending frames blocks the tester. */
export const INTERRUPTION = 'SIGUSR2'
