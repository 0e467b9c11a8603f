import { mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Belongings } from './mirror.js'

/**
 * Where a mirror writes down what it has made in the kernel, so that the next one knows after a kill: a file
 * for each network namespace, void after a reboot.
 */
export class BelongingsFile {
  private readonly boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()

  constructor(
    private readonly path = `/run/uvs/mirror-${/\d+/.exec(readlinkSync('/proc/self/ns/net'))![0]}.json`,
  ) {}

  read(): Belongings {
    try {
      const { boot, belongings } = JSON.parse(readFileSync(this.path, 'utf8')) as {
        boot: string
        belongings: Belongings
      }
      if (boot === this.boot) return belongings
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
    }
    return { services: [], settings: {} }
  }

  write(belongings: Belongings): void {
    const { services, timeouts, settings } = belongings
    if (services.length === 0 && !timeouts && Object.keys(settings).length === 0) {
      rmSync(this.path, { force: true })
      return
    }
    mkdirSync(dirname(this.path), { recursive: true })
    // Whole or not at all.
    writeFileSync(`${this.path}.new`, `${JSON.stringify({ boot: this.boot, belongings })}\n`)
    renameSync(`${this.path}.new`, this.path)
  }
}
