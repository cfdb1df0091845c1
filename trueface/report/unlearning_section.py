"""The part of a report that tells of unlearning: tables and plots, one block for each base model.

Histograms of how sure a model is of what it was to forget, and features in the plane: a cloud of dots, in it
crosses for what is to be forgotten.
"""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.over_seeds import NO_VALUE
from trueface.report import tables
from trueface.report.scatter import Mark, Role, scatter
from trueface.report.svg import SERIES, Frame, axes, breakable, number, signs, steps, svg, ticks
from trueface.report.unlearning_content import Base, Cloud, Column, Row, Unlearnings
from trueface.unlearning.evaluation.measurement import BEFORE

SIDE = 238
AIR = 0.25  # of the extent before, around it on each side
CROSS_PX = 2.4  # half its side

Limits = tuple[tuple[float, float], tuple[float, float]]


BINS = 20
EDGES = tuple(np.linspace(0, 1, BINS + 1).tolist())
SQUARE = '<rect class="of-reference" x="1" y="1" width="8" height="8"/>'
DISC = '<circle class="of-method" cx="5" cy="5" r="4.5"/>'
CROSS = '<path class="of-broken" d="M1 1l8 8m0 -8l-8 8"/>'
INTRODUCTION = (
    "<p>First stands the ladder of references: the model before, with what its training took, and "
    "plain trainings. A method is worth its name if it comes near to retraining in less time than "
    "they take. What retraining differs by over seeds is noise: smaller differences say nothing.</p>"
)
ANEW = (
    "A model that was trained anew has axes of its own: there, only how well the classes lie apart "
    "can be compared, and where they lie says nothing."
)
MARKS = {"up": "\N{UPWARDS ARROW}", "down": "\N{DOWNWARDS ARROW}", "": ""}


def limits(before: NDArray[np.float64]) -> Limits:
    """Return the part of the plane that is shown: where the features lay before, and some more."""
    low, high = before.min(0), before.max(0)
    air = np.maximum((high - low) * AIR, 1e-6)
    (left, down), (right, up) = (low - air).tolist(), (high + air).tolist()
    return (left, right), (down, up)


def beyond(places: NDArray[np.float64], shown: Limits) -> float:
    """Return the fraction of points outside of the plot."""
    (left, right), (down, up) = shown
    x, y = places[:, 0], places[:, 1]
    return float(np.mean((x < left) | (x > right) | (y < down) | (y > up)))


def cloud(
    name: str,
    places: NDArray[np.float64],
    *,
    classes: Sequence[int],
    label: NDArray[np.int64],
    forget: NDArray[np.bool_],
    shown: Limits,
) -> str:
    """Return features as dots in the colours of their classes, the forgotten as crosses.

    Args:
        name: for the title.
        places: (M, 2); what lies beyond `shown` is drawn on its edge.
        classes: in the order of their colours.
        label: (M,) class.
        forget: (M,) whether it is to be forgotten.
        shown: the part of the plane.
    """
    frame = Frame(width=SIDE, height=SIDE, left=8, right=8, top=8, bottom=8, x=shown[0], y=shown[1])
    pixels = [frame.at(float(x), float(y)) for x, y in places]
    edge = f'<path class="edge" d="M8 8H{SIDE - 8}V{SIDE - 8}H8Z"/>'
    parts = [edge]
    for kind, chosen in (("kept", ~forget), ("forgotten", forget)):
        for series, class_ in enumerate(classes):
            which = np.flatnonzero(chosen & (label == class_))
            if len(which):
                path = "".join(_mark(kind, *pixels[row]) for row in which)
                parts.append(f'<path class="{kind} s{series % SERIES}" d="{path}"/>')
    description = f"{int((~forget).sum())} kept, {int(forget.sum())} to be forgotten"
    out = beyond(places, shown)
    description += f"; {out:.0%} lie beyond the edge" if out else ""
    return svg(frame, parts, title=f"Features {name}", description=description)


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "kept":
        return f"M{x:.1f} {y:.1f}h0"  # round ends make a dot of it
    size = 2 * CROSS_PX
    left, top = x - CROSS_PX, y - CROSS_PX
    return f"M{left:.1f} {top:.1f}l{size} {size}m0 -{size}l-{size} {size}"


def shares(beliefs: NDArray[np.float64]) -> list[float]:
    """Return the fraction of probabilities in each bin."""
    counts, _ = np.histogram(np.clip(beliefs, 0, 1), EDGES)
    return [float(count) for count in counts / max(counts.sum(), 1)]


def histogram(
    name: str,
    *,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    retrain: NDArray[np.float64] | None,
    top: float,
) -> str:
    """Return one of several histograms of the same height `top`, a share."""
    frame = Frame(height=150, left=44, y=(0.0, top))
    drawn = [("before", before), ("after", after)]
    drawn += [("retrain", retrain)] if retrain is not None else []
    parts = [
        axes(frame, "probability", "share", y_ticks=ticks(0, top, 3)),
        *(steps(frame, EDGES, shares(beliefs), f"belief-{which}") for which, beliefs in drawn),
    ]
    medians = "; ".join(f"{which}: median {np.median(beliefs):.3f}" for which, beliefs in drawn)
    title = f"Probability of the label as trained, {name}"
    return svg(frame, parts, title=title, description=medians)


