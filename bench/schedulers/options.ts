/** What `uvs bench schedulers` can be told. */
import { existsSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { readCount, readDecimal } from '../../src/cli/numbers.js'
import type { PartOption, PartOptions } from '../suite/measurement.js'
import { kindOf, parseCandidates, type Candidate } from './candidates.js'
import { readLoad } from './file-load.js'
import type { Load, Party } from './load.js'
import { defaultSynthetic, SyntheticLoad, type SyntheticOptions } from './synthetic-load.js'

const DEFAULT_WEIGHTS = [1, 2, 3, 2]
const DEFAULT_SERVERS = 8
const MAX_SERVERS = 4096
const MAX_WEIGHT = 65535
/** Of the load for those that go by the address asked for. */
const DEFAULT_SITES = 500

export const options: Readonly<Record<string, PartOption>> = {
  load: {
    value: 'FILE',
    help: 'a load of your own: a scenario (.scn) or a capture (.pcap, .pcapng)',
  },
  servers: { value: 'N', help: `how many servers (as many as weights; ${DEFAULT_SERVERS})` },
  weights: {
    value: 'W,W…',
    help: `their weights, again and again until all have one (the scenario’s; ${DEFAULT_WEIGHTS.join()})`,
  },
  schedulers: {
    value: 'S,S…',
    help: 'only these, flags behind a plus: wlc,mh,mh+port,sh+fallback',
  },
  seed: {
    value: 'N',
    help: `of the load by dice, and of what is drawn (${defaultSynthetic.seed})`,
  },
  duration: { value: 'SECONDS', help: `of the load by dice (${defaultSynthetic.durationSeconds})` },
  rate: {
    value: 'N',
    help: `its connections per second (${defaultSynthetic.connectionsPerSecond})`,
  },
  clients: { value: 'N', help: `its clients (${defaultSynthetic.clients})` },
  zipf: {
    value: 'S',
    help: `how unequally often they come: 0 for equally (${defaultSynthetic.clientSkew})`,
  },
  sites: {
    value: 'N',
    help: `addresses that they ask for, behind a firewall mark (1, and ${DEFAULT_SITES} for lblc, lblcr and dh)`,
  },
}

/** A load, and who is to be measured with it. */
export interface Trial {
  /** Short, for the result's parameters. */
  readonly name: string
  readonly load: Load
  readonly weights: readonly number[]
  readonly onlyBySite: boolean
  /** Whose way to the same server is looked at. */
  readonly party: Party
}

export interface Wanted {
  readonly candidates: readonly Candidate[]
  readonly seed: number
  readonly files: readonly string[]
  readonly synthetic: SyntheticOptions
  readonly servers: number | undefined
  readonly weights: readonly number[] | undefined
  /** Both loads by dice: one for all, one for those that go by the address asked for. */
  readonly isDefault: boolean
}

function number(
  given: PartOptions,
  name: string,
  least: number,
  most: number,
  isWhole = true,
): number | undefined {
  const text = given[name]
  if (text === undefined) return undefined
  return (isWhole ? readCount : readDecimal)(`--${name}`, String(text), least, most)
}

function parseWeights(text: string | true | undefined): number[] | undefined {
  if (text === undefined) return undefined
  return String(text)
    .split(',')
    .map((word) => readCount('--weights', word, 1, MAX_WEIGHT))
}

/**
 * What was asked for.
 *
 * @throws Error that names the option and what is wrong with it
 */
export function parseOptions(given: PartOptions, files: readonly string[]): Wanted {
  const text = (name: string): string | undefined => given[name] as string | undefined
  const all = [...files, ...(given.load === undefined ? [] : [text('load')!])]
  const missing = all.find((file) => !existsSync(file))
  if (missing !== undefined) throw new Error(`there is no file ${missing || "''"}`)
  const seed = number(given, 'seed', 0, 0x7fffffff) ?? defaultSynthetic.seed
  const sites = number(given, 'sites', 1, 100_000)
  return {
    candidates: parseCandidates(text('schedulers')),
    seed,
    files: all,
    synthetic: {
      ...defaultSynthetic,
      seed,
      durationSeconds: number(given, 'duration', 10, 100_000) ?? defaultSynthetic.durationSeconds,
      connectionsPerSecond:
        number(given, 'rate', 0.1, 10_000, false) ?? defaultSynthetic.connectionsPerSecond,
      clients: number(given, 'clients', 1, 1_000_000) ?? defaultSynthetic.clients,
      clientSkew: number(given, 'zipf', 0, 10, false) ?? defaultSynthetic.clientSkew,
      sites: sites ?? 1,
    },
    servers: number(given, 'servers', 2, MAX_SERVERS),
    weights: parseWeights(given.weights),
    isDefault: all.length === 0 && sites === undefined,
  }
}

/** As many weights as there are servers: those given, those of the load's scenario, or the default ones. */
export function weightsFor(
  { servers, weights }: Pick<Wanted, 'servers' | 'weights'>,
  own: readonly number[] = [],
): number[] {
  const base = weights ?? (own.length > 1 ? own : DEFAULT_WEIGHTS)
  const count =
    servers ?? (weights === undefined && own.length <= 1 ? DEFAULT_SERVERS : base.length)
  if (count < 2)
    throw new Error(`a scheduler has nothing to choose from ${count} server: add --servers 2`)
  return Array.from({ length: count }, (_, i) => base[i % base.length]!)
}

/** The files, each once, with names that differ: without their folders if that will do. */
function namesOf(files: readonly string[]): [string, string][] {
  const paths = [...new Set(files.map((file) => resolve(file)))]
  const isAlone = (path: string): boolean =>
    paths.filter((other) => basename(other) === basename(path)).length === 1
  return paths.map((path) => [path, isAlone(path) ? basename(path) : path])
}

/** @throws Error that says what is wrong with a file */
export function trialsOf(wanted: Wanted, quick: boolean): Trial[] {
  const { synthetic } = wanted
  if (wanted.files.length > 0)
    return namesOf(wanted.files).map(([file, name]) => {
      const load = readLoad(file)
      return {
        name,
        load,
        weights: weightsFor(wanted, load.weights),
        onlyBySite: false,
        party: 'client',
      }
    })
  const dice: SyntheticOptions = quick
    ? { ...synthetic, durationSeconds: 60, connectionsPerSecond: 50, clients: 1000 }
    : synthetic
  const weights = weightsFor(wanted)
  const name = dice.sites === 1 ? 'one address' : `${dice.sites} sites`
  const trials: Trial[] = [
    { name, load: new SyntheticLoad(dice), weights, onlyBySite: false, party: 'client' },
  ]
  if (wanted.isDefault && wanted.candidates.some((each) => kindOf(each).goesBySite)) {
    const load = new SyntheticLoad({ ...dice, sites: DEFAULT_SITES })
    trials.push({ name: `${DEFAULT_SITES} sites`, load, weights, onlyBySite: true, party: 'site' })
  }
  return trials
}
