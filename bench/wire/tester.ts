/**
 * The box that measures: sends frames into directors by one interface each and takes them back by another. It
 * runs in the testbed's namespace, since BPF programs find interfaces in the namespace of who loads them, and as
 * a process of its own, since sending blocks it.
 */
import { XdpLink } from '../../src/kernel/bpf/objects.js'
import { native } from '../../src/kernel/native.js'
import { readMonotonic } from '../../src/kernel/sleep.js'
import { parseMac } from '../../src/wire/ethernet.js'
import { parseAddress } from '../../src/wire/ipv4.js'
import { frameTemplate } from './frame.js'
import { FrameGenerator, FrameReceiver, latencyAt } from './programs.js'
import {
  CLIENT_NETWORK,
  INTERRUPTION,
  SERVICE_PORT,
  type FromTester,
  type Lane,
  type ToTester,
  type TrialOrder,
  type TrialResult,
} from './tester-messages.js'

/** The program looks at its clock until it is interrupted, or so many times, which is some minutes. */
const RUNS = 2 ** 31 - 1
/** Frames that leave together when they are due together, and how long one that is due may wait for others. */
const BATCH = 16
/** What is under way when the last frame has been sent has this long to come back. */
const SETTLE_MS = 20

interface OpenLane extends Lane {
  readonly transmitIndex: number
  readonly receiver: FrameReceiver
}

const generator = new FrameGenerator()
const lanes: OpenLane[] = []
let trials = 0
const links: XdpLink[] = []

const reply = (message: FromTester): void => void process.send!(message)

process.on('message', (message: ToTester) => {
  handle(message).then(reply, (error: Error) => reply({ kind: 'failed', message: error.message }))
})
// It is what ends a run: see Testbed.measure.
process.on(INTERRUPTION, () => undefined)
process.on('disconnect', () => process.exit(0))

async function handle(message: ToTester): Promise<FromTester> {
  if (message.kind === 'trial') return { kind: 'result', result: await trial(message.order) }
  for (const lane of message.lanes) {
    const receiver = new FrameReceiver(parseAddress(lane.serverAddress)!)
    links.push(XdpLink.attach(receiver.program, native().interfaceIndex(lane.receive), 'native'))
    const transmitIndex = native().interfaceIndex(lane.transmit)
    lanes.push({ ...lane, transmitIndex, receiver })
  }
  return { kind: 'opened' }
}

async function trial(order: TrialOrder): Promise<TrialResult> {
  const { transmit, transmitIndex, receiver, directorMac, virtualAddress } = lanes[order.lane]!
  const mark = ++trials
  const template = frameTemplate({
    frameBytes: order.frameBytes,
    sourceMac: native().interfaceMac(transmit)!,
    destinationMac: parseMac(directorMac)!,
    sourceBe: parseAddress(CLIENT_NETWORK)!,
    destinationBe: parseAddress(virtualAddress)!,
    destinationPort: SERVICE_PORT,
    mark,
  })
  receiver.start(mark)
  const startNs = readMonotonic()
  const endNs = startNs + BigInt(Math.round(order.durationMs * 1e6))
  const { packetsPerSecond, flows, firstFlow } = order
  generator.prepare({
    template,
    interfaceIndex: transmitIndex,
    packetsPerSecond,
    flows,
    ...(firstFlow === undefined ? {} : { firstFlow }),
    startNs,
    endNs,
  })
  while (readMonotonic() < endNs) generator.run(RUNS, BATCH)
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
  const received = receiver.read()
  return {
    wanted: Math.floor((order.packetsPerSecond * order.durationMs) / 1000),
    sent: generator.sent,
    received: received.packets,
    ...(received.packets > 0 && {
      latencyNs: {
        p50: latencyAt(received, 0.5),
        p99: latencyAt(received, 0.99),
        p999: latencyAt(received, 0.999),
        max: received.largestNs,
      },
    }),
  }
}
