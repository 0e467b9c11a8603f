import { once } from 'node:events'
import type { Writable } from 'node:stream'
import type { Command, ConnectionStatus, Replies, ServiceStatus } from '../../core/commands.js'
import type { CommandError, CommandResult } from '../api.js'
import {
  addressesOf,
  connectionLine,
  connectionTitle,
  formatRules,
  formatServices,
  sortDestinations,
  sortServices,
  timeoutLine,
  versionLine,
  IPVS_VERSION,
} from './format.js'
import { help } from './help.js'
import type { Names } from './names.js'
import { CommandLineError, parseCommandLine, type Invocation, type ListFormat } from './parse.js'
import { splitLines } from './restore.js'
import { daemonLine, noSyncDaemons, type SyncDaemons } from './sync-daemons.js'

/** What carries the commands out: the daemon behind its socket, or a director in the same process. */
export interface Backend {
  /** One result a command, in their order; a refused command does not keep the next from being tried. */
  execute(commands: Command[]): Promise<CommandResult[]>
  connections(): AsyncIterable<ConnectionStatus[]>
  /** Absent where connections are not synchronised. */
  readonly syncDaemons?: SyncDaemons
}

/** Where a run reads and writes. */
export interface Streams {
  stdin: AsyncIterable<string | Uint8Array>
  stdout: Writable
  stderr: Writable
}

/** Services asked for at a time: a page of a few hundred KiB. */
const PAGE = 256
/** Commands of -R sent at a time. */
const BATCH = 4096

/**
 * Runs an ipvsadm command line and returns the exit status: 0, 2 for a command line that cannot be read, 255
 * when popt or the director refuses, 1 when a listing asks for a service that is not there.
 *
 * @param program name of the program in messages
 */
export async function runIpvsadm(
  args: readonly string[],
  backend: Backend,
  streams: Streams,
  names: Names,
  program: string,
): Promise<number> {
  const run = new Run(backend, streams, names, program)
  try {
    const invocation = await names.resolving(() => parseCommandLine(args, names, program))
    return invocation.kind === 'restore' ? await run.restore() : await run.one(invocation)
  } catch (error) {
    if (!(error instanceof CommandLineError)) throw error
    await run.complain(error.message)
    return error.exitStatus
  }
}

class Run {
  constructor(
    private readonly backend: Backend,
    private readonly streams: Streams,
    private readonly names: Names,
    private readonly program: string,
  ) {}

  async one(invocation: Exclude<Invocation, { kind: 'restore' }>): Promise<number> {
    switch (invocation.kind) {
      case 'command':
        return this.commands([invocation.command])
      case 'list-services':
        return this.listServices(invocation)
      case 'list-connections':
        await this.listConnections(invocation.format)
        return 0
      case 'list-timeouts':
        await this.listTimeouts(invocation.format)
        return 0
      case 'list-daemons': {
        // Of none ipvsadm says nothing.
        const daemons = this.syncDaemons.list()
        await this.print(
          invocation.format.json
            ? `${JSON.stringify(daemons)}\n`
            : daemons.map(daemonLine).join(''),
        )
        return 0
      }
      case 'save':
        return this.save(invocation.format)
      case 'start-daemon':
        return this.answer(this.syncDaemons.start(invocation.daemon))
      case 'stop-daemon':
        return this.answer(this.syncDaemons.stop(invocation.state))
      case 'help':
        await this.print(help(this.program))
        return 0
      case 'version':
        await this.print(versionText(this.program))
        return 0
    }
  }

  /**
   * -R: command lines from stdin. As in ipvsadm a line that cannot be read ends it, with the lines before
   * carried out; a line that is refused does not; and the exit status is the last line's.
   */
  async restore(): Promise<number> {
    let status = 0
    let batch: Command[] = []
    const flush = async (): Promise<void> => {
      if (batch.length > 0) status = await this.commands(batch)
      batch = []
    }
    try {
      for await (const words of splitLines(this.streams.stdin)) {
        const invocation = await this.names.resolving(() =>
          parseCommandLine(words, this.names, this.program),
        )
        if (invocation.kind === 'command') {
          batch.push(invocation.command)
          if (batch.length === BATCH) await flush()
          continue
        }
        await flush()
        if (invocation.kind === 'restore')
          throw new CommandLineError(
            `Try \`${this.program} -h' or '${this.program} --help' for more information.`,
            255,
            0,
          )
        status = await this.one(invocation)
        // After these, and a listing of what is not there, ipvsadm reads no further.
        if (invocation.kind === 'help' || invocation.kind === 'version' || status === 1)
          return status
      }
    } catch (error) {
      await flush()
      throw error
    }
    await flush()
    return status
  }

  private get syncDaemons(): SyncDaemons {
    return this.backend.syncDaemons ?? noSyncDaemons
  }

  /** The exit status of a command that was refused in these words, or not. */
  private async answer(refused: string | undefined): Promise<number> {
    if (refused === undefined) return 0
    await this.complain(refused)
    return 255
  }

  async complain(message: string): Promise<void> {
    await write(this.streams.stderr, `${message}\n`)
  }

