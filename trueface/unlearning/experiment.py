"""An unlearning from end to end: a task, a method applied to it, and all measurements.

Later tables need only the files that `write` adds to the model's folder: the predictions before and
after, and `unlearning.json`.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trueface.data.examples import Examples, Label, examples
from trueface.evaluation import forward
from trueface.evaluation.forward import predict_examples
from trueface.models.detectors import Classifier, set_train_mode
from trueface.models.logits import BackboneHeadSplit, as_multiclass_logits, cross_entropy
from trueface.predictions.npz_tables import write_npz
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import numpy_rng
from trueface.runtime.timer import now
from trueface.training.class_settings import ClassifySettings
from trueface.training.settings import LearningSettings
from trueface.unlearning import api, record
from trueface.unlearning.api import UnlearningReport
from trueface.unlearning.cache import Cache
from trueface.unlearning.evaluation import planes
from trueface.unlearning.evaluation.planes import Axes, Features, Plane
from trueface.unlearning.hyperparameters import DescentOptions, TrainingOptions
from trueface.unlearning.image_copies import first_rows, group_copies
from trueface.unlearning.optimization import Descent, Step
from trueface.unlearning.phases import Phases
from trueface.unlearning.record import Record, Relearn
from trueface.unlearning.registry import admit
from trueface.unlearning.task import (
    IdentifiedExamples,
    MethodSets,
    UnlearningTask,
    other_rows,
)

RELEARN_STEPS = 200  # after which relearning is given up
RELEARN_BATCH = 64  # samples per step of relearning
LOOKED_AT = 256  # samples of the forget set whose loss is measured after every step
PROBED = 1000  # samples of either side of a linear probe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlearningOutcome:
    """A classifier that has unlearned, with its record and predictions."""

    model: Classifier
    unlearned: UnlearningReport
    record: Record
    before: Mapping[str, Predictions]
    after: Mapping[str, Predictions]
    embedding: Plane | None  # None: it was not asked for


def unlearn(task: UnlearningTask, watch: RunContext) -> UnlearningOutcome:
    """Apply the method of a task to its model, in place, and measure the result; write only caches.

    Raises:
        UsageError: the method does not have an option.
        JobError: stopped, an empty forget or retain set, or a non-finite result.
    """
    settings, task_model, parts = task.settings, task.model, task.parts
    # the rules of a job have refused it before; a script has no rules
    forced = admit(settings.method, task.properties, force=settings.force)
    phases = Phases(watch, _phase_sizes(task))
    watch, shared = phases.watch, task.shared_parts
    predictions_before = _predict_parts(task_model.module, parts, watch)
    attack, attack_before = None, None
    if task.attacked is not None:
        attack_before = _attack_success(task_model.module, task.attacked, watch)
    sets = _search_hidden_flips(task, watch) if task.search else task.given
    original = copy.deepcopy(task_model.module) if settings.afterwards else None
    request = api.make_request(
        settings.method,
        task_model.module,
        forget=sets.forget.count_reads(phases.add),
        retain=sets.retain if task.keep_retain else None,
        validation=sets.validation.count_reads(phases.add),
        options=settings.options,
        goal=task.facts.goal,
        fresh=task_model.fresh,
        learn=lambda model, *arguments, **options: learn_as_trained(
            task_model.whole(model), *arguments, settings=settings, **options
        ),
        cache=task_model.original.cache,
        watch=watch,
        seed=settings.seed,
    )
    unlearned = api.apply_method(
        settings.method,
        replace(request, ids={name: parts[name].ids for name in shared}),
        forced_reason=forced,
        predictions_before={name: predictions_before[name] for name in shared},
    )
    unlearned = replace(unlearned, seconds=unlearned.seconds + sets.seconds)
    if task.attacked is not None:
        watch.begin_phase("attack success")
        attacked = task.attacked.count_reads(phases.add)
        attack = _attack_success(unlearned.model, attacked, watch)
    entry = _record(task, unlearned, found=sets.found, attack=attack, attack_before=attack_before)
    watch.begin_phase("answers")
    others = {
        name: replace(part, examples=part.examples.count_reads(phases.add))
        for name, part in parts.items()
        if name not in shared
    }
    predictions = {**unlearned.predictions, **_predict_parts(unlearned.model, others, watch)}
    done = UnlearningOutcome(
        model=task_model.whole(unlearned.model),
        unlearned=unlearned,
        record=entry,
        before=predictions_before,
        after={name: predictions[name] for name in parts},
        embedding=None,
    )
    return done if original is None else _measure_afterwards(task, done, original, phases)


def _search_hidden_flips(task: UnlearningTask, watch: RunContext) -> MethodSets:
    """Search the retain set for flipped labels; return the sets with those in the forget set.

    Their true labels are the suggested ones. Values from the caches count as if they had been computed now.
    """
    from trueface.unlearning.label_noise import doubt, find_flipped_labels, score_findings

    meter, model, given = task.meter, task.model, task.given
    forget, retain = given.forget, given.retain
    began, making_before = now(), meter.making_seconds
    counted = (samples.count_reads(meter.add) for samples in (retain, forget))
    findings = find_flipped_labels(
        model.module,
        *counted,
        cache=Cache(model.original.cache, meter),
        watch=watch,
        seed=task.settings.seed,
        ids=_ids_of(task, retain),
        flipped_ids=_ids_of(task, forget),
        known_fraction=_drawn_fraction(task),
    )
    seconds = now() - began - (meter.making_seconds - making_before) - findings.judging_seconds
    flagged, hidden = findings.rows, set(task.parts["forget"].examples.positions)
    found = replace(
        score_findings(flagged, [row for row, at in enumerate(retain.positions) if at in hidden]),
        expected_precision=findings.precision,
    )
    log.info(
        "find=%d right=%d hidden=%d expected_precision=%s",
        found.flagged,
        found.right,
        found.hidden,
        "unknown" if findings.precision is None else f"{findings.precision:.2f}",
    )
    if reason := doubt(findings, known_fraction=task.facts.known):
        log.warning("find=%d reason=%s", found.flagged, reason)
    if not flagged and not len(forget):
        raise JobError(
            f"no flipped label was found among {len(retain)} and none is given, so there is "
            "nothing to forget"
        )
    return replace(
        given,
        forget=forget + replace(retain.subset(flagged), true=findings.suggested),
        retain=retain.subset(other_rows(retain, flagged)),
        found=found,
        seconds=seconds,
    )


def _drawn_fraction(task: UnlearningTask) -> float:
    """Return the fraction of the images with flipped labels that was drawn as known; few images round the requested one."""
    flipped, drawn = (
        len(first_rows(group_copies(_ids_of(task, samples))))
        for samples in (task.parts["forget"].examples, task.given.forget)
    )
    return drawn / flipped if flipped else 0.0


def _ids_of(task: UnlearningTask, samples: Examples) -> list[str]:
    """Return the IDs of samples of the training set."""
    parts = (task.parts[name] for name in ("forget", "retain"))
    ids = {
        at: each
        for part in parts
        for at, each in zip(part.examples.positions, part.ids, strict=True)
    }
    return [ids[at] for at in samples.positions]


def _phase_sizes(task: UnlearningTask) -> dict[str, int]:
    """Return phase → samples that it reads at most, of each phase after a method's last step."""
    sizes = {name: len(part.examples) for name, part in task.parts.items()}
    forget, retain = sizes["forget"], sizes["retain"]
    phases = {"measures": forget + sizes["validation"]}
    if task.attacked is not None:
        phases["attack success"] = len(task.attacked)
    phases["answers"] = sum(size for name, size in sizes.items() if name not in task.shared_parts)
    if task.settings.afterwards:
        step = min(forget, RELEARN_BATCH) + min(forget, LOOKED_AT)
        phases["relearning"] = RELEARN_STEPS * step
        if task.probe is not None:
            phases["probe"] = 4 * min(forget, retain, PROBED)  # two models, two sides
        lost = min(forget, MOST_FORGOTTEN)
        phases["embedding"] = 2 * (lost + min(retain, MOST - lost))
    return phases


