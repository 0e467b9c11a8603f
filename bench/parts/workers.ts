/** What several workers do together, as far as there are cores; and what that comes to on more, as a model. */
import { availableParallelism } from 'node:os'
import type { Context, Metric, Part, Subject } from '../suite/measurement.js'
import { runTrial, type TrialOptions, type TrialResult } from '../workers/trial.js'

const packets: Metric = { name: 'packets per second', unit: 'packets/s', better: 'higher' }
const connectionsBegun: Metric = {
  name: 'connections begun per second',
  unit: 'connections/s',
  better: 'higher',
}
const perPacket: Metric = { name: 'processor time of a packet', unit: 'ns', better: 'lower' }
const modelled: Metric = {
  name: 'packets per second by the model',
  unit: 'packets/s',
  better: 'higher',
}

const modelledConnections: Metric = {
  name: 'connections begun per second by the model',
  unit: 'connections/s',
  better: 'higher',
}
const cost: Metric = { name: 'what the model goes by', unit: 'ns', better: 'lower' }

const alone: Subject = { name: 'directors that share nothing', role: 'limit' }
const own: Subject = { name: 'uvs, each worker gets its own packets', role: 'uvs' }
const any: Subject = { name: 'uvs, packets come in by any queue', role: 'uvs' }

const modelOfOwn: Subject = { name: 'model, each worker gets its own packets', role: 'uvs' }
const modelOfAny: Subject = { name: 'model, packets come in by any queue', role: 'uvs' }
const modelOfCrowd: Subject = {
  name: 'model, any queue, and each core slows the others as two do here',
  role: 'uvs',
}
const modelOfConnections: Subject = { name: 'model, connections by round robin', role: 'uvs' }

const ownPacket: Subject = { name: 'a packet of the own worker', role: 'uvs' }
const handingOver: Subject = { name: 'that it is handed over: more', role: 'uvs' }
const crowding: Subject = { name: 'that another core works: more', role: 'limit' }
const beginning: Subject = { name: 'a connection that begins', role: 'uvs' }
const sharing: Subject = { name: 'of that, what is common', role: 'uvs' }

const CONNECTIONS = 65536
const MILLISECONDS = 400
/** A trial during which others had the processors for longer is taken again, so many times at most. */
const MOST_WAITED = 0.1
const ATTEMPTS = 3
const MODELLED_WORKERS = [1, 2, 3, 4, 6, 8, 12, 16]

export const workers: Part = {
  name: 'workers',
  title: 'Workers',
  description:
    'Directors on several threads, on ports in memory, forwarding directly 64-byte segments of 65,536 connections ' +
    'in random order, which is the least that a packet can cost: what workers add weighs most here. Beside them ' +
    'as many directors that share nothing, in the same rounds, as the limit that cores, caches and memory set. ' +
    'Packets come in at the worker whose they are, or by any queue, so that with two workers half of them are ' +
    'handed over. Rates are by the processor time of the threads, as if each had a core to itself. Beyond the cores ' +
    'of this machine there is a model, and it is called one: N workers carry N / (own + handed over × (N - 1) / N) ' +
    'packets a second, with the time of an own packet and what handing one over adds, both measured with two workers. ' +
    'How much more cores get in each other’s way at caches and memory cannot be known here; so it is computed, too, as ' +
    'if each core more slowed all others by as much as the second slows the first on this machine, whose two ' +
    'processors may well be one core’s threads: the truth lies between the two. Connections that begin take what ' +
    'they take of each worker, but what is common (a lock and some counts) is taken by one after the other: N workers ' +
    'begin as many as N allow, but no more than 1 / common, as if all of that had to wait for each other. Not in the ' +
    'model are sockets with memory of their own.',
  needsRoot: false,
  seconds: 40,
  quickSeconds: 9,
  leastSeconds: 25,
  claims: [
    {
      text: 'Two workers that get their own packets carry nearly what two directors that share nothing do',
      metric: packets.name,
      parameters: { workers: 2 },
      subject: own.name,
      against: alone.name,
      atLeast: 0.85,
    },
    {
      text: 'Two workers of whose packets half are handed over carry at least half of what two directors that share nothing do',
      metric: packets.name,
      parameters: { workers: 2 },
      subject: any.name,
      against: alone.name,
      atLeast: 0.5,
    },
    {
      text: 'Two workers that count in common and go round in common begin at least half as many connections',
      metric: connectionsBegun.name,
      parameters: { workers: 2 },
      subject: own.name,
      against: alone.name,
      atLeast: 0.5,
    },
  ],
  plots: [
    {
      title: 'Packets a second, by workers',
      metric: packets.name,
      x: 'workers',
      xScale: 'linear',
      yScale: 'linear',
      caption: 'Measured, as far as the cores of this machine reach.',
    },
    {
      title: 'Connections begun a second, by workers',
      metric: connectionsBegun.name,
      x: 'workers',
      xScale: 'linear',
      yScale: 'linear',
      caption:
        'By round robin, whose position is common: a lock and some atomic additions a connection.',
    },
    {
      title: 'Packets a second on more cores: a model',
      metric: modelled.name,
      x: 'workers',
      xScale: 'linear',
      yScale: 'linear',
      caption:
        'Not measured: computed from the measured times of an own packet and of one that is handed over.',
    },
    {
      title: 'Connections begun a second on more cores: a model',
      metric: modelledConnections.name,
      x: 'workers',
      xScale: 'linear',
      yScale: 'linear',
      caption:
        'Not measured: what is common to all workers is taken by one after the other, which bounds them together.',
    },
  ],
  async run(context) {
    const counts = availableParallelism() > 1 ? [1, 2] : [1]
    if (counts.length === 1)
      context.note('This machine has one core: nothing runs at the same time here.')
    let shares = 0
    let handedOver = 0
    for (const round of context.rounds({ least: 3, most: 15, share: 0.9 })) {
      const ofRound = new Map<string, TrialResult>()
      for (const count of counts)
        for (const subject of rotated(count === 1 ? [alone, own] : [alone, own, any], round)) {
          const traffic = subject === any ? 'any' : 'own'
          const isCrew = subject !== alone
          context.progress(`${count} × ${subject.name}`)
          await context.trial(subject, { workers: count }, round, async () => {
            const result = await settle(context, { workers: count, isCrew, traffic })
            ofRound.set(`${subject.name} ${count}`, result)
            if (subject === any) {
              shares++
              handedOver += result.handedOverShare
            }
            return [
              [packets, result.packetsPerSecond],
              [perPacket, result.nanosecondsPerPacket],
            ] as const
          })
        }
      for (const count of counts)
        for (const subject of rotated([alone, own], round)) {
          context.progress(`${count} × ${subject.name}, new connections`)
          await context.trial(subject, { workers: count }, round, async () => {
            const isCrew = subject !== alone
            const result = await settle(context, { workers: count, isCrew, traffic: 'new' })
            ofRound.set(`${subject.name} ${count} new`, result)
            return [[connectionsBegun, result.packetsPerSecond]] as const
          })
        }
      await model(context, round, ofRound)
    }
    if (shares > 0)
      context.note(
        `By any queue, ${Math.round((100 * handedOver) / shares)} % of the packets of two workers were handed over.`,
      )
  },
}

