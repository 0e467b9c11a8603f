import { MonotonicClock } from '../../src/drivers/monotonic-clock.js'
import { threadTimeNs } from '../../src/kernel/processor-time.js'
import { Load } from '../load.js'
import { answerQuestions } from '../suite/measuring-thread.js'
import { MapDirector } from './map-director.js'
import type { Measured, PacketsTask } from './packets.js'

answerQuestions<PacketsTask, Measured>(({ forwarding, family, connections, packets }) => {
  const load = new Load({ forwarding, family, connections, clock: new MonotonicClock() })
  let mapDirector: MapDirector | undefined

  function timeOf(body: () => void): number {
    const before = threadTimeNs()
    body()
    return (threadTimeNs() - before) / packets
  }

  const writing = (): number => timeOf(() => load.write(packets))
  const toMap = (network: number, length: number): boolean => mapDirector!.process(network, length)

  function fillMap(): void {
    mapDirector = new MapDirector(load.pool)
    load.runWith(connections, toMap)
    if (mapDirector.count !== connections) throw new Error(`${mapDirector.count} in the Map`)
  }

  const trials: Record<Measured, () => number> = {
    director: () => timeOf(() => load.runDirector(packets)) - writing(),
    writing,
    map: () => {
      if (mapDirector === undefined) fillMap()
      return timeOf(() => load.runWith(packets, toMap)) - writing()
    },
  }
  return (measured) => trials[measured]()
})
