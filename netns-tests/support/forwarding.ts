// What every forwarding method on every driver has to do with real traffic: curl and the kernel's TCP on
// both ends, three real servers, one uvsd for the whole run.
import type { Test } from 'tap'
import { payloadDigest } from '../../src/lab/payload.js'
import { sleep } from '../../src/lab/process.js'
import {
  ECHO_PORT,
  HTTP_PORT,
  uvsadm,
  type Daemon,
  type Driver,
  type Method,
  type Topology,
} from '../../src/lab/topology.js'
import { buildWithDaemon, serve } from './director.js'
import { becomeClient, download, echoAnswers, tally, upload, whoAnswers } from './traffic.js'
import { checkWire } from './wire-check.js'

const BULK_BYTES = 100_000_000

export async function checkForwarding(t: Test, method: Method, driver: Driver): Promise<void> {
  const { topology, daemon } = await buildWithDaemon(t, method, driver)
  const { client, virtualAddress } = topology
  const url = `http://${virtualAddress}`
  let clients = 0
  const nextClient = async (): Promise<string> => {
    const address = `192.168.10.${20 + clients++}`
    await becomeClient(client, address)
    return address
  }

  await t.test('rr: 1,000 requests over three servers', async (t) => {
    await nextClient()
    await serve(topology, daemon, { port: HTTP_PORT, scheduler: 'rr' })
    const counts = tally(await whoAnswers(client, virtualAddress, 1000))
    t.strictSame(
      Object.values(counts).sort(),
      [333, 333, 334],
      `shared out evenly: ${JSON.stringify(counts)}`,
    )
  })

  await t.test('wrr: weights 3, 2 and 1', async (t) => {
    await nextClient()
    await serve(topology, daemon, { port: HTTP_PORT, scheduler: 'wrr', weights: [3, 2, 1] })
    const counts = tally(await whoAnswers(client, virtualAddress, 600))
    t.strictSame(counts, { server1: 300, server2: 200, server3: 100 })
  })

  await t.test('100 MB down and up, unharmed', async (t) => {
    await serve(topology, daemon, { port: HTTP_PORT })
    const sha256 = payloadDigest(BULK_BYTES)
    t.strictSame(await download(client, `${url}/bytes/${BULK_BYTES}`), {
      sha256,
      bytes: BULK_BYTES,
    })
    const { server, ...received } = await upload(client, `${url}/sink`, BULK_BYTES)
    t.match(server, /^server[123]$/)
    t.strictSame(received, { sha256, bytes: BULK_BYTES })
    if (method === 'tun')
      t.match(
        await client.ip('route', 'get', virtualAddress),
        /mtu 1480/,
        'the client has learnt what fits into the tunnel',
      )
  })

  await t.test('200 connections at once, each kept alive for three requests', async (t) => {
    await nextClient()
    await checkKeepAlive(t, topology, daemon)
  })

  await t.test('UDP echo', async (t) => {
    // Masquerading alone can map ports.
    const port = method === 'nat' ? 5353 : ECHO_PORT
    await serve(topology, daemon, { protocol: 'udp', port, serverPort: ECHO_PORT })
    const answers = await echoAnswers(client, virtualAddress, port, 30)
    t.strictSame(tally(answers.map((line) => line.split(' ')[0]!)), {
      server1: 10,
      server2: 10,
      server3: 10,
    })
    t.strictSame(
      answers.map((line) => line.split(' ').slice(1).join(' ')),
      answers.map((_, i) => `hello-${i} ${virtualAddress}:${port}`),
      'each datagram comes back from the virtual address',
    )
  })

  await t.test('UDP in fragments, both ways', async (t) => {
    const port = method === 'nat' ? 5353 : ECHO_PORT
    const answers = await echoAnswers(client, virtualAddress, port, 6, 3000)
    t.strictSame(tally(answers.map((line) => line.split(' ')[0]!)), {
      server1: 2,
      server2: 2,
      server3: 2,
    })
    t.strictSame(
      answers.map((line) => line.split(' ').slice(1).join(' ')),
      answers.map((_, i) => `${`hello-${i}`.padEnd(3000, '.')} ${virtualAddress}:${port}`),
      'each datagram comes back whole',
    )
  })

  await t.test('a persistent service keeps each client on its server', async (t) => {
    await serve(topology, daemon, { port: HTTP_PORT, options: ['-p', '300'] })
    const oneClient = await nextClient()
    const first = tally(await whoAnswers(client, virtualAddress, 20))
    await nextClient()
    const second = tally(await whoAnswers(client, virtualAddress, 20))
    t.strictSame(Object.values(first), [20], `the first client stays: ${JSON.stringify(first)}`)
    t.strictSame(Object.values(second), [20], `the second client stays: ${JSON.stringify(second)}`)
    t.not(Object.keys(first)[0], Object.keys(second)[0], 'another server for another client')
    await becomeClient(client, oneClient)
    t.strictSame(
      tally(await whoAnswers(client, virtualAddress, 5)),
      { [Object.keys(first)[0]!]: 5 },
      'the first client comes back to its server',
    )
  })

  await t.test('weight 0 finishes old connections and takes no new ones', async (t) => {
    await nextClient()
    await checkDraining(t, topology, daemon)
  })

  await t.test('every packet on the wire', async (t) => {
    await serve(topology, daemon, { port: HTTP_PORT })
    await checkWire(t, topology, await nextClient())
  })

  await t.test('SIGTERM ends uvsd in order', async (t) => {
    daemon.process.signal('SIGTERM')
    t.equal(await daemon.process.waitForExit(), 0, daemon.process.output.slice(-500))
  })
}

