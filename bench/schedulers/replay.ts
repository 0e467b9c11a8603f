/** A load through the director in virtual time, while a server leaves, comes back and is drained. */
import { Reason, Verdict } from '../../src/core/verdict.js'
import { JIFFIES_PER_SECOND } from '../../src/port/clock.js'
import type { Candidate } from './candidates.js'
import type { Load, Party } from './load.js'
import { World } from './world.js'

/** When what happens: milliseconds since the load began. */
export interface Phases {
  /** Connections and their ends have come to a balance: measuring begins. */
  readonly steadyMs: number
  /** In the midst of it nothing happens: what moves here, moves by itself. */
  readonly controlMs: number
  /** A server is removed… */
  readonly leaveMs: number
  /** …and is added again, without a connection. */
  readonly returnMs: number
  /** Its weight is set to 0. */
  readonly drainMs: number
  readonly endMs: number
  /** How long before and after a moment clients are looked at. */
  readonly windowMs: number
}

export function phasesOf(durationMs: number): Phases {
  return {
    steadyMs: durationMs * 0.15,
    controlMs: durationMs * 0.3,
    leaveMs: durationMs * 0.45,
    returnMs: durationMs * 0.6,
    drainMs: durationMs * 0.8,
    endMs: durationMs,
    windowMs: durationMs * 0.15,
  }
}

/** What servers had at a moment. */
export interface Snapshot {
  readonly atMs: number
  /** Connections by servers: active ones; of UDP, which has none, all. -1 for one that is not there. */
  readonly connections: readonly number[]
}

/** What came of a load with one scheduler. */
export interface Course {
  readonly phases: Phases
  /** By servers. */
  readonly weights: readonly number[]
  /** The server that left, came back and was drained. */
  readonly leaver: number
  /** Attempts to begin a connection, in order: when, who, and which server; -1 for none. */
  readonly attempts: readonly Attempt[]
  readonly snapshots: readonly Snapshot[]
}

export interface Attempt {
  readonly atMs: number
  /** Who asks; or what for, where a course is one of sites. */
  readonly client: number
  readonly server: number
}

const MS_PER_JIFFY = 1000 / JIFFIES_PER_SECOND
const SNAPSHOTS = 1600

/** The one to leave: of those with the greatest weight the one that schedulers find first, which fo uses. */
export const leaverOf = (weights: readonly number[]): number =>
  weights.lastIndexOf(Math.max(...weights))

/**
 * Replays a load. The same load, weights and seed give the same course.
 *
 * @param party whose the attempts are
 */
export function replayLoad(
  load: Load,
  candidate: Candidate,
  weights: readonly number[],
  seed: number,
  party: Party = 'client',
): Course {
  const world = new World({ target: load.target, weights, maxConnections: tableSize(load), seed })
  world.use(candidate)
  const { director, service, pool, offset } = world
  const servers = world.serversByHop()
  const phases = phasesOf(load.durationMs)
  const leaver = leaverOf(weights)
  const attempts: Attempt[] = []
  const snapshots: Snapshot[] = []
  const hasActive = load.target.protocol !== 'udp'

  const snapshot = (atMs: number): void => {
    const connections = weights.map(() => -1)
    for (const destination of service.destinations)
      connections[world.serverOf(destination)] =
        destination.activeConnections + (hasActive ? 0 : destination.inactiveConnections)
    snapshots.push({ atMs, connections })
  }
  const step = load.durationMs / SNAPSHOTS
  const events: { atMs: number; run: () => void }[] = [
    ...Array.from({ length: SNAPSHOTS }, (_, i) => {
      const atMs = (i + 1) * step
      return { atMs, run: () => snapshot(atMs) }
    }),
    { atMs: phases.leaveMs, run: () => world.remove(leaver) },
    { atMs: phases.returnMs, run: () => world.add(leaver, weights[leaver]!) },
    { atMs: phases.drainMs, run: () => world.weigh(leaver, 0) },
  ].sort((a, b) => a.atMs - b.atMs)

  let now = 0
  const advanceTo = (atMs: number): void => {
    const target = Math.floor(atMs / MS_PER_JIFFY)
    while (now < target) {
      now = Math.min(target, now + Math.max(1, director.jiffiesToNextTimer()))
      while (!director.advance(now));
    }
  }
  let nextEvent = 0
  const runEventsUntil = (atMs: number): void => {
    for (let event = events[nextEvent]; event && event.atMs <= atMs; event = events[nextEvent]) {
      advanceTo(event.atMs)
      event.run()
      nextEvent++
    }
  }
  for (let packet = 0; packet < load.packetCount; packet++) {
    const atMs = load.timeMs(packet)
    runEventsUntil(atMs)
    advanceTo(atMs)
    const length = load.write(packet, pool, offset)
    const before = director.table.count
    const verdict = director.process(offset, length, 0)
    const server = verdict === Verdict.forward ? servers.get(director.outHop) : undefined
    const client = party === 'site' ? load.siteOf(packet) : load.clientOf(packet)
    if (director.table.count > before) attempts.push({ atMs, client, server: server ?? -1 })
    else if (server === undefined && isRefusal(director.reason))
      attempts.push({ atMs, client, server: -1 })
  }
  runEventsUntil(load.durationMs)
  return { phases, weights, leaver, attempts, snapshots }
}

const isRefusal = (reason: number): boolean =>
  reason === Reason['no-destination'] || reason === Reason.overloaded

/** Lines of the connection table: two for each packet that may begin an IPv6 connection. */
const tableSize = (load: Load): number => 1024 + 2 * load.packetCount
