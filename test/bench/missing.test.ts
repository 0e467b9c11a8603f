// What a note says of a peer that could not be set up, by the messages that its programs' absence has.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import { whyMissing } from '../../bench/suite/missing.js'

void t.test('a program that is not there', async (t) => {
  const error: unknown = await promisify(execFile)('uvs-no-such-program').catch((e: unknown) => e)
  t.equal(whyMissing(error), 'uvs-no-such-program is not installed (scripts/setup --bench)')
  const byIp =
    'ip netns exec x nft add table: exit 1: exec of "nft" failed: No such file or directory'
  t.equal(whyMissing(new Error(byIp)), 'nft is not installed (scripts/setup --bench)')
})

void t.test('everything else in its own words', async (t) => {
  t.equal(whyMissing(new Error('nft: syntax error')), 'nft: syntax error')
})
