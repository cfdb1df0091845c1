"""Measures of unlearned models of one base and seed, and of the base."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trueface.data.class_copies import IN_TEST, read_equal_images
from trueface.data.dataset_file import video_sources
from trueface.evaluation.estimate import Estimate
from trueface.predictions.npz_tables import read_npz
from trueface.runtime import paths
from trueface.runtime.errors import DataError, MachineError
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import model_folder_name
from trueface.unlearning.evaluation import measures
from trueface.unlearning.evaluation.alarms import (
    Alarm,
    members_in_test,
    other_base_alarm,
    other_samples_alarm,
)
from trueface.unlearning.evaluation.measures import (
    MetricDict,
    PredictionsBySplit,
    UndefinedMetric,
    compare_with_retrained,
    compute_metrics,
    recovery,
    single_model_metrics,
    unseen_predictions,
)
from trueface.unlearning.evaluation.sanity import find_alarms
from trueface.unlearning.evaluation.unlearned_models import (
    UnlearnedModel,
    parse_model_id,
    reference_model,
)
from trueface.unlearning.record import Record

NOT_RETRAINED = "no model was retrained with this seed"
NO_TRAINING = "the training time is unknown"
BEFORE = "before"  # the model before unlearning, as if it were a method
ANEW = frozenset({"retrain", "corrected"})  # references: less data may cost them accuracy


def _seed_of_base(model: UnlearnedModel) -> int | None:
    """Return the seed of the training of a model's base, by its ID or its provenance."""
    parsed = parse_model_id(model.record.base)
    swept = () if parsed is None else parsed.last.variant
    for key, value in swept:
        if key.rpartition(".")[2] == "seed" and value.isdecimal():
            return int(value)
    folder = model.folder.parent / model_folder_name(model.record.base)
    settings = (read_json(paths.provenance(folder)) or {}).get("settings")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    return seed if isinstance(seed, int) else None


class MeasuredModel(NamedTuple):
    """What is measured of one model of one seed, or of its base."""

    method: str  # BEFORE: of the base
    model: UnlearnedModel
    sheet: MetricDict
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]
    few_sources: str  # few sources of each class's test images; "" if there are many, or no folders

    @property
    def row(self) -> tuple[str, str]:
        """The key of its row: the method, and its swept settings."""
        return self.method, "" if self.method == BEFORE else self.model.swept_settings

    @property
    def seed(self) -> int:
        """The seed of the model; for a base that of its training, if known."""
        record = self.model.record
        if self.method != BEFORE:
            return record.seed
        trained = _seed_of_base(self.model)
        return record.seed if trained is None else trained

    @property
    def run(self) -> tuple[str, int]:
        """The base and seed that it shares with the models it is compared with."""
        return self.model.record.base, self.model.record.seed


def measure_models(
    models: Sequence[UnlearnedModel],
    reference_settings: Mapping[str, str],
    *,
    svc_attacks: bool = False,
) -> list[MeasuredModel]:
    """Return the measures of the base of models with one base and seed, and of each of them.

    Args:
        models: unlearned models.
        reference_settings: method of a reference → its swept settings, the same for all seeds.
        svc_attacks: whether to run all membership attacks, which doubles the time.
    """
    retrained, corrected = (
        reference_model(
            [model for model in models if model.swept_settings == reference_settings.get(name)],
            name,
        )
        for name in ("retrain", "corrected")
    )
    plain = retrained or models[0]
    kept = {
        model.folder: _load_after_unlearning(model, svc_attacks=svc_attacks)
        for model in (retrained, corrected)
        if model is not None
    }
    candidates = [model for model in (corrected, retrained) if model is not None]
    clean = next((model for model in candidates if model.record.known == 1), None)
    references = _References(
        plain=plain,
        retrained=None if retrained is None else retrained.record,
        reference=None if retrained is None else kept[retrained.folder],
        poisoned=_ModelPredictions(
            plain, paths.predictions_before(plain.folder), svc_attacks=svc_attacks
        ),
        clean=None if clean is None else kept[clean.folder],
        why_not_clean="no model was corrected or retrained with this seed"
        if not candidates
        else f"{candidates[0].record.method} was given only {candidates[0].record.known:.3g} of the flipped labels",
    )
    base = _base_metrics(plain.record, references.retrained)
    return [
        _measure(plain, references.poisoned, references, recorded_metrics=base)._replace(
            method=BEFORE, notes=()
        ),
        *(
            _measure(
                model,
                kept.get(model.folder) or _load_after_unlearning(model, svc_attacks=svc_attacks),
                references,
                recorded_metrics=_record_metrics(model.record, references.retrained),
            )
            for model in models
        ),
    ]


