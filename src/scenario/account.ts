/** A trace told to people. */
import { summary } from './decode.js'
import type { TraceRecord } from './trace.js'

/**
 * What came of one directive, as lines of text.
 *
 * @param lines the scenario's directives by their line numbers
 */
export function describeRecord(record: TraceRecord, lines: ReadonlyMap<number, string>): string {
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
  return (
    title +
    record.out
      .map(({ side, dmac, ip }) => `  ${side} ${dmac} ${summary(Buffer.from(ip, 'hex'))}\n`)
      .join('')
  )
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '  ')
}
