import type { Command, Replies, Reply, ServiceKey, ServiceStatus } from './commands.js'

/**
 * Puts together what a command has answered in parts, each of which has the reply's shape, see Director.carryOut.
 *
 * @param parts in the order in which they came, one at least
 */
export function joinParts<C extends Command>(op: C['op'], parts: readonly Reply<C>[]): Reply<C> {
  const join = joiners[op as keyof Replies] as ((parts: readonly unknown[]) => unknown) | undefined
  return (join ? join(parts) : parts.at(-1)) as Reply<C>
}

/** Of the replies that may come in several parts. */
const joiners: { [Op in keyof Replies]?: (parts: readonly Replies[Op][]) => Replies[Op] } = {
  'list-services': (parts) => {
    const services: ServiceStatus[] = []
    for (const service of parts.flatMap((part) => part.services)) {
      const last = services.at(-1)
      if (last === undefined || !isSame(last.service, service.service))
        services.push({ ...service, destinations: [...service.destinations] })
      // A service that did not come to its end with its part.
      else last.destinations.push(...service.destinations)
    }
    return { ...parts.at(-1)!, services }
  },
  'get-steering': (parts) => ({
    virtual: parts.flatMap(({ virtual }) => virtual),
    // Destinations of several services may be of one real server.
    replies: [
      ...new Map(
        parts
          .flatMap(({ replies }) => replies)
          .map((one) => [`${one.protocol} ${one.address} ${one.port}`, one]),
      ).values(),
    ],
    marks: parts.flatMap(({ marks }) => marks),
  }),
  'list-engine-templates': (parts) => parts.flat(),
}

function isSame(one: ServiceKey, other: ServiceKey): boolean {
  if ('fwmark' in one || 'fwmark' in other)
    return (
      'fwmark' in one &&
      'fwmark' in other &&
      one.fwmark === other.fwmark &&
      one.family === other.family
    )
  return one.protocol === other.protocol && one.address === other.address && one.port === other.port
}
