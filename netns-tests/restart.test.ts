// A killed uvsd leaves nothing that stands in its successor's way, and only one serves an interface.
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { sleep } from '../src/lab/process.js'
import {
  HTTP_PORT,
  startDaemon,
  uvsadm,
  type Daemon,
  type Driver,
  type Method,
  type Topology,
} from '../src/lab/topology.js'
import { build, skip } from './support/director.js'
import { kernelState } from './support/kernel-state.js'
import { becomeClient, tally, whoAnswers } from './support/traffic.js'

t.setTimeout(600_000)

const combinations: [Method, Driver][] = [
  ['nat', 'afxdp'],
  ['nat', 'tun'],
  ['dr', 'tap'],
]

for (const [method, driver] of combinations)
  void t.test(`${method} on ${driver}`, { skip }, async (t) => {
    const topology = await build(t, method, driver)
    const { client, director, virtualAddress } = topology
    const rules = writeRules(topology)
    const untouched = await kernelState(director)
    const start = (name: string) =>
      startDaemon(topology, { name, extraArguments: ['--rules', rules] })

    await t.test('kill -9 in mid-traffic, then the same command again', async (t) => {
      const first = await start('first')
      t.equal((await whoAnswers(client, virtualAddress, 30)).length, 30, 'traffic flows')
      const serving = await kernelState(director)
      await becomeClient(client, '192.168.10.20')
      const traffic = topology.lab.start(client, 'traffic', 'curl', [
        ...['-s', '--max-time', '1', '-H', 'Connection: close'],
        `http://${virtualAddress}:${HTTP_PORT}/[1-1000000]`,
      ])
      const served = await connectionsOf(first)
      while ((await connectionsOf(first)) === served) await sleep(50)
      first.process.signal('SIGKILL')
      t.equal(await first.process.waitForExit(), 137)

      const second = await start('second')
      t.strictSame(await kernelState(director), serving, 'what is programmed is there once')
      const before = await connectionsOf(second)
      while ((await connectionsOf(second)) === before) await sleep(50)
      t.pass('the requests that kept coming are served again')
      await traffic.stop()
      await becomeClient(client, '192.168.10.21')
      t.strictSame(
        tally(await whoAnswers(client, virtualAddress, 30)),
        { server1: 10, server2: 10, server3: 10 },
        'and shared out as before',
      )

      second.process.signal('SIGTERM')
      t.equal(await second.process.waitForExit(), 0, second.process.output.slice(-500))
      t.strictSame(await kernelState(director), untouched, 'and gone at its end')
    })

    await t.test('a second uvsd on the same interface is refused', async (t) => {
      const first = await start('served')
      const name = driver === 'afxdp' ? 'eth0' : 'uvs0'
      const second = await startDaemon(topology, { name: 'refused' }).then(
        () => undefined,
        (error: Error) => error,
      )
      t.ok(second, 'it does not start')
      t.match(second?.message, new RegExp(name), 'the error names the interface')
      t.match(second?.message, /another uvsd is running/, 'and says who has it')
      t.notMatch(second?.message, /\n\s+at /, 'in a sentence, not a stack trace')
      t.equal(first.process.exitStatus, undefined, 'the first one runs on')
      t.strictSame(tally(await whoAnswers(client, virtualAddress, 30)), {
        server1: 10,
        server2: 10,
        server3: 10,
      })
      first.process.signal('SIGTERM')
      t.equal(await first.process.waitForExit(), 0)
      t.strictSame(await kernelState(director), untouched, 'nothing is left behind')
    })
  })

/** Connections that the daemon has counted. */
async function connectionsOf(daemon: Daemon): Promise<number> {
  const listing = await uvsadm(daemon, ['-Ln', '--stats'])
  return Number(/^TCP +\S+ +(\d+)/m.exec(listing)?.[1])
}

function writeRules({ lab, virtualAddress, servers, forwardingOption }: Topology): string {
  const file = `${lab.folder}/rules`
  const service = `-t ${virtualAddress}:${HTTP_PORT}`
  const lines = servers.map(
    ({ address }) => `-a ${service} -r ${address}:${HTTP_PORT} ${forwardingOption} -w 1`,
  )
  writeFileSync(file, [`-A ${service} -s rr`, ...lines, ''].join('\n'))
  return file
}
