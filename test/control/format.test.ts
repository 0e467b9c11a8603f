// What the comparison with the real ipvsadm cannot show: listings recorded from it (1.31 on Linux 6.1) for
// what the director does not have yet, and counts too large to bring about.
import t from 'tap'
import type {
  ConnectionStatus,
  DestinationStatus,
  ServiceKey,
  ServiceOptions,
  ServiceStatus,
  TunnelOptions,
} from '../../src/core/commands.js'
import {
  connectionLine,
  connectionTitle,
  formatRules,
  formatServices,
  largeNumber,
  sortServices,
} from '../../src/control/ipvsadm/format.js'
import { Names, ServiceNames } from '../../src/control/ipvsadm/names.js'
import { defaultFormat, type ListFormat } from '../../src/control/ipvsadm/parse.js'

const names = new Names(new ServiceNames('http 80/tcp\nhttp-alt 8080/tcp\nsip 5060/udp\n'))
const numeric = { ...defaultFormat, numeric: true }
const noCounters = { connections: 0, inPackets: 0, outPackets: 0, inBytes: 0, outBytes: 0 }
const noRates = {
  connectionsPerSecond: 0,
  inPacketsPerSecond: 0,
  outPacketsPerSecond: 0,
  inBytesPerSecond: 0,
  outBytesPerSecond: 0,
}

function service(
  key: ServiceKey,
  options: Partial<ServiceOptions> = {},
  destinations: DestinationStatus[] = [],
): ServiceStatus {
  return {
    service: key,
    options: {
      scheduler: 'wlc',
      schedulerFlags: [],
      persistentTimeoutSeconds: 0,
      persistentPrefixLength: ('family' in key ? key.family === 6 : key.address.includes(':'))
        ? 128
        : 32,
      onePacket: false,
      ...options,
    },
    counters: noCounters,
    rates: noRates,
    destinations,
  }
}

function server(
  address: string,
  port: number,
  more: Partial<DestinationStatus> = {},
): DestinationStatus {
  return {
    address,
    port,
    forwarding: 'masquerade',
    weight: 1,
    upperThreshold: 0,
    lowerThreshold: 0,
    activeConnections: 0,
    inactiveConnections: 0,
    persistentConnections: 0,
    overloaded: false,
    counters: noCounters,
    rates: noRates,
    ...more,
  }
}

const list = (services: ServiceStatus[], format: ListFormat): string =>
  [...formatServices(services, format, names)].join('')

const long = '2001:db8:1234:5678:9abc:def0:1234:5678'
const mixed = [
  service({ protocol: 'tcp', address: '10.100.100.100', port: 10000 }, { scheduler: 'wrr' }, [
    server(long, 10000, { forwarding: 'tunnel' }),
  ]),
  service(
    { protocol: 'udp', address: '10.0.0.3', port: 5060 },
    {
      scheduler: 'sh',
      schedulerFlags: ['sh-fallback', 'sh-port'],
      persistentTimeoutSeconds: 360,
      onePacket: true,
      persistenceEngine: 'sip',
    },
  ),
  service({ protocol: 'sctp', address: '10.0.0.1', port: 80 }),
  service(
    { protocol: 'tcp', address: long, port: 10000 },
    { scheduler: 'wrr', persistentTimeoutSeconds: 360 },
    [server(long, 20000)],
  ),
  service({ protocol: 'tcp', address: 'fe80::1', port: 10000 }, { scheduler: 'wrr' }),
  service({ fwmark: 2, family: 6 }, { persistentTimeoutSeconds: 100, persistentPrefixLength: 64 }, [
    server('2001:db8::9', 0),
  ]),
]

