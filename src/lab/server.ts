#!/usr/bin/env node
// A real server of the lab, which says who it is.
//   node server.js NAME [--http PORT]… [--udp ADDRESS:PORT]…
// HTTP on every address of the machine, at port 80 unless others are given:
//   GET  /bytes/N     N bytes anyone can compute again (payload.ts)
//   GET  /delay/MS    the name, after so many milliseconds
//   POST /sink        (or PUT) JSON: the name, how many bytes came, their SHA-256
//   GET  anything     the name
// Each answer carries the name in x-server. UDP: every datagram is answered with `NAME DATAGRAM`, from the
// address that it was sent to: hence one socket an address, a wildcard socket would answer from the route's.
import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { payload } from './payload.js'

function parseArguments(args: readonly string[]): {
  name: string
  httpPorts: number[]
  udp: { address: string; port: number }[]
} {
  let name = ''
  const httpPorts: number[] = []
  const udp: { address: string; port: number }[] = []
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!
    if (arg === '--http') httpPorts.push(Number(args[++i]))
    else if (arg === '--udp') {
      const [address, port] = args[++i]!.split(':')
      udp.push({ address: address!, port: Number(port) })
    } else name = arg
  }
  return { name, httpPorts: httpPorts.length > 0 ? httpPorts : [80], udp }
}

const { name, httpPorts, udp } = parseArguments(process.argv.slice(2))

function answer(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('x-server', name)
  const [, kind, figure] = (request.url ?? '/').split(/[/?]/)
  const isUpload = request.method === 'POST' || request.method === 'PUT'
  if (isUpload) {
    const hash = createHash('sha256')
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      hash.update(chunk)
    })
    request.on('end', () => {
      response.setHeader('content-type', 'application/json')
      response.end(`${JSON.stringify({ server: name, bytes, sha256: hash.digest('hex') })}\n`)
    })
  } else if (kind === 'bytes') {
    const total = Number(figure)
    response.setHeader('content-length', total)
    response.setHeader('content-type', 'application/octet-stream')
    Readable.from(payload(total)).pipe(response)
  } else if (kind === 'delay') {
    setTimeout(() => response.end(`${name}\n`), Number(figure))
  } else {
    response.end(`${name}\n`)
  }
}

const listening = httpPorts.map((port) => {
  const http = createServer({ keepAliveTimeout: 300_000 }, answer)
  // The kernel's queue of connections that wait to be accepted: 200 clients may come at once.
  http.listen({ port, host: '0.0.0.0', backlog: 1024 })
  return new Promise((resolve) => http.once('listening', resolve))
})

for (const { address, port } of udp) {
  const socket = createSocket('udp4')
  socket.on('message', (message, client) => {
    socket.send(Buffer.concat([Buffer.from(`${name} `), message]), client.port, client.address)
  })
  socket.bind(port, address)
  listening.push(new Promise((resolve) => socket.once('listening', resolve)))
}

await Promise.all(listening)
process.stdout.write(`${name}: ready\n`)
