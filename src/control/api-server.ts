import { once } from 'node:events'
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import type { Command, ConnectionStatus, Reply } from '../core/commands.js'
import {
  checkCommands,
  matchesFilter,
  ShapeError,
  type CommandResult,
  type ConnectionFilter,
} from './api.js'
import type { Generation } from './generation.js'

/** What the server serves; the daemon connects it to its data plane. */
export interface ApiSource {
  /** Carries one command out. Rejects with an IpvsError when it is refused. */
  execute<C extends Command>(command: C): Promise<Reply<C>>
  /** Carries commands out in order, one result each. */
  executeAll(commands: Command[]): Promise<CommandResult[]>
  /** Connections in batches; nothing is asked for before the client has taken what came before. */
  connections(filter: ConnectionFilter): AsyncIterable<ConnectionStatus[]>
  /** The daemon's own state as a JSON value. */
  status(): unknown
  /** Of the configuration that commands change. */
  readonly generation: Generation
}

export interface ApiServer {
  /** Stops listening, ends open requests and removes the socket. */
  close(): Promise<void>
}

/** The longest body of a request. */
export const MAX_BODY_BYTES = 16 * 1024 * 1024
/** Linux's sockaddr_un, less the terminating zero. */
const MAX_PATH_BYTES = 107
/** A client has this long to send its request. */
const REQUEST_TIMEOUT_MS = 10_000
/** A client that takes nothing of its answer for so long is cut off. */
const STALL_TIMEOUT_MS = 30_000

/** A request for changes is answered after so long at the latest. */
const CHANGES_TIMEOUT_MS = 10_000

/**
 * Serves the API on a Unix socket that only its owner may open. A socket that a killed daemon left behind is
 * replaced; a live one is refused with an error that says so.
 *
 * - `POST /v1/commands`: a list of commands, carried out in order; answers a list of `{reply}` or `{error}`
 * - `GET /v1/services?from=&limit=`: a page of services
 * - `GET /v1/connections?protocol=&client=&virtual=&destination=`: one connection a line
 * - `GET /v1/counters`, `GET /v1/status`
 * - `GET /v1/changes?after=`: `{"generation"}` of the configuration, answered when it is above `after` or
 *   10 s have gone by
 */