/** curl opens 200 connections, for 600 answers that each take a second, and so keeps all of them busy. */
async function checkKeepAlive(t: Test, topology: Topology, daemon: Daemon): Promise<void> {
  const { client, virtualAddress } = topology
  const service = await serve(topology, daemon, { port: HTTP_PORT })
  const asking = client.try('curl', [
    ...['-sS', '--fail', '--max-time', '120', '--no-progress-meter'],
    ...['--parallel', '--parallel-immediate', '--parallel-max', '200'],
    ...['-w', '%{stderr}%{num_connects} %{local_port}\n'],
    `http://${virtualAddress}/delay/1000?[1-600]`,
  ])
  const active = async (): Promise<number[]> =>
    (await uvsadm(daemon, ['-Ln', ...service.split(' ')]))
      .split('\n')
      .filter((line) => line.includes('->') && !line.includes('Forward'))
      .map((line) => Number(line.trim().split(/\s+/)[4]))
  let most: number[] = []
  let done = false
  const result = asking.finally(() => (done = true))
  while (!done) {
    const now = await active()
    if (sum(now) > sum(most)) most = now
    await sleep(5)
  }
  const { stdout, stderr, status } = await result
  t.equal(status, 0, stderr.slice(0, 300))
  const answers = stdout.trimEnd().split('\n')
  t.equal(answers.length, 600, '600 answers')
  const transfers = stderr.trimEnd().split('\n')
  t.equal(sum(transfers.map((line) => Number(line.split(' ')[0]))), 200, '200 connections in all')
  t.equal(new Set(transfers.map((line) => line.split(' ')[1])).size, 200)
  t.strictSame([...most].sort(), [66, 67, 67], 'uvsadm has seen all of them active at once')
}

async function checkDraining(t: Test, topology: Topology, daemon: Daemon): Promise<void> {
  const { client, virtualAddress, servers, forwardingOption } = topology
  const service = await serve(topology, daemon, {
    port: HTTP_PORT,
    scheduler: 'wrr',
    weights: [1, 0, 0],
  })
  const setWeight = (server: number, weight: number): Promise<string> =>
    uvsadm(daemon, [
      ...['-e', ...service.split(' '), '-r', `${servers[server]!.address}:${HTTP_PORT}`],
      ...[forwardingOption, '-w', String(weight)],
    ])
  // Two answers on one connection; the weights change while the first is under way.
  const old = client.try('curl', [
    ...['-sS', '--fail', '-w', '%{num_connects}\n'],
    ...[`http://${virtualAddress}/delay/2500`, `http://${virtualAddress}/delay/1`],
  ])
  while (!(await uvsadm(daemon, ['-Lnc'])).includes('ESTABLISHED')) await sleep(10)
  await setWeight(0, 0)
  await setWeight(1, 1)
  await setWeight(2, 1)
  t.strictSame(tally(await whoAnswers(client, virtualAddress, 20)), { server2: 10, server3: 10 })
  const { stdout, stderr } = await old
  t.equal(stdout, 'server1\n1\nserver1\n0\n', `the old connection is finished there ${stderr}`)
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
