import { writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { Oracle, type OracleKernel } from '../scenario/oracle/oracle.js'
import { readScenario } from '../scenario/parse.js'
import type { Scenario } from '../scenario/scenario.js'
import { formatTrace } from '../scenario/trace.js'
import { makeWritableFolder } from './folder.js'

const SUFFIX = '.scn'

const help = `uvs oracle, a real kernel that says what IPVS does

Usage: uvs oracle FILE${SUFFIX}… --trace-dir DIR [--kernel running|guest]
       uvs oracle FILE${SUFFIX} [--kernel running|guest]

Runs scenarios through a kernel's IPVS, each in a network namespace of its own, and writes what
became of each packet and each ipvsadm command as DIR/NAME.ndjson, or to stdout if it is one.

  --trace-dir DIR   where the traces go; made if it is not there
  --kernel WHICH    running: the kernel of this machine, in real time
                    guest: one in User-Mode Linux, in virtual time: hours take no time
                    (default: the running one if it has IPVS, else a guest)
  --help            this text

The running kernel takes root, a guest does not.
`

/** For a wrong command line. */
function fail(message: string): 2 {
  process.stderr.write(`uvs oracle: ${message}; uvs oracle --help\n`)
  return 2
}

export async function main(args: string[]): Promise<number> {
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        'trace-dir': { type: 'string' },
        kernel: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    return fail((error as Error).message)
  }
  const { values, positionals } = parsed
  if (values.help) {
    process.stdout.write(help)
    return 0
  }
  const { kernel, 'trace-dir': directory } = values
  if (positionals.length === 0) return fail('the scenario is missing')
  if (kernel !== undefined && kernel !== 'running' && kernel !== 'guest')
    return fail(`--kernel ${kernel}: there are 'running' and 'guest'`)
  if (directory === undefined && positionals.length > 1)
    return fail('several scenarios: say with --trace-dir where their traces go')
  const names = positionals.map((file) => basename(file, SUFFIX))
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (directory !== undefined && twice !== undefined)
    return fail(`two scenarios would both write ${twice}.ndjson`)

  // All are read before anything is started.
  const scenarios = positionals.map(readScenario)
  if (directory !== undefined) makeWritableFolder('--trace-dir', directory)
  const oracle = await Oracle.start(kernel ? { kernel: kernel satisfies OracleKernel } : {})
  try {
    process.stderr.write(`uvs oracle: asking ${oracle.description}\n`)
    const write = async (scenario: Scenario, name: string): Promise<boolean> => {
      try {
        const text = formatTrace(await oracle.run(scenario))
        if (directory === undefined) process.stdout.write(text)
        else writeFileSync(join(directory, `${name}.ndjson`), text)
        return true
      } catch (error) {
        process.stderr.write(`uvs oracle: ${(error as Error).message}\n`)
        return false
      }
    }
    const done = await Promise.all(scenarios.map((scenario, i) => write(scenario, names[i]!)))
    return done.every(Boolean) ? 0 : 1
  } finally {
    await oracle.stop()
  }
}
