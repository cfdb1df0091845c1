"""The page of purification; templates/purification.html, which escapes what comes from the run.

Tables of attacks with their control, purifiers, detectors; what the comparison says in words, where the adaptive
number decides; the price on clean images against the damage that is left, on two logarithmic axes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markupsafe import Markup

from trueface.evaluation.over_seeds import NO_VALUE
from trueface.report.generation.rows import Detector, Made, Row, rows_of, strip
from trueface.report.json_fields import number_of, text_of
from trueface.report.page import environment
from trueface.report.scatter import Box, mark, placed
from trueface.report.style import CSS
from trueface.report.svg import Frame, axes, breakable, log_ticks, number, signs, svg, three_digits
from trueface.report.tables import facts, table, table_row
from trueface.runtime.files import Json, write_atomic

NONE = "none"  # nothing done
RIVALS = ("jpeg@75", "jpeg75")  # what needs neither training nor a network
ADAPTIVE = "mse_adaptive"
CLOSER_DB = 1.0  # by so much a picture must come nearer to the original to be told


PERCENT = 100
WIDTH, HEIGHT = 1050, 460
EDGE_DECADES = 0.15
FREE_DECADES = 0.35  # left of the least price: the place of those that cost nothing
Place = tuple[float, float]
FILE = "purification.html"
COLUMNS = (
    "original", "its output", "disrupted", "change × 10", "its output", "purified", "its output",
)  # fmt: skip
CONTROL = "random"
PICTURES = 2  # rows of tiles of a purifier
MOST_STRIPS = 60  # in one page


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the sentences of a table of purifiers; plain text, to be escaped."""
    unpurified = next((row for row in rows if row.name == NONE), None)
    purifiers = [row for row in rows if row.name != NONE]
    if not purifiers:
        return
    yield from _adaptive(purifiers, unpurified)
    yield from _verdicts(purifiers)
    yield from _against_rival(purifiers)
    yield from _pictures(purifiers, unpurified)


def aims(row: Row, prefix: str) -> list[str]:
    """Return the attacks and targets of which a row has a number of their own.

    Args:
        row: of a purifier.
        prefix: "mse_" or "mse_adaptive_".
    """
    return [
        key.removeprefix(prefix)
        for key in row.record
        if key.startswith(prefix)
        and not key.endswith("_sd")
        and (prefix != "mse_" or not key.startswith(ADAPTIVE))
        and row.mean(key) is not None
    ]


def _adaptive(purifiers: Sequence[Row], unpurified: Row | None) -> Iterator[str]:
    known = [(mse, row) for row in purifiers if (mse := row.mean(ADAPTIVE)) is not None]
    unknown = [row.name for row in purifiers if row.mean(ADAPTIVE) is None]
    if known:
        known.sort(key=lambda pair: pair[0])
        mse, best = known[0]
        damage = _unpurified(best, unpurified)
        of = "" if damage is None else f" of {three_digits(damage)} without purification"
        yield (
            f"Against an attack that knows the purifier, {best.name} leaves the least damage: MSE "
            f"{three_digits(mse)}{of}. The verdict rests on this number."
        )
        useless = [
            row.name
            for mse, row in known
            if (before := _unpurified(row, unpurified)) is not None and mse >= before
        ]
        if useless:
            yield (
                "An attack that knows them does as much damage as without purification: "
                f"{', '.join(useless)}."
            )
    if unknown:
        yield f"No verdict, as no adaptive attack was run: {', '.join(unknown)}."


def _unpurified(row: Row, unpurified: Row | None) -> float | None:
    """Return the damage without purification, by the attacks that were run against a purifier."""
    if unpurified is None:
        return None
    same = [unpurified.mean(f"mse_{aim}") for aim in aims(row, f"{ADAPTIVE}_")]
    known = [value for value in same if value is not None]
    if same and len(known) == len(same):
        return sum(known) / len(known)
    return unpurified.mean("mse")


