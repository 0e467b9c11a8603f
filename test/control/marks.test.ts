import fc from '../support/properties.js'
import t from 'tap'
import type { MarkRule } from '../../src/core/commands.js'
import { formatMarkRule, parseMarkRule, parseMarkRules, runMark } from '../../src/control/marks.js'
import { InProcess } from './support.js'

const parse = (line: string): MarkRule => parseMarkRule(line.split(' '))

t.test('rules in the manner of iptables', (t) => {
  t.strictSame(
    parse('-p tcp -s 10.1.2.3/8 -d 10.1.0.10 --dport 80:90 -i eth0 -j MARK --set-mark 1'),
    {
      mark: 1,
      protocol: 'tcp',
      source: '10.0.0.0/8',
      destination: '10.1.0.10/32',
      ports: [80, 90],
      interface: 'eth0',
    },
  )
  t.strictSame(parse('-j MARK --set-mark 0xff --protocol udp --destination-port 53'), {
    mark: 255,
    protocol: 'udp',
    ports: [53, 53],
  })
  t.strictSame(parse('-p all -j MARK --set-mark 0'), { mark: 0 })
  t.end()
})

t.test('errors name the word', (t) => {
  const cases: [line: string, message: RegExp][] = [
    ['-p icmp -j MARK --set-mark 1', /'icmp' after -p: expected tcp/],
    ['-s 10.0.0.0/33 -j MARK --set-mark 1', /'10.0.0.0\/33' after -s/],
    ['-p tcp --dport 90:80 -j MARK --set-mark 1', /'90:80' after --dport/],
    ['-p tcp --dport 65536 -j MARK --set-mark 1', /'65536' after --dport/],
    ['--dport 80 -j MARK --set-mark 1', /'--dport' needs '-p tcp'/],
    ['-j ACCEPT --set-mark 1', /'ACCEPT' after -j: expected MARK/],
    ['-j MARK --set-mark 1/0xff', /'1\/0xff' after --set-mark: .*without a mask/],
    ['-j MARK --set-mark 4294967296', /'4294967296' after --set-mark/],
    ['-j MARK', /'--set-mark' is missing/],
    ['-p tcp', /'-j MARK' is missing/],
    ['! -p tcp', /'!' is not supported/],
    ['-p tcp --sport 80 -j MARK --set-mark 1', /'--sport' is no option/],
    ['-p tcp -p udp -j MARK --set-mark 1', /'-p' is given twice/],
    ['-i averylonginterface -j MARK --set-mark 1', /name of an interface/],
    ['-j MARK --set-mark', /'--set-mark' needs a value/],
  ]
  for (const [line, message] of cases) t.throws(() => parse(line), { message }, line)
  t.throws(() => parseMarkRules('# web\n\n-p tcp -j MARK --set-mark x\n', 'marks'), {
    message: /^marks:3:27: 'x' after --set-mark/,
  })
  t.end()
})

const rule = fc
  .record(
    {
      mark: fc.integer({ min: 0, max: 0xffffffff }),
      protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
      source: fc.constantFrom('10.0.0.0/8', '0.0.0.0/0', '10.1.2.3/32', '2001:db8::/32'),
      destination: fc.constantFrom('192.168.0.0/16'),
      interface: fc.constantFrom('eth0', 'uvs0'),
    },
    { requiredKeys: ['mark'], noNullPrototype: true },
  )
  .chain((base) =>
    base.protocol === undefined
      ? fc.constant(base)
      : fc
          .tuple(fc.nat(65535), fc.nat(65535))
          .map(([a, b]) => ({ ...base, ports: [Math.min(a, b), Math.max(a, b)] })),
  ) as fc.Arbitrary<MarkRule>

t.test('every rule that is written is read back', (t) => {
  fc.assert(
    fc.property(rule, (rule) => {
      t.strictSame(parse(formatMarkRule(rule)), rule)
    }),
  )
  t.end()
})

t.test('uvs mark on a director', async (t) => {
  const director = new InProcess()
  const run = async (line: string, stdin = '') => {
    let stdout = ''
    let stderr = ''
    const status = await runMark(line.split(' '), (commands) => director.execute(commands), {
      readStdin: () => Promise.resolve(stdin),
      stdout: (text) => (stdout += text),
      stderr: (text) => (stderr += text),
    })
    return { status, stdout, stderr }
  }
  const quiet = { status: 0, stdout: '', stderr: '' }
  t.strictSame(await run('add -p tcp -d 10.0.0.1 --dport 80 -j MARK --set-mark 1'), quiet)
  t.strictSame(await run('add -p tcp -d 10.0.0.1 --dport 443 -j MARK --set-mark 1'), quiet)
  t.equal(
    (await run('list')).stdout,
    `1    -p tcp -d 10.0.0.1/32 --dport 80 -j MARK --set-mark 1
2    -p tcp -d 10.0.0.1/32 --dport 443 -j MARK --set-mark 1
`,
  )
  const saved = (await run('save')).stdout
  t.match(JSON.parse((await run('list --json')).stdout), [{ mark: 1 }, { mark: 1 }])
  t.strictSame(await run('del 1'), quiet)
  t.strictSame(await run('del -p tcp -d 10.0.0.1/32 --dport 443 -j MARK --set-mark 1'), quiet)
  t.match(await run('del 1'), { status: 1, stderr: /there is no rule 1/ })
  t.strictSame(await run('save'), quiet)
  t.strictSame(await run('restore', saved), quiet)
  t.equal((await run('save')).stdout, saved)
  t.match(await run('restore', 'nonsense'), { status: 2, stderr: /stdin:1:1: 'nonsense'/ })
  t.equal((await run('save')).stdout, saved, 'a bad file changes nothing')
  t.strictSame(await run('flush'), quiet)
  t.strictSame(await run('list'), quiet)
  t.match(await run('nonsense'), { status: 2, stderr: /no command 'nonsense'\n\n[^]*Usage/ })
})
