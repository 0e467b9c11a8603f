import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const program = fileURLToPath(new URL('../../src/cli/uvs.js', import.meta.url))

t.test('a folder that cannot be is refused before anything is measured', async (t) => {
  const args = [program, 'bench', 'core', '--quick', '--out', '/proc/x']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  t.strictSame(
    { status, stdout, stderr },
    {
      status: 1,
      stdout: '',
      stderr: 'uvs bench: --out /proc/x: no folder can be made there (ENOENT)\n',
    },
  )
})
