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
  /** Ports held open, so that the stack does not answer for them. */
  udpPorts: number[]
  events: JobEvent[]
}

/** `line` of the event that failed, undefined when it was not an event. */
export type JobResult = { trace: Trace } | { error: string; line?: number }

/**
 * The question that the agent asks when it has nothing to do. `finished` is the job before, 0 at the start;
 * `release` is the kernel's, as uname -r says it.
 */
export const question = (finished: number, release: string): string => `${finished} ${release}`
export function parseQuestion(line: string): { finished: number; release: string } | undefined {
  const match = /^(\d+) (\S+)$/.exec(line)
  return match ? { finished: Number(match[1]), release: match[2]! } : undefined
}
export const jobFile = (number: number): string => `job-${number}.json`
export const resultFile = (number: number): string => `result-${number}.json`
