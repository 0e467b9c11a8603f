import t from 'tap'
import type { Command } from '../../src/core/commands.js'
import { Names, ServiceNames } from '../../src/control/ipvsadm/names.js'
import {
  CommandLineError,
  defaultFormat,
  parseCommandLine,
  type Invocation,
} from '../../src/control/ipvsadm/parse.js'
import { options, settings } from '../../src/control/ipvsadm/options.js'
import { help } from '../../src/control/ipvsadm/help.js'

const names = new Names(
  new ServiceNames('http 80/tcp www # web\ndomain 53/udp\nhttp-alt 8080/tcp webcache\n'),
)
const parse = (line: string): Invocation =>
  parseCommandLine(line === '' ? [] : line.split(' '), names)

function command(line: string): Command {
  const invocation = parse(line)
  if (invocation.kind !== 'command') throw new Error(`${line} is ${invocation.kind}`)
  return invocation.command
}

const tcp = { protocol: 'tcp', address: '10.0.0.1', port: 80 } as const
const plain = {
  scheduler: 'wlc',
  schedulerFlags: [],
  persistentTimeoutSeconds: 0,
  persistentPrefixLength: 32,
  onePacket: false,
}
const route = { forwarding: 'direct-route', weight: 1, upperThreshold: 0, lowerThreshold: 0 }

t.test('command lines and what they ask for', (t) => {
  const cases: [line: string, command: unknown][] = [
    ['-A -t 10.0.0.1:80', { op: 'add-service', service: tcp, options: plain }],
    ['-A -t 10.0.0.1:http', { op: 'add-service', service: tcp, options: plain }],
    ['-A -t 10.0.0.1:www', { op: 'add-service', service: tcp, options: plain }],
    [
      '--add-service --tcp-service=10.0.0.1:80 --scheduler rr --persistent',
      {
        op: 'add-service',
        service: tcp,
        options: { ...plain, scheduler: 'rr', persistentTimeoutSeconds: 360 },
      },
    ],
    [
      '-E -t 10.0.0.1:80 -p -s rr',
      {
        op: 'edit-service',
        service: tcp,
        options: { ...plain, scheduler: 'rr', persistentTimeoutSeconds: 360 },
      },
    ],
    [
      '-E -t 10.0.0.1:80 -p50 -srr -M 255.255.255.0',
      {
        op: 'edit-service',
        service: tcp,
        options: {
          ...plain,
          scheduler: 'rr',
          persistentTimeoutSeconds: 50,
          persistentPrefixLength: 24,
        },
      },
    ],
    [
      '-A -u 10.0.0.1:domain -o',
      {
        op: 'add-service',
        service: { protocol: 'udp', address: '10.0.0.1', port: 53 },
        options: { ...plain, onePacket: true },
      },
    ],
    [
      '-A -t [2001:DB8::1]:80 -p 10 -M 64',
      {
        op: 'add-service',
        service: { protocol: 'tcp', address: '2001:db8::1', port: 80 },
        options: { ...plain, persistentTimeoutSeconds: 10, persistentPrefixLength: 64 },
      },
    ],
    [
      '-A --sctp-service 10.0.0.1:80 -s sh -b flag-2,sh-fallback --pe sip',
      {
        op: 'add-service',
        service: { ...tcp, protocol: 'sctp' },
        options: {
          ...plain,
          scheduler: 'sh',
          schedulerFlags: ['sh-fallback', 'sh-port'],
          persistenceEngine: 'sip',
        },
      },
    ],
    [
      '-A -f 4294967295',
      { op: 'add-service', service: { fwmark: 0xffffffff, family: 4 }, options: plain },
    ],
    [
      '-A -f 9 -M 56 -6 -p 1',
      {
        op: 'add-service',
        service: { fwmark: 9, family: 6 },
        options: { ...plain, persistentTimeoutSeconds: 1, persistentPrefixLength: 128 },
      },
    ],
    ['-D -t 10.0.0.1:80', { op: 'delete-service', service: tcp }],
    ['-C', { op: 'flush' }],
    ['-Z', { op: 'zero' }],
    ['-Z -t 10.0.0.1:80', { op: 'zero', service: tcp }],
    ['-Z -t 0.0.0.0', { op: 'zero' }],
    [
      '-a -t 10.0.0.1:80 -r 10.9.0.1',
      {
        op: 'add-destination',
        service: tcp,
        destination: { address: '10.9.0.1', port: 80 },
        options: route,
      },
    ],
    [
      '-a -t 10.0.0.1:80 -r 10.9.0.1:8080 -m -w 3 -x 9 -y 5',
      {
        op: 'add-destination',
        service: tcp,
        destination: { address: '10.9.0.1', port: 8080 },
        options: { forwarding: 'masquerade', weight: 3, upperThreshold: 9, lowerThreshold: 5 },
      },
    ],
    [
      '-e -t 10.0.0.1:80 -r 10.9.0.1:8080 -i',
      {
        op: 'edit-destination',
        service: tcp,
        destination: { address: '10.9.0.1', port: 80 },
        options: { ...route, forwarding: 'tunnel' },
      },
    ],
    [
      '-a -t 10.0.0.1:80 -r 10.9.0.1 --tun-csum --tun-type gue -i --tun-port 6080',
      {
        op: 'add-destination',
        service: tcp,
        destination: { address: '10.9.0.1', port: 80 },
        options: {
          ...route,
          forwarding: 'tunnel',
          tunnel: { type: 'gue', port: 6080, checksum: 'full' },
        },
      },
    ],
    [
      '-a -t 10.0.0.1:80 -r 10.9.0.1 -i --tun-type gre --tun-nocsum',
      {
        op: 'add-destination',
        service: tcp,
        destination: { address: '10.9.0.1', port: 80 },
        options: {
          ...route,
          forwarding: 'tunnel',
          tunnel: { type: 'gre', port: 0, checksum: 'none' },
        },
      },
    ],
    [
      '-d -t 10.0.0.1:80 -r 10.9.0.1:8080',
      {
        op: 'delete-destination',
        service: tcp,
        destination: { address: '10.9.0.1', port: 8080 },
      },
    ],
    [
      '-a -f 7 -r 10.9.0.1:http-alt',
      {
        op: 'add-destination',
        service: { fwmark: 7, family: 4 },
        destination: { address: '10.9.0.1', port: 8080 },
        options: route,
      },
    ],
    ['--set 1 2 3', { op: 'set-timeouts', timeouts: { tcp: 1, tcpFin: 2, udp: 3 } }],
  ]
  for (const [line, expected] of cases) t.strictSame(command(line), expected, line)
  t.end()
})

