import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Scheduler } from '../schedulers/scheduler.js'
import type { Service } from '../service.js'
import type { CommonState } from './common-state.js'

/**
 * A scheduler that decides as one with those of the other workers' directors for the same service: it sees the counts
 * of all of their connections, and goes on where any of them stopped.
 */
export class CommonScheduler implements Scheduler {
  /** Place of the common position. */
  private readonly at: number
  private readonly number: number

  constructor(
    private readonly service: Service,
    private readonly scheduler: Scheduler,
    private readonly common: CommonState,
  ) {
    this.at = common.takePosition()
    this.number = common.numberScheduler()
  }

  schedule(packet: Packet): Destination | undefined {
    const { common, scheduler } = this
    const { destinations } = this.service
    for (let i = 0; i < destinations.length; i++) common.refresh(destinations[i]!)
    return scheduler.position
      ? this.goRound(packet, scheduler.position)
      : scheduler.schedule(packet)
  }

  private goRound(packet: Packet, position: Int32Array): Destination | undefined {
    const { common, scheduler, at, number } = this
    common.lock(at)
    // Whoever fails in here ends the daemon, which takes that the others do not wait for it.
    try {
      common.read(at, number, position)
      const destination = scheduler.schedule(packet)
      common.write(at, number, position)
      return destination
    } finally {
      common.unlock(at)
    }
  }

  added(destination: Destination): void {
    this.change(() => this.scheduler.added?.(destination))
  }

  removed(destination: Destination, index: number): void {
    this.change(() => this.scheduler.removed?.(destination, index))
  }

  updated(destination: Destination): void {
    this.change(() => this.scheduler.updated?.(destination))
  }

  done(): void {
    this.scheduler.done?.()
    this.common.releasePosition(this.at)
  }

  /** Each director's own scheduler follows a change of the service; where they stand together changes once. */
  private change(follow: () => void): void {
    const { common, at, number } = this
    const { position } = this.scheduler
    if (!common.isLeader || !position) return follow()
    common.lock(at)
    try {
      common.read(at, number, position)
      follow()
      common.write(at, number, position)
    } finally {
      common.unlock(at)
    }
  }
}
