import t from 'tap'
import { driversOf } from '../src/lab/topology.js'
import { checkForwarding } from './support/forwarding.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)
for (const driver of driversOf.dr)
  void t.test(`dr on ${driver}`, { skip }, (t) => checkForwarding(t, 'dr', driver))
