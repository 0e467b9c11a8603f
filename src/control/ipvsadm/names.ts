import { lookup, lookupService } from 'node:dns/promises'
import { readFileSync } from 'node:fs'
import type { ServiceProtocol } from '../../core/commands.js'
import { familyOf } from '../address.js'

/** Names of services and their ports, as /etc/services has them. */
export class ServiceNames {
  private readonly ports = new Map<string, number>()
  private readonly names = new Map<string, string>()

  /** @param text contents of /etc/services; the first line for a name or port wins. */
  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [name, portAndProtocol, ...aliases] = line.replace(/#.*/, '').trim().split(/\s+/)
      const match = /^(\d+)\/(\w+)$/.exec(portAndProtocol ?? '')
      if (!name || !match) continue
      const port = Number(match[1])
      const protocol = match[2]!
      if (!this.names.has(`${port}/${protocol}`)) this.names.set(`${port}/${protocol}`, name)
      for (const alias of [name, ...aliases])
        if (!this.ports.has(`${alias}/${protocol}`)) this.ports.set(`${alias}/${protocol}`, port)
    }
  }

  /** Those of the system; empty when it has no /etc/services. */
  static ofSystem(): ServiceNames {
    try {
      return new ServiceNames(readFileSync('/etc/services', 'utf8'))
    } catch {
      return new ServiceNames('')
    }
  }

  /** ipvsadm looks names up for TCP and UDP only. */
  portOf(name: string, protocol: ServiceProtocol | undefined): number | undefined {
    return protocol === 'tcp' || protocol === 'udp'
      ? this.ports.get(`${name}/${protocol}`)
      : undefined
  }

  nameOf(port: number, protocol: ServiceProtocol | undefined): string | undefined {
    return protocol === 'tcp' || protocol === 'udp'
      ? this.names.get(`${port}/${protocol}`)
      : undefined
  }
}

/** Thrown by the parser when it needs the address of a host name that has not been asked for yet. */
export class HostNameNeeded extends Error {
  constructor(readonly host: string) {
    super(`the address of ${host} has not been looked up`)
  }
}

/**
 * Names as the system's resolver knows them. The parser and the formatter are synchronous and read what has
 * been looked up already; `resolving` is the loop around them that looks up what they miss.
 */
export class Names {
  private readonly addresses = new Map<string, string | undefined>()
  private readonly hosts = new Map<string, string>()

  constructor(readonly services: ServiceNames = ServiceNames.ofSystem()) {}

  /** IPv4 address of a host name, undefined when it has none. Throws HostNameNeeded when nobody asked yet. */
  addressOf(host: string): string | undefined {
    if (!this.addresses.has(host)) throw new HostNameNeeded(host)
    return this.addresses.get(host)
  }

  /** Name of an address, or the address itself when `lookUpHosts` found none. */
  hostOf(address: string): string {
    return this.hosts.get(address) ?? address
  }

  /** Runs `parse` until it misses no host name any more. */
  async resolving<Result>(parse: () => Result): Promise<Result> {
    for (;;) {
      try {
        return parse()
      } catch (error) {
        if (!(error instanceof HostNameNeeded)) throw error
        this.addresses.set(error.host, await firstAddress(error.host))
      }
    }
  }

  /** Asks for the names of addresses, each once. As in ipvsadm, IPv6 addresses stay numbers. */
  async lookUpHosts(addresses: Iterable<string>): Promise<void> {
    const missing = new Set<string>()
    for (const address of addresses)
      if (familyOf(address) === 4 && !this.hosts.has(address)) missing.add(address)
    await Promise.all(
      [...missing].map(async (address) => {
        const name = await lookupService(address, 0).then(
          (found) => found.hostname,
          () => address,
        )
        this.hosts.set(address, name)
      }),
    )
  }
}

async function firstAddress(host: string): Promise<string | undefined> {
  // The resolver would take an empty name for the local host.
  if (host === '') return undefined
  try {
    return (await lookup(host, { family: 4 })).address
  } catch {
    return undefined
  }
}
