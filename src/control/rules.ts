import { readFile } from 'node:fs/promises'
import type {
  DestinationKey,
  DestinationOptions,
  ServiceKey,
  ServiceOptions,
  Timeouts,
} from '../core/commands.js'
import { Names } from './ipvsadm/names.js'
import { CommandLineError, parseCommandLine } from './ipvsadm/parse.js'

/** A service as a rules file wants it. */
export interface WantedService {
  service: ServiceKey
  options: ServiceOptions
  /** In the order of the file. */
  destinations: { destination: DestinationKey; options: DestinationOptions }[]
}

/** What a rules file says. */
export interface Rules {
  services: WantedService[]
  /** From a `--set` line; absent values are not touched. */
  timeouts?: Timeouts
  /** As `file:line`, where services, servers (by `placeKey`) and timeouts are in the file that they were read from. */
  places?: ReadonlyMap<string, string>
}

/** A rules file that cannot be taken; `message` starts with `file:line:column`. */
export class RulesError extends Error {
  constructor(
    readonly file: string,
    readonly line: number,
    readonly column: number,
    reason: string,
  ) {
    super(`${file}:${line}:${column}: ${reason}`)
    this.name = 'RulesError'
  }
}

/** One text for each service, whatever its options. */
export function serviceId(service: ServiceKey): string {
  return 'fwmark' in service
    ? `mark ${service.fwmark} ${service.family}`
    : `${service.protocol} ${service.address} ${service.port}`
}

/** One text for each destination of a service; port 0 is the service's port. */
export function destinationId(service: ServiceKey, { address, port }: DestinationKey): string {
  return `${address} ${port || ('port' in service ? service.port : 0)}`
}

/** What `Rules.places` has a service, one of its servers, or the timeouts (neither) by. */
export function placeKey(service?: ServiceKey, destination?: DestinationKey): string {
  if (!service) return ''
  return destination
    ? `${serviceId(service)} > ${destinationId(service, destination)}`
    : serviceId(service)
}

interface Word {
  text: string
  column: number
}

/**
 * Reads what `ipvsadm-save` writes: -A and -a lines, and beyond it `--set` lines, blank lines and comments
 * (from a `#` that starts a word to the end of the line). Throws RulesError for the first line that is
 * wrong, that names a service twice, or that gives a server to a service that is not there.
 *
 * @param file the file's name in errors
 */
export async function parseRules(text: string, file: string, names: Names): Promise<Rules> {
  const places = new Map<string, string>()
  const rules: Rules = { services: [], places }
  const byId = new Map<string, WantedService>()
  for (const [i, line] of text.split('\n').entries()) {
    const words = wordsOf(line)
    if (words.length === 0) continue
    const at = (word: number, reason: string): RulesError =>
      new RulesError(file, i + 1, words[word]?.column ?? line.trimEnd().length + 1, reason)
    const place = `${file}:${i + 1}`
    const args = words.map((word) => word.text)
    const invocation = await names.resolving(() => {
      try {
        return parseCommandLine(args, names)
      } catch (error) {
        if (!(error instanceof CommandLineError)) throw error
        throw at(error.word, reasonOf(error, args))
      }
    })
    const command = invocation.kind === 'command' ? invocation.command : undefined
    switch (command?.op) {
      case 'add-service': {
        const id = serviceId(command.service)
        if (byId.has(id)) throw at(0, 'this service is in the file already')
        const wanted = { service: command.service, options: command.options, destinations: [] }
        byId.set(id, wanted)
        places.set(placeKey(command.service), place)
        rules.services.push(wanted)
        break
      }
      case 'add-destination': {
        const wanted = byId.get(serviceId(command.service))
        if (!wanted) throw at(0, 'no line above adds the service that this server is for')
        const id = destinationId(wanted.service, command.destination)
        if (wanted.destinations.some((d) => destinationId(wanted.service, d.destination) === id))
          throw at(0, 'this service has this server already')
        places.set(placeKey(command.service, command.destination), place)
        wanted.destinations.push({ destination: command.destination, options: command.options })
        break
      }
      case 'set-timeouts':
        rules.timeouts = command.timeouts
        places.set(placeKey(), place)
        break
      default:
        throw at(0, `${args[0]} has no place in a rules file; -A, -a and --set have`)
    }
  }
  return rules
}

/** Reads an ipvsadm-save file. Throws an Error that says what cannot be read, or which line and column is wrong. */
export async function readRules(file: string): Promise<Rules> {
  const text = await readFile(file, 'utf8').catch((error: Error) => {
    throw new Error(`cannot read the rules file ${file}: ${error.message}`, { cause: error })
  })
  return parseRules(text, file, new Names())
}

/** Words of a line with their columns, counted from 1. A leading `ipvsadm` is passed over. */
function wordsOf(line: string): Word[] {
  const words: Word[] = []
  for (const match of line.matchAll(/[^ \t\r]+/g)) {
    if (match[0].startsWith('#')) break
    if (words.length === 0 && match[0] === 'ipvsadm') continue
    words.push({ text: match[0], column: match.index + 1 })
  }
  return words
}

/** ipvsadm's words, with the token that they leave out. */
function reasonOf(error: CommandLineError, args: readonly string[]): string {
  if (error.message.startsWith('Try '))
    return `${args[0]} is no command; a line starts with -A or -a`
  const token = args[error.word]
  const message = error.message.trim()
  return token === undefined || message.includes(token) ? message : `${message}: ${token}`
}
