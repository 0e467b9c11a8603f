// Real traffic through the kernel's IPVS and through uvsd, in a guest: distribution, connections, counters.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { run } from '../../src/lab/process.js'
import type { LiveResult } from '../../src/lab/live-parity.js'
import { guestUnavailable } from './guest.js'

t.setTimeout(900_000)

const uvs = fileURLToPath(new URL('../../src/cli/uvs.js', import.meta.url))

for (const method of ['nat', 'dr', 'tun'])
  t.test(`live traffic, ${method}`, { skip: guestUnavailable() }, async (t) => {
    const args = [uvs, 'parity', '--live', '--kernel', 'guest', '--json', method]
    const { status, stdout, stderr } = await run(process.execPath, args, { timeoutMs: 800_000 })
    t.equal(status, 0, stderr)
    const [result] = JSON.parse(stdout) as LiveResult[]
    t.strictSame(result?.differences, [])
    t.equal(result?.method, method)
    t.ok(result!.exchanges > 100 && result!.connections > 100 && result!.counters > 50)
  })
