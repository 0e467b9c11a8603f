// The mirror between two directors: to it, the kernel's IPVS is one more director that carries commands out.
import t from 'tap'
import {
  compareConfigurations,
  configurationOf,
  differingSettings,
  Mirror,
  readConfiguration,
  type Belongings,
} from '../../src/control/mirror.js'
import { Names } from '../../src/control/ipvsadm/names.js'
import { parseRules } from '../../src/control/rules.js'
import type { Execute } from '../../src/control/reconcile.js'
import { InProcess } from './support.js'

class Side extends InProcess {
  readonly carryOut: Execute = (commands) => this.execute(commands)

  async ipvsadm(...lines: string[]): Promise<void> {
    for (const line of lines) {
      const { status, stderr } = await this.run(line.split(' '))
      if (status !== 0) throw new Error(`${line}: ${stderr}`)
    }
  }

  configuration() {
    return readConfiguration(this.carryOut)
  }

  async saved(): Promise<string[]> {
    return (await this.run(['-Sn'])).stdout.split('\n').slice(0, -1)
  }
}

function world(belongings: Belongings = { services: [], settings: {} }, adopt = false) {
  const uvsd = new Side()
  const kernel = new Side()
  const remembered: Belongings[] = []
  const mirror = new Mirror(kernel.carryOut, belongings, adopt, (now) =>
    remembered.push(structuredClone(now)),
  )
  const push = async () => mirror.push(await uvsd.configuration())
  const lines = async () =>
    compareConfigurations(await uvsd.configuration(), await kernel.configuration()).flatMap(
      (difference) => difference.lines,
    )
  return { uvsd, kernel, mirror, push, lines, remembered }
}

const web = ['-A -t 10.0.0.1:80 -s wrr', '-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 3']
const dns = ['-A -u 10.0.0.1:53 -s rr -o', '-a -u 10.0.0.1:53 -r 10.0.0.3:53 -g -w 1']

t.test('changes of every kind are pushed, and nothing is left to push', async (t) => {
  const { uvsd, kernel, push, lines } = world()
  await uvsd.ipvsadm(...web, ...dns)
  t.strictSame(await push(), { made: 4, refused: [] })
  t.strictSame(await lines(), [])
  t.strictSame(await push(), { made: 0, refused: [] })
  await uvsd.ipvsadm(
    '-E -t 10.0.0.1:80 -s wlc -p 60',
    '-a -t 10.0.0.1:80 -r 10.0.0.4:8080 -m -w 5 -x 100 -y 50',
    '-e -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 0',
    '-D -u 10.0.0.1:53',
    '--set 100 0 0',
  )
  await uvsd.execute([{ op: 'set-setting', name: 'drop_entry', value: '3' }])
  t.strictSame(await lines(), [
    '- -A -t 10.0.0.1:80 -s wrr',
    '+ -A -t 10.0.0.1:80 -s wlc -p 60',
    '- -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 3',
    '+ -a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 0',
    '+ -a -t 10.0.0.1:80 -r 10.0.0.4:8080 -m -w 5 -x 100 -y 50',
    '- -A -u 10.0.0.1:53 -s rr -o',
    '- -a -u 10.0.0.1:53 -r 10.0.0.3:53 -g -w 1',
    '- --set 900 120 300',
    '+ --set 100 120 300',
    '- net.ipv4.vs.drop_entry = 0',
    '+ net.ipv4.vs.drop_entry = 3',
  ])
  t.strictSame(await push(), { made: 6, refused: [] })
  t.strictSame(await lines(), [])
  t.strictSame(await kernel.saved(), await uvsd.saved())
})

t.test('destinations come to stand in the same order', async (t) => {
  const { uvsd, kernel, push } = world()
  await uvsd.ipvsadm('-A -t 10.0.0.1:80 -s rr')
  for (const last of [5, 3, 9, 4])
    await uvsd.ipvsadm(`-a -t 10.0.0.1:80 -r 10.0.0.${last}:80 -m -w 1`)
  await push()
  const order = async (side: Side) =>
    (await side.configuration()).services[0]!.destinations.map(({ address }) => address)
  t.strictSame(await order(kernel), await order(uvsd))
})

