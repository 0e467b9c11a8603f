/** What crews under test balance: a service by each kind of key, three masqueraded servers each. */
import type { ServiceKey } from '../../../src/core/commands.js'
import { destinationOptions, serviceOptions, VIP } from '../harness.js'
import type { CrewHarness } from './crew-harness.js'

export const web: ServiceKey = { protocol: 'tcp', address: VIP, port: 80 }
export const dns: ServiceKey = { protocol: 'udp', address: VIP, port: 53 }
const mail: ServiceKey = { protocol: 'tcp', address: '192.0.2.9', port: 25 }
const marked: ServiceKey = { fwmark: 7, family: 4 }

/** By number, with the address and port that their packets go to. */
export const services = [web, dns, mail, marked]
export const VIRTUAL = [VIP, VIP, '192.0.2.9', '203.0.113.5']
export const PORTS = [80, 53, 25, 8080]

export const client = (n: number): string => `198.51.100.${10 + n}`
export const server = (n: number): string => `10.0.0.${10 + n}`

/** Configures it. */
export function begin(
  crew: CrewHarness,
  scheduler: string,
  isPersistent: (service: number) => boolean = () => false,
): void {
  crew.execute({
    op: 'set-marks',
    rules: [{ mark: 7, protocol: 'tcp', destination: '203.0.113.0/24', ports: [8080, 8080] }],
  })
  services.forEach((service, i) => {
    crew.execute({
      op: 'add-service',
      service,
      options: serviceOptions({ scheduler, persistentTimeoutSeconds: isPersistent(i) ? 60 : 0 }),
    })
    for (let n = 0; n < 3; n++)
      crew.execute({
        op: 'add-destination',
        service,
        destination: { address: server(n), port: PORTS[i]! },
        options: destinationOptions({ weight: 1 + n }),
      })
  })
}
