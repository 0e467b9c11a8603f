/** Where values stand on an axis, and which of them are written at it. */

export interface Scale {
  /** Place of a value, between the two ends that the scale was made for. */
  place(value: number): number
  readonly ticks: readonly number[]
  /** Lowest and highest value. */
  readonly domain: readonly [number, number]
}

/** 1, 2 or 5 times a power of ten: the first that is not below `value`. */
export function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  const factor = [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9))!
  return factor * power
}

/** 1, 2 or 5 times a power of ten: the last that is not above `value`. */
export function niceBelow(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value) + 1e-9)
  const factor = [5, 2, 1].find((step) => step * power <= value * (1 + 1e-9))!
  return factor * power
}

/** From 0, if nothing is below, to a round value. */
export function linearScale(
  values: readonly number[],
  from: number,
  to: number,
  tickCount: number,
): Scale {
  const lowest = Math.min(...values, 0)
  const highest = Math.max(...values, 0) || (lowest < 0 ? 0 : 1)
  const step = niceAbove((highest - lowest) / tickCount)
  const first = Math.floor(lowest / step)
  const last = Math.ceil(highest / step - 1e-9)
  const ticks = Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  )
  const domain = [ticks[0]!, ticks[ticks.length - 1]!] as const
  return {
    place: (value) => from + ((value - domain[0]) / (domain[1] - domain[0])) * (to - from),
    ticks,
    domain,
  }
}

/** More of an axis than this beyond the values would be wasted on having it end at a round one. */
const MOST_WASTE = 1.5
const MARGIN = 1.08

/** All above 0, between round values unless these are far; written are the more of these the fewer decades there are. */
export function logScale(values: readonly number[], from: number, to: number): Scale {
  const positive = values.filter((value) => value > 0)
  const least = positive.length > 0 ? Math.min(...positive) : 1
  const most = positive.length > 0 ? Math.max(...positive) : 10
  const below = niceBelow(least)
  const above = niceAbove(most)
  const low = least / below > MOST_WASTE ? least / MARGIN : below
  const high = above > low && above / most <= MOST_WASTE ? above : Math.max(most, low * 2) * MARGIN
  const decades = Math.log10(high / low)
  const factors = decades < 1 ? [1, 1.5, 2, 3, 4, 5, 7] : decades < 3.5 ? [1, 2, 5] : [1]
  const ticks: number[] = []
  for (let exponent = Math.floor(Math.log10(low)); 10 ** exponent <= high * 1.001; exponent++)
    for (const factor of factors) {
      const tick = Number((factor * 10 ** exponent).toPrecision(12))
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick)
    }
  return {
    place: (value) =>
      from + (Math.log(Math.max(value, low) / low) / Math.log(high / low)) * (to - from),
    ticks,
    domain: [low, high],
  }
}

/** So many measured values are written at an axis; of more, as of times, round ones are. */
const MOST_WRITTEN = 16

/** From the lowest to the highest measured value, which are written themselves. */
export function measuredScale(
  values: readonly number[],
  from: number,
  to: number,
  isLog: boolean,
): Scale {
  const ticks = [...new Set(values)].sort((a, b) => a - b)
  const low = ticks[0]!
  const high = ticks[ticks.length - 1]!
  if (low === high) return { place: () => (from + to) / 2, ticks, domain: [low, high] }
  // A logarithmic axis has no 0: it stands half a decade left of the next one.
  const positive = ticks.find((tick) => tick > 0) ?? 1
  const warp = isLog
    ? (value: number) => Math.log10(value > 0 ? value : positive / 3)
    : (value: number) => value
  const start = warp(low)
  const length = warp(high) - start
  const round = (): number[] =>
    linearScale(ticks, from, to, 6).ticks.filter((tick) => tick >= low && tick <= high)
  return {
    place: (value) => from + ((warp(value) - start) / length) * (to - from),
    ticks: ticks.length > MOST_WRITTEN && !isLog ? round() : ticks,
    domain: [low, high],
  }
}

/** Moves labels apart that would stand on one another, as little as possible, in the order that they have. */
export function spreadLabels(
  places: readonly number[],
  distance: number,
  lowest: number,
  highest: number,
): number[] {
  const order = places.map((_, i) => i).sort((a, b) => places[a]! - places[b]!)
  const result = [...places]
  let edge = lowest
  for (const i of order) {
    result[i] = Math.max(result[i]!, edge)
    edge = result[i]! + distance
  }
  edge = highest
  for (const i of order.reverse()) {
    result[i] = Math.min(result[i]!, edge)
    edge = result[i]! - distance
  }
  return result
}
