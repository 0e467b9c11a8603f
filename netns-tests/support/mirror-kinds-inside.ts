// Run by netns-tests/kernel/mirror.test.ts in a guest. Each kind is a rules file: it is pushed, the real ipvsadm
// lists it, nothing differs; then either side is changed, the difference says so, and a push ends it.
import { execFileSync } from 'node:child_process'
import t, { type Test } from 'tap'
import { kernelDirector } from '../../src/control/kernel-director.js'
import { Names } from '../../src/control/ipvsadm/names.js'
import {
  compareConfigurations,
  configurationOf,
  Mirror,
  readConfiguration,
  type Configuration,
} from '../../src/control/mirror.js'
import { parseRules } from '../../src/control/rules.js'
import { IpvsClient } from '../../src/kernel/ipvs/index.js'

t.setTimeout(600_000)

const client = await IpvsClient.open()
t.teardown(() => client.close())
const kernel = kernelDirector(client)
const mirror = new Mirror(kernel, { services: [], settings: {} }, false, () => {})

const ipvsadm = (args: string, input = ''): string =>
  execFileSync('ipvsadm', args.split(' '), { encoding: 'utf8', input })

async function wanted(lines: readonly string[]): Promise<Configuration> {
  const rules = await parseRules(lines.join('\n'), 'rules', new Names())
  return configurationOf(rules, await readConfiguration(kernel))
}

/** What differs when uvsd has these lines, sorted. */
async function differing(lines: readonly string[]): Promise<string[]> {
  const differences = compareConfigurations(await wanted(lines), await readConfiguration(kernel))
  return differences.flatMap((difference) => difference.lines).sort()
}

const isService = (line: string): boolean => line.startsWith('-A')
const withoutThresholds = (line: string): string => line.replace(/ -[xy] \d+/g, '')
const heavier = (line: string): string =>
  line.replace(/ -w (\d+)/, (_all, weight: string) => ` -w ${Number(weight) + 1}`)
/** With another scheduler, without the flags of the one that it had. */
const otherwise = (line: string): string =>
  line.replace(/-s \S+/, line.includes('-s rr') ? '-s lc' : '-s rr').replace(/ -b \S+/, '')
const changed = (line: string): string => (isService(line) ? otherwise(line) : heavier(line))

/** Pushes the lines and holds what the real ipvsadm says of them against them. */
async function pushed(t: Test, lines: readonly string[], made: number): Promise<void> {
  t.strictSame(await mirror.push(await wanted(lines)), { made, refused: [] })
  t.strictSame(
    ipvsadm('-Sn').split('\n').slice(0, -1).sort(),
    lines.map(withoutThresholds).sort(),
    'the real ipvsadm lists it',
  )
  t.strictSame(await differing(lines), [], 'nothing differs')
}

async function roundTrip(t: Test, lines: readonly string[]): Promise<void> {
  await pushed(t, lines, lines.length)

  // The kernel is changed: every option of some, then whole destinations, then whole services.
  const edits = lines.map((line) => changed(line).replace('-A', '-E').replace('-a', '-e'))
  ipvsadm('-R', edits.join('\n'))
  t.strictSame(
    await differing(lines),
    lines.flatMap((line) => [`- ${changed(line)}`, `+ ${line}`]).sort(),
    'the difference says what has been edited',
  )
  await pushed(t, lines, lines.length)
  const destinations = lines.filter((line) => !isService(line))
  const deletions = destinations.map((line) => line.replace(/^-a (.* -r \S+).*/, '-d $1'))
  ipvsadm('-R', deletions.join('\n'))
  t.strictSame(await differing(lines), destinations.map((line) => `+ ${line}`).sort())
  await pushed(t, lines, destinations.length)
  ipvsadm('-C')
  t.strictSame(await differing(lines), lines.map((line) => `+ ${line}`).sort())
  await pushed(t, lines, lines.length)

  // uvsd is changed, in the same ways.
  const edited = lines.map(changed)
  t.strictSame(
    await differing(edited),
    lines.flatMap((line) => [`- ${line}`, `+ ${changed(line)}`]).sort(),
  )
  await pushed(t, edited, lines.length)
  const alone = edited.filter(isService)
  await pushed(t, alone, destinations.length)
  await pushed(t, [], alone.length)
}

