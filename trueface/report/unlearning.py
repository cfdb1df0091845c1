"""The unlearning section of a report: tables and plots for each base model.

Plots: quality against time, histograms of the model's confidence on the forget set, and features projected
onto a plane. The features are dots, with crosses for the forget set.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from trueface.evaluation.over_seeds import NO_VALUE
from trueface.predictions.npz_tables import read_npz
from trueface.predictions.predictions import Predictions
from trueface.report import tables
from trueface.report.figures import (
    Axis,
    DrawnShape,
    Figure,
    FigureLegend,
    Frame,
    Marks,
    rectangle,
    steps,
    swatches,
    ticks,
)
from trueface.report.method_plane import Role, TimedMethod, draw_mark, quality_by_time
from trueface.report.study_table import Column, StudyTable
from trueface.report.svg import allow_line_breaks, key, picture, render_framed, side_by_side
from trueface.report.unlearning_tables import PAGE, QUALITY, TIMES, page_tables
from trueface.runtime import paths
from trueface.runtime.errors import DataError, MachineError
from trueface.unlearning.evaluation import planes
from trueface.unlearning.evaluation.alarms import class_name
from trueface.unlearning.evaluation.leaderboard import (
    UnlearningGroup,
    UnlearningLeaderboard,
    UnlearningRow,
)
from trueface.unlearning.evaluation.model_measures import BEFORE
from trueface.unlearning.evaluation.planes import Plane
from trueface.unlearning.registry import METHODS

Beliefs = NDArray[np.float64]  # (N,) probabilities of the training label
Places = NDArray[np.float64]  # (M, 2) features in the plane
Limits = tuple[tuple[float, float], tuple[float, float]]

SIDE = 238
AIR = 0.25  # margin on each side, as a fraction of the extent of the features before unlearning
KEPT = Marks(((4, 5),), "disc", "kept")  # entry of the key
FORGOTTEN = Marks(((14.5, 5),), "cross", "forgotten", radius=2.4)
BINS = 20
EDGES = tuple(np.linspace(0, 1, BINS + 1).tolist())
NOTHING = "\N{NO-BREAK SPACE}"  # an empty note, so that adjacent figures are aligned
INTRODUCTION = (
    "<p>Each method changes a model that was trained on data to be forgotten. The first rows are references: the "
    "model before unlearning, with the cost of its training, and retrained models. The target is <b>retrain</b>, "
    "a model trained without the data to be forgotten. A method is useful if it is close to this model and takes "
    "less time than retraining. Retraining with another seed also changes the numbers. Smaller differences are "
    "noise.</p>"
)
ANEW = (
    "A model trained from a new start has its own axes. Compare only how well the classes are separated, not "
    "their positions."
)
AS_IT_CAME = "the model before unlearning"
ROLES: Mapping[Role, str] = {
    "reference": "reference",
    "method": "unlearning",
    "broken": "broken, see its alarm",
}


class MethodBeliefs(NamedTuple):
    """The confidences of the models of a method on the forget set, over all seeds."""

    row: UnlearningRow
    before: Beliefs
    after: Beliefs


class MethodPlane(NamedTuple):
    """Projected features of some samples, from the first seed of a method that has them."""

    row: UnlearningRow
    plane: Plane

    @property
    def is_new_training(self) -> bool:
        """Whether the model was trained from scratch, so that its axes differ from those of the base model."""
        method = METHODS.get(self.row.method)
        return method is not None and "untrained model" in method.needs


def section(board: UnlearningLeaderboard, figures: dict[str, list[Figure]]) -> Markup:
    """Return the whole section, or nothing for a run without unlearning.

    Args:
        board: unlearning results of a run.
        figures: figures of the page by the folder of their files. Those of each base model are added.
    """
    if not board.groups and not board.troubles:
        return Markup()
    troubles = list(board.troubles)
    blocks = ""
    for group in board.groups:
        folder = paths.fit_file_name(f"unlearning {group.base}".replace("/", "_"), "")
        blocks += _block(group, troubles, figures.setdefault(folder, []))
    items = "".join(f"<li>{escape(trouble)}</li>" for trouble in troubles)
    left_out = f"<p>Not shown:</p><ul>{items}</ul>" if items else ""
    return Markup(
        f'<section id="unlearning"><h2>Unlearning</h2>{INTRODUCTION if blocks else ""}{blocks}'
        f"{left_out}</section>"
    )


def _block(group: UnlearningGroup, troubles: list[str], figures: list[Figure]) -> str:
    """Return the block of one base model. Add its figures to `figures`, and unreadable files to `troubles`."""
    beliefs, planes = [], []
    for row in group.rows:
        try:
            beliefs += method_beliefs(row)
        except (DataError, MachineError) as error:
            troubles.append(str(error))
        try:
            planes += method_plane(row)
        except (DataError, MachineError) as error:
            troubles.append(str(error))
    shown, costs = page_tables(group)
    by_time, histograms = quality_time_plot(group), list(belief_histograms(beliefs))
    classes = sorted({int(label) for each in planes for label in each.plane.label})
    features = [list(feature_clouds(same, classes)) for same in _group_by_start(planes)]
    figures += [*([by_time] if by_time else []), *histograms, *itertools.chain(*features)]
    notes = "".join(f"<li>{escape(note)}</li>" for note in group.notes)
    inside = (
        _table(shown),
        f"<ul>{notes}</ul>" if notes else "",
        _costs(costs),
        _describe_methods(group, (*shown.head, *costs.head)),
        render_framed(by_time),
        _belief_cards(group, histograms),
        _features(group, planes, classes) + "".join(map(side_by_side, features)),
    )
    return f"<h3>{allow_line_breaks(group.base)}</h3>{tables.facts(_describe_unlearning_group(group))}{''.join(inside)}"


def method_beliefs(row: UnlearningRow) -> list[MethodBeliefs]:
    """Return the confidences of the models of a row on the forget set, or an empty list if unknown.

    Raises:
        DataError: a file of predictions cannot be read.
        MachineError: there is not enough memory.
    """
    befores, afters = [], []
    for model in row.models:
        before, after = (
            read_npz(path(model.folder)).get("forget")
            for path in (paths.predictions_before, paths.predictions_after)
        )
        if before is not None and after is not None:
            befores.append(_belief(before))
            afters.append(_belief(after))
    if not sum(map(len, befores)) or not sum(map(len, afters)):
        return []
    return [MethodBeliefs(row, np.concatenate(befores), np.concatenate(afters))]


def _belief(part: Predictions) -> Beliefs:
    """Return the probabilities of the training labels, (N,), without logits that are not finite."""
    rows = np.flatnonzero(np.isfinite(part.logits).all(1))
    logs: Beliefs = part.log_probabilities()[rows, part.labels[rows]]
    return np.exp(logs)


def method_plane(row: UnlearningRow) -> list[MethodPlane]:
    """Return the projected features of the first seed that has them, or an empty list.

    Raises:
        DataError: the features cannot be read, or none of them is finite.
        MachineError: there is not enough memory.
    """
    for model in sorted(row.models, key=lambda model: model.record.seed):
        path = paths.plane(model.folder)
        if path.is_file():
            plane = planes.read(path)
            whole = np.isfinite(plane.before).all(1) & np.isfinite(plane.after).all(1)
            if not whole.any():
                raise DataError(f"{path} contains no finite features")
            finite = Plane(
                before=plane.before[whole],
                after=plane.after[whole],
                label=plane.label[whole],
                forget=plane.forget[whole],
            )
            return [MethodPlane(row, finite)]
    return []


def describe_forget_set(group: UnlearningGroup) -> str:
    """Return the forget set of a group's methods, in words."""
    match group.goal:
        case "flips":
            return "flipped labels"
        case "class":
            names = [class_name(label, group.class_names) for label in group.forgotten]
            return f"{', '.join(names)}, of {group.classes} classes"
        case "instances" if group.fraction is None:
            return "single images"
        case "instances":
            return f"{100 * group.fraction:.3g} % of the training images"


