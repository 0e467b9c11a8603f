import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'

/** An address of either family, for what is rarer than a packet. */
export interface Address {
  readonly family: 4 | 6
  /** Four words in network order; an IPv4 address is the first, with 0 behind it. */
  readonly words: Int32Array
}

/** Undefined when the text is no address of either family. */
export function parseAddress(text: string): Address | undefined {
  if (text.includes(':')) {
    const words = ipv6.parseAddress(text)
    return words && { family: 6, words }
  }
  const addressBe = ipv4.parseAddress(text)
  return addressBe === undefined ? undefined : addressOfIpv4(addressBe)
}

export function addressOfIpv4(addressBe: number): Address {
  return { family: 4, words: Int32Array.of(addressBe, 0, 0, 0) }
}

export function formatAddress({ family, words }: Address): string {
  return family === 6 ? ipv6.formatAddress(words) : ipv4.formatAddress(words[0]!)
}

/** With a port in host order, as `10.0.0.1:80` and `[fd00::1]:80`. */
export function formatEnd(address: Address, port: number): string {
  const text = formatAddress(address)
  return address.family === 6 ? `[${text}]:${port}` : `${text}:${port}`
}

export function isSameAddress(a: Address, b: Address): boolean {
  return a.family === b.family && ipv6.isSameAddress(a.words, 0, b.words, 0)
}

/** Of all services by firewall mark. */
export const noAddress = {
  4: addressOfIpv4(0),
  6: { family: 6, words: new Int32Array(4) },
} as const
