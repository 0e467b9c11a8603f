import { mkdirSync, readlinkSync } from 'node:fs'
import { FileLock } from '../kernel/file-lock.js'

const DIRECTORY = '/run/uvs'

/**
 * One uvsd in a network namespace, as there is one IPVS: two would program the same rules.
 *
 * @param ports what this daemon works on, for the message that a second one gets
 * @throws Error that names the holder
 */
export function lockInstance(ports: readonly string[]): FileLock {
  const namespace = /\d+/.exec(readlinkSync('/proc/self/ns/net'))![0]
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o755 })
  const lock = FileLock.take(
    `${DIRECTORY}/uvsd-${namespace}.lock`,
    `process ${process.pid}, ports ${ports.join(' ')}`,
  )
  if (typeof lock === 'string')
    throw new Error(
      `another uvsd is running in this network namespace (${lock || 'it is just starting'}); end it first: there is one director a namespace`,
    )
  return lock
}
