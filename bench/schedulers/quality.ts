/** What a course says about a scheduler, as figures. */
import type { Attempt, Course, Snapshot } from './replay.js'

export interface Imbalance {
  /** Connections per weight of the server that has most of it, against the mean of all: 1 is even. */
  readonly maxToMean: number
  /** Standard deviation of connections per weight against their mean: 0 is even. */
  readonly variation: number
}

/**
 * How uneven servers are laden at a moment; undefined while none has a connection.
 *
 * @param connections by servers, -1 for one that is not there
 */
export function imbalanceOf(
  connections: readonly number[],
  weights: readonly number[],
): Imbalance | undefined {
  const loads = connections.flatMap((count, i) =>
    count < 0 || weights[i]! <= 0 ? [] : [count / weights[i]!],
  )
  const mean = meanOf(loads)
  if (!(mean > 0)) return undefined
  const variance = meanOf(loads.map((load) => (load - mean) ** 2))
  return { maxToMean: Math.max(...loads) / mean, variation: Math.sqrt(variance) / mean }
}

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** Clients that came both before and after a moment. */
export interface Moves {
  readonly clients: number
  /** Those of them who met another server after it than before. */
  readonly moved: number
  /** Those whose server before was this one. */
  readonly ofServer: number
}

/** What became of the clients at a moment: their last connection in the window before, their first after it. */
export function movesAt(
  attempts: readonly Attempt[],
  atMs: number,
  windowMs: number,
  server: number,
): Moves {
  const before = new Map<number, number>()
  const after = new Map<number, number>()
  for (const { atMs: time, client, server: met } of attempts) {
    if (met < 0 || time < atMs - windowMs || time >= atMs + windowMs) continue
    if (time < atMs) before.set(client, met)
    else if (!after.has(client)) after.set(client, met)
  }
  const both = [...after].filter(([client]) => before.has(client))
  return {
    clients: both.length,
    moved: both.filter(([client, met]) => before.get(client) !== met).length,
    ofServer: both.filter(([client]) => before.get(client) === server).length,
  }
}

/** Of the connections between two moments whose client had one before, how many met the same server as that. */
export function stickiness(
  attempts: readonly Attempt[],
  fromMs: number,
  toMs: number,
): number | undefined {
  const last = new Map<number, number>()
  let again = 0
  let same = 0
  for (const { atMs, client, server } of attempts) {
    if (server < 0 || atMs >= toMs) continue
    const before = last.get(client)
    last.set(client, server)
    if (before === undefined || atMs < fromMs) continue
    again++
    if (before === server) same++
  }
  return again === 0 ? undefined : same / again
}

/** A server counts as full from this share of the others' mean connections per weight on. */
const FULL = 0.9

/**
 * How long a server took from a moment on until it had 90 % of the mean connections per weight of the others;
 * undefined if it did not until the end.
 */
export function fillMs(
  snapshots: readonly Snapshot[],
  weights: readonly number[],
  server: number,
  fromMs: number,
  toMs: number,
): number | undefined {
  const full = snapshots.find(({ atMs, connections }) => {
    if (atMs < fromMs || atMs >= toMs || connections[server]! < 0) return false
    const others = connections.flatMap((count, i) =>
      i === server || count < 0 || weights[i]! <= 0 ? [] : [count / weights[i]!],
    )
    const mean = meanOf(others)
    return mean > 0 && connections[server]! / weights[server]! >= FULL * mean
  })
  return full === undefined ? undefined : full.atMs - fromMs
}

/** A server's share of the new connections between two moments, against its share of the weights: 1 is fair. */
export function shareOfNew(
  { attempts, weights }: Pick<Course, 'attempts' | 'weights'>,
  server: number,
  fromMs: number,
  toMs: number,
): number | undefined {
  const served = attempts.filter((a) => a.server >= 0 && a.atMs >= fromMs && a.atMs < toMs)
  const fair = weights[server]! / weights.reduce((sum, weight) => sum + weight, 0)
  if (served.length === 0) return undefined
  return served.filter((attempt) => attempt.server === server).length / served.length / fair
}

