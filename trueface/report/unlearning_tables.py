"""The tables of unlearning: one row per method, one column per measure of `MEASURES`.

A measure has its titles, its meaning and the form of its numbers here. CSV and JSON contain all measures, a
page those of which some row has a value, and a terminal those of `TERMINAL`.

Published figures of class unlearning on CIFAR-10 are shown next to ours for orientation: one class of ten
forgotten. Source: H. Kim, S. Lee, S. Woo, "Layer attack unlearning", AAAI 2024, arXiv 2312.16823, as the
authors' slides give them. The unlearning scores were computed again from the accuracies. Networks,
epochs and machines are others than ours; time is of theirs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from trueface.evaluation.estimate import Estimate, Interval
from trueface.evaluation.over_seeds import SeedSummary, seeds_text
from trueface.report.figures import number
from trueface.report.study_table import (
    Better,
    Column,
    NumberForm,
    StudyEntry,
    StudyRow,
    StudyTable,
    decimals,
)
from trueface.unlearning.evaluation.alarms import class_name
from trueface.unlearning.evaluation.leaderboard import UnlearningGroup, UnlearningRow
from trueface.unlearning.evaluation.published_figures import CIFAR_10, PublishedFigure
from trueface.unlearning.evaluation.unlearned_models import parse_model_id
from trueface.unlearning.registry import Goal

Kind = Literal["percent", "score", "ratio", "seconds", "count", "steps", "bytes"]
VERDICT, ALARMS = "verdict", "alarms"
SEEDS = Column("seeds", header="n", key="seeds")
PUBLISHED_TITLE = "Published for CIFAR-10 and measured here (one class of ten forgotten)"


def _shorten(value: float, digits: int = 3) -> str:
    return number(round(value) if abs(value) >= 1000 else float(f"{value:.{digits}g}"))


def _form_by_size(*places: tuple[float, int]) -> NumberForm:
    """Return the form of numbers whose decimals depend on the size of the value."""

    def text(value: float, neighbour: float) -> str:
        return f"{value:.{next(digits for end, digits in places if neighbour < end)}f}"

    return NumberForm(lambda value: text(value, value), text)


_SHORT = NumberForm(_shorten, lambda spread, _: _shorten(spread, 2))
_FRACTION = NumberForm(lambda value: f"{value:.3f}".replace("-", "\N{MINUS SIGN}"))
_GROUPED = NumberForm(lambda value: f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}"))
_GIB = decimals(2, factor=1 / (1 << 30))
# in plain text and on a page
_FORMS: Mapping[Kind, tuple[NumberForm, NumberForm]] = {
    "percent": (decimals(2, factor=100), _FRACTION),
    "score": (decimals(3), _FRACTION),
    "ratio": (_form_by_size((10, 3), (math.inf, 1)), _SHORT),
    "seconds": (_form_by_size((1, 3), (100, 1), (math.inf, 0)), _SHORT),
    "count": (decimals(0), _GROUPED),
    "steps": (decimals(0), _SHORT),
    "bytes": (_GIB, _GIB),
}


def _measure(
    key: str, plain: str, title: str, kind: Kind, better: Better, meaning: str, header: str = ""
) -> Column:
    """Return the column of a measure.

    Args:
        key: name in the leaderboard, in CSV and in JSON.
        plain: title in a terminal; "" if it is only on a page.
        title: on a page; "" if it is only in a terminal.
        kind: of its numbers. "percent": fractions, in a terminal in percent.
        better: the end of the scale that is best. "": best as after retraining.
        meaning: for readers who have not read the papers.
        header: title in a pipe, which never changes, if it differs from that in a terminal.
    """
    form, page_form = _FORMS[kind]
    return Column(
        title or plain,
        plain=plain or title,
        key=key,
        header=header,
        form=form,
        page_form=page_form,
        better=better,
        meaning=meaning,
    )


MEASURES = (
    _measure("test", "test %", "test", "percent", "up", "accuracy on the test set"),
    _measure("val", "val %", "validation", "percent", "up", "accuracy on the validation set"),
    _measure(
        "test_tuned", "test (tuned) %", "", "percent", "up",
        "test accuracy at the best validation threshold", "tuned %",
    ),
    _measure(
        "retain", "retain %", "retain", "percent", "",
        "accuracy on the kept training images, by the training labels",
    ),
    _measure("forget", "forget %", "forget", "percent", "", "accuracy on the images to be forgotten"),
    _measure(
        "forget_true", "forget (true) %", "forget, true label", "percent", "up",
        "share of the images to be forgotten that get their true label",
    ),
    _measure(
        "test_retain", "D_tr %", "test, kept", "percent", "up",
        "test accuracy on the kept classes",
    ),
    _measure(
        "test_forget", "D_tf %", "test, forgotten", "percent", "down",
        "test accuracy on the forgotten classes",
    ),
    _measure(
        "recovery", "recovery", "recovery", "score", "up",
        "share of the loss of test accuracy that is undone: 0 for the model before, 1 for a model trained "
        "with corrected labels",
    ),
    _measure(
        "us", "US", "US", "score", "up",
        "unlearning score of the accuracies on kept and on forgotten test images. 1 keeps all and "
        "forgets all. Traces in the features do not change it",
    ),
    _measure(
        "gap", "avg gap points", "average gap to retrain", "percent", "down",
        "mean difference to the retrained model on retain, forget, test and MIA (SVC). 0 is as after "
        "retraining", "gap points",
    ),
    _measure(
        "tow", "ToW", "ToW", "score", "up",
        "tug of war: the product of 1 minus the difference to the retrained model over retain, forget and "
        "test. 1 is as after retraining",
    ),
    _measure(
        "mia_svc", "MIA (SVC) %", "MIA (SVC)", "percent", "",
        "membership inference attack (MIA): it guesses from the predictions on which images the model was "
        "trained. A support vector classifier (SVC) learns from the confidences on kept training images and on "
        "test images. The value is the share of forgotten images that it classifies as not trained on",
    ),
    _measure(
        "mia_loss", "MIA (loss) %", "MIA (loss)", "percent", "",
        "accuracy of a membership inference attack that separates forgotten images from test images by their "
        "loss. 0.5 is a random guess",
    ),
    _measure(
        "mia_tpr", "MIA TPR@1%FPR %", "MIA, TPR at 1 % FPR", "percent", "",
        "share of forgotten images that are recognised as trained on by their loss, at 1 % false positives among "
        "test images of their classes. 0.01 is a random guess", "MIA TPR@1% %",
    ),
    _measure("auc", "AUC", "AUC", "score", "up", "area under the ROC curve on the test set. 0.5 is a random guess"),
    _measure(
        "ece", "ECE", "ECE", "score", "down",
        "expected calibration error on the test set: the mean difference between confidence and accuracy",
    ),
    _measure(
        "of_retrain", "time / retrain", "time, retrain = 1", "ratio", "down",
        "time of the method without its cache, divided by that of retraining with the same seed. For the model "
        "before: its training time divided by that of retraining, both with the pass for features", "× retrain",
    ),
    _measure(
        "of_training", "", "time, training = 1", "ratio", "down",
        "time of the method with its cache, divided by the training time of the model before",
    ),
    _measure(
        "seconds", "time s", "time, s", "seconds", "down",
        "time of the method; for the model before, its training time",
    ),
    _measure(
        "cached_seconds", "cached s", "time for the cache, s", "seconds", "down",
        "time to compute the cache, not included in the time above",
    ),
    _measure(
        "samples", "samples", "samples read", "count", "down",
        "samples that the method read, with repeats",
    ),
    _measure(
        "cached_samples", "", "samples for the cache", "count", "down", "samples read for the cache"
    ),
    _measure("peak_bytes", "", "peak memory, GiB", "bytes", "down", "peak memory use"),
    _measure(
        "relearn", "relearn steps", "relearn, steps", "steps", "",
        "training steps until the forgotten data is learned again", "relearn",
    ),
    _measure(
        "anamnesis", "", "relearn, retrain = 1", "ratio", "",
        "the same divided by the steps of the retrained model. Far below 1 means hidden, not forgotten",
    ),
    _measure(
        "probe", "linear probe %", "linear probe", "percent", "",
        "accuracy of a linear classifier on the features that separates forgotten from other images",
        "probe %",
    ),
    _measure(
        "probe_chance", "", "linear probe, chance", "percent", "", "accuracy of a constant prediction there"
    ),
    _measure(
        "attack", "", "attack success rate", "percent", "down",
        "share of images with the patch that get the class of the backdoor",
    ),
    _measure(
        "kl_forget", "", "KL, forget", "ratio", "down",
        "Kullback-Leibler divergence from the predictions of the retrained model on the forgotten images, in nats",
    ),
    _measure(
        "kl_test", "", "KL, test", "ratio", "down",
        "Kullback-Leibler divergence from the predictions of the retrained model on the test images, in nats",
    ),
    _measure(
        "found_precision", "", "precision of found labels", "percent", "up",
        "share of the found labels that are flipped",
    ),
    _measure(
        "found_recall", "", "recall of found labels", "percent", "up",
        "share of the unknown flipped labels that were found",
    ),
)  # fmt: skip
# the table of membership attacks, whose titles need no "MIA"
ATTACKS = (
    _measure(
        "mia_svc_correctness", "correctness %", "", "percent", "",
        "share of forgotten images that an SVC classifies as not trained on, by whether their class is right",
    ),
    _measure("mia_svc", "confidence %", "", "percent", "", "the same by the confidence in the label"),
    _measure("mia_svc_entropy", "entropy %", "", "percent", "", "the same by the entropy"),
    _measure(
        "mia_svc_modified_entropy", "modified entropy %", "", "percent", "",
        "the same by the modified entropy of L. Song and P. Mittal (arXiv 2003.10595)",
    ),
    _measure(
        "mia_svc_modified_entropy_program", "m_entropy of SVC-MIA %", "", "percent", "",
        "the same by what the program SVC-MIA computes as modified entropy",
    ),
    _measure(
        "mia_svc_probability", "probability %", "", "percent", "", "the same by the probabilities of all classes"
    ),
    _measure(
        "mia_entropy", "members by entropy %", "", "percent", "",
        "share of forgotten images that a logistic regression on the entropy classifies as trained on",
    ),
    _measure(
        "mia_loss", "accuracy by loss %", "", "percent", "",
        "accuracy of separating forgotten images from test images by their loss",
    ),
    _measure(
        "mia_tpr", "TPR@1%FPR by loss %", "", "percent", "",
        "share of forgotten images recognised by their loss at 1 % false positives",
    ),
)  # fmt: skip
_OF_GOAL: Mapping[tuple[Goal, str], Column] = {
    ("flips", "forget"): _measure(
        "forget", "forget (wrong) %", "forget, flipped label", "percent", "down",
        "share of the images to be forgotten that still get the flipped label",
    ),
    ("class", "forget"): _measure(
        "forget", "D_f %", "forget", "percent", "down",
        "accuracy on the training images to be forgotten",
    ),
    ("class", "retain"): _measure(
        "retain", "D_r %", "retain", "percent", "",
        "accuracy on the kept training images, by the training labels",
    ),
}  # fmt: skip

# measures of a `PublishedFigure`
PUBLISHED = "retain", "forget", "test_retain", "test_forget", "us", "seconds"
# measures that a terminal shows, in their order
TERMINAL: Mapping[Goal, tuple[str, ...]] = {
    "flips": (
        "retain", "forget", "forget_true", "val", "test", "test_tuned", "auc", "ece", "recovery", "gap",
        "mia_loss", "mia_tpr", "seconds", "cached_seconds", "of_retrain", "samples",
    ),
    "class": (
        *PUBLISHED, "of_retrain", "cached_seconds", "samples", "probe", "relearn", "mia_loss", "mia_tpr", "gap",
    ),
    "instances": (
        "retain", "forget", "val", "test", "tow", "gap", "mia_svc", "mia_loss", "mia_tpr", "relearn",
        "seconds", "of_retrain", "samples",
    ),
}  # fmt: skip
_BESIDE = "gap", "tow", "mia_svc", "mia_loss", "mia_tpr", "auc", "ece", "of_retrain", "of_training"
# measures of the first table of a page, in their order
PAGE: Mapping[Goal, tuple[str, ...]] = {
    "flips": ("test", "val", "retain", "forget", "forget_true", "recovery", *_BESIDE),
    "class": ("us", "test_retain", "test_forget", "retain", "forget", *_BESIDE),
    "instances": ("test", "val", "retain", "forget", *_BESIDE),
}
_FURTHER_ATTACKS = tuple(each for each in ATTACKS if each.key not in {one.key for one in MEASURES})
_ON_A_PAGE = frozenset(name for names in PAGE.values() for name in names)
# the second table of a page has the other measures
COSTS = tuple(column.key for column in MEASURES if column.key not in {*_ON_A_PAGE, "test_tuned"})
# measures that a page plots against each other, the first known one of either, and the name of its axis
QUALITY = {
    "us": "unlearning score US",
    "test": "accuracy on the test set",
    "val": "accuracy on the validation set",
}
TIMES = {
    "of_retrain": "time as a fraction of retraining's",
    "of_training": "time as a fraction of the training's",
    "seconds": "time in seconds",
}


def methods_table(group: UnlearningGroup) -> StudyTable:
    """Return all measures of a group's methods, with alarms and notes."""
    measures = (*MEASURES, *_FURTHER_ATTACKS)
    columns = [_OF_GOAL.get((group.goal, column.key), column) for column in measures]
    alarms = Column("alarms", key=ALARMS, is_text=True)
    rows = (
        _row(row, columns, StudyEntry(", ".join(alarm.alarm_kind for alarm in row.alarms)))
        for row in group.rows
    )
    return StudyTable.of_rows(
        (*_LEADING, *columns, alarms),
        rows,
        (*_row_notes(group), *group.notes),
        title=f"{group.base}: forget {_forget_set(group)}",
        facts={"base": group.base},
    )


