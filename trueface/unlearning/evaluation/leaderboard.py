"""The unlearnings of a run beside their references: one group a base, one row a method.

The ladder of references begins with the model as it came and goes on with trainings anew. A method
is worth its name if it comes near to retraining, in less time than they take. Every row is the mean
over seeds, each seed set beside the retrained model of the same base and seed. Methods that left no
working model come last.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from trueface.evaluation import predictions
from trueface.evaluation.intervals import Measure
from trueface.evaluation.measurement import few_sources
from trueface.evaluation.over_seeds import (
    NO_MODELS,
    NO_SEEDS,
    MissingModels,
    MissingSeeds,
    OverSeeds,
    over_seeds,
)
from trueface.runtime import paths
from trueface.runtime.errors import DataError, Error, MachineError
from trueface.runtime.files import read_json
from trueface.runtime.ids import ModelId, model_folder_name, parse_model
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
    sheet,
    tested,
)
from trueface.unlearning.evaluation.sanity import RUINED, Alarm, Sort, judged, never_known, noise
from trueface.unlearning.record import Record
from trueface.unlearning.registry import METHODS, Goal


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


def _seed_of_base(model: UnlearnedModel) -> int | None:
    """Return the seed of the training of a model's base, as its ID or its provenance says."""
    parsed = parsed_id(model.record.base)
    swept = () if parsed is None else parsed.last.variant
    for key, value in swept:
        if key.rpartition(".")[2] == "seed" and value.isdecimal():
            return int(value)
    folder = model.folder.parent / model_folder_name(model.record.base)
    settings = (read_json(paths.provenance(folder)) or {}).get("settings")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    return seed if isinstance(seed, int) else None


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
NO_TRAINING = "the training time is unknown"
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
    def seed(self) -> int:
        """The seed of the model; of a base that of its training, if anything says it."""
        record = self.model.record
        if self.method != BEFORE:
            return record.seed
        trained = _seed_of_base(self.model)
        return record.seed if trained is None else trained

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
        # imports scikit-learn, for which a run without an unlearned model need not wait
        from trueface.unlearning.evaluation.membership_inference import membership

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
        raise DataError(f"{path} contains no predictions for {', '.join(missing)}")
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
        f"seed {record.seed}: the search flagged {search.flagged} labels, {search.right} of them "
        f"correctly, of {search.hidden} hidden flipped labels"
    )
    return (summary, *record.notes)


def _beside(record: Record, parts: Parts, measures: Sheet, references: _References) -> Sheet:
    """Return the measures that need another model's answers."""
    reference = references.reference
    if reference is not None and reference.sound is not None:
        test = "test_retain" if record.goal == "class" else "test"
        compared = against(
            parts, reference.sound, measures=measures, reference_measures=reference.sheet, test=test
        )
    else:
        reason = (
            f"no model was retrained from {record.base} with seed {record.seed}"
            if reference is None
            else f"retrained model: {reference.sheet.reasons['answers']}"
        )
        compared = Sheet(values={}, reasons={"gap": reason, "tow": reason})
    return compared | sheet({"recovery": lambda: _recovered(record, parts, references)})


def _recovered(record: Record, parts: Parts, references: _References) -> Measure:
    if record.goal != "flips":
        raise Unmeasured("no label was flipped")
    if references.clean is None:
        raise Unmeasured("no model was corrected or retrained with this seed")
    poisoned, clean = references.poisoned.sound, references.clean.sound
    if poisoned is None or clean is None:
        raise Unmeasured("the predictions of the poisoned or the clean model are unknown")
    return recovery(tested(parts), tested(poisoned), tested(clean))


