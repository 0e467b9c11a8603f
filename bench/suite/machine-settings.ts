/**
 * Settings of the whole machine, changed while somebody measures. Who is changing them, and what was there before,
 * stands in a folder: of several that measure at the same time the last one puts everything back, and what one that
 * was killed has left is put back by whoever comes next.
 */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { FileLock } from '../../src/kernel/file-lock.js'

const FOLDER = '/run/uvs-bench'

/** Values by name: a file's path, or 'thread 14', whose value is how it is scheduled, as 'rr 1' or 'other 0'. */
export type Settings = Readonly<Record<string, string>>

interface Change {
  readonly before: string
  readonly ours: string
}

/** As chrt(1) calls them, by their numbers (sched(7)). */
const POLICIES = ['other', 'fifo', 'rr', 'batch', '', 'idle']
/** Fields of /proc/PID/stat (proc_pid_stat(5)), of those behind the name. */
const PRIORITY_FIELD = 37
const POLICY_FIELD = 38

const threadOf = (name: string): string | undefined => /^thread (\d+)$/.exec(name)?.[1]

/** A setting's value; undefined if this machine has no such setting. */
function read(name: string): string | undefined {
  const thread = threadOf(name)
  const file = thread === undefined ? name : `/proc/${thread}/stat`
  if (!existsSync(file)) return undefined
  const text = readFileSync(file, 'utf8').trim()
  if (thread === undefined) return text
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return `${POLICIES[Number(fields[POLICY_FIELD])]} ${fields[PRIORITY_FIELD]}`
}

function write(name: string, value: string): void {
  const thread = threadOf(name)
  if (thread === undefined) return writeFileSync(name, value)
  const [policy, priority] = value.split(' ')
  execFileSync('chrt', [`--${policy}`, '--pid', priority!, thread])
}

/** What was changed, by the names of the settings. */
class Book {
  constructor(private readonly folder: string) {}

  private get file(): string {
    return join(this.folder, 'changed.json')
  }

  read(): Map<string, Change> {
    if (!existsSync(this.file)) return new Map()
    return new Map(JSON.parse(readFileSync(this.file, 'utf8')) as [string, Change][])
  }

  write(changes: ReadonlyMap<string, Change>): void {
    writeFileSync(`${this.file}.new`, JSON.stringify([...changes]))
    renameSync(`${this.file}.new`, this.file)
  }

  /** Puts everything back, unless somebody else has changed it since. */
  undo(): void {
    for (const [name, { before, ours }] of this.read()) if (read(name) === ours) write(name, before)
    rmSync(this.file, { force: true })
  }
}

const HOLDER = 'holder-'
const LOCK_PATIENCE_MS = 20
let holders = 0

/** Alone with the folder. */
function alone<T>(folder: string, work: () => T): T {
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  const turn = new Int32Array(new SharedArrayBuffer(4))
  for (;;) {
    const lock = FileLock.take(join(folder, 'lock'), String(process.pid))
    if (typeof lock === 'string') {
      Atomics.wait(turn, 0, 0, LOCK_PATIENCE_MS)
      continue
    }
    try {
      return work()
    } finally {
      lock.release()
    }
  }
}

/** Whether somebody who lives needs the settings; the traces of those who do not are removed. */
function isHeld(folder: string): boolean {
  let isHeld = false
  for (const name of readdirSync(folder).filter((name) => name.startsWith(HOLDER))) {
    const lock = FileLock.take(join(folder, name), '')
    if (typeof lock === 'string') isHeld = true
    else lock.release()
  }
  return isHeld
}

/**
 * Changes settings; those that this machine does not have are passed over. Returns what puts them back, once nobody
 * else needs them; that also happens when the process exits.
 */
export function changeSettings(wanted: Settings, folder = FOLDER): () => void {
  const book = new Book(folder)
  const holder = alone(folder, () => {
    if (!isHeld(folder)) book.undo()
    const holder = FileLock.take(
      join(folder, `${HOLDER}${process.pid}-${holders++}`),
      String(process.pid),
    )
    if (typeof holder === 'string') throw new Error(`${folder}: in use by ${holder}`)
    const changes = book.read()
    for (const [name, value] of Object.entries(wanted)) {
      const current = read(name)
      if (current === undefined || current === value) continue
      const before = changes.get(name)?.before ?? current
      // Before it is done: who is killed in between has said so.
      book.write(changes.set(name, { before, ours: value }))
      write(name, value)
      // The kernel may have rounded it.
      book.write(changes.set(name, { before, ours: read(name)! }))
    }
    return holder
  })
  let isOver = false
  const putBack = (): void => {
    if (isOver) return
    isOver = true
    process.removeListener('exit', putBack)
    alone(folder, () => {
      holder.release()
      if (!isHeld(folder)) book.undo()
    })
  }
  process.once('exit', putBack)
  return putBack
}

/** Puts back what was left by some that were killed. */
export function restoreAbandoned(folder = FOLDER): void {
  if (!existsSync(folder)) return
  alone(folder, () => {
    if (!isHeld(folder)) new Book(folder).undo()
  })
}