def _describe_unlearning_group(group: UnlearningGroup) -> Iterator[tuple[str, str]]:
    yield "to be forgotten", describe_forget_set(group)
    records = [model.record for row in group.rows for model in row.models]
    if group.rate is not None:
        yield "flipped labels", f"{100 * group.rate:.0f} % of the training set"
        known = {record.known for record in records}
        rest = (
            "" if known == {1.0} else ". The other flipped labels remain unless a method finds them"
        )
        differing = (
            "" if len(known) == 1 else " (or the fraction after known= below a method's name)"
        )
        yield (
            "known flipped labels",
            f"{100 * group.known:.0f} % are given to the methods{differing}{rest}",
        )
    forced = sorted({record.method for record in records if record.forced})
    if forced:
        yield "forced", f"{', '.join(forced)} (known not to work here)"


def _table(columns: StudyTable) -> str:
    caption = (
        f"Mean and standard deviation over seeds, or the 95 % interval of a single seed. {tables.ARROWS['up']} higher is better. "
        f"{tables.ARROWS['down']} lower is better. The others should be as after retraining. "
        f"{NO_VALUE}: not measured or undefined."
    )
    return tables.study_table(columns, caption=caption, kind="measures ladder")


def _costs(costs: StudyTable) -> str:
    caption = (
        "Cost of the methods, and traces of the forgotten data in the features: steps to relearn it, and the accuracy "
        "of a linear probe that detects it."
    )
    return tables.study_table(costs, caption=caption, kind="measures ladder")


