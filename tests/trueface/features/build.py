"""A small body that counts the images it sees, images for it, and stores."""

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from tests.trueface.conftest import Tree
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.features.matrix import FeatureMatrix
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector, build_detector
from trueface.models.inference import FrozenBackbone
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.runtime.progress import RunContext
from trueface.training.settings import TrainSettings

torch.set_num_threads(1)  # two that wait for each other under load are slower

COUNT = 8
LIMIT = 1 << 30


class Counted(FrozenBackbone):
    """A body that counts the images it sees."""

    seen = 0

    def __call__(self, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        return super().__call__(pixels)


@lru_cache(maxsize=2)
def built(seed: int) -> Detector:
    return build_detector("slim18", weights="none", seed=seed)


def model(*, seed: int = 1) -> Detector:
    return deepcopy(built(seed))


def body(*, seed: int = 1) -> Counted:
    return Counted(model(seed=seed))


def settings(**more: object) -> TrainSettings:
    given = {
        "data_root": "", "split_path": "", "model": "slim18", "weights": "none", "freeze": True,
        "resize_size": 12, "batch_size": 4, "flip_prob": 0.0, **more,
    }  # fmt: skip
    return TrainSettings.model_validate(given)


def written(tree: Tree, count: int = COUNT) -> tuple[Image, ...]:
    names = [f"PreSocial/Real/FFHQ/{number:05}.png" for number in range(count)]
    root = tree(names)
    return tuple(
        Image(str(root / name), f"FFHQ/{number:05}", number % 2, "FFHQ", "pre")
        for number, name in enumerate(names)
    )


def as_tested(images: Sequence[Image], **more: object) -> ImageLoader:
    return eval_loader(images, settings(**more))


def as_learned(images: Sequence[Image], **more: object) -> ImageLoader:
    return poisoned_train_loader(images, settings(**{"flip_prob": 0.5, **more}), None)


def store_in(folder: Path, limit_bytes: int = LIMIT) -> FeatureStore:
    folder.mkdir(mode=0o700, exist_ok=True)
    return FeatureStore(folder, limit_bytes)


def read(folder: Path, counted: FrozenBackbone, feed: ImageLoader, view: int = 0) -> FeatureMatrix:
    """Return what a process that begins now gets."""
    return store_in(folder).matrix(counted, feed, view, watch=RunContext())
