/** Signals that end a program in order when they come once, and at once when they come again. */
const NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

export type EndingSignal = keyof typeof NUMBERS

export class Interruption {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal
  /** Aborted by the second one. */
  readonly killSignal: AbortSignal
  private readonly first = new AbortController()
  private readonly second = new AbortController()
  private name: EndingSignal | undefined

  /** Listens from now on. @param onFirst told the name of the first signal */
  constructor(onFirst: (name: EndingSignal) => void) {
    this.signal = this.first.signal
    this.killSignal = this.second.signal
    for (const name of Object.keys(NUMBERS) as EndingSignal[])
      process.on(name, () => {
        if (this.name !== undefined) return this.second.abort()
        this.name = name
        this.first.abort()
        onFirst(name)
      })
    // Of a terminal that has been closed nobody reads; that is no reason to end without cleaning up.
    process.stderr.on('error', () => undefined)
  }

  /** Whether the terminal has been closed: nobody reads what is written to it. */
  get isHungUp(): boolean {
    return this.name === 'SIGHUP'
  }

  /**
   * After SIGHUP: dies of it, as it would have without us, which a shell calls 129. Node cannot exit otherwise without
   * a terminal that it has begun with: it wants to put its settings back, and aborts.
   */
  dieOfHangUp(): void {
    process.removeAllListeners('SIGHUP')
    process.kill(process.pid, 'SIGHUP')
  }

  /** 128 + the number of the signal, as a shell has it; undefined if none has come. */
  get status(): number | undefined {
    return this.name === undefined ? undefined : 128 + NUMBERS[this.name]
  }
}
