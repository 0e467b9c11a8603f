import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import type { Command, ConnectionStatus, Replies } from '../core/commands.js'
import type { CommandResult, ConnectionFilter } from './api.js'
import type { Backend } from './ipvsadm/run.js'

/** Commands in one request: far below what the server takes. */
const BATCH = 8192
/** The daemon answers commands within milliseconds; a list of many may take longer. */
const TIMEOUT_MS = 60_000

/** The daemon cannot be asked: it does not run, or we may not. */
export class ApiUnreachable extends Error {
  override readonly name = 'ApiUnreachable'
}

/** Speaks to a uvsd over its socket. */
export class ApiClient implements Backend {
  constructor(private readonly path: string) {}

  async execute(commands: Command[]): Promise<CommandResult[]> {
    const results: CommandResult[] = []
    for (let i = 0; i < commands.length; i += BATCH) {
      const part = commands.slice(i, i + BATCH)
      results.push(...((await this.json('POST', '/v1/commands', part)) as CommandResult[]))
    }
    return results
  }

  async status(): Promise<unknown> {
    return this.json('GET', '/v1/status')
  }

  /** What has become of the packets, by reason. */
  async counters(): Promise<Replies['get-counters']> {
    return (await this.json('GET', '/v1/counters')) as Replies['get-counters']
  }

  /** Waits, for some seconds at most, until the configuration's generation is above a number, and returns it. */
  async changes(after: number, signal?: AbortSignal): Promise<number> {
    const target = `/v1/changes?after=${Math.max(0, after)}`
    const answer = (await this.json('GET', target, undefined, signal)) as { generation: number }
    return answer.generation
  }

  async *connections(filter: ConnectionFilter = {}): AsyncIterable<ConnectionStatus[]> {
    const query = new URLSearchParams(filter as Record<string, string>)
    const response = await this.send('GET', `/v1/connections?${query}`)
    if (response.statusCode !== 200) throw await failure(response)
    try {
      let rest = ''
      for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
        const lines = (rest + chunk).split('\n')
        rest = lines.pop()!
        if (lines.length > 0) yield lines.map((line) => JSON.parse(line) as ConnectionStatus)
      }
    } catch (error) {
      throw new ApiUnreachable(
        `uvsd at ${this.path} broke off its answer: ${(error as Error).message}`,
        { cause: error },
      )
    }
  }

  private async json(
    method: string,
    target: string,
    body?: unknown,
    signal?: AbortSignal,
  ): Promise<unknown> {
    const response = await this.send(method, target, body, signal)
    if (response.statusCode !== 200) throw await failure(response)
    return JSON.parse(await text(response))
  }

  private async send(
    method: string,
    target: string,
    body?: unknown,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    const call = request({
      ...(signal && { signal }),
      socketPath: this.path,
      method,
      path: target,
      timeout: TIMEOUT_MS,
      // A connection kept from an earlier request may be that of a daemon that has ended since.
      agent: false,
      headers: { host: 'uvsd', ...(body !== undefined && { 'content-type': 'application/json' }) },
    })
    call.on('timeout', () =>
      call.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} seconds`)),
    )
    // A daemon may answer, and hang up, before it has read everything: then the answer says what there is to say.
    call.on('error', () => {})
    call.end(body === undefined ? undefined : JSON.stringify(body))
    try {
      const [response] = (await once(call, 'response')) as [IncomingMessage]
      return response
    } catch (error) {
      throw this.unreachable(error as NodeJS.ErrnoException)
    }
  }

  private unreachable(error: NodeJS.ErrnoException): ApiUnreachable {
    if (error.code === 'EACCES' || error.code === 'EPERM')
      return new ApiUnreachable(
        `cannot reach uvsd at ${this.path}: permission denied; run as root`,
        { cause: error },
      )
    const reason =
      error.code === 'ENOENT' || error.code === 'ECONNREFUSED' ? 'is it running?' : error.message
    return new ApiUnreachable(`cannot reach uvsd at ${this.path}: ${reason}`, { cause: error })
  }
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

async function failure(response: IncomingMessage): Promise<Error> {
  const body = await text(response)
  try {
    const { error } = JSON.parse(body) as { error: { message: string } }
    return new Error(`uvsd refused the request: ${error.message}`)
  } catch {
    return new Error(`uvsd answered ${response.statusCode}: ${body}`)
  }
}