def greatest(groups: Sequence[NDArray[np.float64]]) -> float:
    """Return a height that holds them all."""
    return min(max((max(shares(group)) for group in groups), default=1.0) * 1.05, 1.0)


def section(unlearnings: Unlearnings | None) -> str:
    """Return the whole section; nothing for a run without unlearning."""
    if unlearnings is None:
        return ""
    troubles = "".join(f"<li>{escape(trouble)}</li>" for trouble in unlearnings.troubles)
    left_out = f"<p>Not shown:</p><ul>{troubles}</ul>" if troubles else ""
    return (
        f'<section id="unlearning"><h2>Unlearning</h2>{INTRODUCTION if unlearnings.bases else ""}'
        f"{''.join(map(_base, unlearnings.bases))}{left_out}</section>"
    )


def _base(base: Base) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in base.notes)
    inside = (
        _table(base),
        f"<ul>{notes}</ul>" if notes else "",
        _costs(base),
        _meanings((*base.columns, *base.costs)),
        _against_time(base),
        _beliefs(base),
        _features(base),
    )
    return f"<h3>{breakable(base.name)}</h3>{tables.facts(base.about)}{''.join(inside)}"


def _table(base: Base) -> str:
    caption = (
        f"Mean and standard deviation over seeds; {MARKS['up']} more is better, {MARKS['down']} less "
        f"is, the rest should be as after retraining. {NO_VALUE}: not measured, or undefined."
    )
    return _ladder(caption, base.rows, base.columns, remarks=True)


def _costs(base: Base) -> str:
    caption = (
        "What it took, and what is left of the forgotten: steps to learn it again, and how well a "
        "linear probe of the features tells it from the rest."
    )
    return _ladder(caption, base.rows, base.costs, remarks=False) if base.costs else ""


def _ladder(caption: str, rows: Sequence[Row], columns: Sequence[Column], *, remarks: bool) -> str:
    return tables.table(
        ("method", "seeds", *map(_heading, columns)),
        (_row(row, columns, remarks=remarks) for row in rows),
        caption=caption,
        kind="measures ladder",
        grouped=True,
    )


def _meanings(columns: Sequence[Column]) -> str:
    pairs = {column.title: column.says for column in columns}
    return (
        f"<details><summary>What the columns say</summary>{tables.facts(pairs.items())}</details>"
    )


def _heading(column: Column) -> str:
    return f"{escape(column.title)} {MARKS[column.better]}".rstrip()


def _row(row: Row, columns: Sequence[Column], *, remarks: bool) -> str:
    cells = "".join(_cell(row, column) for column in columns)
    small = f"<small>{escape(row.swept)}</small>" if row.swept else ""
    small += f'<small><span class="tag">{escape(row.verdict)}</span></small>' if row.verdict else ""
    below = [
        *(f'<p><span class="tag">alarm</span> {escape(text)}</p>' for text in row.alarms),
        *(f"<p>{escape(text)}</p>" for text in row.notes),
    ]
    more = (
        f'<tr class="said"><td class="left" colspan="{len(columns) + 2}">{"".join(below)}</td></tr>'
    )
    return (
        f'<tbody class="{"reference" if row.reference else "method"}"><tr>'
        f'<th scope="row">{escape(row.method)}{small}</th><td>{row.seeds}</td>{cells}</tr>'
        f"{more if remarks and below else ''}</tbody>"
    )


def _cell(row: Row, column: Column) -> str:
    value = row.values.get(column.name)
    if value is None:
        why = row.reasons.get(column.name)
        return f'<td title="{escape(why)}">{NO_VALUE}</td>' if why else f"<td>{NO_VALUE}</td>"
    notes = []
    if value.std is not None and (value.std or column.kind != "count"):
        notes.append(f"± {written(value.std, column, digits=2)}")
    notes += [f"of {value.n}"] if value.n != row.seeds else []
    small = f"<small>{', '.join(notes)}</small>" if notes else ""
    return f"<td>{written(value.mean, column)}{small}</td>"


def written(value: float, column: Column, *, digits: int = 3) -> str:
    """Return a number as its column has them; `digits` that count, of those that are no shares."""
    match column.kind:
        case "share":
            return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")
        case "count":
            return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        case "bytes":
            return f"{value / (1 << 30):.2f}"
        case "number":
            return number(round(value) if abs(value) >= 1000 else float(f"{value:.{digits}g}"))


