"""What a report shows of unlearning: for each base model its methods, grouped over seeds.

The measures, what each is called and what it says; and what an unlearning's files tell beyond them: confidences,
and features in the plane.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import predictions
from trueface.evaluation.predictions import Answered
from trueface.runtime import paths
from trueface.runtime.errors import DataError, MachineError
from trueface.unlearning.evaluation import afterwards, leaderboard
from trueface.unlearning.evaluation.cross_entropy import log_probabilities
from trueface.unlearning.evaluation.leaderboard import Group, Spread
from trueface.unlearning.evaluation.measurement import Entry, find, seedless
from trueface.unlearning.evaluation.sanity_checks import class_name
from trueface.unlearning.registry import METHODS, Goal

Better = Literal["up", "down", ""]
Kind = Literal["share", "count", "number", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A measure of a table."""

    name: str  # as the ladder calls it
    title: str
    says: str  # what it is
    better: Better = ""  # "": as after retraining
    kind: Kind = "share"


TEST = Column(name="test", title="test", better="up", says="accuracy on the test set")
VALIDATION = Column(
    name="val", title="validation", better="up", says="accuracy on the validation set"
)
RETAIN = Column(
    name="retain", title="retain", says="accuracy on what was kept, by the labels as trained"
)
US = Column(
    name="us",
    title="US",
    better="up",
    says="unlearning score, of both accuracies on the test: 1 keeps all and forgets all; it does "
    "not see what is left in the features",
)
OF_RETRAIN = Column(
    name="of_retrain",
    title="time, retrain = 1",
    better="down",
    kind="number",
    says="time of the method alone by that of retraining with the same seed; of the model before, "
    "its training by retraining with the pass for features, which is in a training's time",
)
OF_TRAINING = Column(
    name="of_training",
    title="time, training = 1",
    better="down",
    kind="number",
    says="time of the method, with what it caches, by that of the training of the model before",
)
SECONDS = Column(
    name="seconds",
    title="seconds",
    better="down",
    kind="number",
    says="time of the method alone; of the model before, that of its training",
)
OF_GOAL: Mapping[Goal, tuple[Column, ...]] = {
    "flips": (
        TEST,
        VALIDATION,
        RETAIN,
        Column(
            name="forget",
            title="forget, flipped label",
            better="down",
            says="fraction of the forgotten that is still predicted as the flipped label",
        ),
        Column(
            name="forget_true",
            title="forget, true label",
            better="up",
            says="share of the forgotten that is called what it is",
        ),
        Column(
            name="recovery",
            title="recovery",
            better="up",
            says="share of the damage on the test that is undone: 0 is the model before, 1 the one "
            "that was trained with corrected labels",
        ),
    ),
    "class": (
        US,
        Column(
            name="test_retain",
            title="test, kept",
            better="up",
            says="accuracy on the test, on the classes that were kept",
        ),
        Column(
            name="test_forget",
            title="test, forgotten",
            better="down",
            says="accuracy on the test, on what was forgotten",
        ),
        RETAIN,
        Column(
            name="forget",
            title="forget",
            better="down",
            says="accuracy on the forgotten samples of the training",
        ),
    ),
    "instances": (
        TEST,
        VALIDATION,
        RETAIN,
        Column(name="forget", title="forget", says="accuracy on the forgotten samples"),
    ),
}
BESIDE = (
    Column(
        name="gap",
        title="gap to retrain",
        better="down",
        says="mean difference from retraining, of retain, forget, test and MIA, SVC",
    ),
    Column(
        name="tow",
        title="ToW",
        better="up",
        says="tug of war: 1 where retain, forget and test are as after retraining",
    ),
    Column(
        name="mia_svc",
        title="MIA, SVC",
        says="share of the forgotten that an attack on confidences takes for never seen",
    ),
    Column(
        name="mia_loss",
        title="MIA, loss",
        says="how often an attack on losses tells the forgotten from test images; 0.5 is a guess",
    ),
    Column(
        name="mia_tpr",
        title="MIA, TPR at 1 % FPR",
        says="share of the forgotten that losses give away where 1 % of the test images of their "
        "classes are accused; 0.01 is a guess",
    ),
    Column(name="auc", title="AUC", better="up", says="area under the ROC curve, on the test"),
    Column(name="ece", title="ECE", better="down", says="calibration error, on the test"),
    OF_RETRAIN,
    OF_TRAINING,
)
COSTS = (
    SECONDS,
    Column(
        name="cached_seconds",
        title="seconds for the cache",
        better="down",
        kind="number",
        says="time for what is computed once and kept, not in the time above",
    ),
    Column(
        name="samples",
        title="samples read",
        better="down",
        kind="count",
        says="samples that the method read, each time counted",
    ),
    Column(
        name="cached_samples",
        title="samples for the cache",
        better="down",
        kind="count",
        says="samples read for what is kept",
    ),
    Column(
        name="peak_bytes",
        title="peak memory, GiB",
        better="down",
        kind="bytes",
        says="most memory at a time",
    ),
    Column(
        name="relearn",
        title="relearn, steps",
        kind="number",
        says="steps of training until the forgotten is known again",
    ),
    Column(
        name="anamnesis",
        title="relearn, retrain = 1",
        kind="number",
        says="the same by the steps of the retrained model: far below 1, it was hidden, not "
        "forgotten",
    ),
    Column(
        name="probe",
        title="probe",
        says="accuracy of a linear probe of the features: the forgotten, or not",
    ),
    Column(name="probe_chance", title="probe, chance", says="what one answer to all scores there"),
    Column(
        name="attack",
        title="patch succeeds",
        better="down",
        says="how often the backdoor's patch gets its way",
    ),
    Column(
        name="kl_forget",
        title="KL, forget",
        better="down",
        kind="number",
        says="divergence from the retrained model's answers on the forgotten, in nats",
    ),
    Column(
        name="kl_test",
        title="KL, test",
        better="down",
        kind="number",
        says="divergence from the retrained model's answers on the test, in nats",
    ),
    Column(
        name="found_precision",
        title="found, precision",
        better="up",
        says="share of the labels called wrong that are wrong",
    ),
    Column(
        name="found_recall",
        title="found, recall",
        better="up",
        says="fraction of the unknown flipped labels that was found",
    ),
)
QUALITY: Mapping[Goal, tuple[Column, ...]] = {  # against time: the first that is known
    "flips": (replace(TEST, title=TEST.says), replace(VALIDATION, title=VALIDATION.says)),
    "class": (replace(US, title="unlearning score US"),),
    "instances": (replace(TEST, title=TEST.says), replace(VALIDATION, title=VALIDATION.says)),
}
TIMES = (
    replace(OF_RETRAIN, title="time as a fraction of retraining's"),
    replace(OF_TRAINING, title="time as a fraction of the training's"),
    replace(SECONDS, title="time in seconds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """Probabilities (N,) of the label as trained, of what was to be forgotten, over all seeds."""

    name: str
    method: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Features of some samples in the plane, of the first seed."""

    name: str
    anew: bool  # trained from a new start: its axes are not those of the model before
    before: NDArray[np.float64]  # (M, 2)
    after: NDArray[np.float64]  # (M, 2)
    label: NDArray[np.int64]  # (M,)
    forget: NDArray[np.bool_]  # (M,)


def beliefs(name: str, method: str, folders: Sequence[Path]) -> Beliefs | None:
    """Return how sure models were of what they were to forget, over all seeds of a method.

    Raises:
        DataError: answers cannot be read.
    """
    befores, afters = [], []
    for folder in folders:
        before, after = (
            predictions.read(path(folder)).get("forget")
            for path in (paths.answers_before, paths.answers_after)
        )
        if before is not None and after is not None:
            befores.append(belief(before))
            afters.append(belief(after))
    if not sum(map(len, befores)) or not sum(map(len, afters)):
        return None
    return Beliefs(
        name=name, method=method, before=np.concatenate(befores), after=np.concatenate(afters)
    )


def belief(part: Answered) -> NDArray[np.float64]:
    """Return the probability of the label as trained: (N,), broken logits left out."""
    whole = np.isfinite(part.logits).all(1)
    rows = np.flatnonzero(whole)
    logs: NDArray[np.float64] = log_probabilities(part)[rows, part.trained[rows]]
    return np.exp(logs)


def cloud(name: str, folder: Path, *, anew: bool) -> Cloud | None:
    """Return features in the plane, or None where a model has none.

    Raises:
        DataError: there are some that cannot be read, or not one is finite.
    """
    path = paths.plane(folder)
    if not path.is_file():
        return None
    plane = afterwards.read(path)
    whole = np.isfinite(plane.before).all(1) & np.isfinite(plane.after).all(1)
    if not whole.any():
        raise DataError(f"{path} holds no finite features")
    return Cloud(
        name=name,
        anew=anew,
        before=plane.before[whole],
        after=plane.after[whole],
        label=plane.label[whole],
        forget=plane.forget[whole],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method, over its seeds."""

    method: str
    swept: str  # settings that tell it from other rows of its method
    reference: bool  # a step of the ladder: before, or a plain training
    seeds: int
    values: Mapping[str, Spread]  # by names of columns
    reasons: Mapping[str, str]  # why there is no such value
    alarms: tuple[str, ...]  # each a sentence
    verdict: str  # why nothing is left of the model; "" of one that works
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to call it in a plot."""
        return f"{self.method} {self.swept}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A model of which something was to be forgotten, and what came of it."""

    name: str
    goal: Goal
    class_names: tuple[str, ...]
    about: tuple[tuple[str, str], ...]  # facts, by name
    columns: tuple[Column, ...]
    costs: tuple[Column, ...]  # of a second table: time, memory, what is left of the forgotten
    quality: Column | None  # what is plotted against time
    time: Column | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    beliefs: tuple[Beliefs, ...]
    clouds: tuple[Cloud, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlearnings:
    """All unlearnings of a run."""

    bases: tuple[Base, ...]
    troubles: tuple[str, ...]  # what cannot be shown, and why


def unlearnings(run: Path) -> Unlearnings | None:
    """Return what was unlearned in a run, or None where nothing was.

    Args:
        run: its folder, or that of one unlearned model.
    """
    entries, troubles = find(run)
    if not entries:
        return Unlearnings(bases=(), troubles=tuple(troubles)) if troubles else None
    bases = []
    for group in leaderboard.ladder(run).groups:
        base, more = _base(group, [entry for entry in entries if _made_of(entry, group)])
        bases.append(base)
        troubles += more
    return Unlearnings(bases=tuple(bases), troubles=tuple(troubles))


def _base(group: Group, entries: Sequence[Entry]) -> tuple[Base, list[str]]:
    rows = tuple(map(_row, group.rows))
    measured = {name for row in rows for name in row.values}
    hidden = {VALIDATION.name} if TEST.name in measured else set()
    hidden |= {OF_TRAINING.name} if OF_RETRAIN.name in measured else set()
    idle = {name for name in measured if name.startswith("cached_") and not _any(rows, name)}
    troubles: list[str] = []
    sure, clouds = [], []
    for row in rows:
        own = [entry for entry in entries if entry.row == (row.method, row.swept)]
        try:
            sure.append(beliefs(row.name, row.method, [entry.folder for entry in own]))
        except (DataError, MachineError) as error:
            troubles.append(str(error))
        try:
            clouds.append(_cloud(row, own))
        except (DataError, MachineError) as error:
            troubles.append(str(error))
    wanted = (*OF_GOAL[group.goal], *BESIDE)
    base = Base(
        name=group.base,
        goal=group.goal,
        class_names=group.class_names,
        about=tuple(_about(group, entries)),
        columns=tuple(entry for entry in wanted if entry.name in measured - hidden),
        costs=tuple(entry for entry in COSTS if entry.name in measured - idle),
        quality=_first(QUALITY[group.goal], measured),
        time=_first(TIMES, measured),
        rows=rows,
        notes=group.notes,
        beliefs=tuple(entry for entry in sure if entry is not None),
        clouds=tuple(entry for entry in clouds if entry is not None),
    )
    return base, troubles


def _row(row: leaderboard.Row) -> Row:
    unread = row.reasons.get("answers")
    unread_note = () if unread is None or row.alarms else (unread,)
    return Row(
        method=row.method,
        swept=row.swept,
        reference=row.method in leaderboard.REFERENCES,
        seeds=len(row.seeds),
        values=row.values,
        reasons=row.reasons,
        alarms=tuple(alarm.text for alarm in row.alarms),
        verdict=row.verdict,
        notes=(*unread_note, *row.notes),
    )


def _cloud(row: Row, entries: Sequence[Entry]) -> Cloud | None:
    """Return the features of the first seed that has them."""
    method = METHODS.get(row.method)
    for entry in sorted(entries, key=lambda entry_: entry_.record.seed):
        points = cloud(
            row.name, entry.folder, anew=method is not None and "untrained model" in method.needs
        )
        if points is not None:
            return points
    return None


def _about(group: Group, entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    match group.goal:
        case "flips":
            yield "to be forgotten", "flipped labels"
        case "class":
            names = [class_name(label, group.class_names) for label in group.forgotten]
            yield "to be forgotten", f"{', '.join(names)}, of {group.classes} classes"
        case "instances":
            yield (
                "to be forgotten",
                "single images"
                if group.fraction is None
                else f"{100 * group.fraction:.3g}% of the training images",
            )
    if group.rate is not None:
        yield "flipped labels", f"{group.rate:.0%} of the training set"
        yield "known by name", f"{group.known:.0%} of them"
    forced = sorted({entry.record.method for entry in entries if entry.record.forced})
    if forced:
        yield "forced", f"{', '.join(forced)}: known not to work here"


def _any(rows: Sequence[Row], name: str) -> bool:
    return any(row.values[name].mean for row in rows if name in row.values)


def _first(columns: Sequence[Column], measured: set[str]) -> Column | None:
    return next((column for column in columns if column.name in measured), None)


def _made_of(entry: Entry, group: Group) -> bool:
    record = entry.record
    return (
        seedless(record.base),
        record.goal,
        record.forgotten,
        record.fraction,
        record.known,
    ) == (
        group.base,
        group.goal,
        group.forgotten,
        group.fraction,
        group.known,
    )
