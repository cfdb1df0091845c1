"""The statistics of features in a two-layer head before the first step."""

import threading
from functools import cache
from pathlib import Path

import pytest
import torch

from launcher.api import JobError
from tests.trueface.training.test_resume import PROVENANCE, Killed, Mortal
from tests.trueface.training.test_trainer import Pixels, same
from trueface.models.detectors import Detector, build_detector
from trueface.models.head import MlpHead
from trueface.models.inference import FrozenBackbone
from trueface.runtime.progress import RunContext
from trueface.training.checkpointing import CheckpointCallback
from trueface.training.settings import TrainSettings
from trueface.training.trainer import TrainingResult, fit, standardise, train

torch.set_num_threads(1)

SIDE = 64
PLACES = {"data_root": "data", "split_path": "splits", "batch_size": 8, "lr": 1e-3}


def settings(**changed: object) -> TrainSettings:
    return TrainSettings.model_validate({**PLACES, "model": "moments/slim18", **changed})


def grey(seed: int, count: int = 16) -> Pixels:
    """Return noise, coarser in fakes."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(90, 150, (count, 3, SIDE, SIDE), generator=rng)
    labels = torch.arange(count) % 2
    coarse = images[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2)
    images[labels == 1] = coarse[labels == 1]
    return Pixels(labels[:, None].float(), images.to(torch.uint8))


def a_model() -> Detector:
    return build_detector("moments/slim18", weights="none", seed=1)


def head_of(model: Detector) -> MlpHead:
    assert isinstance(model.head, MlpHead)
    return model.head


@cache
def featured(seed: int, count: int = 16) -> Pixels:
    pixels = grey(seed, count)
    return Pixels(pixels.labels, FrozenBackbone(a_model())(pixels.images))


def test_features_and_pixels_give_same_mean_and_deviation() -> None:
    first, second = a_model(), a_model()
    standardise(first, grey(0), RunContext())
    standardise(second, featured(0), RunContext())
    features = featured(0).images
    torch.testing.assert_close(head_of(first).mean, features.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(head_of(second).mean, features.mean(0))
    deviation = features.std(0, correction=0)
    known = deviation > 1e-3
    torch.testing.assert_close(
        head_of(second).deviation[known], deviation[known], rtol=1e-3, atol=1e-5
    )
    assert int(head_of(second).rows) == 16


def test_fine_tuning_keeps_statistics_of_base() -> None:
    model = a_model()
    standardise(model, featured(0), RunContext())
    before = head_of(model).mean.clone()
    standardise(model, featured(1, 8), RunContext())
    assert torch.equal(head_of(model).mean, before)
    assert int(head_of(model).rows) == 16


def test_training_stopped_before_standardisation_has_no_statistics() -> None:
    stop = threading.Event()
    stop.set()
    model = a_model()
    with pytest.raises(JobError, match="stopped in epoch 1"):
        fit(
            model,
            featured(0),
            featured(1),
            settings().trainer,
            watch=RunContext(stop=stop),
        )
    assert not head_of(model).is_standardised


def run(
    folder: Path, asked: TrainSettings, training: Pixels | Mortal
) -> tuple[Detector, TrainingResult]:
    model = a_model()
    done = train(
        model, training, featured(1),
        CheckpointCallback(folder=folder, settings=asked, provenance=PROVENANCE), watch=RunContext(),
    )  # fmt: skip
    return model, done


def test_two_layer_head_trains_by_steps_and_interrupted_training_resumes_bit_by_bit(
    tmp_path: Path,
) -> None:
    wanted = settings(num_epochs=2, sam=0.05, dropout=0.2, ema=0.5, select="last")
    assert wanted.freeze
    images = featured(0)
    model, done = run(tmp_path / "whole", wanted, images)
    assert done.epochs[-1].loss < done.epochs[0].loss
    assert head_of(model).is_standardised
    states = (each.network.state_dict().items() for each in (model, a_model()))
    for (name, trained), (_, fresh) in zip(*states, strict=True):
        assert name.startswith(f"{model.spec.head}.") or torch.equal(trained, fresh), name
    with pytest.raises(Killed):
        run(tmp_path / "killed", wanted, Mortal(images, epoch=1, batches=1))
    assert same(run(tmp_path / "killed", wanted, images)[0], model)
