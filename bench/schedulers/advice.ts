/** What the figures say, in sentences: what each scheduler did, and which fits what. */
import { parseCandidate, purposeOf } from './candidates.js'
import * as metrics from './metrics.js'
import type { Party } from './load.js'
import type { Figures } from './metrics.js'

/** What is known of one scheduler with one load, as text needs it. Shares in per cent. */
export interface Row {
  readonly name: string
  readonly busiest: number | undefined
  readonly worst: number | undefined
  readonly variation: number | undefined
  readonly same: number | undefined
  readonly movedByItself: number | undefined
  readonly movedByLeaving: number | undefined
  readonly leastByLeaving: number | undefined
  readonly movedByReturn: number | undefined
  readonly leastByReturn: number | undefined
  readonly fillSeconds: number | undefined
  readonly flood: number | undefined
  readonly refused: number
  readonly refusedWhileDraining: number
  readonly attempts: number
  /** Nanoseconds of a decision among about as many servers. */
  readonly nanoseconds: number | undefined
}

/** The number of destinations that was measured nearest to a number of servers. */
export function nearestSize(figures: Figures, servers: number): number | undefined {
  const sizes = figures.values<number>(metrics.cost.decision, 'destinations')
  const distance = (size: number): number => Math.abs(Math.log(size / servers))
  return [...sizes].sort((a, b) => distance(a) - distance(b))[0]
}

export function rowsOf(figures: Figures, load: string, servers: number): Row[] {
  const destinations = nearestSize(figures, servers)
  const { quality, moved, leastMoved, refused, cost } = metrics
  const [nothing, leaves, returns] = metrics.moments
  const [work, drained] = metrics.refusals
  return figures.subjects(refused, { load }).map((name) => ({
    name,
    busiest: figures.of(quality.busiest, name, { load }),
    worst: figures.of(quality.worst, name, { load }),
    variation: figures.of(quality.variation, name, { load }),
    same: figures.of(quality.same, name, { load }),
    movedByItself: figures.of(moved, name, { load, moment: nothing }),
    movedByLeaving: figures.of(moved, name, { load, moment: leaves }),
    leastByLeaving: figures.of(leastMoved, name, { load, moment: leaves }),
    movedByReturn: figures.of(moved, name, { load, moment: returns }),
    leastByReturn: figures.of(leastMoved, name, { load, moment: returns }),
    fillSeconds: figures.of(quality.fill, name, { load }),
    flood: figures.of(quality.flood, name, { load }),
    refused: figures.of(refused, name, { load, moment: work }) ?? 0,
    refusedWhileDraining: figures.of(refused, name, { load, moment: drained }) ?? 0,
    attempts: figures.of(quality.attempts, name, { load }) ?? 0,
    nanoseconds:
      destinations === undefined ? undefined : figures.of(cost.decision, name, { destinations }),
  }))
}

/** Below this share of connections nobody would notice. */
const NOTICEABLE_PERCENT = 0.1
const ALWAYS_PERCENT = 99
/** From this share of all that there can be on, one server has it all. */
const ALL_ON_ONE = 0.9
/** Figures that differ by less than this are alike. */
const ALIKE = 0.03
const FLOODED = 2

export const percent = (value: number): string =>
  `${value >= 10 || value === 0 ? value.toFixed(0) : value.toFixed(1)} %`
export const times = (value: number): string =>
  `${value >= 10 ? value.toFixed(1) : value.toFixed(2)} ×`
export const seconds = (value: number): string =>
  `${value >= 10 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} s`

export const isAllOnOne = ({ busiest }: Row, servers: number): boolean =>
  busiest !== undefined && busiest >= ALL_ON_ONE * servers
const isSticky = ({ same }: Row): boolean => same !== undefined && same >= ALWAYS_PERCENT
const isServing = ({ refused }: Row): boolean => refused < NOTICEABLE_PERCENT

/** More clients moved than had to, when a server left and when it returned. */
const needlessMoves = (row: Row): number =>
  Math.max(0, (row.movedByLeaving ?? 0) - (row.leastByLeaving ?? 0)) +
  Math.max(0, (row.movedByReturn ?? 0) - (row.leastByReturn ?? 0))

const list = (names: readonly string[]): string =>
  names.length < 2
    ? (names[0] ?? '')
    : `${names.slice(0, -1).join(', ')} and ${names[names.length - 1]}`

/** What a scheduler did with a load, and what it is for. */
export function sentenceOf(row: Row, servers: number, party: Party): string {
  const { busiest, same, flood, fillSeconds } = row
  const parts: string[] = []
  if (busiest === undefined) parts.push('no server ever had a connection')
  else if (isAllOnOne(row, servers)) parts.push('one server had everything')
  else
    parts.push(
      `the busiest server had ${times(busiest)} the mean (${times(row.worst!)} at the worst moment)`,
    )
  if (same !== undefined)
    parts.push(
      isSticky(row)
        ? `${party}s met the same server again${same < 100 ? ` in ${same.toFixed(1)} % of cases` : ''}`
        : `${percent(same)} of the ${party}s that came again met the same server`,
    )
  if (isSticky(row) && row.movedByLeaving !== undefined && row.leastByLeaving !== undefined)
    parts.push(
      `${percent(row.movedByLeaving)} of them moved when one left, where ${percent(row.leastByLeaving)} had to`,
    )
  if (flood !== undefined)
    parts.push(
      `a cold server got ${times(flood)} its share of new connections at first and ` +
        (fillSeconds === undefined
          ? 'did not fill while it was watched'
          : `was as full as the others after ${seconds(fillSeconds)}`),
    )
  if (row.refused >= NOTICEABLE_PERCENT)
    parts.push(`${percent(row.refused)} of the connections were refused`)
  if (row.refusedWhileDraining >= NOTICEABLE_PERCENT)
    parts.push(`${percent(row.refusedWhileDraining)} were refused while one server was drained`)
  const told = parts.join('; ')
  return `${told[0]!.toUpperCase()}${told.slice(1)}. It is for ${purposeOf(parseCandidate(row.name))}.`
}

