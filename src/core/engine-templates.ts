import type { EngineTemplate } from './commands.js'
import { Cost, type Work } from './work.js'

/** The kernel has this one; it is the only one. */
const SIP = 'sip'

/** True for the name of a persistence engine, as `ipvsadm --pe` has it. */
export function isPersistenceEngine(name: string): boolean {
  return name === SIP
}

/**
 * Templates that a persistence engine made: they go by what the engine found in a packet, a SIP message's
 * Call-ID, besides client and virtual address (ip_vs_pe_sip.c). So a client may have many at one service.
 */
export class EngineTemplates {
  private readonly byKey = new Map<string, number>()
  private readonly byConnection = new Map<number, { key: string; data: string }>()

  /** @returns the template, 0 when there is none */
  find(key: string): number {
    return this.byKey.get(key) ?? 0
  }

  /**
   * @param key all that a packet has to share with the template to follow it
   * @param data what the engine found, a character a byte
   */
  add(template: number, key: string, data: string): void {
    this.byKey.set(key, template)
    this.byConnection.set(template, { key, data })
  }

  /** Nothing follows the template any more. */
  invalidate(template: number): void {
    const key = this.byConnection.get(template)?.key
    if (key !== undefined && this.byKey.get(key) === template) this.byKey.delete(key)
  }

  /** The template has ended. */
  remove(template: number): void {
    this.invalidate(template)
    this.byConnection.delete(template)
  }

  /** All of them, in parts. */
  *list(work: Work): Generator<EngineTemplate[], EngineTemplate[]> {
    let part: EngineTemplate[] = []
    for (const [connection, { data }] of this.byConnection) {
      if (work.left <= 0) {
        yield part
        part = []
      }
      work.left -= Cost.name
      part.push({ connection, engine: SIP, data })
    }
    return part
  }
}
