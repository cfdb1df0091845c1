"""Features of a frozen backbone as unlearning methods read them: cached, and counted."""

import os
from pathlib import Path

import PIL.Image
import pytest
from torch import Tensor

from tests.trueface.conftest import Tree
from trueface.data.examples import CostCounter
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.features.store import FeatureStore
from trueface.models import detectors
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.unlearning.head_features import FeatureDataset, feature_source
from trueface.unlearning.settings import UnlearningSettings

COUNT = 4


@pytest.fixture
def images(tree: Tree) -> tuple[Image, ...]:
    root = tree([f"PreSocial/Real/FFHQ/{number:05}.png" for number in range(COUNT)])
    paths = sorted(root.rglob("*.png"))
    return tuple(Image(str(path), f"FFHQ/{path.stem}", 0, "FFHQ", "pre") for path in paths)


def settings(*, flip_prob: float = 0) -> UnlearningSettings:
    return UnlearningSettings(
        data_root="data", split_path="splits", method="exact", model="slim18", weights="none",
        freeze=True, resize_size=12, flip_prob=flip_prob,
    )  # fmt: skip


def loaders(
    images: tuple[Image, ...], given: UnlearningSettings
) -> tuple[ImageLoader, ImageLoader]:
    return train_loader(images, given), eval_loader(images, given)


def features(images: tuple[Image, ...], folder: Path, meter: CostCounter) -> Tensor:
    """Return the features of images as they are tested."""
    given = settings()
    model = detectors.build_detector("slim18", weights="none", seed=1)
    folder.mkdir(exist_ok=True)
    store = FeatureStore(folder, limit_bytes=1 << 30)
    both = loaders(images, given)
    source = feature_source(*both, model, given, RunContext(), meter=meter, store=store)
    assert isinstance(source.test_loader.dataset, FeatureDataset)
    return source.test_loader.dataset.eval_features


def test_features_of_other_images_with_the_same_names_are_not_used(
    images: tuple[Image, ...], tmp_path: Path
) -> None:
    first = features(images, tmp_path / "cache", CostCounter())
    path = images[0].path
    before = path.stat().st_mtime_ns
    PIL.Image.new("RGB", (12, 12), "red").save(path)
    os.utime(path, ns=(before + 10**9, before + 10**9))
    second = features(images, tmp_path / "cache", CostCounter())
    assert not first[0].equal(second[0])
    assert first[1:].equal(second[1:])


def test_images_read_for_the_store_are_counted_when_found_there(
    images: tuple[Image, ...], tmp_path: Path
) -> None:
    meters = CostCounter(), CostCounter()
    for meter in meters:
        features(images, tmp_path / "cache", meter)
    assert [meter.cached_samples for meter in meters] == [COUNT, COUNT]
    assert [meter.samples for meter in meters] == [0, 0]
    assert meters[1].making_seconds == 0 < meters[0].making_seconds


def test_stop_during_feature_computation_is_not_an_empty_pass(
    images: tuple[Image, ...], tmp_path: Path
) -> None:
    given, watch = settings(flip_prob=0.5), RunContext()
    both = loaders(images, given)
    model = detectors.build_detector("slim18", weights="none", seed=1)
    store = FeatureStore(tmp_path, limit_bytes=1 << 30)
    source = feature_source(*both, model, given, watch, meter=CostCounter(), store=store)
    watch.stop.set()
    with pytest.raises(JobError, match="stopped"):
        list(source.train_loader.iter_positions(range(COUNT), 0, batch_size=2))


def test_cost_of_augmented_images_is_the_same_with_and_without_the_store(
    images: tuple[Image, ...], tmp_path: Path
) -> None:
    given = settings(flip_prob=0.5)
    both = loaders(images, given)
    model = detectors.build_detector("slim18", weights="none", seed=1)
    saved = []
    for _ in range(2):
        meter, store = CostCounter(), FeatureStore(tmp_path, limit_bytes=1 << 30)
        source = feature_source(*both, model, given, RunContext(), meter=meter, store=store)
        list(source.train_loader.iter_positions(range(COUNT), 0, batch_size=2))
        saved.append(meter.saved_seconds)
    assert saved[0] == 0 < saved[1]
