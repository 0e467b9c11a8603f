/** How the report looks: light and dark by the reader's setting, narrow and wide. */
export const pageStyle = `
:root{--page:#f5f6f9;--paper:#fff;--ink:#1c2330;--soft:#5b6472;--rule:#dfe3ea;--accent:#0068a8;
--good:#00734f;--good-paper:#e3f4ec;--bad:#b3261e;--bad-paper:#fbe9e7;--none:#6d7480;--none-paper:#eceef2}
@media (prefers-color-scheme:dark){:root{--page:#0e121a;--paper:#161b24;--ink:#e8ebf1;--soft:#a3adbc;
--rule:#303848;--accent:#5cb8f0;--good:#4fd1a1;--good-paper:#12352a;--bad:#ff9a8f;--bad-paper:#43201d;
--none:#9aa3b2;--none-paper:#232a37}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:1rem;color-scheme:light dark}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main,header.top,footer{max-width:1060px;margin:0 auto;padding:0 1.25rem}
header.top{padding-top:2.75rem;padding-bottom:.5rem}
h1{font-size:2.1rem;line-height:1.15;letter-spacing:-.02em;margin:0 0 .5rem}
h2{font-size:1.5rem;line-height:1.25;letter-spacing:-.01em;margin:0 0 .5rem}
h3{font-size:1.08rem;margin:0 0 .2rem}
p{margin:0 0 .8rem;max-width:72ch}
a{color:var(--accent)}
code,kbd{font-family:ui-monospace,"SF Mono",Menlo,Consolas,monospace;font-size:.88em}
.command{display:inline-block;background:var(--none-paper);border-radius:6px;padding:.1em .5em;user-select:all}
.lead{font-size:1.1rem;color:var(--soft)}
.score{display:flex;flex-wrap:wrap;gap:.6rem;margin:1.2rem 0 0;padding:0;list-style:none}
.score li{background:var(--paper);border:1px solid var(--rule);border-radius:10px;padding:.5rem 1rem;min-width:7.5rem}
.score b{display:block;font-size:1.6rem;line-height:1.2}
.score span{color:var(--soft);font-size:.85rem}
nav ul{display:flex;flex-wrap:wrap;gap:.4rem 1.1rem;list-style:none;padding:0;margin:1.2rem 0 0}
section{background:var(--paper);border:1px solid var(--rule);border-radius:14px;padding:1.6rem;margin:1.3rem 0}
.claims{list-style:none;margin:0;padding:0}
.claims li{display:grid;grid-template-columns:8.7rem minmax(0,1fr) 260px;gap:.2rem 1.1rem;align-items:center;
padding:.85rem 0;border-top:1px solid var(--rule)}
.claims li:first-child{border-top:0}
.claims .evidence{color:var(--soft);font-size:.9rem;margin:0;max-width:none}
.claims .text{font-weight:600;margin:0;max-width:none}
.soft{color:var(--soft);font-weight:400;font-size:.9rem}
#claims h3{margin:1.5rem 0 .2rem}
#claims h3:first-of-type{margin-top:.6rem}
.verdict{justify-self:start;border-radius:99px;padding:.12rem .7rem;font-size:.86rem;font-weight:650;white-space:nowrap}
.verdict.met{color:var(--good);background:var(--good-paper)}
.verdict.unmet{color:var(--bad);background:var(--bad-paper)}
.verdict.none{color:var(--none);background:var(--none-paper)}
.gauge{width:260px;max-width:100%;height:auto;font-size:11px}
.gauge .track{fill:var(--none-paper)}.gauge .good{fill:var(--good);fill-opacity:.28}
.gauge .bound{stroke:var(--ink);stroke-width:1.5}.gauge .bound-text{fill:var(--soft);text-anchor:middle}
.gauge .range{stroke-width:3}.gauge .range.met{stroke:var(--good)}.gauge .range.unmet{stroke:var(--bad)}
.gauge .dot{stroke:var(--paper);stroke-width:2}.gauge .dot.met{fill:var(--good)}.gauge .dot.unmet{fill:var(--bad)}
figure{margin:1.6rem 0 0}
figcaption{margin-bottom:.7rem}
figcaption p{color:var(--soft);margin:0;font-size:.95rem;max-width:80ch}
.scroll{overflow-x:auto}
.scroll .plot{display:block;width:100%;min-width:620px;height:auto}
details{margin-top:1.2rem;border-top:1px solid var(--rule);padding-top:.7rem}
summary{cursor:pointer;font-weight:600}
table{border-collapse:collapse;width:100%;font-size:.88rem;margin-top:.7rem}
th,td{text-align:left;padding:.32rem .8rem .32rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td.number,th.number{text-align:right}
td.number{white-space:nowrap}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.25rem 1.2rem;margin:0;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
ul.notes{padding-left:1.1rem;margin:1rem 0 0;font-size:.94rem}
.warning{background:var(--bad-paper);color:var(--ink);border-radius:8px;padding:.6rem .9rem;margin:.8rem 0 0;max-width:none}
button{font:inherit;color:var(--accent);background:none;border:1px solid var(--rule);border-radius:8px;padding:.35rem .9rem;cursor:pointer}
footer{color:var(--soft);font-size:.9rem;padding-bottom:3rem}
@media (max-width:760px){.claims li{grid-template-columns:minmax(0,1fr)}section{padding:1.1rem}h1{font-size:1.65rem}
dl{grid-template-columns:minmax(0,1fr)}dd{margin-bottom:.4rem}}
@media print{body{background:#fff}section{break-inside:avoid;border:0;padding:0}}
`
