import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'
import { parseScenario, readScenario } from '../../src/scenario/parse.js'
import { ScenarioError, type Directive } from '../../src/scenario/scenario.js'
import { tcpPacket, udpPacket } from '../support/packets.js'

const parse = (text: string): readonly Directive[] =>
  parseScenario(text, '/somewhere/a.scn').directives

/** The only directive of a line. */
const one = (line: string): Directive => parse(line)[0]!

/** Why a text is refused: where, and what is wrong. */
function refusal(text: string): string {
  try {
    parseScenario(text, 'a.scn')
  } catch (error) {
    if (error instanceof ScenarioError) return error.message
    throw error
  }
  return 'accepted'
}

t.test('lines: comments, blanks, and where a directive stands', async (t) => {
  const text = '# first\n\n  at 1   # later\r\n\tipvsadm -C\n#at 5\nat 2'
  t.strictSame(parse(text), [
    { line: 3, text: 'at 1', kind: 'at', seconds: 1 },
    { line: 4, text: 'ipvsadm -C', kind: 'ipvsadm', args: ['-C'] },
    { line: 6, text: 'at 2', kind: 'at', seconds: 2 },
  ])
  t.strictSame(parse('\uFEFFat 1# behind a word'), [
    { line: 1, text: 'at 1', kind: 'at', seconds: 1 },
  ])
  t.match(one('pcap a#b.pcap# # c'), { kind: 'pcap', file: '/somewhere/a#b.pcap#' })
  t.strictSame(parse(''), [])
  t.strictSame(parse('\n# nothing\n'), [])
  t.equal(parseScenario('', '/somewhere/a.scn').name, '/somewhere/a.scn')
})

t.test('at takes decimals and goes on only', async (t) => {
  for (const [text, seconds] of [
    ['0', 0],
    ['1.5', 1.5],
    ['.25', 0.25],
    ['3.', 3],
    ['3600', 3600],
    ['0000.01', 0.01],
  ] as const)
    t.match(one(`at ${text}`), { kind: 'at', seconds }, text)
  t.equal(parse('at 1\nat 1').length, 2, 'standing still is not backwards')
})

t.test('arguments of ipvsadm as in a shell', async (t) => {
  const args = (text: string): readonly string[] => {
    const directive = one(`ipvsadm ${text}`)
    return directive.kind === 'ipvsadm' ? directive.args : []
  }
  t.strictSame(args('-A  -t 10.1.0.100:80\t-s rr'), ['-A', '-t', '10.1.0.100:80', '-s', 'rr'])
  t.strictSame(args(`'a b' "c d" e\\ f`), ['a b', 'c d', 'e f'])
  t.strictSame(args(`a'b'"c"d`), ['abcd'])
  t.strictSame(args(`'' ""`), ['', ''])
  t.strictSame(args(`'a\\b' "a\\b" "a\\"b" "\\\\"`), ['a\\b', 'a\\b', 'a"b', '\\'])
  t.strictSame(args(`a#b '#c' \\#d #e`), ['a#b', '#c', '#d'])
  t.strictSame(args(''), [])
})

t.test('sysctl: one KEY=VALUE, with blanks around as sysctl.conf has them', async (t) => {
  const expected = { kind: 'sysctl', key: 'net.ipv4.vs.drop_entry', value: '1' } as const
  t.match(one('sysctl net.ipv4.vs.drop_entry=1'), expected)
  t.match(one('sysctl net.ipv4.vs.drop_entry = 1'), expected)
  t.match(one("sysctl 'net.ipv4.vs.drop_entry=1'"), expected)
  t.match(one('sysctl net.ipv4.vs.sync_threshold=3 50'), { value: '3 50' })
  t.match(one('sysctl net.ipv4.vs.drop_entry='), { value: '' })
})

