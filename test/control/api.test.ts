import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request, type IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { ApiClient } from '../../src/control/api-client.js'
import { MAX_BODY_BYTES, serveApi, type ApiSource } from '../../src/control/api-server.js'
import { checkCommands } from '../../src/control/api.js'
import type { ConnectionStatus } from '../../src/core/commands.js'
import { tcpPacket } from '../support/packets.js'
import { Generation } from '../../src/control/generation.js'
import { InProcess } from './support.js'

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'uvs-api-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function sourceOf(director: InProcess): ApiSource {
  return {
    execute: async (command) => director.harness.execute(command),
    executeAll: (commands) => director.execute(commands),
    connections: () => director.connections(),
    status: () => ({ ports: [] }),
    generation: new Generation(),
  }
}

async function serve(t: Test, source: ApiSource) {
  const path = join(directory(t), 'uvsd.sock')
  const server = await serveApi(path, source)
  t.teardown(() => server.close())
  return { path, server }
}

async function ask(path: string, method: string, target: string, body?: string) {
  const call = request({ socketPath: path, method, path: target })
  call.on('error', () => undefined)
  call.end(body)
  const [response] = (await once(call, 'response')) as [IncomingMessage]
  return { status: response.statusCode, body: JSON.parse(await text(response)) as unknown }
}

const web = { protocol: 'tcp', address: '192.0.2.1', port: 80 } as const
const plain = {
  scheduler: 'rr',
  schedulerFlags: [],
  persistentTimeoutSeconds: 0,
  persistentPrefixLength: 32,
  onePacket: false,
}

t.test('waiting for changes', async (t) => {
  const source = sourceOf(new InProcess())
  const { path } = await serve(t, source)
  const client = new ApiClient(path)
  const first = await client.changes(-1)
  t.equal(first, source.generation.value)
  const waiting = client.changes(first)
  source.generation.advance()
  t.equal(await waiting, first + 1)
  t.equal((await ask(path, 'GET', '/v1/changes?after=x')).status, 400)
  t.equal((await ask(path, 'GET', '/v1/changes?since=1')).status, 400)

  const generation = new Generation()
  await generation.isAbove(generation.value, 10)
  t.pass('it does not wait for ever')
})

t.test('commands, services, connections, counters and status', async (t) => {
  const director = new InProcess()
  const { path } = await serve(t, sourceOf(director))
  const client = new ApiClient(path)
  t.strictSame(
    await client.execute([
      { op: 'add-service', service: web, options: plain },
      { op: 'add-service', service: web, options: plain },
      {
        op: 'add-destination',
        service: web,
        destination: { address: '10.0.0.2', port: 8080 },
        options: { forwarding: 'masquerade', weight: 1, upperThreshold: 0, lowerThreshold: 0 },
      },
    ]),
    [
      { reply: null },
      {
        error: {
          code: 'EEXIST',
          message: 'virtual service tcp 192.0.2.1:80 exists already',
        },
      },
      { reply: null },
    ],
  )
  director.harness.send(tcpPacket({ from: '198.51.100.7:40000', to: '192.0.2.1:80', flags: 'S' }))
  const connections: ConnectionStatus[] = []
  for await (const batch of client.connections()) connections.push(...batch)
  t.match(connections, [{ protocol: 'TCP', client: '198.51.100.7', destinationPort: 8080 }])
  for await (const batch of client.connections({ client: '198.51.100.8' })) t.equal(batch.length, 0)
  t.match(await ask(path, 'GET', '/v1/services?limit=1'), {
    status: 200,
    body: { total: 1, services: [{ service: web, destinations: [{ address: '10.0.0.2' }] }] },
  })
  t.match(await ask(path, 'GET', '/v1/counters'), { status: 200, body: { connections: 1 } })
  t.strictSame(await client.status(), { ports: [] })
})