def terminal_table(group: UnlearningGroup) -> StudyTable:
    """Return the table of a terminal."""
    return methods_table(group).select((VERDICT, SEEDS.key, *TERMINAL[group.goal], ALARMS))


def page_tables(group: UnlearningGroup) -> tuple[StudyTable, StudyTable]:
    """Return both tables of a page, with the measures of which some row has a value: qualities, then costs."""
    table = methods_table(group).without_empty()
    known = {column.name for column in table.head}
    hidden = {
        less for more, less in (("test", "val"), ("of_retrain", "of_training")) if more in known
    }
    for name in ("cached_seconds", "cached_samples"):
        if not any(name in row.values and row.values[name].mean for row in group.rows):
            hidden.add(name)
    shown = known - hidden
    qualities = (SEEDS.key, *PAGE[group.goal])
    costs = (SEEDS.key, *COSTS)
    first, second = (
        table.select(filter(shown.__contains__, names)) for names in (qualities, costs)
    )
    rows = (row._replace(alarms=(), notes=()) for row in second.rows)
    return first, second._replace(rows=tuple(rows))


def attacks_table(group: UnlearningGroup) -> StudyTable:
    """Return the membership attacks, with the reasons of attacks without a value."""
    return StudyTable.of_rows(
        (*_LEADING, *ATTACKS),
        (_row(row, ATTACKS) for row in group.rows),
        _attack_notes(group),
        title="Membership attacks",
        facts={"base": group.base},
    )