t.test('packets: what is left out has its default', async (t) => {
  const request = { from: '10.1.0.7:1024', to: '10.1.0.100:80', sequence: 0, acknowledgement: 0 }
  const segment = (flags: string, more = {}): Uint8Array =>
    tcpPacket({ ...request, flags, window: 65535, id: 0, ...more })
  t.strictSame(one('tcp 10.1.0.7:1024 > 10.1.0.100:80'), {
    line: 1,
    text: 'tcp 10.1.0.7:1024 > 10.1.0.100:80',
    kind: 'packet',
    packet: segment('A'),
    side: 'client',
    mark: 0,
  })
  t.match(one('tcp 10.1.0.7:1024 > 10.1.0.100:80 SAFRPU'), { packet: segment('SAFRPU') })
  t.match(one('tcp 10.1.0.7:1024 > 10.1.0.100:80 in=server mark=0x10 id=7 ttl=3 len=2'), {
    packet: segment('A', { id: 7, ttl: 3, payload: [0, 0] }),
    side: 'server',
    mark: 16,
  })
  t.match(one('udp [fd01::0:7]:1024 > [fd01::100]:53 len=4 ttl=255'), {
    packet: udpPacket({
      from: '[fd01::7]:1024',
      to: '[fd01::100]:53',
      payload: [0, 0, 0, 0],
      ttl: 255,
    }),
  })
  t.match(one('raw 4500 in=server'.replace('4500', '45AB')), {
    packet: Uint8Array.of(0x45, 0xab),
    side: 'server',
    mark: 0,
  })
})

t.test('captures are looked for beside the scenario', async (t) => {
  t.match(one('pcap web.pcap mark=3'), { kind: 'pcap', file: '/somewhere/web.pcap', mark: 3 })
  t.match(one("pcap '../an other.pcap' in=server"), { file: '/an other.pcap', side: 'server' })
  t.match(one('pcap /var/web.pcap'), { file: '/var/web.pcap' })
  t.throws(() => readScenario('no/such.scn'), { code: 'ENOENT' })
  const file = 'test/scenarios/examples/round-robin.scn'
  t.equal(readScenario(file).name, resolve(file))
})

