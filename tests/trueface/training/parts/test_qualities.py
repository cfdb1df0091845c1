"""Batches of a training in several qualities."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from tests.trueface.training.parts.test_bank import network_with_statistics
from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.data.loading.loader import PassRequest
from trueface.data.quality_feed import COLUMN, ChunkedSet
from trueface.features.bank import FeatureSet
from trueface.models.inference import FrozenBackbone
from trueface.runtime.errors import DataError, JobError
from trueface.runtime.progress import RunContext
from trueface.training.parts.bank import build_feature_feeds, feature_facts
from trueface.training.parts.qualities import rows_of, with_qualities_of
from trueface.training.settings import TrainSettings

torch.set_num_threads(1)

COUNT, BATCH = 6, 4
PLACES = {"data_root": "", "split_path": "", "model": "slim18", "resize_size": 16}
THREE = "raw, jpeg40, half+jpeg30"


class Nothing:
    """A dataset without samples."""

    rows_per_position = 1

    def __len__(self) -> int:
        return 0

    def load(self, request: PassRequest) -> Iterator[Batch]:  # never any
        yield from ()


def options(**changed: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {**PLACES, "batch_size": BATCH, "flip_prob": 0.0, "qualities": THREE, **changed}
    )


@pytest.fixture
def images(tmp_path: Path) -> tuple[Image, ...]:
    made = []
    for at in range(COUNT):
        path = tmp_path / f"{at:05}.png"
        pixels = np.random.default_rng(at).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(path)
        made.append(Image(str(path), f"FFHQ/{at:05}", at % 2, "FFHQ", "pre"))
    return tuple(made)


def batches(images: Sequence[Image], settings: TrainSettings, epoch: int = 0) -> list[Batch]:
    return list(rows_of(loader_in_qualities(images, settings), settings)(epoch))


def loader_in_qualities(images: Sequence[Image], settings: TrainSettings) -> ImageLoader:
    return with_qualities_of(train_loader(images, settings), settings, Path)


@pytest.mark.parametrize("form", ["paired", "mixed"])
def test_features_of_frozen_backbone_equal_those_of_pixels(
    images: tuple[Image, ...], form: str
) -> None:
    settings = options(freeze=True, quality_batch=form, num_epochs=2)
    model = network_with_statistics()
    body = FrozenBackbone(model)
    banked, _ = build_feature_feeds(
        model,
        loader_in_qualities(images, settings),
        eval_loader(images, settings),
        settings,
        RunContext(),
    )
    learned = rows_of(banked, settings)
    assert len(learned) == len(rows_of(loader_in_qualities(images, settings), settings))
    for epoch in range(2):
        for made, pixels in zip(learned(epoch), batches(images, settings, epoch), strict=True):
            assert torch.equal(made.indices, pixels.indices)
            assert torch.equal(made.labels, pixels.labels)
            assert torch.equal(made.columns[COLUMN], pixels.columns[COLUMN])
            torch.testing.assert_close(made.inputs, body(pixels.inputs), rtol=1e-4, atol=1e-5)
    # an augmentation that repeats is held; qualities that are drawn for an epoch are not
    assert feature_facts(learned)["rows_computed"] == (3 if form == "paired" else 2) * COUNT


def test_stop_during_features_of_quality_ends_the_pass(
    images: tuple[Image, ...],
) -> None:
    settings, watch = options(freeze=True), RunContext()
    feed, _ = build_feature_feeds(
        network_with_statistics(),
        loader_in_qualities(images, settings),
        eval_loader(images, settings),
        settings,
        watch,
    )
    assert isinstance(feed.dataset, ChunkedSet)
    first = feed.dataset.parts[0]
    assert isinstance(first, FeatureSet)
    first.matrix(0)  # and those of the other two are not there
    watch.stop.set()
    assert list(feed(0)) == []
    watch.stop.clear()
    parts = (*feed.dataset.parts[:2], Nothing())
    short = replace(feed, dataset=ChunkedSet(parts, feed.dataset.image_set, lambda: False))
    with pytest.raises(JobError, match="in one quality but not in another"):
        list(short(0))


def test_quality_can_be_separate_file_and_bad_file_is_skipped_with_its_item(
    images: tuple[Image, ...], tmp_path: Path
) -> None:
    files = []
    for at, image in enumerate(images):
        path = tmp_path / "c23" / f"{Path(image.file).stem}.jpg"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.new("RGB", (24, 24) if at else (20, 20), (0, 40 * at, 0)).save(path, quality=95)
        files.append(str(path))
    listed = tmp_path / "data.json"
    raw = [image.file for image in images]
    labels = [image.label for image in images]
    listed.write_text(json.dumps({"train": {"raw": raw, "c23": files, "labels": labels}}))
    settings = options(qualities=["raw", "c23"], quality_list=str(listed))
    training = loader_in_qualities(images, settings)
    rows = list(rows_of(training, settings)(0))
    assert sum(len(batch.labels) for batch in rows) == 2 * (COUNT - 1)
    reason = training.dataset.bad[0].reason
    assert reason.startswith("it has 20 by 20 pixels, but its original image ")
    assert reason.endswith(" has 24 by 24 (quality files:c23)")
    for batch in rows:
        _, coded = batch.inputs.chunk(2)
        for at, pixels in zip(batch.indices.tolist(), coded, strict=False):
            assert (pixels[1].float() - 40 * at).abs().max() <= 3
    pairs = options(qualities=["raw", "c23"], quality_list=str(listed), objective="caddm")
    loader_in_qualities(images, pairs)
    (fake, *_) = (image.file for image in images if image.label)
    own = [fake if file == fake else path for file, path in zip(raw, files, strict=True)]
    listed.write_text(json.dumps({"train": {"raw": raw, "c23": own, "labels": labels}}))
    loader_in_qualities(images, settings)
    with pytest.raises(DataError, match=f"caddm: fake {fake} is its own real image in {listed}"):
        loader_in_qualities(images, pairs)
