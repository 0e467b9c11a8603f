/** Options that parts have of their own, on the command line of `uvs bench`. */
import type { ParseArgsConfig } from 'node:util'
import type { Part, PartOptions } from './measurement.js'

/** For parseArgs: the options of all these parts. */
export function parserOptionsOf(parts: readonly Part[]): NonNullable<ParseArgsConfig['options']> {
  return Object.fromEntries(
    parts.flatMap(({ options = {} }) =>
      Object.entries(options).map(([name, { value }]) => [
        name,
        { type: value === undefined ? ('boolean' as const) : ('string' as const) },
      ]),
    ),
  )
}

/** What was given of them, from parseArgs' values. */
export function givenOptions(
  parts: readonly Part[],
  values: Readonly<Record<string, unknown>>,
): PartOptions {
  const given: Record<string, string | true> = {}
  for (const { options = {} } of parts)
    for (const name of Object.keys(options)) {
      const value = values[name]
      if (typeof value === 'string' || value === true) given[name] = value
    }
  return given
}

/** Those of the given options that are one part's. */
export function ownOptions({ options = {} }: Part, given: PartOptions): PartOptions {
  return Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(options, name)))
}

/** What the usage says about a part's options; empty if it has none. */
export function optionsUsage({ name, options = {} }: Part): string {
  const rows = Object.entries(options).map(
    ([option, { value, help }]) =>
      [`--${option}${value === undefined ? '' : ` ${value}`}`, help] as const,
  )
  const width = Math.max(...rows.map(([left]) => left.length)) + 2
  const lines = rows.map(([left, help]) => `  ${left.padEnd(width)}${help}\n`)
  return lines.length === 0 ? '' : `\nOptions of ${name}:\n${lines.join('')}`
}
