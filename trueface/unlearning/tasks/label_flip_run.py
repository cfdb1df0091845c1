"""An unlearning as a job does it: the problem set up, the method applied, everything measured.

What is written beside the model is enough for every later table: the answers before and after, and
`unlearning.json`.
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from launcher.api import Job
from trueface.data.examples import Counted, Examples
from trueface.evaluation import predictions
from trueface.evaluation.predictions import Answered
from trueface.models.detectors import Detector
from trueface.poisoning.label_flips import PoisonRecord
from trueface.runtime import paths
from trueface.runtime.errors import JobError, UsageError
from trueface.runtime.progress import Watch
from trueface.runtime.timer import now
from trueface.training.image_lists import Lists
from trueface.unlearning import api, record
from trueface.unlearning.api import Unlearned
from trueface.unlearning.applicability import refusal
from trueface.unlearning.cache import Cache
from trueface.unlearning.evaluation import embedding, relearn_and_probe
from trueface.unlearning.evaluation.embedding import Plane
from trueface.unlearning.label_noise import find
from trueface.unlearning.record import Found, Record
from trueface.unlearning.settings import UnlearningSettings
from trueface.unlearning.tasks.label_flips import Problem, Told, situation

CLASSES = ("real", "fake")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A detector that has unlearned, and all that is told of it."""

    detector: Detector
    unlearned: Unlearned
    record: Record
    before: Mapping[str, Answered]
    after: Mapping[str, Answered]
    embedding: Plane | None  # None: it was not asked for


def unlearn(
    job: Job, settings: UnlearningSettings, found: Lists, poison: PoisonRecord, watch: Watch
) -> Done:
    """Make the job's model from its poisoned base; write nothing but the caches.

    Raises:
        UsageError: the method cannot work here.
        JobError: stopped, nothing to forget, or no finite result.
    """
    where = situation(settings, poison)
    reason = refusal(settings.method, where, force=settings.force)
    if reason is not None:
        raise UsageError(reason)
    problem = Problem(job, settings, found, poison, watch)
    parts = problem.parts()
    before = {
        name: predictions.answered(problem.model, part.some, watch, part.ids)
        for name, part in parts.items()
    }
    attacked = problem.attack()
    attack_before = None if attacked is None else _success(problem.model, attacked, watch)
    told, looked, looked_s = _looked_for(problem, settings, watch)
    options = settings.options
    base = copy.deepcopy(problem.model) if settings.afterwards else None
    unlearned = api.run(
        settings.method,
        problem.model,
        forget=told.forget,
        retain=told.retain if settings.keep_retain else None,
        validation=parts["validation"].some,
        options=options,
        goal="flips",
        fresh=problem.fresh,
        learn=problem.learn,
        cache=problem.cache_folder,
        watch=watch,
        seed=settings.seed,
        force=settings.force,
        situation=where,
    )
    unlearned = replace(unlearned, seconds=unlearned.seconds + looked_s)
    after = {
        name: predictions.answered(unlearned.model, part.some, watch, part.ids)
        for name, part in parts.items()
    }
    training = record.training(job.model_folder(job.base or ""))
    told_of = Record(
        method=settings.method,
        model=job.model or "",
        base=job.base or "",
        goal="flips",
        classes=2,
        class_names=CLASSES,
        forgotten=(),
        seed=settings.seed,
        rate=float(poison.rate),
        known=settings.known,
        found=looked,
        forced=settings.force,
        options=options.model_dump(mode="json"),
        notes=unlearned.notes,
        seconds=unlearned.seconds,
        samples_read=unlearned.samples_read,
        cached_seconds=unlearned.cached_seconds + problem.meter.cached_seconds,
        cached_samples=unlearned.cached_samples + problem.meter.cached_samples,
        peak_bytes=unlearned.peak_bytes,
        training_seconds=training.seconds,
        training_samples=training.samples,
        relearn=None,
        probe=None,
        attack=None if attacked is None else _success(unlearned.model, attacked, watch),
        attack_before=attack_before,
        log=tuple({"step": step.step, **step.metrics} for step in unlearned.log),
    )
    seen = None
    if base is not None:
        forget, retain = parts["forget"].some, parts["retain"].some
        target = relearn_and_probe.forget_loss(base, forget, watch, seed=settings.seed)
        relearn = relearn_and_probe.relearn(
            unlearned.model, forget, watch, target=target, seed=settings.seed
        )
        told_of = replace(told_of, relearn=relearn)
        seen = embedding.plane(base, unlearned.model, forget, retain, watch, seed=settings.seed)
    return Done(
        detector=problem.whole(unlearned.model),
        unlearned=unlearned,
        record=told_of,
        before=before,
        after=after,
        embedding=seen,
    )


def write(folder: Path, done: Done) -> None:
    """Write what tells of an unlearning beside its model."""
    predictions.write(paths.answers_before(folder), done.before)
    predictions.write(paths.answers_after(folder), done.after)
    if done.embedding is None:
        paths.plane(folder).unlink(missing_ok=True)
    else:
        embedding.write(paths.plane(folder), done.embedding)
    record.write(folder, done.record)


def _looked_for(
    problem: Problem, settings: UnlearningSettings, watch: Watch
) -> tuple[Told, Found | None, float]:
    """Return what the method is told, with wrong labels that were found where they are looked for.

    The last is how many seconds that took, without what the cache holds.
    """
    told = problem.told()
    if not settings.find:
        return told, None, 0.0
    meter = problem.meter
    began, made = now(), meter.making_seconds
    retain, known = (
        replace(some, source=Counted(some.source, meter)) for some in (told.retain, told.forget)
    )
    cache = Cache(problem.cache_folder, meter)
    findings = find(problem.model, retain, known, cache=cache, watch=watch, seed=settings.seed)
    seconds = now() - began - (meter.making_seconds - made)
    flagged = findings.rows
    places = [told.retain.positions[row] for row in flagged]
    hidden = sum(problem.is_wrong(place) for place in told.retain.positions)
    right = sum(problem.is_wrong(place) for place in places)
    log.info("find=%d right=%d hidden=%d", len(flagged), right, hidden)
    if not flagged and not len(told.forget):
        raise JobError(
            f"no wrong label was found among {len(told.retain)}, and none is known: there is "
            "nothing to forget"
        )
    chosen = replace(told.retain.some(flagged), true=findings.suggested)
    gone = set(flagged)
    rest = told.retain.some([row for row in range(len(told.retain)) if row not in gone])
    return (
        Told(forget=told.forget + chosen, retain=rest),
        Found(flagged=len(flagged), hidden=hidden, right=right),
        seconds,
    )


def _success(model: nn.Module, attacked: Examples, watch: Watch) -> float:
    """Return the share of fakes with a patch on that are called real."""
    said = predictions.answered(model, attacked, watch)
    return float(np.mean(said.logits.argmax(1) == 0))
