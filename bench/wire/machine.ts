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
  const undo: (() => void)[] = []
  for (const file of CONNECTION_SETTINGS.filter((name) => existsSync(name)))
    undo.push(change(file, String(CONNECTIONS)))
  for (const pid of softirqThreads()) {
    undo.push(() => execFileSync('chrt', ['--other', '--pid', '0', pid]))
    execFileSync('chrt', [...PRIORITY.slice(0, 1), '--pid', ...PRIORITY.slice(1), pid])
  }
  return atExit(undo)
}

/** Which ways of controlling congestion network namespaces may choose. */
const ALLOWED_CONTROLS = '/proc/sys/net/ipv4/tcp_allowed_congestion_control'

/** Lets network namespaces choose cubic, too. Returns what puts it back; that also happens when the process exits. */
export function allowCubic(): () => void {
  const allowed = readFileSync(ALLOWED_CONTROLS, 'utf8').trim().split(' ')
  if (allowed.includes('cubic')) return () => undefined
  return atExit([change(ALLOWED_CONTROLS, [...allowed, 'cubic'].join(' '))])
}

/** Writes a setting; the function that it returns writes what was there. */
function change(file: string, value: string): () => void {
  const before = readFileSync(file, 'utf8').trim()
  writeFileSync(file, value)
  return () => writeFileSync(file, before)
}

/** Takes the steps when it is called, or when the process exits, once. */
function atExit(steps: (() => void)[]): () => void {
  const putBack = (): void => {
    for (const step of steps.splice(0)) step()
  }
  process.once('exit', putBack)
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
