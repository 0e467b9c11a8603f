import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { FORMAT } from '../../bench/suite/result.js'

const program = fileURLToPath(new URL('../../src/cli/uvs.js', import.meta.url))

function bench(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'bench', ...args], {
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

t.test('a folder that cannot be is refused before anything is measured', async (t) => {
  const stderr = 'uvs bench: --out /proc/x: no folder can be made there (ENOENT)\n'
  t.strictSame(bench('core', '--quick', '--out', '/proc/x'), { status: 1, stdout: '', stderr })
  const folder = t.testdir({ 'result.json': JSON.stringify({ format: FORMAT, parts: [] }) })
  const file = join(folder, 'result.json')
  t.strictSame(bench('--report', file, '--out', '/proc/x'), { status: 1, stdout: '', stderr })
})

t.test('raw data that are none are named', async (t) => {
  const folder = t.testdir({})
  const file = join(folder, 'result.json')
  t.match(bench('--report', file), { status: 1, stderr: `--report ${file}: ENOENT` })
  writeFileSync(file, '{"format":')
  t.match(bench('--report', file), { status: 1, stderr: `--report ${file}: ` })
  writeFileSync(file, '{"format": "other 7"}')
  t.match(bench('--report', file), { status: 1, stderr: `this is 'other 7' and not '${FORMAT}'` })
  t.strictSame(readdirSync(folder), ['result.json'])
  t.equal(readFileSync(file, 'utf8'), '{"format": "other 7"}')
})
