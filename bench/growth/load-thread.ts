import { threadTimeNs } from '../../src/kernel/processor-time.js'
import { answerQuestions } from '../suite/measuring-thread.js'
import { GrowthLoad, type GrowthOptions } from './load.js'

/** Of so many packets at most, within a time. The answer is nanoseconds of the thread's processor time for each. */
export interface GrowthTrial {
  packets: number
  milliseconds: number
}

answerQuestions<GrowthOptions, GrowthTrial>((options) => {
  const load = new GrowthLoad(options)
  return ({ packets, milliseconds }) => {
    const before = threadTimeNs()
    const carried = load.run(packets, milliseconds)
    const time = (threadTimeNs() - before) / carried
    load.check()
    return time
  }
})
