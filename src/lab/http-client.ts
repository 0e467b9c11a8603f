import type { Namespace } from './lab.js'

/** Local ports that requests are sent from, one after the other. */
const FIRST_PORT = 10_000
const LAST_PORT = 60_000

/** For all requests together. */
const TIMEOUT_MS = 600_000

let nextPort = FIRST_PORT

/**
 * Who answered so many HTTP requests, in order: each a curl transfer on a connection of its own, all by one
 * process. Their local ports are given and not left to the kernel to draw: a port used again within two
 * minutes is an old connection to a director, and would spoil its distribution.
 *
 * @returns the answers, and what curl says of the requests that had none
 */
export async function askByHttp(
  client: Namespace,
  address: string,
  requests: number,
  options: { port?: number } = {},
): Promise<{ answers: string[]; errors: string }> {
  const input = Array.from({ length: requests }, (_, i) =>
    [
      `url = "http://${address}:${options.port ?? 80}/${i + 1}"`,
      `local-port = ${takePort()}`,
      'header = "Connection: close"',
      'max-time = 30',
      'silent',
      'show-error',
      'fail',
    ].join('\n'),
  ).join('\nnext\n')
  const { stdout, stderr } = await client.try('curl', ['--config', '-'], {
    input,
    timeoutMs: TIMEOUT_MS,
  })
  return { answers: stdout.split('\n').slice(0, -1), errors: stderr }
}

function takePort(): number {
  const port = nextPort
  nextPort = port === LAST_PORT ? FIRST_PORT : port + 1
  return port
}
