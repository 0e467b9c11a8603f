/** A trace told to people. */
import { summary } from './decode.js'
import type { Directive, Event } from './scenario.js'
import type { SentPacket, Trace, TraceRecord } from './trace.js'
import { MTU } from './wiring.js'

/** What one reads of a whole run: each directive at its time, what came of it, and the end. */
export interface Run {
  readonly directives: readonly Directive[]
  readonly events: readonly Event[]
  readonly trace: Trace
  /** Why settings were not taken, by the events that are about them. */
  readonly refusals: ReadonlyMap<Event, string>
}

/** A run told to people, in pieces that each end a line. */
export function* describeRun({ directives, events, trace, refusals }: Run): Generator<string> {
  const source = new Map(directives.map((directive) => [directive.line, directive]))
  const texts = new Map(directives.map(({ line, text }) => [line, text]))
  const records = trace.values()
  let atMs = 0
  for (const event of events) {
    if (event.atMs !== atMs) yield `at ${event.atMs / 1000} s\n`
    atMs = event.atMs
    if (event.kind === 'sysctl') {
      yield `${event.line}: ${texts.get(event.line) ?? ''}\n`
      const refusal = refusals.get(event)
      if (refusal !== undefined) yield `  refused: ${refusal}\n`
      continue
    }
    let text = describeRecord(records.next().value as TraceRecord, texts)
    if (event.kind === 'packet') {
      const [title, ...rest] = text.split(/(?<=\n)/)
      // Of a line that is a whole capture, or bytes, one sees which packet it is about.
      const directive = source.get(event.line)
      const isInWords = directive?.kind === 'packet' && !directive.text.startsWith('raw')
      if (!isInWords) text = `${title}  (${summary(event.packet)})\n${rest.join('')}`
      if (event.packet.length > MTU)
        text = `${title}  lost: ${event.packet.length} bytes are more than the link's MTU, ${MTU}\n`
    }
    yield text
  }
  yield describeRecord(records.next().value as TraceRecord, texts)
}

/**
 * What came of one directive, as lines of text.
 *
 * @param lines the scenario's directives by their line numbers
 */
export function describeRecord(record: TraceRecord, lines: ReadonlyMap<number, string>): string {
  const { before, ...rest } = record
  if (before) return `as time passes:\n${packetLines(before)}${describeRecord(rest, lines)}`
  if ('end' in record) {
    const connections = record.connections.map(
      ({ pro, expire, state, source, virtual, destination }) =>
        `  ${pro} ${state} ${source} > ${virtual} > ${destination}, ${expire} s left\n`,
    )
    return (
      `at the end: ${connections.length} connections\n${connections.join('')}` +
      `${indent(record.services)}`
    )
  }
  const title = `${record.line}: ${lines.get(record.line) ?? ''}\n`
  if ('exit' in record)
    return (
      title +
      (record.exit === 0 ? '' : `  exit status ${record.exit}\n`) +
      indent(record.stdout) +
      indent(record.stderr)
    )
  if (record.declined) return `${title}  left to the director's own stack\n`
  if (record.out.length === 0) return `${title}  nothing leaves the director\n`
  return title + packetLines(record.out)
}

function packetLines(packets: readonly SentPacket[]): string {
  return packets
    .map(({ side, dmac, ip }) => `  ${side} ${dmac} ${summary(Buffer.from(ip, 'hex'))}\n`)
    .join('')
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '  ')
}
