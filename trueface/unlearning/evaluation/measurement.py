"""All measures of an unlearned model, set beside the other models of its base and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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
    against,
    alone,
    recovery,
    right,
    tested,
)
from trueface.unlearning.evaluation.membership_inference import membership
from trueface.unlearning.evaluation.sanity import Alarm, judged
from trueface.unlearning.record import Record


class UnlearnedModel(NamedTuple):
    """A model from which something was unlearned."""

    folder: Path
    record: Record

    @property
    def swept(self) -> str:
        """The swept settings that its base has not, but for seeds: "lr=0.1"."""
        there = set(_variant(self.record.base))
        own = (pair for pair in _variant(self.record.model) if pair not in there)
        return ",".join(f"{key}={value}" for key, value in own)


def find(run: Path) -> tuple[list[UnlearnedModel], list[str]]:
    """Return the unlearned models of a run, sorted, and which of them cannot be read, and why."""
    models, troubles = [], []
    for folder in sorted({run, *run.iterdir()}):
        if not folder.is_dir():
            continue
        try:
            unlearning = record.read(folder)
        except DataError as error:
            troubles.append(str(error))
            continue
        if unlearning is not None:
            models.append(UnlearnedModel(folder, unlearning))
    return models, troubles


def network_of(model: UnlearnedModel) -> str | None:
    """Return the network of a model, as its provenance or its ID says; None where neither does."""
    settings = (read_json(paths.provenance(model.folder)) or {}).get("settings")
    network = settings.get("model") if isinstance(settings, dict) else None
    if isinstance(network, str):
        return network
    return dict(_variant(model.record.base)).get("model")


def reference_model(models: Sequence[UnlearnedModel], method: str) -> UnlearnedModel | None:
    """Return the model of a reference: the one with the fewest settings of its own."""
    candidates = [model for model in models if model.record.method == method]
    return min(candidates, key=lambda model: (model.swept.count("="), model.swept), default=None)


def _variant(model: str) -> tuple[tuple[str, str], ...]:
    parsed = parsed_id(model)
    return () if parsed is None else _without_seeds(parsed.last.variant)


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
    parsed = parsed_id(model)
    if parsed is None:
        return model
    stages = tuple(replace(stage, variant=_without_seeds(stage.variant)) for stage in parsed.stages)
    return str(ModelId(stages))


def parsed_id(model: str) -> ModelId | None:
    """Return a model's ID in parts; None of a model from elsewhere, which no task file named."""
    try:
        return parse_model(model)
    except Error:
        return None


NOT_RETRAINED = "no model was retrained with this seed"
NO_TRAINING = "the time of the training is not known"
BEFORE = "before"  # the model as it came, as if it were a method
ANEW = frozenset({"retrain", "corrected"})  # references: less data may cost them accuracy


class MeasuredModel(NamedTuple):
    """What is measured of one model of one seed, or of its base."""

    method: str  # BEFORE: of the base
    model: UnlearnedModel
    sheet: Sheet
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]
    sources: Mapping[int, int]  # of the test images of each class; empty where they have no folders

    @property
    def row(self) -> tuple[str, str]:
        """What tells its row from others: the method, and its swept settings."""
        return self.method, "" if self.method == BEFORE else self.model.swept

    @property
    def run(self) -> tuple[str, int]:
        """The base and seed that it shares with the models it is compared with."""
        return self.model.record.base, self.model.record.seed


def measured(models: Sequence[UnlearnedModel]) -> list[MeasuredModel]:
    """Return what is measured of the base of models with one base and seed, and of each of them."""
    retrained, corrected = (reference_model(models, name) for name in ("retrain", "corrected"))
    plain = retrained or models[0]
    kept = {model.folder: _after(model) for model in (retrained, corrected) if model is not None}
    clean = corrected or retrained
    references = _References(
        retrained=None if retrained is None else retrained.record,
        reference=None if retrained is None else kept[retrained.folder],
        poisoned=_Answers(paths.answers_before(plain.folder), plain.record),
        clean=None if clean is None else kept[clean.folder],
    )
    base = _of_base(plain.record, references.retrained)
    return [
        _measure(plain, references.poisoned, references, of=base)._replace(method=BEFORE, notes=()),
        *(
            _measure(
                model,
                kept.get(model.folder) or _after(model),
                references,
                of=_of_record(model.record, references.retrained),
            )
            for model in models
        ),
    ]


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


def _after(model: UnlearnedModel) -> _Answers:
    return _Answers(paths.answers_after(model.folder), model.record)


class _References(NamedTuple):
    """What the models of one base and seed are set beside."""

    retrained: Record | None
    reference: _Answers | None  # of the retrained model
    poisoned: _Answers
    clean: _Answers | None


def _measure(
    model: UnlearnedModel, answers: _Answers, references: _References, *, of: Sheet
) -> MeasuredModel:
    record, measures = model.record, answers.sheet | of
    alarms: tuple[Alarm, ...] = ()
    if answers.parts is not None:
        alarms = _warned(record, answers.parts, references, of_base=answers is references.poisoned)
    if answers.sound is not None:
        measures |= _beside(record, answers.sound, measures, references)
    sources = {} if answers.sound is None or record.goal != "flips" else _sources(answers.sound)
    return MeasuredModel(record.method, model, measures, alarms, _notes(record), sources)


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
    return Sheet(
        values={name: float(value) for name, (value, _) in values.items() if value is not None},
        reasons={name: why for name, (value, why) in values.items() if value is None},
    )


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
