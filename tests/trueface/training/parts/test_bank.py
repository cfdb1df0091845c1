"""Features of frozen bodies: the same numbers, made fewer times."""

import threading
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.conftest import Tree
from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.features.bank import FeatureSet, feature_matrix, write_features
from trueface.models.detectors import Detector, build_detector
from trueface.models.inference import FrozenBackbone
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.prediction.reference import FEWEST
from trueface.runtime.progress import RunContext
from trueface.training.parts.bank import build_feature_feeds, distance_of
from trueface.training.settings import TrainSettings, has_frozen_backbone

torch.set_num_threads(1)  # two that wait for each other under load are slower

COUNT = 10
PLACES = {"data_root": "", "split_path": "", "model": "slim18"}
STILL = {"resize_size": 16, "batch_size": 4, "flip_prob": 0.0, "freeze": True}


def settings(**more: object) -> TrainSettings:
    return TrainSettings.model_validate(PLACES | STILL | more)


@pytest.fixture
def images(tree: Tree) -> tuple[Image, ...]:
    """Return as many images labelled real as fake."""
    names = [f"PreSocial/Real/FFHQ/{at:05}.png" for at in range(COUNT)]
    root = tree(names)
    return tuple(
        Image(
            file=str(root / name),
            key=f"FFHQ/{at:05}",
            label=at % 2,
            method="FFHQ",
            modifier="pre",
        )
        for at, name in enumerate(names)
    )


def network_with_statistics(name: str = "slim18", seed: int = 1) -> Detector:
    """Return a network whose batch norms do something, as those of a trained one do."""
    return deepcopy(built(name, seed))


@lru_cache(maxsize=1)
def built(name: str, seed: int) -> Detector:
    model = build_detector(name, weights="none", seed=seed)
    rng = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=rng) * 0.4 + 0.3)
            assert module.running_var is not None
            module.running_var.copy_(
                torch.rand(module.running_var.shape, generator=rng) * 0.4 + 0.5
            )
    return model


class Counted(FrozenBackbone):
    """A body that counts the images it sees."""

    seen = 0

    def __call__(self, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        return super().__call__(pixels)


def assert_equal_batches(one: Batch, other: Batch) -> None:
    assert torch.equal(one.indices, other.indices)
    assert torch.equal(one.labels, other.labels)
    torch.testing.assert_close(one.inputs, other.inputs, rtol=1e-4, atol=1e-5)


def compute_batches(body: FrozenBackbone, feed: ImageLoader, epoch: int) -> Iterator[Batch]:
    for batch in feed(epoch):
        yield batch._replace(inputs=body(batch.inputs))


class TestBody:
    @pytest.mark.parametrize(
        "name", ["slim18", "nodown18", "mobilenet", "squeezenet", "mesonet", "spsl"]
    )
    def test_folding_changes_features_by_rounding_only(self, name: str) -> None:
        model = network_with_statistics(name)
        rng = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8, generator=rng)
        with torch.inference_mode():
            expected = model.forward_features(pixels)
        found = FrozenBackbone(model)(pixels)
        assert found.dtype == torch.float32
        # the tolerance that is documented in `models.inference`
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


class TestBank:
    @pytest.mark.parametrize(
        ("given", "variants", "epochs", "passes"),
        [
            ({"flip_prob": 0.5}, None, 2, 2),
            # within the bound the first variant once, beyond it the second twice
            ({"flip_prob": 0.5, "augment_cycle": 2}, 1, 4, 3),
        ],
        ids=["without end", "beyond the bound"],
    )
    def test_bank_gives_loader_batches_and_computes_each_cached_variant_once(
        self, images: Sequence[Image], given: dict[str, float], variants: int | None, epochs: int,
        passes: int,
    ) -> None:  # fmt: skip
        feed, body = (
            poisoned_train_loader(images, settings(**given), None),
            Counted(network_with_statistics()),
        )
        limit: dict[str, Any] = (
            {"limit_bytes": variants * COUNT * body.width * 4} if variants else {}
        )
        bank = FeatureSet(body, feed, watch=RunContext(), **limit)
        plain = FrozenBackbone(network_with_statistics())
        for epoch in range(epochs):
            expected = list(compute_batches(plain, feed, epoch))
            assert len(expected) == 3
            for one, other in zip(bank.loader()(epoch), expected, strict=True):
                assert_equal_batches(one, other)
        assert body.seen == passes * COUNT


def test_training_keeps_feature_positions_if_memory_fits_both_loaders(
    images: Sequence[Image],
) -> None:
    model, given, many = network_with_statistics(), settings(), [*images] * (FEWEST // COUNT)
    need = len(many) * model.feature_dim * 4
    feeds = poisoned_train_loader(many, given, None), eval_loader(many, given)
    distances = [
        distance_of(
            *build_feature_feeds(model, *feeds, given, RunContext(), limit_bytes=times * need)
        )
        for times in (1, 2)
    ]
    assert [each is not None for each in distances] == [False, True]


def test_stop_ends_the_pass_but_does_not_leave_partial_validation(images: Sequence[Image]) -> None:
    stop = threading.Event()
    stop.set()
    model, given = network_with_statistics(), settings()
    feeds = poisoned_train_loader(images, given, None), eval_loader(images, given)
    built = build_feature_feeds(model, *feeds, given, RunContext(stop=stop))
    assert [len(list(each(0))) for each in built] == [0, 3]
    stop.clear()
    assert len(list(built[0](0))) == 3


def test_only_frozen_backbone_with_fixed_statistics_is_constant() -> None:
    assert has_frozen_backbone(settings())
    assert not has_frozen_backbone(settings(freeze_bn=False))
    assert not has_frozen_backbone(settings(freeze=False))


class TestMatrix:
    def test_matrix_has_one_row_per_image_in_set_order_and_is_written_without_pickled_objects(
        self, images: Sequence[Image], tmp_path: Path
    ) -> None:
        images[2].path.unlink()
        model, feed = network_with_statistics(), eval_loader(images, settings())
        found = feature_matrix(FrozenBackbone(model), feed, RunContext())
        assert found.features.shape == (COUNT - 1, model.feature_dim)
        assert found.features.dtype == np.float32
        assert found.positions.tolist() == [at for at in range(COUNT) if at != 2]
        path = tmp_path / "model" / "features.npz"
        write_features(
            path,
            found,
            names=[image.path.name for image in images],
            labels=[image.label for image in images],
        )
        with np.load(path, allow_pickle=False) as arrays:
            assert sorted(arrays) == ["features", "labels", "paths"]
            assert np.array_equal(arrays["features"], found.features)
            assert arrays["paths"].tolist()[:3] == ["00000.png", "00001.png", "00003.png"]
            assert arrays["labels"].tolist()[:3] == [0, 1, 1]
        assert [file.name for file in path.parent.iterdir()] == ["features.npz"]

    def test_matrix_of_broken_model_is_an_error(self, images: Sequence[Image]) -> None:
        model = network_with_statistics()
        model.network.get_parameter("conv1.weight").data.fill_(torch.nan)
        with pytest.raises(JobError, match="features of 10 of 10 images are not finite numbers"):
            feature_matrix(FrozenBackbone(model), eval_loader(images, settings()), RunContext())

    def test_matrix_computation_can_be_stopped(self, images: Sequence[Image]) -> None:
        stop = threading.Event()
        stop.set()
        with pytest.raises(JobError, match="stopped after 0 images"):
            feature_matrix(
                FrozenBackbone(network_with_statistics()),
                eval_loader(images, settings()),
                RunContext(stop=stop),
            )
