import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { ApiClient } from '../control/api-client.js'
import { socketPath } from '../control/api.js'
import { BelongingsFile } from '../control/belongings.js'
import { kernelDirector } from '../control/kernel-director.js'
import {
  compareConfigurations,
  configurationOf,
  differingSettings,
  Mirror,
  readConfiguration,
  type Configuration,
  type Pushed,
} from '../control/mirror.js'
import { applyRules, asWanted, type Execute } from '../control/reconcile.js'
import { readRules } from '../control/rules.js'
import { IpvsClient } from '../kernel/ipvs/client.js'

const help = `Mirrors the configuration of a running uvsd into the kernel's IPVS: services, destinations, the timeouts
of --set, and the settings net.ipv4.vs.*.

Usage: uvs mirror [--socket PATH | --rules FILE] [OPTION…]

  (nothing)        push everything into the kernel and keep it there on every change, until SIGTERM or
                   SIGINT; then take it out again
  --once           push, leave everything in the kernel, and end
  --keep           leave everything in the kernel at the end
  --adopt          take everything that the kernel has for the mirror's own: what uvsd has not, goes
  --remove         take out what an earlier mirror has left in the kernel
  --diff           show what differs: '- ' the kernel's line, '+ ' uvsd's
  --json           the difference as JSON, with the names of the options that differ
  --from-kernel    the other way: uvsd takes over everything that the kernel has, and nothing else
  --rules FILE     an ipvsadm-save file in place of a running uvsd; it may change
  --socket PATH    uvsd's socket (default $UVS_SOCKET or ${socketPath()})
  --help

The kernel's IPVS is that of the network namespace that this runs in: ip netns exec NAME uvs mirror …
What the mirror has not made there it leaves alone, unless --adopt is given.

Exit status: 0; with --diff 1 when something differs; otherwise 1 for what could not be done, also when the
kernel has refused a part of it; 2 for a command line that makes no sense, and when --diff cannot tell.
Needs root.
`

/** What others change in the kernel, or in the rules file, is found after so long at the latest. */
const CHECK_MS = 10_000
const RETRY_MS = 1000

const say = (text: string): void => void process.stderr.write(`uvs mirror: ${text}\n`)

interface Options {
  mode: 'follow' | 'once' | 'remove' | 'diff' | 'from-kernel'
  socket: string
  rules?: string
  keep: boolean
  adopt: boolean
  json: boolean
}

function parseOptions(args: string[]): Options | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      socket: { type: 'string' },
      rules: { type: 'string' },
      once: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      adopt: { type: 'boolean', default: false },
      remove: { type: 'boolean', default: false },
      diff: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      'from-kernel': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return 'help'
  const modes = (['once', 'remove', 'diff', 'from-kernel'] as const).filter((mode) => values[mode])
  const [mode = 'follow', second] = modes
  const refuse = (option: string, unless: boolean, why: string): void => {
    if (!unless) throw new Error(`${option} ${why}`)
  }
  refuse(`--${second}`, second === undefined, `and --${mode} do not go together`)
  refuse('--rules', !values.rules || !values.socket, 'and --socket do not go together')
  refuse('--json', !values.json || mode === 'diff', 'goes with --diff')
  refuse('--keep', !values.keep || mode === 'follow', `does not go with --${mode}`)
  refuse('--adopt', !values.adopt || mode === 'follow' || mode === 'once', 'is for pushing')
  if (values.rules !== undefined)
    refuse(
      '--rules',
      mode !== 'remove' && mode !== 'from-kernel',
      `is nothing that --${mode} reads`,
    )
  return {
    mode,
    socket: socketPath(values.socket),
    keep: values.keep,
    adopt: values.adopt,
    json: values.json,
    ...(values.rules !== undefined && { rules: values.rules }),
  }
}

/** `uvs mirror`. */
export async function main(args: string[]): Promise<number> {
  let options: Options | 'help'
  try {
    options = parseOptions(args)
  } catch (error) {
    say(`${(error as Error).message}\nuvs mirror --help says more`)
    return 2
  }
  if (options === 'help') {
    process.stdout.write(help)
    return 0
  }
  try {
    return await run(options)
  } catch (error) {
    say((error as Error).message)
    return options.mode === 'diff' ? 2 : 1
  }
}

