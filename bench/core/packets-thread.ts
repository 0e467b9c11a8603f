import { parentPort, workerData } from 'node:worker_threads'
import { MonotonicClock } from '../../src/drivers/monotonic-clock.js'
import { threadTimeNs } from '../../src/kernel/processor-time.js'
import { Load } from '../load.js'
import { MapDirector } from './map-director.js'
import type { Measured, PacketsTask } from './packets.js'

const { forwarding, family, connections, measured, packets } = workerData as PacketsTask
const load = new Load({ forwarding, family, connections, clock: new MonotonicClock() })

function timeOf(body: () => void): number {
  const before = threadTimeNs()
  body()
  return (threadTimeNs() - before) / packets
}

const writing = (): number => timeOf(() => load.write(packets))

const trials: Record<Measured, () => () => number> = {
  director: () => () => timeOf(() => load.runDirector(packets)) - writing(),
  writing: () => writing,
  map: () => {
    const director = new MapDirector(load.pool)
    const process = (network: number, length: number): boolean => director.process(network, length)
    load.runWith(connections, process)
    if (director.count !== connections) throw new Error(`${director.count} in the Map`)
    return () => timeOf(() => load.runWith(packets, process)) - writing()
  },
}

const trial = trials[measured]()
for (let i = 0; i < 6; i++) trial()
parentPort!.on('message', () => parentPort!.postMessage(trial()))
parentPort!.postMessage(0)
