import t from 'tap'
import { figuresOf, insertFigures } from '../../bench/report/document.js'
import { escapeText } from '../../bench/report/svg.js'
import { renderPlots, renderReport } from '../../bench/report/report.js'
import {
  linearScale,
  logScale,
  measuredScale,
  niceAbove,
  niceBelow,
  spreadLabels,
} from '../../bench/report/scale.js'
import type { Plot } from '../../bench/suite/measurement.js'
import type { RunResult } from '../../bench/suite/result.js'
import { summarise } from '../../bench/suite/summary.js'
import { exampleRun, LATENCY, partOf, runOf, UVS } from './example.js'

const run = exampleRun()
const page = renderReport(run)

/** Throws unless every element is closed in its order; SVG, and HTML as the report writes it. */
function checkNesting(markup: string): void {
  const open: string[] = []
  const withoutText = markup.replace(/<(script|style)\b[^>]*>[\s\S]*?<\/\1>/g, '')
  for (const [, closing, name, selfClosing] of withoutText.matchAll(
    /<(\/?)([a-zA-Z][\w-]*)(?:\s+[\w:-]+="[^"<]*")*\s*(\/?)>/g,
  )) {
    if (selfClosing || name === 'meta') continue
    if (!closing) open.push(name!)
    else if (open.pop() !== name) throw new Error(`</${name}> does not close what is open`)
  }
  if (open.length > 0) throw new Error(`not closed: ${open.join(', ')}`)
  const tags = withoutText.match(/<[a-zA-Z/]/g)!.length
  const complete = withoutText.match(/<\/?[a-zA-Z][\w-]*(?:\s+[\w:-]+="[^"<]*")*\s*\/?>/g)!.length
  if (tags !== complete) throw new Error(`${tags - complete} tags are not well-formed`)
}

t.test('the page is well-formed and needs nothing else', async (t) => {
  t.doesNotThrow(() => checkNesting(page))
  t.notMatch(page, /<(?:link|img|iframe)\b|\bsrc=|url\(|@import/)
  t.notMatch(page.replace(/xmlns="[^"]*"/g, ''), /https?:\/\//)
  t.notMatch(page, /NaN|undefined|Infinity/)
})

t.test('the page has every claim with its verdict and command, and every part', async (t) => {
  for (const part of run.parts) {
    t.ok(page.includes(escapeText(part.title)), part.title)
    t.ok(page.includes(escapeText(part.description)), part.description)
    for (const claim of part.claims) t.ok(page.includes(escapeText(claim.text)), claim.text)
    for (const plot of part.plots) t.ok(page.includes(escapeText(plot.caption)), plot.caption)
  }
  t.match(page, /2 of 4<\/b>/)
  t.match(page, '✓ met')
  t.match(page, '✗ not met')
  t.match(page, '– not measured')
  t.match(page, 'this run has no packets per second of HAProxy')
  t.match(page, 'Not complete: needs root.')
  t.match(page, /class="warning">Not complete: \w+ \(needs root\)\.</)
  t.match(page, /ratio [\d.]+, wanted ≤ [\d.]+: [\d.]+ ns against [\d.]+ ns</)
  t.notMatch(page, 'A busy machine', 'a few disturbed trials are none')
  t.match(page, 'HAProxy is not installed')
  t.match(page, /3 of 140 samples are from disturbed trials, .* \(at most 20 % and 0 %\)/)
})

t.test('the page carries the raw data', async (t) => {
  const json = /<script type="application\/json" id="raw">(.*?)<\/script>/s.exec(page)![1]!
  t.same(JSON.parse(json), run)
})

t.test('names from a part cannot become markup', async (t) => {
  t.notMatch(page, '<DNAT>')
  const evil = runOf(partOf('</script><script>alert(1)</script>', []))
  t.notMatch(renderReport(evil), '<script>alert')
})

t.test('plots are files of their own, well-formed and described', async (t) => {
  const plots = renderPlots(run)
  t.same(
    plots.map(({ name }) => name),
    [
      'core-time-per-packet-by-connections.svg',
      'core-time-per-packet-by-connections-linear.svg',
      'wire-throughput-by-flows.svg',
      'wire-throughput-by-frame-size.svg',
      'schedulers-time-per-decision-by-destinations.svg',
    ],
  )
  for (const { name, svg } of plots) {
    t.doesNotThrow(() => checkNesting(svg), name)
    t.notMatch(svg, /NaN|undefined|Infinity/, name)
    t.match(svg, /<title>[^<]+<\/title><desc>[^<]+<\/desc>/, name)
  }
})

t.test('a run without anything makes a page all the same', async (t) => {
  t.doesNotThrow(() => checkNesting(renderReport(runOf())))
  t.same(renderPlots(runOf()), [])
})

t.test('the summary for a terminal has every claim', async (t) => {
  const text = summarise(run)
  for (const { claims } of run.parts)
    for (const claim of claims) t.ok(text.includes(claim.text), claim.text)
  t.match(text, /✗ Two random accesses bound it at 1M connections\n {4}not met: .*ratio 1\.26/)
})

t.test('axes', async (t) => {
  t.same([0.7, 1, 3, 10, 51].map(niceAbove), [1, 1, 5, 10, 100])
  t.same([0.7, 1, 3, 10, 51].map(niceBelow), [0.5, 1, 2, 10, 50])
  const linear = linearScale([3, 97], 0, 100, 5)
  t.same(linear.ticks, [0, 20, 40, 60, 80, 100])
  t.equal(linear.place(50), 50)
  t.same(linearScale([0], 0, 1, 5).domain, [0, 1])
  const log = logScale([2.5, 4000], 0, 100)
  t.same(log.domain, [2, 5000])
  t.same(log.ticks, [2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000])
  t.equal(log.place(100), 50)
  t.equal(log.place(0), 0)
  t.same(logScale([1.1, 2.2], 0, 1).domain, [1, 2.2 * 1.08])
  t.same(logScale([1.1, 2.2], 0, 1).ticks, [1, 1.5, 2])
  const single = logScale([7, 7], 0, 1)
  t.ok(single.domain[0] < 7 && single.domain[1] > 7 && single.ticks.length > 0)
  t.ok(logScale([], 0, 1).ticks.length > 0)
  const measured = measuredScale([1, 100, 10, 10], 0, 100, true)
  t.same(measured.ticks, [1, 10, 100])
  t.equal(measured.place(10), 50)
  t.ok(measuredScale([0, 10, 100], 0, 100, true).place(10) > 0)
  t.equal(measuredScale([5], 0, 100, false).place(5), 50)
  const times = measuredScale(
    Array.from({ length: 100 }, (_, i) => 4 * (i + 1)),
    0,
    99,
    false,
  )
  t.strictSame(times.ticks, [100, 200, 300, 400], 'round values where there are many')
  t.equal(times.place(4), 0)
})

t.test('labels are moved apart and stay inside', async (t) => {
  t.same(spreadLabels([10, 11, 50], 10, 0, 100), [10, 20, 50])
  t.same(spreadLabels([99, 100], 10, 0, 100), [90, 100])
  t.same(spreadLabels([20, 10], 10, 0, 100), [20, 10])
})

t.test(
  'the figures for docs/performance.md have every claim, and a plot of each part',
  async (t) => {
    const { markdown, plots } = figuresOf(run)
    for (const { claims } of run.parts)
      for (const claim of claims) t.ok(markdown.includes(`| ${claim.text} |`), claim.text)
    t.same(
      plots.map(({ name }) => name),
      [
        'core-time-per-packet-by-connections.svg',
        'wire-throughput-by-flows.svg',
        'schedulers-time-per-decision-by-destinations.svg',
      ],
    )
    for (const { name } of plots) t.ok(markdown.includes(`](images/${name})`), name)
    t.match(
      markdown,
      '| ✗ not met | Two random accesses bound it at 1M connections | 1.26 | ≤ 1.1 |',
    )
  },
)

t.test('figures are put between the marks of a page, and nothing else changes', async (t) => {
  const page = 'before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n'
  const once = insertFigures(page, 'new\n')
  t.equal(once, 'before\n<!-- figures -->\n\nnew\n\n<!-- /figures -->\nafter\n')
  t.equal(insertFigures(once, 'new\n'), once)
  t.throws(() => insertFigures('nothing', 'new'), /<!-- figures -->/)
})

t.test('a run of which most was disturbed begins with that', async (t) => {
  const busy: RunResult = {
    ...run,
    parts: run.parts.map((part) => ({
      ...part,
      samples: part.samples.map((sample) => ({ ...sample, waitedShare: 0.5 })),
    })),
  }
  t.match(renderReport(busy), /class="warning">A busy machine: (\d+) of \1 samples/)
})

t.test('a long label has room, and what has none is squeezed', async (t) => {
  for (const [length, squeezed] of [
    [48, false],
    [90, true],
  ] as const) {
    const part = partOf('long', [
      { metric: LATENCY, subject: UVS, parameters: { what: 'n'.repeat(length) }, values: [1, 2] },
    ])
    const plot: Plot = {
      title: 'Long',
      metric: LATENCY.name,
      x: 'what',
      xScale: 'category',
      yScale: 'linear',
      caption: 'Rows.',
    }
    const [drawn] = renderPlots(runOf({ ...part, plots: [plot] }))
    t.equal(drawn!.svg.includes('textLength="396"'), squeezed)
  }
})