def _describe_methods(group: UnlearningGroup, columns: Sequence[Column]) -> str:
    methods = dict.fromkeys(row.method for row in group.rows)
    rows = [
        (name, AS_IT_CAME if name == BEFORE else METHODS[name].summary)
        for name in methods
        if name == BEFORE or name in METHODS
    ]
    meanings = {column.title: column.meaning for column in columns if column.meaning}
    return (
        "<details open><summary>Columns</summary>"
        f"{tables.facts(meanings.items())}</details>"
        f"<details open><summary>Rows</summary>{tables.facts(rows)}</details>"
    )


def axes_of(group: UnlearningGroup) -> tuple[str | None, str | None]:
    """Return the names of the plotted quality and time, each None if not measured."""
    measured = {name for row in group.rows for name in row.values}
    return (
        next((name for name in QUALITY if name in measured and name in PAGE[group.goal]), None),
        next((name for name in TIMES if name in measured), None),
    )


def quality_time_plot(group: UnlearningGroup) -> Figure | None:
    """Return the plot of each method's quality against its time, or None if either is not measured."""
    quality, time = axes_of(group)
    if quality is None or time is None:
        return None
    methods = [
        TimedMethod(
            name=row.name,
            time=took.mean,
            quality=good.mean,
            spread=good.sd,
            role=_role(row),
        )
        for row in group.rows
        if (took := row.values.get(time)) and (good := row.values.get(quality))
    ]
    levels = {
        row.name: row.values[quality].mean
        for name in (BEFORE, "retrain")
        for row in group.rows
        if row.name == name and quality in row.values
    }
    up = QUALITY[quality]
    figure = quality_by_time(methods, levels, x_label=f"{TIMES[time]}, log scale", y_label=up)
    if figure is None:
        return None
    roles = dict(ROLES)
    if not any(method.role == "broken" for method in methods):
        del roles["broken"]
    shapes = [(words, [draw_mark((5, 5), role)]) for role, words in roles.items()]
    return figure._replace(
        caption=f"{up[:1].upper()}{up[1:]} against time",
        note="Upper left is best. Whiskers are standard deviations over seeds. A triangle marks a value below the "
        "plot, with the number next to it.",
        key=FigureLegend(shapes, width=10, beside=True),
    )


def _role(row: UnlearningRow) -> Role:
    if row.verdict:
        return "broken"
    return "reference" if row.is_reference else "method"


def belief_histograms(methods: Sequence[MethodBeliefs]) -> Iterator[Figure]:
    """Yield a histogram of each method's confidence, all with the same vertical axis."""
    top = max((max(_shares(part)) for each in methods for part in each[1:]), default=0.0)
    anew = [each.after for each in methods if each.row.method == "retrain"]
    for each in methods:
        drawn = {"before": each.before, "after": each.after}
        if anew and each.row.method != "retrain":
            drawn["retrain"] = np.concatenate(anew)
        name = each.row.name
        yield Figure(
            Frame(height=150, left=44, y=(0.0, min(top * 1.05, 1.0))),
            [steps(EDGES, _shares(beliefs), which) for which, beliefs in drawn.items()],
            title=f"Probability of the label as trained, {name}",
            description="; ".join(
                f"{which}: median {np.median(beliefs):.3f}" for which, beliefs in drawn.items()
            ),
            x=Axis("probability"),
            y=Axis("share", ticks(0, min(top * 1.05, 1.0), 3)),
            caption=name,
            key=swatches(drawn),
        )