def _verdicts(purifiers: Sequence[Row]) -> Iterator[str]:
    """Yield what the measures themselves say of the purifiers, by the same words together."""
    names: dict[str, list[str]] = {}
    for row in purifiers:
        names.setdefault(text_of(row.record, "verdict"), []).append(row.name)
    for words, of in names.items():
        if words:
            yield f"{words[:1].upper()}{words[1:]}: {', '.join(of)}."


def _against_rival(purifiers: Sequence[Row]) -> Iterator[str]:
    """Yield who restores more than JPEG at no higher price, by both numbers."""
    rival = next((row for row in purifiers if row.name in RIVALS), None)
    price = None if rival is None else rival.mean("price_clean")
    if rival is None or price is None or len(purifiers) < 2:
        return
    for key, words in ((ADAPTIVE, "adaptive"), ("mse", "non-adaptive")):
        bound = rival.mean(key)
        if bound is None:
            continue
        better = [
            f"{row.name} (MSE {three_digits(mse)}, price {three_digits(cost)})"
            for row in purifiers
            if (mse := row.mean(key)) is not None
            and (cost := row.mean("price_clean")) is not None
            and mse < bound
            and cost <= price
        ]
        head = f"{rival.name} ({words} MSE {three_digits(bound)}, price {three_digits(price)})"
        if better:
            yield f"Better than {head} at no higher price on clean images: {', '.join(better)}."
        else:
            yield f"No purifier is better than {head} at no higher price on clean images."


def _pictures(purifiers: Sequence[Row], unpurified: Row | None) -> Iterator[str]:
    """Yield whether the pictures themselves come closer to the originals, or only the outputs."""
    before = None if unpurified is None else unpurified.mean("psnr")
    if before is None:
        return
    closer = [
        row.name
        for row in purifiers
        if (psnr := row.mean("psnr")) is not None and psnr > before + CLOSER_DB
    ]
    yield (
        f"By more than 1 dB nearer to the original picture than the disrupted one ({before:.1f} dB): "
        f"{', '.join(closer) or 'none; what is broken is the pattern of the attack'}."
    )


def purifier_table(rows: Sequence[Row]) -> str:
    """Return one row a purifier: damage left without and with knowledge of it, price, speed."""
    head = (
        "purifier",
        "MSE<small>adaptive</small>",
        "MSE",
        "share &gt; .05",
        "price on clean",
        "PSNR, dB",
        "SSIM",
        "Fréchet distance",
        "net calls",
        "ms<small>an image</small>",
        "seeds",
        "verdict",
    )
    return table(head, map(_purifier, rows), words=("verdict",))


def aim_table(rows: Sequence[Row]) -> str:
    """Return the damage by attack and target; nothing where no row has it apart."""
    columns = {
        f"{prefix}{aim}": f"{escape(aim.replace('_', ', '))}{note}"
        for prefix, note in (("mse_", ""), ("mse_adaptive_", "<small>adaptive</small>"))
        for row in rows
        for aim in aims(row, prefix)
    }
    lines = (
        table_row(breakable(row.name), (f"<td>{row.cell(key, 4)}</td>" for key in columns))
        for row in rows
    )
    return table(("purifier", *columns.values()), lines) if columns else ""


def attack_table(records: Sequence[Mapping[str, Json]]) -> str:
    """Return one row an attack, the random control among them; nothing where there is none."""
    head = (
        "attack", "target", "eps", "largest change", "RMS", "MSE of the output", "share &gt; .05",
        "times the control", "seeds",
    )  # fmt: skip
    return table(head, map(_attack_cell, records), words=("target",)) if records else ""


def detector_table(detectors: Sequence[Detector]) -> str:
    """Return what detectors that were trained on such images reach; nothing where there is none."""
    head = ("detector", "trained on", "tested on", "AUC", "accuracy", "seeds")
    rows = (
        f'<tr><th scope="row">{breakable(each.model)}</th><td class="left">{escape(each.trained_on)}'
        f'</td><td class="left">{breakable(each.tested_on)}</td>'
        f"<td>{_mean(each.auc)}</td><td>{_mean(each.accuracy)}</td><td>{len(each.auc)}</td></tr>"
        for each in detectors
    )
    return table(head, rows, words=head[1:3]) if detectors else ""


