"""Recovery of an erased concept by embedding inversion: an attack that changes no weight of the model.

The vector that replaces the class embedding is optimised by the diffusion loss on k real images of the
concept; then the model samples under it. Sources: textual inversion, arXiv 2208.01618; as an attack on erased
models, arXiv 2308.01508. Unlike both, no prompt surrounds the vector, and the attack has two
starts: the model's own embedding of the concept and a random one. The better result counts, because some
methods flatten the neighbourhood of the first start only.

All methods of a study have the same floor and ceiling. Curves of teachers and of models that never saw the
concept are computed once and cached in the model folder. The cache key contains all inputs of a curve.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.erasing.samples import (
    Sampling,
    noise_of,
    replace_nan_images,
    sample_images,
)
from trueface.generators.erasing.study import Point, read_points
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import JobError
from trueface.runtime.files import read_json, write_json
from trueface.runtime.rng import torch_rng

OWN, RANDOM = "own", "random"  # starts
LEAST_SCALE = 1e-3  # least scale of a table whose rows are all about 0

Recognised = Callable[[Tensor], Tensor]  # N×C×H×W -> (N,), true where it is the concept


SCHEMA = 2  # rises when the attack or its file changes
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryAttack:
    """How much an attacker has, and how it is measured."""

    images: tuple[int, ...] = (1, 5, 25)  # real ones of the concept, rising
    steps: tuple[int, ...] = (10, 50, 250)  # updates after which it is measured, rising
    lr: float = 0.1  # Adam's, in units of the RMS of the class embeddings
    batch: int = 16  # noised images in a step, of each start and number of images
    samples: int = 64  # samples per rate
    sampling: Sampling = field(
        default_factory=Sampling
    )  # its random seed is also that of the attack


Curve = tuple[Point, ...]  # by number of images, then by steps


def recovery(
    diffuser: Diffuser,
    concept: str,
    images: Tensor,
    shows_concept: Recognised,
    attack: RecoveryAttack,
) -> Curve:
    """Attack a model at all points of the curve, in one optimisation and one sampling.

    The path of 250 steps passes through those of 10 and 50, and all starts and numbers of images are rows of
    one batch. They share images as far as they have them, noise steps and noise, so that they differ
    only by the number of images of the attacker.

    Args:
        diffuser: the model; its weights stay as they are.
        concept: name of the class.
        images: N×C×H×W in [-1, 1], real ones, of which the attack takes the first 1, 5, 25.
        shows_concept: the classifier.
        attack: how much the attacker has.

    Raises:
        JobError: stopped, too few images, or a loss that is not finite.
    """
    if len(images) < max(attack.images):
        raise JobError(
            f"the attack needs {max(attack.images)} real images of {concept}, but there are "
            f"{len(images)}. Add images, or use a smaller recover_images."
        )
    starts = initial_embeddings(diffuser, concept, attack.sampling.seed)
    paths = invert_embeddings(diffuser, torch.stack(list(starts.values())), images, attack)
    points = paths.flatten(0, 2)  # starts × images × steps rows
    noise = noise_of(diffuser, concept, attack.samples, attack.sampling.seed)
    hits = [
        shows_concept(
            replace_nan_images(
                sample_images(
                    diffuser,
                    noise.repeat(len(part), 1, 1, 1),
                    part.repeat_interleave(attack.samples, 0),
                    attack.sampling,
                )
            )[0]
        )
        # as many points as a batch holds: the images of all of them would fill the memory
        for part in torch.split(points, max(1, attack.sampling.batch_size // attack.samples))
    ]
    rates = torch.cat(hits).reshape(*paths.shape[:3], attack.samples)
    shares = rates.double().mean(-1).tolist()
    curve = []
    for row, images_used in enumerate(attack.images):
        for column, steps in enumerate(attack.steps):
            by = {
                start: start_shares[row][column]
                for start, start_shares in zip(starts, shares, strict=True)
            }
            curve.append(Point(images_used, steps, max(by.values()), by))
    return tuple(curve)


def initial_embeddings(diffuser: Diffuser, concept: str, seed: int) -> dict[str, Tensor]:
    """Return where the attack begins, by name, (E,) each, or of more dimensions for several tokens.

    `own` is the model's embedding of the concept, absent where it has no such class; `random` has the mean
    and the variance of its classes' embeddings.

    Raises:
        JobError: the model has no classes.
    """
    classes = diffuser.embed(torch.arange(len(diffuser.class_names))).detach()
    starts: dict[str, Tensor] = {}
    if concept in diffuser.class_names:  # otherwise it is a model of the other classes only
        starts[OWN] = classes[diffuser.label(concept)]
    rng = torch_rng("recovery/start", seed)
    spread = classes.std(0, unbiased=False).square().mean().sqrt()
    draw = torch.randn(classes.shape[1:], generator=rng).to(classes)
    starts[RANDOM] = classes.mean(0) + spread * draw
    return starts


def invert_embeddings(
    diffuser: Diffuser, starts: Tensor, images: Tensor, attack: RecoveryAttack
) -> Tensor:
    """Return the embeddings that the attack passes through, S×K×B×E…: by start, images and steps.

    Args:
        diffuser: the model.
        starts: S×E…
        images: N×C×H×W real ones, N at least the largest number of images.
        attack: how much the attacker has.

    Raises:
        JobError: stopped, or a loss that is not finite.
    """
    device, counts = diffuser.device, torch.tensor(attack.images)
    runs = len(starts) * len(counts)
    vectors = starts.to(device).repeat_interleave(len(counts), 0).clone().requires_grad_()
    classes = diffuser.embed(torch.arange(len(diffuser.class_names))).detach()
    scale = max(float(classes.square().mean().sqrt()), LEAST_SCALE)
    optimizer = torch.optim.Adam([vectors], lr=attack.lr * scale)
    rng = torch_rng("recovery", attack.sampling.seed)
    with torch.no_grad():
        latents = diffuser.network.encode_images(images[: attack.images[-1]].to(device)).cpu()
    shape = (attack.batch, *latents.shape[1:])
    path: list[Tensor] = []
    for step in range(1, attack.steps[-1] + 1):
        if attack.sampling.stop.is_set():
            raise JobError(f"stopped at step {step} of the attack. Nothing was written.")
        places = torch.rand(attack.batch, generator=rng)
        t = torch.randint(1, diffuser.t_max + 1, (attack.batch,), generator=rng)
        noise = torch.randn(shape, generator=rng)
        chosen = (places * counts[:, None]).long().repeat(len(starts), 1)  # runs × batch
        clean = latents[chosen.flatten()].to(device)
        t_all, noise_all = t.repeat(runs), noise.repeat(runs, 1, 1, 1).to(device)
        noisy = diffuser.schedule.add_noise(clean, t_all.to(device), noise_all)
        eps = diffuser.eps(noisy, t_all, vectors.repeat_interleave(attack.batch, 0))
        # the sum over runs: each vector has its own mean, and Adam treats every number alone
        loss = (eps - noise_all).square().flatten(1).mean(1).reshape(runs, -1).mean(1).sum()
        if not bool(torch.isfinite(loss)):
            raise JobError(
                f"the loss of the attack is not finite at step {step}. Use a smaller recover_lr."
            )
        (gradient,) = torch.autograd.grad(loss, [vectors])
        vectors.grad = gradient
        optimizer.step()
        if step in attack.steps:
            path.append(vectors.detach().clone())
    points = torch.stack(path, 1)  # runs × steps × E…
    return points.reshape(len(starts), len(counts), *points.shape[1:])


def load_or_make_curve(
    folder: Path | None, follows_from: tuple[object, ...], make: Callable[[], Curve]
) -> Curve:
    """Return a curve from a folder if it is cached there, otherwise compute and cache it.

    Args:
        folder: of the model; None: nothing is cached.
        follows_from: all inputs of the curve, distinguished by `repr`.
        make: computes the curve.
    """
    if folder is None:
        return make()
    digest = sha256_hex(repr((SCHEMA, follows_from)))[:20]
    path = folder / "cache" / f"recovery-{digest}.json"
    kept: Any = read_json(path) or {}
    try:
        curve = read_points(kept["points"])
    except (AttributeError, KeyError, TypeError, ValueError):  # none, or broken
        curve = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"points": [point.json_record for point in curve]})
    else:
        log.info("cache=recovery state=kept path=%s", path)
    return curve
