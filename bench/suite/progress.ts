/** What is going on, for a person who waits: one line that changes on a terminal, lines elsewhere. */
import type { WriteStream } from 'node:tty'

/** Of the lines of a part that are not shown in place, at most one in this time. */
const PLAIN_LINE_MS = 5000

export const clockText = (seconds: number): string => {
  const whole = Math.max(0, Math.round(seconds))
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}

export class Progress {
  private heading = ''
  private text = ''
  private plannedSeconds = 0
  private startMs = 0
  private lastLineMs = -Infinity
  private ticker: NodeJS.Timeout | undefined

  /** @param stream standard error, or what is given instead */
  constructor(
    private readonly stream: Pick<WriteStream, 'write'> & Partial<WriteStream>,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** How many parts there are, and how long they are to take together. */
  total(count: number, plannedSeconds: number): void {
    this.stream.write(`${count} parts, about ${clockText(plannedSeconds)} in all\n`)
  }

  /** @param plannedSeconds how long it is to take */
  begin(number: number, count: number, name: string, plannedSeconds: number): void {
    this.heading = `[${number}/${count}] ${name}`
    this.text = ''
    this.plannedSeconds = plannedSeconds
    this.startMs = this.nowMs()
    this.lastLineMs = -Infinity
    if (this.stream.isTTY) {
      this.ticker = setInterval(() => this.draw(), 1000).unref()
      this.draw()
    } else this.stream.write(`${this.heading}: about ${clockText(plannedSeconds)}\n`)
  }

  /** What the part says that it does. */
  show(text: string): void {
    this.text = text
    if (this.stream.isTTY) return this.draw()
    const now = this.nowMs()
    if (now - this.lastLineMs < PLAIN_LINE_MS) return
    this.lastLineMs = now
    this.stream.write(`${this.heading} ${clockText((now - this.startMs) / 1000)}: ${text}\n`)
  }

  /** A line that stays. */
  line(text: string): void {
    this.clear()
    this.stream.write(`  ${text}\n`)
    this.draw()
  }

  /** @param outcome as 'done' or why not */
  end(outcome: string): void {
    clearInterval(this.ticker)
    this.ticker = undefined
    this.clear()
    const took = clockText((this.nowMs() - this.startMs) / 1000)
    this.stream.write(`${this.heading}: ${outcome}, ${took}\n`)
  }

  private clear(): void {
    if (this.stream.isTTY) this.stream.write('\r\x1b[2K')
  }

  private draw(): void {
    if (!this.stream.isTTY || this.ticker === undefined) return
    const seconds = (this.nowMs() - this.startMs) / 1000
    const time = `${clockText(seconds)} of about ${clockText(this.plannedSeconds)}`
    const line = `${this.heading}  ${time}  ${this.text}`
    this.clear()
    this.stream.write(line.slice(0, (this.stream.columns ?? 80) - 1))
  }
}