def _of_record(record: Record, retrained: Record | None) -> Sheet:
    """Return what a record tells in numbers."""
    relearned = record.relearn.steps if record.relearn else None
    retrain_steps = retrained.relearn.steps if retrained and retrained.relearn else None
    why_no_relearn = f"not within {record.relearn.most} steps" if record.relearn else "not measured"
    values: dict[str, tuple[float | None, str]] = {
        "seconds": (record.seconds, ""),
        "samples": (record.samples_read, ""),
        "cached_seconds": (record.cached_seconds, ""),
        "cached_samples": (record.cached_samples, ""),
        "peak_bytes": (record.peak_bytes, "the operating system does not report it"),
        **_ratios(record.seconds, record, retrained),
        "relearn": (relearned, why_no_relearn),
        "anamnesis": (
            _ratio(relearned, retrain_steps),
            f"{why_no_relearn}, or the value of the retrained model is 0 or unknown",
        ),
        "probe": (record.probe.after if record.probe else None, "not measured"),
        "probe_before": (record.probe.before if record.probe else None, "not measured"),
        "probe_chance": (record.probe.chance if record.probe else None, "not measured"),
        "attack": (record.attack, "no patch was applied"),
        "attack_before": (record.attack_before, "no patch was applied"),
        "found_precision": (
            record.found.precision if record.found else None,
            "no label was flagged",
        ),
        "found_recall": (
            record.found.recall if record.found else None,
            "there was no search, or no flipped label was hidden",
        ),
    }
    return _known(values)