t.test('what others made is left alone', async (t) => {
  const { uvsd, kernel, mirror, push } = world()
  await kernel.ipvsadm(...dns, '-A -t 10.0.0.9:80 -s lc')
  await uvsd.ipvsadm(...web)
  t.strictSame(await push(), { made: 2, refused: [] })
  t.strictSame(await kernel.saved(), ['-A -t 10.0.0.9:80 -s lc', ...web, ...dns].sort(bySaving))

  await uvsd.ipvsadm('-A -t 10.0.0.9:80 -s lc')
  t.strictSame(await push(), { made: 0, refused: [] }, 'the same by chance')
  await uvsd.ipvsadm('-E -t 10.0.0.9:80 -s rr')
  const contested = await push()
  t.equal(contested.made, 0)
  t.match(contested.refused, [/^-t 10\.0\.0\.9:80: the kernel has this service already.*--adopt/])

  t.strictSame(await mirror.remove(), { made: 1, refused: [] })
  t.strictSame(await kernel.saved(), ['-A -t 10.0.0.9:80 -s lc', ...dns].sort(bySaving))
})

/** ipvsadm-save's order, for the services of these tests. */
function bySaving(a: string, b: string): number {
  const rank = (line: string) => (line.includes('-u ') ? 2 : line.includes('10.0.0.9') ? 1 : 0)
  return rank(a) - rank(b)
}

t.test('--adopt makes the kernel have what uvsd has and nothing else', async (t) => {
  const { uvsd, kernel, push, lines } = world({ services: [], settings: {} }, true)
  await kernel.ipvsadm(...dns, '-A -t 10.0.0.1:80 -s lc')
  await uvsd.ipvsadm(...web)
  t.strictSame((await push()).refused, [])
  t.strictSame(await kernel.saved(), web)
  t.strictSame(await lines(), [])
})

t.test('the next mirror knows what a killed one has made', async (t) => {
  const first = world()
  await first.kernel.ipvsadm(...dns)
  await first.uvsd.ipvsadm(...web, '--set 100 0 0')
  await first.uvsd.execute([{ op: 'set-setting', name: 'sync_threshold', value: '5 60' }])
  await first.push()
  const second = new Mirror(first.kernel.carryOut, first.remembered.at(-1)!, false, () => {})
  t.match(await second.remove(), { made: 3, refused: [] })
  t.strictSame(await first.kernel.saved(), dns)
  const { timeouts, settings } = await first.kernel.configuration()
  t.equal(timeouts.tcp, 900, 'the timeouts are what they were')
  t.equal(settings['sync_threshold'], '3\t50', 'the settings, too')
})

t.test('what is to be made is written down before it is', async (t) => {
  const { uvsd, kernel, remembered, push } = world()
  await uvsd.ipvsadm(...web)
  const made = kernel.execute.bind(kernel)
  kernel.execute = (commands) => {
    if (commands.some(({ op }) => op === 'add-service'))
      t.strictSame(remembered.at(-1)?.services, ['tcp 10.0.0.1 80'])
    return made(commands)
  }
  t.equal((await push()).made, 2)
})

t.test('a refusal keeps nothing else from being done', async (t) => {
  const { uvsd, kernel, remembered, push } = world()
  await uvsd.ipvsadm(...web, ...dns)
  const made = kernel.execute.bind(kernel)
  let refuses = true
  kernel.execute = async (commands) => {
    const results = []
    for (const command of commands) {
      const isUdp = 'service' in command && command.service && 'protocol' in command.service
      if (refuses && isUdp && JSON.stringify(command).includes('"udp"'))
        results.push({ error: { code: 'ENOENT', message: 'add service: no such scheduler' } })
      else results.push(...(await made([command])))
    }
    return results
  }
  t.strictSame(await push(), {
    made: 2,
    refused: ['-A -u 10.0.0.1:53 -s rr -o: add service: no such scheduler'],
  })
  t.strictSame(remembered.at(-1)?.services, ['tcp 10.0.0.1 80'])
  t.equal((await push()).refused.length, 1, 'it is tried again')
  refuses = false
  t.strictSame(await push(), { made: 2, refused: [] })
})

