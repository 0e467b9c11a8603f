import { preferHugePages } from '../kernel/memory.js'
import { native, type Native } from '../kernel/native.js'

/** Page-aligned memory for a FramePool, usable as a UMEM. */
export function mapFrames(bytes: number): ArrayBuffer {
  return preferHugePages(native().mapMemory(bytes))
}

/** Makes an eventfd readable, and so ends the sleep of who waits for it. Allocates nothing. */
export function signal(descriptor: number): void {
  native().signalEvent(descriptor)
}

/** Sleeps until one of several descriptors can be read, or a time has passed. */
export class Waiter {
  private readonly native: Native = native()
  private readonly descriptors: Int32Array
  private readonly ready: Int16Array

  constructor(descriptors: readonly number[]) {
    this.descriptors = Int32Array.from(descriptors)
    this.ready = new Int16Array(descriptors.length)
  }

  /** Returns how many are ready; allocates nothing. */
  wait(timeoutMs: number): number {
    return this.native.wait(this.descriptors, this.ready, this.descriptors.length, timeoutMs | 0)
  }

  /** Makes an eventfd unreadable again. */
  clear(descriptor: number): void {
    this.native.clearEvent(descriptor)
  }
}

/** A wake-up call from one thread to another: sets the other's attention cell and makes its eventfd readable. */
export class WakeUp {
  private readonly native: Native = native()
  readonly descriptor = this.native.createEvent()
  readonly attention = new SharedArrayBuffer(4)
  private readonly cell = new Int32Array(this.attention)

  ring(): void {
    Atomics.store(this.cell, 0, 1)
    this.native.signalEvent(this.descriptor)
  }

  close(): void {
    this.native.closeDescriptor(this.descriptor)
  }
}
