import { text } from 'node:stream/consumers'
import { ApiClient } from '../control/api-client.js'
import { runMark } from '../control/marks.js'
import { takeSocket } from './uvsadm-main.js'

/** `uvs mark`: marking rules of a running director. */
export async function main(args: string[]): Promise<number> {
  const { socket, rest } = takeSocket(args)
  const client = new ApiClient(socket)
  return runMark(rest, (commands) => client.execute(commands), {
    readStdin: () => text(process.stdin),
    stdout: (out) => process.stdout.write(out),
    stderr: (out) => process.stderr.write(out),
  })
}
