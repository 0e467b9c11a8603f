import type {
  Command,
  Counters,
  DestinationStatus,
  Rates,
  Replies,
  Reply,
  ServiceStatus,
} from '../commands.js'

/**
 * What a crew of directors answers to a command as one, of the replies of each. Counters and rates are added up; the
 * counts of connections are common already.
 */
export function mergeReplies<C extends Command>(
  op: C['op'],
  replies: readonly Reply<C>[],
): Reply<C> {
  const merge = mergers[op as keyof Replies] as
    ((replies: readonly unknown[]) => unknown) | undefined
  return (merge && replies.length > 1 ? merge(replies) : replies[0]) as Reply<C>
}

/** Of the replies that are not alike. */
const mergers: {
  [Op in keyof Replies]?: (replies: readonly Replies[Op][]) => Replies[Op]
} = {
  'list-services': (replies) => {
    const [first] = replies
    return {
      services: first!.services.map((service, i) =>
        mergeServices(
          service,
          replies.map(({ services }) => services[i]!),
        ),
      ),
      total: first!.total,
      tableSize: sum(replies.map(({ tableSize }) => tableSize)),
    }
  },
  'get-counters': (replies) => ({
    reasons: addUp(replies.map(({ reasons }) => reasons)),
    connections: sum(replies.map(({ connections }) => connections)),
    total: addUp(replies.map(({ total }) => total)),
  }),
  'list-engine-templates': (replies) => replies.flat(),
}

function mergeServices(first: ServiceStatus, all: readonly ServiceStatus[]): ServiceStatus {
  return {
    ...first,
    ...mergeCounts(all),
    destinations: first.destinations.map((destination, i) => ({
      ...destination,
      ...mergeCounts(all.map(({ destinations }) => destinations[i]!)),
    })),
  }
}

function mergeCounts(all: readonly (ServiceStatus | DestinationStatus)[]): {
  counters: Counters
  rates: Rates
} {
  return {
    counters: addUp(all.map(({ counters }) => counters)),
    rates: addUp(all.map(({ rates }) => rates)),
  }
}

/** The sums of numbers of the same names. */
function addUp<T extends object>(all: readonly T[]): T {
  const names = Object.keys(all[0]!) as (keyof T)[]
  return Object.fromEntries(
    names.map((name) => [name, sum(all.map((one) => one[name] as number))]),
  ) as T
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
