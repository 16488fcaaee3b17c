"""The style sheet of a page: phone and desk, day and night, screen and paper."""

from __future__ import annotations

from edgekit.report.charts.palette import COLORS, DARK, LIGHT, variables

__all__ = ["style"]

_FILLS = "".join(f".c{i}{{fill:var(--c{i});--own:var(--c{i})}}" for i in range(1, COLORS + 1))

_PAGE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--page);color:var(--text);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;overflow-wrap:break-word}
.skip{position:absolute;left:-999px}
.skip:focus{left:8px;top:8px;background:var(--card);padding:8px}
header,main,footer{max-width:60rem;margin:0 auto;padding:0 16px}
header{padding-top:28px}
.eyebrow{margin:0;color:var(--accent);font-weight:650;font-size:.8rem;letter-spacing:.06em;text-transform:uppercase}
h1{margin:4px 0 12px;font-size:clamp(1.45rem,1.1rem + 1.8vw,2.1rem);line-height:1.2;letter-spacing:-.01em}
h2{margin:0 0 8px;font-size:1.3rem;line-height:1.25;letter-spacing:-.005em}
h3{margin:24px 0 6px;font-size:1.02rem;line-height:1.3}
p{margin:0 0 12px;max-width:46rem}
a{color:var(--accent);text-underline-offset:2px}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
code{font:.9em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
 background:var(--card);border:1px solid var(--line);border-radius:4px;padding:.05em .35em;overflow-wrap:anywhere}
nav ul{display:flex;flex-wrap:wrap;gap:6px;list-style:none;margin:16px 0 0;padding:0}
nav a{display:block;padding:5px 12px;border:1px solid var(--line);border-radius:999px;font-size:.88rem;
 text-decoration:none}
nav a:hover{background:var(--card)}
section{margin:36px 0 0;padding:28px 0 0;border-top:1px solid var(--line);scroll-margin-top:8px}
main>section:first-child{border-top:0;padding-top:0;margin-top:20px}
.lead>p:first-of-type{font-size:1.1rem}
footer{margin-top:40px;padding-top:16px;padding-bottom:36px;color:var(--quiet);font-size:.85rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(148px,1fr));gap:10px;margin:16px 0;padding:0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.tile dt{color:var(--quiet);font-size:.82rem;line-height:1.3}
.tile dd{margin:0}
.tile .value{font-size:1.42rem;font-weight:650;line-height:1.25;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.tile .beside{color:var(--quiet);font-size:.82rem;line-height:1.35}
.scroll{overflow-x:auto;margin:8px 0 16px;border:1px solid var(--line);border-radius:8px;max-width:100%;
 width:fit-content}
table{border-collapse:collapse;font-size:.86rem;line-height:1.35;font-variant-numeric:tabular-nums}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
caption{text-align:left;padding:8px 10px;color:var(--quiet);font-size:.85rem}
th,td{padding:6px 10px;text-align:left;vertical-align:top;border-top:1px solid var(--line);overflow-wrap:normal}
.short{white-space:nowrap}
.long{min-width:13rem;max-width:26rem;overflow-wrap:anywhere}
thead th{border-top:0;background:var(--card);font-weight:600;vertical-align:bottom}
tbody th{font-weight:500}
th.number,td.number{text-align:right;white-space:nowrap}
details{margin:8px 0 16px}
summary{cursor:pointer;color:var(--accent);font-size:.9rem;width:fit-content;padding:4px 0}
dl.fields{display:grid;grid-template-columns:minmax(7rem,max-content) minmax(0,1fr);gap:4px 18px;margin:8px 0 16px;
 font-size:.92rem}
.fields dt{color:var(--quiet)}
.fields dd{margin:0;overflow-wrap:anywhere}
ul.notes{list-style:none;margin:8px 0 16px;padding:0;display:grid;gap:8px}
.notes li{padding:8px 12px;border-left:3px solid var(--line);background:var(--card);border-radius:0 8px 8px 0;
 overflow-wrap:anywhere}
.notes li.act{border-color:var(--warn);background:var(--warn-card)}
.notes .remedy{display:block;color:var(--quiet);font-size:.9rem}
figure{margin:16px 0}
figcaption,.axis-title{color:var(--quiet);font-size:.84rem;line-height:1.4;max-width:46rem}
figcaption{margin-top:8px}
.axis-title{margin:0 0 8px;text-align:center;max-width:none}
.axis-title.above{text-align:left;margin:4px 0 8px}
.chart{margin:8px 0}
.chart svg{display:block}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:0 0 10px;padding:0;font-size:.84rem}
.legend li{display:flex;align-items:center;gap:6px;min-width:0;overflow-wrap:anywhere}
.legend svg{flex:none}
.row-head{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 16px;margin-top:8px;font-size:.86rem;
 line-height:1.35}
.row-head .name{min-width:0;overflow-wrap:anywhere}
.row-head .figures{color:var(--quiet);font-variant-numeric:tabular-nums;min-width:0}
.row-head.shipped .name{font-weight:650}
svg text{fill:var(--quiet);font-size:12px;font-family:inherit;font-variant-numeric:tabular-nums}
svg text.number{fill:var(--text);font-weight:700;stroke:var(--page);stroke-width:3px;paint-order:stroke}
.grid{stroke:var(--line);stroke-width:1}
.plot-box{margin:0 18px 0 46px}
.plot,.axis{overflow:visible}
.plot{border-left:1px solid var(--line);border-bottom:1px solid var(--line)}
.point{fill-opacity:.72;stroke:var(--page);stroke-width:1}
.point.refused{fill:var(--page);fill-opacity:.35;stroke:var(--own);stroke-width:1.8;stroke-dasharray:3 2}
.point.front,.point.shipped{fill-opacity:.95}
.point.shipped{stroke:var(--text);stroke-width:2.5}
path.front{fill:none;stroke:var(--text);stroke-width:1.6;stroke-dasharray:5 4}
.key{margin:10px 0 0;padding-left:1.7rem;font-size:.88rem;color:var(--quiet)}
.key strong{color:var(--text);font-weight:600}
.key li::marker{color:var(--text);font-weight:700}
.part{stroke:var(--page);stroke-width:1}
.span{stroke:var(--own);stroke-width:2}
.plot .span{stroke-width:1;stroke-opacity:.7}
.answer{border-left:4px solid var(--warn);padding:2px 0 2px 12px;font-weight:600}
.answer.good{border-color:var(--good)}
.answer.bad{border-color:var(--bad);color:var(--bad)}
.beyond{fill:var(--text)}
.reference{stroke:var(--text);stroke-width:1.5;stroke-dasharray:4 3}
.curve{fill-opacity:.62;stroke:var(--own);stroke-width:1}
.mark{stroke:var(--text)}
.mark.p90,.mark.p99{stroke-dasharray:2 2}
"""

_PAPER = """
@media print{
 body{font-size:10.5pt}nav,.skip,summary{display:none}section,figure,.tile{break-inside:avoid-page}
 .scroll{overflow:visible;border:0}a{color:inherit}details::details-content{content-visibility:visible;display:block}
}
"""


def style() -> str:
    """CSS. Paper is always by daylight."""
    light, dark = variables(LIGHT), variables(DARK)
    schemes = (
        f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )
    return f"{schemes}{_PAGE}{_FILLS}{_PAPER}"
