import t from 'tap'
import { Names } from '../../src/control/ipvsadm/names.js'
import { parseRules, RulesError } from '../../src/control/rules.js'

const names = new Names()
const parse = (text: string) => parseRules(text, 'director.rules', names)

t.test('what ipvsadm-save writes, with comments and blank lines', async (t) => {
  const { places, ...rules } = await parse(`# the web
-A -t 10.0.0.1:80 -s rr

-a -t 10.0.0.1:80 -r 10.9.0.1:8080 -m -w 2   # first
ipvsadm -a -t 10.0.0.1:80 -r 10.9.0.2:8080 -m -w 1\r
-A -f 7 -s wlc -p 20
--set 0 0 60
`)
  t.strictSame(rules, {
    services: [
      {
        service: { protocol: 'tcp', address: '10.0.0.1', port: 80 },
        options: {
          scheduler: 'rr',
          schedulerFlags: [],
          persistentTimeoutSeconds: 0,
          persistentPrefixLength: 32,
          onePacket: false,
        },
        destinations: [2, 1].map((weight, i) => ({
          destination: { address: `10.9.0.${i + 1}`, port: 8080 },
          options: { forwarding: 'masquerade', weight, upperThreshold: 0, lowerThreshold: 0 },
        })),
      },
      {
        service: { fwmark: 7, family: 4 },
        options: {
          scheduler: 'wlc',
          schedulerFlags: [],
          persistentTimeoutSeconds: 20,
          persistentPrefixLength: 32,
          onePacket: false,
        },
        destinations: [],
      },
    ],
    timeouts: { tcp: 0, tcpFin: 0, udp: 60 },
  })
  t.equal(places?.get('tcp 10.0.0.1 80'), 'director.rules:2')
  t.equal(places?.get('tcp 10.0.0.1 80 > 10.9.0.2 8080'), 'director.rules:5')
  t.equal(places?.get(''), 'director.rules:7')
  t.strictSame(await parse('# nothing\n\n'), { services: [], places: new Map() })
})

t.test('errors say where and what', async (t) => {
  const good = '-A -t 10.0.0.1:80 -s rr\n'
  const cases: [text: string, message: string][] = [
    [
      `${good}  -A -t 10.0.0.1:99999 -s rr`,
      'director.rules:2:9: illegal virtual server address[:port] specified: 10.0.0.1:99999',
    ],
    [
      `${good}-a -t 10.0.0.1:80 -r 10.0.0.2 -w heavy`,
      'director.rules:2:34: illegal weight specified: heavy',
    ],
    [
      `${good}-A`,
      "director.rules:2:3: You need to supply the 'service-address' option for the 'add-service' command",
    ],
    [`${good}-A -t 10.0.0.2:80 --wieght`, 'director.rules:2:19: --wieght: unknown option'],
    [`${good}-A -t`, 'director.rules:2:4: -t: missing argument'],
    [`${good}-A -t 10.0.0.2:80 junk`, 'director.rules:2:19: unexpected argument junk'],
    [`${good}hello`, 'director.rules:2:1: hello is no command; a line starts with -A or -a'],
    [`${good}-C`, 'director.rules:2:1: -C has no place in a rules file; -A, -a and --set have'],
    [`${good}-Ln`, 'director.rules:2:1: -Ln has no place in a rules file; -A, -a and --set have'],
    [good + good, 'director.rules:2:1: this service is in the file already'],
    [
      `${good}-a -t 10.0.0.2:80 -r 10.9.0.1`,
      'director.rules:2:1: no line above adds the service that this server is for',
    ],
    [
      `${good}-a -t 10.0.0.1:80 -r 10.9.0.1 -m\n-a -t 10.0.0.1:80 -r 10.9.0.1:80 -g`,
      'director.rules:3:1: this service has this server already',
    ],
  ]
  for (const [text, message] of cases)
    await t.rejects(parse(text), { constructor: RulesError, message }, message)
})
