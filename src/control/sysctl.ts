import type { Command, Replies } from '../core/commands.js'
import { settingName, settingTable } from '../core/settings.js'
import type { CommandError, CommandResult } from './api.js'

/** A `KEY=VALUE` for a setting cannot be read. */
export class SettingError extends Error {
  override readonly name = 'SettingError'
}

/** Reads `net.ipv4.vs.drop_entry=3`, dots or slashes, blanks around the value. */
export function parseSetting(text: string): Extract<Command, { op: 'set-setting' }> {
  const equals = text.indexOf('=')
  if (equals < 0) throw new SettingError(`'${text}': expected KEY=VALUE`)
  const key = text.slice(0, equals).trim()
  const name = settingName(key)
  if (name === undefined)
    throw new SettingError(`'${key}': expected a key of net.ipv4.vs, as net.ipv4.vs.drop_entry`)
  return { op: 'set-setting', name, value: text.slice(equals + 1).trim() }
}

/** The table of settings for `--help` and documentation: name, default, range, and what it does. */
export function describeSettings(): string {
  return settingTable
    .map(
      ({ name, defaults, minimum, maximum, unit, meaning }) =>
        `  ${name} = ${defaults.join(' ')}\n      ${minimum} to ${maximum}, ${unit}\n      ${meaning}\n`,
    )
    .join('')
}

const usage = `
Usage:
 uvs sysctl [--socket PATH] [options] [variable[=value] ...]

Options:
  -a, --all            display all variables
      --dry-run        print the key and values but do not write
  -b, --binary         print value without new line
  -e, --ignore         ignore unknown variables errors
  -N, --names          print variable names without values
  -n, --values         print only values of the given variable(s)
  -p, --load[=<file>]  read values from file
  -r, --pattern <expression>
                       select setting that match expression
  -q, --quiet          do not echo variable set
  -w, --write          enable writing a value to variable
      --settings       what each variable means, its default and its range

 -h, --help            display this help and exit
`

export interface SysctlStreams {
  stdout: (text: string) => void
  stderr: (text: string) => void
  /** Text of a file of -p, '-' for stdin; throws an Error with `code` as node does. */
  readFile: (path: string) => Promise<string>
}

interface Options {
  all: boolean
  dryRun: boolean
  binary: boolean
  ignore: boolean
  names: boolean
  values: boolean
  quiet: boolean
  write: boolean
  files: string[]
  pattern?: RegExp
}

const flags: Record<string, keyof Options> = {
  a: 'all',
  A: 'all',
  X: 'all',
  '--all': 'all',
  '--dry-run': 'dryRun',
  b: 'binary',
  '--binary': 'binary',
  e: 'ignore',
  '--ignore': 'ignore',
  N: 'names',
  '--names': 'names',
  n: 'values',
  '--values': 'values',
  q: 'quiet',
  '--quiet': 'quiet',
  w: 'write',
  '--write': 'write',
}

const DEFAULT_FILE = '/etc/sysctl.conf'

/**
 * sysctl(8) of procps for the settings of a director: command line, output, messages and exit status as
 * there, but for the host's other variables, of which it says that they are not there.
 */
export async function runSysctl(
  args: readonly string[],
  execute: (commands: Command[]) => Promise<CommandResult[]>,
  streams: SysctlStreams,
): Promise<number> {
  const options: Options = {
    all: false,
    dryRun: false,
    binary: false,
    ignore: false,
    names: false,
    values: false,
    quiet: false,
    write: false,
    files: [],
  }
  const keys: string[] = []
  const words = [...args]
  if (words.length === 0) {
    streams.stdout(usage)
    return 1
  }
  let wantsFile = false
  while (words.length > 0) {
    const word = words.shift()!
    if (word === '--') {
      keys.push(...words.splice(0))
    } else if (word.startsWith('--') && word.includes('=')) {
      const [name, value] = [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]
      if (name === '--pattern') words.unshift('-r', value)
      else if (name === '--load') options.files.push(value)
      else return refuseOption(word, streams)
    } else if (word === '-h' || word === '-d' || word === '--help') {
      streams.stdout(usage)
      return 0
    } else if (word === '--settings') {
      streams.stdout(describeSettings())
      return 0
    } else if (word === '-r' || word === '--pattern') {
      const pattern = words.shift()
      if (pattern === undefined) return refuseOption(word, streams)
      try {
        options.pattern = new RegExp(pattern)
      } catch {
        streams.stderr(`sysctl: invalid regular expression '${pattern}'\n`)
        return 1
      }
    } else if (word === '-p' || word === '-f' || word === '--load') {
      wantsFile = true
    } else if (word.startsWith('--')) {
      const option = flags[word]
      if (!option) return refuseOption(word, streams)
      Object.assign(options, { [option]: true })
    } else if (word.startsWith('-') && word !== '-') {
      for (const letter of word.slice(1)) {
        const option = flags[letter]
        if (!option && letter !== 'o' && letter !== 'x') return refuseOption(`-${letter}`, streams)
        if (option) Object.assign(options, { [option]: true })
      }
    } else {
      keys.push(word)
    }
  }
  if (wantsFile) options.files.push(...(keys.length > 0 ? keys.splice(0) : [DEFAULT_FILE]))
  const run = new Run(options, execute, streams)
  if (options.all) return run.readAll()
  if (options.files.length > 0) return run.load()
  if (keys.length === 0) {
    streams.stderr(
      "sysctl: no variables specified\nTry `uvs sysctl --help' for more information.\n",
    )
    return 1
  }
  return run.keys(keys)
}