def learn_as_trained(
    model: nn.Module,
    samples: Examples,
    label: Label,
    *,
    settings: LearningSettings | ClassifySettings,
    validation: Examples,
    options: TrainingOptions,
    watch: RunContext,
) -> tuple[Step, ...]:
    """Train `model` by its settings, with the options taking precedence; see `optimization.TrainFunction`."""
    from trueface.training.trainer import fit  # only methods that train a model need it

    changed = {"num_epochs": options.epochs, "lr": options.lr}
    given = {key: value for key, value in changed.items() if value is not None}
    trained = fit(
        model,
        samples.loader(label),
        validation.loader(augment=False),
        settings.model_copy(update=given).trainer,
        watch=watch,
    )
    return tuple(
        Step(
            step=epoch.epoch,
            metrics={
                "loss": epoch.loss,
                "accuracy": epoch.accuracy,
                "val_loss": epoch.val_loss,
                "val_accuracy": epoch.val_accuracy,
            },
        )
        for epoch in trained.epochs
    )


def write(folder: Path, outcome: UnlearningOutcome) -> None:
    """Write record, predictions and embedding into the folder of the unlearned model."""
    write_npz(paths.predictions_before(folder), outcome.before)
    write_npz(paths.predictions_after(folder), outcome.after)
    if outcome.embedding is None:
        paths.plane(folder).unlink(missing_ok=True)
    else:
        planes.write(paths.plane(folder), outcome.embedding)
    record.write(folder, outcome.record)


