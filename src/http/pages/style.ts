/**
 * The one style of all pages, light and dark.
 *
 * Colours are named once for each theme and nowhere else: a test computes the contrast of every pair that is text on a
 * ground (4.5 at least) or a mark on it (3 at least), as WCAG 2.2 AA asks.
 */

/** What is allowed by its hash: not a byte may be changed on its way. */
export const STYLE = `
:root{color-scheme:light dark;--ground:#ffffff;--text:#1b1f24;--quiet:#57606a;--line:#d0d7de;--soft:#f3f5f7;--link:#0a58ca;
--tag:#57606a;--ok:#1a7f37;--warning:#8f5200;--critical:#b3261e;--on-tag:#ffffff;--good-mark:#1a7f37;--bad-mark:#c62828;--other-mark:#8f5200;--plain-mark:#6e7781}
@media(prefers-color-scheme:dark){:root{--ground:#14171b;--text:#e6e9ec;--quiet:#a9b1ba;--line:#3a424b;--soft:#22272d;--link:#8ab8ff;
--tag:#57606a;--ok:#1a7f37;--warning:#8f5200;--critical:#b3261e;--on-tag:#ffffff;--good-mark:#3fb950;--bad-mark:#ff7b72;--other-mark:#e3a34a;--plain-mark:#8b949e}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:0 auto;padding:0 1rem 3rem;background:var(--ground);color:var(--text);overflow-wrap:anywhere}
header{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;align-items:center;padding:.8rem 0;border-bottom:1px solid var(--line)}
header form{margin-left:auto}nav{display:flex;flex-wrap:wrap;gap:.2rem .9rem}.home{font-weight:700;font-size:1.15rem}
a{color:var(--link);unicode-bidi:isolate}a:focus-visible,button:focus-visible,input:focus-visible,pre:focus-visible,summary:focus-visible{outline:3px solid var(--link);outline-offset:2px}
h1{font-size:1.5rem;margin:1.2rem 0 .6rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}h2 code{font-size:1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .7rem;border-bottom:1px solid var(--line)}
td:first-child,td:last-child{min-width:6rem}tr{overflow-wrap:break-word}td:first-child{overflow-wrap:anywhere}th{font-weight:600;color:var(--quiet);font-size:.9rem}table+table{margin-top:1rem}
.n{text-align:right;font-variant-numeric:tabular-nums}.k,.n,time{white-space:nowrap}.k{width:9rem}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:var(--soft);padding:.7rem;margin:.4rem 0;border-radius:.4rem;white-space:pre-wrap}.copy{user-select:all}
.tag{display:inline-block;padding:0 .55rem;border-radius:1rem;font-size:.85rem;color:var(--on-tag);background:var(--tag);white-space:nowrap}
.tag.ok{background:var(--ok)}.tag.warning{background:var(--warning)}.tag.critical{background:var(--critical)}.quiet{color:var(--quiet)}
progress{width:9rem;max-width:100%;accent-color:var(--good-mark)}
.good{fill:var(--good-mark)}.bad{fill:var(--bad-mark)}.other{fill:var(--other-mark)}.plain{fill:var(--plain-mark)}.base{fill:var(--line)}.ink{fill:var(--text)}
svg{display:block;max-width:100%}svg text{fill:var(--quiet);font:12px system-ui,sans-serif}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.2rem 1.2rem;margin:.5rem 0}dt{color:var(--quiet);font-size:.9rem}dd{margin:0 0 .3rem}
summary{cursor:pointer;color:var(--link)}
button,input{font:inherit;padding:.4rem .8rem;border:1px solid var(--plain-mark);border-radius:.4rem;background:var(--soft);color:var(--text)}
input{width:100%;max-width:28rem;display:block;margin:.3rem 0 .8rem}
.wrong{border-left:4px solid var(--bad-mark);padding:.3rem .8rem;background:var(--soft);margin:.6rem 0}
@media(max-width:48rem){.wide{display:none}dl{grid-template-columns:repeat(auto-fill,minmax(9rem,1fr))}dl time{white-space:normal}dl div:has(code){grid-column:1/-1}.k{width:auto}table,tbody,td{display:block}thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
tr{display:flex;flex-wrap:wrap;align-items:center;gap:.1rem .9rem;padding:.5rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}td,td.n{border:0;padding:0;text-align:left}td:first-child,td.all{flex-basis:100%}td:empty{display:none}td[data-l]::before{content:attr(data-l) ": ";color:var(--quiet)}td svg{display:inline-block;vertical-align:middle}}`;
