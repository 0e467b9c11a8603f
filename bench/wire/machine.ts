/** What is changed on the whole machine while directors are measured, and put back. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { changeSettings } from '../suite/machine-settings.js'
import { CONNECTIONS } from './peers.js'

/**
 * Most connections that the kernel tracks, and buckets of their table. Both are the machine's: a network namespace
 * can read them, and no more.
 */
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
  return changeSettings({
    ...Object.fromEntries(CONNECTION_SETTINGS.map((file) => [file, String(CONNECTIONS)])),
    ...Object.fromEntries(softirqThreads().map((thread) => [`thread ${thread}`, 'rr 1'])),
  })
}

/** Which ways of controlling congestion network namespaces may choose. */
const ALLOWED_CONTROLS = '/proc/sys/net/ipv4/tcp_allowed_congestion_control'

/** Lets network namespaces choose cubic, too. Returns what puts it back; that also happens when the process exits. */
export function allowCubic(): () => void {
  if (!existsSync(ALLOWED_CONTROLS)) return () => undefined
  const allowed = readFileSync(ALLOWED_CONTROLS, 'utf8').trim().split(' ')
  return changeSettings({ [ALLOWED_CONTROLS]: [...new Set([...allowed, 'cubic'])].join(' ') })
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
