import { mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { FileLock } from '../kernel/file-lock.js'
import type { Belongings } from './mirror.js'

const DIRECTORY = '/run/uvs'

/**
 * Where the mirror of a network namespace writes down what it has made in the kernel, so that the next one
 * knows after a kill; void after a reboot. Whoever has it open is the namespace's one mirror.
 */
export class BelongingsFile {
  private readonly boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()

  private constructor(
    private readonly path: string,
    private readonly lock: FileLock,
  ) {}

  /** @throws Error that names the mirror that has it open */
  static open(): BelongingsFile {
    const namespace = /\d+/.exec(readlinkSync('/proc/self/ns/net'))![0]
    const path = `${DIRECTORY}/mirror-${namespace}`
    mkdirSync(DIRECTORY, { recursive: true, mode: 0o755 })
    const lock = FileLock.take(`${path}.lock`, `process ${process.pid}`)
    if (typeof lock === 'string')
      throw new Error(
        `another mirror is at work in this network namespace (${lock || 'it is just starting'}); end it first`,
      )
    return new BelongingsFile(`${path}.json`, lock)
  }

  close(): void {
    this.lock.release()
  }

  read(): Belongings {
    try {
      const { boot, belongings } = JSON.parse(readFileSync(this.path, 'utf8')) as {
        boot: string
        belongings: Belongings
      }
      if (boot === this.boot) return belongings
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    return { services: [], settings: {} }
  }

  write(belongings: Belongings): void {
    const { services, timeouts, settings } = belongings
    if (services.length === 0 && !timeouts && Object.keys(settings).length === 0) {
      rmSync(this.path, { force: true })
      return
    }
    // Whole or not at all.
    writeFileSync(`${this.path}.new`, `${JSON.stringify({ boot: this.boot, belongings })}\n`)
    renameSync(`${this.path}.new`, this.path)
  }
}
