import assert from 'node:assert/strict'
import fc from '../../support/properties.js'
import t from 'tap'
import type {
  DestinationKey,
  DestinationOptions,
  ServiceKey,
  ServiceOptions,
} from '../../../src/core/commands.js'
import { Attributes, CommandAttribute } from '../../../src/kernel/ipvs/attributes.js'
import { KernelIpvsError } from '../../../src/kernel/ipvs/errors.js'
import {
  AF_INET,
  AF_INET6,
  daemonAttribute,
  daemonStateAttribute,
  destinationAttribute,
  familyOfService,
  parseDaemon,
  parseDestination,
  parseInfo,
  parseService,
  parseTimeouts,
  serviceAttribute,
  serviceKeyAttribute,
  timeoutAttributes,
} from '../../../src/kernel/ipvs/messages.js'

const bytes = (hex: string): Buffer => Buffer.from(hex.replace(/\/\/.*|\s/g, ''), 'hex')
const inside = (attribute: Buffer, type: number): Attributes =>
  new Attributes(attribute).nested(type)!

t.test('a service, to the byte', async (t) => {
  const options: ServiceOptions = {
    scheduler: 'sh',
    schedulerFlags: ['sh-port'],
    persistentTimeoutSeconds: 300,
    persistentPrefixLength: 24,
    onePacket: false,
    persistenceEngine: 'sip',
  }
  t.strictSame(
    serviceAttribute({ protocol: 'udp', address: '10.0.0.1', port: 5060 }, options),
    bytes(`
      5c000180                                          // service, nested
      06000100 02000000                                 // family AF_INET
      06000200 11000000                                 // protocol UDP
      14000300 0a000001 00000000 00000000 00000000      // address, 16 bytes
      06000400 13c40000                                 // port, network order
      07000600 73680000                                 // scheduler "sh"
      08000b00 73697000                                 // persistence engine "sip"
      0c000700 11000000 ffffffff                        // flags PERSISTENT | SCHED2, mask
      08000800 2c010000                                 // timeout
      08000900 ffffff00`), // netmask, network order
  )
  t.strictSame(
    serviceKeyAttribute({ fwmark: 7, family: 6 }),
    bytes('14000180 06000100 0a000000 08000500 07000000'),
  )
  t.strictSame(
    serviceKeyAttribute({ protocol: 'sctp', address: '2001:db8::1', port: 80 }),
    bytes(
      '30000180 06000100 0a000000 06000200 84000000 14000300 20010db8 00000000 00000000 00000001 06000400 00500000',
    ),
  )
  const v6 = inside(
    serviceAttribute(
      { fwmark: 7, family: 6 },
      { ...options, schedulerFlags: ['flag-1', 'flag-3'], persistentPrefixLength: 64 },
    ),
    CommandAttribute.service,
  )
  t.strictSame(v6.bytes(7), bytes('29000000 ffffffff'), 'flags by their numbers')
  t.equal(v6.number(9), 64, 'the netmask of IPv6 is a prefix length')
})

t.test('a destination, to the byte', async (t) => {
  t.strictSame(
    destinationAttribute(
      { address: 'fd00::2', port: 8080 },
      {
        forwarding: 'tunnel',
        weight: 3,
        upperThreshold: 9,
        lowerThreshold: 4,
        tunnel: { type: 'gue', port: 6080, checksum: 'remote' },
      },
    ),
    bytes(`
      60000280
      06000b00 0a000000                                 // family AF_INET6
      14000100 fd000000 00000000 00000000 00000002
      06000200 1f900000                                 // port, network order
      08000300 02000000                                 // forwarding: tunnel
      08000400 03000000                                 // weight
      08000500 09000000  08000600 04000000              // thresholds
      05000d00 01000000                                 // tunnel type GUE
      06000e00 17c00000                                 // its port, network order
      06000f00 02000000`), // its flags: remote checksum
  )
  t.strictSame(
    destinationAttribute({ address: '192.0.2.1', port: 0 }),
    bytes(
      '28000280 06000b00 02000000 14000100 c0000201 00000000 00000000 00000000 06000200 00000000',
    ),
    'only named',
  )
})

