/** What is changed on the whole machine while directors are measured, and put back. */
import { execFileSync } from 'node:child_process'
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
    ...Object.fromEntries(
      kernelThreads('ksoftirqd/').map((thread) => [`thread ${thread}`, 'rr 1']),
    ),
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

/**
 * Runs a step. The threads that the kernel gets by it for receiving on devices, NAPI's, work with the directors'
 * priority, on a certain processor if one is named; they go with their devices.
 */
export async function withReceivingThreads<T>(
  step: () => Promise<T>,
  processor?: number,
): Promise<T> {
  const before = new Set(kernelThreads('napi/'))
  const result = await step()
  for (const pid of kernelThreads('napi/').filter((one) => !before.has(one))) {
    execFileSync('chrt', [...PRIORITY.slice(0, 1), '--pid', ...PRIORITY.slice(1), pid])
    if (processor !== undefined) execFileSync('taskset', ['-p', '-c', String(processor), pid], { stdio: 'ignore' }) // prettier-ignore
  }
  return result
}

/** By the beginning of their names. */
function kernelThreads(prefix: string): string[] {
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false
    try {
      return readFileSync(`/proc/${name}/comm`, 'utf8').startsWith(prefix)
    } catch {
      return false // It has ended meanwhile.
    }
  })
}
