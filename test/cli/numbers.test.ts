// Numbers on command lines are decimal digits, in whichever program.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { readCount, readDecimal } from '../../src/cli/numbers.js'
import { run } from '../../src/lab/process.js'

/** What Number() would take, and what it would not. */
const strange = ['', ' ', '1e1', '0x2', '0b1', '1_0', '+1', '-1', '1.0', '.5', '5.', ' 3', '3 ', '٣', 'Infinity', 'NaN'] // prettier-ignore

void t.test('a count is digits, in its range', (t) => {
  for (const text of strange)
    t.throws(
      () => readCount('--workers', text, 0, 1000),
      /^--workers .*: must be a number from 0 to 1000, in decimal digits/,
      `'${text}'`,
    )
  t.equal(readCount('--workers', '0', 0, 1000), 0)
  t.equal(readCount('--workers', '010', 0, 1000), 10)
  t.equal(readCount('--workers', '1000', 0, 1000), 1000)
  t.throws(() => readCount('--workers', '1001', 0, 1000))
  t.throws(() => readCount('--workers', '0', 1, 1000))
  t.throws(() => readCount('--workers', '9'.repeat(400), 1, 1000))
  t.end()
})

void t.test('what may have a fraction has digits on both sides of its point', (t) => {
  for (const text of strange.filter((text) => text !== '1.0'))
    t.throws(() => readDecimal('--rate', text, 0, 1000), /^--rate /, `'${text}'`)
  t.equal(readDecimal('--rate', '0.25', 0, 1000), 0.25)
  t.equal(readDecimal('--rate', '90', 0, 1000), 90)
  t.throws(() => readDecimal('--rate', '1000.5', 0, 1000))
  t.end()
})

const program = (name: string): string =>
  fileURLToPath(new URL(`../../src/cli/${name}.js`, import.meta.url))

void t.test('every program reads them so', async (t) => {
  for (const [name, ...args] of [
    ['uvsd', '--workers', '1e1'],
    ['uvsd', '--port', 'tun:x', '--connections', '0x10000'],
    ['uvsd', '--port', 'tun:x', '--patience', ''],
    ['uvsd', '--port', 'tun:x', '--client-prefix', '2.4e1'],
    ['uvs', 'lab', 'nat', '--servers', '0x2'],
    ['uvs', 'replay', 'any.scn', '--seed', '1e1'],
    ['uvs', 'parity', '--random', '1e1'],
    ['uvs', 'parity', '--guests', '0x2', 'any.scn'],
    ['uvs', 'bench', 'micro', '--seconds', '1e1'],
    ['uvs', 'bench', 'schedulers', '--servers', '1e1'],
    ['uvs', 'bench', 'schedulers', '--rate', '0x2'],
    ['uvs', 'bench', 'schedulers', '--weights', '1,1e1'],
  ] as const)
    t.match(
      await run(process.execPath, [program(name), ...args]),
      { status: 2, stdout: '', stderr: 'must be a number from' },
      [name, ...args].join(' '),
    )
})
