"""All measures of an unlearned model, set beside the other models of its base and seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueface.evaluation import predictions
from trueface.runtime import paths
from trueface.runtime.errors import DataError, Error, MachineError
from trueface.runtime.files import read_json
from trueface.runtime.ids import ModelId, parse_model
from trueface.unlearning import record
from trueface.unlearning.evaluation import measures
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
from trueface.unlearning.evaluation.ruined_models import against, judged, recovery
from trueface.unlearning.evaluation.sanity_checks import Alarm
from trueface.unlearning.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An unlearned model."""

    folder: Path
    record: Record

    @property
    def swept(self) -> str:
        """The swept settings that its base has not, but for seeds."""
        return _swept_beyond(self.record.model, self.record.base)

    @property
    def row(self) -> tuple[str, str]:
        """What its row is called."""
        return self.record.method, self.swept


def find(run: Path) -> tuple[list[Entry], list[str]]:
    """Return the unlearned models of a run, sorted, and which of them cannot be read, and why."""
    entries, troubles = [], []
    for folder in sorted({run, *run.iterdir()}):
        if not folder.is_dir():
            continue
        try:
            unlearning = record.read(folder)
        except DataError as error:
            troubles.append(str(error))
            continue
        if unlearning is not None:
            entries.append(Entry(folder=folder, record=unlearning))
    return entries, troubles


def network_of(entry: Entry) -> str | None:
    """Return the network of a model, as its provenance or its ID says; None where neither does."""
    settings = (read_json(paths.provenance(entry.folder)) or {}).get("settings")
    network = settings.get("model") if isinstance(settings, dict) else None
    if isinstance(network, str):
        return network
    return dict(_variant(entry.record.base)).get("model")


def reference_model(entries: Sequence[Entry], method: str) -> Entry | None:
    """Return the model of a reference: the one with the fewest settings of its own."""
    candidates = [entry for entry in entries if entry.record.method == method]
    return min(candidates, key=lambda entry: (entry.swept.count("="), entry.swept), default=None)


def _swept_beyond(model: str, base: str) -> str:
    there = set(_variant(base))
    return ",".join(f"{key}={value}" for key, value in _variant(model) if (key, value) not in there)


def _variant(model: str) -> tuple[tuple[str, str], ...]:
    parsed = _parsed(model)
    return () if parsed is None else _swept(parsed)


def _swept(model: ModelId) -> tuple[tuple[str, str], ...]:
    return _without_seeds(model.last.variant)