t.test('sync daemons and timeouts, to the byte', async (t) => {
  const master = {
    state: 'master',
    interface: 'eth0',
    syncId: 5,
    maxLength: 1400,
    group: 'ff02::1',
    port: 8850,
    ttl: 3,
  } as const
  const encoded = daemonAttribute(master)
  t.strictSame(
    encoded,
    bytes(`
      4c000380
      08000100 01000000                                 // state: master
      09000200 65746830 00000000                        // interface "eth0"
      08000300 05000000                                 // syncid
      06000400 78050000                                 // the longest message
      14000600 ff020000 00000000 00000000 00000001      // group, IPv6
      06000700 92220000                                 // port, the machine's order
      05000800 03000000`), // TTL
  )
  t.strictSame(parseDaemon(inside(encoded, CommandAttribute.daemon)), master)
  const backup = { ...master, state: 'backup', group: '224.0.0.81' } as const
  t.strictSame(parseDaemon(inside(daemonAttribute(backup), CommandAttribute.daemon)), backup)
  t.strictSame(
    daemonAttribute({ state: 'backup', interface: 'lo', syncId: 0 }),
    bytes('1c000380 08000100 02000000 07000200 6c6f0000 08000300 00000000'),
    'what is the default is not said',
  )
  t.strictSame(daemonStateAttribute('backup'), bytes('0c000380 08000100 02000000'))

  const timeouts = { tcp: 900, tcpFin: 0, udp: 86400 }
  const attributes = Buffer.concat(timeoutAttributes(timeouts))
  t.strictSame(attributes, bytes('08000400 84030000 08000500 00000000 08000600 80510100'))
  t.strictSame(parseTimeouts(new Attributes(attributes)), timeouts)
  t.strictSame(parseInfo(new Attributes(bytes('08000100 01020100 08000200 00100000'))), {
    version: '1.2.1',
    tableSize: 4096,
  })
})

const stats32 = `
  0800 0100 01000000  0800 0200 02000000  0800 0300 03000000
  0c00 0400 0000000000010000  0c00 0500 0500000000000000
  0800 0600 06000000  0800 0700 07000000  0800 0800 08000000  0800 0900 09000000  0800 0a00 0a000000`
const stats64 = `
  0c00 0100 0100000001000000  0c00 0200 0200000000000000  0c00 0300 0300000000000000
  0c00 0400 0000000000010000  0c00 0500 0500000000000000
  0c00 0600 0600000000000000  0c00 0700 0700000000000000  0c00 0800 0800000000000000
  0c00 0900 0900000000000000  0c00 0a00 0a00000001000000`

t.test('an answer of the kernel, read', async (t) => {
  const service = `
    0600 0100 02000000  0600 0200 06000000
    1400 0300 c0000201 00000000 00000000 00000000  0600 0400 00500000
    0800 0600 776c6300  0c00 0700 02000000 ffffffff  0800 0800 00000000  0800 0900 ffffffff`
  const rates = {
    connectionsPerSecond: 6,
    inPacketsPerSecond: 7,
    outPacketsPerSecond: 8,
    inBytesPerSecond: 9,
    outBytesPerSecond: 10,
  }
  const counters = {
    connections: 1,
    inPackets: 2,
    outPackets: 3,
    inBytes: 2 ** 40,
    outBytes: 5,
  }
  const old = parseService(new Attributes(bytes(`${service} 5c00 0a80 ${stats32}`)))
  t.strictSame(old, {
    service: { protocol: 'tcp', address: '192.0.2.1', port: 80 },
    options: {
      scheduler: 'wlc',
      schedulerFlags: [],
      persistentTimeoutSeconds: 0,
      persistentPrefixLength: 32,
      onePacket: false,
    },
    counters,
    rates,
  })
  const modern = parseService(
    new Attributes(bytes(`${service} 5c00 0a80 ${stats32} 7c00 0c80 ${stats64}`)),
  )
  t.strictSame(modern?.counters, { ...counters, connections: 2 ** 32 + 1 }, '64 bits where told')
  t.strictSame(modern?.rates, { ...rates, outBytesPerSecond: 2 ** 32 + 10 })

  const named = parseService(
    new Attributes(
      bytes('0600 0100 02000000 0800 0500 ffffffff 0700 0600 6d680000 0c00 0700 1c000000 ffffffff'),
    ),
  )
  t.strictSame(named?.service, { fwmark: 0xffffffff, family: 4 })
  t.strictSame(named?.options.schedulerFlags, ['mh-fallback', 'mh-port'])
  t.equal(named?.options.onePacket, true)
  t.equal(
    parseService(new Attributes(bytes('0600 0100 02000000 0600 0200 33000000'))),
    undefined,
    'a service for AH has no name',
  )

  const destination = `
    1400 0100 0a000005 00000000 00000000 00000000  0600 0200 1f900000
    0800 0300 03010000  0800 0400 ffffffff  0800 0500 05000000  0800 0600 02000000
    0800 0700 0b000000  0800 0800 0c000000  0800 0900 0d000000`
  t.match(parseDestination(new Attributes(bytes(destination)), AF_INET), {
    address: '10.0.0.5',
    port: 8080,
    forwarding: 'direct-route',
    weight: -1,
    upperThreshold: 5,
    lowerThreshold: 2,
    tunnel: undefined,
    activeConnections: 11,
    inactiveConnections: 12,
    persistentConnections: 13,
    counters: { connections: 0 },
  })
})

t.test('bytes that are no attributes', async (t) => {
  for (const hex of ['0300 0100', '0900 0100 00000000', 'ffff 0100'])
    t.throws(() => new Attributes(bytes(hex)), { name: 'RangeError' }, hex)
  t.equal(new Attributes(bytes('0800')).has(1), false, 'less than a header is nothing')
})

