import type { Namespace } from '../../src/lab/lab.js'

/** What a daemon could leave behind in the kernel: devices, programs, addresses, routes, rules. */
export async function kernelState(director: Namespace): Promise<Record<string, string[]>> {
  const links = JSON.parse(await director.ip('-json', '-details', 'link', 'show')) as {
    ifname: string
    master?: string
    operstate: string
    xdp?: { mode: number }
  }[]
  const lines = (text: string): string[] =>
    text
      .split('\n')
      .map((line) => line.trimEnd())
      .filter((line) => line !== '')
      .sort()
  const addresses = JSON.parse(await director.ip('-json', 'address', 'show')) as {
    ifname: string
    addr_info: { local: string; prefixlen: number }[]
  }[]
  return {
    links: links.map(
      ({ ifname, master, operstate, xdp }) =>
        `${ifname} master ${master ?? 'none'} ${operstate} xdp ${xdp?.mode ?? 'none'}`,
    ),
    addresses: addresses.flatMap(({ ifname, addr_info }) =>
      addr_info.map(({ local, prefixlen }) => `${ifname} ${local}/${prefixlen}`),
    ),
    routes: lines(await director.ip('route', 'show', 'table', 'all')),
    rules: lines(await director.ip('rule', 'show')),
  }
}
