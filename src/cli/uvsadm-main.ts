import { ApiClient, ApiUnreachable } from '../control/api-client.js'
import { socketPath } from '../control/api.js'
import { Names } from '../control/ipvsadm/names.js'
import { runIpvsadm } from '../control/ipvsadm/run.js'

/** Takes `--socket PATH` off the front of a command line. */
export function takeSocket(args: readonly string[]): { socket: string; rest: string[] } {
  const [first, second] = args
  if (first === '--socket' && second !== undefined) return { socket: second, rest: args.slice(2) }
  if (first?.startsWith('--socket='))
    return { socket: first.slice('--socket='.length), rest: args.slice(1) }
  return { socket: socketPath(), rest: [...args] }
}

/** Runs ipvsadm command lines against the daemon at a socket, one after the other while they succeed. */
export async function uvsadm(
  socket: string,
  commandLines: readonly (readonly string[])[],
  stdin: AsyncIterable<string | Uint8Array> = process.stdin,
): Promise<number> {
  // Whoever reads us may stop reading (`uvsadm -Lnc | head`).
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    throw error
  })
  const client = new ApiClient(socket)
  const names = new Names()
  const streams = { stdin, stdout: process.stdout, stderr: process.stderr }
  try {
    let status = 0
    for (const args of commandLines) {
      status = await runIpvsadm(args, client, streams, names, 'uvsadm')
      if (status !== 0) return status
    }
    return status
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    return error instanceof ApiUnreachable ? 2 : 1
  }
}