t.test('IPv6, SCTP, marks, flags and persistence engines', (t) => {
  t.equal(
    list(mixed, numeric),
    `Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.100.100.100:10000 wrr
  -> [2001:db8:1234:5678:9abc:def0:1234:5678]:10000 Tunnel  1      0          0         
UDP  10.0.0.3:5060 sh (sh-fallback,sh-port) persistent 360 pe sip ops
SCTP 10.0.0.1:80 wlc
TCP  [fe80::1]:10000 wrr
TCP  [2001:db8:1234:5678:9abc:def0:1234:5678]:10000 wrr persistent 360
  -> [2001:db8:1234:5678:9abc:def0:1234:5678]:20000 Masq    1      0          0         
FWM  2 IPv6 wlc persistent 100 mask 64
  -> [2001:db8::9]:0              Masq    1      0          0         
`,
  )
  t.equal(
    list(mixed.slice(3, 4), { ...numeric, stats: true }),
    `Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  [2001:db8:1234:5678:9abc:def0:1234:5678]:10000        0        0        0        0        0
  -> [2001:db8:1234:5678:9abc:def0:1234:5678]:20000        0        0        0        0        0
`,
  )
  t.equal(
    [...formatRules(mixed, numeric, names)].join(''),
    `-A -t 10.100.100.100:10000 -s wrr
-a -t 10.100.100.100:10000 -r [${long}]:10000 -i -w 1 --tun-type ipip
-A -u 10.0.0.3:5060 -s sh -p 360 --pe sip -o -b sh-fallback,sh-port
-A --sctp-service 10.0.0.1:80 -s wlc
-A -t [fe80::1]:10000 -s wrr
-A -t [${long}]:10000 -s wrr -p 360
-a -t [${long}]:10000 -r [${long}]:20000 -m -w 1
-A -f 2 -6 -s wlc -p 100 -M 64
-a -f 2 -6 -r [2001:db8::9]:0 -m -w 1
`,
  )
  t.end()
})

t.test('names of services where the protocol has them', (t) => {
  const services = [
    service({ protocol: 'tcp', address: '10.0.0.1', port: 80 }, {}, [server('10.9.0.2', 8080)]),
    service({ fwmark: 7, family: 4 }, {}, [server('10.9.0.1', 8080)]),
    service({ protocol: 'sctp', address: '10.0.0.1', port: 80 }),
  ]
  t.equal(
    list(services, { ...defaultFormat, tunnelInfo: true }),
    `Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  10.0.0.1:http wlc
  -> 10.9.0.2:http-alt            Masq    n/a           1      0          0         
SCTP 10.0.0.1:80 wlc
FWM  7 wlc
  -> 10.9.0.1:8080                Masq    n/a           1      0          0         
`,
  )
  t.end()
})

t.test('tunnels', (t) => {
  const tunnel = (address: string, type: 'gue' | 'gre', checksum: TunnelOptions['checksum']) =>
    server(address, 80, {
      forwarding: 'tunnel',
      tunnel: { type, port: type === 'gue' ? 6080 : 0, checksum },
    })
  const services = [
    service({ protocol: 'tcp', address: '10.1.0.100', port: 80 }, { scheduler: 'rr' }, [
      tunnel('10.2.0.2', 'gue', 'full'),
      tunnel('10.2.0.3', 'gre', 'none'),
      server('10.2.0.4', 80),
      server('10.2.0.5', 80, { forwarding: 'tunnel' }),
      tunnel('10.2.0.6', 'gue', 'remote'),
      tunnel('10.2.0.7', 'gue', 'none'),
    ]),
  ]
  t.equal(
    list(services, { ...numeric, tunnelInfo: true }),
    `Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  10.1.0.100:80 rr
  -> 10.2.0.2:80                  Tunnel  gue:6080:+c   1      0          0         
  -> 10.2.0.3:80                  Tunnel  gre:-c        1      0          0         
  -> 10.2.0.4:80                  Masq    n/a           1      0          0         
  -> 10.2.0.5:80                  Tunnel  ipip          1      0          0         
  -> 10.2.0.6:80                  Tunnel  gue:6080:r+c  1      0          0         
  -> 10.2.0.7:80                  Tunnel  gue:6080:-c   1      0          0         
`,
  )
  t.equal(
    [...formatRules(services, numeric, names)].join(''),
    `-A -t 10.1.0.100:80 -s rr
-a -t 10.1.0.100:80 -r 10.2.0.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 10.1.0.100:80 -r 10.2.0.3:80 -i -w 1 --tun-type gre --tun-nocsum
-a -t 10.1.0.100:80 -r 10.2.0.4:80 -m -w 1
-a -t 10.1.0.100:80 -r 10.2.0.5:80 -i -w 1 --tun-type ipip
-a -t 10.1.0.100:80 -r 10.2.0.6:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 10.1.0.100:80 -r 10.2.0.7:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
`,
  )
  t.end()
})

