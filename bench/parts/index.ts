import type { Part } from '../suite/measurement.js'

/** By name, as they are run: parts are loaded when they are wanted. */
export const parts: ReadonlyMap<string, () => Promise<Part>> = new Map<string, () => Promise<Part>>(
  [
    ['core', async () => (await import('./core.js')).core],
    ['growth', async () => (await import('./growth.js')).growth],
    ['micro', async () => (await import('./micro.js')).micro],
    ['schedulers', async () => (await import('./schedulers.js')).schedulers],
    ['streams', async () => (await import('./streams.js')).streams],
    ['workers', async () => (await import('./workers.js')).workers],
    ['workers-wire', async () => (await import('./workers-wire.js')).workersWire],
    ['wire', async () => (await import('./wire.js')).wire],
  ],
)