t.test('what has not the right shape is refused whole', async (t) => {
  const director = new InProcess()
  const { path } = await serve(t, sourceOf(director))
  const add = { op: 'add-service', service: web, options: plain }
  const cases: [body: string, path: string | undefined][] = [
    ['{', undefined],
    ['', undefined],
    ['{}', ''],
    ['[1]', 'commands[0]'],
    ['[{"op":"nonsense"}]', 'commands[0].op'],
    [
      JSON.stringify([add, { ...add, service: { ...web, port: '80' } }]),
      'commands[1].service.port',
    ],
    [JSON.stringify([{ ...add, service: { ...web, port: 65536 } }]), 'commands[0].service.port'],
    [
      JSON.stringify([{ ...add, service: { ...web, address: 'x' } }]),
      'commands[0].service.address',
    ],
    [JSON.stringify([{ ...add, extra: 1 }]), 'commands[0].extra'],
    [JSON.stringify([{ op: 'add-service', service: web }]), 'commands[0].options'],
    [
      JSON.stringify([{ ...add, options: { ...plain, schedulerFlags: [1] } }]),
      'commands[0].options.schedulerFlags[0]',
    ],
    [
      JSON.stringify([{ ...add, options: { ...plain, persistentPrefixLength: 64 } }]),
      'commands[0].options.persistentPrefixLength',
    ],
    [
      JSON.stringify([{ op: 'set-marks', rules: [{ mark: 1, ports: [80, 90] }] }]),
      'commands[0].rules[0].protocol',
    ],
    [
      JSON.stringify([{ op: 'set-marks', rules: [{ mark: 1, protocol: 'tcp', ports: [9, 8] }] }]),
      'commands[0].rules[0].ports[1]',
    ],
    [
      JSON.stringify([{ op: 'zero', service: { fwmark: 0, family: 4 } }]),
      'commands[0].service.fwmark',
    ],
    [JSON.stringify([{ op: 'list-services', limit: 0 }]), 'commands[0].limit'],
  ]
  for (const [body, wrong] of cases) {
    const answer = await ask(path, 'POST', '/v1/commands', body)
    t.match(answer, { status: 400, body: { error: { code: 'EINVAL' } } }, body.slice(0, 80))
    t.equal((answer.body as { path?: string }).path, wrong)
  }
  t.match(director.harness.execute({ op: 'list-services' }), { total: 0 })
  t.match(await ask(path, 'GET', '/v1/services?limit=x'), { status: 400 })
  t.match(await ask(path, 'GET', '/v1/connections?colour=red'), { status: 400 })
  t.match(await ask(path, 'GET', '/v1/commands'), { status: 405 })
  t.match(await ask(path, 'GET', '/v2'), { status: 404 })
  t.match(await ask(path, 'POST', '/v1/commands', 'x'.repeat(MAX_BODY_BYTES + 1)), { status: 413 })
})

t.test('every command passes the check as it is', (t) => {
  const commands = [
    { op: 'edit-service', service: { fwmark: 7, family: 6 }, options: plain },
    { op: 'delete-service', service: web },
    { op: 'flush' },
    { op: 'delete-destination', service: web, destination: { address: '::1', port: 0 } },
    { op: 'zero' },
    { op: 'zero', service: web },
    { op: 'set-timeouts', timeouts: { tcp: 1, tcpFin: 2, udp: 3 } },
    { op: 'get-timeouts' },
    { op: 'list-services', service: web, from: 5, limit: 6 },
    {
      op: 'set-marks',
      rules: [
        {
          mark: 1,
          protocol: 'tcp',
          source: '10.0.0.0/8',
          destination: '10.1.0.10/32',
          ports: [1, 2],
          interface: 'eth0',
        },
      ],
    },
    { op: 'list-marks' },
    { op: 'get-steering' },
    { op: 'get-counters' },
  ]
  t.strictSame(checkCommands(commands), commands)
  t.end()
})

t.test('only the owner may open the socket, and it goes with the server', async (t) => {
  const { path, server } = await serve(t, sourceOf(new InProcess()))
  t.equal(statSync(path).mode & 0o777, 0o600)
  await t.rejects(serveApi(path, sourceOf(new InProcess())), {
    message: /another uvsd is listening at .*uvsd.sock; end it first/,
  })
  await server.close()
  t.notOk(statSync(path, { throwIfNoEntry: false }))
})

