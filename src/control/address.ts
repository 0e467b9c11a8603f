import { SocketAddress, isIPv6 } from 'node:net'

/**
 * Reads an IPv4 address as inet_aton(3) does: one to four parts, each decimal, octal (0…) or hexadecimal
 * (0x…), the last filling the bytes that are left; what follows a blank is ignored. Undefined when it is none.
 */
export function parseLooseIpv4(text: string): number | undefined {
  const parts = text.split(/[ \t\n\v\f\r]/, 1)[0]!.split('.')
  if (parts.length > 4) return undefined
  let value = 0
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!
    let number: number
    if (/^0x[0-9a-f]+$/i.test(part)) number = parseInt(part.slice(2), 16)
    else if (/^0[0-7]*$/.test(part)) number = parseInt(part, 8)
    else if (/^[1-9][0-9]*$/.test(part)) number = Number(part)
    else return undefined
    const bytesLeft = i === parts.length - 1 ? 4 - i : 1
    if (number >= 256 ** bytesLeft) return undefined
    value += number * 256 ** (i === parts.length - 1 ? 0 : 3 - i)
  }
  return value
}

/** Dotted decimal text of an address in host order. */
export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`
}

/** Reads four decimal parts, as inet_pton(3): the only form that the API takes. */
export function parseIpv4(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (!match) return undefined
  let value = 0
  for (let i = 1; i <= 4; i++) {
    const part = match[i]!
    if (Number(part) > 255 || (part.length > 1 && part.startsWith('0'))) return undefined
    value = value * 256 + Number(part)
  }
  return value
}

/** The shortest text of an IPv6 address, as inet_ntop(3) writes it. Undefined when it is none. */
export function canonicalIpv6(text: string): string | undefined {
  if (!isIPv6(text) || text.includes('%')) return undefined
  return new SocketAddress({ address: text, family: 'ipv6' }).address
}

/** An IPv6 address as four 32-bit numbers. The text must be a valid address. */
export function ipv6Words(text: string): number[] {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text)
  if (dotted) {
    const v4 = parseIpv4(dotted[2]!)!
    text = `${dotted[1]}${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}`
  }
  const [head = '', tail] = text.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right]
  return [0, 2, 4, 6].map(
    (i) => ((parseInt(groups[i]!, 16) << 16) | parseInt(groups[i + 1]!, 16)) >>> 0,
  )
}

/** The one text that the director knows an address by; undefined when it is no address. */
export function canonicalAddress(text: string): string | undefined {
  const v4 = parseIpv4(text)
  return v4 === undefined ? canonicalIpv6(text) : formatIpv4(v4)
}

/** 4 or 6; the text must be an address. */
export function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4
}

/** Mask of a prefix length as dotted text: 24 is `255.255.255.0`. */
export function formatNetmask(prefixLength: number): string {
  return formatIpv4(prefixLength === 0 ? 0 : (-1 << (32 - prefixLength)) >>> 0)
}

/** Prefix length of a mask in host order; undefined when its ones are not all in front. */
export function prefixLengthOf(mask: number): number | undefined {
  const zeros = ~mask >>> 0
  if ((zeros & (zeros + 1)) !== 0) return undefined
  return Math.clz32(zeros)
}
