"""Tests of a model under attack: from a `Job` to answers to attacked images, and a record of the attack."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from launcher.api import Job, Json
from trueface.attacks.grammar import Attack
from trueface.attacks.target import Target
from trueface.corruptions.chain import Chain
from trueface.data.index import Image
from trueface.data.loaders import still
from trueface.data.settings import TestSettings
from trueface.evaluation.attacked import Keep, attack_images, drawn, outcome
from trueface.jobs.scoring.network import Network, Tested
from trueface.models import checkpoint
from trueface.models.detectors import Detector
from trueface.models.folding import folded
from trueface.runtime import paths

NOT_DIFFERENTIABLE = "not differentiable"


def attacked_test(
    job: Job,
    settings: TestSettings,
    attack: Attack,
    images: Sequence[Image],
    network: Network,
    keep: Keep | None,
) -> Tested:
    """Attack a model on some of the images of a test, and again with random signs alone.

    Args:
        job: names the folder of the surrogate.
        settings: of the test.
        attack: of the settings.
        images: of the test; so many of each class as the settings say are drawn.
        network: the model.
        keep: gets every image as it was scored; None: nobody wants them.

    Raises:
        JobError: stopped.
        CheckpointError: the surrogate cannot be read.
    """
    chosen = drawn(images, settings.attack_images)
    feed, surrogate = still(chosen, settings), _surrogate(job, settings)
    target, saved = surrogate or network.model, Chain.parse(settings.attack_save)
    record = _described(settings, attack, saved)
    if attack.spec.needs_gradient and not is_differentiable(target):
        which = settings.surrogate if surrogate else "the model"
        reason = f"{NOT_DIFFERENTIABLE}: {which} is {target.spec.name}"
        return Tested(
            images=chosen, feed=feed, answers=None, record={"attack": record, "reason": reason}
        )
    record["threshold"] = {
        "logit": network.threshold,
        "from": "validation" if network.calibration else "probability 0.5",
    }
    clean = network.answers(feed)
    attacked = partial(
        attack_images,
        feed,
        clean,
        score=network.scorer(),
        target=Target(quick(target), network.watch.device, network.threshold),
        watch=network.watch,
        threshold=network.threshold,
        saved=saved,
        queries=settings.queries,
    )
    result = attacked(attack, keep=keep)
    control = {"name": attack.control.name, **outcome(clean, attacked(attack.control))}
    record |= {**outcome(clean, result), "control": control}
    return Tested(
        images=chosen, feed=feed, answers=result.answers, record={"attack": record, **rates(record)}
    )


def quick(model: Detector) -> Detector:
    """Return a copy that computes gradients in two thirds of the time: its batch norms folded, no layer learns.

    It differs by rounding; what is reported are the answers of the model itself.
    """
    twin = copy.deepcopy(model)
    network = folded(twin.network, twin.spec.head, side=twin.spec.input_size)
    form = torch.channels_last if twin.channels_last else torch.contiguous_format
    twin.network = network.to(memory_format=form)
    return twin.eval().requires_grad_(requires_grad=False)


def is_differentiable(model: Detector) -> bool:
    """Tell whether the gradient of a model's logit reaches the pixels."""
    return model.spec.differentiable


def rates(record: Mapping[str, Json]) -> dict[str, Json]:
    """Return the success of an attack and of its control as flat numbers for tables; {} without any."""
    flat: dict[str, Json] = {}
    for suffix, part in (("", record), ("_control", record.get("control"))):
        for goal in ("evasion", "defamation"):
            facts = part.get(goal) if isinstance(part, Mapping) else None
            success = facts.get("success") if isinstance(facts, Mapping) else None
            if isinstance(success, Mapping):
                flat[f"{goal}{suffix}"] = success["value"]
    return flat


def _described(settings: TestSettings, attack: Attack, saved: Chain) -> dict[str, Json]:
    return {
        "name": attack.name,
        "budget": attack.budget,
        "access": attack.spec.access,
        **({"saved": saved.record} if saved else {}),
        **({"surrogate": settings.surrogate} if settings.surrogate else {}),
    }


def _surrogate(job: Job, settings: TestSettings) -> Detector | None:
    if not settings.surrogate:
        return None
    path: Path = paths.checkpoint(job.model_folder(settings.surrogate))
    return checkpoint.revive(checkpoint.load(path), path).to(job.device)
