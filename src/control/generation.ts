import { EventEmitter, once } from 'node:events'

/** Which configuration is in force: a number that grows with every change, also from one daemon to the next. */
export class Generation {
  private readonly emitter = new EventEmitter().setMaxListeners(0)
  private current = Date.now()

  get value(): number {
    return this.current
  }

  advance(): void {
    this.current++
    this.emitter.emit('change')
  }

  /** Resolves when the number is above `after`, or some time has gone by. */
  async isAbove(after: number, timeoutMs: number): Promise<void> {
    const signal = AbortSignal.timeout(timeoutMs)
    try {
      while (this.current <= after) await once(this.emitter, 'change', { signal })
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }
}
