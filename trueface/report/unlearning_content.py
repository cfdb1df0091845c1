"""What a report shows of unlearning: for each base model its methods, grouped over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trueface.report.unlearning_columns import (
    BESIDE,
    COSTS,
    OF_GOAL,
    OF_RETRAIN,
    OF_TRAINING,
    QUALITY,
    TEST,
    TIMES,
    VALIDATION,
    Column,
)
from trueface.report.unlearning_files import Beliefs, Cloud, beliefs, cloud
from trueface.runtime.errors import DataError, MachineError
from trueface.unlearning.evaluation import leaderboard
from trueface.unlearning.evaluation.leaderboard import Group, Spread
from trueface.unlearning.evaluation.measurement import Entry, find, seedless
from trueface.unlearning.evaluation.sanity_checks import class_name
from trueface.unlearning.registry import METHODS, Goal


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
