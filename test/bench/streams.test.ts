// What iperf3, wrk and /proc/stat say, as the benchmark of streams reads it.
import t from 'tap'
import { parseBusyNs } from '../../bench/streams/busy-time.js'
import { parseIperf, parseWrk } from '../../bench/streams/loads.js'

void t.test('iperf3: what arrived, not what was sent', (t) => {
  const end = {
    sum_sent: { bytes: 2e9, bits_per_second: 16e9 },
    sum_received: { bytes: 1e9, bits_per_second: 8e9 },
  }
  t.strictSame(parseIperf(JSON.stringify({ start: {}, end })), { rate: 8e9, amount: 8 })
  t.throws(
    () => parseIperf(JSON.stringify({ start: {}, end: {}, error: 'unable to connect to server' })),
    { message: 'iperf3: unable to connect to server' },
  )
  t.throws(() => parseIperf('iperf3: parameter error\n'), {
    message: 'iperf3: iperf3: parameter error',
  })
  t.end()
})

const wrk = (errors: string): string => `Running 1s test @ http://10.64.0.100/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.33ms  409.41us   8.30ms   85.31%
    Req/Sec    48.27k     2.71k   51.53k    81.82%
  52811 requests in 1.10s, 14.25MB read
${errors}Requests/sec:  48016.83
Transfer/sec:     12.96MB
`

void t.test('wrk: requests, and no result where many of them fail', (t) => {
  t.strictSame(parseWrk(wrk('')), { rate: 48016.83, amount: 52811 })
  const few = '  Socket errors: connect 0, read 3, write 0, timeout 5\n'
  t.strictSame(parseWrk(wrk(few)), { rate: 48016.83, amount: 52811 })
  t.throws(() => parseWrk(wrk('  Socket errors: connect 0, read 500, write 0, timeout 100\n')), {
    message: 'wrk: 600 of 52811 requests failed',
  })
  t.throws(() => parseWrk(wrk('  Non-2xx or 3xx responses: 52811\n')), {
    message: 'wrk: 52811 of 52811 requests failed',
  })
  t.throws(() => parseWrk('unable to connect to 10.64.0.100:http Connection refused\n'), {
    message: 'wrk: unable to connect to 10.64.0.100:http Connection refused',
  })
  t.end()
})

void t.test('busy: all but idle, waiting for a disk, and stolen', (t) => {
  const stat = 'cpu  100 20 300 4000 50 6 70 8000 9 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n'
  t.equal(parseBusyNs(stat), (100 + 20 + 300 + 6 + 70) * 1e7)
  t.end()
})
