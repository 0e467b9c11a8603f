#!/usr/bin/env node
// Sends datagrams to a UDP echo, each from a socket of its own, and prints an answer a line in order:
// what came, and from where (`server1 hello-0 192.168.10.100:5353`), or `no answer`. The sockets stay open to
// the end, so that each has a port of its own: one used again would be an old connection to the director.
// With BYTES, datagrams are filled up to so many with dots.
//   node echo-client.js ADDRESS PORT COUNT [TIMEOUT_MS [BYTES]]
import { createSocket, type Socket } from 'node:dgram'

const sockets: Socket[] = []
const [address, port, count, timeoutMs, bytes] = process.argv.slice(2)

for (let i = 0; i < Number(count); i++) {
  const answer = await new Promise<string>((resolve) => {
    const socket = createSocket('udp4')
    sockets.push(socket)
    const timer = setTimeout(() => finish('no answer'), Number(timeoutMs ?? 2000))
    const finish = (text: string): void => {
      clearTimeout(timer)
      resolve(text)
    }
    socket.on('error', (error) => finish(`no answer: ${error.message}`))
    socket.on('message', (message, from) => finish(`${message} ${from.address}:${from.port}`))
    socket.send(`hello-${i}`.padEnd(Number(bytes ?? 0), '.'), Number(port), address!)
  })
  process.stdout.write(`${answer}\n`)
}
for (const socket of sockets) socket.close()