  /** Carries commands out, says which were refused, and returns the status of the last. */
  private async commands(commands: Command[]): Promise<number> {
    let status = 0
    const results = await this.backend.execute(commands)
    for (const [i, result] of results.entries()) {
      status = 'error' in result ? 255 : 0
      if ('error' in result) await this.complain(refusal(commands[i]!.op, result.error))
    }
    return status
  }

  private async listServices({
    service,
    format,
  }: Extract<Invocation, { kind: 'list-services' }>): Promise<number> {
    const listed = await this.services(
      service ? { op: 'list-services', service } : { op: 'list-services' },
    )
    if ('error' in listed) {
      await this.complain(refusal('list-services', listed.error))
      return 1
    }
    const { services, tableSize } = listed
    if (format.json) {
      const sorted = format.sort
        ? sortServices(services).map((status) => ({
            ...status,
            destinations: sortDestinations(status.destinations),
          }))
        : services
      await this.print(
        `${JSON.stringify({ version: IPVS_VERSION, tableSize, services: sorted }, null, 2)}\n`,
      )
      return 0
    }
    if (!service) await this.print(versionLine(tableSize))
    if (!format.numeric) await this.names.lookUpHosts(addressesOf(services))
    await this.printAll(formatServices(services, format, this.names))
    return 0
  }

  private async save(format: ListFormat): Promise<number> {
    const listed = await this.services({ op: 'list-services' })
    if ('error' in listed) {
      await this.complain(refusal('list-services', listed.error))
      return 1
    }
    if (!format.numeric) await this.names.lookUpHosts(addressesOf(listed.services))
    await this.printAll(formatRules(listed.services, format, this.names))
    return 0
  }

  private async listConnections(format: ListFormat): Promise<void> {
    if (!format.json) await this.print(connectionTitle(format))
    let separator = '[\n'
    for await (const connections of this.backend.connections()) {
      if (format.json) {
        const lines = connections.map((connection) => `  ${JSON.stringify(connection)}`)
        if (lines.length > 0) await this.print(separator + lines.join(',\n'))
        if (lines.length > 0) separator = ',\n'
        continue
      }
      if (!format.numeric)
        await this.names.lookUpHosts(
          connections.flatMap(({ client, virtual, destination }) => [client, virtual, destination]),
        )
      await this.print(
        connections.map((connection) => connectionLine(connection, format, this.names)).join(''),
      )
    }
    if (format.json) await this.print(separator === '[\n' ? '[]\n' : '\n]\n')
  }

  private async listTimeouts(format: ListFormat): Promise<void> {
    const [result] = await this.backend.execute([{ op: 'get-timeouts' }])
    if (!result || 'error' in result) throw new Error('the director does not tell its timeouts')
    const timeouts = result.reply as Replies['get-timeouts']
    await this.print(format.json ? `${JSON.stringify(timeouts)}\n` : timeoutLine(timeouts))
  }

  /** All pages of a listing. */
  private async services(
    command: Extract<Command, { op: 'list-services' }>,
  ): Promise<{ services: ServiceStatus[]; tableSize: number } | { error: CommandError }> {
    const services: ServiceStatus[] = []
    for (;;) {
      const [result] = await this.backend.execute([
        { ...command, from: services.length, limit: PAGE },
      ])
      if (!result) throw new Error('the director does not answer')
      if ('error' in result) return { error: result.error }
      const page = result.reply as Replies['list-services']
      services.push(...page.services)
      if (page.services.length === 0 || services.length >= page.total || command.service)
        return command.service && services.length === 0
          ? { error: { code: 'ESRCH', message: 'no such service' } }
          : { services, tableSize: page.tableSize }
    }
  }

  private async print(text: string): Promise<void> {
    await write(this.streams.stdout, text)
  }

  /** Prints many small pieces in few writes. */
  private async printAll(pieces: Iterable<string>): Promise<void> {
    let text = ''
    for (const piece of pieces) {
      text += piece
      if (text.length < 65536) continue
      await this.print(text)
      text = ''
    }
    await this.print(text)
  }
}

/** The version line of -v and -h. */
export function versionText(program: string): string {
  return `${program}: options as ipvsadm v1.31, IPVS v${IPVS_VERSION}\n`
}

/** ipvsadm's words for a refused command. */
export function refusal(op: Command['op'], { code, message }: CommandError): string {
  switch (code) {
    case 'EEXIST':
      return op === 'add-destination' ? 'Destination already exists' : 'Service already exists'
    case 'ESRCH':
      return op.endsWith('-destination') ? 'Service not defined' : 'No such service'
    case 'ENOENT':
      return op.endsWith('-destination')
        ? 'No such destination'
        : 'Scheduler or persistence engine not found'
    case 'EINVAL':
      return 'Invalid operation.  Possibly wrong module version, address not unicast, ...'
    case 'ERANGE':
      return 'Numerical result out of range'
    case 'ENOMEM':
      return 'Memory allocation problem'
    case 'EAFNOSUPPORT':
      return 'Operation not supported with specified address family'
    default:
      // Beyond the kernel's: what this version cannot do, in its own words.
      return message
  }
}

async function write(stream: Writable, text: string): Promise<void> {
  if (text !== '' && !stream.write(text)) await once(stream, 'drain')
}