def _measure_afterwards(
    task: UnlearningTask, outcome: UnlearningOutcome, base: nn.Module, phases: Phases
) -> UnlearningOutcome:
    """Return `outcome` with the relearning of the forget set, a probe and an embedding."""
    model, seed, watch = outcome.unlearned.model, task.settings.seed, phases.watch
    forget, retain = (task.parts[name].examples for name in ("forget", "retain"))
    watch.begin_phase("relearning")
    if len(forget) <= LOOKED_AT:  # then these are all of them
        target = outcome.before["forget"].loss(outcome.before["forget"].labels)
    else:
        target = forget_loss(base, forget, watch, seed=seed)
    relearned = relearn(model, forget, watch, target=target, seed=seed)
    forget, retain = forget.count_reads(phases.add), retain.count_reads(phases.add)
    probed = None
    if task.probe is not None:
        watch.begin_phase("probe")
        lost = replace(task.parts["forget"], examples=forget)
        kept = replace(task.parts["retain"], examples=retain)
        probed = task.probe(base, model, lost, kept, watch, seed=seed)
    watch.begin_phase("embedding")
    return replace(
        outcome,
        record=replace(outcome.record, relearn=relearned, probe=probed),
        embedding=plane(base, model, forget, retain, watch, seed=seed),
    )


def _record(task: UnlearningTask, report: UnlearningReport, **measures: Any) -> Record:
    settings, facts, meter = task.settings, task.facts, task.meter
    original = task.model.original
    return Record(
        method=settings.method,
        model=original.unlearned_name,
        base=original.name,
        **vars(facts),
        **measures,
        classes=len(facts.class_names),
        seed=settings.seed,
        forced=settings.force,
        options=settings.options.model_dump(mode="json"),
        notes=report.notes,
        seconds=report.seconds,
        samples_read=report.samples_read,
        cached_seconds=report.cached_seconds + meter.cached_seconds,
        cached_samples=report.cached_samples + meter.cached_samples,
        peak_bytes=report.peak_bytes,
        training_seconds=original.training.seconds,
        training_samples=original.training.samples,
        relearn=None,
        probe=None,
        log=tuple({"step": step.step, **step.metrics} for step in report.log),
    )


def _predict_parts(
    model: nn.Module, parts: Mapping[str, IdentifiedExamples], watch: RunContext
) -> dict[str, Predictions]:
    return {
        name: forward.predict_examples(model, part.examples, watch, part.ids)
        for name, part in parts.items()
    }


def _attack_success(model: nn.Module, attacked_fakes: Examples, watch: RunContext) -> float:
    """Return the fraction of fakes with a patch on that are predicted real."""
    predicted = forward.predict_examples(model, attacked_fakes, watch)
    return float(np.mean(predicted.predicted_classes == 0))


def forget_loss(model: nn.Module, forget: Examples, watch: RunContext, *, seed: int = 0) -> float:
    """Return the loss on at most 256 samples of the forget set, with the trained labels.

    For flips these are the wrong labels. The same seed gives the same samples.

    Raises:
        JobError: stopped, or a prediction is not finite.
    """
    predictions = predict_examples(model, _subset(forget, LOOKED_AT, "relearn", seed), watch)
    return predictions.loss(predictions.labels)


