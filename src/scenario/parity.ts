/** A scenario through uvs and through a kernel, and what comes of the comparison. */
import { compareTraces, type Difference } from './compare.js'
import { eventsOf } from './events.js'
import type { Oracle } from './oracle/oracle.js'
import { parseScenario } from './parse.js'
import { replayEvents } from './replay.js'
import type { Scenario } from './scenario.js'
import { shrink } from './shrink.js'
import type { Trace } from './trace.js'

/**
 * @returns the first difference, undefined when both agree
 * @throws ScenarioError when the scenario cannot be run, an Error when the kernel cannot be asked
 */
export async function differenceOf(
  oracle: Oracle,
  scenario: Scenario,
): Promise<Difference | undefined> {
  const [kernels, ours] = await Promise.all([oracle.run(scenario), ourTrace(scenario)])
  return compareTraces(eventsOf(scenario), ours, kernels)
}

async function ourTrace(scenario: Scenario): Promise<Trace> {
  return replayEvents(eventsOf(scenario), scenario.name)
}

/** A scenario that differs, as small as it gets, with the same sort of first difference. */
export function shrinkDifference(oracle: Oracle, name: string, text: string): Promise<string> {
  return shrink(text, async (candidate) => {
    try {
      return (await differenceOf(oracle, parseScenario(candidate, name)))?.kind
    } catch {
      // A candidate that cannot be run fails otherwise.
      return undefined
    }
  })
}
