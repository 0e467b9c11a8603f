/** The result as one HTML page that needs nothing else, and its plots as files of their own. */
import { boundOf, judgeAll, roundsText, type Judgement } from '../suite/claims.js'
import type { Machine } from '../suite/machine.js'
import type { Plot } from '../suite/measurement.js'
import type { PartResult, RunResult, Sample } from '../suite/result.js'
import { isDisturbed, seriesOf, type Series } from '../suite/statistics.js'
import { unitOf } from '../suite/summary.js'
import { parametersText, threeDigits, withUnit } from '../suite/units.js'
import { pageStyle } from './page-style.js'
import { plotStyle, styleLines, styleSubjects, type LineStyle } from './palette.js'
import { plotData, type PlotData } from './panels.js'
import { ratioGauge } from './gauge.js'
import { inlinePlot, standalonePlot } from './plot.js'
import { element, escapeText } from './svg.js'

const html = (
  name: string,
  attributes: Readonly<Record<string, string>>,
  ...children: string[]
): string =>
  // Unlike in SVG, an element without children has its closing tag all the same.
  element(name, attributes, ...(children.length > 0 ? children : ['']))

const VERDICTS = {
  met: ['met', '✓ met'],
  'not met': ['unmet', '✗ not met'],
  'not measured': ['none', '– not measured'],
} as const

const rangeText = ({ lowest, highest }: { lowest: number; highest: number }, unit: string) =>
  `${withUnit(lowest, unit)} to ${withUnit(highest, unit)}`

function evidence(judgement: Judgement, unit: string): string {
  const { claim, ratio, values, parameters } = judgement
  if (ratio === undefined || values === undefined) return escapeText(`${judgement.reason ?? ''}. `)
  const { against } = values
  const other =
    typeof against === 'number'
      ? `a bound of ${withUnit(against, unit)}`
      : `${claim.againstParameters === undefined ? claim.against : `${claim.against} at ${parametersText(claim.againstParameters)}`}, ` +
        withUnit(against.median, unit)
  const where = parametersText(parameters ?? {})
  return (
    html('b', {}, `ratio ${threeDigits(ratio.median)}`) +
    escapeText(
      ` (${threeDigits(ratio.lowest)} to ${threeDigits(ratio.highest)} in ${roundsText(ratio.count)}), ` +
        `wanted ${boundOf(claim)}: ${claim.subject}, ${withUnit(values.subject.median, unit)}, against ${other}` +
        `${where === '' ? '' : `; ${where}`}. `,
    )
  )
}

/** As 'ratio 1.81, wanted ≤ 1: 72.4 ns against 40.0 ns'. */
function shortEvidence({ claim, ratio, values, reason }: Judgement, unit: string): string {
  if (ratio === undefined || values === undefined) return reason ?? ''
  const against = typeof values.against === 'number' ? values.against : values.against.median
  return (
    `ratio ${threeDigits(ratio.median)}, wanted ${boundOf(claim)}: ` +
    `${withUnit(values.subject.median, unit)} against ${withUnit(against, unit)}`
  )
}

/** @param isShort at the head of the page, where the part that has the evidence is a click away */
function claimItem(judgement: Judgement, unit: string, isShort: boolean): string {
  const [className, words] = VERDICTS[judgement.verdict]
  const { ratio, claim } = judgement
  return html(
    'li',
    {},
    html('span', { class: `verdict ${className}` }, words),
    html(
      'div',
      {},
      html('p', { class: 'text' }, escapeText(claim.text)),
      html(
        'p',
        { class: 'evidence' },
        ...(isShort
          ? [escapeText(shortEvidence(judgement, unit))]
          : [
              evidence(judgement, unit),
              html('code', { class: 'command' }, escapeText(judgement.command)),
            ]),
      ),
    ),
    ratio === undefined ? '<span></span>' : ratioGauge(ratio, claim, judgement.verdict === 'met'),
  )
}

const claimList = (result: RunResult, judgements: readonly Judgement[], isShort: boolean): string =>
  html(
    'ul',
    { class: 'claims' },
    ...judgements.map((judgement) => claimItem(judgement, unitOf(result, judgement), isShort)),
  )

/** Of more claims than these, those that are met can be unfolded. */
const MOST_CLAIMS = 8

