import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { liveDrivers, liveParity, type LiveResult } from '../lab/live-parity.js'
import { methods, type Method } from '../lab/topology.js'
import { runInGuest } from '../scenario/oracle/guest.js'
import { runningUnavailable } from '../scenario/oracle/oracle.js'

/** For all methods, on a machine that has much else to do. */
const TIMEOUT_MS = 600_000

/**
 * `uvs parity --live`: real clients and servers, first through the kernel's IPVS, then through uvsd. Where the
 * running kernel has no IPVS, or we are not root, all of it happens in a guest.
 */
export async function main(args: string[]): Promise<number> {
  let asked: Method[]
  let kernel: string | undefined
  let json: boolean
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { kernel: { type: 'string' }, json: { type: 'boolean', default: false } },
    })
    asked = positionals.length === 0 ? [...methods] : positionals.map(methodNamed)
    ;({ kernel, json } = values)
    if (kernel !== undefined && kernel !== 'running' && kernel !== 'guest')
      throw new Error(`--kernel ${kernel}: there are 'running' and 'guest'`)
  } catch (error) {
    process.stderr.write(`uvs parity --live: ${(error as Error).message}; uvs parity --help\n`)
    return 2
  }
  const missing = runningUnavailable()
  if (kernel === 'running' && missing) throw new Error(missing)
  return kernel === 'guest' || missing ? inGuest(asked, json) : here(asked, json)
}

function methodNamed(name: string): Method {
  const method = methods.find((method) => method === name)
  if (!method) throw new Error(`${name}: there are ${methods.join(', ')}`)
  return method
}

async function here(asked: readonly Method[], json: boolean): Promise<number> {
  const results: LiveResult[] = []
  for (const method of asked) {
    if (!json) process.stdout.write(`${method}, uvsd on ${liveDrivers[method]}\n`)
    const result = await liveParity(method, (line) => {
      if (!json) process.stdout.write(`  ${line}\n`)
    })
    results.push(result)
    if (!json) process.stdout.write(describe(result))
  }
  if (json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`)
  return results.every(({ differences }) => differences.length === 0) ? 0 : 1
}

function describe({ exchanges, connections, counters, differences }: LiveResult): string {
  const compared = `${exchanges} exchanges, ${connections} connections, ${counters} sets of counters`
  return differences.length === 0
    ? `  ${compared}: the same\n`
    : `  ${compared}: ${differences.length} differ\n${differences.map((line) => `    ${line}\n`).join('')}`
}

async function inGuest(asked: readonly Method[], json: boolean): Promise<number> {
  process.stderr.write('uvs parity --live: in a guest, which says nothing before it has finished\n')
  const uvs = fileURLToPath(new URL('uvs.js', import.meta.url))
  const args = ['parity', '--live', '--kernel', 'running', ...(json ? ['--json'] : []), ...asked]
  const { status, stdout, stderr } = await runInGuest({
    script: `mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp
exec '${process.execPath}' '${uvs}' ${args.join(' ')}`,
    modules: ['ip_vs', 'tun', 'veth', 'bridge', 'ipip'],
    memoryMegabytes: 768,
    timeoutMs: TIMEOUT_MS,
  })
  process.stdout.write(stdout)
  process.stderr.write(stderr)
  return status
}
