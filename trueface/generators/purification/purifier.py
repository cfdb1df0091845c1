"""A purifier with its models, which purifies batches of images and folders."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.made_folders import (
    PerImageRNG,
    digest_of,
    image_names,
    load_image_batch,
    output_folder,
    shape_of,
)
from trueface.generators.purification.denoiser import Denoiser
from trueface.generators.purification.registry import (
    SPECS,
    PurifierName,
    PurifierStep,
    PurifySettings,
    refuse_untrained,
)
from trueface.generators.purification.steps import Method, Tools
from trueface.runtime.errors import DataError, JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import RunContext


class Purifier:
    """One method or several after one another; the images are cut to [-1, 1] after each.

    The authors' program of Anti-disrupt (WISA 2023) does not cut: its values may leave the range of an image
    file.

    Gradients flow through it as it is: through a step whose gradient is `exact` its own, through
    any other that of the identity (BPDA, arXiv 1802.00420, section 4.1).

    Attributes:
        name: the requested purifier.
        needs: the models that it works with.
        is_random: images of other names come out otherwise.
        gradient: "exact" where each of its steps' is.
        size: side in pixels of the training images of its models, or 0 for any size.
        channels: of these images; 0: any.
    """

    def __init__(
        self, name: PurifierName, diffuser: Diffuser | None, denoiser: Denoiser | None
    ) -> None:
        self.name = name
        self.needs = name.needs
        self.is_random = name.draws
        self.gradient: Literal["exact", "identity"] = "exact" if name.is_exact else "identity"
        self._models = diffuser, denoiser
        self.size = 0 if diffuser is None else diffuser.size
        self.channels = 0 if diffuser is None else diffuser.channels
        if denoiser is not None:
            self.channels = self.channels or denoiser.shape.channels
        self._methods: list[tuple[PurifierStep, Method]] = [
            (step, SPECS.load(step.name)) for step in name.steps for _ in range(step.times)
        ]
        self._calls = self._images = 0

    @property
    def net_calls(self) -> float:
        """Calls of networks an image, the mean over all images so far; 0 before the first."""
        return self._calls / max(self._images, 1)

    def __call__(
        self, images: Tensor, noise: PerImageRNG, *, stop: threading.Event | None = None
    ) -> Tensor:
        """Return purified images.

        Args:
            images: N×C×H×W in [-1, 1].
            noise: of these images, in their order.
            stop: ends it between two steps of a chain.

        Returns:
            The same shape, in [-1, 1], not rounded to grey levels. How images are batched changes
            an image by no more than the rounding of the arithmetic.

        Raises:
            JobError: stopped, or the images are too small for the purifier.
        """
        self._images += len(images)
        for position, (step, method) in enumerate(self._methods):
            diffuser, denoiser = self._models
            tools = Tools(
                diffuser=diffuser,
                denoiser=denoiser,
                noise=noise,
                stream=f"purify/{position}/",
                stop=stop,
            )
            images = _apply_step(step, method, images, tools)
            self._calls += tools.calls
        return images


def make_purifier(
    name: PurifierName, *, diffuser: Diffuser | None = None, denoiser: Denoiser | None = None
) -> Purifier:
    """Return a purifier that works with the given models; those that it does not need may be left out.

    Raises:
        JobError: it lacks a model, the diffuser was not trained for the steps that it names, or its
            models learned images of another number of channels each.
    """
    given = {"diffuser": diffuser, "denoiser": denoiser}
    for model in name.needs:
        if given[model] is None:
            raise JobError(f"{name.text} needs a {model}. Give its model ID.")
    if diffuser is not None:
        reason = refuse_untrained(name, diffuser.t_max, "the diffuser")
        if reason:
            raise JobError(reason)
    diffuser = diffuser if "diffuser" in name.needs else None
    denoiser = denoiser if "denoiser" in name.needs else None
    if diffuser is not None and denoiser is not None:
        channels = diffuser.channels, denoiser.shape.channels
        if channels[0] != channels[1]:
            raise JobError(
                f"{name.text}: the diffuser has {channels[0]} channels, but the denoiser has {channels[1]}. "
                "Use models of the same images."
            )
    return Purifier(name, diffuser, denoiser)


def _apply_step(step: PurifierStep, method: Method, images: Tensor, tools: Tools) -> Tensor:
    """Return images after one step, with the gradient that its declaration names."""
    if SPECS[step.name].gradient == "exact":
        return method(images, step.value, tools).clamp(-1, 1)
    with torch.no_grad():
        purified = method(images, step.value, tools).clamp(-1, 1)
    return _with_gradient_of_identity(images, purified)


class _StraightThrough(torch.autograd.Function):
    """A value with the gradient of another one (straight-through)."""

    @staticmethod
    def forward(_: Any, images: Tensor, purified_images: Tensor) -> Tensor:
        del images
        return purified_images

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


_with_gradient_of_identity: Callable[[Tensor, Tensor], Tensor] = _StraightThrough.apply


def purify_folder(
    source: Path, settings: PurifySettings, purifier: Purifier, output: Path, watch: RunContext
) -> dict[str, Json]:
    """Write purified images, each under its name as PNG, and `made.json`; return its content.

    The images of one batch are in memory at a time. `seconds` and `cpu_seconds` are those of the
    purifier alone, an image, without reading and writing; `net_calls` are calls of networks an image.

    Args:
        source: folder of the images.
        settings: how many of them, in which batches, of which seed.
        purifier: with its models.
        output: of the new folder.
        watch: device, progress, stop.

    Raises:
        DataError: the source holds no images, one that cannot be read or has another size, or
            colours that its models do not know.
        JobError: stopped; nothing is left behind.
    """
    names = image_names(source, limit=settings.limit)
    channels, height, width = shape_of(source, names[0])
    size = purifier.size or (height, width)
    channels = purifier.channels or channels
    if channels == 1:
        _refuse_colours(source, names, purifier)
    wall_s = cpu_s = 0.0
    with output_folder(output) as writer, torch.no_grad():
        for rows in watch.batches(len(names), settings.batch_size):
            batch = names[rows]
            images = load_image_batch(source, batch, size=size, channels=channels).to(watch.device)
            wall, cpu = time.perf_counter(), time.process_time()
            purified = purifier(images, PerImageRNG(batch, settings.seed), stop=watch.stop)
            purified = purified.cpu()  # waits for the device
            wall_s, cpu_s = wall_s + time.perf_counter() - wall, cpu_s + time.process_time() - cpu
            writer.write(batch, purified)
        facts: dict[str, Json] = {
            "kind": "purify",
            "settings": settings.model_dump(mode="json"),
            "purifier": purifier.name.label(),
            "source": settings.source,
            "source_digest": digest_of(source, names),
            "seed": settings.seed,
            "images": len(names),
            "net_calls": purifier.net_calls,
            "seconds": wall_s / len(names),
            "cpu_seconds": cpu_s / len(names),
        }
        writer.write_output_record(facts)
    return facts


def _refuse_colours(source: Path, names: Sequence[str], purifier: Purifier) -> None:
    """Refuse colours where all is purified as grey, which would take them away."""
    coloured = next((name for name in names if shape_of(source, name)[0] > 1), None)
    if coloured is None:
        return
    if purifier.channels:
        raise DataError(
            f"{source / coloured} has colours, but the models of {purifier.name.text} were trained on "
            "grey images. Use models of colour images."
        )
    raise DataError(
        f"{source / coloured} has colours, but {names[0]} is grey. Save all images of the folder in "
        "the same mode."
    )
