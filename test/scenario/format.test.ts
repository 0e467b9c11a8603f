import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import fc from '../support/properties.js'
import t from 'tap'
import { eventsOf } from '../../src/scenario/events.js'
import {
  formatDirective,
  formatEvents,
  formatScenario,
  packetWords,
} from '../../src/scenario/format.js'
import { sctpChunks } from '../../src/scenario/packets.js'
import { parseScenario, readScenario } from '../../src/scenario/parse.js'
import type { Directive, Event, Scenario } from '../../src/scenario/scenario.js'

/** What a directive means, without where it stood. */
const meaning = ({ directives }: Scenario): object[] =>
  directives.map(({ line: _line, text: _text, ...rest }) => rest)
const meaningOf = (events: readonly Event[]): object[] =>
  events.map(({ line: _line, ...rest }) => rest)

// -- scenarios as people write them

const ipv4 = fc.ipV4()
const ipv6 = fc.ipV6().filter((address) => !address.includes('.'))
const port = fc.integer({ min: 0, max: 65535 })
const ends = fc.oneof(
  fc.tuple(ipv4, port, ipv4, port).map(([a, p, b, q]) => `${a}:${p} > ${b}:${q}`),
  fc.tuple(ipv6, port, ipv6, port).map(([a, p, b, q]) => `[${a}]:${p} > [${b}]:${q}`),
)
const option = (name: string, max: number): fc.Arbitrary<string> =>
  fc.option(fc.integer({ min: 0, max })).map((value) => (value === null ? '' : ` ${name}=${value}`))
const where = fc
  .tuple(option('mark', 0xffffffff), fc.constantFrom('', ' in=client', ' in=server'))
  .map((options) => options.join(''))
const options = fc
  .tuple(option('len', 200), option('ttl', 255), option('id', 65535), where)
  .map((each) => each.join(''))
const flags = fc
  .subarray(['S', 'A', 'F', 'R', 'P', 'U'])
  .map((letters) => (letters.length === 0 ? '' : ` ${letters.join('')}`))
const lineText = fc.string().filter((text) => !/[\r\n]/.test(text))
const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

const line: fc.Arbitrary<string> = fc.oneof(
  fc.tuple(ends, flags, options).map(([ends, flags, options]) => `tcp ${ends}${flags}${options}`),
  fc.tuple(ends, options).map(([ends, options]) => `udp ${ends}${options}`),
  fc
    .tuple(ends, fc.constantFrom(...Object.keys(sctpChunks)), options)
    .map(([ends, chunk, options]) => `sctp ${ends} ${chunk}${options}`),
  fc
    .tuple(fc.uint8Array({ minLength: 1 }), where)
    .map(([bytes, where]) => `raw ${Buffer.from(bytes).toString('hex')}${where}`),
  fc.array(lineText).map((args) => ['ipvsadm', ...args.map(quote)].join(' ')),
  lineText.map((value) => `sysctl ${quote(`net.ipv4.vs.drop_entry=${value}`)}`),
  fc
    .tuple(fc.stringMatching(/^[a-z '"#.]+$/), where)
    .map(([file, where]) => `pcap ${quote(`captures/${file}`)}${where}`),
)
/** Lines, and how much time passes before each: nothing most of the time. */
const scenarioText = fc
  .array(fc.tuple(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 100_000_000 })), line))
  .map((steps) => {
    let ms = 0
    return steps
      .map(([after, line]) => (after === 0 ? line : `at ${(ms += after) / 1000}\n${line}`))
      .join('\n')
  })

t.test('what is written parses to the same', async (t) => {
  fc.assert(
    fc.property(scenarioText, (text) => {
      const scenario = parseScenario(text, '/some/where/a.scn')
      const written = formatScenario(scenario)
      const again = parseScenario(written, '/some/where/a.scn')
      t.strictSame(meaning(again), meaning(scenario))
      if (formatScenario(again) !== written) throw new Error('written twice, it differs')
    }),
    { numRuns: 300 },
  )
})

t.test('events, too', async (t) => {
  const withoutCaptures = scenarioText.map((text) => text.replace(/^pcap.*$/gm, ''))
  fc.assert(
    fc.property(withoutCaptures, (text) => {
      const events = eventsOf(parseScenario(text, 'a.scn'))
      t.strictSame(
        meaningOf(eventsOf(parseScenario(formatEvents(events), 'a.scn'))),
        meaningOf(events),
      )
    }),
    { numRuns: 200 },
  )
})

t.test('packets stand in words wherever words make them', async (t) => {
  for (const text of [
    'tcp 10.1.0.7:1024 > 10.1.0.100:80 S',
    'tcp 10.1.0.7:1024 > 10.1.0.100:80 SFRPAU len=3 ttl=1 id=9',
    'udp [fd01::7]:1024 > [fd01::100]:53 len=3',
    'sctp 10.1.0.7:1024 > 10.1.0.100:80 INIT len=5',
    'sctp 10.1.0.7:1024 > 10.1.0.100:80 DATA',
    'raw 4500001c000000004001665d0a0100070a0200030800f7ff00000000',
    // A TCP segment without flags, and one whose checksum is wrong.
    'raw 450000280000400040062661 0a0100070a010064 0400005000000000 00000000 5000ffff96d00000',
    'raw 450000280000400040062661 0a0100070a010064 0400005000000000 00000000 5002ffff96cf0000',
  ]) {
    const line = text.startsWith('raw') ? `raw ${text.slice(4).replaceAll(' ', '')}` : text
    const [directive] = parseScenario(line, 'a.scn').directives as [Directive & { kind: 'packet' }]
    t.strictSame(packetWords(directive.packet).join(' '), line)
  }
  t.strictSame(packetWords(Uint8Array.of(0x45)), ['raw', '45'])
})

t.test('small times have no exponent', async (t) => {
  const at = (seconds: number): string =>
    formatDirective({ line: 1, text: '', kind: 'at', seconds }, 'a.scn')
  t.equal(at(0.00000015), 'at 0.00000015')
  t.equal(at(5e-7), 'at 0.0000005')
  t.equal(at(21474836.47), 'at 21474836.47')
})

t.test('captures are named from where the text stands', async (t) => {
  const scenario = parseScenario("pcap 'a b.pcap' mark=2", '/some/where/a.scn')
  t.equal(formatScenario(scenario), "pcap 'a b.pcap' mark=2\n")
  t.equal(formatScenario(scenario, '/some/b.scn'), "pcap 'where/a b.pcap' mark=2\n")
})

t.test('what no line can hold is refused', async (t) => {
  t.throws(
    () => formatEvents([{ line: 1, atMs: 0, kind: 'ipvsadm', args: ['a\nb'] }]),
    new RangeError('a line cannot hold "a\\nb"'),
  )
})

t.test('the scenarios of the project', async (t) => {
  const directory = 'test/scenarios'
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
  for (const file of files.filter((name) => name.endsWith('.scn'))) {
    const scenario = readScenario(join(directory, file))
    const again = parseScenario(formatScenario(scenario), scenario.name)
    t.strictSame(meaning(again), meaning(scenario), file)
    t.strictSame(
      meaningOf(eventsOf(parseScenario(formatEvents(eventsOf(scenario)), scenario.name))),
      meaningOf(eventsOf(scenario)),
      file,
    )
  }
})