def _purifier(row: Row) -> str:
    share = row.mean("share")
    cells = (
        row.cell("mse_adaptive", 4),
        row.cell("mse", 4),
        NO_VALUE if share is None else f"{PERCENT * share:.0f} %",
        row.cell("price_clean", 4),
        row.cell("psnr", 1),
        row.cell("ssim", 3),
        row.short("frechet"),
        row.short("net_calls"),
        row.short("seconds", 1000),
        row.short("seeds"),
    )
    verdict = escape(text_of(row.record, "verdict")) or NO_VALUE
    return table_row(
        breakable(row.name),
        (*(f"<td>{cell}</td>" for cell in cells), f'<td class="left words">{verdict}</td>'),
    )


def _attack_cell(record: Mapping[str, Json]) -> str:
    def digits(key: str, places: int) -> str:
        value = number_of(record, key)
        return NO_VALUE if value is None else f"{value:.{places}f}"

    name = text_of(record, "attack")
    target, over = text_of(record, "target"), text_of(record, "over")
    where = ", ".join(filter(None, (target, "" if over in {"", "own"} else f"labels: {over}")))
    share, ratio = number_of(record, "share"), number_of(record, "ratio")
    seeds = number_of(record, "seeds")
    cells = (
        digits("eps", 3),
        digits("linf", 4),
        digits("rms", 4),
        digits("mse", 4),
        NO_VALUE if share is None else f"{PERCENT * share:.0f} %",
        NO_VALUE if ratio is None else f"{ratio:.1f}",
        NO_VALUE if seeds is None else number(seeds),
    )
    control = "<small>control</small>" if name == "random" else ""
    return (
        f'<tr><th scope="row">{escape(name)}{control}</th><td class="left">{escape(where) or NO_VALUE}'
        f"</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    )


def _mean(values: Sequence[float]) -> str:
    if not values:
        return NO_VALUE
    mean = sum(values) / len(values)
    ends = f"<small>{min(values):.3f}–{max(values):.3f}</small>" if len(values) > 1 else ""
    return f"{mean:.3f}{ends}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A purifier: its price, and the damage it leaves without and with knowledge of it."""

    name: str
    price: float  # ≥ 0
    blind: float | None
    adaptive: float | None

    @property
    def damages(self) -> tuple[float, ...]:
        return tuple(value for value in (self.blind, self.adaptive) if value is not None)


def price_plot(rows: Sequence[Row]) -> str:
    """Return the plot; nothing where no purifier has both numbers. Better is lower and further left."""
    pairs = list(_pairs(rows))
    if not pairs:
        return ""
    prices = [math.log10(pair.price) for pair in pairs if pair.price > 0] or [-3.0, -1.0]
    damages = [math.log10(value) for pair in pairs for value in pair.damages]
    free = any(pair.price <= 0 for pair in pairs)
    least = min(prices) - (FREE_DECADES if free else EDGE_DECADES)
    frame = Frame(
        width=WIDTH,
        height=HEIGHT,
        left=64,
        x=(least, max(prices) + EDGE_DECADES),
        y=(min(damages) - EDGE_DECADES, max(damages) + EDGE_DECADES),
    )
    at = {pair.name: _places(frame, pair) for pair in pairs}
    parts = [_axes(frame), *_marks(pairs, at), *_names(frame, pairs, at)]
    picture = svg(
        frame,
        parts,
        title="Damage left by the price on clean images",
        description="; ".join(map(_words, pairs)),
    )
    shapes = (
        (
            '<circle class="of-method" cx="8" cy="6" r="4.5"/>',
            "attack that does not know the purifier",
        ),
        ('<path class="of-broken" d="M4 2l8 8m0 -8l-8 8"/>', "attack that does (adaptive)"),
    )
    key = signs(shapes, width=16, height=12)
    return f'<figure class="picture"><div class="wide">{picture}</div>{key}</figure>'


def _pairs(rows: Sequence[Row]) -> Iterator[_Pair]:
    for row in rows:
        # who does nothing costs nothing, and need not be measured
        price = 0.0 if row.name == NONE else row.mean("price_clean")
        blind, adaptive = (
            value if value is not None and value > 0 else None
            for value in (row.mean("mse"), row.mean("mse_adaptive"))
        )
        if price is not None and (blind is not None or adaptive is not None):
            yield _Pair(name=row.name, price=price, blind=blind, adaptive=adaptive)


def _places(frame: Frame, pair: _Pair) -> tuple[Place | None, Place | None]:
    x = math.log10(pair.price) if pair.price > 0 else frame.x[0]
    blind, adaptive = (
        None if value is None else frame.at(x, math.log10(value))
        for value in (pair.blind, pair.adaptive)
    )
    return blind, adaptive


def _marks(
    pairs: Sequence[_Pair], at: dict[str, tuple[Place | None, Place | None]]
) -> Iterator[str]:
    for pair in pairs:
        blind, adaptive = at[pair.name]
        if blind and adaptive:
            yield f'<path class="leader" d="M{blind[0]:.1f} {blind[1]:.1f}V{adaptive[1]:.1f}"/>'
        if blind:
            yield f'<circle class="of-method" cx="{blind[0]:.1f}" cy="{blind[1]:.1f}" r="4.5"/>'
        if adaptive:
            x, y = adaptive
            yield f'<path class="of-broken" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'


def _names(
    frame: Frame, pairs: Sequence[_Pair], at: dict[str, tuple[Place | None, Place | None]]
) -> Iterator[str]:
    """Yield a name for each pair: beside its adaptive mark, as that one counts."""
    (left, bottom), (right, top) = (
        frame.at(frame.x[0], frame.y[0]),
        frame.at(frame.x[1], frame.y[1]),
    )
    room = Box(left=left + 2, top=top, right=right + frame.right, bottom=bottom - 1)
    every = [place for both in at.values() for place in both if place]
    lines = [
        Box(
            left=first[0] - 1,
            right=first[0] + 1,
            top=min(first[1], second[1]),
            bottom=max(first[1], second[1]),
        )
        for first, second in at.values()
        if first and second
    ]
    places = [place for pair in pairs for place in [at[pair.name][1] or at[pair.name][0]] if place]
    names = [f"{pair.name} (costs nothing)" if pair.price <= 0 else pair.name for pair in pairs]
    taken = [*(mark(*place) for place in every), *lines]
    for label, (x, y) in zip(placed(names, places, room=room, taken=taken), places, strict=True):
        if label.leader:
            yield f'<path class="leader" d="M{x:.1f} {y:.1f}L{label.x:.1f} {label.y - 3:.1f}"/>'
        yield (
            f'<text class="mark-label" x="{label.x:.1f}" y="{label.y:.1f}" '
            f'text-anchor="{label.anchor}">{escape(label.text)}</text>'
        )


def _axes(frame: Frame) -> str:
    x_ticks, x_names = log_ticks(*frame.x)
    plain = axes(
        frame,
        "price: MSE of the output of purified clean images",
        "MSE of the output that is left",
        x_ticks=x_ticks,
        x_names=x_names,
        y_ticks=(),
    )
    parts = [plain]
    for value, name in zip(*log_ticks(*frame.y), strict=True):
        (left, y), (right, _) = frame.at(frame.x[0], value), frame.at(frame.x[1], value)
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        parts.append(f'<text x="{left - 5:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{name}</text>')
    return "".join(parts)


def _words(pair: _Pair) -> str:
    damages = (
        f"{value:.4f} {word}"
        for value, word in ((pair.blind, "non-adaptive"), (pair.adaptive, "adaptive"))
        if value is not None
    )
    return f"{pair.name}: price {pair.price:.4f}, {', '.join(damages)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purification:
    """All that a run has to say about purifiers."""

    name: str  # of the run
    rows: Sequence[Mapping[str, Json]]  # one a purifier
    attacks: Sequence[Mapping[str, Json]]  # one an attack, the control among them
    restored: Sequence[Made]  # folders with tiles
    detectors: Sequence[Detector] = ()
    rule: str = ""  # how the rows' verdicts are found


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Tiles of one purifier under one attack."""

    purifier: str
    strips: tuple[str, ...]  # data URLs


def write_purification_page(run: Purification, path: Path) -> None:
    """Write the page of a run, atomically; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, purification_page(run))


