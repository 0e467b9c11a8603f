/** What a plot shows, put in order: panels, in each of them lines of points. */
import type { Metric, Parameters, Plot, Subject } from '../suite/measurement.js'
import { hasParameters, isDisturbed, type Series, type Spread } from '../suite/statistics.js'
import { parametersText } from '../suite/units.js'

export interface Point {
  readonly x: number | string
  readonly spread: Spread
  /** The single trials, and whether each was disturbed. */
  readonly trials: readonly { readonly value: number; readonly disturbed: boolean }[]
}

export interface Line {
  readonly label: string
  readonly subject: Subject
  /** uvs among others. */
  readonly isEmphasised: boolean
  readonly points: readonly Point[]
}

export interface Panel {
  /** What its samples have in common, if there are others. */
  readonly title: string
  readonly lines: readonly Line[]
}

export interface PlotData {
  readonly plot: Plot
  readonly metric: Metric
  readonly panels: readonly Panel[]
}

/** Names of the parameters that do not have one and the same value everywhere. */
function varyingNames(all: readonly Parameters[]): string[] {
  const names = [...new Set(all.flatMap((parameters) => Object.keys(parameters)))]
  return names.filter((name) => new Set(all.map((parameters) => parameters[name])).size > 1)
}

const pick = (parameters: Parameters, names: readonly string[]): Parameters =>
  Object.fromEntries(
    names.flatMap((name) => {
      const value = parameters[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

/** More subjects than these are none among others. */
const MOST_EMPHASISED = 4

const byPlace = (a: Point, b: Point): number =>
  typeof a.x === 'number' && typeof b.x === 'number' ? a.x - b.x : 0

/** @returns undefined if nothing was measured for it */
export function plotData(
  plot: Plot,
  all: readonly Series[],
  disturbedBound: number,
): PlotData | undefined {
  const shown = all.filter(
    ({ metric, subject, parameters }) =>
      metric.name === plot.metric &&
      parameters[plot.x] !== undefined &&
      hasParameters(parameters, plot.where ?? {}) &&
      (plot.subjects?.includes(subject.name) ?? true),
  )
  if (shown.length === 0) return undefined
  const lineNames = plot.lines === undefined ? [] : [plot.lines]
  const rest = varyingNames(shown.map(({ parameters }) => parameters)).filter(
    (name) => name !== plot.x && !lineNames.includes(name),
  )
  const subjects = new Set(shown.map(({ subject }) => subject.name))
  const uvs = new Set(shown.flatMap(({ subject }) => (subject.role === 'uvs' ? subject.name : [])))
  const isUvsEmphasised = uvs.size < subjects.size && uvs.size <= MOST_EMPHASISED
  const labelOf = ({ name }: Subject, own: string): string =>
    own === '' ? name : subjects.size === 1 ? own : `${name}, ${own}`
  const pointOf = ({ parameters, spread, samples }: Series): Point => ({
    x: parameters[plot.x]!,
    spread,
    trials: samples.map((sample) => ({
      value: sample.value,
      disturbed: isDisturbed(sample, disturbedBound),
    })),
  })
  const panels = [
    ...groupBy(shown, ({ parameters }) => parametersText(pick(parameters, rest))),
  ].map(([title, series]): Panel => {
    const lines = groupBy(
      series,
      ({ subject, parameters }) =>
        `${subject.name}\n${parametersText(pick(parameters, lineNames))}`,
    )
    return {
      title,
      lines: [...lines.values()].map((group): Line => {
        const { subject, parameters } = group[0]!
        const own = parametersText(pick(parameters, lineNames))
        return {
          label: labelOf(subject, own),
          isEmphasised: isUvsEmphasised && subject.role === 'uvs',
          subject,
          points: group.map(pointOf).sort(byPlace),
        }
      }),
    }
  })
  return { plot, metric: shown[0]!.metric, panels }
}