function foldedClaims(result: RunResult, own: readonly Judgement[], isShort: boolean): string {
  if (own.length <= MOST_CLAIMS) return own.length > 0 ? claimList(result, own, isShort) : ''
  const met = own.filter(({ verdict }) => verdict === 'met')
  const others = own.filter(({ verdict }) => verdict !== 'met')
  return (
    (others.length > 0 ? claimList(result, others, isShort) : '') +
    html(
      'details',
      {},
      html('summary', {}, `${met.length} claims that are met`),
      claimList(result, met, isShort),
    )
  )
}

/** The claims of a part at the head of the page. */
function headline(
  result: RunResult,
  { name, title }: PartResult,
  judgements: readonly Judgement[],
): string {
  const own = judgements.filter(({ part }) => part === name)
  if (own.length === 0) return ''
  const met = own.filter(({ verdict }) => verdict === 'met').length
  return (
    html(
      'h3',
      {},
      html('a', { href: `#${name}` }, escapeText(title)),
      ` <span class="soft">${met} of ${own.length} met</span>`,
    ) + foldedClaims(result, own, true)
  )
}

const row = (tag: 'td' | 'th', cells: readonly string[], numbers: readonly number[]): string =>
  html(
    'tr',
    {},
    ...cells.map((cell, i) =>
      html(tag, numbers.includes(i) ? { class: 'number' } : {}, escapeText(cell)),
    ),
  )

const NUMBER_COLUMNS = [3, 4, 5, 6, 7]

function seriesTable(all: readonly Series[]): string {
  const heading = ['metric', 'parameters', 'subject', 'median', 'quartiles', 'lowest to highest']
  const rows = all.map(({ metric, parameters, subject, spread, samples, disturbed }) =>
    row(
      'td',
      [
        metric.name,
        parametersText(parameters),
        subject.name,
        withUnit(spread.median, metric.unit),
        rangeText({ lowest: spread.firstQuartile, highest: spread.thirdQuartile }, metric.unit),
        rangeText(spread, metric.unit),
        String(samples.length),
        String(disturbed),
      ],
      NUMBER_COLUMNS,
    ),
  )
  return html(
    'div',
    { class: 'scroll' },
    html(
      'table',
      {},
      html('thead', {}, row('th', [...heading, 'trials', 'disturbed'], NUMBER_COLUMNS)),
      html('tbody', {}, ...rows),
    ),
  )
}

interface DrawnPart {
  readonly series: Series[]
  readonly plots: { readonly data: PlotData; readonly styles: ReadonlyMap<string, LineStyle> }[]
}

function drawPart(part: PartResult, disturbedBound: number): DrawnPart {
  const series = seriesOf(part, disturbedBound)
  const subjects = styleSubjects(part.subjects)
  const plots = part.plots.flatMap((plot) => {
    const data = plotData(plot, series, disturbedBound)
    if (data === undefined) return []
    return [
      {
        data,
        styles: styleLines(
          data.panels.flatMap(({ lines }) => lines),
          subjects,
        ),
      },
    ]
  })
  return { series, plots }
}