def published_table(group: UnlearningGroup) -> StudyTable:
    """Return the published figures, and what we measured of the same methods."""
    measured = methods_table(group).select((*PUBLISHED, VERDICT))
    columns = measured.head[1:-1]
    ours = [
        column._replace(
            plain=f"our {column.plain_title}",
            header=f"our {column.header or column.plain_title}",
            key=f"our_{column.key}",
        )
        for column in columns
    ]
    own = {row.method: at for at, row in enumerate(group.rows) if not row.swept}
    nothing = (*(StudyEntry() for _ in ours), StudyEntry(""))

    def row(figure: PublishedFigure) -> StudyRow:
        at = own.get(figure.method) if _is_alike(group, figure) else None
        entries = nothing if at is None else measured.rows[at].entries
        return StudyRow(figure.method, (*_published_entries(figure), *entries))

    verdict = Column("our verdict", key="our_verdict", is_text=True)
    return StudyTable.of_rows(
        (Column("method"), Column("network", is_text=True), *columns, *ours, verdict),
        map(row, CIFAR_10),
        title=PUBLISHED_TITLE,
        facts={"base": group.base},
    )


_LEADING = Column("method"), Column("verdict", key=VERDICT, is_text=True), SEEDS


def _row(row: UnlearningRow, columns: Sequence[Column], *further_entries: StudyEntry) -> StudyRow:
    seeds = StudyEntry(seeds_text(len(row.seeds), row.missing))
    measures = (_entry(row, column.key) for column in columns)
    unread = row.reasons.get("answers")
    return StudyRow(
        row.method,
        (StudyEntry(row.verdict), seeds, *measures, *further_entries),
        model=row.name,
        below=row.swept,
        tag=row.verdict,
        kind="reference" if row.is_reference else "method",
        alarms=tuple(alarm.text for alarm in row.alarms),
        notes=row.notes if unread is None or row.alarms else (unread, *row.notes),
    )