t.test('a socket that a killed daemon left is replaced', async (t) => {
  const path = join(directory(t), 'uvsd.sock')
  const daemon = spawn(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`,
  ])
  await once(daemon.stdout, 'data')
  daemon.kill('SIGKILL')
  await once(daemon, 'exit')
  t.ok(statSync(path).isSocket())
  await t.rejects(new ApiClient(path).status(), {
    message: `cannot reach uvsd at ${path}: is it running?`,
  })
  const server = await serveApi(path, sourceOf(new InProcess()))
  t.strictSame(await new ApiClient(path).status(), { ports: [] })
  await server.close()
  await t.rejects(new ApiClient(path).status(), {
    message: `cannot reach uvsd at ${path}: is it running?`,
  })
  writeFileSync(path, 'mine')
  await t.rejects(serveApi(path, sourceOf(new InProcess())), { message: /is not a socket/ })
})

t.test('a million connections stream through little memory', async (t) => {
  const batch = Array.from({ length: 1000 }, (_, i) => ({
    protocol: 'TCP' as const,
    expiresSeconds: i,
    state: 'ESTABLISHED',
    client: '198.51.100.7',
    clientPort: i,
    virtual: '192.0.2.1',
    virtualPort: 80,
    destination: '10.0.0.2',
    destinationPort: 8080,
    isTemplate: false,
  }))
  let ahead = 0
  let furthestAhead = 0
  const { path } = await serve(t, {
    ...sourceOf(new InProcess()),
    async *connections() {
      for (let i = 0; i < 1000; i++) {
        furthestAhead = Math.max(furthestAhead, ++ahead)
        yield batch
        // As the daemon does between batches.
        await new Promise(setImmediate)
      }
    },
  })
  let count = 0
  for await (const some of new ApiClient(path).connections()) {
    count += some.length
    ahead -= some.length / 1000
    if (count % 100_000 < 512) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  t.equal(count, 1_000_000)
  t.ok(furthestAhead < 100, `the server was at most ${furthestAhead} batches ahead of the client`)
})

t.test('a fault in the daemon is an answer, and the daemon goes on', async (t) => {
  const { path } = await serve(t, {
    ...sourceOf(new InProcess()),
    status: () => {
      throw new Error('the data plane has ended')
    },
    async *connections() {
      yield [{ protocol: 'UDP' } as ConnectionStatus]
      await new Promise(setImmediate)
      throw new Error('the data plane has ended')
    },
  })
  await t.rejects(
    async () => {
      for await (const batch of new ApiClient(path).connections()) void batch
    },
    { message: /broke off its answer/ },
  )
  t.match(await ask(path, 'GET', '/v1/status'), {
    status: 500,
    body: { error: { message: 'the data plane has ended' } },
  })
  t.match(await ask(path, 'GET', '/v1/counters'), { status: 200 })
})

t.test('uvsadm, uvsadm-save and uvsadm-restore over the socket', async (t) => {
  const director = new InProcess()
  const { path } = await serve(t, sourceOf(director))
  const run = async (program: string, args: string[], stdin = '', socket = path) => {
    const file = fileURLToPath(new URL(`../../src/cli/${program}.js`, import.meta.url))
    const child = spawn(process.execPath, [file, ...args], {
      env: { ...process.env, UVS_SOCKET: socket },
    })
    child.stdin.on('error', () => undefined)
    child.stdin.end(stdin)
    const [stdout, stderr, [status]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'exit') as Promise<[number]>,
    ])
    return { stdout, stderr, status }
  }
  const quiet = { stdout: '', stderr: '', status: 0 }
  const saved = '-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.9.0.1:8080 -m -w 2\n'
  t.strictSame(await run('uvsadm-restore', [], `# saved\n${saved}`), quiet)
  t.equal((await run('uvsadm-save', ['-n'])).stdout, saved)
  t.equal(
    (await run('uvsadm', ['--socket', path, '-Ln'], '', '/nonexistent')).stdout,
    `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80 rr
  -> 10.9.0.1:8080                Masq    2      0          0         
`,
  )
  t.match(JSON.parse((await run('uvsadm', ['-L', '--json'])).stdout), {
    version: '1.2.1',
    tableSize: 4096,
    services: [{ destinations: [{ weight: 2 }] }],
  })
  t.strictSame(JSON.parse((await run('uvsadm', ['-L', '-c', '--json'])).stdout), [])
  t.strictSame(JSON.parse((await run('uvsadm', ['-L', '--timeout', '--json'])).stdout), {
    tcp: 900,
    tcpFin: 120,
    udp: 300,
  })
  t.strictSame(await run('uvsadm', ['-D', '-t', '10.0.0.9:80']), {
    stdout: '',
    stderr: 'No such service\n',
    status: 255,
  })
  t.match(await run('uvsadm', ['-Ln'], '', '/nonexistent/uvsd.sock'), {
    stderr: 'cannot reach uvsd at /nonexistent/uvsd.sock: is it running?\n',
    status: 2,
  })
  t.match(await run('uvsadm', ['nonsense']), { stderr: /Try `uvsadm -h'/, status: 255 })
  t.match(await run('uvsadm', ['-h']), { stdout: /--add-service/, status: 0 })
})

t.test('what is no uvsd at the other end', async (t) => {
  const path = join(directory(t), 'other.sock')
  const server = createServer((socket) => socket.end('hello\n')).listen(path)
  t.teardown(() => server.close())
  await once(server, 'listening')
  await t.rejects(new ApiClient(path).status(), { message: /^cannot reach uvsd at / })
})
