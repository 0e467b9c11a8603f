import type { Command, Replies, ServiceStatus } from '../core/commands.js'
import { KernelIpvsError, type IpvsClient } from '../kernel/ipvs/client.js'
import { readKernelSettings, writeKernelSetting } from '../kernel/ipvs/settings.js'
import type { CommandResult } from './api.js'
import type { Execute } from './reconcile.js'

/**
 * The kernel's IPVS as a director that carries commands out, so that whatever configures a uvsd can configure
 * it as well. What only a uvsd has, marking rules and steering, it refuses with ENOTSUP.
 */
export function kernelDirector(kernel: IpvsClient): Execute {
  return async (commands) => {
    const results: CommandResult[] = []
    for (const command of commands)
      try {
        results.push({ reply: await executeInKernel(kernel, command) })
      } catch (error) {
        if (!(error instanceof KernelIpvsError)) throw error
        results.push({ error: { code: error.code, message: error.message } })
      }
    return results
  }
}

async function executeInKernel(kernel: IpvsClient, command: Command): Promise<unknown> {
  switch (command.op) {
    case 'add-service':
      await kernel.addService(command.service, command.options)
      return null
    case 'edit-service':
      await kernel.editService(command.service, command.options)
      return null
    case 'delete-service':
      await kernel.deleteService(command.service)
      return null
    case 'flush':
      await kernel.flush()
      return null
    case 'add-destination':
      await kernel.addDestination(command.service, command.destination, command.options)
      return null
    case 'edit-destination':
      await kernel.editDestination(command.service, command.destination, command.options)
      return null
    case 'delete-destination':
      await kernel.deleteDestination(command.service, command.destination)
      return null
    case 'zero':
      await kernel.zero(command.service)
      return null
    case 'set-timeouts':
      await kernel.setTimeouts(command.timeouts)
      return null
    case 'get-timeouts':
      return kernel.timeouts()
    case 'list-services':
      return listServices(kernel, command)
    case 'get-settings': {
      const settings = readKernelSettings()
      return command.names
        ? Object.fromEntries(
            command.names.flatMap((name) => (name in settings ? [[name, settings[name]]] : [])),
          )
        : settings
    }
    case 'set-setting':
      return setSetting(command.name, command.value)
    default:
      throw new KernelIpvsError('ENOTSUP', command.op)
  }
}

async function listServices(
  kernel: IpvsClient,
  { service, from = 0, limit = Infinity }: Extract<Command, { op: 'list-services' }>,
): Promise<Replies['list-services']> {
  const { tableSize } = await kernel.info()
  if (service) {
    const found = await kernel.service(service)
    if (!found) throw new KernelIpvsError('ESRCH', 'get service')
    return { services: [found], total: 1, tableSize }
  }
  const services = await kernel.servicesAlone()
  const page: ServiceStatus[] = []
  for (const one of services.slice(from, from + limit))
    page.push({ ...one, destinations: await kernel.destinations(one.service) })
  return { services: page, total: services.length, tableSize }
}

function setSetting(name: string, value: string): null {
  try {
    writeKernelSetting(name, value)
    return null
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new KernelIpvsError(code ?? 'EIO', `set ${name}=${value}`, { cause: error })
  }
}