def _entry(row: UnlearningRow, key: str) -> StudyEntry:
    value = row.values.get(key)
    if value is None:
        return StudyEntry(why=row.reasons.get(key, ""))
    return StudyEntry(value, only=_value_of_only_seed(row, key, value))


def _value_of_only_seed(row: UnlearningRow, key: str, value: SeedSummary) -> Estimate | None:
    """Return the value of the only seed with its interval, or the reason of its absence."""
    low, high = (row.values.get(f"{key}_{end}") for end in ("low", "high"))
    if value.sd is not None:
        return None
    if low is not None and high is not None:
        return Estimate(value=value.mean, interval=Interval(low.mean, high.mean))
    why = row.reasons.get(f"{key}_low", "")
    return Estimate(value=value.mean, why=why) if why else None


def _forget_set(group: UnlearningGroup) -> str:
    names = ", ".join(class_name(label, group.class_names) for label in group.forgotten)
    forget_set = {
        "flips": "flipped labels" if group.rate is None else f"{group.rate:.0%} flipped labels",
        "class": f"class {names}",
        "instances": "some images"
        if group.fraction is None
        else f"{100 * group.fraction:.3g}% of the training images",
    }[group.goal]
    return forget_set if group.known == 1 else f"{forget_set}, {group.known:.0%} of them known"


