"""One unlearned model beside the others of its base and seed: everything that can be told of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueface.evaluation import predictions
from trueface.runtime import paths
from trueface.runtime.errors import DataError, MachineError
from trueface.unlearning.evaluation import intervals
from trueface.unlearning.evaluation.measures import (
    Parts,
    Sheet,
    Unmeasured,
    alone,
    right,
    sheet,
    tested,
)
from trueface.unlearning.evaluation.membership_inference import membership
from trueface.unlearning.evaluation.retrain_gap import against, recovery
from trueface.unlearning.evaluation.ruined_models import judged
from trueface.unlearning.evaluation.sanity_checks import Alarm
from trueface.unlearning.evaluation.unlearned_models import Entry, one_of
from trueface.unlearning.record import Record

NOT_RETRAINED = "no model was retrained with this seed"
NO_TRAINING = "the time of the training is not known"
BEFORE = "before"  # the model as it came, as if it were a method
ANEW = frozenset(
    {"retrain", "corrected"}
)  # what others are held against: less data may cost accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model of one seed."""

    row: tuple[str, str]
    base: str  # ID of the model before, with its seed and draw
    seed: int
    sheet: Sheet
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]
    sources: Mapping[int, int]  # of the test images of each class; empty where they have no folders


def measured(entries: Sequence[Entry]) -> list[Measured]:
    """Return what is measured of all models made of one base with one seed, and of that base."""
    retrained, corrected = (one_of(entries, name) for name in ("retrain", "corrected"))
    plain = retrained or entries[0]
    kept = {one.folder: _after(one) for one in (retrained, corrected) if one is not None}
    clean = corrected or retrained
    sides = _Sides(
        retrained=None if retrained is None else retrained.record,
        reference=None if retrained is None else kept[retrained.folder],
        poisoned=_Said(paths.answers_before(plain.folder), plain.record),
        clean=None if clean is None else kept[clean.folder],
    )
    base = _measure(plain, sides.poisoned, sides, of=_of_base(plain.record, sides.retrained))
    found = [replace(base, row=(BEFORE, ""), notes=())]
    for entry in entries:
        said = kept.get(entry.folder) or _after(entry)
        found.append(_measure(entry, said, sides, of=_of_record(entry.record, sides.retrained)))
    return found


class _Said:
    """The answers of a model, and what can be told of them alone."""

    def __init__(self, path: Path, told: Record) -> None:
        self.parts: Parts | None = None
        try:
            self.parts = found = _read(path)
            one = alone(found, goal=told.goal, forgotten=told.forgotten)
            self.sheet = one | membership(found, goal=told.goal, forgotten=told.forgotten)
        except (DataError, MachineError) as error:
            self.sheet = Sheet(values={}, reasons={"answers": str(error)})

    @property
    def sound(self) -> Parts | None:
        """The answers, where there are any and all are finite."""
        return None if "answers" in self.sheet.reasons else self.parts


def _read(path: Path) -> Parts:
    found = predictions.read(path)
    missing = [name for name in ("forget", "retain", "validation") if name not in found]
    if missing:
        raise DataError(f"{path} has no answers on {', '.join(missing)}")
    return found


def _after(entry: Entry) -> _Said:
    return _Said(paths.answers_after(entry.folder), entry.record)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """What the models of one base and seed are set beside."""

    retrained: Record | None
    reference: _Said | None  # of the retrained model
    poisoned: _Said
    clean: _Said | None


def _measure(entry: Entry, said: _Said, sides: _Sides, *, of: Sheet) -> Measured:
    told, found = entry.record, said.sheet | of
    warned: tuple[Alarm, ...] = ()
    if said.parts is not None:
        warned = _warned(told, said.parts, sides, of_base=said is sides.poisoned)
    if said.sound is not None:
        found |= _beside(told, said.sound, found, sides)
    sources = {} if said.sound is None or told.goal != "flips" else _sources(said.sound)
    return Measured(
        row=entry.row,
        base=told.base,
        seed=told.seed,
        sheet=found,
        alarms=warned,
        notes=_notes(told),
        sources=sources,
    )


def _sources(parts: Parts) -> Mapping[int, int]:
    test = tested(parts)
    return intervals.designed(test, right(test)).sources


def _warned(told: Record, parts: Parts, sides: _Sides, *, of_base: bool) -> tuple[Alarm, ...]:
    """Return the alarms of a model; trainings anew are not held against the model before."""
    anew = told.method in ANEW or of_base
    return judged(
        parts,
        goal=told.goal,
        before=None if anew else sides.poisoned.parts,
        retrained=None if sides.reference is None else sides.reference.parts,
        forgotten=told.forgotten,
        names=told.class_names,
    )


def _notes(told: Record) -> tuple[str, ...]:
    """Return what a person should know of how it went."""
    found = told.found
    if found is None:
        return told.notes
    said = (
        f"seed {told.seed}: {found.flagged} labels were taken for wrong, {found.right} of them "
        f"rightly, of {found.hidden} that were hidden"
    )
    return (said, *told.notes)


