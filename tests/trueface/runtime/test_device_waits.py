"""How often trainings wait for the device: while the program waits, a GPU gets no further work."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trueface.class_toys import SMALL
from tests.trueface.counted_device import DEVICE, counted_device
from tests.trueface.generators.diffusion import test_training as diffusers
from tests.trueface.generators.purification import test_denoiser as denoisers
from tests.trueface.generators.translation.build import portraits, tiny
from tests.trueface.training import test_trainer as detectors
from tests.trueface.unlearning.build import make_class_task
from trueface.data.class_images import ClassImageList, ClassPixels
from trueface.generators.diffusion.training import fit as fit_diffuser
from trueface.generators.made_folders import image_names
from trueface.generators.translation.training import LabelledImages, train_translator
from trueface.generators.translation.translator import labels_of
from trueface.models.detectors import build_classifier
from trueface.runtime.progress import RunContext
from trueface.runtime.stepping import RunFingerprint
from trueface.training.class_settings import ClassifySettings
from trueface.training.trainer import fit

torch.set_num_threads(1)

WATCH = RunContext(device=DEVICE)
BATCH = 8
Training = Callable[[Path, int], None]  # in a folder, with a number of steps


def detector(**changed: Any) -> Training:
    def train(_: Path, steps: int) -> None:
        config = detectors.settings(num_epochs=1, batch_size=BATCH, **changed).trainer
        images = detectors.checkered(0, steps * BATCH), detectors.checkered(1)
        fit(detectors.tiny(), *images, config, watch=WATCH)

    return train


def class_network(_: Path, steps: int) -> None:
    settings = ClassifySettings(
        **{**SMALL, "model": "cnn", "num_epochs": 1, "batch_size": BATCH, "crop": True}
    )
    rng = torch.Generator().manual_seed(0)
    shape = (steps * BATCH, 3, 16, 16)
    pixels = torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
    labels = tuple(row % 3 for row in range(len(pixels)))
    names = tuple(map(str, range(len(pixels))))
    images = ClassPixels(ClassImageList(pixels, labels, names), settings, DEVICE).examples()
    model = build_classifier(settings.shape(3), seed=1, channels_last=False)
    validation = images.subset(range(BATCH)).loader(augment=False)
    fit(model, images.loader("trained"), validation, settings.trainer, watch=WATCH)


def unlearning(method: str, **options: Any) -> Training:
    def train(_: Path, steps: int) -> None:
        task = make_class_task(pictures=True, epochs=5)
        task.model.to(DEVICE)
        size = len(task.forget) // steps
        given = {"epochs": 1, "batch_size": size, **options}
        task.run(method, options=given, force=True, watch=WATCH)

    return train


def diffuser(_: Path, steps: int) -> None:
    settings = diffusers.settings(num_steps=steps, small_t=0.5, prediction="v")
    images, labels = diffusers.images(), diffusers.labels()
    fit_diffuser(images, labels, settings, class_names=diffusers.NAMES, watch=WATCH)


def denoiser(folder: Path, steps: int) -> None:
    settings = denoisers.make_settings(num_steps=steps, save_every=100)
    denoisers.trained(folder / "resume.pt", settings, WATCH)


def translator(folder: Path, steps: int) -> None:
    root = portraits(folder / f"{steps}", 6) / "A"
    names = image_names(root)
    train_translator(
        LabelledImages(root, names, labels_of(root, names)[1], 32),
        tiny(num_steps=steps, save_every=100),
        watch=WATCH,
        resume_path=folder / "resume.pt",
        claim=RunFingerprint("this"),
    )


def waits(training: Training, folder: Path, steps: int) -> Counter[str]:
    with counted_device() as counts:
        training(folder, steps)
    return counts.waits


@pytest.mark.parametrize(
    ("training", "reads"),
    [
        pytest.param(detector(ema=0.9), 1, id="detector"),
        # the lengths of the gradients decide how far the weights move
        pytest.param(detector(sam=0.05), 2, id="detector with sam"),
        pytest.param(class_network, 1, id="class network"),
        pytest.param(diffuser, 1, id="diffuser"),
        pytest.param(denoiser, 1, id="denoiser"),
        pytest.param(translator, 1, id="translator"),
        pytest.param(unlearning("rl"), 1, id="rl"),
        pytest.param(unlearning("npo"), 1, id="npo"),
        pytest.param(unlearning("shrink"), 1, id="shrink"),
        pytest.param(unlearning("expand"), 1, id="expand"),
        pytest.param(unlearning("pgu"), 1, id="pgu"),
        # whether to take a step follows from the predictions before it
        pytest.param(unlearning("ng", stop_at=0.0), 2, id="ng"),
    ],
)
def test_training_step_reads_the_device_once(
    tmp_path: Path, training: Training, reads: int
) -> None:
    few, many = 1, 2
    further = waits(training, tmp_path, many)
    further.subtract(waits(training, tmp_path, few))
    places = {place: count for place, count in further.items() if count}
    assert sum(places.values()) == reads * (many - few), places


def test_results_on_the_counted_device_have_the_bits_of_the_cpu() -> None:
    def state(watch: RunContext) -> dict[str, Tensor]:
        task = make_class_task(pictures=True, epochs=5)
        task.model.to(watch.device)
        done = task.run("lau", options={"epochs": 2}, watch=watch)
        return {name: value.cpu() for name, value in done.model.state_dict().items()}

    expected = state(RunContext())
    with counted_device():
        found = state(WATCH)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("use", "count"),
    [
        (lambda values: values.sum().item(), 1),
        (lambda values: values.tolist(), 1),
        (lambda values: bool(values.any()), 1),
        (lambda values: values.cpu(), 1),
        (lambda values: values[values > 1], 1),
        (lambda values: values.nonzero(), 1),
        (lambda values: values[torch.tensor([0])], 1),
        (lambda values: torch.allclose(values, values), 1),
        (lambda values: torch.ones(3).to(values.device), 1),
        (lambda values: torch.tensor(3.0, device=values.device), 1),
        (lambda values: torch.ones(3).to(values.device, non_blocking=True) + values.exp(), 0),
        (lambda values: values.add_(1)[1:].argmax(), 0),
        (lambda values: torch.zeros(3, device=values.device), 0),
    ],
)
def test_reads_and_blocking_copies_wait_for_the_device(
    use: Callable[[Tensor], object], count: int
) -> None:
    values = torch.arange(3.0)
    with counted_device() as counts:
        use(values.to(DEVICE, non_blocking=True))
    assert counts.waits.total() == count
