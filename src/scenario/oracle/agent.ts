/**
 * What runs beside the kernel that is asked: inside the guest, or as a process of its own on the running kernel.
 * It is given jobs one after the other, each in a network namespace of its own.
 *
 *   node agent.js guest|running DIRECTORY
 */
import { readFileSync, readSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { readMonotonic, sleepUntil } from '../../kernel/sleep.js'
import { parseConnections } from '../compare.js'
import {
  sortConnections,
  type ConnectionRecord,
  type EndRecord,
  type SentPacket,
  type Trace,
  type TraceRecord,
} from '../trace.js'
import { LEAD_JIFFIES } from '../scenario.js'
import { DirectorWorld, writeSetting } from './director-world.js'
import { ForkServer } from './fork-server.js'
import { SCRATCH, SHARED } from './guest.js'
import { jobFile, question, resultFile, type Job, type JobEvent, type JobResult } from './job.js'
import { CHANNEL } from './owned-process.js'

/** How much slower than the host's the guest's clock runs while it computes. */
const SLOWNESS = 10_000
const NANOSECONDS_PER_JIFFY = 10_000_000n
/** A scenario starts so long behind the edge of a jiffy, so that the kernel has done what is due. */
const AFTER_EDGE_NANOSECONDS = 100_000n
/** The kernel sums up its counters every 2 s. */
const SUMMING_MS = 2300

/** Settings of the guest's kernel as a whole. */
const GUEST_SETTINGS: readonly (readonly [path: string, value: number])[] = [
  // On all ICMP errors together, of kernels that do not keep this limit by namespace.
  ['net/ipv4/icmp_msgs_per_sec', 1_000_000],
  ['net/ipv4/icmp_msgs_burst', 1_000_000],
  // Memory that caches leave free, in KiB: well above what IPVS takes for little (amemthresh, 4 MiB).
  ['vm/min_free_kbytes', 16_384],
  // What would wake the kernel again and again where nothing happens.
  ['vm/compaction_proactiveness', 0],
  ['vm/dirty_writeback_centisecs', 0],
]

/** How the agent meets the host: by the guest's clock, which stops while it waits, or by a descriptor. */
interface Host {
  ask(text: string): void
  /** The next moment, by the monotonic clock, at which a director or a scenario may begin. */
  nextStartNanoseconds(): bigint
}

function guestHost(): Host {
  const call = (text: string): void => {
    statSync(join(SHARED, `uvs-guest-clock:${text}`), { throwIfNoEntry: false })
  }
  call(`slow:${SLOWNESS}`)
  for (const [path, value] of GUEST_SETTINGS) writeFileSync(`/proc/sys/${path}`, String(value))
  const jiffiesAhead = readJiffiesAhead()
  return {
    ask: (text) => call(`ask:${text}`),
    nextStartNanoseconds() {
      const jiffies = readMonotonic() / NANOSECONDS_PER_JIFFY + jiffiesAhead + 2n
      const alignment = BigInt(LEAD_JIFFIES)
      const start = ((jiffies + alignment - 1n) / alignment) * alignment
      return (start - jiffiesAhead) * NANOSECONDS_PER_JIFFY + AFTER_EDGE_NANOSECONDS
    },
  }
}

function runningHost(): Host {
  const answer = new Uint8Array(1)
  return {
    ask(text) {
      writeSync(CHANNEL, `${text}\n`)
      if (readSync(CHANNEL, answer) !== 1) process.exit(0)
    },
    nextStartNanoseconds: readMonotonic,
  }
}

/** How far jiffies are ahead of the monotonic clock; ticks come at whole jiffies of that clock. */
function readJiffiesAhead(): bigint {
  // Just behind a tick, so that the kernel has counted it.
  const tick = readMonotonic() / NANOSECONDS_PER_JIFFY + 2n
  sleepUntil(tick * NANOSECONDS_PER_JIFFY + AFTER_EDGE_NANOSECONDS)
  const jiffies = /^jiffies: (\d+)$/m.exec(readFileSync('/proc/timer_list', 'utf8'))
  if (!jiffies) throw new Error('/proc/timer_list does not say jiffies')
  return BigInt(jiffies[1]!) - tick
}

function run(job: Job, host: Host): Trace {
  // What IPVS does by itself every few seconds begins with the namespace.
  sleepUntil(host.nextStartNanoseconds())
  const world = new DirectorWorld(job, ip)
  try {
    const start = host.nextStartNanoseconds()
    let nowMs = -1
    const sleepTo = (ms: number): void => {
      sleepUntil(start + BigInt(Math.round(ms * 1e6)))
      // What comes of the namespace's beginning is none of the scenario's.
      if (nowMs < 0) world.discard()
      else before.push(...world.sent())
      nowMs = ms
    }
    let before: SentPacket[] = []
    const trace: Trace = []
    const push = (record: TraceRecord): void => {
      trace.push(before.length > 0 ? { ...record, before } : record)
      before = []
    }
    sleepTo(0)
    for (const event of job.events) {
      if (event.atMs > nowMs) sleepTo(event.atMs)
      const record = runEvent(event, world)
      if (record) push(record)
    }
    const connections = listConnections()
    sleepTo(nowMs + SUMMING_MS)
    const services = ipvsadm.run(['-L', '-n', '--stats', '--exact'])
    push({ end: true, services: services.stdout, connections } satisfies EndRecord)
    return trace
  } finally {
    world.close()
  }
}

class EventError extends Error {
  constructor(
    readonly line: number,
    message: string,
  ) {
    super(message)
  }
}

function runEvent(event: JobEvent, world: DirectorWorld): TraceRecord | undefined {
  try {
    switch (event.kind) {
      case 'ipvsadm':
        return { line: event.line, ...ipvsadm.run(event.args) }
      case 'sysctl':
        return writeSysctl(event.key, event.value)
      case 'packet':
        return {
          line: event.line,
          ...world.send(Buffer.from(event.packet, 'hex'), event.side, event.mark),
        }
    }
  } catch (error) {
    throw new EventError(event.line, (error as Error).message)
  }
}

/** A value that the kernel refuses stays without effect; a setting that it does not have is an error. */
function writeSysctl(key: string, value: string): undefined {
  if (!key.startsWith('net.'))
    throw new Error(`${key}: only settings under net. are a namespace's own`)
  try {
    writeSetting(key.slice('net.'.length).replaceAll('.', '/'), value)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EINVAL' && code !== 'ERANGE') throw error
  }
}

function listConnections(): ConnectionRecord[] {
  const { stdout, stderr } = ipvsadm.run(['-L', '-n', '-c'])
  const connections = parseConnections(stdout)
  if (!connections) throw new Error(`ipvsadm -L -n -c: ${stderr}${stdout}`)
  return sortConnections(connections)
}

const [where, directory] = process.argv.slice(2) as ['guest' | 'running', string]
const scratch = where === 'guest' ? SCRATCH : directory
const ip = new ForkServer('/usr/sbin/ip', scratch)
const ipvsadm = new ForkServer('/usr/sbin/ipvsadm', scratch)
const host = where === 'guest' ? guestHost() : runningHost()
for (let number = 0; ;) {
  host.ask(question(number++, release()))
  let result: JobResult
  try {
    result = {
      trace: run(JSON.parse(readFileSync(join(directory, jobFile(number)), 'utf8')) as Job, host),
    }
  } catch (error) {
    result =
      error instanceof EventError
        ? { error: error.message, line: error.line }
        : { error: (error as Error).stack ?? String(error) }
  }
  writeFileSync(join(directory, resultFile(number)), JSON.stringify(result))
}
