import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { FileLock } from '../../src/kernel/file-lock.js'

const folder = mkdtempSync(join(tmpdir(), 'uvs-lock-'))
t.teardown(() => rmSync(folder, { recursive: true }))

/** A process that takes the lock, says what came of it, and stays. */
function holder(path: string, text: string) {
  const module = new URL('../../src/kernel/file-lock.js', import.meta.url).href
  const child = spawn(process.execPath, [
    '--input-type=module',
    '--eval',
    `import { FileLock } from ${JSON.stringify(module)}
     const lock = FileLock.take(${JSON.stringify(path)}, ${JSON.stringify(text)})
     console.log(typeof lock === 'string' ? 'held by ' + lock : 'taken')
     setInterval(() => {}, 1000)`,
  ])
  const said = once(child.stdout, 'data').then(([chunk]) => String(chunk).trim())
  return { child, said }
}

t.test('a lock is had by one at a time', (t) => {
  const path = join(folder, 'one')
  const first = FileLock.take(path, 'the first')
  if (typeof first === 'string') throw new Error(first)
  t.equal(FileLock.take(path, 'the second'), 'the first', 'a second learns who has it')
  t.equal(readFileSync(path, 'utf8'), 'the first', 'and has changed nothing')
  first.release()
  t.notOk(existsSync(path), 'no file is left')
  const third = FileLock.take(path, 'the third')
  t.type(third, FileLock)
  ;(third as FileLock).release()
  t.end()
})

t.test('a file that nobody holds says nothing', (t) => {
  const path = join(folder, 'left')
  writeFileSync(path, 'somebody who is dead, with a long name')
  const lock = FileLock.take(path, 'me')
  t.type(lock, FileLock)
  t.equal(readFileSync(path, 'utf8'), 'me')
  ;(lock as FileLock).release()
  t.end()
})

t.test('of many who come when the holder is killed, one gets it', async (t) => {
  const path = join(folder, 'many')
  const killed = holder(path, 'the killed one')
  t.equal(await killed.said, 'taken')
  killed.child.kill('SIGKILL')
  await once(killed.child, 'exit')
  const others = Array.from({ length: 4 }, (_, i) => holder(path, `number ${i}`))
  const said = await Promise.all(others.map((one) => one.said))
  t.equal(said.filter((text) => text === 'taken').length, 1, said.join())
  for (const { child } of others) child.kill('SIGKILL')
})
