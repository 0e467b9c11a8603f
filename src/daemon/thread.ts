import { once } from 'node:events'
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads'
import { IpvsError, type Command, type Reply } from '../core/commands.js'
import { joinParts } from '../core/parts.js'
import type { RouteUpdate } from '../core/route-table.js'
import type { Forgettable } from '../core/configuration.js'
import type { WakeUp } from '../drivers/waiter.js'
import type {
  FromThread,
  OpenedPort,
  ThreadOptions,
  ThreadStatus,
  ToThread,
} from './thread-messages.js'

/** Commands alone make garbage there: collected in small amounts, which takes 0.2 ms at best and not 0.5. */
export const YOUNG_GENERATION_MB = 6

type ThreadEvents = {
  /** Packets wait for these neighbours. */
  wanted: (neighbours: { interfaceIndex: number; address: string }[]) => void
  /** Destinations that no worker uses any more. */
  forgettable?: (destinations: Forgettable[]) => void
  /** The thread has ended by an error: the daemon cannot go on. */
  failed: (error: Error) => void
}

/** The main thread's handle of the data-plane thread: requests answered by promises, and a wake-up call. */
export class DataPlaneThread {
  private readonly requests = new Map<
    number,
    { take: (part: unknown, isLast: boolean) => void; reject: (error: Error) => void }
  >()
  private nextId = 1
  private ended: Error | undefined

  private constructor(
    private readonly worker: Worker,
    private readonly channel: MessagePort,
    private readonly wakeUp: WakeUp,
    readonly ports: OpenedPort[],
    events: ThreadEvents,
  ) {
    channel.on('message', (message: FromThread) => {
      switch (message.kind) {
        case 'reply':
          this.take(message.id)?.take(message.reply, true)
          break
        case 'part':
          this.requests.get(message.id)?.take(message.part, false)
          break
        case 'refused':
          this.take(message.id)?.reject(
            new IpvsError(message.code as IpvsError['code'], message.message),
          )
          break
        case 'wanted':
          events.wanted(message.neighbours)
          break
        case 'forgettable':
          events.forgettable?.(message.destinations)
      }
    })
    worker.on('error', (error) => {
      // Nothing that a packet or a command can cause, so it takes the stack to know what it was.
      const failure = new Error(`the data-plane thread has failed: ${error.stack ?? error.message}`)
      this.end(failure)
      events.failed(failure)
    })
    worker.on('exit', () => this.end(new Error('the data-plane thread has ended')))
  }

  /**
   * Starts the thread and waits until its ports are open. Fails with the error that opening a port failed with.
   *
   * @param wakeUp the thread's own; to be closed when nobody can ring it any more
   */
  static async start(
    options: Omit<ThreadOptions, 'channel' | 'attention' | 'wakeUp'>,
    events: ThreadEvents,
    wakeUp: WakeUp,
  ): Promise<DataPlaneThread> {
    const { port1, port2 } = new MessageChannel()
    const workerData: ThreadOptions = {
      ...options,
      channel: port2,
      attention: wakeUp.attention,
      wakeUp: wakeUp.descriptor,
    }
    const worker = new Worker(new URL('./data-plane-thread.js', import.meta.url), {
      workerData,
      transferList: [port2],
      name: 'uvsd-data-plane',
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    })
    try {
      const message = await Promise.race([
        once(port1, 'message').then(([message]) => message as FromThread),
        once(worker, 'exit').then(() => {
          throw new Error('the data-plane thread ended while it opened its ports')
        }),
      ])
      if (message.kind !== 'opened')
        throw new Error(`the data-plane thread began with '${message.kind}'`)
      return new DataPlaneThread(worker, port1, wakeUp, message.ports, events)
    } catch (error) {
      port1.close()
      await worker.terminate()
      throw error
    }
  }

  /** Applies one command. Rejects with IpvsError where the kernel would refuse it. */
  execute<C extends Command>(command: C): Promise<Reply<C>> {
    return this.request<Reply<C>>(
      (id) => ({ kind: 'command', id, command }),
      (parts) => joinParts(command.op, parts),
    )
  }

  status(): Promise<ThreadStatus> {
    return this.request<ThreadStatus>(
      (id) => ({ kind: 'status', id }),
      ([status]) => status!,
    )
  }

  applyRoutes(updates: RouteUpdate[]): void {
    this.post({ kind: 'routes', updates })
  }

  setOwnAddresses(addresses: string[]): void {
    this.post({ kind: 'own-addresses', addresses })
  }

  forget(destinations: Forgettable[]): void {
    this.post({ kind: 'forget', destinations })
  }

  setKernelMac(mac: string): void {
    this.post({ kind: 'kernel-mac', mac })
  }

  /** Lets the thread finish what is under way and waits for its end. */
  async stop(): Promise<void> {
    if (!this.ended) {
      const exit = once(this.worker, 'exit')
      this.post({ kind: 'stop' })
      await exit
    }
    this.channel.close()
  }

  /** @param join makes the reply of its parts, of which there is one at least */
  private request<T>(
    message: (id: number) => ToThread,
    join: (parts: readonly T[]) => T,
  ): Promise<T> {
    if (this.ended) return Promise.reject(this.ended)
    const id = this.nextId++
    return new Promise((resolve, reject) => {
      const parts: T[] = []
      const take = (part: unknown, isLast: boolean): void => {
        parts.push(part as T)
        if (isLast) resolve(join(parts))
      }
      this.requests.set(id, { take, reject })
      this.post(message(id))
    })
  }

  private post(message: ToThread): void {
    this.channel.postMessage(message)
    this.wakeUp.ring()
  }

  private take(id: number) {
    const request = this.requests.get(id)
    this.requests.delete(id)
    return request
  }

  private end(error: Error): void {
    this.ended ??= error
    for (const { reject } of this.requests.values()) reject(error)
    this.requests.clear()
  }
}