function refuseOption(option: string, streams: SysctlStreams): number {
  streams.stderr(`sysctl: unrecognized option '${option}'\n${usage}`)
  return 1
}

/** A line `key = value`; one that starts with - is forgiven when its key is not there. */
interface Assignment {
  key: string
  value: string
  forgiven: boolean
}

class Run {
  private status = 0

  constructor(
    private readonly options: Options,
    private readonly execute: (commands: Command[]) => Promise<CommandResult[]>,
    private readonly streams: SysctlStreams,
  ) {}

  async readAll(): Promise<number> {
    for (const [name, value] of Object.entries(await this.values())) this.show(name, value)
    return this.status
  }

  /** Reads `key`, writes `key=value`. */
  async keys(keys: readonly string[]): Promise<number> {
    for (const key of keys) {
      if (this.options.write || key.includes('=')) {
        const assignment = parseAssignment(key)
        if (assignment) await this.write(assignment)
        else this.complain('command line(0): invalid syntax, continuing...')
      } else {
        await this.read(key)
      }
    }
    return this.status
  }

  /** Files in the manner of sysctl.conf(5). */
  async load(): Promise<number> {
    for (const file of this.options.files) {
      let text: string
      try {
        text = await this.streams.readFile(file)
      } catch (error) {
        this.complain(`cannot open "${file}": ${errnoText((error as NodeJS.ErrnoException).code)}`)
        continue
      }
      const assignments: Assignment[] = []
      for (const [i, line] of text.split('\n').entries()) {
        const words = line.trim()
        if (words === '' || words.startsWith('#') || words.startsWith(';')) continue
        const assignment = parseAssignment(words)
        if (assignment) assignments.push(assignment)
        else this.complain(`${file}(${i + 1}): invalid syntax, continuing...`)
      }
      for (const assignment of assignments) await this.write(assignment)
    }
    return this.status
  }

  private async read(key: string): Promise<void> {
    const dotted = key.replaceAll('/', '.').replace(/\.+$/, '')
    const values = await this.values()
    const name = settingName(dotted)
    if (name !== undefined && Object.hasOwn(values, name)) this.show(name, values[name]!)
    else if ('net.ipv4.vs'.startsWith(dotted) && /^net(\.ipv4(\.vs)?)?$/.test(dotted))
      for (const [name, value] of Object.entries(values)) this.show(name, value)
    else this.absent(key)
  }

  private async write({ key, value, forgiven }: Assignment): Promise<void> {
    const dotted = key.replaceAll('/', '.')
    const name = settingName(dotted)
    if (key === '') return this.complain('Path is not under /proc/sys/: /proc/sys/')
    if (name === undefined || !settingTable.some((kind) => kind.name === name))
      return forgiven ? this.warnAbsent(key) : this.absent(key)
    if (this.options.pattern && !this.options.pattern.test(dotted)) return
    if (!this.options.dryRun) {
      const [result] = await this.execute([{ op: 'set-setting', name, value }])
      if (!result) throw new Error('the director does not answer')
      if ('error' in result) {
        this.streams.stderr(`sysctl: setting key "${dotted}": Invalid argument\n`)
        // One that can only be read makes sysctl(8) no failure.
        if (result.error.code !== 'EACCES') this.status = 1
        return
      }
    }
    if (this.options.quiet) return
    if (this.options.binary) this.streams.stdout(value)
    else if (this.options.values || this.options.names) this.streams.stdout(`${value}\n`)
    else this.streams.stdout(`${dotted} = ${value}\n`)
  }

  private show(name: string, value: string): void {
    const key = `net.ipv4.vs.${name}`
    const { pattern, binary, names, values } = this.options
    if (pattern && !pattern.test(key)) return
    if (names) this.streams.stdout(`${key}\n`)
    else if (binary) this.streams.stdout(value)
    else if (values) this.streams.stdout(`${value}\n`)
    else this.streams.stdout(`${key} = ${value}\n`)
  }

  private async values(): Promise<Replies['get-settings']> {
    const [result] = await this.execute([{ op: 'get-settings' }])
    if (!result) throw new Error('the director does not answer')
    if ('error' in result) throw new Error(result.error.message satisfies CommandError['message'])
    return result.reply as Replies['get-settings']
  }

  private absent(key: string): void {
    if (this.options.ignore) return
    this.warnAbsent(key)
    this.status = 1
  }

  private warnAbsent(key: string): void {
    if (this.options.ignore) return
    const path = key.replaceAll('.', '/')
    this.streams.stderr(`sysctl: cannot stat /proc/sys/${path}: No such file or directory\n`)
  }

  private complain(message: string): void {
    this.streams.stderr(`sysctl: ${message}\n`)
    this.status = 1
  }
}

function parseAssignment(text: string): Assignment | undefined {
  const equals = text.indexOf('=')
  if (equals < 0) return undefined
  const key = text.slice(0, equals).trim()
  const forgiven = key.startsWith('-')
  return { key: forgiven ? key.slice(1) : key, value: text.slice(equals + 1).trim(), forgiven }
}

function errnoText(code: string | undefined): string {
  if (code === 'ENOENT') return 'No such file or directory'
  if (code === 'EACCES') return 'Permission denied'
  return code ?? 'it cannot be read'
}
