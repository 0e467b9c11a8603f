import { createGenericNetlink, type GenericNetlinkSocket } from 'netlink'
import type {
  DestinationKey,
  DestinationOptions,
  DestinationStatus,
  ServiceKey,
  ServiceOptions,
  ServiceStatus,
  Timeouts,
} from '../../core/commands.js'
import { Attributes, CommandAttribute, FAMILY, IpvsCommand, VERSION } from './attributes.js'
import { KernelIpvsError } from './errors.js'
import {
  daemonAttribute,
  daemonStateAttribute,
  destinationAttribute,
  familyOfService,
  parseDaemon,
  parseDestination,
  parseInfo,
  parseService,
  parseTimeouts,
  serviceAttribute,
  serviceKeyAttribute,
  timeoutAttributes,
  type SyncDaemon,
} from './messages.js'

export { KernelIpvsError } from './errors.js'
export type { SyncDaemon } from './messages.js'

const NLM_F_DUMP = 0x300
/** Of the socket each way: the kernel sends a listing in parts, as they are read. */
const BUFFER_BYTES = 1 << 20

/**
 * The kernel's IPVS over generic netlink, of the network namespace that the process is in. Its types are the
 * director's own, so what one lists the other can be given.
 *
 *   const kernel = await IpvsClient.open()
 *   await kernel.addService({ protocol: 'tcp', address: '192.0.2.1', port: 80 }, options)
 *   for (const service of await kernel.services()) …
 *   kernel.close()
 *
 * Requests may be made without waiting for earlier ones; they are carried out in turn. Every method throws
 * KernelIpvsError with what the kernel means by its refusal, and RangeError for what is no address.
 */
export class IpvsClient {
  private last: Promise<unknown> = Promise.resolve()

  private constructor(
    private readonly socket: GenericNetlinkSocket,
    private readonly family: number,
  ) {}

  /** Connects to the kernel, which loads IPVS if it can. */
  static async open(): Promise<IpvsClient> {
    const socket = createGenericNetlink({
      ref: false,
      recvBufferSize: BUFFER_BYTES,
      sendBufferSize: BUFFER_BYTES,
    })
    // An 'error' that nobody listens to would end the process inside the library's native callback.
    socket.socket.socket.on('error', () => {})
    try {
      const family = await familyNumber(socket)
      return new IpvsClient(socket, family)
    } catch (error) {
      socket.socket.close()
      throw error
    }
  }

  /** Ends the connection; requests under way then have no answer. */
  close(): void {
    this.socket.socket.close()
  }

  /** Version of IPVS as `1.2.1`, and buckets in its connection table. */
  async info(): Promise<{ version: string; tableSize: number }> {
    const [answer] = await this.request('get info', IpvsCommand.getInfo, [])
    return parseInfo(answer!)
  }

  /**
   * All services with their destinations, in the kernel's order. Services of protocols that ipvsadm cannot
   * name, which only another program can have made, are left out.
   */
  async services(): Promise<ServiceStatus[]> {
    const services: ServiceStatus[] = []
    // Of one that was deleted meanwhile the kernel lists no destinations.
    for (const one of await this.servicesAlone())
      services.push({ ...one, destinations: await this.destinations(one.service) })
    return services
  }

  /** All services without their destinations, which take a request for each service. */
  async servicesAlone(): Promise<Omit<ServiceStatus, 'destinations'>[]> {
    const answers = await this.request('list services', IpvsCommand.getService, [], NLM_F_DUMP)
    return answers.flatMap((answer) => {
      const service = parseService(answer.nested(CommandAttribute.service)!)
      return service ? [service] : []
    })
  }

  /** One service; undefined when the kernel has none of this key. */
  async service(key: ServiceKey): Promise<ServiceStatus | undefined> {
    try {
      const [answer] = await this.request('get service', IpvsCommand.getService, [
        serviceKeyAttribute(key),
      ])
      const service = parseService(answer!.nested(CommandAttribute.service)!)
      return service && { ...service, destinations: await this.destinations(key) }
    } catch (error) {
      if (error instanceof KernelIpvsError && error.code === 'ESRCH') return undefined
      throw error
    }
  }

  async addService(key: ServiceKey, options: ServiceOptions): Promise<void> {
    await this.request('add service', IpvsCommand.newService, [serviceAttribute(key, options)])
  }