def _row_notes(group: UnlearningGroup) -> Iterator[str]:
    for row in group.rows:
        yield from (f"alarm: {row.name}: {alarm.text}" for alarm in row.alarms)
    for row in group.rows:
        if "answers" in row.reasons:
            yield f"{row.name}: {row.reasons['answers']}"
    for row in group.rows:
        yield from (f"{row.name}: {note}" for note in row.notes)


def _attack_notes(group: UnlearningGroup) -> Iterator[str]:
    """Yield the reasons of attacks without a value, each once."""
    notes: dict[str, list[str]] = {}
    for row in group.rows:
        for column in ATTACKS:
            if column.key in row.reasons:
                title = column.plain_title.removesuffix(" %")
                notes.setdefault(f"no {title}: {row.reasons[column.key]}", []).append(row.name)
    return (f"{', '.join(names)}: {note}" for note, names in notes.items())


def _is_alike(group: UnlearningGroup, figure: PublishedFigure) -> bool:
    """Return whether a group's model is of the data and network of a published figure."""
    base = parse_model_id(group.base)
    return (
        base is not None
        and str(base.last.data).startswith("cifar10:")
        and group.network == figure.network.lower()
    )


def _published_entries(figure: PublishedFigure) -> Iterator[StudyEntry]:
    accuracies = (figure.retain, figure.forget, figure.test_retain, figure.test_forget)
    yield StudyEntry(figure.network)
    yield from (StudyEntry(percent / 100) for percent in accuracies)
    yield from map(StudyEntry, (figure.us, figure.seconds))