t.test('listings', (t) => {
  const cases: [line: string, invocation: unknown][] = [
    ['', { kind: 'list-services', format: defaultFormat }],
    ['-Ln', { kind: 'list-services', format: { ...defaultFormat, numeric: true } }],
    ['-lnc', { kind: 'list-connections', format: { ...defaultFormat, numeric: true } }],
    [
      '-L --stats --exact --nosort -t 10.0.0.1:80',
      {
        kind: 'list-services',
        service: tcp,
        format: { ...defaultFormat, stats: true, exact: true, sort: false },
      },
    ],
    ['-L --timeout', { kind: 'list-timeouts', format: defaultFormat }],
    ['-L --daemon', { kind: 'list-daemons', format: defaultFormat }],
    ['-L --json', { kind: 'list-services', format: { ...defaultFormat, json: true } }],
    ['-S -n', { kind: 'save', format: { ...defaultFormat, numeric: true } }],
    ['-R', { kind: 'restore' }],
    [
      '--start-daemon master',
      { kind: 'start-daemon', daemon: { state: 'master', interface: 'eth0', syncId: 0 } },
    ],
    [
      '--start-daemon backup --mcast-interface lo --syncid 3 --sync-maxlen 2000 --mcast-group ff02::9 --mcast-port 99 --mcast-ttl 7',
      {
        kind: 'start-daemon',
        daemon: {
          state: 'backup',
          interface: 'lo',
          syncId: 3,
          maxLength: 2000,
          group: 'ff02::9',
          port: 99,
          ttl: 7,
        },
      },
    ],
    ['--stop-daemon backup --syncid 3', { kind: 'stop-daemon', state: 'backup' }],
    ['-h', { kind: 'help' }],
    ['-v --nosuch', { kind: 'version' }],
  ]
  for (const [line, expected] of cases) t.strictSame(parse(line), expected, line)
  t.end()
})

t.test('what ipvsadm would do and uvs does not, is refused in words', (t) => {
  const cases: [line: string, message: RegExp, status: number][] = [
    ['-A -t 1.1.1.1:80 -p -M 255.0.255.0', /netmask 255.0.255.0: only masks/, 2],
    ['-A -t 1.1.1.1:80 -s rr -b ,sh-nosuch', /invalid scheduler flag `sh-nosuch'/, 2],
  ]
  for (const [line, message, status] of cases)
    t.throws(() => parse(line), { message, exitStatus: status }, line)
  t.end()
})

t.test('an error points at the word at fault', (t) => {
  const cases: [line: string, word: number][] = [
    ['-A -t 10.0.0.1:99999', 2],
    ['-A -t 10.0.0.1:80 -w', 3],
    ['-A -t 10.0.0.1:80 -p 0', 4],
    ['-L foo', 1],
    ['-a -t 10.0.0.1:80 -r 10.0.0.2 -w x', 6],
    ['-A', -1],
  ]
  for (const [line, word] of cases)
    try {
      parse(line)
      t.fail(line)
    } catch (error) {
      t.ok(error instanceof CommandLineError, line)
      t.equal((error as CommandLineError).word, word, line)
    }
  t.end()
})

t.test('host names are looked up once they are needed', async (t) => {
  const names = new Names(new ServiceNames(''))
  const invocation = await names.resolving(() =>
    parseCommandLine('-D -t localhost:80'.split(' '), names),
  )
  t.match(invocation, { command: { service: { address: '127.0.0.1' } } })
  await t.rejects(
    names.resolving(() => parseCommandLine('-D -t no-such-host.invalid:80'.split(' '), names)),
    { message: 'illegal virtual server address[:port] specified', exitStatus: 2 },
  )
})

t.test('the help has every option', (t) => {
  const text = help('uvsadm')
  for (const { long } of options) t.match(text, `--${long}`)
  t.equal(new Set(settings).size, settings.length)
  t.end()
})
