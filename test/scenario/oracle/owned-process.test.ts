import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { CHANNEL } from '../../../src/scenario/oracle/owned-process.js'

const source = new URL('../../../src/scenario/oracle/owned-process.js', import.meta.url).href

/** A program that owns a process which ends with its channel, tells its directory, and waits. */
const OWNER = `
  import { writeFileSync } from 'node:fs'
  import { OwnedProcess } from ${JSON.stringify(source)}
  const owned = OwnedProcess.start('uvs-owned-test-', (directory) => {
    writeFileSync(directory + '/file', '')
    const args = ['-c', 'cat <&${CHANNEL} >/dev/null']
    return { program: '/bin/sh', args, environment: {} }
  })
  process.stdout.write(owned.directory + '\\n')
  if (process.argv[1] === 'stop') await owned.stop()
  else setInterval(() => {}, 1000)
`

/** @returns the directory that it made */
async function own(signal: NodeJS.Signals | 'stop'): Promise<string> {
  // The test runner's own hooks in NODE_OPTIONS listen to signals; it puts them into whatever node is started.
  const program = ['-u', 'NODE_OPTIONS', process.execPath, '--input-type=module', '-e', OWNER]
  const owner = spawn('env', [...program, '--', signal], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(owner, 'close')
  const [line] = (await once(owner.stdout.setEncoding('utf8'), 'data')) as [string]
  const directory = line.trim()
  if (signal !== 'stop') owner.kill(signal)
  await ended
  return directory
}

for (const end of ['stop', 'SIGTERM', 'SIGINT', 'SIGKILL'] as const)
  t.test(`the directory of an owned process is gone after ${end}`, async (t) => {
    const directory = await own(end)
    t.match(directory, /uvs-owned-test-/)
    // Nobody is left to tell when the caretaker is through.
    for (let i = 0; i < 3000 && existsSync(directory); i++) await sleep(20)
    t.notOk(existsSync(directory))
  })
