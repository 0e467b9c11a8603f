import type { DestinationOptions, ServiceKey, ServiceOptions } from '../../../src/core/commands.js'
import { tcpPacket } from '../../support/packets.js'
import { Harness, tcpService, VIP } from '../harness.js'

export const service: ServiceKey = tcpService()

/** Of the n-th destination. */
export const end = (n: number): string => `10.0.0.${n}:80`

/** A service whose list, from its head, is 10.0.0.1, 10.0.0.2, … with these weights. */
export function withWeights(scheduler: string, ...weights: number[]): Harness {
  return withFlags(scheduler, [], ...weights)
}

export function withFlags(
  scheduler: string,
  schedulerFlags: string[],
  ...weights: number[]
): Harness {
  const h = new Harness()
  h.addService(service, { scheduler, schedulerFlags })
  for (let i = weights.length; i >= 1; i--)
    h.addDestination(service, end(i), { weight: weights[i - 1]! })
  return h
}

/** ipvsadm -E: only what is given changes. */
export function editService(h: Harness, change: Partial<ServiceOptions>): void {
  const { options } = h.service(service)
  h.execute({ op: 'edit-service', service, options: { ...options, ...change } })
}

/** ipvsadm -e: only what is given changes. */
export function edit(h: Harness, n: number, change: Partial<DestinationOptions>): void {
  const { forwarding, weight, upperThreshold, lowerThreshold } = h.destination(service, end(n))
  h.editDestination(service, end(n), {
    forwarding,
    weight,
    upperThreshold,
    lowerThreshold,
    ...change,
  })
}

let port = 1024

/** The port that the next connection comes from. */
export function nextPort(): number {
  return port
}

/** Where the next connections go: the last number of each destination's address, `-` for nowhere. */
export function choices(h: Harness, count: number, flags = 'S'): string {
  let text = ''
  for (let i = 0; i < count; i++) text += choice(h, `198.51.100.9:${port++}`, VIP, flags)
  return text
}

/** The same of one connection from an address and port of a client. */
export function choice(h: Harness, from: string, virtual = VIP, flags = 'S'): string {
  const out = h.send(tcpPacket({ from, to: `${virtual}:80`, flags }))
  return out.reason === undefined ? String(out.packet![19]) : '-'
}

/** Establishes and resets the connection from a port: it is inactive then. */
export function closed(h: Harness, from: number): void {
  for (const flags of ['A', 'R'])
    h.send(tcpPacket({ from: `198.51.100.9:${from}`, to: `${VIP}:80`, flags }))
}
