/**
 * A connection is a number: the index of its 64-byte line in the connection table's shared memory.
 * This file is the layout of that line and the kernel's constants for it; behaviour is elsewhere.
 *
 * Addresses and ports are kept as they stand in the packet (network order, read as native integers on a
 * little-endian machine, hence `Be`), so the hot path moves them without swapping.
 *
 * IPv4 fits one line. A connection with an IPv6 address takes two neighbouring lines, the first of an even
 * number, and is known by that: it is laid out like any other, with the fold of each address
 * (ipv6.foldAddress) in place of the address; the second has the first three words of each, from which and the
 * fold the fourth follows. An IPv4 address there is four words like the others (see wire/ipv6.ts).
 */

/** Bytes in a line, a cache line of every machine that matters here. */
export const LINE_BYTES = 64
export const LINE_WORDS = LINE_BYTES / 4
export const LINE_HALFS = LINE_BYTES / 2

/** Offsets in 32-bit words from the line's start. */
export const enum W {
  clientBe = 0,
  virtualBe = 1,
  destinationBe = 2,
  /** Client port in the low half, virtual port in the high half: the packet's ports word on a request. */
  ports = 3,
  /** Destination port in the low half, then protocol and family: H.destinationPortBe, B.protocol, B.family. */
  protocolWord = 4,
  /** ConnectionFlag bits. */
  flags = 5,
  /** Index of the destination in the director's destination slots, -1 when there is none. */
  destination = 6,
  /** B.state, B.timer and B.destinationFamily. */
  stateWord = 7,
  /** Deadline in jiffies; the timer fires behind it (timer-wheel.ts). */
  expires = 8,
  /** What the timer was set to run for, in jiffies: the timeout of the present state. */
  timeout = 9,
  /** Timer wheel links: connection numbers; the first of a slot has the slot's complement before it. */
  timerNext = 10,
  timerPrevious = 11,
  /** Packets from the client. */
  inPackets = 12,
  /** The template that controls this connection, 0 when none. */
  control = 13,
  /** How many connections this template controls. */
  controlled = 14,
  /** Cached next hop towards the client: hop in the low half, Neighbours.generation in the high half. */
  clientHop = 15,
}

/**
 * Offsets in 32-bit words from the first line's start, of the second line of a connection with an IPv6 address:
 * three words each. The word at LINE_WORDS + W.protocolWord stays 0: the line is no connection's of its own.
 */
export const enum Wide {
  client = LINE_WORDS,
  virtual = LINE_WORDS + 5,
  destination = LINE_WORDS + 8,
}

/** Offsets in 16-bit halves from the line's start. */
export const enum H {
  clientPortBe = 6,
  virtualPortBe = 7,
  destinationPortBe = 8,
}

/** Offsets in bytes from the line's start. */
export const enum B {
  /** IP protocol number; 0 (IPPROTO_IP) for templates of firewall-mark services. */
  protocol = 18,
  /** Of client and virtual address: 4 or 6; 0 when the line is free. */
  family = 19,
  /** State of the protocol's state machine. */
  state = 28,
  /** Timer wheel's own, see Timer in timer-wheel.ts; 0 while the line is not linked in it. */
  timer = 29,
  /** Of the destination's address: 4 or 6. Where it is not the connection's own, the connection is tunneled. */
  destinationFamily = 30,
}

/** W.destination of a connection without a destination. */
export const NO_DESTINATION = -1

/** Connection flags, the kernel's IP_VS_CONN_F_* of include/uapi/linux/ip_vs.h. */
export const enum ConnectionFlag {
  forwardingMask = 0x0007,
  masquerade = 0x0000,
  localNode = 0x0001,
  tunnel = 0x0002,
  directRoute = 0x0003,
  bypass = 0x0004,
  sync = 0x0020,
  hashed = 0x0040,
  noOutput = 0x0080,
  inactive = 0x0100,
  outSequence = 0x0200,
  inSequence = 0x0400,
  sequenceMask = 0x0600,
  noClientPort = 0x0800,
  template = 0x1000,
  onePacket = 0x2000,
  /** Not the kernel's: a template that goes by what a persistence engine found, and is not in the index. */
  engineTemplate = 0x1000000,
  /** Not the kernel's: it was found by a firewall mark, so its packets are the director's only if they are marked. */
  byMark = 0x2000000,
  /**
   * Not the kernel's: its client is an address that no packet is taken from. Only an ICMP error can have made it, of the
   * packet that it quotes.
   */
  martian = 0x4000000,
}
