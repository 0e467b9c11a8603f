#!/usr/bin/env node
// A client of the live comparison: goes through a plan, one exchange after the other, prints who answered each
// (`0 server1`), then `done`, and holds the connections that it is to hold until a signal ends it.
//   node live-client.js PLAN.json
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import type { Exchange } from './live-plan.js'

const TIMEOUT_MS = 60_000

const plan = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as Exchange[]
const held: Socket[] = []

for (const [i, exchange] of plan.entries()) {
  const answer = await (exchange.protocol === 'tcp' ? askByTcp : askByUdp)(exchange).catch(
    (error: Error) => `no answer: ${error.message}`,
  )
  process.stdout.write(`${i} ${answer}\n`)
}
process.stdout.write('done\n')
// The connections that are held keep the process alive; where there are none, this does.
setInterval(() => held.length, 1 << 30)

async function askByTcp({ from, fromPort, to, port, end }: Exchange): Promise<string> {
  const socket = connect({ host: to, port, localAddress: from, localPort: fromPort })
  const closed = once(socket, 'close')
  let text = ''
  const answered = new Promise<void>((resolve, reject) => {
    socket.on('data', (data) => {
      text += data.toString()
      if (/\r\n\r\n.*\n$/s.test(text)) resolve()
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('closed')))
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('timeout')))
  })
  const header = end === 'server' ? 'Connection: close\r\n' : ''
  socket.write(`GET / HTTP/1.1\r\nHost: live\r\n${header}\r\n`)
  await answered
  socket.setTimeout(0)
  socket.removeAllListeners('error')
  socket.on('error', () => {})
  if (end === 'hold') held.push(socket)
  else {
    if (end === 'client') socket.end()
    if (end === 'reset') socket.resetAndDestroy()
    await closed
  }
  return /x-server: (\S+)/.exec(text)?.[1] ?? 'nobody'
}

async function askByUdp({ from, fromPort, to, port }: Exchange): Promise<string> {
  const socket = createSocket('udp4')
  try {
    socket.bind(fromPort, from)
    await once(socket, 'listening')
    socket.send('hello', port, to)
    const signal = AbortSignal.timeout(TIMEOUT_MS)
    const [message] = (await once(socket, 'message', { signal })) as [Buffer]
    return message.toString().split(' ')[0]!
  } finally {
    socket.close()
  }
}
