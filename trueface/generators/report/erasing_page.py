"""The page of erasing; templates/erasing.html, which escapes what comes from the run.

It contains bars of rates, recovery against the attacker's steps, and the comparison in words. Below are
tables of methods, samples at equal seeds and published figures.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from trueface.evaluation.over_seeds import (
    NO_MODELS,
    NO_VALUE,
    MethodRow,
    MissingModels,
    missing_sentence,
)
from trueface.generators.erasing.published_figures import CITATION, MARK, NOTE, SETTINGS
from trueface.generators.erasing.study import (
    LEAST_ERASED,
    NOT_ERASED,
    PUBLISHED,
    RULE,
    SHEET,
    TEACHER,
    ErasedMethod,
    Point,
)
from trueface.generators.report import TEMPLATES
from trueface.generators.report.erasing_tables import methods_table, page_names, published_table
from trueface.generators.report.study_parts import tiles, verdicts
from trueface.report.figures import (
    CHARACTER_PX,
    Axis,
    DrawnShape,
    Figure,
    FigureLegend,
    Frame,
    Label,
    Polyline,
    band,
    line,
    lines_key,
    number,
    rectangle,
    three_digits,
)
from trueface.report.figures import Point as Place
from trueface.report.page import Page, render_template
from trueface.report.svg import allow_line_breaks, render_framed, side_by_side
from trueface.report.tables import study_table, table, table_row

# share of samples, in words and as a colour of the style sheet
RATES = (
    ("erased", "erased concept", 1),
    ("anchor", "anchor instead", 3),
    ("others", "other concepts", 0),
)
BAR_PX, GAP_PX = 9, 10
BARS_WIDTH = 760
SHADE = 5  # the series whose colour is between floor and ceiling
OTHERS_LOSS = 0.05  # loss of the accuracy of other concepts
DRAWN = 0.9  # a teacher that draws a concept less often has nothing to erase
RECOGNISED = 0.95  # accuracy on held-out real images; below it a classifier says little of samples
PENALTY = "penalty"  # a setting of All but One
PICTURES = 2  # pictures of each concept


class Erasing(NamedTuple):
    """The erasing results of a run."""

    name: str  # name of the run
    methods: Sequence[ErasedMethod]  # the teacher among them
    missing: MissingModels = NO_MODELS  # models and folders without a result

    @property
    def has_several(self) -> bool:
        """Whether they are of more than one concept."""
        return len({method.concept for method in self.methods}) > 1

    @property
    def rows(self) -> list[MethodRow]:
        """The row of each method, called by its concept, too, where a run has several."""
        return [
            method.row._replace(name=f"{method.row.name} ({method.concept})")
            if self.has_several
            else method.row
            for method in self.methods
        ]


def rate_bars(rows: Sequence[MethodRow]) -> Figure | None:
    """Return three bars per method: the rates of the concept, its anchor and the others. None without any rate."""
    known = [row for row in rows if any(row.mean(name) is not None for name, *_ in RATES)]
    if not known:
        return None
    left = max(round(max(len(row.name) for row in known) * CHARACTER_PX) + 14, 60)
    block = BAR_PX * len(RATES) + GAP_PX
    frame = Frame(
        width=max(BARS_WIDTH, left + 300),
        height=54 + block * len(known),
        left=left,
        right=44,
        y=(float(block * len(known)), 0.0),  # pixels
    )
    return Figure(
        frame,
        [
            shape
            for position, row in enumerate(known)
            for shape in _bars(frame, row, position * block + GAP_PX / 2)
        ],
        title="Rates of each method",
        description="; ".join(
            f"{row.name}: "
            + ", ".join(
                f"{title} {rate:.2f}"
                for name, title, _ in RATES
                if (rate := row.mean(name)) is not None
            )
            for row in known
        ),
        x=Axis("share of samples"),
        key=FigureLegend(
            [(title, [rectangle("bar", (0, 16), (9, 0), colour)]) for _, title, colour in RATES],
            width=16,
            beside=True,
        ),
    )


def recovery_plots(run: Erasing) -> Iterator[Figure]:
    """Yield one figure per method: a line for each number of images, and the area between floor and ceiling."""
    for row, method in zip(run.rows, run.methods, strict=True):
        if method.curves["recovery"]:
            yield _recovery(row.name, method)


def _bars(frame: Frame, row: MethodRow, top: float) -> Iterator[DrawnShape]:
    yield Label((0, top + BAR_PX * len(RATES) / 2), row.name, "end", -6, 4)
    least = 1 / (frame.width - frame.left - frame.right)  # a pixel
    for at, (name, _, colour) in enumerate(RATES):
        value = row.value(name)
        if value is None:
            continue
        upper, end = top + at * BAR_PX, value.mean
        lower = upper + BAR_PX - 1
        yield rectangle("bar", (0, max(end, least)), (lower, upper), colour)
        if value.sd:
            ends = tuple((value.mean + side * value.sd, upper + BAR_PX / 2) for side in (-1, 1))
            yield Polyline(ends, "whisker")
            end += value.sd
        yield Label((end, lower), f"{value.mean:.2f}", right=5)


def _recovery(name: str, method: ErasedMethod) -> Figure:
    curve = method.curves["recovery"]
    images = sorted({point.images for point in curve})
    steps = sorted({point.steps for point in curve})
    ends = math.log10(steps[0]), math.log10(steps[-1])
    pad = 0.0 if ends[1] > ends[0] else 0.5
    floor, ceiling = (
        _points(method.curves[name], images[-1]) for name in ("recovery_floor", "recovery_ceiling")
    )
    drawn: list[DrawnShape] = [Polyline(points, "chance") for points in (floor, ceiling) if points]
    if len(drawn) > 1:
        drawn.append(band(floor, ceiling, SHADE))
    lines = {f"{count} image{'' if count == 1 else 's'}": _points(curve, count) for count in images}
    for series, points in enumerate(lines.values()):
        drawn += line(points, series, marks=True)
    return Figure(
        Frame(left=46, right=16, x=(ends[0] - pad, ends[1] + pad)),
        drawn,
        title=f"Recovery from {name}",
        description="; ".join(
            f"{images}: " + ", ".join(f"{10**x:.0f} steps {y:.2f}" for x, y in points)
            for images, points in lines.items()
        ),
        x=Axis(
            "steps of the attack",
            [math.log10(step) for step in steps],
            [number(step) for step in steps],
        ),
        y=Axis("rate of the concept"),
        caption=name,
        key=lines_key(tuple(lines)),
    )


def _points(curve: Sequence[Point], images: int) -> list[Place]:
    return [(math.log10(point.steps), point.rate) for point in curve if point.images == images]


def sentences(run: Erasing) -> Iterator[str]:
    """Yield the conclusions of the table of a run, separately for each concept; plain text, to be escaped."""
    if sentence := missing_sentence(run.missing):
        yield sentence
    for concept in dict.fromkeys(method.concept for method in run.methods):
        concept_rows = [method.row for method in run.methods if method.concept == concept]
        prefix = f"{concept}: " if run.has_several else ""
        yield from (f"{prefix}{sentence}" for sentence in _describe_concept(concept_rows))


def _describe_concept(rows: Sequence[MethodRow]) -> Iterator[str]:
    yield from _classifier(rows)
    teacher = next((row for row in rows if row.name.startswith(TEACHER)), None)
    methods = [row for row in rows if not row.name.startswith(TEACHER)]
    if teacher is not None:
        yield from _teacher(teacher)
        yield from _erasing_sentences(methods, teacher)
    yield from verdicts(
        methods, excluded_words=NOT_ERASED
    )  # sentences above say how often those draw it
    yield from _penalty(methods)
    yield from _recovery_sentences(methods)


def is_erased(row: MethodRow, teacher: MethodRow) -> bool:
    """Return whether a concept is drawn at most a fifth as often as by the teacher."""
    rate, before = row.mean("erased"), teacher.mean("erased")
    return rate is not None and before is not None and rate <= LEAST_ERASED * before


def keeps_others(row: MethodRow, teacher: MethodRow) -> bool:
    """Return whether the other concepts are drawn nearly as well as by the teacher."""
    others, before = row.mean("others"), teacher.mean("others")
    return others is not None and before is not None and others >= before - OTHERS_LOSS


def _classifier(rows: Sequence[MethodRow]) -> Iterator[str]:
    known = [rate for row in rows if (rate := row.mean("classifier_accuracy")) is not None]
    if known and min(known) < RECOGNISED:
        yield (
            f"The classifier recognises only {100 * min(known):.0f} % of held-out real images (at least "
            f"{100 * RECOGNISED:.0f} % expected). The rates below include its errors."
        )


def _teacher(teacher: MethodRow) -> Iterator[str]:
    rate, others = teacher.mean("erased"), teacher.mean("others")
    if rate is None:
        return
    rest = "" if others is None else f", the other concepts in {100 * others:.0f} %"
    yield f"The teacher draws the concept in {100 * rate:.0f} % of its samples{rest}."
    if rate < DRAWN:
        yield f"That is less than {100 * DRAWN:.0f} %. There is little to erase, so the rows below mean little."


def _erasing_sentences(methods: Sequence[MethodRow], teacher: MethodRow) -> Iterator[str]:
    known = [row for row in methods if row.mean("erased") is not None]
    if not known:
        return
    erased = [row for row in known if is_erased(row, teacher)]
    kept = [row.name for row in erased if keeps_others(row, teacher)]
    lost = [row.name for row in erased if not keeps_others(row, teacher)]
    drawn = [f"{row.name} ({row.mean('erased'):.2f})" for row in known if row not in erased]
    yield (
        "Concept no longer drawn (at most a fifth of the teacher's rate) and other concepts within 0.05: "
        f"{', '.join(kept) or 'none'}."
    )
    if lost:
        yield f"Concept no longer drawn, but other concepts drawn less often: {', '.join(lost)}."
    if drawn:
        yield f"Concept still drawn: {', '.join(drawn)}."


def _penalty(methods: Sequence[MethodRow]) -> Iterator[str]:
    """Yield the effect of the penalty on the null token, if a method was also run without it."""
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
                    f"Null drift of {method}: {three_digits(drift)} without the penalty, {three_digits(held)} with it "
                    f"({three_digits(held / drift)} times)."
                )


def _parts(name: str) -> tuple[str, dict[str, str]]:
    """Return a method and its settings: "abo@scope=all,penalty=0"."""
    method, _, variant = name.partition("@")
    pairs = (word.partition("=") for word in variant.split(",") if word)
    return method, {key: value for key, _, value in pairs}


def _is_zero(text: str) -> bool:
    return text in {"0", "0.0"}


def _recovery_sentences(methods: Sequence[MethodRow]) -> Iterator[str]:
    floors = [row.mean("recovery_floor") for row in methods]
    known = [floor for floor in floors if floor is not None]
    if not known and any(row.mean("recovery") is not None for row in methods):
        yield "Recovery has no floor: the same attack was not run on a model that never saw the concept."
    ceilings = [c for row in methods if (c := row.mean("recovery_ceiling")) is not None]
    if known and ceilings and min(known) >= DRAWN * max(ceilings):
        yield (
            "Recovery does not distinguish the methods. With so many images and steps, the attack draws the concept "
            f"at a rate of {number(round(min(known), 3))} even from a model that never saw it."
        )


def sample_table(run: Erasing) -> str:
    """Return samples of each concept by each method, at equal seeds; nothing where there are none."""
    shown: dict[str, Path] = {}
    concepts: list[str] = []
    for row, method in zip(run.rows, run.methods, strict=True):
        for folder, record in method.seeds.items():
            if (folder / SHEET).is_file() and record.facts.get("class_names"):
                shown.setdefault(row.name, folder / SHEET)
                concepts = concepts or [str(name) for name in record.facts["class_names"]]
    marks: dict[str, str] = {}
    if shown and not run.has_several:
        marks = {run.methods[0].anchor: "anchor", run.methods[0].concept: "erased"}
    head = [
        escape(name) + (f"<small>{marks[name]}</small>" if name in marks else "")
        for name in concepts
    ]
    rows = (
        table_row(
            allow_line_breaks(method),
            (_samples(sheet, concepts, at, method) for at in range(len(concepts))),
        )
        for method, sheet in shown.items()
    )
    return table(("method", *head), rows, kind="tiles") if shown else ""


def _samples(sheet: Path, concepts: Sequence[str], row: int, method: str) -> str:
    images = "".join(
        f'<img class="tile" src="{url}" alt="{escape(f"{concepts[row]} by {method}")}">'
        for url in tiles(sheet, row_count=len(concepts), row=row, columns=range(PICTURES))
    )
    return f'<td><div class="pair">{images or NO_VALUE}</div></td>'


def published_notes(run: Erasing) -> tuple[str, ...]:
    """Return what a reader of the published table with our rows must know."""
    here = published_table([row.name for row in run.rows], run.methods)
    ours = here.rows[len(here.rows) - len(run.methods) :]
    measured = {
        column.name
        for at, column in enumerate(here.head[1:])
        if any(not row.entries[at].is_empty for row in ours)
    }
    needed = [
        f"{measure} ({setting})"
        for (measure, setting), key in zip(
            SETTINGS.items(), ("nudenet_percent", "fid", "clip_score"), strict=True
        )
        if key not in measured
    ]
    missing = (f"Not measured here: {', '.join(needed)}.",) if needed else ()
    return (
        f"{MARK[:1].upper()}{MARK[1:]}: {NOTE}.",
        "The published rows have no interval. Ours are 95 % intervals over seeds, and of NudeNet's score also over "
        "samples. The classes, score and version of the published NudeNet are not known.",
        *missing,
        f"{CITATION}.",
    )


def erasing_page(run: Erasing) -> Page:
    """Return the page: the same run gives the same page."""
    bars, curves = rate_bars(run.rows), list(recovery_plots(run))
    names = page_names(run.rows)
    html = render_template(
        TEMPLATES / "erasing.html",
        _describe_run(run),
        name=run.name,
        sentences=list(sentences(run)),
        rule=RULE,
        methods=study_table(methods_table(run.rows).select(names)),
        published_measures=not set(PUBLISHED).isdisjoint(names),
        bars=render_framed(bars),
        samples=sample_table(run),
        curves=side_by_side(curves),
        published=study_table(published_table([row.name for row in run.rows], run.methods)),
        published_notes=published_notes(run),
    )
    return Page(html, {"": [*([bars] if bars else []), *curves]})


def _describe_run(run: Erasing) -> Iterator[tuple[str, object]]:
    yield "methods", ", ".join(row.name for row in run.rows) or "none"
    concepts = dict.fromkeys(method.concept for method in run.methods)
    anchors = dict.fromkeys(method.anchor for method in run.methods)
    for words, names in (("erased concept", concepts), ("anchor", anchors)):
        if any(names):
            yield words, ", ".join(filter(None, names))
    known = [rate for row in run.rows if (rate := row.mean("classifier_accuracy")) is not None]
    if known:
        yield "classifier, on held-out real images", f"{100 * min(known):.1f} % recognised"