const cost = ({ nanoseconds }: Row): string =>
  nanoseconds === undefined ? '' : `, ${nanoseconds.toFixed(0)} ns a decision`

function byLeast(rows: readonly Row[], value: (row: Row) => number): Row[] {
  return [...rows].sort(
    (a, b) => value(a) - value(b) || (a.nanoseconds ?? 0) - (b.nanoseconds ?? 0),
  )
}

function evenest(rows: readonly Row[]): string[] {
  const usable = rows.filter((row) => isServing(row) && row.busiest !== undefined)
  const [best] = byLeast(usable, (row) => row.busiest!)
  if (best === undefined) return []
  const alike = usable.filter((row) => row.busiest! <= best.busiest! * (1 + ALIKE))
  const cheapest = byLeast(alike, (row) => row.nanoseconds ?? 0)[0]!
  if (alike.length === usable.length && usable.length > 1)
    return ['Servers laden as their weights say: all are alike here.']
  const others = alike.filter((row) => row !== cheapest).map(({ name }) => name)
  return [
    `Servers laden as their weights say: ${cheapest.name} (busiest ${times(cheapest.busiest!)} the mean` +
      `${cost(cheapest)})` +
      (others.length === 0
        ? '.'
        : `; ${list(others)} ${others.length === 1 ? 'is' : 'are'} as even.`),
  ]
}

function stickiest(rows: readonly Row[], servers: number, party: Party): string[] {
  const sticky = rows.filter((row) => isSticky(row) && !isAllOnOne(row, servers) && isServing(row))
  const text = `A ${party} meets the same server: `
  if (sticky.length === 0) {
    if (rows.every(({ same }) => same === undefined)) return []
    const [most] = byLeast(
      rows.filter((row) => !isAllOnOne(row, servers)),
      ({ same }) => -(same ?? 0),
    )
    const hint = party === 'client' ? ' Persistence (ipvsadm -p) gives it to any.' : ''
    return [
      `${text}none of these always` +
        (most?.same === undefined ? '.' : `, ${most.name} in ${percent(most.same)} of cases.`) +
        hint,
    ]
  }
  const [best] = byLeast(
    sticky,
    (row) => Math.round(needlessMoves(row)) + row.refusedWhileDraining + (row.busiest ?? 0) / 100,
  )
  return [
    `${text}${best!.name} (moved when a server left: ${percent(best!.movedByLeaving ?? 0)}, at least ` +
      `${percent(best!.leastByLeaving ?? 0)}; when it returned: ${percent(best!.movedByReturn ?? 0)}, ` +
      `at least ${percent(best!.leastByReturn ?? 0)}; busiest ${times(best!.busiest!)} the mean${cost(best!)}).`,
  ]
}

function gentlest(rows: readonly Row[], servers: number): string[] {
  const known = rows.filter(
    (row) =>
      row.flood !== undefined &&
      row.fillSeconds !== undefined &&
      isServing(row) &&
      !isAllOnOne(row, servers),
  )
  const flooding = known.filter((row) => row.flood! >= FLOODED)
  if (flooding.length === 0) return []
  const gentle = known.filter((row) => row.flood! < FLOODED && !isSticky(row))
  const [best] = byLeast(gentle, (row) => row.busiest!)
  const most = byLeast(flooding, (row) => -row.flood!)[0]!
  const who = list(flooding.map(({ name }) => name))
  return [
    `A server that comes back cold is flooded by ${who} (${times(most.flood!)} its share with ${most.name})` +
      (best === undefined
        ? '.'
        : `; ${best.name} gives it ${times(best.flood!)} and fills it in ${seconds(best.fillSeconds!)}.`),
  ]
}

function warnings(rows: readonly Row[], servers: number): string[] {
  const all: string[] = []
  const one = rows.filter((row) => isAllOnOne(row, servers)).map(({ name }) => name)
  if (one.length > 0) all.push(`Everything went to one server with ${list(one)}.`)
  for (const row of rows.filter((each) => !isServing(each)))
    all.push(`${row.name} refused ${percent(row.refused)} of the connections.`)
  for (const row of rows) {
    if (row.refusedWhileDraining < NOTICEABLE_PERCENT || row.name.includes('fallback')) continue
    const fallback = rows.find(
      ({ name }) => name.startsWith(`${row.name}+`) && name.includes('fallback'),
    )
    all.push(
      `${row.name} refused ${percent(row.refusedWhileDraining)} while one server had weight 0` +
        (fallback === undefined
          ? '.'
          : `; ${fallback.name} ${percent(fallback.refusedWhileDraining)}.`),
    )
  }
  return all
}

/** How many connections a server needs so that figures mean something. */
const ENOUGH = 100

/** What the figures of one load recommend. */
export function recommend(rows: readonly Row[], servers: number, party: Party): string[] {
  const attempts = Math.max(0, ...rows.map((row) => row.attempts))
  if (attempts < ENOUGH * servers)
    return [
      `Nothing: ${attempts.toFixed(0)} connections to ${servers} servers are an example, no measurement. ` +
        `A load of ${ENOUGH} connections a server and more says something.`,
    ]
  return [
    ...evenest(rows),
    ...stickiest(rows, servers, party),
    ...gentlest(rows, servers),
    ...warnings(rows, servers),
  ]
}