def _against_time(base: Base) -> str:
    quality, time = base.quality, base.time
    if quality is None or time is None:
        return ""
    marks = [
        Mark(
            name=row.name,
            time=took.mean,
            quality=good.mean,
            spread=good.std,
            role=_role(row),
        )
        for row in base.rows
        if (took := row.values.get(time.name)) and (good := row.values.get(quality.name))
    ]
    up = quality.title
    picture = scatter(
        marks,
        before=_level(base.rows, BEFORE, quality),
        retrain=_level(base.rows, "retrain", quality),
        across=f"{time.title}, log scale",
        up=up,
    )
    if not picture:
        return ""
    shapes = [(SQUARE, "reference"), (DISC, "unlearning")]
    if any(mark.role == "broken" for mark in marks):
        shapes.append((CROSS, "broken, see its alarm"))
    caption = (
        f"{escape(up[:1].upper() + up[1:])} against time<small>Upper left is best; whiskers are "
        "standard deviations over seeds; a triangle lies below the plot, at the value beside it."
        "</small>"
    )
    return (
        f'<figure class="picture"><figcaption>{caption}</figcaption>'
        f'<div class="wide">{picture}</div>{signs(shapes, width=10)}</figure>'
    )


def _role(row: Row) -> Role:
    if row.verdict:
        return "broken"
    return "reference" if row.reference else "method"


def _level(rows: Iterable[Row], name: str, column: Column) -> float | None:
    values = [
        row.values[column.name]
        for row in rows
        if (row.method, row.swept) == (name, "") and column.name in row.values
    ]
    return values[0].mean if values else None


def _beliefs(base: Base) -> str:
    shown = base.beliefs
    if not shown:
        return ""
    groups = [group for belief in shown for group in (belief.before, belief.after)]
    top = greatest(groups)
    anew = [belief.after for belief in shown if belief.method == "retrain"]
    retrain = np.concatenate(anew) if anew else None
    cards = "".join(
        f'<div class="card"><h4>{escape(belief.name)}</h4>'
        + histogram(
            belief.name,
            before=belief.before,
            after=belief.after,
            retrain=None if belief.method == "retrain" else retrain,
            top=top,
        )
        + "</div>"
        for belief in shown
    )
    named = '<span class="swatch belief-before"></span>before <span class="swatch belief-after"></span>after'
    named += ' <span class="swatch belief-retrain"></span>retrained' if anew else ""
    aim = "Forgotten is what looks as after retraining; further left, predictions are inverted, not forgotten."
    return (
        f"<h4>Confidence in what was to be forgotten</h4><p>{named}: the probability of the label "
        f"{'that was wrong' if base.goal == 'flips' else 'as trained'}, of each sample to be "
        f'forgotten. {aim}</p><div class="grid-of">{cards}</div>'
    )


def _features(base: Base) -> str:
    if not base.clouds:
        return ""
    classes = sorted({int(label) for cloud in base.clouds for label in cloud.label})
    names = [
        base.class_names[item] if 0 <= item < len(base.class_names) else f"class {item}"
        for item in classes
    ]
    lost = {int(item) for cloud in base.clouds for item in cloud.label[cloud.forget]}
    shapes = (
        (
            f'<path class="kept s{place % SERIES}" d="M4 5h0"/>{_cross(place) if item in lost else ""}',
            escape(name),
        )
        for place, (item, name) in enumerate(zip(classes, names, strict=True))
    )
    anew = any(item.anew for item in base.clouds)
    return (
        "<h4>Features in the plane</h4><p>Dots are kept, crosses are to be forgotten. The axes are "
        "the principal ones of the features before; what lies beyond the frame is drawn on its "
        f"edge.{' ' + ANEW if anew else ''}</p>"
        + signs(shapes, width=22)
        + "".join(_side_by_side(group, classes) for group in _by_start(base.clouds))
    )


def _cross(place: int) -> str:
    return f'<path class="forgotten s{place % SERIES}" d="M12 2.5l5 5m0 -5l-5 5"/>'


def _side_by_side(clouds: Sequence[Cloud], classes: Sequence[int]) -> str:
    """Return one plot before, and those after it on the same axes."""
    first = clouds[0]
    shown = limits(first.before)
    pictures = [("before", "before", first.before, False)]
    pictures += [(cloud.name, f"after {cloud.name}", cloud.after, cloud.anew) for cloud in clouds]
    cards = []
    for name, title, places, anew in pictures:
        out = beyond(places, shown)
        words = [
            *(["trained anew"] if anew else []),
            *([f"{out:.0%} beyond the frame"] if out else []),
        ]
        small = f"<small>{', '.join(words) or '&nbsp;'}</small>"  # else plots stand askew
        picture = cloud(
            title, places, classes=classes, label=first.label, forget=first.forget, shown=shown
        )
        cards.append(f"<figure><figcaption>{escape(name)}{small}</figcaption>{picture}</figure>")
    return f'<div class="grid-of">{"".join(cards)}</div>'


def _by_start(clouds: Sequence[Cloud]) -> list[list[Cloud]]:
    """Return the clouds by what they have in common: samples, and features before."""
    groups: dict[bytes, list[Cloud]] = {}
    for cloud in clouds:
        same = cloud.before.tobytes() + cloud.label.tobytes() + cloud.forget.tobytes()
        groups.setdefault(same, []).append(cloud)
    return list(groups.values())
