// Run by netns-tests/kernel/ipvs-client.test.ts in a guest.
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { DestinationOptions, ServiceKey, ServiceOptions } from '../../src/core/commands.js'
import { IpvsClient } from '../../src/kernel/ipvs/index.js'

const ipvsadm = (line: string): string =>
  execFileSync('ipvsadm', line.split(' '), { encoding: 'utf8' })
const ip = (line: string): string => execFileSync('ip', line.split(' '), { encoding: 'utf8' })

t.setTimeout(600_000)

const kernel = await IpvsClient.open()
t.teardown(() => kernel.close())
t.afterEach(() => kernel.flush())

const web: ServiceKey = { protocol: 'tcp', address: '10.0.0.1', port: 80 }
const plain: ServiceOptions = {
  scheduler: 'wlc',
  schedulerFlags: [],
  persistentTimeoutSeconds: 0,
  persistentPrefixLength: 32,
  onePacket: false,
}
const masquerade: DestinationOptions = {
  forwarding: 'masquerade',
  weight: 1,
  upperThreshold: 0,
  lowerThreshold: 0,
}
const server = { address: '10.0.0.2', port: 8080 }

t.test('version and size, as ipvsadm shows them', async (t) => {
  const { version, tableSize } = await kernel.info()
  t.match(ipvsadm('-Ln'), `IP Virtual Server version ${version} (size=${tableSize})\n`)
})

t.test('a service and a destination from their making to their end', async (t) => {
  t.strictSame(await kernel.services(), [])
  t.equal(await kernel.service(web), undefined)
  await kernel.addService(web, plain)
  await kernel.addDestination(web, server, { ...masquerade, upperThreshold: 9, lowerThreshold: 3 })
  t.equal(ipvsadm('-Sn'), '-A -t 10.0.0.1:80 -s wlc\n-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 1\n')
  const [service] = await kernel.services()
  t.match(service, { service: web, options: plain, counters: { connections: 0 } })
  t.match(service?.destinations, [
    { ...server, ...masquerade, upperThreshold: 9, lowerThreshold: 3, tunnel: undefined },
  ])
  t.strictSame(await kernel.service(web), service)
  t.strictSame(await kernel.destinations(web), service?.destinations)

  await kernel.editService(web, {
    ...plain,
    scheduler: 'sh',
    schedulerFlags: ['sh-fallback', 'sh-port'],
    persistentTimeoutSeconds: 60,
    persistentPrefixLength: 20,
  })
  await kernel.editDestination(web, server, {
    ...masquerade,
    forwarding: 'direct-route',
    weight: 0,
  })
  t.equal(
    ipvsadm('-Sn'),
    '-A -t 10.0.0.1:80 -s sh -p 60 -M 255.255.240.0 -b sh-fallback,sh-port\n-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -g -w 0\n',
  )
  await kernel.editService(web, plain)
  t.equal(ipvsadm('-Sn').split('\n')[0], '-A -t 10.0.0.1:80 -s wlc', 'flags go as they came')
  await kernel.deleteDestination(web, server)
  t.strictSame(await kernel.destinations(web), [])
  await kernel.deleteService(web)
  t.equal(ipvsadm('-Sn'), '')
})

t.test('many services, listed in parts, by requests that do not wait for each other', async (t) => {
  const keys = Array.from({ length: 300 }, (_, i) => ({ ...web, port: i + 1 }))
  await Promise.all(keys.map((key) => kernel.addService(key, plain)))
  await Promise.all(keys.map((key) => kernel.addDestination(key, server, masquerade)))
  const listings = await Promise.all([kernel.services(), kernel.services(), kernel.servicesAlone()])
  for (const services of listings)
    t.strictSame(
      services.map(({ service }) => ('port' in service ? service.port : 0)).sort((a, b) => a - b),
      keys.map(({ port }) => port),
    )
  t.ok(listings[0].every(({ destinations }) => destinations.length === 1))
})

t.test('counters and rates, and zeroing them', async (t) => {
  for (const address of ['10.9.9.9/32', '10.9.9.10/32']) ip(`address add ${address} dev lo`)
  const dns: ServiceKey = { protocol: 'udp', address: '10.9.9.9', port: 53 }
  await kernel.addService(dns, { ...plain, scheduler: 'rr' })
  await kernel.addDestination(dns, { address: '10.9.9.10', port: 53 }, masquerade)
  // Enough for rates that are not 0 however they fall into the two seconds that the kernel sums.
  const count = 40
  for (let i = 0; i < count; i++) {
    const socket = createSocket('udp4').bind(30_000 + i)
    await once(socket, 'listening')
    socket.send('hello', 53, '10.9.9.9')
    await sleep(10)
    socket.close()
    await once(socket, 'close')
  }
  // The kernel sums every two seconds.
  let service = (await kernel.service(dns))!
  for (let tries = 0; tries < 300 && service.counters.connections < count; tries++) {
    await sleep(100)
    service = (await kernel.service(dns))!
  }
  const { counters, rates } = service
  t.match(counters, { connections: count, inPackets: count, inBytes: count * 33 })
  t.ok(rates.connectionsPerSecond > 0 && rates.inBytesPerSecond > rates.inPacketsPerSecond)
  t.strictSame(service.destinations[0]?.counters, counters)
  t.equal(service.destinations[0]?.inactiveConnections, count)
  t.match(ipvsadm('-Ln --stats --exact'), /UDP {2}10\.9\.9\.9:53 +40 +40 +\d+ +1320 +\d+\n/)
  await kernel.zero(dns)
  t.match(await kernel.service(dns), {
    counters: { connections: 0, inBytes: 0 },
    destinations: [{ counters: { connections: 0, inBytes: 0 } }],
  })
  await kernel.zero()
})