t.test('errors say where and what', async (t) => {
  const cases: [string, string][] = [
    ['frob', "1:1: unknown directive 'frob'; there are at, ipvsadm, sysctl, tcp, udp, sctp,"],
    ['\n\n  TCP x', "3:3: unknown directive 'TCP'"],
    ['at', '1:3: the time in seconds is missing'],
    ['at x', "1:4: 'x' is no time in seconds"],
    ['at -1', "1:4: '-1' is no time in seconds"],
    ['at 1e3', "1:4: '1e3' is no time in seconds"],
    ['at .', "1:4: '.' is no time in seconds"],
    ['at 99999999', "1:4: '99999999' is no time in seconds from 0 to 21474836.47"],
    ['at 1 2', "1:6: unexpected '2'"],
    ['at 2\nat 1.5', '2:1: at 1.5: the clock is at 2 already'],
    ["ipvsadm -A 'x", "1:12: the quote ' is not closed"],
    ['ipvsadm -A x\\', '1:13: nothing follows the backslash'],
    ['sysctl', '1:7: KEY=VALUE is missing'],
    ['sysctl a', "1:8: 'a' is not KEY=VALUE"],
    ['sysctl =1', "1:8: '=1' is not KEY=VALUE"],
    ['tcp   # nothing', '1:4: the source, ADDRESS:PORT is missing'],
    ['tcp a > b', "1:5: 'a' is no ADDRESS:PORT"],
    ['tcp 10.1.0.7 > 10.1.0.8:1', "1:5: '10.1.0.7' is no ADDRESS:PORT"],
    ['tcp 10.1.0.256:1 > 10.1.0.8:1', "1:5: '10.1.0.256:1' is no ADDRESS:PORT"],
    ['tcp fd01::1:80 > fd01::2:80', "1:5: 'fd01::1:80' is no ADDRESS:PORT (an IPv6 address"],
    ['tcp [10.1.0.1]:80 > 10.1.0.2:80', "1:5: '[10.1.0.1]:80' is no ADDRESS:PORT"],
    ['tcp 10.1.0.7:65536 > 10.1.0.8:1', '1:5: port 65536 is above 65535'],
    ['tcp 10.1.0.7:1 10.1.0.8:1', "1:16: '>' expected, not '10.1.0.8:1'"],
    ['tcp 10.1.0.7:1 >', '1:17: the destination, ADDRESS:PORT is missing'],
    ['tcp 10.1.0.7:1 > [fd01::1]:1', "1:18: '[fd01::1]:1' is not of the source's address family"],
    ['tcp 10.1.0.7:1 > 10.1.0.8:1 SX', "1:29: 'SX' has a flag that is none of S A F R P U: 'X'"],
    ['tcp 10.1.0.7:1 > 10.1.0.8:1 S A', "1:31: unknown option 'A'; there are len=, ttl=, id=,"],
    ['tcp 10.1.0.7:1 > 10.1.0.8:1 tos=1', "1:29: unknown option 'tos=1'"],
    ['udp 10.1.0.7:1 > 10.1.0.8:1 S', "1:29: unknown option 'S'"],
    ['udp 10.1.0.7:1 > 10.1.0.8:1 ttl=256', '1:29: ttl=256: not a number from 0 to 255'],
    ['udp 10.1.0.7:1 > 10.1.0.8:1 ttl=', '1:29: ttl=: not a number from 0 to 255'],
    ['udp 10.1.0.7:1 > 10.1.0.8:1 id=65536', '1:29: id=65536: not a number from 0 to 65535'],
    ['udp 10.1.0.7:1 > 10.1.0.8:1 mark=4294967296', '1:29: mark=4294967296: not a number from 0'],
    ['udp 10.1.0.7:1 > 10.1.0.8:1 len=65508', '1:29: len=65508: not a number from 0 to 65507'],
    ['udp 10.1.0.7:1 > 10.1.0.8:1 in=left', '1:29: in=left: a packet comes in on client or server'],
    ['udp 10.1.0.7:1 > 10.1.0.8:1 id=1 id=1', '1:34: id= is given twice'],
    ['sctp 10.1.0.7:1 > 10.1.0.8:1', '1:29: the chunk (INIT, INIT_ACK, COOKIE_ECHO,'],
    ['sctp 10.1.0.7:1 > 10.1.0.8:1 PING', "1:30: 'PING' is no chunk: there are INIT,"],
    ['raw', '1:4: a packet in hex is missing'],
    ['raw 450', "1:5: '450' is not bytes in hex, two digits each"],
    ['raw 45xx', "1:5: '45xx' is not bytes in hex"],
    ['raw 45 ttl=3', '1:8: ttl= does not go with raw, whose packets are given whole'],
    ['pcap', '1:5: the name of a capture is missing'],
    ['pcap x.pcap len=3', '1:13: len= does not go with pcap'],
  ]
  for (const [text, expected] of cases) {
    const message = refusal(text)
    t.ok(message.startsWith(`a.scn:${expected}`), `${JSON.stringify(text)}: ${message}`)
  }
  t.match(
    (() => {
      try {
        parse('at 1\n  tcp x')
      } catch (error) {
        return error
      }
    })(),
    { file: '/somewhere/a.scn', line: 2, column: 7, name: 'ScenarioError' },
  )
})

t.test('the examples of the documentation', async (t) => {
  const text = readFileSync('docs/scenarios.md', 'utf8')
  const kinds = new Set<string>()
  for (const [, section = ''] of text.matchAll(/^### `(\w+)[^]*?^```\n([^]*?)^```/gm))
    kinds.add(section)
  t.strictSame([...kinds], ['at', 'ipvsadm', 'sysctl', 'tcp', 'udp', 'sctp', 'raw', 'pcap'])
  for (const [, example = ''] of text.matchAll(/^### `[^]*?^```\n([^]*?)^```/gm))
    t.ok(parse(example).length > 0, example)
  const [, example = ''] = /^### Scenarios[^]*?^```\n([^]*?)^```/m.exec(
    readFileSync('README.md', 'utf8'),
  )!
  t.equal(parse(example).length, 6)
})
