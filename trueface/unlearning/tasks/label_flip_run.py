"""Unlearning of flipped labels from end to end: the method applied, and everything measured.

What `write` puts beside the model is enough for every later table: the predictions before and
after, and `unlearning.json`.
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from trueface.data.examples import CountedSource, Examples, Meter
from trueface.evaluation import predictions
from trueface.evaluation.predictions import Answered
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.errors import JobError, UsageError
from trueface.runtime.progress import Watch, with_phases
from trueface.runtime.timer import now
from trueface.unlearning import api, record
from trueface.unlearning.api import Unlearned
from trueface.unlearning.applicability import refusal
from trueface.unlearning.cache import Cache
from trueface.unlearning.evaluation import embedding, relearn_and_probe
from trueface.unlearning.evaluation.embedding import Plane
from trueface.unlearning.label_noise import find
from trueface.unlearning.record import Found, Record
from trueface.unlearning.settings import UnlearningSettings
from trueface.unlearning.tasks.label_flips import (
    MethodSets,
    Part,
    PoisonedDetector,
    Problem,
    situation,
)

CLASSES = ("real", "fake")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A detector that has unlearned, with its record and predictions."""

    detector: Detector
    unlearned: Unlearned
    record: Record
    before: Mapping[str, Answered]
    after: Mapping[str, Answered]
    embedding: Plane | None  # None: it was not asked for


def unlearn(poisoned: PoisonedDetector, settings: UnlearningSettings, watch: Watch) -> Done:
    """Make a poisoned detector unlearn its flipped labels, in place; write nothing but the caches.

    Raises:
        UsageError: the method cannot work here.
        JobError: stopped, nothing to forget, or no finite result.
    """
    where = situation(settings, poisoned.poison)
    reason = refusal(settings.method, where, force=settings.force)
    if reason is not None:
        raise UsageError(reason)
    problem = Problem(poisoned, settings, watch)
    parts, attacked = problem.parts(), problem.attack()
    # measures and answers, the attack, relearning and embedding
    watch = with_phases(watch, 2 + (attacked is not None) + 2 * settings.afterwards)
    before = _answers(problem.model, parts, watch)
    attack_before = None if attacked is None else _attack_success(problem.model, attacked, watch)
    sets, search, seconds = _with_found_flips(problem, poisoned.cache, settings, watch)
    base = copy.deepcopy(problem.model) if settings.afterwards else None
    unlearned = api.run(
        settings.method,
        problem.model,
        forget=sets.forget,
        retain=sets.retain if settings.keep_retain else None,
        validation=parts["validation"].examples,
        options=settings.options,
        goal="flips",
        fresh=problem.fresh,
        learn=problem.learn,
        cache=poisoned.cache,
        watch=watch,
        seed=settings.seed,
        force=settings.force,
        situation=where,
    )
    unlearned = replace(unlearned, seconds=unlearned.seconds + seconds)
    if attacked is not None:
        watch.doing("attack success")
    entry = replace(
        _record(poisoned, settings, unlearned, problem.meter),
        found=search,
        attack=None if attacked is None else _attack_success(unlearned.model, attacked, watch),
        attack_before=attack_before,
    )
    watch.doing("answers")
    done = Done(
        detector=problem.whole(unlearned.model),
        unlearned=unlearned,
        record=entry,
        before=before,
        after=_answers(unlearned.model, parts, watch),
        embedding=None,
    )
    return done if base is None else _measured_afterwards(done, base, parts, watch, settings.seed)


def _measured_afterwards(
    done: Done, base: nn.Module, parts: Mapping[str, Part], watch: Watch, seed: int
) -> Done:
    """Return `done` with how soon the model learns the forgotten again, and with its embedding."""
    model, forget = done.unlearned.model, parts["forget"].examples
    watch.doing("relearning")
    target = relearn_and_probe.forget_loss(base, forget, watch, seed=seed)
    relearn = relearn_and_probe.relearn(model, forget, watch, target=target, seed=seed)
    watch.doing("embedding")
    plane = embedding.plane(base, model, forget, parts["retain"].examples, watch, seed=seed)
    return replace(done, record=replace(done.record, relearn=relearn), embedding=plane)