/** Of the attempts between two moments, those that no server was found for. */
export function refusedShare(attempts: readonly Attempt[], fromMs: number, toMs: number): number {
  const all = attempts.filter(({ atMs }) => atMs >= fromMs && atMs < toMs)
  return all.length === 0 ? 0 : all.filter(({ server }) => server < 0).length / all.length
}

/** Shares are from 0 to 1; what could not be told is undefined. */
export interface Quality {
  /** Means over the steady time. */
  readonly imbalance: Imbalance | undefined
  /** The worst of the steady time. */
  readonly worst: number | undefined
  /** Mean number of connections that all servers together had in the steady time. */
  readonly connections: number
  /** Of the whole load: connections that clients asked for. */
  readonly attempts: number
  readonly stickiness: number | undefined
  /** Clients that met another server though nothing had changed. */
  readonly movedByItself: number | undefined
  readonly movedByLeaving: number | undefined
  /** Clients of the server that left: they have to. */
  readonly leastByLeaving: number | undefined
  readonly movedByReturn: number | undefined
  /** What a server that returns has to take over to have its share of the clients by its weight. */
  readonly leastByReturn: number
  readonly fillSeconds: number | undefined
  /** In the first moments after its return: its share of new connections, against its fair share. */
  readonly flood: number | undefined
  /** Until the server is drained. */
  readonly refused: number
  /** While a server is drained: weight 0. */
  readonly refusedWhileDraining: number
}

/** The first moments after a return: until the server is full, but no more than this share of the load. */
const FIRST_SHARE = 1 / 80

export function qualityOf(course: Course): Quality {
  const { phases, attempts, snapshots, weights, leaver } = course
  const { steadyMs, controlMs, leaveMs, returnMs, drainMs, endMs, windowMs } = phases
  const steady = snapshots.filter(({ atMs }) => atMs >= steadyMs && atMs < leaveMs)
  const imbalances = steady.flatMap(({ connections }) => imbalanceOf(connections, weights) ?? [])
  const isLaden = imbalances.length > 0
  const moved = ({ clients, moved }: Moves): number | undefined =>
    clients === 0 ? undefined : moved / clients
  const leaving = movesAt(attempts, leaveMs, windowMs, leaver)
  const fill = fillMs(snapshots, weights, leaver, returnMs, drainMs)
  const first = Math.min(fill ?? Infinity, endMs * FIRST_SHARE)
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return {
    imbalance: isLaden
      ? {
          maxToMean: meanOf(imbalances.map(({ maxToMean }) => maxToMean)),
          variation: meanOf(imbalances.map(({ variation }) => variation)),
        }
      : undefined,
    worst: isLaden ? Math.max(...imbalances.map(({ maxToMean }) => maxToMean)) : undefined,
    connections:
      steady.length === 0
        ? 0
        : meanOf(
            steady.map(({ connections }) =>
              connections.reduce((sum, n) => sum + Math.max(0, n), 0),
            ),
          ),
    attempts: attempts.length,
    stickiness: stickiness(attempts, steadyMs, leaveMs),
    movedByItself: moved(movesAt(attempts, controlMs, windowMs, leaver)),
    movedByLeaving: moved(leaving),
    leastByLeaving: leaving.clients === 0 ? undefined : leaving.ofServer / leaving.clients,
    movedByReturn: moved(movesAt(attempts, returnMs, windowMs, leaver)),
    leastByReturn: weights[leaver]! / total,
    fillSeconds: fill === undefined ? undefined : fill / 1000,
    flood: shareOfNew(course, leaver, returnMs, returnMs + first),
    refused: refusedShare(attempts, 0, drainMs),
    refusedWhileDraining: refusedShare(attempts, drainMs, endMs),
  }
}
