import t from 'tap'
import type { MarkRule } from '../../src/core/commands.js'
import { MarkRules } from '../../src/core/marks.js'
import { Packet } from '../../src/core/packet.js'
import { addressBe, portBe } from '../support/packets.js'

function markOf(
  rules: MarkRule[],
  more: Partial<{
    source: string
    to: string
    port: number
    protocol: number
    inPort: number
  }> = {},
): number {
  const marks = new MarkRules(['eth0', 'eth1'])
  marks.set(rules)
  const packet = new Packet(new Int32Array(0))
  packet.protocol = more.protocol ?? 6
  packet.sourceBe = addressBe(more.source ?? '198.51.100.7')
  packet.destinationBe = addressBe(more.to ?? '192.0.2.1')
  packet.ports = portBe(1234) | (portBe(more.port ?? 80) << 16)
  packet.inPort = more.inPort ?? 0
  return marks.markOf(packet)
}

t.test('a rule without conditions marks all', (t) => {
  t.equal(markOf([{ mark: 5 }]), 5)
  t.equal(markOf([{ mark: 0xffffffff }]), 0xffffffff)
  t.equal(markOf([]), 0)
  t.end()
})

t.test('the last rule that matches wins, also with mark 0', (t) => {
  t.equal(markOf([{ mark: 1 }, { mark: 2 }, { mark: 3, protocol: 'udp' }]), 2)
  t.equal(markOf([{ mark: 1 }, { mark: 0, protocol: 'tcp' }]), 0)
  t.end()
})

t.test('each condition must hold', (t) => {
  const rule: MarkRule = {
    mark: 9,
    protocol: 'tcp',
    source: '198.51.100.0/25',
    destination: '192.0.2.1',
    ports: [80, 90],
    interface: 'eth1',
  }
  t.equal(markOf([rule], { inPort: 1 }), 9)
  t.equal(markOf([rule], { inPort: 1, port: 90 }), 9)
  t.equal(markOf([rule]), 0, 'interface')
  t.equal(markOf([rule], { inPort: 1, port: 91 }), 0, 'port above')
  t.equal(markOf([rule], { inPort: 1, port: 79 }), 0, 'port below')
  t.equal(markOf([rule], { inPort: 1, source: '198.51.100.128' }), 0, 'source')
  t.equal(markOf([rule], { inPort: 1, to: '192.0.2.2' }), 0, 'destination')
  t.equal(markOf([rule], { inPort: 1, protocol: 17 }), 0, 'protocol')
  t.equal(markOf([{ mark: 1, interface: 'eth9' }]), 0, 'an interface that is none of ours')
  t.end()
})

t.test('what makes no sense is refused with the rule’s number', (t) => {
  const refused: [MarkRule, RegExp][] = [
    [{ mark: -1 }, /rule 1: mark -1/],
    [{ mark: 2 ** 32 }, /rule 1: mark/],
    [{ mark: 1, ports: [9, 8] }, /rule 1: ports 9 to 8/],
    [{ mark: 1, ports: [0, 65536] }, /65536/],
    [{ mark: 1, source: 'nowhere' }, /source 'nowhere'/],
    [{ mark: 1, destination: '10.0.0.0/33' }, /destination '10.0.0.0\/33'/],
    [{ mark: 1, protocol: 'icmp' as 'tcp' }, /protocol 'icmp'/],
  ]
  for (const [rule, message] of refused) t.throws(() => markOf([rule]), { code: 'EINVAL', message })
  t.end()
})
