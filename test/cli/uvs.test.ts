import { fileURLToPath } from 'node:url'
import t from 'tap'
import { run } from '../../src/lab/process.js'

const toolbox = fileURLToPath(new URL('../../src/cli/uvs.js', import.meta.url))
const uvs = (...args: string[]) => run(process.execPath, [toolbox, ...args])

void t.test('help goes to stdout, complaints to stderr', async (t) => {
  const help = await uvs('--help')
  t.equal(help.status, 0)
  for (const tool of ['lab', 'mark', 'doctor']) t.match(help.stdout, new RegExp(`^  ${tool} `, 'm'))
  t.match(await uvs(), { status: 2, stdout: '', stderr: /Usage: uvs TOOL/ })
  t.match(await uvs('labb'), { status: 2, stdout: '', stderr: /there is no tool 'labb'/ })
  t.equal((await uvs('toString')).status, 2, 'a name that every object has is no tool')
})

void t.test('explain says what is missing', async (t) => {
  for (const [args, problem] of [
    [[], 'the scenario is missing'],
    [['a.scn'], 'the number of a line is missing'],
    [['a.scn', 'x'], "'x' is no number of a line"],
    [['a.scn', '1', '2'], "one line at a time: '2'"],
  ] as const)
    t.match(await uvs('explain', ...args), {
      status: 2,
      stdout: '',
      stderr: `uvs explain: ${problem}\n\nSays what`,
    })
})

void t.test('doctor says the same to people and to programs', async (t) => {
  const { stdout } = await uvs('doctor', '--json')
  const findings = JSON.parse(stdout) as { what: string; answer: string; note: string }[]
  const text = (await uvs('doctor')).stdout
  for (const { what, answer, note } of findings) {
    t.match(answer, /^(yes|no|unknown)$/)
    t.ok(note.length > 0, `${what}: says what it is for`)
    t.ok(text.includes(what) && text.includes(note))
  }
  t.match(await uvs('doctor', '--jsn'), { status: 2, stderr: /it takes no '--jsn'/ })
})
