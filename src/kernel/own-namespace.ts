import { native } from './native.js'

/** Moves this thread, and the processes that it starts, to a new network namespace; the old one goes when nobody uses it. */
export function enterNewNetworkNamespace(): void {
  native().enterNewNetworkNamespace()
}

/** Turns an offload of an interface on or off; see ethtool's legacy names. */
export function setOffload(interfaceName: string, offload: 'tx' | 'gro', on: boolean): void {
  native().setOffload(interfaceName, offload, on)
}
