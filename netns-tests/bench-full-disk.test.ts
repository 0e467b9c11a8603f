// The benchmark where there is no space left for its files.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseResult } from '../bench/suite/result.js'
import { run } from '../src/lab/process.js'
import { skip } from './support/director.js'

const toolbox = fileURLToPath(new URL('../src/cli/uvs.js', import.meta.url))

void t.test('on a full disk the data go elsewhere', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-full-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const command = `
    mkdir small elsewhere && mount -t tmpfs -o size=8k none small &&
    TMPDIR=$PWD/elsewhere exec "$0" "$1" bench schedulers --quick --schedulers rr --out small/out`
  const script = `cd '${folder}' && ${command}`
  const args = ['-m', 'sh', '-c', script, process.execPath, toolbox]
  const { status, stdout, stderr } = await run('unshare', args)
  t.equal(status, 1)
  t.match(stderr, /^small\/out\/result\.json: no space is left there \(ENOSPC\)$/m)
  t.match(stderr, /^the data are in .*\/elsewhere\/.*\/result\.json instead$/m)
  t.match(stdout, 'rr decides without making garbage')
  const [kept] = readdirSync(join(folder, 'elsewhere'))
  const file = join(folder, 'elsewhere', kept!, 'result.json')
  t.equal(parseResult(readFileSync(file, 'utf8')).parts[0]!.failure, undefined)
  t.ok(existsSync(join(folder, 'elsewhere', kept!, 'report.html')))
})