def _without_seeds(variant: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return what sets a model apart from its repetitions.

    A draw of the poison that is swept together with the seed is part of the repetition; one that is
    swept alone is what is compared.
    """
    repeated = {"seed"}
    if any(key.rpartition(".")[2] == "seed" for key, _ in variant):
        repeated.add("poison_seed")
    return tuple(pair for pair in variant if pair[0].rpartition(".")[2] not in repeated)


def seedless(model: str) -> str:
    """Return a model's ID without the seeds in any of its stages."""
    parsed = _parsed(model)
    if parsed is None:
        return model
    stages = tuple(replace(stage, variant=_without_seeds(stage.variant)) for stage in parsed.stages)
    return str(ModelId(stages))


def _parsed(model: str) -> ModelId | None:
    try:
        return parse_model(model)
    except Error:  # a model from elsewhere, which no task file named
        return None


NOT_RETRAINED = "no model was retrained with this seed"
NO_TRAINING = "the time of the training is not known"
BEFORE = "before"  # the model as it came, as if it were a method
ANEW = frozenset({"retrain", "corrected"})  # references: less data may cost them accuracy


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
    retrained, corrected = (reference_model(entries, name) for name in ("retrain", "corrected"))
    plain = retrained or entries[0]
    kept = {entry.folder: _after(entry) for entry in (retrained, corrected) if entry is not None}
    clean = corrected or retrained
    references = _References(
        retrained=None if retrained is None else retrained.record,
        reference=None if retrained is None else kept[retrained.folder],
        poisoned=_Answers(paths.answers_before(plain.folder), plain.record),
        clean=None if clean is None else kept[clean.folder],
    )
    base = _measure(
        plain, references.poisoned, references, of=_of_base(plain.record, references.retrained)
    )
    models = [replace(base, row=(BEFORE, ""), notes=())]
    for entry in entries:
        answers = kept.get(entry.folder) or _after(entry)
        models.append(
            _measure(entry, answers, references, of=_of_record(entry.record, references.retrained))
        )
    return models


class _Answers:
    """The answers of a model, and the measures that need nothing else."""

    def __init__(self, path: Path, record: Record) -> None:
        self.parts: Parts | None = None
        try:
            self.parts = parts = _read(path)
            own = alone(parts, goal=record.goal, forgotten=record.forgotten)
            self.sheet = own | membership(parts, goal=record.goal, forgotten=record.forgotten)
        except (DataError, MachineError) as error:
            self.sheet = Sheet(values={}, reasons={"answers": str(error)})

    @property
    def sound(self) -> Parts | None:
        """The answers, where there are any and all are finite."""
        return None if "answers" in self.sheet.reasons else self.parts


def _read(path: Path) -> Parts:
    parts = predictions.read(path)
    missing = [name for name in ("forget", "retain", "validation") if name not in parts]
    if missing:
        raise DataError(f"{path} has no answers on {', '.join(missing)}")
    return parts


def _after(entry: Entry) -> _Answers:
    return _Answers(paths.answers_after(entry.folder), entry.record)


@dataclass(frozen=True, slots=True, kw_only=True)
class _References:
    """What the models of one base and seed are set beside."""

    retrained: Record | None
    reference: _Answers | None  # of the retrained model
    poisoned: _Answers
    clean: _Answers | None


def _measure(entry: Entry, answers: _Answers, references: _References, *, of: Sheet) -> Measured:
    record, measures = entry.record, answers.sheet | of
    alarms: tuple[Alarm, ...] = ()
    if answers.parts is not None:
        alarms = _warned(record, answers.parts, references, of_base=answers is references.poisoned)
    if answers.sound is not None:
        measures |= _beside(record, answers.sound, measures, references)
    sources = {} if answers.sound is None or record.goal != "flips" else _sources(answers.sound)
    return Measured(
        row=entry.row,
        base=record.base,
        seed=record.seed,
        sheet=measures,
        alarms=alarms,
        notes=_notes(record),
        sources=sources,
    )


def _sources(parts: Parts) -> Mapping[int, int]:
    test = tested(parts)
    return measures.designed(test, right(test)).sources


def _warned(
    record: Record, parts: Parts, references: _References, *, of_base: bool
) -> tuple[Alarm, ...]:
    """Return the alarms of a model; retrained models are not compared with the model before."""
    anew = record.method in ANEW or of_base
    return judged(
        parts,
        goal=record.goal,
        before=None if anew else references.poisoned.parts,
        retrained=None if references.reference is None else references.reference.parts,
        forgotten=record.forgotten,
        names=record.class_names,
    )


def _notes(record: Record) -> tuple[str, ...]:
    """Return what a person should know of how it went."""
    search = record.found
    if search is None:
        return record.notes
    summary = (
        f"seed {record.seed}: {search.flagged} labels were taken for wrong, {search.right} of them "
        f"rightly, of {search.hidden} that were hidden"
    )
    return (summary, *record.notes)


def _beside(record: Record, parts: Parts, measures: Sheet, references: _References) -> Sheet:
    """Return the measures that need another model's answers."""
    reference = references.reference
    if reference is None:
        reason = f"no model was retrained from {record.base} with seed {record.seed}"
        compared = Sheet(values={}, reasons={"gap": reason, "tow": reason})
    elif reference.sound is None:
        reason = f"of the retrained model: {reference.sheet.reasons['answers']}"
        compared = Sheet(values={}, reasons={"gap": reason, "tow": reason})
    else:
        test = "test_retain" if record.goal == "class" else "test"
        compared = against(
            parts, reference.sound, measures=measures, reference_measures=reference.sheet, test=test
        )
    return compared | _recovered(record, parts, references)


def _recovered(record: Record, parts: Parts, references: _References) -> Sheet:
    def measure() -> Mapping[str, float]:
        if record.goal != "flips":
            raise Unmeasured("no label was flipped")
        if references.clean is None:
            raise Unmeasured("no model was corrected or retrained with this seed")
        poisoned, clean = references.poisoned.sound, references.clean.sound
        if poisoned is None or clean is None:
            raise Unmeasured("the answers of the poisoned or the clean model are not known")
        recovered = recovery(tested(parts), tested(poisoned), tested(clean))
        return {
            "recovery": recovered.value, "recovery_low": recovered.low, "recovery_high": recovered.high,
        }  # fmt: skip

    try:
        return Sheet(values=measure(), reasons={})
    except Unmeasured as error:
        return Sheet(values={}, reasons={"recovery": str(error)})


def _of_record(record: Record, retrained: Record | None) -> Sheet:
    """Return what a record tells in numbers."""
    relearned = record.relearn.steps if record.relearn else None
    retrain_steps = retrained.relearn.steps if retrained and retrained.relearn else None
    why_no_relearn = (
        f"not within {record.relearn.most} steps" if record.relearn else "it was not tried"
    )
    values: dict[str, tuple[float | None, str]] = {
        "seconds": (record.seconds, ""),
        "samples": (record.samples_read, ""),
        "cached_seconds": (record.cached_seconds, ""),
        "cached_samples": (record.cached_samples, ""),
        "peak_bytes": (record.peak_bytes, "the system does not tell it"),
        **_ratios(record.seconds, record, retrained),
        "relearn": (relearned, why_no_relearn),
        "anamnesis": (
            _ratio(relearned, retrain_steps),
            f"{why_no_relearn}, or the retrained model needed none, or it is not known",
        ),
        "probe": (record.probe.after if record.probe else None, "it was not tried"),
        "probe_before": (record.probe.before if record.probe else None, "it was not tried"),
        "probe_chance": (record.probe.chance if record.probe else None, "it was not tried"),
        "attack": (record.attack, "no patch was put on"),
        "attack_before": (record.attack_before, "no patch was put on"),
        "found_precision": (record.found.precision if record.found else None, "nothing was found"),
        "found_recall": (record.found.recall if record.found else None, "nothing was looked for"),
    }
    return _known(values)


def _of_base(record: Record, retrained: Record | None) -> Sheet:
    """Return what the same record tells of its base: the training in place of the unlearning."""
    seconds = record.training_seconds
    return _known(
        {
            "seconds": (seconds, NO_TRAINING),
            "samples": (record.training_samples, "what the training read is not known"),
            # a training's time has its pass for features in it: so it is set beside retraining with
            # that pass
            "of_retrain": (
                _ratio(seconds, None if retrained is None else _with_cache(retrained)),
                NOT_RETRAINED,
            ),
            "of_training": (_ratio(seconds, seconds), NO_TRAINING),
            "probe": (record.probe.before if record.probe else None, "it was not tried"),
            "probe_chance": (record.probe.chance if record.probe else None, "it was not tried"),
            "attack": (record.attack_before, "no patch was put on"),
        }
    )


def _ratios(
    seconds: float | None, record: Record, retrained: Record | None
) -> dict[str, tuple[float | None, str]]:
    of_retrain = _ratio(seconds, retrained.seconds if retrained else None)
    whole = _with_cache(record)  # as a training's time has its own in it
    return {
        "of_retrain": (of_retrain, NOT_RETRAINED),
        "of_training": (_ratio(whole, record.training_seconds), NO_TRAINING),
    }


def _with_cache(record: Record) -> float:
    """Return the seconds of an unlearning as if its cache had been empty."""
    return record.seconds + record.cached_seconds


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
