"""The page of erasing; templates/erasing.html, which escapes what comes from the run.

Bars of rates, recovery against the attacker's steps, what the comparison says in words; tables of methods,
samples at equal seeds, published figures.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markupsafe import Markup

from trueface.erasing.measures.record import LEAST_ERASED, NOT_ERASED, TEACHER
from trueface.evaluation.over_seeds import NO_VALUE
from trueface.evaluation.published.tables import CITATION, MARK, NOTE, published_erasing
from trueface.report.generation.rows import Made, Row, has_several, named, rows_of, tile
from trueface.report.json_fields import list_of, number_of, text_of
from trueface.report.page import environment
from trueface.report.scatter import CHARACTER_PX
from trueface.report.style import CSS
from trueface.report.svg import (
    SERIES,
    Frame,
    Point,
    axes,
    breakable,
    key,
    line,
    number,
    signs,
    svg,
    three_digits,
)
from trueface.report.tables import facts, table, table_row
from trueface.runtime.files import Json, write_atomic

RATES = (
    ("erased", "erased concept"),
    ("anchor", "drawn as the anchor"),
    ("others", "other concepts"),
)
COLOURS = (1, 3, 0)  # of the style sheet
BAR_PX, GAP_PX = 9, 10
BARS_WIDTH = 760
CURVE_WIDTH, CURVE_HEIGHT = 258, 220
Curve = Mapping[tuple[int, int], float]  # images, steps → rate


OTHERS_LOSS = 0.05  # of the accuracy of other concepts
DRAWN = 0.9  # a teacher that draws a concept less often has nothing to erase
RECOGNISED = 0.95  # of held-out real images: a classifier that knows fewer says little of samples
PENALTY = "penalty"  # a setting of All but One
PICTURES = 2  # of each concept
PUBLISHED = ("NudeNet, %", "FID", "KID", "CLIP score", "SSIM")
RATE_COLUMNS = (("erased", "erased<small>still drawn</small>"), ("anchor", "drawn as the anchor"), ("others", "others"))  # fmt: skip
FILE = "erasing.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What an attacker with real images of the concept gets back, means over seeds."""

    method: str
    rates: Curve
    floor: Curve  # the same attack on a model that never saw the concept
    ceiling: Curve  # on the teacher


def rate_bars(rows: Sequence[Row]) -> str:
    """Return three bars a method: how often the concept, its anchor and the others are drawn."""
    known = [row for row in rows if any(row.mean(name) is not None for name, _ in RATES)]
    if not known:
        return ""
    left = max(round(max(len(row.name) for row in known) * CHARACTER_PX) + 14, 60)
    block = BAR_PX * len(RATES) + GAP_PX
    frame = Frame(
        width=max(BARS_WIDTH, left + 300),
        height=54 + block * len(known),
        left=left,
        right=44,
        x=(0.0, 1.0),
        y=(float(block * len(known)), 0.0),
    )
    parts = [axes(frame, "share of the samples", "", y_ticks=())]
    for place, row in enumerate(known):
        parts += _bars(frame, row, place * block + GAP_PX / 2)
    description = "; ".join(
        f"{row.name}: "
        + ", ".join(
            f"{title} {rate:.2f}" for name, title in RATES if (rate := row.mean(name)) is not None
        )
        for row in known
    )
    picture = svg(frame, parts, title="Rates of each method", description=description)
    swatches = signs(
        (
            (f'<rect class="d{colour}" width="16" height="9"/>', escape(title))
            for (_, title), colour in zip(RATES, COLOURS, strict=True)
        ),
        width=16,
    )
    return f'<figure class="picture"><div class="wide">{picture}</div>{swatches}</figure>'


