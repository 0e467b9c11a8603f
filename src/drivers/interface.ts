import { native } from '../kernel/native.js'

/** Receive queues of an interface, 1 where its driver does not say. */
export function interfaceQueues(name: string): number {
  return native().queueCount(name)
}