export async function serveApi(path: string, source: ApiSource): Promise<ApiServer> {
  await makeRoomFor(path)
  const timeouts = {
    requestTimeout: REQUEST_TIMEOUT_MS,
    headersTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: REQUEST_TIMEOUT_MS / 10,
  }
  const server = createServer(timeouts, (request, response) => {
    answer(request, response, source).catch((error: unknown) => fault(response, error))
  })
  server.maxConnections = 256
  await listen(server, path)
  return {
    async close() {
      const closed = once(server, 'close')
      // Node removes the socket of a server that it closes.
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** Removes a dead socket at the path, or throws when something lives there. */
async function makeRoomFor(path: string): Promise<void> {
  // Longer ones would be cut off, without a word.
  if (Buffer.byteLength(path) > MAX_PATH_BYTES)
    throw new Error(
      `${path}: the path of a socket has at most ${MAX_PATH_BYTES} bytes; give a shorter one with --socket`,
    )
  // Only /run/uvs is ours to make: of other folders a missing one is a mistake.
  try {
    mkdirSync(dirname(path), { mode: 0o755 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new Error(`cannot make the API socket ${path}: ${(error as Error).message}`, {
        cause: error,
      })
  }
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (!there) return
  if (!there.isSocket())
    throw new Error(`${path} exists and is not a socket; give another path with --socket`)
  const socket = connect(path)
  const outcome = await Promise.race([
    once(socket, 'connect').then(() => 'live'),
    once(socket, 'error').then(([error]) => (error as NodeJS.ErrnoException).code),
  ]).catch((error: NodeJS.ErrnoException) => error.code)
  socket.destroy()
  if (outcome === 'live')
    throw new Error(
      `another uvsd is listening at ${path}; end it first, or give this one another path with --socket`,
    )
  if (outcome !== 'ECONNREFUSED' && outcome !== 'ENOENT')
    throw new Error(`cannot tell whether a uvsd is listening at ${path}: ${outcome}`)
  if (outcome === 'ECONNREFUSED') unlinkSync(path)
}

/** Binds with a umask that leaves the socket to its owner from its first moment. */
async function listen(server: Server, path: string): Promise<void> {
  const umask = process.umask(0o177)
  try {
    // bind(2) happens inside this call; only the event comes later.
    server.listen(path)
  } finally {
    process.umask(umask)
  }
  await once(server, 'listening')
  chmodSync(path, 0o600)
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  source: ApiSource,
): Promise<void> {
  const target = request.url ?? '/'
  if (!URL.canParse(target, 'http://uvsd'))
    return send(response, 400, problem('EINVAL', `'${target}' is no URL; see /v1/status`))
  const url = new URL(target, 'http://uvsd')
  const endpoint = endpoints[url.pathname]
  if (!endpoint)
    return send(response, 404, problem('ENOENT', `there is no ${url.pathname}; see /v1/status`))
  if (request.method !== endpoint.method) {
    response.setHeader('allow', endpoint.method)
    return send(
      response,
      405,
      problem('EINVAL', `${url.pathname} takes ${endpoint.method}, not ${request.method}`),
    )
  }
  await endpoint.handle(source, response, url.searchParams, request)
}

type Handler = (
  source: ApiSource,
  response: ServerResponse,
  query: URLSearchParams,
  request: IncomingMessage,
) => Promise<void>

const endpoints: Partial<Record<string, { method: 'GET' | 'POST'; handle: Handler }>> = {
  '/v1/commands': { method: 'POST', handle: commands },
  '/v1/services': { method: 'GET', handle: services },
  '/v1/connections': { method: 'GET', handle: connections },
  '/v1/counters': {
    method: 'GET',
    handle: async (source, response) =>
      send(response, 200, await source.execute({ op: 'get-counters' })),
  },
  '/v1/status': {
    method: 'GET',
    handle: async (source, response) => send(response, 200, await source.status()),
  },
  '/v1/changes': { method: 'GET', handle: changes },
}

async function changes(
  source: ApiSource,
  response: ServerResponse,
  query: URLSearchParams,
): Promise<void> {
  const after = Number(query.get('after') ?? '0')
  if (!/^\d+$/.test(query.get('after') ?? '0') || [...query.keys()].some((key) => key !== 'after'))
    return send(response, 400, problem('EINVAL', '/v1/changes takes after=NUMBER and nothing else'))
  await source.generation.isAbove(after, CHANGES_TIMEOUT_MS)
  send(response, 200, { generation: source.generation.value })
}

async function commands(
  source: ApiSource,
  response: ServerResponse,
  _query: URLSearchParams,
  request: IncomingMessage,
): Promise<void> {
  const body = await readBody(request)
  if (body === undefined) {
    response.setHeader('connection', 'close')
    return send(
      response,
      413,
      problem('E2BIG', `the request is longer than ${MAX_BODY_BYTES} bytes; send it in parts`),
    )
  }
  let list: Command[]
  try {
    list = checkCommands(JSON.parse(body))
  } catch (error) {
    if (error instanceof SyntaxError)
      return send(response, 400, problem('EINVAL', `the request is not JSON: ${error.message}`))
    if (error instanceof ShapeError)
      return send(response, 400, { ...problem('EINVAL', error.message), path: error.path })
    throw error
  }
  send(response, 200, await source.executeAll(list))
}

async function services(
  source: ApiSource,
  response: ServerResponse,
  query: URLSearchParams,
): Promise<void> {
  let command: Extract<Command, { op: 'list-services' }>
  try {
    const page = { op: 'list-services', ...numbers(query, ['from', 'limit']) }
    command = checkCommands([page])[0] as typeof command
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error
    return send(response, 400, { ...problem('EINVAL', error.message), path: error.path })
  }
  send(response, 200, await source.execute(command))
}

async function connections(
  source: ApiSource,
  response: ServerResponse,
  query: URLSearchParams,
): Promise<void> {
  const filter: Record<string, string> = {}
  for (const [name, value] of query) {
    if (!['protocol', 'client', 'virtual', 'destination'].includes(name))
      return send(response, 400, problem('EINVAL', `connections cannot be filtered by ${name}`))
    filter[name] = value
  }
  const wanted = filter as ConnectionFilter
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  response.setTimeout(STALL_TIMEOUT_MS, () => response.destroy())
  for await (const batch of source.connections(wanted)) {
    if (response.destroyed) return
    let lines = ''
    for (const connection of batch)
      if (matchesFilter(connection, wanted)) lines += `${JSON.stringify(connection)}\n`
    if (lines !== '' && !response.write(lines)) await drained(response)
  }
  response.end()
}

/** Waits until the client has taken what was written, or is gone. */
async function drained(response: ServerResponse): Promise<void> {
  if (response.destroyed) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      response.off('drain', done)
      response.off('close', done)
      resolve()
    }
    response.on('drain', done)
    response.on('close', done)
  })
}

function numbers(query: URLSearchParams, known: readonly string[]): Record<string, number> {
  const found: Record<string, number> = {}
  for (const [name, value] of query) {
    if (!known.includes(name)) throw new ShapeError(name, `no such parameter (${known.join(', ')})`)
    found[name] = /^\d+$/.test(value) ? Number(value) : NaN
  }
  return found
}

/** The body as text; undefined when it is too long. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    // Read on, or the hang-up reaches the client before the answer; but not for ever.
    if (length > 4 * MAX_BODY_BYTES) return undefined
    if (length > MAX_BODY_BYTES) chunks.length = 0
    else chunks.push(chunk)
  }
  if (length > MAX_BODY_BYTES) return undefined
  return Buffer.concat(chunks).toString('utf8')
}

function problem(code: string, message: string): { error: { code: string; message: string } } {
  return { error: { code, message } }
}

function send(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(`${JSON.stringify(value)}\n`)
}

/** A fault of ours: the client is told, and the daemon goes on. */
function fault(response: ServerResponse, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error)
  if (response.headersSent) response.destroy()
  else send(response, 500, problem('EIO', message))
}