t.test('timeouts', async (t) => {
  const before = await kernel.timeouts()
  await kernel.setTimeouts({ tcp: 100, tcpFin: 0, udp: 7 })
  t.equal(ipvsadm('-L --timeout'), `Timeout (tcp tcpfin udp): 100 ${before.tcpFin} 7\n`)
  t.strictSame(await kernel.timeouts(), { tcp: 100, tcpFin: before.tcpFin, udp: 7 })
  await kernel.setTimeouts(before)
  t.strictSame(await kernel.timeouts(), before)
  await t.rejects(kernel.setTimeouts({ tcp: 2 ** 31, tcpFin: 0, udp: 0 }), { code: 'EINVAL' })
})

t.test('sync daemons', async (t) => {
  t.strictSame(await kernel.daemons(), [])
  const master = { state: 'master', interface: 'lo', syncId: 7 } as const
  await kernel.startDaemon(master)
  const [started] = await kernel.daemons()
  t.match(started, { ...master, port: 8848, ttl: 1, group: '224.0.0.81' }, "the kernel's defaults")
  const backup = {
    state: 'backup',
    interface: 'lo',
    syncId: 9,
    maxLength: 1400,
    group: 'ff02::77',
    port: 9000,
    ttl: 5,
  } as const
  await kernel.startDaemon(backup)
  t.match(await kernel.daemons(), [master, backup])
  t.match(
    ipvsadm('-L --daemon'),
    /^master sync daemon \(mcast=lo, syncid=7, .*\nbackup sync daemon \(mcast=lo, syncid=9, maxlen=1400, group=ff02::77, port=9000, ttl=5\)\n$/,
  )
  await t.rejects(kernel.startDaemon(master), {
    code: 'EEXIST',
    message: /such a sync daemon runs/,
  })
  await kernel.stopDaemon('master')
  t.match(await kernel.daemons(), [backup])
  await kernel.stopDaemon('backup')
  await t.rejects(kernel.stopDaemon('backup'), { code: 'ESRCH', message: /no such sync daemon/ })
  await t.rejects(kernel.startDaemon({ ...master, interface: 'none0' }), {
    code: 'ENODEV',
    message: /no such interface/,
  })
  await t.rejects(kernel.startDaemon({ ...master, group: '10.0.0.1' }), {
    code: 'EINVAL',
    message: /multicast/,
  })
})

t.test('a refusal says what the kernel means by it', async (t) => {
  await kernel.addService(web, plain)
  await kernel.addDestination(web, server, masquerade)
  const none: ServiceKey = { fwmark: 9, family: 4 }
  const elsewhere = { address: '10.0.0.3', port: 1 }
  const refusals: [Promise<void>, code: string, message: RegExp][] = [
    [kernel.addService(web, plain), 'EEXIST', /such a service already/],
    [kernel.addService(none, { ...plain, scheduler: 'xyz' }), 'ENOENT', /no such scheduler/],
    [kernel.addService(none, { ...plain, persistenceEngine: 'xyz' }), 'ENOENT', /or persistence/],
    [kernel.editService(none, plain), 'ESRCH', /no such service/],
    [kernel.editService(web, { ...plain, scheduler: 'xyz' }), 'ENOENT', /no such scheduler/],
    [kernel.deleteService(none), 'ESRCH', /no such service/],
    [kernel.zero(none), 'ESRCH', /no such service/],
    [kernel.addDestination(web, server, masquerade), 'EEXIST', /such a destination already/],
    [kernel.addDestination(none, server, masquerade), 'ESRCH', /no such service/],
    [kernel.editDestination(web, elsewhere, masquerade), 'ENOENT', /no such destination/],
    [kernel.deleteDestination(web, elsewhere), 'ENOENT', /no such destination/],
    [kernel.deleteDestination(none, elsewhere), 'ESRCH', /no such service/],
    [
      kernel.addDestination(web, elsewhere, { ...masquerade, weight: -1 }),
      'ERANGE',
      /out of range/,
    ],
    [
      kernel.addDestination(web, elsewhere, {
        ...masquerade,
        upperThreshold: 1,
        lowerThreshold: 2,
      }),
      'ERANGE',
      /out of range/,
    ],
    [
      kernel.addDestination(web, { address: '224.0.0.1', port: 1 }, masquerade),
      'EINVAL',
      /unicast/,
    ],
    [kernel.addDestination(web, { address: 'fd00::1', port: 1 }, masquerade), 'EINVAL', /tunnel/],
    [
      kernel.addService({ fwmark: 9, family: 6 }, { ...plain, persistentPrefixLength: 0 }),
      'EINVAL',
      /no such value/,
    ],
  ]
  for (const [refused, code, message] of refusals)
    await t.rejects(refused, { name: 'KernelIpvsError', code, message })
  await t.rejects(kernel.addDestination(web, { address: 'here', port: 1 }, masquerade), RangeError)
})

t.test('without CAP_NET_ADMIN nothing is told', async (t) => {
  const program = `
    const { IpvsClient } = await import(${JSON.stringify(new URL('../../src/kernel/ipvs/index.js', import.meta.url).href)})
    try { await (await IpvsClient.open()).services() } catch (error) { console.log(error.message) }`
  const said = execFileSync(
    'setpriv',
    [
      // Nobody, but for reading the checkout wherever it is.
      ...['--reuid=65534', '--clear-groups'],
      ...['--bounding-set', '--inh-caps', '--ambient-caps'].map(
        (set) => `${set}=-all,+dac_read_search`,
      ),
      ...[process.execPath, '--input-type=module', '--eval', program],
    ],
    { encoding: 'utf8' },
  )
  t.match(said, /CAP_NET_ADMIN: run as root \(EPERM\)/)
})
