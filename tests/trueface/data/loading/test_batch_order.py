"""The batches of every reader: which samples, in which order, with which pixels, labels and columns.

The values are those of version 0.3. Interrupted trainings rely on them.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from tests.trueface import class_toys
from tests.trueface.features.build import body, store_in
from trueface.data.examples import CostCounter, Examples, ExampleSource, examples, examples_of
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.data.loading.loader import Loader, Shard
from trueface.data.loading.pass_order import Order
from trueface.features.bank import FeatureSet
from trueface.generators.diffusion.settings import DiffuserSettings
from trueface.generators.diffusion.training import BatchSource
from trueface.generators.purification.denoiser import _draw_noise_batch
from trueface.generators.purification.registry import DenoiserSettings
from trueface.generators.step_loader import StepLoader
from trueface.generators.translation.training import LabelledImages
from trueface.models.detectors import build_detector
from trueface.runtime.progress import RunContext
from trueface.training.parts.bank import build_feature_feeds
from trueface.training.parts.qualities import rows_of, with_qualities_of
from trueface.training.settings import TrainSettings
from trueface.unlearning.head_features import feature_source
from trueface.unlearning.image_source import pixel_source
from trueface.unlearning.settings import UnlearningSettings

COUNT = 11
BAD = 6
PLACES: dict[str, Any] = {
    "data_root": "", "split_path": "", "model": "slim18", "weights": "none", "resize_size": 16,
    "batch_size": 4, "flip_prob": 0.5, "seed": 3,
}  # fmt: skip


def settings(**changed: Any) -> TrainSettings:
    return TrainSettings.model_validate({**PLACES, **changed})


@pytest.fixture
def images(tmp_path: Path) -> tuple[Image, ...]:
    """Return images, the seventh of which cannot be decoded."""
    made = []
    for at in range(COUNT):
        path = tmp_path / f"{at:05}.png"
        pixels = np.random.default_rng(at).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(path)
        network = ("pre", "fb", "wa")[at % 3]
        made.append(Image(str(path), f"FFHQ/{at:05}", at % 2, "FFHQ", network))
    content = made[BAD].path.read_bytes()
    made[BAD].path.write_bytes(content[: len(content) // 2])
    return tuple(made)


def order(batches: Iterable[Any]) -> str:
    return " | ".join(" ".join(map(str, batch.indices.tolist())) for batch in batches)


def digest(batches: Iterable[Any], *, floats: bool) -> str:
    """Return a checksum of indices, labels, columns and inputs; of inputs in floats only the shape."""
    text = hashlib.sha256()
    for batch in batches:
        inputs = batch.inputs
        facts = [tuple(inputs.shape), batch.indices.tolist(), batch.labels.tolist()]
        columns = getattr(batch, "columns", {})
        facts += [[name, values.tolist()] for name, values in sorted(columns.items())]
        text.update(repr(facts).encode())
        if not floats and len(inputs):
            assert inputs.dtype == torch.uint8
            text.update(inputs.contiguous().numpy().tobytes())
    return text.hexdigest()[:16]


def check(name: str, batches: Iterable[Any], *, floats: bool = False) -> None:
    found = list(batches)
    assert (order(found), digest(found, floats=floats)) == PINNED[name]


def both(make: Any) -> Iterator[Any]:
    """Yield the batches of two epochs."""
    for epoch in (0, 1):
        yield from make(epoch)


COLUMNS = ("quality",)


@pytest.mark.parametrize("threads", [0, 2])
def test_training_images(images: tuple[Image, ...], threads: int) -> None:
    loader = train_loader(images, settings(num_threads=threads), COLUMNS)
    check("training", both(loader))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_images_of_each_rank(images: tuple[Image, ...], rank: int) -> None:
    loader = train_loader(images, settings(batch_size=5), COLUMNS)
    check(f"rank {rank}", both(replace(loader, shard=Shard(rank=rank, size=3))))


def test_images_drawn_by_cells(images: tuple[Image, ...]) -> None:
    check("cells", both(by_cells(train_loader(images, settings(), COLUMNS))))


def test_self_blended_images(images: tuple[Image, ...]) -> None:
    loader = train_loader(images, settings(sbi=0.5))
    check("sbi", both(loader), floats=True)


def test_tested_images(images: tuple[Image, ...]) -> None:
    check("tested", eval_loader(images, settings(), triggered_rows=(1, 8))(0))
    check("crops", eval_loader(images, settings(patch_size=8, test_crops=3))(0))


def test_some_of_the_images_in_batches_of_another_size(images: tuple[Image, ...]) -> None:
    loader = train_loader(images, settings())
    check("some", loader.iter_positions([9, 6, 1, 4], 2, batch_size=3))


@pytest.mark.parametrize("form", ["paired", "mixed"])
def test_images_in_qualities(images: tuple[Image, ...], form: str) -> None:
    chosen = settings(qualities="raw, jpeg40", quality_batch=form)
    loader = rows_of(with_qualities_of(train_loader(images, chosen, COLUMNS), chosen, Path), chosen)
    check(form, both(loader))
    assert len(loader) == (2 * COUNT if form == "paired" else COUNT)


@pytest.mark.parametrize("form", ["paired", "mixed"])
def test_features_in_qualities(images: tuple[Image, ...], form: str) -> None:
    chosen = settings(
        qualities="raw, jpeg40", quality_batch=form, freeze=True, augment_cycle=2, num_epochs=2
    )
    learned, checked = build_feature_feeds(
        build_detector("slim18", weights="none", seed=1),
        with_qualities_of(train_loader(images, chosen, COLUMNS), chosen, Path),
        eval_loader(images, chosen), chosen, RunContext(),
    )  # fmt: skip
    loader = rows_of(learned, chosen)
    check(f"features {form}", both(loader), floats=True)
    check("features tested", checked(0), floats=True)
    assert len(loader) == (2 * COUNT if form == "paired" else COUNT)


@pytest.mark.parametrize(("cycle", "stored"), [(2, True), (0, False)])
def test_features(images: tuple[Image, ...], tmp_path: Path, cycle: int, stored: bool) -> None:
    loader = train_loader(images, settings(augment_cycle=cycle), COLUMNS)
    bank = features_of(loader, tmp_path / "features" if stored else None)
    check("features", both(bank), floats=True)
    check("some features", bank.iter_positions([9, 6, 1, 4], 2, batch_size=3), floats=True)


def test_features_of_images_drawn_by_cells(images: tuple[Image, ...], tmp_path: Path) -> None:
    bank = features_of(by_cells(train_loader(images, settings())), tmp_path / "features")
    check("features by cells", both(bank), floats=True)
    assert bank.dataset.cost.computed == 2 * (COUNT - 1)  # also those that are not drawn


@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_images_of_an_unlearning(images: tuple[Image, ...], epoch: int | None) -> None:
    some = examples_of_images(images).subset([9, 6, 1, 4, 0])
    check(f"examples {epoch} of images", read(some, epoch))
    check(f"examples {epoch} of images by 2", read(some, epoch, 2))
    more = some + examples(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), [1] * 4, seed=2)
    check(f"examples {epoch} of images joined", read(more, epoch, 5))


@pytest.mark.parametrize("epoch", [None, 0, 1])
@pytest.mark.parametrize("cycle", [0, 2])
def test_features_of_an_unlearning(
    images: tuple[Image, ...], epoch: int | None, cycle: int
) -> None:
    some = examples_of_features(images, augment_cycle=cycle).subset([9, 6, 1, 4, 0])
    check(f"examples {epoch} of features {cycle}", read(some, epoch), floats=True)
    check(f"examples {epoch} of features {cycle} by 3", read(some, epoch, 3), floats=True)


@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_examples(epoch: int | None) -> None:
    some = examples(TENSOR, LABELS, [0] * 9, seed=5)
    pairs = [(row, label) for row, label in zip(TENSOR, LABELS, strict=True)]
    check(f"examples {epoch}", read(some, epoch, 4))
    check(f"examples {epoch}", read(examples_of(pairs, "pairs", seed=5), epoch, 4))
    check(f"examples {epoch} by 1", read(some, epoch, 1))
    check(f"examples {epoch} in one batch", read(some, epoch))
    assert [each.labels.tolist() for each in some.batches("true")] == [[0] * 9]


@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_joined_examples(epoch: int | None) -> None:
    more = examples(TENSOR[:4] + 100, [2] * 4, seed=1)
    some = examples(TENSOR, LABELS, seed=5).subset([7, 2, 5, 0, 8]) + more
    check(f"joined {epoch}", read(some, epoch, 4))
    check(f"joined {epoch} twice", read(some + more.subset([1, 3]) + some, epoch, 6))


@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_images_of_classes(epoch: int | None) -> None:
    some = class_toys.colours(3, crop=True, flip=True).examples()
    check(f"classes {epoch}", read(some, epoch))
    joined = some.subset([8, 1, 4]) + class_toys.colours(1).examples()
    check(f"classes {epoch} joined", read(joined, epoch, 3))


def test_images_of_classes_in_trainings() -> None:
    some = class_toys.colours(3, crop=True, flip=True).examples()
    check("classes trained", both(some.loader(batch_size=4)))
    check("classes validated", some.loader(augment=False)(5))


def test_draws_of_generator_trainings(tmp_path: Path) -> None:
    pixels = torch.from_numpy(
        np.random.default_rng(2).integers(0, 256, (12, 3, 16, 16), dtype=np.uint8)
    )
    names = [f"{at}.png" for at in range(12)]
    for name, image in zip(names, pixels, strict=True):
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name)
    diffused = DiffuserSettings.model_validate(
        {"data_root": "", "size": 16, "batch_size": 5, "seed": 4, "flip": True, "small_t": 0.3}
    )
    source = BatchSource(
        loader=StepLoader(pixels, "step", 5, 4),
        labels=torch.arange(12) % 3,
        classes=3,
        settings=diffused,
        device="cpu",
    )
    found = []
    for step in (0, 7):
        noised = source.batch(step)
        assert noised.labels is not None
        found += [noised.t, noised.labels, levels(noised.images)]
    assert [checksum(each) for each in found] == PINNED["diffuser"]
    labelled, found = LabelledImages(tmp_path, names, torch.eye(12), 16), []
    for step in (1, 7):
        batch = labelled.batch(step, 5, flip=0.5, seed=4)
        found += [batch.labels.argmax(1), batch.targets.argmax(1), levels(batch.images)]
    assert [checksum(each) for each in found] == PINNED["translator"]
    denoised = DenoiserSettings.model_validate(
        {"data_root": "", "size": 16, "batch_size": 5, "seed": 4, "flip": True}
    )
    loader = StepLoader(pixels, "denoiser", 5, 4)
    clean = [_draw_noise_batch(loader, denoised, step)[0] for step in (0, 7)]
    assert [checksum(levels(each)) for each in clean] == PINNED["denoiser"]


TENSOR = torch.arange(9 * 2, dtype=torch.uint8).reshape(9, 2)
LABELS = [0, 1, 2] * 3


def read(some: Examples, epoch: int | None, size: int | None = None) -> list[Any]:
    return list(some.batches(epoch=epoch, batch_size=size))


def by_cells(loader: ImageLoader) -> ImageLoader:
    return replace(loader, order=Order(seed=loader.order.seed, cells=(0,) * 8 + (1,) * 3))


def features_of(loader: ImageLoader, folder: Path | None) -> Loader[FeatureSet]:
    store = None if folder is None else store_in(folder)
    return FeatureSet(body(), loader, watch=RunContext(), store=store, views=2).loader()


def unlearning_settings(**changed: Any) -> UnlearningSettings:
    return UnlearningSettings.model_validate(
        {**PLACES, "freeze": True, "method": "exact", **changed}
    )


def examples_of_images(images: tuple[Image, ...]) -> Examples:
    chosen = unlearning_settings()
    loaders = train_loader(images, chosen), eval_loader(images, chosen)
    return examples_from(pixel_source(*loaders, chosen), images)


def examples_of_features(images: tuple[Image, ...], **changed: Any) -> Examples:
    chosen = unlearning_settings(**changed)
    loaders = train_loader(images, chosen), eval_loader(images, chosen)
    model = build_detector("slim18", weights="none", seed=1)
    source = feature_source(*loaders, model, chosen, RunContext(), meter=CostCounter())
    return examples_from(source, images)


def examples_from(source: ExampleSource, images: tuple[Image, ...]) -> Examples:
    labels = tuple(image.label for image in images)
    return Examples(source=source, positions=tuple(range(len(images))), trained=labels, true=labels)


def levels(images: torch.Tensor) -> torch.Tensor:
    return ((images + 1) * 127.5).round().to(torch.uint8)


def checksum(values: torch.Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]


# name → the indices of each batch, and the checksum of everything
PINNED: dict[str, Any] = {
    "training": ("8 1 2 | 10 5 3 7 | 4 0 9 | 7 10 2 | 5 3 9 1 | 4 8 0", "6e5024eb8084ff7d"),
    "rank 0": (" | 5 |  | 7 | 3 | ", "3359b9f54fe73eeb"),
    "rank 1": ("8 1 | 3 7 |  | 10 2 | 9 1 | ", "77bcfeb24a293191"),
    "rank 2": ("2 10 | 4 0 | 9 | 5 | 4 8 | 0", "aa6640899fe67d6d"),
    "cells": ("1 8 9 7 | 10 8 4 | 3 9 10 | 9 5 8 | 1 10 3 9 | 8 7 10", "042f4b65fc092110"),
    "sbi": ("8 1 2 | 10 5 3 7 | 4 0 9 | 7 10 2 | 5 3 9 1 | 4 8 0", "d3daa970b2733991"),
    "tested": ("0 1 2 3 | 4 5 7 | 8 9 10", "367a2393a7c12f7a"),
    "crops": ("0 1 2 3 | 4 5 7 | 8 9 10", "42f93c02ab1a63c6"),
    "some": ("9 4 | 1", "c03f47fb618e197d"),
    "paired": (
        "8 1 2 8 1 2 | 10 5 3 7 10 5 3 7 | 4 0 9 4 0 9 | 7 10 2 7 10 2 | 5 3 9 1 5 3 9 1 | 4 8 0 4 8 0",
        "9f1f6f6b132c0d5d",
    ),
    "mixed": ("8 1 2 | 10 5 3 7 | 4 0 9 | 7 10 2 | 5 3 9 1 | 4 8 0", "4b892e37e2ad1236"),
    "features paired": (
        "8 1 2 8 1 2 | 10 5 3 7 10 5 3 7 | 4 0 9 4 0 9 | 7 10 2 7 10 2 | 5 3 9 1 5 3 9 1 | 4 8 0 4 8 0",
        "253863ceb2a1b338",
    ),
    "features tested": ("0 1 2 3 | 4 5 7 | 8 9 10", "4680feb0d9a74ef0"),
    "features mixed": ("8 1 2 | 10 5 3 7 | 4 0 9 | 7 10 2 | 5 3 9 1 | 4 8 0", "d961bb4299f5f101"),
    "features": ("8 1 2 | 10 5 3 7 | 4 0 9 | 7 10 2 | 5 3 9 1 | 4 8 0", "fdcf3c568725986a"),
    "some features": ("9 4 | 1", "8bda0bb9b77ee1e7"),
    "features by cells": (
        "1 8 9 7 | 10 8 4 | 3 9 10 | 9 5 8 | 1 10 3 9 | 8 7 10",
        "4c25f484ff75d975",
    ),
    "examples None of images": ("9 1 4 | 0", "39d5b7c7b1c50c0a"),
    "examples None of images by 2": ("9 | 1 4 | 0", "18d414258e0597b3"),
    "examples None of images joined": ("9 1 4 0 | 10 11 12 13", "06681d93a2a34b64"),
    "examples 0 of images": ("4 1 9 | 0", "9b5dcab6230b16c8"),
    "examples 0 of images by 2": ("4 1 | 9 | 0", "6df6362ec2c01ad4"),
    "examples 0 of images joined": ("1 12 11 10 13 | 0 9 4", "bb093c00e7e5eb05"),
    "examples 1 of images": ("4 0 1 | 9", "feb3d0024b2e698d"),
    "examples 1 of images by 2": ("4 | 0 1 | 9", "0c49e1b523ebb0dc"),
    "examples 1 of images joined": ("4 1 13 11 | 9 0 12 10", "2153e4dceffd8f20"),
    "examples None of features 0": ("9 1 4 0", "ea7e32ef9d3a96ac"),
    "examples None of features 0 by 3": ("9 1 4 0", "ea7e32ef9d3a96ac"),
    "examples 0 of features 0": ("4 1 9 | 0", "48a9dbcc33595ae1"),
    "examples 0 of features 0 by 3": ("4 1 | 9 0", "b2a54c9175776941"),
    "examples 1 of features 0": ("4 0 1 | 9", "a20961a0fcc88677"),
    "examples 1 of features 0 by 3": ("4 0 | 1 9", "5c976785d1a93278"),
    "examples None of features 2": ("9 1 4 0", "ea7e32ef9d3a96ac"),
    "examples None of features 2 by 3": ("9 1 4 0", "ea7e32ef9d3a96ac"),
    "examples 0 of features 2": ("4 0 9 1", "d0670608fba42146"),
    "examples 0 of features 2 by 3": ("4 0 9 1", "d0670608fba42146"),
    "examples 1 of features 2": ("0 4 1 9", "4ce3e770c9c59ac8"),
    "examples 1 of features 2 by 3": ("0 4 1 9", "4ce3e770c9c59ac8"),
    "examples None": ("0 1 2 3 | 4 5 6 7 8", "c354c83104ebc787"),
    "examples None by 1": ("0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8", "2100c512eba16667"),
    "examples None in one batch": ("0 1 2 3 4 5 6 7 8", "f1b1a03590822b7c"),
    "examples 0": ("7 3 6 2 | 8 4 5 0 1", "ec35c1b37bd5bf00"),
    "examples 0 by 1": ("7 | 3 | 6 | 2 | 8 | 4 | 5 | 0 | 1", "9c68061bdf9fe925"),
    "examples 0 in one batch": ("7 3 6 2 8 4 5 0 1", "4ce47676a1c77cb5"),
    "examples 1": ("0 3 1 4 | 5 8 2 6 7", "c1bdaa968bb6ad47"),
    "examples 1 by 1": ("0 | 3 | 1 | 4 | 5 | 8 | 2 | 6 | 7", "600edcfa1579c4d5"),
    "examples 1 in one batch": ("0 3 1 4 5 8 2 6 7", "e9351e057d4da85c"),
    "joined None": ("7 2 5 0 | 8 9 10 11 12", "cf3297d71983dbff"),
    "joined None twice": (
        "7 2 5 0 8 9 | 10 11 12 14 16 24 | 19 22 17 25 26 27 | 28 29",
        "ff2c46dc4d7acdeb",
    ),
    "joined 0": ("7 2 0 9 | 8 5 10 11 12", "6dbf797377a0af37"),
    "joined 0 twice": (
        "7 9 11 14 28 29 | 5 0 2 16 26 27 | 8 12 10 24 22 25 | 17 19",
        "2771a3995b7b91b2",
    ),
    "joined 1": ("0 8 12 11 | 5 2 7 10 9", "ad17733c8e3209ac"),
    "joined 1 twice": (
        "0 11 16 22 25 26 | 2 7 8 5 9 17 | 10 12 24 19 28 29 | 14 27",
        "6b632ec5b8836874",
    ),
    "classes None": ("0 1 2 3 4 5 6 7 8", "ab51423b769bd106"),
    "classes None joined": ("8 1 4 | 9 10 11", "f7bc3667274b7a93"),
    "classes 0": ("6 7 8 2 1 0 3 4 5", "822b6da003652ebc"),
    "classes 0 joined": ("1 8 10 | 4 11 9", "c020313ceb86120a"),
    "classes 1": ("0 6 8 3 7 5 4 1 2", "4828f3f92e83627b"),
    "classes 1 joined": ("1 10 9 | 8 4 11", "62f015e7d62b8787"),
    "classes trained": ("6 7 8 2 | 1 0 3 4 5 | 0 6 8 3 | 7 5 4 1 2", "e20d3dab78b156e5"),
    "classes validated": ("0 1 2 3 4 5 6 7 8", "ab51423b769bd106"),
    "diffuser": [
        "8d7bc324774a27e2",
        "2477b86f7d214fdb",
        "1b240f91f27e77f4",
        "eee1ddeb141eba28",
        "d360f521bda6806e",
        "9dcccf8d382d0424",
    ],
    "translator": [
        "c70b1e1ca04e1a4f",
        "c908575ad951373a",
        "e6993d3b37143b80",
        "48ea70d908d0b151",
        "0ad6f7c9e6b02ebf",
        "6e1f0e032a4a533c",
    ],
    "denoiser": ["05936c90cf1f13e1", "329e3f503c341538"],
}