def recoveries(folders: Sequence[Made], order: Sequence[str] = ()) -> tuple[Recovery, ...]:
    """Return what was recovered from each method; those named in `order` come first, as there."""
    groups: dict[str, list[Made]] = {name: [] for name in order}
    several = has_several(made.measures for made in folders)
    for made in folders:
        if list_of(made.measures, "recovery"):
            groups.setdefault(named(made.measures, several=several), []).append(made)
    return tuple(
        Recovery(
            method=method,
            rates=_curve(of, "recovery"),
            floor=_curve(of, "recovery_floor"),
            ceiling=_curve(of, "recovery_ceiling"),
        )
        for method, of in groups.items()
        if of
    )


def recovery_plots(made: Sequence[Recovery]) -> str:
    """Return a plot a method: a line for each number of images, and what is between floor and ceiling."""
    return "".join(map(_recovery, made))


def _bars(frame: Frame, row: Row, top: float) -> Iterator[str]:
    middle = top + BAR_PX * len(RATES) / 2
    left, y = frame.at(0, middle)
    yield f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(row.name)}</text>'
    for at, ((name, _), colour) in enumerate(zip(RATES, COLOURS, strict=True)):
        value = row.value(name)
        if value is None:
            continue
        end, y = frame.at(value.mean, top + at * BAR_PX)
        yield (
            f'<rect class="d{colour}" x="{left:.1f}" y="{y:.1f}" '
            f'width="{max(end - left, 1):.1f}" height="{BAR_PX - 1}"/>'
        )
        if value.sd:
            (low, _), (high, _) = (frame.at(value.mean + side * value.sd, top) for side in (-1, 1))
            yield f'<path class="whisker" d="M{low:.1f} {y + BAR_PX / 2:.1f}H{high:.1f}"/>'
            end = max(end, high)
        yield f'<text x="{end + 5:.1f}" y="{y + BAR_PX - 1:.1f}">{value.mean:.2f}</text>'


def _curve(folders: Sequence[Made], name: str) -> Curve:
    values: dict[tuple[int, int], list[float]] = {}
    for made in folders:
        for point in list_of(made.measures, name):
            where = _point(point)
            if where is not None:
                values.setdefault(where[0], []).append(where[1])
    return {place: sum(rates) / len(rates) for place, rates in sorted(values.items())}


def _point(record: Json) -> tuple[tuple[int, int], float] | None:
    if not isinstance(record, dict):
        return None
    images, steps, rate = (number_of(record, name) for name in ("images", "steps", "rate"))
    if images is None or steps is None or rate is None or steps <= 0:
        return None
    return (int(images), int(steps)), rate


def _recovery(each: Recovery) -> str:
    images = sorted({images for images, _ in each.rates})
    steps = sorted({steps for _, steps in each.rates})
    if not images:
        return ""
    ends = math.log10(steps[0]), math.log10(steps[-1])
    pad = 0.0 if ends[1] > ends[0] else 0.5
    frame = Frame(
        width=CURVE_WIDTH,
        height=CURVE_HEIGHT,
        left=46,
        right=16,
        x=(ends[0] - pad, ends[1] + pad),
        y=(0.0, 1.0),
    )
    parts = [_between(frame, each, images[-1])]
    parts.append(
        axes(
            frame,
            "steps of the attacker",
            "rate of the concept",
            x_ticks=[math.log10(step) for step in steps],
            x_names=[number(step) for step in steps],
        )
    )
    parts += [
        line(frame, _points(each.rates, count), series, marks=True)
        for series, count in enumerate(images)
    ]
    description = "; ".join(
        f"{_counted(count)}: "
        + ", ".join(f"{10**x:.0f} steps {y:.2f}" for x, y in _points(each.rates, count))
        for count in images
    )
    picture = svg(frame, parts, title=f"Recovery from {each.method}", description=description)
    names = key([_counted(count) for count in images])
    return f"<figure><figcaption>{escape(each.method)}</figcaption>{picture}{names}</figure>"