def relearn(
    model: nn.Module,
    forget: Examples,
    watch: RunContext,
    *,
    target: float,
    most: int = RELEARN_STEPS,
    lr: float = 0.01,
    batch_size: int = RELEARN_BATCH,
    seed: int = 0,
) -> Relearn:
    """Return the number of SGD steps until a model relearns the forget set; the model is not changed.

    Args:
        model: after the unlearning, on the device of `watch`.
        forget: what was forgotten, with the labels as trained: of flips the wrong ones.
        watch: device, precision, stop, progress in steps of `most`.
        target: `forget_loss` of the model before, with the same seed.
        most: steps after which it is given up.
        lr: of the steps, with momentum 0.9; batch statistics stay as they are.
        batch_size: samples per step.
        seed: seed of the choice of samples.

    Raises:
        JobError: stopped, or no finite loss.

    Source: A. Golatkar, A. Achille, S. Soatto, arXiv 1911.04933, section 6 ("readout: re-learn
        time"), in steps in place of epochs.
    """
    model = copy.deepcopy(model)
    looked_at = _load_into_memory(_subset(forget, LOOKED_AT, "relearn", seed), watch)
    if forget_loss(model, looked_at, watch, seed=seed) <= target:
        return Relearn(steps=0, most=most, loss=target)
    descent = Descent(model.parameters(), DescentOptions(lr=lr, momentum=0.9, clip=5.0))
    passes = (
        forget.read(watch, epoch=epoch, batch_size=batch_size, noun="forgotten samples")
        for epoch in count()
    )
    for step, batch in enumerate(islice(chain.from_iterable(passes), most), 1):
        set_train_mode(model, fixed_statistics=True)
        with autocast(watch.device, watch.precision):
            logits = as_multiclass_logits(model(batch.inputs))
        descent.step(cross_entropy(logits, batch.labels))
        if forget_loss(model, looked_at, watch, seed=seed) <= target:
            return Relearn(steps=step, most=most, loss=target)
        watch.progress(step=step, total=most)
    return Relearn(steps=None, most=most, loss=target)


def penultimate(
    model: nn.Module, samples: Examples, watch: RunContext
) -> tuple[Features, NDArray[np.int64]]:
    """Return the inputs of the last layer for samples without augmentation, (N, F), and their positions.

    Raises:
        JobError: stopped, none could be read, or the model has no last linear layer.
    """
    features, positions = BackboneHeadSplit(model.eval()).compute_features(
        samples, replace(watch, precision="fp32")
    )
    return features.numpy(), positions.numpy()


def _load_into_memory(samples: Examples, watch: RunContext) -> Examples:
    """Return samples in memory, without augmentation, since they are read many times."""
    inputs, labels, *_ = zip(*samples.read(watch), strict=True)
    return examples(torch.cat(inputs), torch.cat(labels))


def _subset(samples: Examples, most: int, name: str, seed: int) -> Examples:
    return samples.subset(draw_row_numbers(len(samples), most, f"afterwards/{name}", seed))


def draw_row_numbers(count: int, most: int, name: str, seed: int) -> Sequence[int]:
    """Return at most `most` of `count` rows, drawn without replacement, in order."""
    if count <= most:
        return range(count)
    rows: list[int] = np.sort(numpy_rng(name, seed).choice(count, most, replace=False)).tolist()
    return rows


MOST = 600
MOST_FORGOTTEN = 200  # forgotten ones among these


def plane(
    original: nn.Module,
    unlearned_model: nn.Module,
    forget: Examples,
    retain: Examples,
    watch: RunContext,
    *,
    seed: int = 0,
) -> Plane:
    """Return features of at most 600 samples in the plane in which they differ most before.

    Both models use the same axes, those of the first. A retrained model has other features, so that only the
    distances between its samples have a meaning, not their positions.

    Args:
        original: the model before unlearning.
        unlearned_model: the one that has unlearned.
        forget: at most 200 of them are shown.
        retain: the rest.
        watch: device, stop.
        seed: seed of the draw.

    Raises:
        JobError: stopped, or a model has no last linear layer.
    """
    lost = forget.subset(draw_row_numbers(len(forget), MOST_FORGOTTEN, "plane/forget", seed))
    stay = retain.subset(draw_row_numbers(len(retain), MOST - len(lost), "plane/retain", seed))
    read_by_model = [
        [penultimate(model, side, watch) for side in (lost, stay)]
        for model in (original, unlearned_model)
    ]
    first, second = (np.concatenate([features for features, _ in sides]) for sides in read_by_model)
    axes = Axes.from_features(first)
    labels = [
        _labels(side, read) for side, (_, read) in zip((lost, stay), read_by_model[0], strict=True)
    ]
    return Plane(
        before=axes.project_onto(first),
        after=axes.project_onto(second),
        label=np.concatenate(labels),
        forget=np.repeat(np.array([True, False]), [len(side) for side in labels]),
    )


def _labels(samples: Examples, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the classes of those that could be read."""
    label_of = dict(zip(samples.positions, samples.true or samples.trained, strict=True))
    return np.array([label_of[int(position)] for position in positions], np.int64)