t.test('the difference as JSON names the options', async (t) => {
  const { uvsd, kernel } = world()
  await uvsd.ipvsadm(
    '-A -f 1 -6 -s rr',
    '-A -t 10.0.0.1:80 -s wlc -b flag-1',
    '-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gue --tun-port 6080 -w 2',
    '--set 0 0 10',
  )
  await kernel.ipvsadm(
    '-A -t 10.0.0.1:80 -s wlc -p 50',
    '-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gre -x 7',
    '-a -t 10.0.0.1:80 -r 10.0.0.3:80 -m',
  )
  const differences = compareConfigurations(
    await uvsd.configuration(),
    await kernel.configuration(),
  )
  t.strictSame(
    differences.map(({ service, destination, setting, fields }) => ({
      at: [
        service && ('fwmark' in service ? service.fwmark : service.address),
        destination?.address,
        setting,
      ],
      fields,
    })),
    [
      { at: [1, undefined, undefined], fields: [] },
      {
        at: ['10.0.0.1', undefined, undefined],
        fields: ['schedulerFlags', 'persistentTimeoutSeconds'],
      },
      {
        at: ['10.0.0.1', '10.0.0.2', undefined],
        fields: ['weight', 'upperThreshold', 'tunnel.type', 'tunnel.port'],
      },
      { at: ['10.0.0.1', '10.0.0.3', undefined], fields: [] },
      { at: [undefined, undefined, undefined], fields: ['udp'] },
    ],
  )
  t.match(differences[0], {
    kernel: null,
    uvsd: { scheduler: 'rr' },
    lines: ['+ -A -f 1 -6 -s rr'],
  })
  t.match(differences[3], { uvsd: null, kernel: { forwarding: 'masquerade', weight: 1 } })
  t.match(differences[4], { uvsd: { udp: 10 }, kernel: { udp: 300 } })
})

t.test('settings that mean nothing to uvsd are pushed only when they have been set', async (t) => {
  const kernel = { conntrack: '1', sync_qlen_max: '1234', sync_threshold: '3\t50', drop_entry: '0' }
  t.strictSame(
    differingSettings({ conntrack: '0', sync_qlen_max: '8192', sync_threshold: '3 50' }, kernel),
    [],
  )
  t.strictSame(
    differingSettings(
      { sync_qlen_max: '99', sync_threshold: '4\t50', drop_entry: '1', sloppy_tcp: '1' },
      kernel,
    ),
    [
      ['drop_entry', '1'],
      ['sync_qlen_max', '99'],
      ['sync_threshold', '4\t50'],
    ],
  )
})

t.test('a rules file in place of a uvsd', async (t) => {
  const { kernel, mirror } = world()
  await kernel.ipvsadm('--set 100 110 120')
  const text = [...web, '-a -t 10.0.0.1:80 -r 10.0.0.9:80 -m', '--set 0 0 50'].join('\n')
  const rules = await parseRules(text, 'rules', new Names())
  const wanted = async () => configurationOf(rules, await kernel.configuration())
  t.equal((await mirror.push(await wanted())).made, 4)
  t.strictSame(compareConfigurations(await wanted(), await kernel.configuration()), [])
  const { services, timeouts } = await kernel.configuration()
  t.strictSame(timeouts, { tcp: 100, tcpFin: 110, udp: 50 })
  t.strictSame(
    services[0]!.destinations.map(({ address }) => address),
    ['10.0.0.9', '10.0.0.2'],
    'in the order that the lines make',
  )
})
