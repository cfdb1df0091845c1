"""What is measured between two models: how alike their samples are, and how far the null prediction moved."""

from pathlib import Path

import PIL.Image
import pytest
import torch

from tests.trueface.diffusion.closed_forms import small
from tests.trueface.erasing.measures.known_models import drawer, prototypes, recogniser
from trueface.diffusion.diffuser import timesteps
from trueface.erasing.measures.measuring import likeness, null_drift, write_sheet
from trueface.erasing.measures.samples import Sampling, noise_of

LABELS = torch.tensor([0, 0, 0])


def test_a_copy_has_not_drifted() -> None:
    teacher = small()
    noise = noise_of(teacher, "cross", 3, 1)
    assert null_drift(teacher.copy(), teacher, noise, LABELS, Sampling(steps=5)) == 0


def test_a_moved_null_token_drifts_by_its_share_of_each_step() -> None:
    # eps = (x - signal e) / sigma: with e moved by d it moves by signal / sigma · d
    teacher, student = drawer(), drawer()
    assert student.network.table is not None
    with torch.no_grad():
        student.network.table.weight[-1] += 0.1
    schedule, steps = teacher.schedule, 5
    shares = [
        float(schedule.alpha_bar[t] / (1 - schedule.alpha_bar[t])) * 0.01
        for t in timesteps(schedule, steps)
    ]
    noise = noise_of(teacher, "cross", 3, 1)
    drift = null_drift(student, teacher, noise, LABELS, Sampling(steps=steps, batch_size=2))
    assert drift == pytest.approx(sum(shares) / steps, rel=1e-3)


def test_changes_of_a_class_alone_are_no_drift() -> None:
    teacher, student = drawer(), drawer()
    assert student.network.table is not None
    with torch.no_grad():
        student.network.table.weight[0] = 0
    noise = noise_of(teacher, "cross", 3, 1)
    assert null_drift(student, teacher, noise, LABELS, Sampling(steps=5)) == 0


def test_equal_samples_are_alike_and_the_floor_is_that_of_other_noise() -> None:
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    features = recogniser().seen(images)[1]
    same = likeness(images, images, features, features, features.flip(0) + 1)
    assert same.ssim == pytest.approx(1)
    assert same.feature_distance == 0
    assert same.frechet == pytest.approx(0, abs=1e-6)
    assert same.frechet_floor == pytest.approx(16)  # the mean of 16 numbers moved by 1
    assert same.n == 8


def test_a_sheet_has_a_row_a_class_and_tiles_without_margins(tmp_path: Path) -> None:
    samples = prototypes()[:, None].repeat(1, 6, 1, 1, 1)
    assert write_sheet(tmp_path / "samples.png", samples) == (3, 4)
    with PIL.Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (16, 12)
        assert picture.getpixel((0, 0)) == 223  # of a bright row
        assert picture.getpixel((15, 0)) == 223
        assert picture.getpixel((15, 4)) == 32