t.test('what is no address', async (t) => {
  for (const address of ['10.0.0', '10.0.0.256', 'fd00:::1', 'localhost', ''])
    t.throws(() => destinationAttribute({ address, port: 1 }), {
      name: 'RangeError',
      message: `'${address}' is no address of IPv4 or IPv6`,
    })
})

const record = <T, K extends keyof T>(
  fields: { [Field in keyof T]: fc.Arbitrary<T[Field]> },
  options: { requiredKeys?: K[] } = {},
) => fc.record<T, K>(fields, { ...options, noNullPrototype: true })
const port = fc.integer({ min: 0, max: 65535 })
const addressOf = (family: 4 | 6): fc.Arbitrary<string> =>
  family === 4
    ? fc.ipV4()
    : fc
        .array(fc.integer({ min: 1, max: 0xffff }), { minLength: 8, maxLength: 8 })
        .map((groups) => groups.map((group) => group.toString(16)).join(':'))
const family = fc.constantFrom<4 | 6>(4, 6)
const key: fc.Arbitrary<ServiceKey> = family.chain((family) =>
  fc.oneof(
    record({ fwmark: fc.integer({ min: 1, max: 0xffffffff }), family: fc.constant(family) }),
    record({
      protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
      address: addressOf(family),
      port,
    }),
  ),
)
const flagsByScheduler = {
  sh: ['sh-fallback', 'sh-port', 'flag-3'],
  wrr: ['flag-1', 'flag-2', 'flag-3'],
}
const options: fc.Arbitrary<ServiceOptions> = fc
  .constantFrom<'sh' | 'wrr'>('sh', 'wrr')
  .chain((scheduler) =>
    record(
      {
        scheduler: fc.constant(scheduler),
        schedulerFlags: fc.subarray(flagsByScheduler[scheduler]),
        persistentTimeoutSeconds: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
        persistentPrefixLength: fc.integer({ min: 0, max: 32 }),
        onePacket: fc.boolean(),
        persistenceEngine: fc.constant('sip'),
      },
      {
        requiredKeys: [
          'scheduler',
          'schedulerFlags',
          'persistentTimeoutSeconds',
          'persistentPrefixLength',
          'onePacket',
        ],
      },
    ),
  )
const amount = fc.integer({ min: 0, max: 2 ** 31 - 1 })
const destination: fc.Arbitrary<DestinationKey & DestinationOptions> = family.chain((family) =>
  record(
    {
      address: addressOf(family),
      port,
      forwarding: fc.constantFrom('masquerade', 'direct-route', 'tunnel'),
      weight: amount,
      upperThreshold: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      lowerThreshold: amount,
      tunnel: record({
        type: fc.constantFrom('ipip', 'gue', 'gre'),
        port,
        checksum: fc.constantFrom('none', 'full', 'remote'),
      }),
    },
    {
      requiredKeys: ['address', 'port', 'forwarding', 'weight', 'upperThreshold', 'lowerThreshold'],
    },
  ),
)

t.test('what is written is read', async (t) => {
  fc.assert(
    fc.property(key, options, (key, options) => {
      const read = parseService(inside(serviceAttribute(key, options), CommandAttribute.service))
      assert.deepEqual(read?.service, key)
      assert.deepEqual(read?.options, options)
      assert.equal(familyOfService(key), read && familyOfService(read.service))
    }),
    { numRuns: 200 },
  )
  fc.assert(
    fc.property(destination, (destination) => {
      const encoded = destinationAttribute(destination, destination)
      const read = parseDestination(inside(encoded, CommandAttribute.destination), AF_INET6)
      const { tunnel, ...rest } = destination
      assert.deepEqual({ ...read, ...rest }, read)
      const expected =
        destination.forwarding === 'tunnel'
          ? (tunnel ?? { type: 'ipip', port: 0, checksum: 'none' })
          : undefined
      assert.deepEqual(read.tunnel, expected)
    }),
    { numRuns: 200 },
  )
  t.pass()
})

t.test('an errno means what the request makes of it', async (t) => {
  const meaning = (code: string, operation: string) => new KernelIpvsError(code, operation).message
  t.match(meaning('ENOENT', 'add service'), /no such scheduler or persistence engine \(ENOENT\)$/)
  t.match(meaning('ENOENT', 'delete destination'), /the service has no such destination/)
  t.match(meaning('ESRCH', 'delete destination'), /no such service/)
  t.match(meaning('ESRCH', 'stop daemon'), /no such sync daemon runs/)
  t.match(meaning('EEXIST', 'add service'), /such a service already/)
  t.match(meaning('ENOENT', 'find IPVS'), /no IPVS: modprobe ip_vs/)
  t.match(meaning('ENOPROTOOPT', 'list services'), /no IPVS: modprobe ip_vs/)
  t.match(meaning('EPERM', 'flush services'), /CAP_NET_ADMIN: run as root/)
  t.equal(meaning('EXDEV', 'flush services'), 'flush services: EXDEV', 'one that IPVS never says')
})