def purification_page(run: Purification) -> str:
    """Return the page: it needs no other file, and the same run gives the same page."""
    rows = rows_of(run.rows)
    template = environment().get_template("purification.html")
    return template.render(
        name=run.name,
        css=Markup(CSS),
        about=Markup(facts(_about(run, rows))),  # escaped where made, as is all below
        sentences=list(sentences(rows)),
        attacks=Markup(attack_table(run.attacks)),
        purifiers=Markup(purifier_table(rows)) if rows else "",
        aims=Markup(aim_table(rows)),
        features=next((text for row in rows if (text := text_of(row.record, "features"))), ""),
        rule=run.rule,
        plot=Markup(price_plot(rows)),
        columns=COLUMNS,
        grids=_grids(run.restored, [row.name for row in rows]),
        detectors=Markup(detector_table(run.detectors)),
    )


def _grids(restored: Sequence[Made], order: Sequence[str]) -> dict[str, list[Strip]]:
    """Return tiles by attack, those of a table's purifiers in its order, each once: of the first seed."""
    first: dict[tuple[str, str], Made] = {}
    for made in restored:
        purifier = text_of(made.measures, "purifier")
        if purifier and (made.path / "grid.png").is_file():
            first.setdefault((_attack(made), purifier), made)
    place = {name: at for at, name in enumerate(order)}
    keys = sorted(
        first, key=lambda key: (_rank(first[key]), key[0], place.get(key[1], len(place)), key[1])
    )
    grids: dict[str, list[Strip]] = {}
    for attack, purifier in keys[:MOST_STRIPS]:
        path = first[attack, purifier].path / "grid.png"
        cut = (strip(path, tiles=len(COLUMNS), row=row) for row in range(PICTURES))
        urls = tuple(url for url in cut if url is not None)
        if urls:
            grids.setdefault(attack, []).append(Strip(purifier=purifier, strips=urls))
    return grids