def _counted(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


def _points(curve: Curve, images: int) -> list[Point]:
    return [(math.log10(steps), rate) for (count, steps), rate in curve.items() if count == images]


def _between(frame: Frame, each: Recovery, images: int) -> str:
    """Return the shade between floor and ceiling, of the same number of images, and both lines."""
    floor, ceiling = _points(each.floor, images), _points(each.ceiling, images)
    lines = "".join(
        f'<path class="chance" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in _at(frame, points))}"/>'
        for points in (floor, ceiling)
        if points
    )
    if not floor or not ceiling:
        return lines
    around = "L".join(
        f"{x:.1f} {y:.1f}" for x, y in (*_at(frame, floor), *reversed(_at(frame, ceiling)))
    )
    return f'<path class="band d{5 % SERIES}" d="M{around}Z"/>{lines}'


def _at(frame: Frame, points: Sequence[Point]) -> list[Point]:
    return [frame.at(*point) for point in points]


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the sentences of a table of erasing methods, of each concept its own; plain text, to be escaped."""
    records = [row.record for row in rows]
    if not has_several(records):
        yield from _of_concept(rows)
        return
    for concept in dict.fromkeys(text_of(record, "concept") for record in records):
        of = rows_of([record for record in records if text_of(record, "concept") == concept])
        yield from (f"{concept}: {sentence}" for sentence in _of_concept(of))


def _of_concept(rows: Sequence[Row]) -> Iterator[str]:
    yield from _classifier(rows)
    teacher = next((row for row in rows if row.name == TEACHER), None)
    methods = [row for row in rows if row.name != TEACHER]
    if teacher is not None:
        yield from _teacher(teacher)
        yield from _erased(methods, teacher)
    yield from _verdicts(methods)
    yield from _penalty(methods)
    yield from _recovered(methods)


def is_erased(row: Row, teacher: Row) -> bool:
    """Tell whether a concept is drawn at most a fifth as often as by the teacher."""
    rate, before = row.mean("erased"), teacher.mean("erased")
    return rate is not None and before is not None and rate <= LEAST_ERASED * before


def keeps_others(row: Row, teacher: Row) -> bool:
    """Tell whether the other concepts are drawn nearly as well as by the teacher."""
    others, before = row.mean("others"), teacher.mean("others")
    return others is not None and before is not None and others >= before - OTHERS_LOSS


def _classifier(rows: Sequence[Row]) -> Iterator[str]:
    known = [rate for row in rows if (rate := row.mean("classifier_accuracy")) is not None]
    if known and min(known) < RECOGNISED:
        yield (
            f"The classifier recognises {100 * min(known):.0f} % of real images that it was not trained "
            f"on, less than {100 * RECOGNISED:.0f} %: the rates below are in part its own mistakes."
        )


def _teacher(teacher: Row) -> Iterator[str]:
    rate, others = teacher.mean("erased"), teacher.mean("others")
    if rate is None:
        return
    rest = "" if others is None else f", the other concepts in {100 * others:.0f} %"
    yield f"The teacher draws the concept in {100 * rate:.0f} % of its samples{rest}."
    if rate < DRAWN:
        yield f"That is less than {100 * DRAWN:.0f} %: there is little to erase, and the rows below say little."


def _erased(methods: Sequence[Row], teacher: Row) -> Iterator[str]:
    known = [row for row in methods if row.mean("erased") is not None]
    if not known:
        return
    erased = [row for row in known if is_erased(row, teacher)]
    kept = [row.name for row in erased if keeps_others(row, teacher)]
    lost = [row.name for row in erased if not keeps_others(row, teacher)]
    drawn = [f"{row.name} ({row.mean('erased'):.2f})" for row in known if row not in erased]
    yield (
        "No longer drawn at its name (at most a fifth of the teacher's rate), others within .05: "
        f"{', '.join(kept) or 'none'}."
    )
    if lost:
        yield f"No longer drawn, but other concepts suffer: {', '.join(lost)}."
    if drawn:
        yield f"Still drawn: {', '.join(drawn)}."


def _verdicts(methods: Sequence[Row]) -> Iterator[str]:
    """Yield what the measures themselves say of the methods, by the same words together."""
    names: dict[str, list[str]] = {}
    for row in methods:
        names.setdefault(text_of(row.record, "verdict"), []).append(row.name)
    for words, of in names.items():
        if words and words != NOT_ERASED:  # of which it is said how often they draw it
            yield f"{words[:1].upper()}{words[1:]}: {', '.join(of)}."


def _penalty(methods: Sequence[Row]) -> Iterator[str]:
    """Yield what the penalty on the null token is worth, where a method was run without it."""
    for row in methods:
        method, settings = _parts(row.name)
        if not _is_zero(settings.pop(PENALTY, "")):
            continue
        drift = row.mean("null_drift")
        for other in methods:
            name, others = _parts(other.name)
            with_it = not _is_zero(others.pop(PENALTY, ""))
            held = other.mean("null_drift")
            if (name, others) == (method, settings) and with_it and drift and held is not None:
                yield (
                    f"Without its penalty {method} moves the null token's score by {three_digits(drift)}, "
                    f"with it by {three_digits(held)}: {three_digits(held / drift)} of that."
                )


def _parts(name: str) -> tuple[str, dict[str, str]]:
    """Return a method and its settings: "abo@scope=all,penalty=0"."""
    method, _, variant = name.partition("@")
    pairs = (word.partition("=") for word in variant.split(",") if word)
    return method, {key: value for key, _, value in pairs}


def _is_zero(text: str) -> bool:
    return text in {"0", "0.0"}


def _recovered(methods: Sequence[Row]) -> Iterator[str]:
    floors = [row.mean("recovery_floor") for row in methods]
    known = [floor for floor in floors if floor is not None]
    if not known and any(row.mean("recovery") is not None for row in methods):
        yield "Recovery has no floor here: no model that never saw the concept was attacked alike."
    ceilings = [c for row in methods if (c := row.mean("recovery_ceiling")) is not None]
    if known and ceilings and min(known) >= DRAWN * max(ceilings):
        yield (
            f"Even a model that never saw the concept is steered to it at {number(round(min(known), 3))}: "
            "with so many images and steps recovery tells no method from another."
        )


def method_table(rows: Sequence[Row]) -> str:
    """Return one row a method: what it erased, what else it changed, what can be recovered."""
    head = (
        "method",
        *(title for _, title in RATE_COLUMNS),
        "SSIM<small>to the teacher</small>",
        "feature distance",
        "Fréchet distance<small>and its floor</small>",
        "null drift",
        "recovery<small>floor, ceiling</small>",
        "seconds",
        "seeds",
        "verdict",
    )
    return table(head, map(_method, rows), words=("verdict",))


def sample_table(folders: Sequence[Made], order: Sequence[str] = ()) -> str:
    """Return samples of each concept by each method, at equal seeds; nothing where there are none.

    Args:
        folders: with samples.
        order: names of methods that come first, in this order.
    """
    shown = _first_of_each(folders, order)
    if not shown:
        return ""
    first = next(iter(shown.values()))
    concepts = [str(name) for name in list_of(first.measures, "class_names")]
    parts: dict[str, str] = {}
    if not has_several(made.measures for made in folders):
        parts[text_of(first.measures, "anchor")] = "anchor"
        parts[text_of(first.measures, "concept")] = "erased"
    head = (
        escape(name) + (f"<small>{parts[name]}</small>" if name in parts else "")
        for name in concepts
    )
    rows = (
        table_row(
            breakable(method),
            (_samples(made, concepts, at, method) for at in range(len(concepts))),
        )
        for method, made in shown.items()
    )
    return table(("method", *head), rows, kind="tiles")


def published_table() -> str:
    """Return the published figures, marked as what they are."""
    rows = (
        table_row(
            escape(each.method),
            (
                f"<td>{NO_VALUE if figure is None else number(figure)}</td>"
                for figure in (each.nudenet_percent, each.fid, each.kid, each.clip_score, each.ssim)
            ),
        )
        for each in published_erasing()
    )
    return (
        f'<p class="caption"><strong>{escape(MARK)}</strong>: {escape(NOTE)}. {escape(CITATION)}.</p>'
        f"{table(('method', *PUBLISHED), rows, kind='')}"
    )


def _method(row: Row) -> str:
    cells = [row.cell(key, 3) for key, _ in RATE_COLUMNS]
    cells += [row.cell("ssim", 3), row.short("feature_distance")]
    cells.append(row.short("frechet") + _below(row, "frechet_floor"))
    cells.append(row.short("null_drift"))
    ends = ", ".join(
        NO_VALUE if (value := row.mean(key)) is None else f"{value:.2f}"
        for key in ("recovery_floor", "recovery_ceiling")
    )
    recovery = row.cell("recovery", 3)
    cells.append(recovery if recovery == NO_VALUE else f"{recovery}<small>{ends}</small>")
    cells += [row.short("seconds"), row.short("seeds")]
    verdict = "" if row.name.startswith(TEACHER) else text_of(row.record, "verdict")
    place = text_of(row.record, "verdict_at")
    below = f'<small class="id">{escape(place)}</small>' if verdict and place else ""
    verdict_cell = f'<td class="left words">{escape(verdict) or NO_VALUE}{below}</td>'
    return table_row(breakable(row.name), (*(f"<td>{cell}</td>" for cell in cells), verdict_cell))


def _below(row: Row, key: str) -> str:
    return "" if row.mean(key) is None else f"<small>{row.short(key)}</small>"


def _first_of_each(folders: Sequence[Made], order: Sequence[str]) -> Mapping[str, Made]:
    """Return the first folder of each method that has samples."""
    shown: dict[str, Made] = {}
    several = has_several(made.measures for made in folders)
    for made in folders:
        if (made.path / "samples.png").is_file() and list_of(made.measures, "class_names"):
            shown.setdefault(named(made.measures, several=several), made)
    place = {name: at for at, name in enumerate(order)}
    return dict(sorted(shown.items(), key=lambda pair: place.get(pair[0], len(place))))


def _samples(made: Made, concepts: Sequence[str], at: int, method: str) -> str:
    urls = (
        tile(made.path / "samples.png", rows=len(concepts), row=at, column=column)
        for column in range(PICTURES)
    )
    images = "".join(
        f'<img class="tile" src="{url}" alt="{escape(f"{concepts[at]} by {method}")}">'
        for url in urls
        if url
    )
    return f'<td><div class="pair">{images or NO_VALUE}</div></td>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasing:
    """All that a run has to say about erasing."""

    name: str  # of the run
    rows: Sequence[Mapping[str, Json]]  # one a method, the teacher among them
    erased: Sequence[Made]  # folders with samples and curves
    rule: str = ""  # how the rows' verdicts are found


def write_erasing_page(run: Erasing, path: Path) -> None:
    """Write the page of a run, atomically; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, erasing_page(run))


