// What is not the director's passes through the kernel as if uvsd were not there.
import t from 'tap'
import {
  driversOf,
  HTTP_PORT,
  methods,
  type Driver,
  type Method,
  type Topology,
} from '../src/lab/topology.js'
import { buildWithDaemon, serve, skip } from './support/director.js'
import { download, tally, whoAnswers } from './support/traffic.js'
import { payloadDigest } from '../src/lab/payload.js'
import { answered } from './support/ping.js'
import { fileURLToPath } from 'node:url'

t.setTimeout(600_000)

/** Where the director's own service listens, as sshd would. */
const OWN_PORT = 22
const serverProgram = fileURLToPath(new URL('../src/lab/server.js', import.meta.url))

for (const method of methods)
  for (const driver of driversOf[method])
    void t.test(`${method} on ${driver}`, { skip }, async (t) => {
      const { topology, daemon } = await buildWithDaemon(t, method, driver)
      await startOwnService(topology)
      await serve(topology, daemon, { port: HTTP_PORT })
      await checkKernelTraffic(t, topology, method, driver)
    })

async function startOwnService({ lab, director }: Topology): Promise<void> {
  const own = lab.start(director, 'own-service', process.execPath, [
    ...[serverProgram, 'director', '--http', String(OWN_PORT)],
  ])
  await own.waitForLine(/ready/)
}

async function checkKernelTraffic(
  t: import('tap').Test,
  topology: Topology,
  method: Method,
  driver: Driver,
): Promise<void> {
  const { client, router, servers, directorAddress, virtualAddress } = topology
  const beside = { port: OWN_PORT }

  await t.test('the service is there', async (t) => {
    t.equal((await whoAnswers(client, virtualAddress, 30)).length, 30)
  })

  await t.test("TCP to the director's own address", async (t) => {
    t.strictSame(tally(await whoAnswers(client, directorAddress, 20, beside)), { director: 20 })
    const bytes = 5_000_000
    t.strictSame(await download(client, `http://${directorAddress}:${OWN_PORT}/bytes/${bytes}`), {
      sha256: payloadDigest(bytes),
      bytes,
    })
  })

  // A TAP station has the VIP for itself: the kernel behind it does not know the address.
  if (driver !== 'tap')
    await t.test('TCP to a port of the VIP that is no service', async (t) => {
      t.strictSame(tally(await whoAnswers(client, virtualAddress, 20, beside)), { director: 20 })
    })

  await t.test('ping, small and in fragments', async (t) => {
    const addresses = driver === 'tap' ? [directorAddress] : [directorAddress, virtualAddress]
    for (const address of addresses) {
      // Until that many are answered: with -W, ping gives the last ones no more than two round trips.
      const small = await client.try('ping', ['-c', '5', '-i', '0.05', '-w', '60', address])
      t.ok(answered(small) >= 5, `${address} answers ${small.stderr}`)
      const pinging = ['-c', '2', '-i', '0.05', '-w', '60', '-s', '4000', address]
      const large = await client.try('ping', pinging)
      t.ok(answered(large) >= 2, `${address} answers in fragments ${large.stderr}`)
    }
  })

  await t.test('ARP', async (t) => {
    const [asker, device] = router ? ([router, 'eth1'] as const) : ([client, 'eth0'] as const)
    for (const address of [directorAddress, virtualAddress]) {
      await asker.ip('neighbour', 'flush', 'dev', device)
      // Whatever the ping becomes, it has to ask for the neighbour first; the kernel gives up after three seconds.
      let neighbour = ''
      for (let tries = 0; tries < 20 && !/lladdr/.test(neighbour); tries++) {
        await asker.try('ping', ['-c', '1', '-W', '1', address])
        neighbour = await asker.ip('neighbour', 'show', address, 'dev', device)
      }
      t.match(neighbour, /lladdr .* (REACHABLE|DELAY|STALE)/, `${address}: ${neighbour.trim()}`)
    }
    t.equal((await whoAnswers(client, virtualAddress, 10)).length, 10, 'and the service goes on')
  })

  await t.test('real servers as themselves', async (t) => {
    for (const { name, address } of servers) {
      const ping = await client.try('ping', ['-c', '1', '-w', '60', address])
      t.ok(answered(ping) >= 1, `${name} answers ping`)
      // Under masquerading the answer comes from an address and port that uvsd looks at, and declines.
      t.strictSame(tally(await whoAnswers(client, address, 5)), { [name]: 5 }, `${method}: ${name}`)
    }
  })
}
