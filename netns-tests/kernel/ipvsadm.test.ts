// The same command lines through the real ipvsadm on a real IPVS, and through ours on our director.
import t from 'tap'
import { InProcess, type Outcome } from '../../test/control/support.js'
import { stories, type Line } from './ipvsadm-cases.js'
import { guestUnavailable, runInGuest } from './guest.js'

t.setTimeout(600_000)
const skip = guestUnavailable()

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`

/** A line of the guest's script that leaves what it said in files that start with `name`. */
function guestLine(name: string, { args, stdin }: Line): string {
  const command = ['ipvsadm', ...args.map(quoted)].join(' ')
  const input = stdin === undefined ? '/dev/null' : `${name}.in`
  return `${command} < ${input} > ${name}.out 2> ${name}.err; echo $? > ${name}.status`
}

async function runReal(): Promise<Outcome[][]> {
  const script: string[] = []
  const files: Record<string, string> = {}
  for (const [s, { lines }] of stories.entries()) {
    script.push('ipvsadm -C; ipvsadm --set 900 120 300')
    for (const [l, line] of lines.entries()) {
      script.push(guestLine(`${s}.${l}`, line))
      if (line.stdin !== undefined) files[`${s}.${l}.in`] = line.stdin
    }
  }
  const result = await runInGuest({ script: script.join('\n'), files, timeoutMs: 600_000 })
  return stories.map(({ lines }, s) =>
    lines.map((_line, l) => {
      const read = (what: string): string => result.files.get(`${s}.${l}.${what}`)!
      return { stdout: read('out'), stderr: read('err'), status: Number(read('status')) }
    }),
  )
}

void t.test('command lines do and say what they do and say in ipvsadm', { skip }, async (t) => {
  const real = await runReal()
  for (const [s, { name, lines }] of stories.entries())
    await t.test(name, async (t) => {
      const ours = new InProcess()
      for (const [l, { args, stdin }] of lines.entries())
        t.strictSame(
          await ours.run(args, stdin),
          real[s]![l],
          `ipvsadm ${args.map((word) => (/^[^\s']+$/.test(word) ? word : quoted(word))).join(' ')}`,
        )
    })
})

void t.test('a guest that does not end is ended', { skip }, async (t) => {
  await t.rejects(runInGuest({ script: 'sleep 60', timeoutMs: 4000 }), {
    message: /did not end within 4 s/,
  })
})
