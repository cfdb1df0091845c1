"""The draws of trainings by steps, computed from the seed and the number of the step.

An interrupted training relies on these draws, and so does every published number.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torch import Tensor, nn

from tests.trueface.generators.erasing.build import FEW, a_problem, few, small
from tests.trueface.generators.translation.build import tiny
from tests.trueface.watches import stopping_at
from trueface.generators.diffusion.schedule import Schedule
from trueface.generators.diffusion.settings import SMALL_T, DiffuserSettings
from trueface.generators.diffusion.training import fit
from trueface.generators.erasing.erasure import iter_trajectory_batches, sample_trajectories
from trueface.generators.erasing.methods.ablation import noised_samples
from trueface.generators.erasing.registry import METHODS
from trueface.generators.made_folders import to_minus_one_one
from trueface.generators.purification.denoiser import Denoiser, train_denoiser
from trueface.generators.purification.registry import DenoiserSettings
from trueface.generators.translation import training as translation
from trueface.generators.translation.training import LabelledImages, train_translator
from trueface.generators.translation.translator import Generator
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import stream_seed
from trueface.runtime.stepping import RunFingerprint

COUNT, BATCH, SEED, SIDE, STEPS = 12, 5, 4, 16, 6
CLASSES = 3


def generator(stream: str, seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(stream, seed))


def pixels() -> Tensor:
    """Return different images, no two rows of which are mirrored into each other."""
    rng = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (COUNT, 3, SIDE, SIDE), generator=rng, dtype=torch.uint8)


def mirrored(images: Tensor, chosen: Tensor) -> Tensor:
    return torch.stack(
        [
            image.flip(2) if flips else image
            for image, flips in zip(images, chosen.tolist(), strict=True)
        ]
    )


def record_calls(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, keep: Callable[..., Any]
) -> list[Any]:
    """Return a list that receives what `keep` takes of each call of a function."""
    calls, original = [], getattr(owner, name)

    def called(*given: Any) -> Any:
        calls.append(keep(*given))
        return original(*given)

    monkeypatch.setattr(owner, name, called)
    return calls


@pytest.mark.parametrize("given", [{}, {"flip": False}, {"small_t": 0.3, "t_max": 400}])
def test_draws_of_diffuser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    settings = DiffuserSettings.model_validate(
        {
            "data_root": "", "size": SIDE, "network": "mlp", "widths": (8,), "batch_size": BATCH,
            "seed": SEED, "drop": 0.25, "num_steps": STEPS, **given,
        }
    )  # fmt: skip
    noised = record_calls(monkeypatch, Schedule, "add_noise", lambda _, *drawn: drawn)
    embedded = record_calls(monkeypatch, nn.Embedding, "forward", lambda _, labels: labels)
    images, labels = pixels(), torch.arange(COUNT) % CLASSES
    names = tuple("abc")
    with pytest.raises(JobError, match="stopped after step 4"):
        fit(images, labels, settings, class_names=names, folder=tmp_path, watch=stopping_at(4))
    fit(images, labels, settings, class_names=names, folder=tmp_path)
    assert len(noised) == len(embedded) == STEPS
    for step in range(STEPS):
        draw = generator(f"step/{step}")
        rows = torch.randint(COUNT, (BATCH,), generator=draw)
        t = torch.randint(1, settings.latest_t + 1, (BATCH,), generator=draw)
        if settings.small_t:
            is_small = torch.rand(BATCH, generator=draw) < settings.small_t
            t = torch.where(is_small, torch.randint(1, SMALL_T, (BATCH,), generator=draw), t)
        clean = to_minus_one_one(images[rows])
        if settings.flip:
            clean = mirrored(clean, torch.rand(BATCH, generator=draw) < 0.5)
        dropped = torch.rand(BATCH, generator=draw) < 0.25
        noise = torch.randn(clean.shape, generator=draw)
        assert all(map(torch.equal, noised[step], (clean, t, noise)))
        assert embedded[step].tolist() == torch.where(dropped, CLASSES, labels[rows]).tolist()


@pytest.mark.parametrize("given", [{}, {"flip": False, "noise": 0.1}])
def test_draws_of_denoiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    settings = DenoiserSettings.model_validate(
        {
            "data_root": "", "size": SIDE, "width": 2, "depth": 2, "batch_size": BATCH,
            "seed": SEED, "num_steps": STEPS, **given,
        }
    )  # fmt: skip
    noisy = record_calls(monkeypatch, Denoiser, "forward", lambda _, images: images)
    images, state = pixels(), tmp_path / "resume.pt"
    with pytest.raises(JobError, match="stopped after 4"):
        train_denoiser(images, settings, watch=stopping_at(4), state=state)
    train_denoiser(images, settings, watch=RunContext(), state=state)
    assert len(noisy) == STEPS
    for step in range(STEPS):
        draw = generator(f"denoiser/{step}")
        clean = to_minus_one_one(images[torch.randint(COUNT, (BATCH,), generator=draw)])
        if settings.flip:
            clean = mirrored(clean, torch.rand(BATCH, 1, 1, 1, generator=draw).flatten() < 0.5)
        least, most = settings.noise
        strengths = least + (most - least) * torch.rand(BATCH, 1, 1, 1, generator=draw)
        noise = strengths * torch.randn(clean.shape, generator=draw)
        assert torch.equal(noisy[step], clean + noise)


@pytest.mark.parametrize("most_held", [0, translation.MOST_HELD])
def test_draws_of_translator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_held: int
) -> None:
    images, names = pixels(), [f"{at:02}.png" for at in range(COUNT)]
    for name, image in zip(names, images, strict=True):
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name)
    settings = tiny(size=SIDE, gan="wgan-gp", batch_size=BATCH, seed=SEED, num_steps=STEPS)
    monkeypatch.setattr(translation, "MOST_HELD", most_held)
    translated = record_calls(monkeypatch, Generator, "forward", lambda _, *given: given)
    shares = record_calls(monkeypatch, translation, "gradient_penalty", lambda *given: given[3])
    labels = torch.eye(COUNT)[:, :CLASSES]
    pictures = LabelledImages(tmp_path, names, labels, SIDE)

    def train(watch: RunContext) -> None:
        path, claim = tmp_path / "resume.pt", RunFingerprint("this")
        train_translator(pictures, settings, watch=watch, resume_path=path, claim=claim)

    with pytest.raises(JobError, match="stopped after 3"):
        train(stopping_at(3))
    train(RunContext())
    assert len(translated) == 2 * STEPS  # to the targets, and back
    for step in range(STEPS):
        draw = generator(f"translator/batch/{step + 1}")
        rows = torch.randint(COUNT, (BATCH,), generator=draw)
        flips = torch.rand(BATCH, generator=draw) < settings.flip
        order = torch.randperm(BATCH, generator=draw)
        share = torch.rand(BATCH, 1, 1, 1, generator=draw)
        shown, targets = translated[2 * step]
        assert torch.equal(shown, mirrored(to_minus_one_one(images[rows]), flips))
        assert shown.is_contiguous(memory_format=torch.channels_last)  # convolutions round by it
        assert torch.equal(targets, labels[rows][order])
        assert torch.equal(translated[2 * step + 1][1], labels[rows])
        assert torch.equal(shares[step], share)


def test_draws_of_erasing() -> None:
    count, paths, teacher = FEW["batch_size"], FEW["paths"], small()
    task = a_problem(few(METHODS["abo"].options({"trajectory": "concept"})))
    rng = task.generator("paths")
    sampled = sample_trajectories(teacher, task.erase, paths, task, rng)
    batches = iter_trajectory_batches(teacher, teacher, task)
    for _ in range(3):
        at = torch.randint(len(sampled.times), (count,), generator=rng)
        image = torch.randint(paths, (count,), generator=rng)
        noisy, t = next(batches)
        assert torch.equal(noisy, sampled.points[at, image])
        assert torch.equal(t, sampled.times[at])


def test_draws_of_erasing_along_the_trajectories_of_the_student() -> None:
    count, teacher = FEW["batch_size"], small()
    task = a_problem(few(METHODS["abo"].options({"trajectory": "own"})))
    rng = task.generator("paths")
    batches = iter_trajectory_batches(teacher, teacher, task)
    for _ in range(2):
        sampled = sample_trajectories(teacher, task.erase, count, task, rng)
        for _ in range(task.options.refresh):
            at = torch.randint(len(sampled.times), (count,), generator=rng)
            image = torch.randint(count, (count,), generator=rng)
            assert torch.equal(next(batches)[0], sampled.points[at, image])


def test_draws_of_ablation() -> None:
    count, paths, teacher = FEW["batch_size"], FEW["paths"], small()
    task = a_problem(few(METHODS["ablate"].options({})))
    rng = task.generator("samples")
    images = sample_trajectories(teacher, task.anchor, paths, task, rng).images
    batches = noised_samples(teacher, task)
    for _ in range(3):
        rows = torch.randint(paths, (count,), generator=rng)
        t = torch.randint(1, teacher.t_max + 1, (count,), generator=rng)
        noise = torch.randn(images[rows].shape, generator=rng)
        noisy, times = next(batches)
        assert torch.equal(noisy, teacher.schedule.add_noise(images[rows], t, noise))
        assert torch.equal(times, t)
