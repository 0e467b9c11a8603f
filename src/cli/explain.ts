import { explainLine } from '../scenario/explain.js'
import { readScenario } from '../scenario/parse.js'

const help = `Says what the director does with the packet of a scenario's line, and why.

Usage: uvs explain FILE.scn LINE
`

/** `uvs explain`. Exit status: 0; 2 for a wrong command line. */
export async function main(args: string[]): Promise<number> {
  const [file, line, ...more] = args
  if (file === '--help' || file === '-h') {
    process.stdout.write(help)
    return 0
  }
  if (file === undefined || !/^\d+$/.test(line ?? '') || more.length > 0) {
    const problem =
      file === undefined
        ? 'the scenario is missing'
        : line === undefined
          ? 'the number of a line is missing'
          : more.length > 0
            ? `one line at a time: '${more[0]}'`
            : `'${line}' is no number of a line`
    process.stderr.write(`uvs explain: ${problem}\n\n${help}`)
    return 2
  }
  const scenario = readScenario(file)
  process.stdout.write(await explainLine(scenario, Number(line)))
  return 0
}
