import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { ApiClient, ApiUnreachable } from '../control/api-client.js'
import { socketPath } from '../control/api.js'
import { BelongingsFile } from '../control/belongings.js'
import { Names } from '../control/ipvsadm/names.js'
import { kernelDirector } from '../control/kernel-director.js'
import {
  compareConfigurations,
  configurationOf,
  Mirror,
  NotOurs,
  readConfiguration,
  type Configuration,
} from '../control/mirror.js'
import { applyRules, asWanted, type Execute } from '../control/reconcile.js'
import { parseRules } from '../control/rules.js'
import { IpvsClient } from '../kernel/ipvs/client.js'

const help = `Mirrors the configuration of a running uvsd into the kernel's IPVS.

Usage: uvs mirror [--socket PATH | --rules FILE] [OPTION…]

  (nothing)        push services, destinations, --set timeouts and net.ipv4.vs settings into the kernel, and
                   keep them there on every change until SIGTERM or SIGINT, then take them out again
  --once           push once, leave everything in the kernel, and end
  --keep           leave everything in the kernel at the end
  --adopt          take everything that the kernel has for the mirror's own: what uvsd has not, goes
  --remove         take out what an earlier mirror has left
  --diff           show what differs: + only uvsd has it, - only the kernel; exit status 1 if anything does
  --json           the difference as JSON
  --from-kernel    the other way: uvsd takes over the kernel's services, timeouts and settings
  --rules FILE     an ipvsadm-save file in place of a running uvsd
  --socket PATH    uvsd's socket

The kernel's IPVS is that of the network namespace that this runs in (ip netns exec NAME uvs mirror …). What
the mirror has not made it leaves alone.
`

/** Changes made in the kernel by others are found after so long at the latest. */
const CHECK_MS = 10_000
const RETRY_MS = 1000

const say = (text: string): void => void process.stderr.write(`uvs mirror: ${text}\n`)

/** `uvs mirror`. Exit status: 0; 1 for a difference or a refusal; 2 for a wrong command line. */
export async function main(args: string[]): Promise<number> {
  let values
  try {
    ;({ values } = parseArgs({
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
    }))
    const modes = (['once', 'remove', 'diff', 'from-kernel'] as const).filter(
      (mode) => values![mode],
    )
    if (modes.length > 1) throw new Error(`--${modes[0]} and --${modes[1]} do not go together`)
    if (values.rules !== undefined && values.socket !== undefined)
      throw new Error('--rules and --socket do not go together')
    if (values.rules !== undefined && values['from-kernel'])
      throw new Error('--from-kernel goes into a running uvsd, not into a file')
  } catch (error) {
    process.stderr.write(`uvs mirror: ${(error as Error).message}\n\n${help}`)
    return 2
  }
  if (values.help) {
    process.stdout.write(help)
    return 0
  }
  const client = new ApiClient(socketPath(values.socket))
  const uvsd: Execute = (commands) => client.execute(commands)
  const kernel = await IpvsClient.open()
  try {
    const director = kernelDirector(kernel)
    const wanted = (): Promise<Configuration> =>
      values.rules === undefined ? readConfiguration(uvsd) : readRules(values.rules, director)
    if (values.diff)
      return showDifference(await wanted(), await readConfiguration(director), values.json)
    if (values['from-kernel']) return await takeOver(director, uvsd)
    const file = new BelongingsFile()
    const mirror = new Mirror(director, file.read(), values.adopt, (belongings) =>
      file.write(belongings),
    )
    if (values.remove) {
      await mirror.remove()
      return 0
    }
    if (values.once) {
      say(`${count(await mirror.push(await wanted()))} made`)
      return 0
    }
    return await follow(
      mirror,
      wanted,
      values.rules === undefined ? client : undefined,
      values.keep,
    )
  } finally {
    kernel.close()
  }
}

/** Pushes every change until a signal. @param client absent for what never changes */
async function follow(
  mirror: Mirror,
  wanted: () => Promise<Configuration>,
  client: ApiClient | undefined,
  keep: boolean,
): Promise<number> {
  const ended = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => ended.abort())
  // Nothing else keeps the event loop alive while the library's socket does not.
  const alive = setInterval(() => {}, CHECK_MS)
  let failure: Error | undefined
  let generation = -1
  let unreachable = false
  let change: Promise<void> | undefined
  try {
    while (!ended.signal.aborted) {
      try {
        // Asked for before the configuration is read, so that no change is missed.
        if (client && generation < 0) generation = await client.changes(-1)
        const made = await mirror.push(await wanted())
        if (made > 0 || unreachable) say(`${count(made)} made`)
        unreachable = false
        if (client && !change) {
          change = client.changes(generation).then((next) => {
            generation = next
          })
          change.catch(() => {}).finally(() => (change = undefined))
        }
        await Promise.race([change ?? never, pause(CHECK_MS, ended.signal)])
      } catch (error) {
        // The kernel stays as it is while uvsd is away.
        if (!(error instanceof ApiUnreachable) || generation < 0) throw error
        if (!unreachable) say(`${error.message}; the kernel stays as it is`)
        unreachable = true
        await pause(RETRY_MS, ended.signal)
      }
    }
  } catch (error) {
    failure = error as Error
  } finally {
    clearInterval(alive)
  }
  if (!keep && !(failure instanceof NotOurs)) await mirror.remove()
  if (failure) throw failure
  return 0
}

const never = new Promise<never>(() => {})

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {})
}

async function readRules(path: string, kernel: Execute): Promise<Configuration> {
  const rules = await parseRules(readFileSync(path, 'utf8'), path, new Names())
  return configurationOf(rules, await readConfiguration(kernel))
}

function showDifference(ours: Configuration, kernels: Configuration, json: boolean): number {
  const lines = compareConfigurations(ours, kernels)
  process.stdout.write(
    json
      ? `${JSON.stringify(lines, null, 2)}\n`
      : lines.map(({ sign, line }) => `${sign} ${line}\n`).join(''),
  )
  return lines.length > 0 ? 1 : 0
}

async function takeOver(kernel: Execute, uvsd: Execute): Promise<number> {
  const { services, timeouts, settings } = await readConfiguration(kernel)
  const ours = await readConfiguration(uvsd)
  let made = await applyRules(uvsd, { services: asWanted(services), timeouts })
  for (const [name, value] of Object.entries(settings)) {
    const own = ours.settings[name]
    if (own === undefined || own.trim() === value.trim()) continue
    const [result] = await uvsd([{ op: 'set-setting', name, value }])
    if (result && 'error' in result) throw new Error(`net.ipv4.vs.${name}: ${result.error.message}`)
    made++
  }
  say(`${count(made)} made in uvsd`)
  return 0
}

function count(changes: number): string {
  return changes === 1 ? '1 change' : `${changes} changes`
}
