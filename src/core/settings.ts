/**
 * The knobs of net.ipv4.vs.* and of the ICMP rate limits, with the kernel's defaults
 * (Documentation/networking/ipvs-sysctl.rst, Documentation/networking/ip-sysctl.rst). One object, read on
 * the packet path; only those that something here obeys.
 */
export interface Settings {
  /** 1: a SYN that meets a connection in TIME_WAIT is scheduled anew; +2: in FIN_WAIT too, when replies are not seen; 0: never. */
  connectionReuseMode: number
  /** A packet of a connection whose destination was removed ends the connection and is scheduled anew, instead of being dropped. */
  expireNoDestinationConnections: boolean
  /** Templates whose destination has weight 0 are not followed. */
  expireQuiescentTemplates: boolean
  /** TCP connections may begin with any packet but a RST. */
  sloppyTcp: boolean
  /** Path MTU discovery through tunnels: the outer header copies DF, packets too big are answered. */
  pathMtuDiscovery: boolean
  /** ICMP errors to one host: one in so many jiffies after a burst of six. */
  icmpRateLimitJiffies: number
  /** ICMP errors in all: so many a second, in bursts of at most `icmpMessagesBurst`. */
  icmpMessagesPerSecond: number
  icmpMessagesBurst: number
}

export function defaultSettings(): Settings {
  return {
    connectionReuseMode: 1,
    expireNoDestinationConnections: false,
    expireQuiescentTemplates: false,
    sloppyTcp: false,
    pathMtuDiscovery: true,
    icmpRateLimitJiffies: 100,
    icmpMessagesPerSecond: 1000,
    icmpMessagesBurst: 50,
  }
}
