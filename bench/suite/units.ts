/** Values as people read them: three significant digits, with an SI prefix where there is one. */
import type { Parameters } from './measurement.js'

const PREFIXES: readonly (readonly [number, string])[] = [
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
]

/** Time below a microsecond is said in ns, memory in bytes: larger units of these are steps of their own. */
const STEPS: Readonly<Record<string, readonly (readonly [number, string])[]>> = {
  ns: [
    [1e9, 's'],
    [1e6, 'ms'],
    [1e3, 'µs'],
  ],
  bytes: [
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [2 ** 10, 'KiB'],
  ],
}

/** Units that are not scaled: a ratio and a share stay what they are. */
const PLAIN = new Set(['%', 'ratio', '×', ''])

/** Three significant digits, without an exponent. */
export function threeDigits(value: number): string {
  if (value === 0) return '0'
  const magnitude = Math.floor(Math.log10(Math.abs(value)))
  return value.toFixed(Math.min(4, Math.max(0, 2 - magnitude)))
}

/** What a value is divided by to be said with its unit. */
function scaleFor(value: number, unit: string): { divisor: number; unit: string; isPrefix?: true } {
  const size = Math.abs(value)
  const step = STEPS[unit]?.find(([least]) => size >= least)
  if (step !== undefined) return { divisor: step[0], unit: step[1] }
  if (unit in STEPS || PLAIN.has(unit)) return { divisor: 1, unit }
  const prefix = PREFIXES.find(([least]) => size >= least)
  if (prefix === undefined) return { divisor: 1, unit }
  const [divisor, letter] = prefix
  // A unit with a prefix of its own stays: '12 Gbit/s'.
  if (/^[GMk][a-z]/.test(unit)) return { divisor: 1, unit }
  return { divisor, unit: `${letter} ${unit}`, isPrefix: true }
}

/** As '38.1 ns', '1.42M packets/s', '96.0 MiB'. */
export function withUnit(value: number, unit: string): string {
  const scale = scaleFor(value, unit)
  return `${threeDigits(value / scale.divisor)}${scale.isPrefix ? '' : ' '}${scale.unit}`.trim()
}

/** A parameter's value: 64k, 1M for the powers of two and ten that sizes come in. */
export function shortNumber(value: number | string): string {
  if (typeof value === 'string') return value
  for (const [size, letter] of [
    [2 ** 20, 'M'],
    [1e6, 'M'],
    [2 ** 10, 'k'],
    [1e3, 'k'],
  ] as const)
    if (value >= size && value % size === 0) return `${value / size}${letter}`
  return value.toLocaleString('en-US')
}

/** Text this long says itself what it is. */
const TELLING = 12

/** As 'services 50k, known connections'. */
export const parametersText = (parameters: Parameters): string =>
  Object.entries(parameters)
    .map(([name, value]) =>
      typeof value === 'string' && value.length > TELLING ? value : `${name} ${shortNumber(value)}`,
    )
    .join(', ')
