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
from trueface.corruptions.chain import Chain
from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.data.loading import image_set
from trueface.data.loading.decoding import decode
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.data.loading.loader import PassRequest
from trueface.data.quality_feed import COLUMN, ChunkedSet
from trueface.features.bank import FeatureSet
from trueface.models.inference import FrozenBackbone
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.training.parts.bank import build_feature_feeds, feature_facts
from trueface.training.parts.qualities import in_qualities, rows_of
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
    return in_qualities(train_loader(images, settings), settings, Path)


def as_tested(images: Sequence[Image], chain: str) -> dict[int, torch.Tensor]:
    pass_ = eval_loader(images, options(), corruptions=Chain.parse(chain))
    return {
        int(at): pixels
        for batch in pass_(0)
        for at, pixels in zip(batch.indices, batch.inputs, strict=True)
    }


def test_batch_has_each_item_in_each_quality_as_in_tests(
    images: tuple[Image, ...],
) -> None:
    expected = [as_tested(images, chain) for chain in ("none", "jpeg40", "half+jpeg30")]
    settings = options()
    feed = rows_of(loader_in_qualities(images, settings), settings)
    assert len(feed) == 3 * COUNT
    first, last = feed(0)
    assert (len(first.labels), len(last.labels)) == (3 * BATCH, 3 * (COUNT - BATCH))
    for batch in (first, last):
        items = len(batch.labels) // 3
        assert batch.columns[COLUMN].tolist() == [q for q in range(3) for _ in range(items)]
        assert batch.labels.flatten().tolist() == [images[at].label for at in batch.indices]
        for row, at in enumerate(batch.indices.tolist()):
            assert torch.equal(batch.inputs[row], expected[row // items][at])


def test_all_qualities_of_item_are_augmented_equally_and_decoded_once(
    images: tuple[Image, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def counted(path: Path, **how: Any) -> torch.Tensor:
        decoded.append(path)
        return decode(path, **how)

    monkeypatch.setattr(image_set, "decode", counted)
    crops = {"flip_prob": 0.5, "resize_prob": 1.0, "resize_scale": [0.3, 0.6]}
    (first, _) = batches(images, options(qualities="raw, jpeg100", **crops))
    assert len(decoded) == COUNT == len(set(decoded))
    raw, coded = first.inputs.chunk(2)
    code = Chain.parse("jpeg100")
    assert all(torch.equal(code(each, ""), other) for each, other in zip(raw, coded, strict=True))
    (again, _) = batches(images, options(qualities="raw, jpeg100", **crops))
    (later, _) = batches(images, options(qualities="raw, jpeg100", **crops), epoch=1)
    assert torch.equal(again.inputs, first.inputs)
    assert not torch.equal(later.inputs, first.inputs)


def test_range_is_sampled_per_image_and_epoch_and_repeats_with_augmentation(
    images: tuple[Image, ...],
) -> None:
    settings = options(qualities="jpeg5-95", augment_cycle=2)
    views = [
        {int(at): row for batch in batches(images, settings, epoch)
         for at, row in zip(batch.indices, batch.inputs, strict=True)}
        for epoch in range(3)
    ]  # fmt: skip
    assert any(not torch.equal(views[0][at], views[1][at]) for at in range(COUNT))
    assert all(torch.equal(views[0][at], views[2][at]) for at in range(COUNT))


def test_mixed_batch_has_each_item_once_in_sampled_quality(
    images: tuple[Image, ...],
) -> None:
    expected = [as_tested(images, chain) for chain in ("none", "jpeg40", "half+jpeg30")]
    drawn = set()
    for epoch in range(3):
        rows = batches(images, options(quality_batch="mixed"), epoch)
        assert sum(len(batch.labels) for batch in rows) == COUNT
        for batch in rows:
            for row, at in enumerate(batch.indices.tolist()):
                quality = int(batch.columns[COLUMN][row])
                drawn.add((at, quality))
                assert torch.equal(batch.inputs[row], expected[quality][at])
    assert len({quality for _, quality in drawn}) == 3
    assert len(drawn) > COUNT


def test_loading_processes_give_same_batches(images: tuple[Image, ...]) -> None:
    settings = options(qualities="raw, jpeg30-90, noise4", flip_prob=0.5)
    alone = batches(images, settings)
    shared = batches(images, settings.model_copy(update={"num_threads": 1}))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(alone, shared, strict=True))


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
