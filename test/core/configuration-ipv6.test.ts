import t from 'tap'
import type { Command, ServiceKey } from '../../src/core/commands.js'
import { destinationOptions, Harness, serviceOptions } from './harness.js'

const service: ServiceKey = { protocol: 'tcp', address: 'fd00::1', port: 80 }
const ipv4: ServiceKey = { protocol: 'tcp', address: '192.0.2.1', port: 80 }
const mark: ServiceKey = { fwmark: 1, family: 6 }
const ipv6 = { persistentPrefixLength: 128 }

function configured(): Harness {
  const h = new Harness()
  h.addService(service, ipv6)
  h.addService(mark, ipv6)
  h.addDestination(service, '[fd02::2]:80')
  h.addService(ipv4)
  return h
}

const add = (
  key: ServiceKey,
  address: string,
  forwarding: 'masquerade' | 'tunnel' | 'direct-route' = 'masquerade',
): Command => ({
  op: 'add-destination',
  service: key,
  destination: { address, port: 80 },
  options: destinationOptions({ forwarding }),
})
const addService = (key: ServiceKey, options = {}): Command => ({
  op: 'add-service',
  service: key,
  options: serviceOptions({ ...ipv6, ...options }),
})

t.test('commands of IPv6 that the kernel refuses', (t) => {
  const cases: [name: string, code: string, command: Command][] = [
    ['a service twice', 'EEXIST', addService(service)],
    [
      'a service twice, by another text',
      'EEXIST',
      addService({ ...service, address: 'FD00:0::1' }),
    ],
    ['a mark twice', 'EEXIST', addService(mark)],
    ['an unknown service', 'ESRCH', add({ ...service, port: 81 }, 'fd02::3')],
    ['a prefix of no bits', 'EINVAL', addService(service, { persistentPrefixLength: 0 })],
    ['a prefix too long', 'EINVAL', addService(service, { persistentPrefixLength: 129 })],
    ['a destination twice', 'EEXIST', add(service, 'fd02:0::2')],
    ['a destination of no text', 'EINVAL', add(service, 'fd02::2::')],
    ['a destination of the other family, masqueraded', 'EINVAL', add(service, '10.0.0.2')],
    ['the same, direct', 'EINVAL', add(service, '10.0.0.2', 'direct-route')],
    ['and the other way round', 'EINVAL', add(ipv4, 'fd02::2')],
    ...['::', 'ff02::1', 'fe80::1', '::ffff:10.0.0.2'].map((address): [string, string, Command] => [
      address,
      'EINVAL',
      add(service, address),
    ]),
    [
      'an edit that would masquerade between the families',
      'EINVAL',
      { ...add(service, '10.0.0.2'), op: 'edit-destination' } as Command,
    ],
    [
      'a mark rule between the families',
      'EINVAL',
      { op: 'set-marks', rules: [{ mark: 1, source: 'fd01::/64', destination: '10.0.0.0/8' }] },
    ],
  ]
  for (const [name, code, command] of cases)
    t.test(name, (t) => {
      const h = configured()
      const fresh = 'options' in command && command.op === 'add-service' && code === 'EINVAL'
      if (fresh) h.execute({ op: 'delete-service', service })
      const before = h.execute({ op: 'list-services' })
      t.throws(() => h.execute(command), { name: 'IpvsError', code })
      t.strictSame(h.execute({ op: 'list-services' }), before)
      t.end()
    })
  t.end()
})

t.test('tunnels may lead to the other family', (t) => {
  const h = configured()
  h.execute(add(service, '10.0.0.2', 'tunnel'))
  h.execute(add(ipv4, 'fd02::2', 'tunnel'))
  const addresses = (key: ServiceKey): string[] =>
    h.service(key).destinations.map(({ address }) => address)
  t.strictSame(addresses(service), ['10.0.0.2', 'fd02::2'])
  t.strictSame(addresses(ipv4), ['fd02::2'])
  h.deleteDestination(ipv4, '[fd02::2]:80')
  t.strictSame(addresses(ipv4), [])
  t.end()
})

t.test('services are found by all of their address', (t) => {
  const h = new Harness()
  // Of equal fold.
  const keys = ['fd00::1', 'fd00:0:0:1::', 'fd00::1:0:0'].flatMap((address) =>
    [80, 81].map((port): ServiceKey => ({ protocol: 'tcp', address, port })),
  )
  for (const key of keys) h.addService(key, ipv6)
  for (const key of keys) t.strictSame(h.service(key).service, key)
  h.execute({ op: 'delete-service', service: keys[2]! })
  for (const key of keys.filter((_, i) => i !== 2)) t.strictSame(h.service(key).service, key)
  t.throws(() => h.service(keys[2]!), { code: 'ESRCH' })
  for (const key of keys.filter((_, i) => i !== 2))
    h.execute({ op: 'delete-service', service: key })
  t.equal(h.execute({ op: 'list-services' }).total, 0)
  t.end()
})

t.test('marks of the two families are two services', (t) => {
  const h = configured()
  h.addService({ fwmark: 1, family: 4 })
  t.strictSame(
    h.execute({ op: 'list-services' }).services.map(({ service }) => service),
    [ipv4, service, { fwmark: 1, family: 4 }, mark],
  )
  h.execute({ op: 'delete-service', service: mark })
  t.strictSame(h.service({ fwmark: 1, family: 4 }).service, { fwmark: 1, family: 4 })
  t.throws(() => h.service(mark), { code: 'ESRCH' })
  t.end()
})

t.test('where ports carry no IPv6 it is refused with the reason', (t) => {
  const h = new Harness({ noIpv6: 'this port carries none' })
  const refused = (command: Command, message: string): void => {
    t.throws(() => h.execute(command), { code: 'EAFNOSUPPORT', message })
  }
  refused(addService(service), 'tcp [fd00::1]:80: this port carries none')
  refused(addService(mark), 'FWM 1: this port carries none')
  h.addService(ipv4)
  refused(add(ipv4, 'fd02::2', 'tunnel'), '[fd02::2]:80: this port carries none')
  refused(
    { op: 'set-marks', rules: [{ mark: 1, source: 'fd01::/64' }] },
    'fd01::/64: this port carries none',
  )
  t.end()
})

t.test('what drivers are to bring', (t) => {
  const h = configured()
  t.strictSame(h.execute({ op: 'get-steering' }), {
    virtual: [
      { protocol: 'tcp', address: '192.0.2.1', port: 80 },
      { protocol: 'tcp', address: 'fd00::1', port: 80 },
    ],
    replies: [{ protocol: 'tcp', address: 'fd02::2', port: 80 }],
    marks: [],
  })
  h.execute({ op: 'set-marks', rules: [{ mark: 1, destination: 'fd00::/16' }, { mark: 2 }] })
  t.strictSame(h.execute({ op: 'get-steering' }).marks, [{ mark: 1, destination: 'fd00::/16' }])
  t.end()
})
