/** The schedulers that are measured, each with the flags that change what it does. */
import { schedulerFlagBits } from '../../src/core/schedulers/flags.js'
import { schedulers } from '../../src/core/schedulers/index.js'

/** A scheduler with flags, named as 'sh+port'. */
export interface Candidate {
  readonly name: string
  readonly scheduler: string
  /** As ipvsadm -b has them. */
  readonly flags: readonly string[]
}

/** What is known of a scheduler before it is measured. */
export interface Kind {
  /** How the work of a decision grows with the number n of servers, in the kernel's code as in this one. */
  readonly order: 'O(1)' | 'O(n)' | 'O(1), full O(n)'
  /** It looks at nothing but the packet: what a decision costs must not depend on the number of servers. */
  readonly isHash: boolean
  /** A weight is a number of connections, and not only a proportion. */
  readonly weighsConnections: boolean
  /** It goes by the address that clients ask for: meant for many of them, behind a firewall mark. */
  readonly goesBySite: boolean
  /** What it is for, as the end of a sentence that begins with 'for'. */
  readonly purpose: string
}

const kind = (order: Kind['order'], purpose: string, more: Partial<Kind> = {}): Kind => ({
  order,
  isHash: false,
  weighsConnections: false,
  goesBySite: false,
  purpose,
  ...more,
})

export const kinds: Readonly<Record<string, Kind>> = {
  rr: kind('O(1)', 'equal servers and short connections of about equal cost'),
  wrr: kind('O(1)', 'unequal servers and short connections of about equal cost'),
  lc: kind('O(n)', 'equal servers and connections of very unequal length'),
  wlc: kind('O(n)', 'unequal servers and connections of very unequal length'),
  lblc: kind(
    'O(1), full O(n)',
    'caches behind a firewall mark, each of which holds its own part of the sites',
    {
      weighsConnections: true,
      goesBySite: true,
    },
  ),
  lblcr: kind(
    'O(1), full O(n)',
    'such caches, where some sites are more than one cache can serve',
    {
      weighsConnections: true,
      goesBySite: true,
    },
  ),
  dh: kind('O(1)', 'equal caches behind a firewall mark, with no memory of who has what', {
    isHash: true,
    goesBySite: true,
  }),
  sh: kind('O(1)', 'clients that have to meet the same server, with weights below 256 in all', {
    isHash: true,
  }),
  sed: kind('O(n)', 'very unequal servers, where the strong one shall not wait for the weak ones'),
  nq: kind('O(n)', 'few connections at a time: nobody waits while a server is idle'),
  fo: kind('O(n)', 'one server at work and the others in reserve'),
  ovf: kind('O(n)', 'filling one server up to its weight before the next is used', {
    weighsConnections: true,
  }),
  mh: kind('O(1)', 'clients that have to meet the same server, also when servers come and go', {
    isHash: true,
  }),
  twos: kind('O(n)', 'many directors that balance the same servers without knowing of each other'),
}

const DEFAULTS = [
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'dh',
  'sh',
  'sh+port',
  'sh+fallback',
  'sed',
  'nq',
  'fo',
  'ovf',
  'mh',
  'mh+port',
  'mh+fallback',
  'twos',
]

export const kindOf = ({ scheduler }: Candidate): Kind => kinds[scheduler]!

/** What it is for, flags considered, as the end of a sentence that begins with 'for'. */
export function purposeOf(candidate: Candidate): string {
  const { purpose } = kindOf(candidate)
  if (candidate.flags.some((flag) => flag.endsWith('-port')))
    return 'directors that have to agree on the server of each connection without a word, not of each client'
  return candidate.flags.some((flag) => flag.endsWith('-fallback'))
    ? `${purpose}, and are not to be refused while theirs is drained`
    : purpose
}

/**
 * A scheduler by its name, with flags behind plus signs: 'mh', 'mh+port', 'sh+port+fallback'.
 *
 * @throws Error that names what there is not
 */
export function parseCandidate(text: string): Candidate {
  const [scheduler, ...words] = text.trim().split('+')
  if (!schedulers.has(scheduler!) || kinds[scheduler!] === undefined)
    throw new Error(
      `there is no scheduler '${scheduler}': it is one of ${Object.keys(kinds).join(', ')}`,
    )
  const flags = words.map((word) => (word.startsWith('flag-') ? word : `${scheduler}-${word}`))
  if (schedulerFlagBits(scheduler!, flags) === undefined)
    throw new Error(`${text}: ${scheduler} has no such flag; sh and mh have +port and +fallback`)
  return { name: [scheduler, ...words].join('+'), scheduler: scheduler!, flags }
}

/** @param text separated by commas; all, if it is undefined */
export function parseCandidates(text: string | undefined): Candidate[] {
  const names = text === undefined ? DEFAULTS : text.split(',')
  return [...new Map(names.map((name) => [name.trim(), parseCandidate(name)])).values()]
}