def erasing_page(run: Erasing) -> str:
    """Return the page: it needs no other file, and the same run gives the same page."""
    rows = rows_of(run.rows)
    order = [row.name for row in rows]
    return (
        environment()
        .get_template("erasing.html")
        .render(
            name=run.name,
            css=Markup(CSS),
            about=Markup(facts(_about(run, rows))),  # escaped where made, as is all below
            sentences=list(sentences(rows)),
            rule=run.rule,
            methods=Markup(method_table(rows)) if rows else "",
            bars=Markup(rate_bars(rows)),
            samples=Markup(sample_table(run.erased, order)),
            curves=Markup(recovery_plots(recoveries(run.erased, order))),
            published=Markup(published_table()),
        )
    )


def _about(run: Erasing, rows: Sequence[Row]) -> Iterator[tuple[str, object]]:
    yield "methods", ", ".join(row.name for row in rows) or "none"
    for setting, words in (("concept", "concept erased"), ("anchor", "anchor")):
        names = dict.fromkeys(text_of(made.measures, setting) for made in run.erased)
        if any(names):
            yield words, ", ".join(filter(None, names))
    known = [rate for row in rows if (rate := row.mean("classifier_accuracy")) is not None]
    if known:
        yield "classifier, on held-out real images", f"{100 * min(known):.1f} % recognised"