const services: Record<string, { service: string; family: 4 | 6; port: string }> = {
  'tcp, IPv4': { service: '-t 10.0.0.1:80', family: 4, port: '80' },
  'udp, IPv4': { service: '-u 10.0.0.1:53', family: 4, port: '53' },
  'sctp, IPv4': { service: '--sctp-service 10.0.0.1:80', family: 4, port: '80' },
  'mark, IPv4': { service: '-f 7', family: 4, port: '0' },
  'tcp, IPv6': { service: '-t [2001:db8::1]:80', family: 6, port: '80' },
  'udp, IPv6': { service: '-u [2001:db8::1]:53', family: 6, port: '53' },
  'sctp, IPv6': { service: '--sctp-service [2001:db8::1]:80', family: 6, port: '80' },
  'mark, IPv6': { service: '-f 7 -6', family: 6, port: '0' },
}

/** A destination of each kind: forwarding methods, tunnel types, thresholds, weights, the other family. */
function destinations(family: 4 | 6, port: string): string[] {
  const own = family === 4 ? (n: number) => `10.0.1.${n}` : (n: number) => `[fd00::${n}]`
  const others = family === 4 ? '[fd00::99]' : '10.0.1.99'
  return [
    `-r ${own(1)}:${port} -m -w 1`,
    `-r ${own(2)}:${port === '0' ? 0 : 8080} -m -w 0 -x 100 -y 50`,
    `-r ${own(3)}:${port} -g -w 65535 -x 7`,
    `-r ${own(4)}:${port} -i -w 3 --tun-type ipip`,
    `-r ${own(5)}:${port} -i -w 3 --tun-type gue --tun-port 6080 --tun-nocsum`,
    `-r ${own(6)}:${port} -i -w 3 --tun-type gue --tun-port 6081 --tun-csum`,
    `-r ${own(7)}:${port} -i -w 3 --tun-type gue --tun-port 65535 --tun-remcsum`,
    `-r ${own(8)}:${port} -i -w 3 --tun-type gre --tun-nocsum`,
    `-r ${own(9)}:${port} -i -w 3 --tun-type gre --tun-csum -x 9 -y 8`,
    `-r ${others}:${port} -i -w 3 --tun-type ipip`,
  ]
}

for (const [kind, { service, family, port }] of Object.entries(services))
  t.test(`${kind}, with destinations of every kind`, async (t) => {
    await roundTrip(t, [
      `-A ${service} -s wlc`,
      ...destinations(family, port).map((destination) => `-a ${service} ${destination}`),
    ])
  })

/** What services can have, each with an address or mark of its own. */
const options = [
  '-t 10.0.0.1:80 -s wlc -p 1',
  '-t 10.0.0.1:81 -s wlc -p 86400 -M 255.255.0.0',
  '-t 10.0.0.1:82 -s wlc -p 60 -M 0.0.0.0',
  '-t 10.0.0.1:0 -s wlc -p 60',
  '-t [2001:db8::1]:80 -s wlc -p 60 -M 64',
  '-t [2001:db8::1]:0 -s wlc -p 60 -M 1',
  '-u 10.0.0.1:53 -s wlc -o',
  '-u [2001:db8::1]:53 -s wlc -o',
  '-u 10.0.0.1:5060 -s wlc -p 60 --pe sip',
  '-f 2147483647 -s wlc -p 60 -o',
  '-f 7 -6 -s wlc -p 60 -M 48',
  '-t 10.0.0.2:80 -s sh -b sh-fallback',
  '-t 10.0.0.2:81 -s sh -b sh-port',
  '-t 10.0.0.2:82 -s sh -b sh-fallback,sh-port',
  '-t 10.0.0.2:83 -s mh -b mh-fallback,mh-port',
  '-t 10.0.0.2:84 -s wrr -b flag-1,flag-2,flag-3',
  ...['rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'dh', 'sh', 'sed', 'nq', 'fo', 'ovf', 'mh'].map(
    (scheduler, i) => `-t 10.0.0.3:${i + 1} -s ${scheduler}`,
  ),
]

