import { JIFFIES_PER_SECOND } from '../port/clock.js'
import { formatAddress, IpProtocol, swap16 } from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import type { ConnectionStatus, EngineTemplate } from './commands.js'
import { ConnectionFlag } from './connection.js'
import type { ConnectionSnapshot, ConnectionTable } from './connection-table.js'
import { Protocols } from './protocols/index.js'

/** Only for the names of states, which no setting changes. */
const protocols = new Protocols()

/**
 * A connection in the kernel's words, as `ipvsadm -Lnc` shows it. Templates of firewall-mark services have
 * protocol IP and their mark, written as an address, in place of the virtual one. Needs nothing but the
 * table's memory, so any thread may ask.
 */
export function describeConnection(
  snapshot: ConnectionSnapshot,
  nowJiffies: number,
): ConnectionStatus {
  const { family, destinationFamily, protocol, flags, state, wide } = snapshot
  return {
    protocol: protocolName(protocol),
    expiresSeconds: Math.max(
      0,
      Math.floor(((snapshot.expires - nowJiffies) | 0) / JIFFIES_PER_SECOND),
    ),
    state: protocols.stateName(protocol, flags, state),
    client: text(family, wide?.client, snapshot.clientBe),
    clientPort: swap16(snapshot.clientPortBe),
    virtual: text(family, wide?.virtual, snapshot.virtualBe),
    virtualPort: swap16(snapshot.virtualPortBe),
    destination: text(destinationFamily, wide?.destination, snapshot.destinationBe),
    destinationPort: swap16(snapshot.destinationPortBe),
    isTemplate: (flags & ConnectionFlag.template) !== 0,
  }
}

/**
 * All connections of a table, in no order that means anything; those that end meanwhile are left out.
 *
 * @param engineTemplates the director's reply to `list-engine-templates`
 */
export function* describeConnections(
  table: ConnectionTable,
  nowJiffies: number,
  engineTemplates: readonly EngineTemplate[] = [],
): Generator<ConnectionStatus> {
  const byConnection = new Map(engineTemplates.map((template) => [template.connection, template]))
  for (let connection = table.first(); connection !== 0; connection = table.next(connection)) {
    const snapshot = table.snapshot(connection)
    if (!snapshot) continue
    const status = describeConnection(snapshot, nowJiffies)
    const template = byConnection.get(connection)
    if (template && status.isTemplate) {
      status.persistenceEngine = template.engine
      status.persistenceData = template.data
    }
    yield status
  }
}

function text(family: number, wide: Int32Array | undefined, addressBe: number): string {
  return family === 6 && wide ? ipv6.formatAddress(wide) : formatAddress(addressBe)
}

function protocolName(protocol: number): ConnectionStatus['protocol'] {
  if (protocol === IpProtocol.tcp) return 'TCP'
  if (protocol === IpProtocol.udp) return 'UDP'
  return protocol === IpProtocol.sctp ? 'SCTP' : 'IP'
}