async function run(options: Options): Promise<number> {
  const client = new ApiClient(options.socket)
  const uvsd: Execute = (commands) => client.execute(commands)
  const ipvs = await IpvsClient.open()
  const kernel = kernelDirector(ipvs)
  const wanted = async (): Promise<Configuration> =>
    options.rules === undefined
      ? readConfiguration(uvsd)
      : configurationOf(await readRules(options.rules), await readConfiguration(kernel))
  try {
    if (options.mode === 'diff')
      return showDifference(await wanted(), await readConfiguration(kernel), options.json)
    if (options.mode === 'from-kernel') return await takeOver(kernel, uvsd)
    const file = BelongingsFile.open()
    try {
      const mirror = new Mirror(kernel, file.read(), options.adopt, (made) => file.write(made))
      if (options.mode === 'remove') return report(await mirror.remove())
      if (options.mode === 'once') return report(await mirror.push(await wanted()))
      return await follow(mirror, wanted, options.rules === undefined ? client : undefined, options)
    } finally {
      file.close()
    }
  } finally {
    ipvs.close()
  }
}

/**
 * Pushes every change until a signal.
 *
 * @param client tells of changes; absent for a rules file
 */
async function follow(
  mirror: Mirror,
  wanted: () => Promise<Configuration>,
  client: ApiClient | undefined,
  { keep }: Options,
): Promise<number> {
  const ended = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => ended.abort())
  const changes = new Changes(wanted, client, ended.signal)
  let configuration: Configuration | undefined = await changes.first()
  let complaints: string | undefined
  try {
    while (configuration) {
      const { made, refused } = await mirror.push(configuration)
      if (made > 0 || complaints === undefined) say(`${count(made)} made; in step`)
      // What is refused for long is said once.
      if (refused.join('\n') !== complaints) for (const line of refused) say(line)
      complaints = refused.join('\n')
      configuration = await changes.next()
    }
  } finally {
    if (!keep) report(await mirror.remove(), ', and the kernel is as it was')
  }
  return 0
}

/** The configuration as it becomes. */
class Changes {
  private generation = -1

  constructor(
    private readonly wanted: () => Promise<Configuration>,
    private readonly client: ApiClient | undefined,
    private readonly ended: AbortSignal,
  ) {}

  /** Throws when it cannot be read. */
  async first(): Promise<Configuration> {
    // Asked for before the configuration is read, so that no change is missed.
    if (this.client) this.generation = await this.client.changes(-1)
    return this.wanted()
  }

  /**
   * The configuration when it has changed, or some seconds have gone by; undefined at the end. While it cannot
   * be read, uvsd being away or the rules file being wrong, there is none: the kernel stays as it is.
   */
  async next(): Promise<Configuration | undefined> {
    let reason = ''
    while (!this.ended.aborted) {
      try {
        if (reason !== '') await pause(RETRY_MS, this.ended)
        else if (!this.client) await pause(CHECK_MS, this.ended)
        else this.generation = await this.client.changes(this.generation, this.ended)
        const configuration = await this.wanted()
        if (reason !== '') say('back again')
        return configuration
      } catch (error) {
        const { message } = error as Error
        if (!this.ended.aborted && message !== reason) say(`${message}; the kernel stays as it is`)
        reason = message
      }
    }
    return undefined
  }
}

/** Waits; less long when it is over. */
async function pause(milliseconds: number, ended: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal: ended }).catch(() => {})
}

function showDifference(ours: Configuration, kernels: Configuration, json: boolean): number {
  const differences = compareConfigurations(ours, kernels)
  process.stdout.write(
    json
      ? `${JSON.stringify(differences, null, 2)}\n`
      : differences.map(({ lines }) => lines.map((line) => `${line}\n`).join('')).join(''),
  )
  return differences.length > 0 ? 1 : 0
}

async function takeOver(kernel: Execute, uvsd: Execute): Promise<number> {
  const { services, timeouts, settings } = await readConfiguration(kernel)
  const ours = await readConfiguration(uvsd)
  let made = await applyRules(uvsd, { services: asWanted(services), timeouts })
  const refused: string[] = []
  for (const [name, value] of differingSettings(settings, ours.settings)) {
    const [result] = await uvsd([{ op: 'set-setting', name, value }])
    if (result && 'error' in result) refused.push(`net.ipv4.vs.${name}: ${result.error.message}`)
    else made++
  }
  return report({ made, refused }, ' in uvsd')
}

/** Says what has been done; returns the exit status. */
function report({ made, refused }: Pushed, where = ''): number {
  say(`${count(made)} made${where}`)
  for (const line of refused) say(line)
  return refused.length > 0 ? 1 : 0
}

function count(changes: number): string {
  return changes === 1 ? '1 change' : `${changes} changes`
}
