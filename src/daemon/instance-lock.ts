import { accessSync, constants, mkdirSync, readlinkSync, unlinkSync } from 'node:fs'
import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'

const DIRECTORY = '/run/uvs'

/**
 * One uvsd in a network namespace, as there is one IPVS: two would program the same rules. The lock is a
 * Unix socket named after the namespace. It answers who holds it, and a killed holder's is taken over,
 * since nobody answers there any more.
 */
export class InstanceLock {
  private constructor(
    private readonly server: Server,
    private readonly path: string,
  ) {}

  /**
   * @param ports what this daemon works on, for the message that a second one gets
   * @throws Error that names the holder
   */
  static async take(ports: readonly string[]): Promise<InstanceLock> {
    const namespace = /\d+/.exec(readlinkSync('/proc/self/ns/net'))![0]
    const path = `${DIRECTORY}/netns-${namespace}.lock`
    mkdirSync(DIRECTORY, { recursive: true, mode: 0o755 })
    accessSync(DIRECTORY, constants.W_OK)
    const holder = await askHolder(path)
    if (holder !== undefined)
      throw new Error(
        `another uvsd is running in this network namespace (${holder}); end it first: there is one director a namespace`,
      )
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.end(`process ${process.pid}, ports ${ports.join(' ')}`)
    })
    server.listen(path)
    await once(server, 'listening')
    server.unref()
    return new InstanceLock(server, path)
  }

  async release(): Promise<void> {
    const closed = once(this.server, 'close')
    this.server.close()
    await closed
    try {
      unlinkSync(this.path)
    } catch {
      // Node has removed it.
    }
  }
}

/** What the lock's holder says of itself; undefined when there is none, and then a dead one's socket is gone. */
async function askHolder(path: string): Promise<string | undefined> {
  const socket = connect(path)
  socket.setEncoding('utf8')
  let text = ''
  socket.on('data', (part: string) => (text += part))
  try {
    await once(socket, 'end')
    return text
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ECONNREFUSED') unlinkSync(path)
    else if (code !== 'ENOENT')
      throw new Error(`cannot tell whether a uvsd is running: ${path}: ${code}`, { cause: error })
    return undefined
  } finally {
    socket.destroy()
  }
}