t.test('services with options of every kind', async (t) => {
  await roundTrip(
    t,
    options.flatMap((option) => {
      const [service] = /^(-f \S+( -6)?|\S+ \S+)/.exec(option)!
      const isV6 = service.includes('-6') || service.includes('[')
      return [`-A ${option}`, `-a ${service} -r ${isV6 ? '[fd00::2]' : '10.0.0.9'}:0 -m -w 4`]
    }),
  )
})

t.test('a mark above 2^31, which ipvsadm writes as a negative number', async (t) => {
  const lines = ['-A -f 4294967295 -s rr']
  t.equal((await mirror.push(await wanted(lines))).made, 1)
  t.equal(ipvsadm('-Sn'), '-A -f -1 -s rr\n')
  t.strictSame(await differing(lines), [])
  await mirror.remove()
})

t.test('timeouts and settings', async (t) => {
  const before = await readConfiguration(kernel)
  const wish: Configuration = {
    services: [],
    timeouts: { tcp: 100, tcpFin: 50, udp: 25 },
    settings: { ...before.settings, drop_entry: '3', sync_threshold: '5\t60', conntrack: '0' },
  }
  const lines = async () =>
    compareConfigurations(wish, await readConfiguration(kernel)).flatMap(({ lines }) => lines)
  t.strictSame(await lines(), [
    '- --set 900 120 300',
    '+ --set 100 50 25',
    '- net.ipv4.vs.drop_entry = 0',
    '+ net.ipv4.vs.drop_entry = 3',
    '- net.ipv4.vs.sync_threshold = 3 50',
    '+ net.ipv4.vs.sync_threshold = 5 60',
  ])
  t.strictSame(await mirror.push(wish), { made: 3, refused: [] })
  t.strictSame(await lines(), [])
  t.equal(ipvsadm('-L --timeout'), 'Timeout (tcp tcpfin udp): 100 50 25\n')
  execFileSync('sysctl', ['-qw', 'net.ipv4.vs.drop_entry=1'])
  t.strictSame(await lines(), ['- net.ipv4.vs.drop_entry = 1', '+ net.ipv4.vs.drop_entry = 3'])
  await mirror.push(wish)
  t.equal(execFileSync('sysctl', ['-n', 'net.ipv4.vs.drop_entry'], { encoding: 'utf8' }), '3\n')
  const bad = { ...wish, settings: { ...wish.settings, drop_entry: '7' } }
  t.match(await mirror.push(bad), {
    made: 0,
    refused: [/^net\.ipv4\.vs\.drop_entry = 7: .*EINVAL/],
  })
  await mirror.remove()
  t.strictSame(await readConfiguration(kernel), before, 'everything is as it was')
})

t.test('what the kernel refuses is said and keeps nothing else from being done', async (t) => {
  const lines = [
    '-A -t 10.0.0.1:80 -s twos',
    '-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1',
    '-A -t 10.0.0.1:81 -s rr',
    '-a -t 10.0.0.1:81 -r 10.0.0.2:81 -m -w 1',
  ]
  t.strictSame(await mirror.push(await wanted(lines)), {
    made: 2,
    refused: [
      '-A -t 10.0.0.1:80 -s twos: add service: the kernel has no such scheduler or persistence engine (ENOENT)',
    ],
  })
  t.equal(ipvsadm('-Sn'), `${lines.slice(2).join('\n')}\n`)
  await mirror.remove()
})
