/** What the oracle asks its agent beside the kernel to run, and the answer: JSON in files. */
import type { Side } from '../scenario.js'
import type { Trace } from '../trace.js'

export type JobEvent = { line: number; atMs: number } & (
  | { kind: 'ipvsadm'; args: readonly string[] }
  | { kind: 'sysctl'; key: string; value: string }
  /** `packet` is a whole IP packet in hex. */
  | { kind: 'packet'; packet: string; side: Side; mark: number }
)

export interface Job {
  /** Lines of `ip -batch` that wire the director up, in a network namespace that has nothing but `lo`. */
  wiring: string[]
  /** Lines of `ip -6 -batch`, after those. */
  wiringV6: string[]
  /** Raw sockets that see what the director's own stack gets. */
  watched: [version: 4 | 6, protocol: number][]
  events: JobEvent[]
}

export type JobResult = { trace: Trace } | { error: string }

/** The question that the agent asks when it has nothing to do. `finished` is the job before, 0 at the start. */
export const question = (finished: number): string => `finished-${finished}`
export const jobFile = (number: number): string => `job-${number}.json`
export const resultFile = (number: number): string => `result-${number}.json`