class _ModelPredictions:
    """The predictions of a model, and the measures that need nothing else."""

    def __init__(self, model: UnlearnedModel, path: Path, *, svc_attacks: bool) -> None:
        record = model.record
        self.parts: PredictionsBySplit | None = None
        # imports scikit-learn, for which a run without an unlearned model need not wait
        from trueface.unlearning.evaluation import svc_attacks as attacks
        from trueface.unlearning.evaluation.membership_inference import membership

        try:
            sources = _video_sources(model) if record.goal == "flips" else frozenset[str]()
            self.parts = parts = {
                name: measures.name_videos(part, sources) for name, part in _read(path).items()
            }
            own = single_model_metrics(parts, goal=record.goal, forgotten_classes=record.forgotten)
            self.sheet = own | membership(
                parts, goal=record.goal, forgotten_classes=record.forgotten
            )
            if svc_attacks:
                self.sheet |= attacks.svc_attacks(
                    parts, goal=record.goal, forgotten_classes=record.forgotten
                )
        except (DataError, MachineError) as error:
            self.sheet = MetricDict(values={}, reasons={"answers": str(error)})

    @property
    def finite_parts(self) -> PredictionsBySplit | None:
        """The predictions, if there are any and all are finite."""
        return None if "answers" in self.sheet.reasons else self.parts


def _read(path: Path) -> PredictionsBySplit:
    parts = read_npz(path)
    missing = [name for name in ("forget", "retain", "validation") if name not in parts]
    if missing:
        raise DataError(f"{path} contains no predictions for {', '.join(missing)}")
    return parts


def _video_sources(model: UnlearnedModel) -> frozenset[str]:
    """Return the sources of a model's images in which each folder is a video; none if the data root is not known."""
    settings = (read_json(paths.provenance(model.folder)) or {}).get("settings")
    root = settings.get("data_root") if isinstance(settings, dict) else None
    if not isinstance(root, str):
        return frozenset()
    return video_sources(model.folder.parents[2] / Path(root).expanduser())


def _load_after_unlearning(model: UnlearnedModel, *, svc_attacks: bool) -> _ModelPredictions:
    path = paths.predictions_after(model.folder)
    return _ModelPredictions(model, path, svc_attacks=svc_attacks)


def _has_other_base(model: UnlearnedModel, references: "_References") -> bool:
    """Return whether a model was unlearned from other weights of its base than the row of the model before."""
    starts = (_start_of(each) for each in (model, references.plain))
    own, other = starts
    return own is not None and other is not None and own != other


def _start_of(model: UnlearnedModel) -> Json:
    """Return the digest of the weights that a model was unlearned from. None if it is not recorded."""
    return (read_json(paths.provenance(model.folder)) or {}).get("start_sha256")


class _References(NamedTuple):
    """The references for the models of one base and seed."""

    plain: UnlearnedModel  # the model whose record names the base
    retrained: Record | None
    reference: _ModelPredictions | None  # predictions of the retrained model
    poisoned: _ModelPredictions
    clean: _ModelPredictions | None
    why_not_clean: str  # why there is no clean model
    why_not_comparable: str = ""  # why no model can be compared with these

    def without_models(self, reason: str) -> "_References":
        """Return no references, with the reason."""
        return self._replace(
            reference=None, clean=None, why_not_clean=reason, why_not_comparable=reason
        )


def _measure(
    model: UnlearnedModel,
    predictions: _ModelPredictions,
    references: _References,
    *,
    recorded_metrics: MetricDict,
) -> MeasuredModel:
    record, measures = model.record, predictions.sheet | recorded_metrics
    alarms: tuple[Alarm, ...] = ()
    other_base = _has_other_base(model, references)
    if other_base:
        references = references.without_models(
            f"it was unlearned from other weights of {record.base}"
        )
        alarms = (other_base_alarm(record.base),)
    if predictions.parts is not None:
        alarms += _find_model_alarms(
            record, predictions.parts, references, of_base=predictions is references.poisoned
        )
    if (members := members_in_test(_copies_in_test(model))) is not None:
        alarms = (*alarms, members)
    if (others := _other_samples(predictions, references)) is not None:
        alarms = (*alarms, others)
    if predictions.finite_parts is not None:
        measures |= _compare_with_references(record, predictions.finite_parts, measures, references)
    sources = (
        ""
        if predictions.finite_parts is None or record.goal != "flips"
        else _classes_with_few_sources(predictions.finite_parts)
    )
    return MeasuredModel(record.method, model, measures, alarms, _notes(record), sources)


def _other_samples(predictions: _ModelPredictions, references: _References) -> Alarm | None:
    """Return the alarm of a model whose parts have other samples than the row of the model before."""
    before = references.poisoned.parts
    if predictions.parts is None or before is None:
        return None
    return other_samples_alarm(predictions.parts, before)


def _copies_in_test(model: UnlearnedModel) -> int:
    provenance = read_json(paths.provenance(model.folder)) or {}
    equal = read_equal_images(provenance, IN_TEST)
    return 0 if equal is None else equal.images


def _classes_with_few_sources(parts: PredictionsBySplit) -> str:
    test = unseen_predictions(parts)
    return measures.sourced_scores(test, test.right_classes).few_sources