def _rank(made: Made) -> int:
    """Return the place of an attack: those that know no purifier, those that do, the control, none."""
    name = text_of(made.measures, "attack")
    if name in {"", CONTROL}:
        return 3 if name else 4
    if made.measures.get("adaptive") is True:
        return 1
    return 2 if text_of(made.measures, "through") else 0


def _attack(made: Made) -> str:
    name, target = text_of(made.measures, "attack"), text_of(made.measures, "target")
    if name == CONTROL:
        return f"{name} signs"
    knows = "knows the purifier" if made.measures.get("adaptive") is True else ""
    if not knows and (through := text_of(made.measures, "through")):
        knows = f"knows {through}"
    return ", ".join(filter(None, (name, target, knows))) or "no attack"


def _about(run: Purification, rows: Sequence[Row]) -> Iterator[tuple[str, object]]:
    yield "purifiers", ", ".join(row.name for row in rows) or "none"
    attacks = dict.fromkeys(text_of(each, "attack") for each in run.attacks)
    if any(attacks):
        yield "attacks", ", ".join(filter(None, attacks))
    for key, words in (("eps", "eps, in units of [\N{MINUS SIGN}1, 1]"), ("images", "images")):
        values = (number_of(made.measures, key) for made in run.restored)
        known = dict.fromkeys(number(value) for value in values if value is not None)
        if known:
            yield words, ", ".join(known)