  async editService(key: ServiceKey, options: ServiceOptions): Promise<void> {
    await this.request('edit service', IpvsCommand.setService, [serviceAttribute(key, options)])
  }

  async deleteService(key: ServiceKey): Promise<void> {
    await this.request('delete service', IpvsCommand.deleteService, [serviceKeyAttribute(key)])
  }

  /** A service's destinations in the kernel's order; none of a service that is not there. */
  async destinations(key: ServiceKey): Promise<DestinationStatus[]> {
    const answers = await this.request(
      'list destinations',
      IpvsCommand.getDestination,
      [serviceKeyAttribute(key)],
      NLM_F_DUMP,
    )
    return answers.map((answer) =>
      parseDestination(answer.nested(CommandAttribute.destination)!, familyOfService(key)),
    )
  }

  async addDestination(
    service: ServiceKey,
    destination: DestinationKey,
    options: DestinationOptions,
  ): Promise<void> {
    await this.request('add destination', IpvsCommand.newDestination, [
      serviceKeyAttribute(service),
      destinationAttribute(destination, options),
    ])
  }

  async editDestination(
    service: ServiceKey,
    destination: DestinationKey,
    options: DestinationOptions,
  ): Promise<void> {
    await this.request('edit destination', IpvsCommand.setDestination, [
      serviceKeyAttribute(service),
      destinationAttribute(destination, options),
    ])
  }

  async deleteDestination(service: ServiceKey, destination: DestinationKey): Promise<void> {
    await this.request('delete destination', IpvsCommand.deleteDestination, [
      serviceKeyAttribute(service),
      destinationAttribute(destination),
    ])
  }

  /** Zeroes the counters of one service and its destinations, or of all. */
  async zero(service?: ServiceKey): Promise<void> {
    const which = service ? [serviceKeyAttribute(service)] : []
    await this.request('zero counters', IpvsCommand.zero, which)
  }

  /** Deletes all services. Connections live on, as the kernel has it. */
  async flush(): Promise<void> {
    await this.request('flush services', IpvsCommand.flush, [])
  }

  async timeouts(): Promise<Timeouts> {
    const [answer] = await this.request('get timeouts', IpvsCommand.getConfig, [])
    return parseTimeouts(answer!)
  }

  /** In seconds; 0 leaves one as it is. */
  async setTimeouts(timeouts: Timeouts): Promise<void> {
    await this.request('set timeouts', IpvsCommand.setConfig, timeoutAttributes(timeouts))
  }

  /** The sync daemons that run: none, a master, a backup, or both. */
  async daemons(): Promise<SyncDaemon[]> {
    const answers = await this.request('list daemons', IpvsCommand.getDaemon, [], NLM_F_DUMP)
    return answers.map((answer) => parseDaemon(answer.nested(CommandAttribute.daemon)!))
  }

  async startDaemon(daemon: SyncDaemon): Promise<void> {
    await this.request('start daemon', IpvsCommand.newDaemon, [daemonAttribute(daemon)])
  }

  async stopDaemon(state: SyncDaemon['state']): Promise<void> {
    await this.request('stop daemon', IpvsCommand.deleteDaemon, [daemonStateAttribute(state)])
  }

  /** One after the other: the kernel refuses a second listing on a socket before the first has ended (EBUSY). */
  private request(
    operation: string,
    command: number,
    attributes: readonly Uint8Array[],
    flags = 0,
  ): Promise<Attributes[]> {
    const turn = this.last.then(async () => {
      try {
        const body = Buffer.concat(attributes)
        const [messages] = await this.socket.request(this.family, command, VERSION, body, { flags })
        return messages.map((message) => new Attributes(message.data))
      } catch (error) {
        throw refusal(error, operation)
      }
    })
    this.last = turn.catch(() => {})
    return turn
  }
}

async function familyNumber(socket: GenericNetlinkSocket): Promise<number> {
  const GET_FAMILY = 3
  try {
    const [answer] = await socket.ctrlRequest(GET_FAMILY, { familyName: FAMILY })
    return answer!.familyId!
  } catch (error) {
    throw refusal(error, 'find IPVS')
  }
}

/** The library says the errno in its message alone. */
function refusal(error: unknown, operation: string): Error {
  const code = /: (E[A-Z0-9]+|\d+)$/.exec((error as Error).message)?.[1]
  if (code === undefined) return error as Error
  return new KernelIpvsError(code, operation, { cause: error })
}
