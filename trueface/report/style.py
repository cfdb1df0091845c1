"""The style of pages and figures, light and dark, on a screen and on paper. Figures in files have the same style.

Colours of series: M. Okabe and K. Ito, "Color universal design", 2008, told apart by people who do
not see all colours; the yellow is left out, as it cannot be seen on white.
"""

from typing import NamedTuple

SERIES = 8  # colours; further series repeat them with other dashes
DASHES = ("", "6 3", "2 3", "8 3 2 3")
OWN = "own"  # the colour of a series

COLOURS = {  # in light and in dark
    "text": ("#1b1f24", "#e6e9ee"),
    "back": ("#fff", "#14171b"),
    "card": ("#f6f7f9", "#1d2127"),
    "line": ("#c9ced6", "#3b434e"),
    "weak": ("#59626e", "#a2acb9"),
    "link": ("#0b57a4", "#7db9f0"),
    "bad": ("#a3240f", "#ff9c85"),
    "warn": ("#7a4b00", "#f0bd62"),
    "good": ("#14632f", "#7fd69a"),
    "real": ("#0072b2", "#56b4e9"),
    "fake": ("#d55e00", "#ff9a4d"),
    "c0": ("#0072b2", "#56b4e9"),
    "c1": ("#d55e00", "#ff9a4d"),
    "c2": ("#00795a", "#2fc79b"),
    "c3": ("#b0528a", "#e59cc6"),
    "c4": ("#3591c9", "#9fd3f3"),
    "c5": ("#b87700", "#f0c04d"),
    "c6": ("#1b1f24", "#e6e9ee"),
    "c7": ("#6a5acd", "#a99df5"),
}


class Style(NamedTuple):
    """The style of a line, a surface or a mark of a figure; colours by name, "" for none."""

    fill: str = ""
    stroke: str = ""
    width: float = 1.0  # width of the stroke, in pixels
    dash: str = ""  # lengths of its parts and gaps
    opacity: float = 1.0  # opacity of the fill; where there is none, of the stroke


STYLES = {
    "grid": Style(stroke="line", width=0.5, opacity=0.6),
    "axis": Style(stroke="weak"),
    "edge": Style(stroke="line", width=0.8),
    "line": Style(stroke=OWN, width=1.8),  # its dashes are those of its series
    "chance": Style(stroke="weak", dash="3 3"),
    "dot": Style(fill=OWN),
    "seed": Style(fill=OWN, opacity=0.65),
    "hollow": Style(fill="back", stroke=OWN, width=2.0),
    "interval": Style(stroke=OWN, opacity=0.55),
    "whisker": Style(stroke="weak", width=1.2),
    "leader": Style(stroke="weak", width=0.7),
    "bar": Style(fill=OWN),
    "gap-bar": Style(fill="c0", opacity=0.45),
    "band": Style(fill=OWN, opacity=0.16),
    "floor": Style(fill="c5", opacity=0.2),
    "real": Style(fill="real", stroke="real", width=1.5, opacity=0.22),
    "fake": Style(fill="fake", stroke="fake", width=1.5, dash="4 2", opacity=0.22),
    "before": Style(stroke="c1", width=1.4, dash="4 2"),
    "after": Style(fill="c0", stroke="c0", width=1.5, opacity=0.28),
    "retrain": Style(stroke="c6", width=1.4, dash="1.5 2"),
    "reference": Style(fill="card", stroke="c6", width=1.8),
    "method": Style(fill="c0"),
    "broken": Style(stroke="c1", width=2.2),
    "kept": Style(stroke=OWN, width=4.0, opacity=0.5),
    "forgotten": Style(stroke=OWN, width=1.5),
}


