import { IpProtocol, swap32 } from '../wire/ipv4.js'
import { maskWordBe } from '../wire/ipv6.js'
import * as udp from '../wire/udp.js'
import { ConnectionFlag, H, LINE_HALFS, LINE_WORDS, W } from './connection.js'
import type { Connections } from './connections.js'
import type { Destination } from './destination.js'
import type { Packet } from './packet.js'
import { findCallId } from './persistence-engines/sip.js'
import { isFtp, type Service } from './service.js'
import type { Settings } from './settings.js'

/** Where templates go that are not to be found any more. */
const INVALID_PORT_BE = 0xffff
/** What `find` answers for a packet that has nothing to go by: it is dropped. */
export const NOTHING_TO_GO_BY = -1

/** IPPROTO_IP, the protocol of templates of firewall-mark services. */
const ANY_PROTOCOL = 0

/**
 * Persistence: a template is a connection without ports that remembers the destination of a client, or of
 * a client's network, at a service (ip_vs_sched_persist of net/netfilter/ipvs/ip_vs_core.c).
 *
 *     ordinary service    protocol, client:0, virtual:port  → destination:port
 *     any port, and FTP   protocol, client:0, virtual:0     → destination:0
 *     firewall mark       IP,       client:0, mark:0        → destination:0
 *
 * With the persistence engine sip a template has the Call-ID of its SIP messages besides, so that each call of
 * a client has its own.
 */
export class Templates {
  // The key of the template that was asked for last.
  private protocol = 0
  private readonly client = new Int32Array(4)
  private readonly virtual = new Int32Array(4)
  private virtualPortBe = 0
  private callId = ''

  /** @param bytes the memory that packets are in */
  constructor(
    private readonly connections: Connections,
    private readonly settings: Settings,
    private readonly bytes: Uint8Array,
  ) {}

  /**
   * The template that a packet of a persistent service is to follow, 0 when there is none, or NOTHING_TO_GO_BY.
   */
  find(service: Service, packet: Packet): number {
    this.protocol = packet.protocol
    const { client, virtual } = this
    for (let i = 0; i < client.length; i++) {
      client[i] = packet.sourceWord(i) & maskWordBe(service.clientPrefixLength, i)
      virtual[i] = packet.destinationWord(i)
    }
    this.virtualPortBe = 0
    if (isAtServicePort(service, packet)) {
      if (!isFtp(service)) this.virtualPortBe = packet.destinationPortBe
    } else if (service.mark !== 0) {
      this.protocol = ANY_PROTOCOL
      virtual.fill(0)
      virtual[0] = swap32(service.mark)
    }
    const template = service.goesByCallId
      ? this.findByCallId(packet)
      : this.findByAddress(service.family)
    if (template <= 0) return template
    const destination = this.connections.destinationOf(template)
    if (destination && this.isUsable(destination)) return template
    this.invalidate(template)
    return 0
  }

  private findByAddress(family: number): number {
    const { table } = this.connections
    const { protocol, client, virtual, virtualPortBe } = this
    return family === 6
      ? table.findTemplateIpv6(protocol, client, 0, virtual, 0, virtualPortBe)
      : table.findTemplate(protocol, client[0]!, virtual[0]!, virtualPortBe)
  }

  private findByCallId(packet: Packet): number {
    if (packet.protocol !== IpProtocol.udp) return NOTHING_TO_GO_BY
    const start = packet.transport + udp.HEADER_BYTES
    const callId = findCallId(this.bytes, start, packet.network + packet.totalBytes)
    if (callId === undefined) return NOTHING_TO_GO_BY
    this.callId = callId
    return this.connections.engineTemplates.find(this.key())
  }

  /** All that a packet has to share with an engine's template to follow it. */
  private key(): string {
    const { protocol, client, virtual, virtualPortBe, callId } = this
    return `${protocol} ${client.join()} ${virtual.join()} ${virtualPortBe} ${callId}`
  }

  /**
   * Makes the template that `find` has just not found.
   *
   * @returns 0 when the table is full
   */
  create(service: Service, packet: Packet, destination: Destination): number {
    const hasPort = isAtServicePort(service, packet) && !isFtp(service)
    const template = this.connections.create(
      service.family,
      this.protocol,
      this.client,
      0,
      0,
      this.virtual,
      0,
      this.virtualPortBe,
      destination,
      hasPort ? destination.portBe : 0,
      ConnectionFlag.template | (service.goesByCallId ? ConnectionFlag.engineTemplate : 0),
    )
    if (template === 0) return 0
    if (service.goesByCallId)
      this.connections.engineTemplates.add(template, this.key(), this.callId)
    this.connections.start(template, service.persistentTimeoutJiffies)
    return template
  }

  /** Starts the template's timer anew: one more connection has followed it. */
  touch(template: number): void {
    const timeout = this.connections.table.words[template * LINE_WORDS + W.timeout]!
    this.connections.touch(template, timeout)
  }

  private isUsable(destination: Destination): boolean {
    if (!destination.available) return false
    return this.settings.expireQuiescentTemplates === 0 || destination.weight > 0
  }

  /** Nothing follows the template any more; it stays as long as it controls connections (ip_vs_check_template). */
  private invalidate(template: number): void {
    const { table } = this.connections
    const half = template * LINE_HALFS
    table.unhash(template)
    table.halfs[half + H.clientPortBe] = 0
    table.halfs[half + H.virtualPortBe] = INVALID_PORT_BE
    table.halfs[half + H.destinationPortBe] = INVALID_PORT_BE
    table.hash(template)
    this.connections.engineTemplates.invalidate(template)
  }
}

/**
 * The destination port of a connection that follows a template: the destination's own for what comes to
 * the service's port, else that of the packet.
 */
export function persistentDestinationPortBe(
  service: Service,
  packet: Packet,
  destination: Destination,
): number {
  const portBe = packet.destinationPortBe
  return portBe === service.portBe && destination.portBe !== 0 ? destination.portBe : portBe
}

function isAtServicePort(service: Service, packet: Packet): boolean {
  return packet.destinationPortBe === service.portBe
}

/** True when the service's connections are for one packet each. */
export function isOnePacket(service: Service, packet: Packet): boolean {
  return service.onePacket && packet.protocol === IpProtocol.udp
}
