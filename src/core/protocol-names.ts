import { IpProtocol } from '../wire/ipv4.js'
import type { ServiceProtocol } from './commands.js'

const numbers: Record<ServiceProtocol, number> = {
  tcp: IpProtocol.tcp,
  udp: IpProtocol.udp,
  sctp: IpProtocol.sctp,
}

/** IP protocol number of a service's protocol, undefined for any other text. */
export function protocolNumber(name: string): number | undefined {
  return Object.hasOwn(numbers, name) ? numbers[name as ServiceProtocol] : undefined
}
