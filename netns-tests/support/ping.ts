/**
 * How many requests were answered, by what ping says at its end. With -w it goes on until there are as many as -c
 * says, or more, if several answers are late together.
 */
export function answered(ping: { stdout: string }): number {
  return Number(/ (\d+) received/.exec(ping.stdout)?.[1])
}
