/** What is changed on the whole machine while directors are measured, and put back. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { CONNECTIONS } from './peers.js'

/** Most connections that the kernel tracks, and buckets of their table. */
const CONNECTION_SETTINGS = [
  '/sys/module/nf_conntrack/parameters/hashsize',
  '/proc/sys/net/netfilter/nf_conntrack_max',
]

/** Runs a program, or what is already running, before all ordinary work on the machine, which is not to be measured. */
export const PRIORITY = ['--rr', '1'] as const

/**
 * Gives the kernel's connection tracking as much room as uvs has, and the threads in which it forwards the priority
 * that the other directors have. Returns what puts everything back; that also happens when the process exits.
 */
export function prepareMachine(): () => void {
  const undo: (() => void)[] = [prepareConnectionTracking(CONNECTIONS)]
  const putBack = (): void => {
    for (const step of undo.splice(0)) step()
  }
  process.once('exit', putBack)
  for (const pid of softirqThreads()) {
    undo.push(() => execFileSync('chrt', ['--other', '--pid', '0', pid]))
    execFileSync('chrt', [...PRIORITY.slice(0, 1), '--pid', ...PRIORITY.slice(1), pid])
  }
  return putBack
}

/** Room for so many connections in the kernel's tracking; the function that it returns takes it back, as the exit does. */
export function prepareConnectionTracking(connections: number): () => void {
  const undo: (() => void)[] = []
  const putBack = (): void => {
    for (const step of undo.splice(0)) step()
  }
  process.once('exit', putBack)
  for (const file of CONNECTION_SETTINGS.filter((name) => existsSync(name))) {
    const before = readFileSync(file, 'utf8').trim()
    undo.push(() => writeFileSync(file, before))
    writeFileSync(file, String(connections))
  }
  return putBack
}

function softirqThreads(): string[] {
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false
    try {
      return readFileSync(`/proc/${name}/comm`, 'utf8').startsWith('ksoftirqd/')
    } catch {
      return false // It has ended meanwhile.
    }
  })
}