t.test('large numbers are cut to a unit, unless they are asked for exactly', (t) => {
  t.equal(largeNumber(99_999_999), ' 99999999')
  t.equal(largeNumber(100_000_000), '  100000K')
  t.equal(largeNumber(999_999_999), '  999999K')
  t.equal(largeNumber(1_000_000_000), '    1000M')
  t.equal(largeNumber(99_999_999_999), '   99999M')
  t.equal(largeNumber(100_000_000_000), '     100G')
  t.equal(largeNumber(100_000_000_000_000), '     100T')
  const counters = {
    connections: 123,
    inPackets: 123_456_789,
    outPackets: 1_234_567_890,
    inBytes: 123_456_789_012,
    outBytes: 2 ** 53,
  }
  const rates = {
    connectionsPerSecond: 150_000_000.9,
    inPacketsPerSecond: 150_000_000,
    outPacketsPerSecond: 0,
    inBytesPerSecond: 150_000_000,
    outBytesPerSecond: 1,
  }
  const busy = {
    ...service({ protocol: 'tcp', address: '10.0.0.1', port: 80 }, {}, [
      server('10.9.0.1', 80, { counters, rates }),
    ]),
    counters,
    rates,
  }
  const lines = (format: Partial<ListFormat>): string[] =>
    list([busy], { ...numeric, ...format })
      .split('\n')
      .slice(2, 4)
  t.strictSame(lines({ stats: true }), [
    'TCP  10.0.0.1:80                       123  123456K    1234M     123G    9007T',
    '  -> 10.9.0.1:80                       123  123456K    1234M     123G    9007T',
  ])
  t.strictSame(lines({ stats: true, exact: true }), [
    'TCP  10.0.0.1:80                       123 123456789 1234567890 123456789012 9007199254740992',
    '  -> 10.9.0.1:80                       123 123456789 1234567890 123456789012 9007199254740992',
  ])
  t.strictSame(lines({ rate: true }), [
    'TCP  10.0.0.1:80                   150000K  150000K        0  150000K        1',
    '  -> 10.9.0.1:80                  150000000 150000000        0  150000K        1',
  ])
  t.end()
})

t.test('connections', (t) => {
  const connection: ConnectionStatus = {
    protocol: 'TCP',
    expiresSeconds: 9.9,
    state: 'CLOSE',
    client: '127.0.0.1',
    clientPort: 37770,
    virtual: '127.0.0.1',
    virtualPort: 8080,
    destination: '127.0.0.1',
    destinationPort: 9000,
    isTemplate: false,
  }
  const line = (more: Partial<ConnectionStatus>, format = numeric): string =>
    connectionLine({ ...connection, ...more }, format, names)
  t.equal(
    connectionTitle(numeric) +
      line({}) +
      line({ protocol: 'UDP', expiresSeconds: 299, state: 'UDP', client: '10.9.9.9' }) +
      line({ expiresSeconds: 6, state: 'NONE', client: '127.0.0.0', clientPort: 0 }) +
      line({ expiresSeconds: 86400 }) +
      line({ protocol: 'SCTP', client: '2001:db8::1' }),
    `IPVS connection entries
pro expire state       source             virtual            destination
TCP 00:09  CLOSE       127.0.0.1:37770    127.0.0.1:8080     127.0.0.1:9000
UDP 04:59  UDP         10.9.9.9:37770     127.0.0.1:8080     127.0.0.1:9000
TCP 00:06  NONE        127.0.0.0:0        127.0.0.1:8080     127.0.0.1:9000
TCP 1440:00 CLOSE       127.0.0.1:37770    127.0.0.1:8080     127.0.0.1:9000
SCTP 00:09  CLOSE       [2001:db8::1]:37770 127.0.0.1:8080     127.0.0.1:9000
`,
  )
  t.equal(
    line({}, defaultFormat),
    'TCP 00:09  CLOSE       127.0.0.1:37770    127.0.0.1:http-alt 127.0.0.1:9000\n',
  )
  t.equal(
    connectionTitle({ ...numeric, persistentConnections: true }).split('\n')[1],
    'pro expire state       source             virtual            destination        pe name          pe_data',
  )
  t.end()
})

t.test('the order is the same whatever order the table is in', (t) => {
  const at = (address: string): ServiceStatus => service({ protocol: 'tcp', address, port: 80 })
  const order = (addresses: string[]): string[] =>
    sortServices(addresses.map(at)).map(({ service }) =>
      'address' in service ? service.address : '',
    )
  t.strictSame(order(['10.0.0.1', '192.168.0.1']), ['192.168.0.1', '10.0.0.1'])
  t.strictSame(
    order(['10.0.0.1', '192.168.0.1', '100.0.0.1']),
    order(['192.168.0.1', '100.0.0.1', '10.0.0.1']),
  )
  t.end()
})