function disturbanceNote(part: PartResult, disturbedBound: number): string[] {
  const disturbed = part.samples.filter((sample) => isDisturbed(sample, disturbedBound)).length
  if (disturbed === 0) return []
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`
  const most = (of: (sample: Sample) => number): string =>
    percent(part.samples.reduce((most, sample) => Math.max(most, of(sample)), 0))
  const byOthers = most(({ waitedShare, othersShare }) => Math.max(waitedShare, othersShare ?? 0))
  return [
    `${disturbed} of ${part.samples.length} samples are from disturbed trials, during which the hypervisor or other ` +
      `programs took more than ${percent(disturbedBound)} of the time (at most ${most(({ stolenShare }) => stolenShare)} and ` +
      `${byOthers}). They are drawn as rings and left out of medians and claims, unless a figure has too ` +
      'few others.',
  ]
}

function partSection(result: RunResult, part: PartResult, judgements: readonly Judgement[]) {
  const { series, plots } = drawPart(part, result.disturbedBound)
  const own = judgements.filter((judgement) => judgement.part === part.name)
  const notes = [...part.notes, ...disturbanceNote(part, result.disturbedBound)]
  return html(
    'section',
    { id: part.name, 'aria-labelledby': `${part.name}-title` },
    html('h2', { id: `${part.name}-title` }, escapeText(part.title)),
    html('p', {}, escapeText(part.description)),
    html('p', {}, html('code', { class: 'command' }, escapeText(`uvs bench ${part.name}`))),
    part.failure === undefined
      ? ''
      : html('p', { class: 'warning' }, escapeText(`Not complete: ${part.failure}.`)),
    foldedClaims(result, own, false),
    ...plots.map(({ data, styles }) =>
      html(
        'figure',
        {},
        html(
          'figcaption',
          {},
          html('h3', {}, escapeText(data.plot.title)),
          html('p', {}, escapeText(data.plot.caption)),
        ),
        html('div', { class: 'scroll', tabindex: '0' }, inlinePlot(data, styles)),
      ),
    ),
    notes.length === 0
      ? ''
      : html('ul', { class: 'notes' }, ...notes.map((note) => html('li', {}, escapeText(note)))),
    series.length === 0
      ? ''
      : html(
          'details',
          {},
          html('summary', {}, `All figures (${series.length})`),
          seriesTable(series),
        ),
  )
}

function machineList(machine: Machine, parts: readonly PartResult[]): string {
  const load = parts
    .map(({ name, loadAverage: { before, after } }) => {
      return `${name} ${before.toFixed(1)} to ${after.toFixed(1)}`
    })
    .join(', ')
  const { mitigations } = machine
  const inForce = Object.entries(mitigations).filter(([, text]) => !text.startsWith('Not affected'))
  const entries: (readonly [string, string])[] = [
    ['CPU', `${machine.cpu}, ${machine.cores} of them, ${machine.architecture}`],
    ['Caches', machine.caches],
    [
      'Memory',
      `${withUnit(machine.memoryBytes, 'bytes')}, huge pages ${machine.transparentHugePages}`,
    ],
    ['Kernel', machine.kernel],
    ['Hypervisor', machine.hypervisor],
    ['Frequency governor', machine.governor],
    ['CPUs allowed', machine.allowedCpus],
    ['Mitigations', inForce.map(([name, text]) => `${name}: ${text}`).join('; ') || 'none needed'],
    ['Node', `${machine.node}, V8 ${machine.v8}, flags ${machine.nodeFlags}`],
    ['uvs', `${machine.uvs}, commit ${machine.commit}`],
    ['Load average, before and after', load],
  ]
  return html(
    'dl',
    {},
    ...entries.map(([term, text]) => html('dt', {}, term) + html('dd', {}, escapeText(text))),
  )
}

/** JSON that may stand in a script element: no '<' can end it. */
const embedded = (result: RunResult): string => JSON.stringify(result).replace(/</g, '\\u003c')

const SAVE_SCRIPT = `document.getElementById('save').addEventListener('click',()=>{
const text=document.getElementById('raw').textContent
const link=document.createElement('a')
link.href=URL.createObjectURL(new Blob([text],{type:'application/json'}))
link.download='result.json'
link.click()
URL.revokeObjectURL(link.href)
})`

function score(judgements: readonly Judgement[], result: RunResult): string {
  const count = (verdict: Judgement['verdict']): number =>
    judgements.filter((judgement) => judgement.verdict === verdict).length
  const samples = result.parts.reduce((sum, part) => sum + part.samples.length, 0)
  const items: (readonly [string, string])[] = [
    [`${count('met')} of ${judgements.length}`, 'claims met'],
    [String(count('not met')), 'not met'],
    [String(count('not measured')), 'not measured'],
    [samples.toLocaleString('en-US'), 'samples'],
  ]
  return html(
    'ul',
    { class: 'score' },
    ...items.map(([value, words]) => html('li', {}, html('b', {}, value), html('span', {}, words))),
  )
}

/** What a reader has to know before any figure. */
function warnings({ quick, parts, disturbedBound }: RunResult): string[] {
  const failed = parts.filter(({ failure }) => failure !== undefined)
  const samples = parts.flatMap((part) => part.samples)
  const disturbed = samples.filter((sample) => isDisturbed(sample, disturbedBound)).length
  return [
    ...(quick
      ? [
          'A quick run: it shows that everything works. Its figures are of a few trials and mean little.',
        ]
      : []),
    ...(failed.length > 0
      ? [`Not complete: ${failed.map(({ name, failure }) => `${name} (${failure})`).join('; ')}.`]
      : []),
    ...(disturbed > samples.length / 2
      ? [
          `A busy machine: ${disturbed.toLocaleString('en-US')} of ${samples.length.toLocaleString('en-US')} samples ` +
            'are from trials that the hypervisor or other programs disturbed. Ratios of the same rounds say more ' +
            'than single figures; a quieter machine says most.',
        ]
      : []),
  ]
}

/** The whole page. */
export function renderReport(result: RunResult): string {
  const judgements = judgeAll(result)
  const { machine } = result
  const date = result.startedAt.slice(0, 16).replace('T', ' ')
  const title = 'What uvs costs'
  const body = [
    html(
      'header',
      { class: 'top' },
      html('h1', {}, title),
      html(
        'p',
        { class: 'lead' },
        escapeText(
          `The userspace virtual server, version ${machine.uvs}, beside its peers and the limits of the ` +
            `machine, measured in the same run on ${date} UTC: ${machine.cpu}, ${machine.cores} CPUs, ` +
            `Linux ${machine.kernel.split(' ')[0]!}, node ${machine.node}.`,
        ),
      ),
      ...warnings(result).map((text) => html('p', { class: 'warning' }, escapeText(text))),
      score(judgements, result),
      html(
        'nav',
        { 'aria-label': 'Parts' },
        html(
          'ul',
          {},
          ...result.parts.map(({ name, title: partTitle }) =>
            html('li', {}, html('a', { href: `#${name}` }, escapeText(partTitle))),
          ),
          html('li', {}, html('a', { href: '#method' }, 'How it is measured')),
        ),
      ),
    ),
    html(
      'main',
      {},
      judgements.length === 0
        ? ''
        : html(
            'section',
            { id: 'claims', 'aria-labelledby': 'claims-title' },
            html('h2', { id: 'claims-title' }, 'Claims'),
            ...result.parts.map((part) => headline(result, part, judgements)),
          ),
      ...result.parts.map((part) => partSection(result, part, judgements)),
      html(
        'section',
        { id: 'method', 'aria-labelledby': 'method-title' },
        html('h2', { id: 'method-title' }, 'How it is measured'),
        html(
          'p',
          {},
          'In each round every subject has a trial, one right after another, in an order that changes from round ' +
            'to round: what disturbs the machine for longer than a trial hits all of them. A claim is the median of ' +
            'the ratios of the same rounds; with it stand the lowest and the highest. A trial from which the hypervisor ' +
            `or other programs took more than ${result.disturbedBound * 100} % of the processors’ time is disturbed: ` +
            'it does not count, unless too few others remain. Plots show medians, a band ' +
            'from the lowest to the highest trial, a darker one between the quartiles, and the trials themselves.',
        ),
        html(
          'p',
          {},
          'Each part runs alone in a process of its own. The whole run again: ',
          html('code', { class: 'command' }, escapeText(result.command)),
        ),
        machineList(machine, result.parts),
        html('p', {}),
        html('button', { id: 'save', type: 'button' }, 'Save the raw data (JSON)'),
      ),
    ),
    html('footer', {}, 'Everything on this page is in it: it loads nothing from anywhere.'),
    html('script', { type: 'application/json', id: 'raw' }, embedded(result)),
    html('script', {}, SAVE_SCRIPT),
  ]
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width,initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    html('title', {}, `${title}: ${date}`),
    html('style', {}, pageStyle + plotStyle),
    '</head>',
    '<body>',
    ...body,
    '</body>',
    '</html>',
    '',
  ].join('\n')
}

const fileName = (words: string): string =>
  words
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')

/** A plot as a file of its own. */
export interface PlotFile {
  readonly part: string
  readonly plot: Plot
  readonly name: string
  readonly svg: string
}

/** Every plot for which there are data. */
export function renderPlots(result: RunResult): PlotFile[] {
  const { machine } = result
  const source =
    `${machine.cpu}, ${machine.cores} CPUs, Linux ${machine.kernel.split(' ')[0]!}, node ${machine.node}, ` +
    `${result.startedAt.slice(0, 10)}. Median, quartiles, lowest and highest trial. `
  return result.parts.flatMap((part) =>
    drawPart(part, result.disturbedBound).plots.map(({ data, styles }) => ({
      part: part.name,
      plot: data.plot,
      name: `${part.name}-${fileName(data.plot.title)}.svg`,
      svg: standalonePlot(data, styles, `${source}uvs bench ${part.name}`),
    })),
  )
}
