import t from 'tap'
import { driversOf } from '../src/lab/topology.js'
import { checkForwarding } from './support/forwarding.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)
for (const driver of driversOf.nat)
  void t.test(`nat on ${driver}`, { skip }, (t) => checkForwarding(t, 'nat', driver))
