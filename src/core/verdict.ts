/** What the director decided about a packet. */
export const enum Verdict {
  /** Thrown away; the reason is in `director.reason` and has been counted. */
  drop = 0,
  /** Not the director's: goes on to the kernel's stack unchanged (IPVS's NF_ACCEPT). */
  decline = 1,
  /** Send `director.outLength` bytes from `director.outOffset` (an IP header) to next hop `director.outHop`. */
  forward = 2,
  /** A fragment: to be put together with the others of its packet, which then is to be processed. */
  gather = 3,
}

/**
 * Why a packet was dropped or declined, in the order of their counters. Every packet that is not
 * forwarded is counted under exactly one of them. Reasons are added at the end of their group.
 */
export const reasons = [
  // malformed: nothing is looked up for these
  'truncated-link-header',
  'truncated-ip-header',
  'bad-ip-version',
  'bad-header-length',
  'bad-total-length',
  'bad-ip-checksum',
  'truncated-transport-header',
  'bad-transport-checksum',
  'martian-source',
  'ip-options',
  // valid, not forwarded
  'fragment',
  'unsupported-protocol',
  'not-ip',
  'not-for-us',
  'no-service',
  'no-connection',
  'no-destination',
  'destination-unavailable',
  'overloaded',
  'table-full',
  'ttl-exceeded',
  'too-big',
  'no-route',
  'neighbour-unresolved',
  'neighbour-queue-full',
  'icmp-unrelated',
  'connection-template-only',
  'local-delivery',
  'no-frame',
  'drop-packet-defence',
  'no-call-id',
  'handover-full',
  'reassembly-timeout',
  'bad-offload-header',
] as const
export type Reason = (typeof reasons)[number]

/** Index of each reason in the counters. */
export const Reason = Object.fromEntries(reasons.map((name, i) => [name, i])) as Record<
  Reason,
  number
>