def dash_of(style: str, series: int) -> str:
    """Return the dashes that distinguish the line of a series; "" for other items."""
    return DASHES[(series // SERIES + series) % len(DASHES)] if style == "line" else ""


def _variables(theme: int) -> str:
    return " ".join(f"--{name}: {both[theme]};" for name, both in COLOURS.items())


def _rule(name: str, style: Style) -> str:
    fill, stroke = (f"var(--{each})" if each else "none" for each in style[:2])
    dash = f" stroke-dasharray: {style.dash};" if style.dash else ""
    faint = f" {'fill' if style.fill else 'stroke'}-opacity: {style.opacity:g};"
    return (
        f"svg .{name} {{ fill: {fill}; stroke: {stroke}; stroke-width: {style.width:g};"
        f"{dash}{faint if style.opacity < 1 else ''} }}"
    )


CSS = (
    f"""
:root {{ color-scheme: light dark; {_variables(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(1)} }} }}"""
    + """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 1.5rem 1.25rem 4rem; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 2px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; max-width: 75ch; }
a { color: var(--link); }
code { font: .92em ui-monospace, "DejaVu Sans Mono", Menlo, monospace; overflow-wrap: anywhere; }
nav ul { list-style: none; margin: .8rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .6rem 0; }
dl.facts dt { color: var(--weak); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--weak); padding-bottom: .3rem; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { font-weight: 600; } th[scope=row], td.left, th.left { text-align: left; }
th[scope=row] { font-weight: 400; max-width: 24rem; overflow-wrap: anywhere; }
.measures { font-size: .88rem; width: 100%; } .measures th, .measures td { padding: .22rem .38rem; }
.measures small { font-size: .7rem; white-space: normal; } .measures th[scope=row] { max-width: 13rem; min-width: 8.5rem; }
small { color: var(--weak); font-size: .8rem; white-space: nowrap; }
td small, th small { display: block; }
.heat td small { color: inherit; font-size: .68rem; }
p.outcome { border-left: 5px solid var(--link); padding-left: .8rem; font-size: 1.05rem; margin: .6rem 0; overflow-wrap: anywhere; }
p.caption { color: var(--weak); margin: .9rem 0 .3rem; max-width: 100ch; }
small.id { white-space: normal; overflow-wrap: anywhere; }
.scale { white-space: nowrap; } .scale .box { display: inline-block; width: 1rem; height: .7rem; }
.heat td { text-align: center; min-width: 4.6rem; border: 2px solid var(--back); padding: .28rem .2rem; }
.heat th[scope=row] { overflow-wrap: break-word; min-width: 7rem; }
.heat th[scope=col] { text-align: center; padding: .28rem .1rem; max-width: 7.5rem; font-size: .82rem; font-weight: 400; overflow-wrap: anywhere; vertical-align: bottom; }
.finding { border-left: 5px solid var(--warn); background: var(--card); padding: .6rem .9rem; margin: .7rem 0; }
.finding.fault { border-color: var(--bad); }
.finding h3 { margin: 0 0 .2rem; } .tag { font-weight: 700; color: var(--warn); }
.fault .tag { color: var(--bad); } .good { color: var(--good); font-weight: 600; }
.finding dl.facts { font-size: .9rem; }
.grid-of { display: flex; flex-wrap: wrap; gap: .9rem; align-items: flex-start; }
.card { background: var(--card); padding: .6rem .6rem; width: 258px; }
.card h4 { margin: 0 0 .3rem; font-size: .88rem; overflow-wrap: anywhere; }
.card th[scope=row] { white-space: nowrap; }
.card table { font-size: .85rem; margin: .3rem 0 0; } .card td, .card th { padding: .12rem .5rem; }
figure { margin: 0; background: var(--card); padding: .6rem; width: 258px; }
figure.picture { width: auto; max-width: 100%; } figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .88rem; font-weight: 600; margin-bottom: .3rem; }
svg.plot { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--weak); font: 11px system-ui, sans-serif; }
.key { list-style: none; margin: .3rem 0 0; padding: 0; font-size: .82rem; overflow-wrap: anywhere; }
.key li { display: flex; gap: .4rem; align-items: baseline; } .key svg { flex: none; }
figcaption small { display: block; font-weight: 400; white-space: normal; }
.swatch { display: inline-block; width: 1rem; height: .7rem; margin-right: .3rem; border: 1.5px solid; }
.swatch.of-real { border-color: var(--real); } .swatch.of-fake { border: 1.5px dashed var(--fake); }
.key.across { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
.ladder tbody:not(.reference) + tbody.reference, .ladder tbody.reference + tbody.method { border-top: 2px solid var(--weak); }
.ladder .said td { padding-top: 0; } .ladder .said p { margin: 0; font-size: .82rem; max-width: 100ch; }
.ladder tr:has(+ .said) > * { border-bottom: 0; } .said .tag { color: var(--bad); }
svg text.mark-label { fill: var(--text); paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
svg text.weak-label { paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
.swatch.belief-before { border: 1.5px dashed var(--c1); } .swatch.belief-after { border-color: var(--c0); }
.swatch.belief-retrain { border: 1.5px dotted var(--c6); }
@media screen { .wide svg.plot { max-width: none; } }
.ladder td.left { min-width: 9rem; }
td.words { min-width: 10rem; }
.tiles th[scope=row] { white-space: normal; min-width: 8rem; vertical-align: middle; } .tiles td { padding: .2rem .3rem; text-align: center; }
.strip-head span { display: inline-block; width: 14.28%; text-align: center; font-size: .72rem; color: var(--weak); vertical-align: bottom; }
img.strip, img.tile { display: block; image-rendering: pixelated; } img.strip { width: 560px; margin: 0 0 2px; }
img.tile { width: 64px; height: 64px; } .pair { display: flex; gap: 2px; justify-content: center; }
.tiles th[scope=col] { font-size: .8rem; text-align: center; overflow-wrap: normal; } .tiles th.left { text-align: left; }
h4 { font-size: .92rem; margin: .9rem 0 .3rem; }
details { margin: .5rem 0; } summary { cursor: pointer; }
@media print { html { font-size: 9px; } h1 { font-size: 17px; } h2 { font-size: 14px; } h3 { font-size: 12px; }
  p.outcome { font-size: 12px; } body { max-width: none; padding: 0; font-size: 11px; } nav { display: none; }
  .card, figure, .finding, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .wide { overflow: visible; } }
"""
    + "\n".join(
        [
            *(f".s{series} {{ --own: var(--c{series}); }}" for series in range(SERIES)),
            *(_rule(*pair) for pair in STYLES.items()),
            "",
        ]
    )
)