def _record(
    poisoned: PoisonedDetector, settings: UnlearningSettings, unlearned: Unlearned, meter: Meter
) -> Record:
    return Record(
        method=settings.method,
        model=poisoned.unlearned_name,
        base=poisoned.name,
        goal="flips",
        classes=2,
        class_names=CLASSES,
        forgotten=(),
        seed=settings.seed,
        rate=float(poisoned.poison.rate),
        known=settings.known,
        found=None,
        forced=settings.force,
        options=settings.options.model_dump(mode="json"),
        notes=unlearned.notes,
        seconds=unlearned.seconds,
        samples_read=unlearned.samples_read,
        cached_seconds=unlearned.cached_seconds + meter.cached_seconds,
        cached_samples=unlearned.cached_samples + meter.cached_samples,
        peak_bytes=unlearned.peak_bytes,
        training_seconds=poisoned.training.seconds,
        training_samples=poisoned.training.samples,
        relearn=None,
        probe=None,
        attack=None,
        attack_before=None,
        log=tuple({"step": step.step, **step.metrics} for step in unlearned.log),
    )


def write(folder: Path, done: Done) -> None:
    """Write record, predictions and embedding into the folder of the unlearned model."""
    predictions.write(paths.answers_before(folder), done.before)
    predictions.write(paths.answers_after(folder), done.after)
    if done.embedding is None:
        paths.plane(folder).unlink(missing_ok=True)
    else:
        embedding.write(paths.plane(folder), done.embedding)
    record.write(folder, done.record)


def _answers(model: nn.Module, parts: Mapping[str, Part], watch: Watch) -> dict[str, Answered]:
    return {
        name: predictions.answered(model, part.examples, watch, part.ids)
        for name, part in parts.items()
    }


def _with_found_flips(
    problem: Problem, folder: Path, settings: UnlearningSettings, watch: Watch
) -> tuple[MethodSets, Found | None, float]:
    """Return the method's sets, hidden flips moved to the forget set where they are looked for.

    The last is how many seconds the search took, without what the cache holds.
    """
    sets = problem.method_sets()
    if not settings.find:
        return sets, None, 0.0
    meter = problem.meter
    began, made = now(), meter.making_seconds
    retain, forget = (
        replace(examples, source=CountedSource(examples.source, meter))
        for examples in (sets.retain, sets.forget)
    )
    cache = Cache(folder, meter)
    findings = find(problem.model, retain, forget, cache=cache, watch=watch, seed=settings.seed)
    seconds = now() - began - (meter.making_seconds - made)
    flagged = findings.rows
    hidden = sum(problem.is_flipped(place) for place in sets.retain.positions)
    right = sum(problem.is_flipped(sets.retain.positions[row]) for row in flagged)
    log.info("find=%d right=%d hidden=%d", len(flagged), right, hidden)
    if not flagged and not len(sets.forget):
        raise JobError(
            f"no flipped label was found among {len(sets.retain)}, and none is given: there is "
            "nothing to forget"
        )
    moved = replace(sets.retain.subset(flagged), true=findings.suggested)
    gone = set(flagged)
    rest = sets.retain.subset([row for row in range(len(sets.retain)) if row not in gone])
    return (
        MethodSets(forget=sets.forget + moved, retain=rest),
        Found(flagged=len(flagged), hidden=hidden, right=right),
        seconds,
    )


def _attack_success(model: nn.Module, attacked: Examples, watch: Watch) -> float:
    """Return the fraction of fakes with a patch on that are predicted real."""
    predicted = predictions.answered(model, attacked, watch)
    return float(np.mean(predicted.logits.argmax(1) == 0))
