// What becomes of a run's files where they cannot be written.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Output } from '../../bench/report/output.js'
import { parseResult } from '../../bench/suite/result.js'
import { exampleRun } from './example.js'

const example = exampleRun()

/** An output into a folder, and what it says; what goes elsewhere goes to the folder `elsewhere`. */
function outputTo(t: Test, given: string | undefined, parent: string) {
  const said: string[] = []
  const elsewhere = join(parent, 'elsewhere')
  mkdirSync(elsewhere)
  const before = process.env['TMPDIR']
  process.env['TMPDIR'] = elsewhere
  t.teardown(() => {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
  })
  return { output: new Output(given, parent, (line) => said.push(line)), said, elsewhere }
}

const readBack = (file: string): unknown => parseResult(readFileSync(file, 'utf8'))

void t.test('everything in its place, and no other file', (t) => {
  const parent = t.testdir()
  const folder = join(parent, 'a', 'b')
  const { output, said, elsewhere } = outputTo(t, folder, parent)
  t.ok(output.keep(example))
  t.strictSame(readdirSync(folder), ['result.json'])
  t.ok(output.finish(example))
  t.strictSame(readdirSync(folder).sort(), ['plots', 'report.html', 'result.json'])
  t.strictSame(readdirSync(elsewhere), [])
  t.match(said, [/^written: .*report\.html, result\.json, plots/])
  t.same(readBack(join(folder, 'result.json')), example)
  t.end()
})

void t.test('runs that begin in the same second have folders of their own', (t) => {
  const parent = t.testdir()
  const { output } = outputTo(t, undefined, parent)
  t.ok(output.keep(example))
  t.ok(new Output(undefined, parent, () => undefined).keep(example))
  t.ok(output.keep(example), 'and the first keeps its own')
  const name = example.startedAt.slice(0, 19).replace(/:/g, '-')
  t.strictSame(
    readdirSync(parent).filter((entry) => entry !== 'elsewhere'),
    [name, `${name}-2`],
  )
  t.end()
})

void t.test('what cannot be written where it should be goes elsewhere', (t) => {
  const parent = t.testdir({ file: 'not a folder' })
  const { output, said, elsewhere } = outputTo(t, join(parent, 'file'), parent)
  t.notOk(output.finish(example))
  const [folder] = readdirSync(elsewhere)
  t.same(readBack(join(elsewhere, folder!, 'result.json')), example)
  t.ok(existsSync(join(elsewhere, folder!, 'report.html')))
  t.match(said, [
    /file\/?.*result\.json: .*\(E[A-Z]+\)$/,
    /^the data are in .* instead$/,
    /^written/,
  ])
  t.end()
})

void t.test('where nothing can be written it says so', (t) => {
  const parent = t.testdir({ file: 'not a folder' })
  const { output, said, elsewhere } = outputTo(t, join(parent, 'file'), parent)
  rmSync(elsewhere, { recursive: true })
  t.notOk(output.finish(example))
  t.match(said, [/result\.json: /, /^nor can they be written to .*standard output is all there is/])
  t.end()
})

void t.test('a report that cannot be written leaves the data', (t) => {
  const parent = t.testdir({ out: { plots: 'a file' } })
  const folder = join(parent, 'out')
  const { output, said } = outputTo(t, folder, parent)
  t.notOk(output.finish(example))
  t.same(readBack(join(folder, 'result.json')), example)
  t.match(said, [
    /plots: .*EEXIST/,
    /^the data are in .*uvs bench --report .*result\.json --out DIR/,
  ])
  t.end()
})

void t.test('a result that cannot be replaced stays whole', (t) => {
  const folder = t.testdir()
  const { output, said } = outputTo(t, folder, folder)
  t.ok(output.keep(example))
  // In its way while the new one is written.
  mkdirSync(join(folder, 'result.json.unfinished'))
  writeFileSync(join(folder, 'result.json.unfinished', 'x'), '')
  t.notOk(output.keep({ ...example, command: 'another' }))
  t.same(readBack(join(folder, 'result.json')), example)
  t.match(said, [/result\.json: /])
  t.end()
})