def _beside(told: Record, parts: Parts, one: Sheet, sides: _Sides) -> Sheet:
    """Return the measures that need another model's answers."""
    reference = sides.reference
    if reference is None:
        why = f"no model was retrained from {told.base} with seed {told.seed}"
        found = Sheet(values={}, reasons={"gap": why, "tow": why})
    elif reference.sound is None:
        why = f"of the retrained model: {reference.sheet.reasons['answers']}"
        found = Sheet(values={}, reasons={"gap": why, "tow": why})
    else:
        test = "test_retain" if told.goal == "class" else "test"
        found = against(parts, reference.sound, one=one, other=reference.sheet, test=test)
    return found | _recovered(told, parts, sides)


def _recovered(told: Record, parts: Parts, sides: _Sides) -> Sheet:
    def share() -> Mapping[str, float]:
        if told.goal != "flips":
            raise Unmeasured("no label was wrong")
        if sides.clean is None:
            raise Unmeasured("no model was corrected or retrained with this seed")
        poisoned, clean = sides.poisoned.sound, sides.clean.sound
        if poisoned is None or clean is None:
            raise Unmeasured("the answers of the poisoned or the clean model are not known")
        found = recovery(tested(parts), tested(poisoned), tested(clean))
        return {
            "recovery": found.value, "recovery_low": found.low, "recovery_high": found.high,
        }  # fmt: skip

    try:
        return Sheet(values=share(), reasons={})
    except Unmeasured as error:
        return Sheet(values={}, reasons={"recovery": str(error)})


def _of_record(told: Record, retrained: Record | None) -> Sheet:
    """Return what a record tells in numbers."""
    relearned = told.relearn.steps if told.relearn else None
    retrain_steps = retrained.relearn.steps if retrained and retrained.relearn else None
    why_no_relearn = f"not within {told.relearn.most} steps" if told.relearn else "it was not tried"
    values: dict[str, tuple[float | None, str]] = {
        "seconds": (told.seconds, ""),
        "samples": (told.samples_read, ""),
        "cached_seconds": (told.cached_seconds, ""),
        "cached_samples": (told.cached_samples, ""),
        "peak_bytes": (told.peak_bytes, "the system does not tell it"),
        **_ratios(told.seconds, told, retrained),
        "relearn": (relearned, why_no_relearn),
        "anamnesis": (
            _ratio(relearned, retrain_steps),
            f"{why_no_relearn}, or the retrained model needed none, or it is not known",
        ),
        "probe": (told.probe.after if told.probe else None, "it was not tried"),
        "probe_before": (told.probe.before if told.probe else None, "it was not tried"),
        "probe_chance": (told.probe.chance if told.probe else None, "it was not tried"),
        "attack": (told.attack, "no patch was put on"),
        "attack_before": (told.attack_before, "no patch was put on"),
        "found_precision": (told.found.precision if told.found else None, "nothing was found"),
        "found_recall": (told.found.recall if told.found else None, "nothing was looked for"),
    }
    return _known(values)


def _of_base(told: Record, retrained: Record | None) -> Sheet:
    """Return what the same record tells of its base: the training in place of the unlearning."""
    seconds = told.training_seconds
    return _known(
        {
            "seconds": (seconds, NO_TRAINING),
            "samples": (told.training_samples, "what the training read is not known"),
            # a training's time has its pass for features in it: so it is set beside retraining with
            # that pass
            "of_retrain": (
                _ratio(seconds, None if retrained is None else _with_cache(retrained)),
                NOT_RETRAINED,
            ),
            "of_training": (_ratio(seconds, seconds), NO_TRAINING),
            "probe": (told.probe.before if told.probe else None, "it was not tried"),
            "probe_chance": (told.probe.chance if told.probe else None, "it was not tried"),
            "attack": (told.attack_before, "no patch was put on"),
        }
    )


def _ratios(
    seconds: float | None, told: Record, retrained: Record | None
) -> dict[str, tuple[float | None, str]]:
    of_retrain = _ratio(seconds, retrained.seconds if retrained else None)
    whole = _with_cache(told)  # as a training's time has its own in it
    return {
        "of_retrain": (of_retrain, NOT_RETRAINED),
        "of_training": (_ratio(whole, told.training_seconds), NO_TRAINING),
    }


def _with_cache(told: Record) -> float:
    """Return the seconds of an unlearning as if its cache had been empty."""
    return told.seconds + told.cached_seconds


def _known(values: Mapping[str, tuple[float | None, str]]) -> Sheet:
    def maker(value: float | None, why: str) -> Callable[[], float]:
        def make() -> float:
            if value is None:
                raise Unmeasured(why)
            return value

        return make

    return sheet({name: maker(*pair) for name, pair in values.items()})


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
