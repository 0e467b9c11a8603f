import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const program = fileURLToPath(new URL('../../src/cli/uvs.js', import.meta.url))
const uvs = (...args: string[]) =>
  spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' })

t.test(
  'a folder for the traces that cannot be is refused before a kernel is started',
  async (t) => {
    const folder = t.testdir({ 'a.scn': 'ipvsadm -L\n', file: '' })
    const scenario = join(folder, 'a.scn')
    for (const [directory, problem] of [
      ['/proc/x', 'no folder can be made there (ENOENT)'],
      ['/proc/x/y', 'no folder can be made there (ENOENT)'],
      [join(folder, 'file'), 'a part of it is a file (ENOTDIR)'],
      [join(folder, 'file', 'x'), 'a part of it is a file (ENOTDIR)'],
    ] as const) {
      const { status, stdout, stderr } = uvs('oracle', scenario, '--trace-dir', directory)
      t.strictSame(
        { status, stdout, stderr },
        { status: 1, stdout: '', stderr: `uvs oracle: --trace-dir ${directory}: ${problem}\n` },
      )
      t.match(uvs('parity', '--random', '1', '--out', directory), {
        status: 1,
        stdout: '',
        stderr: `uvs parity: --out ${directory}: ${problem}\n`,
      })
    }
    // What is there is left alone; the scenario is not even read.
    mkdirSync(join(folder, 'traces'))
    writeFileSync(join(folder, 'traces', 'b.ndjson'), '')
    t.match(uvs('oracle', join(folder, 'none.scn'), '--trace-dir', join(folder, 'traces')), {
      status: 1,
      stderr: /none\.scn/,
    })
    t.strictSame(readdirSync(join(folder, 'traces')), ['b.ndjson'])
  },
)