def _find_model_alarms(
    record: Record, parts: PredictionsBySplit, references: _References, *, of_base: bool
) -> tuple[Alarm, ...]:
    """Return the alarms of a model; retrained models are not compared with the model before."""
    anew = record.method in ANEW or of_base or bool(references.why_not_comparable)
    return find_alarms(
        parts,
        goal=record.goal,
        original=None if anew else references.poisoned.parts,
        retrained_parts=None if references.reference is None else references.reference.parts,
        forgotten_classes=record.forgotten,
        names=record.class_names,
    )


def _notes(record: Record) -> tuple[str, ...]:
    """Return the remarks on the run for the user."""
    search = record.found
    if search is None:
        return record.notes
    summary = (
        f"seed {record.seed}: the search flagged {search.flagged} labels, {search.right} of them "
        f"correctly, of {search.hidden} hidden flipped labels"
    )
    if search.expected_precision is not None:
        summary += (
            f". The precision expected from the known ones is {search.expected_precision:.2f}"
        )
    return (summary, *record.notes)


def _compare_with_references(
    record: Record, parts: PredictionsBySplit, measures: MetricDict, references: _References
) -> MetricDict:
    """Return the measures that need another model's predictions."""
    reference = references.reference
    if reference is not None and reference.finite_parts is not None:
        test = "test_retain" if record.goal == "class" else "test"
        compared = compare_with_retrained(
            parts,
            reference.finite_parts,
            measures=measures,
            reference_measures=reference.sheet,
            test=test,
        )
    else:
        reason = references.why_not_comparable or (
            f"no model was retrained from {record.base} with seed {record.seed}"
            if reference is None
            else f"retrained model: {reference.sheet.reasons['answers']}"
        )
        compared = MetricDict(values={}, reasons={"gap": reason, "tow": reason})
    return compared | compute_metrics(
        {"recovery": lambda: _estimate_recovery(record, parts, references)}
    )


def _estimate_recovery(
    record: Record, parts: PredictionsBySplit, references: _References
) -> Estimate:
    if record.goal != "flips":
        raise UndefinedMetric("no label was flipped")
    if references.clean is None:
        raise UndefinedMetric(references.why_not_clean)
    poisoned, clean = references.poisoned.finite_parts, references.clean.finite_parts
    if poisoned is None or clean is None:
        raise UndefinedMetric("the predictions of the poisoned or the clean model are unknown")
    return recovery(
        unseen_predictions(parts), unseen_predictions(poisoned), unseen_predictions(clean)
    )


def _record_metrics(record: Record, retrained_record: Record | None) -> MetricDict:
    """Return the numbers in a record."""
    relearned = record.relearn.steps if record.relearn else None
    retrain_steps = (
        retrained_record.relearn.steps if retrained_record and retrained_record.relearn else None
    )
    why_no_relearn = f"not within {record.relearn.most} steps" if record.relearn else "not measured"
    values: dict[str, tuple[float | None, str]] = {
        "seconds": (record.seconds, ""),
        "samples": (record.samples_read, ""),
        "cached_seconds": (record.cached_seconds, ""),
        "cached_samples": (record.cached_samples, ""),
        "peak_bytes": (record.peak_bytes, "the operating system does not report it"),
        **_ratios(record.seconds, record, retrained_record),
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
    return _metrics_or_reasons(values)


def _base_metrics(record: Record, retrained_record: Record | None) -> MetricDict:
    """Return the values of the base in the same record, with the training in place of the unlearning."""
    seconds = record.training_seconds
    return _metrics_or_reasons(
        {
            "seconds": (seconds, NO_TRAINING),
            "samples": (
                record.training_samples,
                "the number of samples that the training read is unknown",
            ),
            # a training's time has its pass for features in it: so it is set beside retraining with
            # that pass
            "of_retrain": (
                _ratio(
                    seconds,
                    None if retrained_record is None else _seconds_without_cache(retrained_record),
                ),
                NOT_RETRAINED,
            ),
            "of_training": (_ratio(seconds, seconds), NO_TRAINING),
            "probe": (record.probe.before if record.probe else None, "not measured"),
            "probe_chance": (record.probe.chance if record.probe else None, "not measured"),
            "attack": (record.attack_before, "no patch was applied"),
        }
    )


def _ratios(
    seconds: float | None, record: Record, retrained_record: Record | None
) -> dict[str, tuple[float | None, str]]:
    of_retrain = _ratio(seconds, retrained_record.seconds if retrained_record else None)
    whole = _seconds_without_cache(record)  # as a training's time has its own in it
    return {
        "of_retrain": (of_retrain, NOT_RETRAINED),
        "of_training": (_ratio(whole, record.training_seconds), NO_TRAINING),
    }


def _seconds_without_cache(record: Record) -> float:
    """Return the seconds of an unlearning as if its cache had been empty."""
    return record.seconds + record.cached_seconds


def _metrics_or_reasons(values: Mapping[str, tuple[float | None, str]]) -> MetricDict:
    return MetricDict(
        values={name: float(value) for name, (value, _) in values.items() if value is not None},
        reasons={name: why for name, (value, why) in values.items() if value is None},
    )


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
