import { rmSync, statSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { LinkType, PcapWriter } from '../drivers/pcap.js'
import { describeRun } from '../scenario/account.js'
import { eventsOf } from '../scenario/events.js'
import { readScenario } from '../scenario/parse.js'
import { replayEvents } from '../scenario/replay.js'
import type { Event, Side } from '../scenario/scenario.js'
import { formatTrace } from '../scenario/trace.js'
import { sideNames } from '../scenario/wiring.js'
import { readCount } from './numbers.js'

const help = `Runs a scenario through the director, in virtual time.

Usage: uvs replay FILE.scn [--trace OUT.ndjson] [--pcap OUT.pcap] [--seed N] [--json]

  --trace FILE   the trace, one JSON object a line; - is standard output
  --pcap FILE    the packets that came in and went out, at their times (.pcap; any other name: pcapng,
                 which also says on which side); - is standard output
  --seed N       of what the director draws at random, 1
  --json         the trace on standard output, as --trace -

Without --trace, --json and --pcap -, the run is told line by line.
`

/** `uvs replay`. Exit status: 0, 2 for a wrong command line; a scenario that cannot be read throws. */
export async function main(args: string[]): Promise<number> {
  const usage = (problem: string): number => {
    process.stderr.write(`uvs replay: ${problem}\n\n${help}`)
    return 2
  }
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        trace: { type: 'string' },
        pcap: { type: 'string' },
        seed: { type: 'string', default: '1' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    return usage((error as Error).message)
  }
  const { values, positionals } = parsed
  if (values.help) {
    process.stdout.write(help)
    return 0
  }
  const [file, ...more] = positionals
  if (file === undefined) return usage('the scenario is missing')
  if (more.length > 0) return usage(`one scenario at a time: '${more[0]}'`)
  let seed: number
  try {
    seed = readCount('--seed', values.seed, 0, 999_999_999)
  } catch (error) {
    return usage((error as Error).message)
  }

  const traceToStdout = values.json || values.trace === '-'
  if (traceToStdout && values.pcap === '-')
    return usage('trace and capture cannot both go to standard output')

  const scenario = readScenario(file)
  const events = eventsOf(scenario)
  const capture = values.pcap === undefined ? undefined : captureTo(values.pcap)
  let isWhole = false
  const interfaces = new Map<Side, number>(
    capture ? sideNames.map((side) => [side, capture.addInterface(side, LinkType.ethernet)]) : [],
  )
  try {
    const refusals = new Map<Event, string>()
    const trace = await replayEvents(events, scenario.name, {
      seed,
      onRefusal: (event, problem) => refusals.set(event, problem),
      ...(capture
        ? {
            onFrame: (frame, side, direction, atMs) =>
              capture.write(
                frame,
                { seconds: Math.floor(atMs / 1000), nanoseconds: (atMs % 1000) * 1e6 },
                interfaces.get(side)!,
                direction,
              ),
          }
        : {}),
    })
    const text = formatTrace(trace)
    if (values.trace !== undefined && values.trace !== '-') writeFileSync(values.trace, text)
    if (traceToStdout) process.stdout.write(text)
    else if (values.trace === undefined && values.pcap !== '-') {
      const { directives } = scenario
      for (const piece of describeRun({ directives, events, trace, refusals }))
        process.stdout.write(piece)
    }
    isWhole = true
    return 0
  } finally {
    capture?.close()
    if (!isWhole && values.pcap !== undefined) removeFile(values.pcap)
  }
}

/** Takes the beginning of a capture away; what is no file, as a device, stays. */
function removeFile(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) rmSync(path)
}

function captureTo(path: string): PcapWriter {
  return path === '-'
    ? new PcapWriter((bytes) => process.stdout.write(bytes.slice()))
    : PcapWriter.create(path)
}
