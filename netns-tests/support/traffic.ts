// Real traffic of the client namespace: curl over the kernel's TCP, and datagrams to the UDP echo.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { askByHttp } from '../../src/lab/http-client.js'
import type { Namespace } from '../../src/lab/lab.js'
import { payload } from '../../src/lab/payload.js'
import { echoClientPath } from '../../src/lab/topology.js'

/** How long an answer is waited for that a busy machine may have late; nothing on these wires is lost. */
const ECHO_PATIENCE_MS = 30_000

/** How often each word occurs. */
export function tally(words: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1
  return counts
}

/**
 * Gives the client another address for what it does from here on. A client that comes back with a port of
 * two minutes ago is, to a director, the connection of two minutes ago: a new address is a new client.
 */
export async function becomeClient(client: Namespace, address: string): Promise<void> {
  await client.ip('address', 'replace', `${address}/24`, 'dev', 'eth0')
  await client.ip('route', 'replace', '192.168.10.0/24', 'dev', 'eth0', 'src', address)
  await client.ip('route', 'replace', 'default', 'via', '192.168.10.1', 'src', address)
}

/** Who answered so many HTTP requests, in order; each on a connection of its own, all from one curl. */
export async function whoAnswers(
  client: Namespace,
  address: string,
  requests: number,
  options: { port?: number } = {},
): Promise<string[]> {
  const { answers, errors } = await askByHttp(client, address, requests, options)
  if (errors !== '') throw new Error(`curl: ${errors.slice(0, 500)}`)
  return answers
}

/**
 * The answers of the UDP echo, `SERVER TEXT ADDRESS:PORT`, each asked from a socket of its own.
 *
 * @param bytes of each datagram at least
 */
export async function echoAnswers(
  client: Namespace,
  address: string,
  port: number,
  datagrams: number,
  bytes = 0,
): Promise<string[]> {
  const args = [
    echoClientPath(),
    address,
    ...[port, datagrams, ECHO_PATIENCE_MS, bytes].map(String),
  ]
  return (await client.run(process.execPath, ...args)).trimEnd().split('\n')
}

/** Downloads with curl; the SHA-256 of what came and how much it was. */
export async function download(
  client: Namespace,
  url: string,
): Promise<{ sha256: string; bytes: number }> {
  const curl = inNamespace(client, ['-sS', '--fail', '--max-time', '300', url])
  curl.stdin.end()
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of curl.stdout as AsyncIterable<Buffer>) {
    bytes += chunk.length
    hash.update(chunk)
  }
  await succeeded(curl)
  return { sha256: hash.digest('hex'), bytes }
}

/** Uploads so many bytes of the known payload with curl; what the server says about them. */
export async function upload(
  client: Namespace,
  url: string,
  totalBytes: number,
): Promise<{ server: string; sha256: string; bytes: number }> {
  const curl = inNamespace(client, ['-sS', '--fail', '--max-time', '300', '-T', '-', url])
  const said: Buffer[] = []
  curl.stdout.on('data', (chunk: Buffer) => said.push(chunk))
  // When curl gives up its exit status says why, better than the broken pipe.
  await pipeline(Readable.from(payload(totalBytes)), curl.stdin).catch(() => undefined)
  await succeeded(curl)
  return JSON.parse(Buffer.concat(said).toString()) as {
    server: string
    sha256: string
    bytes: number
  }
}

function inNamespace(namespace: Namespace, args: string[]) {
  const curl = spawn('ip', ['netns', 'exec', namespace.name, 'curl', ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const errors: Buffer[] = []
  curl.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
  const closed = new Promise<number | null>((resolve) => curl.on('close', resolve))
  return Object.assign(curl, { closed, errors })
}

async function succeeded(curl: ReturnType<typeof inNamespace>): Promise<void> {
  const status = await curl.closed
  if (status !== 0) throw new Error(`curl: exit ${status}: ${Buffer.concat(curl.errors)}`)
}
