/** Numbers on command lines: decimal digits and nothing else, so that nobody's 1e1 or 0x2 is taken for what it is not. */

/**
 * Reads what counts something.
 *
 * @param option as it was typed, '--workers'
 * @throws Error with the option, the text, and the range from `least` to `most`
 */
export function readCount(option: string, text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN
  return inRange(value, option, text, least, most, 'in decimal digits')
}

/** The same for what may have a fraction, as 0.5 or 90. */
export function readDecimal(option: string, text: string, least: number, most: number): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN
  return inRange(value, option, text, least, most, 'as 2 or 0.5')
}

function inRange(
  value: number,
  option: string,
  text: string,
  least: number,
  most: number,
  manner: string,
): number {
  if (value >= least && value <= most) return value
  throw new Error(`${option} ${text || "''"}: must be a number from ${least} to ${most}, ${manner}`)
}