/** What the round's times come to with more workers. */
async function model(
  context: Context,
  round: number,
  ofRound: ReadonlyMap<string, TrialResult>,
): Promise<void> {
  const timeOf = (key: string): number | undefined => ofRound.get(key)?.nanosecondsPerPacket
  const anywhere = ofRound.get(`${any.name} 2`)
  const each = timeOf(`${own.name} 2`)
  const undisturbed = timeOf(`${alone.name} 1`)
  const disturbed = timeOf(`${alone.name} 2`)
  const begun = timeOf(`${own.name} 2 new`)
  const begunAlone = timeOf(`${alone.name} 1 new`)
  const begunByOne = timeOf(`${own.name} 1 new`)
  if (!anywhere || !each || !undisturbed || !disturbed || !begun || !begunAlone || !begunByOne)
    return
  if (anywhere.handedOverShare === 0) return
  const added = (anywhere.nanosecondsPerPacket - each) / anywhere.handedOverShare
  const slowing = Math.max(0, disturbed / undisturbed - 1)
  const common = Math.max(1, begunByOne - begunAlone)
  for (const [subject, nanoseconds] of [
    [ownPacket, each],
    [handingOver, added],
    [crowding, slowing * undisturbed],
    [beginning, begun],
    [sharing, common],
  ] as const)
    await context.trial(subject, {}, round, () => [[cost, nanoseconds]])
  for (const count of MODELLED_WORKERS) {
    const any = each + (added * (count - 1)) / count
    const crowded = (any * (1 + slowing * (count - 1))) / (1 + slowing)
    for (const [subject, time] of [
      [modelOfOwn, each],
      [modelOfAny, any],
      [modelOfCrowd, crowded],
    ] as const)
      await context.trial(subject, { workers: count }, round, () => [
        [modelled, (count * 1e9) / time],
      ])
    await context.trial(modelOfConnections, { workers: count }, round, () => [
      [modelledConnections, 1e9 * Math.min(count / begun, 1 / common)],
    ])
  }
}

/** One trial, again if others had the processors meanwhile. */
async function settle(
  context: Context,
  options: Pick<TrialOptions, 'workers' | 'isCrew' | 'traffic'>,
): Promise<TrialResult> {
  let best: TrialResult | undefined
  for (let attempt = 0; attempt < (context.quick ? 1 : ATTEMPTS); attempt++) {
    const milliseconds = context.quick ? 100 : MILLISECONDS
    const result = await runTrial({ ...options, connections: CONNECTIONS, milliseconds })
    if (!best || result.waitedShare < best.waitedShare) best = result
    if (best.waitedShare < MOST_WAITED) break
  }
  return best!
}

/** In another order each round. */
function rotated<T>(items: readonly T[], round: number): T[] {
  return items.map((_, i) => items[(i + round) % items.length]!)
}