def _of_base(record: Record, retrained: Record | None) -> Sheet:
    """Return what the same record tells of its base: the training in place of the unlearning."""
    seconds = record.training_seconds
    return _known(
        {
            "seconds": (seconds, NO_TRAINING),
            "samples": (
                record.training_samples,
                "the number of samples that the training read is unknown",
            ),
            # a training's time has its pass for features in it: so it is set beside retraining with
            # that pass
            "of_retrain": (
                _ratio(seconds, None if retrained is None else _with_cache(retrained)),
                NOT_RETRAINED,
            ),
            "of_training": (_ratio(seconds, seconds), NO_TRAINING),
            "probe": (record.probe.before if record.probe else None, "not measured"),
            "probe_chance": (record.probe.chance if record.probe else None, "not measured"),
            "attack": (record.attack_before, "no patch was applied"),
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


REFERENCES = (BEFORE, "corrected", "retrain", "restart")
CHANGED: Mapping[Goal, tuple[str, str]] = {  # what tells that anything was forgotten
    "flips": ("test", "the test set"),
    "class": ("test_forget", "the forgotten class in the test set"),
    "instances": ("forget", "the forget set"),
}


class UnlearningRow(NamedTuple):
    """A method over its seeds."""

    method: str  # "before": the model as it came
    swept: str  # swept settings that the base has not: "lr=0.1"
    seeds: tuple[int, ...]
    values: Mapping[str, OverSeeds]  # of the measures that some seed has
    reasons: Mapping[str, str]  # why there is no such measure, for those that no seed has
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]
    models: tuple[UnlearnedModel, ...]  # a seed each; none of the model as it came
    missing: MissingSeeds = NO_SEEDS  # seeds without a result

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return f"{self.method} {self.swept}".rstrip()

    @property
    def is_reference(self) -> bool:
        """Whether it is a step of the ladder: the model as it came, or a training anew."""
        return self.method in REFERENCES

    @property
    def verdict(self) -> str:
        """Why nothing is left of the model, such as "chance"; "" of one that works."""
        return next((str(alarm.sort) for alarm in self.alarms if alarm.sort in RUINED), "")


class UnlearningGroup(NamedTuple):
    """All that was made of one base, over its seeds, to forget the same."""

    base: str  # ID without the seed
    network: str | None  # "resnet18"; None where nothing says it, or models differ
    goal: Goal
    classes: int
    class_names: tuple[str, ...]
    forgotten: tuple[int, ...]
    fraction: float | None  # of the training images, for instances
    rate: float | None
    known: float  # fraction of the flipped labels that methods were given; 1 where they differ
    rows: tuple[UnlearningRow, ...]
    notes: tuple[str, ...]


class Ladder(NamedTuple):
    """The unlearnings of a run."""

    run: str
    groups: tuple[UnlearningGroup, ...]
    troubles: tuple[str, ...] = ()  # folders that could not be read, and why


def ladder(run: Path, missing: MissingModels = NO_MODELS) -> Ladder:
    """Return the unlearnings of a run; without groups and troubles where nothing was unlearned.

    Args:
        run: its folder, or that of one unlearned model.
        missing: models of the run without a result.
    """
    models, troubles = find(run)
    groups: dict[tuple[object, ...], list[UnlearnedModel]] = {}
    for model in models:
        record = model.record
        key = (seedless(record.base), record.goal, record.forgotten, record.fraction)
        groups.setdefault(key, []).append(model)
    made = (_with_missing(_group(each), missing) for each in groups.values())
    return Ladder(run.name, tuple(made), tuple(troubles))


def _with_missing(group: UnlearningGroup, missing: MissingModels) -> UnlearningGroup:
    """Return a group whose rows say which seeds have no result."""
    bases = {model.record.base for row in group.rows for model in row.models}
    rows = []
    for row in group.rows:
        known = {model.record.model for model in row.models} or bases
        rows.append(row._replace(missing=missing.of(known, seedless)))
    return group._replace(rows=tuple(rows))


def _group(models: Sequence[UnlearnedModel]) -> UnlearningGroup:
    runs: dict[tuple[str, int], list[UnlearnedModel]] = {}
    for model in models:
        runs.setdefault((model.record.base, model.record.seed), []).append(model)
    by_row: dict[tuple[str, str], list[MeasuredModel]] = {}
    for run in runs.values():
        for each in measured(run):
            by_row.setdefault(each.row, []).append(each)
    by_row = {name: by_row[name] for name in sorted(by_row, key=_place)}
    first = models[0].record
    rows, notes = _with_noise(list(map(_row, by_row.values())), by_row, first.goal)
    known = {model.record.known for model in models}
    networks = {network_of(model) for model in models}
    return UnlearningGroup(
        base=seedless(first.base),
        network=networks.pop() if len(networks) == 1 else None,
        goal=first.goal,
        classes=first.classes,
        class_names=first.class_names,
        forgotten=first.forgotten,
        fraction=first.fraction,
        rate=first.rate,
        known=known.pop() if len(known) == 1 else 1.0,
        rows=tuple(sorted(_without_sense(rows, first.goal, first.classes), key=_is_last)),
        notes=(*_about_references(models), *_about_sources(by_row.values()), *notes),
    )


def _row(measured_models: Sequence[MeasuredModel]) -> UnlearningRow:
    models = _distinct(measured_models)
    names = dict.fromkeys(name for each in models for name in each.sheet.values)
    values = {name: over_seeds(each.sheet.get(name) for each in models) for name in names}
    reasons = {name: why for each in models for name, why in each.sheet.reasons.items()}
    method, swept = models[0].row
    return UnlearningRow(
        method=method,
        swept=swept,
        seeds=tuple(sorted(each.seed for each in models)),
        values={name: value for name, value in values.items() if value is not None},
        reasons={name: why for name, why in reasons.items() if name not in values},
        alarms=_joined(models),
        notes=tuple(dict.fromkeys(note for each in models for note in each.notes)),
        models=() if method == BEFORE else tuple(each.model for each in models),
    )


def _distinct(models: Sequence[MeasuredModel]) -> list[MeasuredModel]:
    """Return each model once: unlearnings of several seeds may have one base.

    The measures of a base are the means over what its unlearnings were to forget.
    """
    by_model: dict[str, list[MeasuredModel]] = {}
    for each in models:
        record = each.model.record
        name = record.base if each.method == BEFORE else str(each.model.folder)
        by_model.setdefault(name, []).append(each)
    return [_averaged(of_model) for of_model in by_model.values()]


def _averaged(models: Sequence[MeasuredModel]) -> MeasuredModel:
    """Return several measurements of one model as one."""
    if len(models) == 1:
        return models[0]
    means: dict[str, float] = {}
    for name in dict.fromkeys(name for each in models for name in each.sheet.values):
        mean = over_seeds(each.sheet.get(name) for each in models)
        means |= {} if mean is None else {name: mean.mean}
    reasons = {name: why for each in models for name, why in each.sheet.reasons.items()}
    alarms = {alarm.sort: alarm for each in reversed(models) for alarm in each.alarms}
    return models[0]._replace(
        sheet=Sheet(
            values=means,
            reasons={name: why for name, why in reasons.items() if name not in means},
        ),
        alarms=tuple(alarms.values()),
    )


def _joined(models: Sequence[MeasuredModel]) -> tuple[Alarm, ...]:
    """Return one alarm of a sort, with the seeds that have it where not all do."""
    by_sort: dict[Sort, list[tuple[int, Alarm]]] = {}
    for each in models:
        for alarm in each.alarms:
            by_sort.setdefault(alarm.sort, []).append((each.seed, alarm))
    joined = []
    for pairs in by_sort.values():
        alarm = pairs[0][1]
        seeds = ", ".join(str(seed) for seed, _ in pairs)
        text = alarm.text if len(models) == 1 else f"seed {seeds}: {alarm.text}"
        joined.append(replace(alarm, text=text))
    return tuple(joined)


def _with_noise(
    rows: Sequence[UnlearningRow], by_row: Mapping[tuple[str, str], list[MeasuredModel]], goal: Goal
) -> tuple[list[UnlearningRow], list[str]]:
    """Return rows with an alarm where nothing changed; a note where that cannot be known."""
    measure, what = CHANGED[goal]

    def by_run(
        row: tuple[str, str],
    ) -> dict[tuple[str, int], float]:  # a seed may have several draws
        models = by_row.get(row, ())
        return {
            each.run: each.sheet.values[measure] for each in models if measure in each.sheet.values
        }

    anew = next((row for row in by_row if row[0] == "retrain"), ("retrain", ""))
    retrained, before = list(by_run(anew).values()), by_run((BEFORE, ""))
    marked, notes = [], []
    for row in rows:
        after = by_run((row.method, row.swept))
        both = sorted(before.keys() & after.keys())  # a study that is under way has not all of them
        if row.method not in {BEFORE, "retrain"} and both:
            first, then = (fmean(of[run] for run in both) for of in (before, after))
            alarm = noise(first, then, retrained, what=what, seeds=len(both))
            if alarm is not None and alarm.sort is Sort.NOISE_UNKNOWN:
                notes.append(alarm.text)
            elif alarm is not None:
                row = row._replace(alarms=(*row.alarms, alarm))
        marked.append(row)
    return marked, list(dict.fromkeys(notes))


def _without_sense(
    rows: Sequence[UnlearningRow], goal: Goal, classes: int
) -> Sequence[UnlearningRow]:
    """Return rows with an alarm where the model had never known what it was to forget."""
    before = next((row.values.get("forget") for row in rows if row.method == BEFORE), None)
    alarm = None if goal != "class" or before is None else never_known(before.mean, classes)
    if alarm is None:
        return rows
    return [row if row.is_reference else row._replace(alarms=(*row.alarms, alarm)) for row in rows]


def _about_references(models: Iterable[UnlearnedModel]) -> list[str]:
    methods = {model.record.method for model in models}
    flips = any(model.record.goal == "flips" for model in models)
    if "retrain" not in methods:
        return [
            "no model was retrained, so gaps are missing and times are relative to the training"
        ]
    if flips and "corrected" not in methods:
        return ["there is no corrected model, so recovery is relative to the retrained model"]
    return []


def _is_last(row: UnlearningRow) -> bool:
    """Tell whether a row stands below all methods that left a working model."""
    return not row.is_reference and bool(row.verdict)


def _about_sources(rows: Iterable[Sequence[MeasuredModel]]) -> list[str]:
    """Return what so few sources of test images leave of an interval."""
    every = (few_sources(each.sources) for row in rows for each in row)
    return [
        "95 % intervals estimate the variation between image sources. With few sources, treat "
        f"them with caution: {few}"
        for few in dict.fromkeys(every)
        if few
    ]


def _place(name: tuple[str, str]) -> tuple[int, int, str, str]:
    """Return what orders rows: references as they stand, methods as the table has them."""
    method, swept = name
    if method in REFERENCES:
        return 0, REFERENCES.index(method), method, swept
    methods = list(METHODS)
    return 1, methods.index(method) if method in methods else len(methods), method, swept
