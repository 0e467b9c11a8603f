#!/usr/bin/env node
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { socketPath } from '../control/api.js'
import { readRules } from '../control/rules.js'
import { parseSetting } from '../control/sysctl.js'
import type { Command } from '../core/commands.js'
import { MAX_CONNECTIONS } from '../core/connection-table.js'
import { defaultSettings, settingKind, writeSetting } from '../core/settings.js'
import { Daemon } from '../daemon/daemon.js'
import { checkPorts, parsePortSpec, type PortSpec } from '../daemon/port-spec.js'
import { readCount } from './numbers.js'

const DEFAULT_MAX_CONNECTIONS = 1 << 20
/** More than a machine has cores for is of no use, and rings between all of them take memory. */
const MAX_WORKERS = 64
const MAX_PATIENCE_US = 1_000_000
/** With one processor nobody sends while a worker looks for what he sent. */
const DEFAULT_PATIENCE_US = cpus().length > 1 ? 50 : 0

const help = `uvsd, the director daemon of the userspace virtual server

Usage: uvsd --port SPEC [--port SPEC…] [OPTION…]

  --port afxdp:IFACE[,mode=native|generic]    the interface's packets through AF_XDP; once an interface
  --port tun:NAME[,offload=off]               a TUN device that uvsd makes and leads its traffic into
  --port tap:NAME,bridge=BRIDGE[,mac=MAC]     a TAP device: a station of its own on the bridge
  --rules FILE             an ipvsadm-save file, applied at the start and anew at SIGHUP
  --sysctl KEY=VALUE       a setting, as net.ipv4.vs.expire_nodest_conn=1; more than one may be given
  --socket PATH            the API socket, for uvsadm (default $UVS_SOCKET or ${socketPath()})
  --connections N          room in the connection table, 1 to ${MAX_CONNECTIONS} (default ${DEFAULT_MAX_CONNECTIONS})
  --workers N              data-plane threads (default 1); each needs a queue of every AF_XDP interface
  --client-prefix BITS     clients that share so many bits of their IPv4 address are served by one worker,
                           as persistence by network (ipvsadm -M) needs it (default 32)
  --patience MICROSECONDS  how long a worker on AF_XDP looks for packets in vain before it sleeps: sleep spares
                           the processor, and delays the packet that ends it (default ${DEFAULT_PATIENCE_US})
  --help

Runs in the foreground and says 'uvsd: ready' on stderr when it serves. SIGTERM and SIGINT end it: what has
been received is carried through, and everything that it put into the kernel is removed. SIGHUP reloads the
rules: connections stay, and a file with a mistake changes nothing. Needs root.
`

interface Options {
  ports: PortSpec[]
  rulesFile?: string
  settings: Extract<Command, { op: 'set-setting' }>[]
  socket: string
  maxConnections: number
  workers: number
  clientPrefixLength: number
  patienceUs: number
}

const say = (text: string): void => void process.stderr.write(`uvsd: ${text}\n`)

function parseOptions(args: string[]): Options | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      port: { type: 'string', multiple: true, default: [] },
      rules: { type: 'string' },
      sysctl: { type: 'string', multiple: true, default: [] },
      socket: { type: 'string' },
      connections: { type: 'string', default: String(DEFAULT_MAX_CONNECTIONS) },
      workers: { type: 'string', default: '1' },
      'client-prefix': { type: 'string', default: '32' },
      patience: { type: 'string', default: String(DEFAULT_PATIENCE_US) },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return 'help'
  const ports = values.port.map(parsePortSpec)
  const workers = readCount('--workers', values.workers, 1, MAX_WORKERS)
  checkPorts(ports, workers)
  return {
    ports,
    settings: values.sysctl.map(readSetting),
    socket: socketPath(values.socket),
    maxConnections: readCount('--connections', values.connections, 1, MAX_CONNECTIONS),
    workers,
    clientPrefixLength: readCount('--client-prefix', values['client-prefix'], 1, 32),
    patienceUs: readCount('--patience', values.patience, 0, MAX_PATIENCE_US),
    ...(values.rules === undefined ? {} : { rulesFile: values.rules }),
  }
}

/** Reads `--sysctl`, so that a mistake ends uvsd before anything has been made. */
function readSetting(text: string): Extract<Command, { op: 'set-setting' }> {
  const command = parseSetting(text)
  writeSetting(defaultSettings(), settingKind(command.name), command.value)
  return command
}

async function main(args: string[]): Promise<number> {
  let options: Options | 'help'
  try {
    options = parseOptions(args)
  } catch (error) {
    say(`${(error as Error).message}\nuvsd --help says more`)
    return 2
  }
  if (options === 'help') {
    process.stdout.write(help)
    return 0
  }
  if (process.getuid?.() !== 0)
    say('not running as root; this takes CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF')

  let end!: (status: number) => void
  const ended = new Promise<number>((resolve) => (end = resolve))
  let failure: Error | undefined
  const failed = (error: Error): void => {
    if (!failure) say(error.message)
    failure ??= error
    end(1)
  }
  // Whoever reads our messages may be gone before us, which is no reason to end.
  process.stderr.on('error', () => {})
  let daemon: Daemon
  try {
    // Read while a signal may still end the process at once: nothing has been made yet.
    const rules = options.rulesFile === undefined ? undefined : await readRules(options.rulesFile)
    // What nobody foresaw ends the daemon too, but not without cleaning up.
    process.on('uncaughtException', (error) => {
      failed(new Error(`a fault of uvsd itself: ${error.stack ?? error.message}`))
    })
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(0))
    const starting = Daemon.start({ ...options, ...(rules && { rules }), warn: say, failed })
    // Reloads take turns, and the start comes first.
    let turn: Promise<unknown> = starting.catch(() => {})
    process.on('SIGHUP', () => {
      turn = turn.then(() => reload(daemon, options.rulesFile))
    })
    daemon = await starting
  } catch (error) {
    if (error !== failure) say((error as Error).message)
    return 1
  }
  say('ready')
  const status = await ended
  try {
    await daemon.stop()
  } catch (error) {
    say(`not everything could be removed: ${(error as Error).message}`)
    return 1
  }
  return status
}

/** Takes the rules file over anew; when there is anything wrong with it, nothing changes. */
async function reload(daemon: Daemon, rulesFile: string | undefined): Promise<void> {
  if (rulesFile === undefined)
    return say('SIGHUP: there is no rules file to reload; --rules names one')
  try {
    await daemon.applyRules(await readRules(rulesFile))
    say('rules reloaded')
  } catch (error) {
    say(`the rules stay as they were: ${(error as Error).message}`)
  }
}

// Whatever is still under way, a file that never ends or an open request, is over now.
process.exit(await main(process.argv.slice(2)))