def _belief_cards(group: UnlearningGroup, figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    cards = "".join(
        f'<div class="card"><h4>{escape(each.caption)}</h4>{picture(each)}</div>'
        for each in figures
    )
    named = '<span class="swatch belief-before"></span>before <span class="swatch belief-after"></span>after'
    if any(words == "retrain" for each in figures for words, _ in each.key.entries):
        named += ' <span class="swatch belief-retrain"></span>retrained'
    aim = "After successful unlearning the curve is like that of retraining. Further left, the predictions are inverted, not forgotten."
    return (
        f"<h4>Confidence on the data to be forgotten</h4><p>{named}: the probability of the "
        f"{'flipped' if group.goal == 'flips' else 'training'} label, for each sample to be "
        f'forgotten. {aim}</p><div class="grid-of">{cards}</div>'
    )


def _shares(beliefs: Beliefs) -> list[float]:
    """Return the fraction of probabilities in each bin."""
    counts, _ = np.histogram(np.clip(beliefs, 0, 1), EDGES)
    return [float(count) for count in counts / max(counts.sum(), 1)]


def _features(group: UnlearningGroup, planes: Sequence[MethodPlane], classes: Sequence[int]) -> str:
    if not planes:
        return ""
    lost = {int(label) for each in planes for label in each.plane.label[each.plane.forget]}
    shapes = []
    for series, label in enumerate(classes):
        known = 0 <= label < len(group.class_names)
        marks = [KEPT._replace(series=series)]
        if label in lost:
            marks.append(FORGOTTEN._replace(series=series))
        shapes.append((group.class_names[label] if known else f"class {label}", marks))
    anew = any(each.is_new_training for each in planes)
    return (
        "<h4>Features in two dimensions</h4><p>Dots are kept samples, crosses are samples to be forgotten. The axes "
        "are the principal components of the features before unlearning. Points outside the frame are drawn on its "
        f"edge.{' ' + ANEW if anew else ''}</p>"
        f"{key(FigureLegend(shapes, width=22, beside=True))}"
    )


def _group_by_start(planes: Sequence[MethodPlane]) -> list[list[MethodPlane]]:
    """Return planes grouped by their samples and their features before unlearning."""
    groups: dict[bytes, list[MethodPlane]] = {}
    for each in planes:
        plane = each.plane
        same = plane.before.tobytes() + plane.label.tobytes() + plane.forget.tobytes()
        groups.setdefault(same, []).append(each)
    return list(groups.values())


def feature_clouds(planes: Sequence[MethodPlane], classes: Sequence[int]) -> Iterator[Figure]:
    """Yield a figure of the features before unlearning, then those after it on the same axes.

    Args:
        planes: planes with the same samples and the same features before unlearning.
        classes: classes in the order of their colours.
    """
    first = planes[0].plane
    shown = _limits(first.before)
    yield _cloud("before", "before", first, first.before, classes, shown)
    for each in planes:
        name = each.row.name
        cloud = _cloud(name, f"after {name}", first, each.plane.after, classes, shown)
        words = ("new training", cloud.note.strip()) if each.is_new_training else (cloud.note,)
        yield cloud._replace(note=", ".join(filter(None, words)) or cloud.note)


def _limits(original: Places) -> Limits:
    """Return the part of the plane that is shown: the extent of the features before unlearning, with a margin."""
    low, high = original.min(0), original.max(0)
    air = np.maximum((high - low) * AIR, 1e-6)
    (left, down), (right, up) = (low - air).tolist(), (high + air).tolist()
    return (left, right), (down, up)


def _fraction_outside(places: Places, limits: Limits) -> float:
    """Return the fraction of points outside the plot."""
    (left, right), (down, up) = limits
    x, y = places[:, 0], places[:, 1]
    return float(np.mean((x < left) | (x > right) | (y < down) | (y > up)))


def _cloud(
    name: str, title: str, plane: Plane, places: Places, classes: Sequence[int], limits: Limits
) -> Figure:
    """Return features as dots in the colours of their classes, the forget set as crosses.

    Args:
        name: caption of the figure.
        title: title of the figure.
        plane: class of each sample, and whether it is in the forget set.
        places: projected features, (M, 2). Points outside `limits` are drawn on its edge.
        classes: classes in the order of their colours.
        limits: part of the plane that is drawn.
    """
    x, y = limits
    drawn: list[DrawnShape] = [rectangle("edge", x, y)]
    for forget, mark in ((False, KEPT), (True, FORGOTTEN)):
        for series, class_ in enumerate(classes):
            which = (plane.forget == forget) & (plane.label == class_)
            if which.any():
                drawn.append(mark._replace(points=places[which].tolist(), series=series))
    count, out = int(plane.forget.sum()), _fraction_outside(places, limits)
    beyond = f"; {100 * out:.0f} % outside the frame" if out else ""
    return Figure(
        Frame(SIDE, SIDE, left=8, right=8, top=8, bottom=8, x=x, y=y),
        drawn,
        title=f"Features {title}",
        description=f"{len(plane.forget) - count} kept, {count} to be forgotten{beyond}",
        caption=name,
        note=f"{100 * out:.0f} % outside the frame" if out else NOTHING,
    )
