import { ApiClient } from '../control/api-client.js'
import type { Replies } from '../core/commands.js'
import type { PortCounters } from '../port/packet-port.js'
import { takeSocket } from './uvsadm-main.js'

const help = `Shows what has become of a running director's packets: in and out by port, and how many were not
forwarded, by reason.

Usage: uvs counters [--socket PATH] [--all] [--json]

  --all     reasons that have not occurred as well
  --json    everything, as JSON
`

interface Status {
  ports: { name: string; counters: PortCounters }[]
}

/** `uvs counters`: every packet is in them, forwarded or under exactly one reason. */
export async function main(args: string[]): Promise<number> {
  const { socket, rest } = takeSocket(args)
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(help)
    return 0
  }
  const unknown = rest.find((arg) => arg !== '--json' && arg !== '--all')
  if (unknown !== undefined) {
    process.stderr.write(`uvs counters: it takes no '${unknown}'\n`)
    return 2
  }
  const client = new ApiClient(socket)
  const { ports } = (await client.status()) as Status
  const counters = await client.counters()
  process.stdout.write(
    rest.includes('--json')
      ? `${JSON.stringify({ ports, ...counters }, undefined, 2)}\n`
      : format(ports, counters, rest.includes('--all')),
  )
  return 0
}

function format(ports: Status['ports'], counters: Replies['get-counters'], all: boolean): string {
  const portLines = ports.map(({ name, counters: c }) =>
    row([name, c.rxPackets, c.rxBytes, c.rxDropped, c.txPackets, c.txBytes, c.txDropped]),
  )
  const reasonLines = Object.entries(counters.reasons)
    .filter(([, count]) => all || count > 0)
    .map(([reason, count]) => `${reason.padEnd(REASON_WIDTH)}${String(count).padStart(14)}`)
  return [
    row(['Port', 'RxPackets', 'RxBytes', 'RxDropped', 'TxPackets', 'TxBytes', 'TxDropped']),
    ...portLines,
    '',
    `${'Connections'.padEnd(REASON_WIDTH)}${String(counters.connections).padStart(14)}`,
    '',
    `${'Not forwarded, by reason'.padEnd(REASON_WIDTH)}${'Packets'.padStart(14)}`,
    ...reasonLines,
    '',
  ].join('\n')
}

const REASON_WIDTH = 28

function row([name, ...cells]: (string | number)[]): string {
  return `${String(name).padEnd(18)}${cells.map((cell) => String(cell).padStart(13)).join('')}`
}
