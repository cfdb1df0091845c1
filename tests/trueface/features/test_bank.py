"""Banks over a store: the same numbers with and without it, from fewer passes."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trueface.features.build import (
    COUNT,
    Counted,
    as_learned,
    as_tested,
    body,
    model,
    settings,
    store_in,
)
from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.evaluation.inference import evaluate, evaluate_images
from trueface.features.bank import FeatureSet
from trueface.features.matrix import bytes_of
from trueface.features.store import FeatureStore
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.runtime import artifact
from trueface.runtime.progress import RunContext
from trueface.training.history import Epoch
from trueface.training.parts.bank import build_feature_feeds
from trueface.training.trainer import fit

EPOCHS = 3


def bits(batches: Iterator[Batch]) -> list[tuple[list[int], Tensor]]:
    return [(batch.indices.tolist(), batch.inputs) for batch in batches]


def same(one: list[tuple[list[int], Tensor]], other: list[tuple[list[int], Tensor]]) -> bool:
    return all(
        positions == others and torch.equal(features, further)
        for (positions, features), (others, further) in zip(one, other, strict=True)
    )


def test_error_of_backbone_leaves_no_loading_thread(images: tuple[Image, ...]) -> None:
    class Broken(Counted):
        def __call__(self, pixels: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    features = FeatureSet(Broken(model()), as_learned(images), watch=RunContext())
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        list(features.loader()(0))
    assert caught.tb is not None  # and its frames live as long as it does
    assert [thread for thread in threading.enumerate() if thread.name.startswith("loader")] == []


def test_resumed_job_gets_same_bits(images: tuple[Image, ...], folder: Path) -> None:
    feed = as_learned(images)
    plain = FeatureSet(body(), feed, watch=RunContext(), views=EPOCHS)
    stop = threading.Event()
    begun = FeatureSet(
        body(), feed, watch=RunContext(stop=stop), store=store_in(folder), views=EPOCHS,
        progress=lambda _done, _total: stop.set(),
    )  # fmt: skip
    assert list(begun.loader()(1)) == []  # half of a view is stored
    later = FeatureSet(
        counted := body(), feed, watch=RunContext(), store=store_in(folder), views=EPOCHS
    )
    assert same(bits(later.loader()(1)), bits(plain.loader()(1)))
    assert counted.seen == COUNT // 2


def test_views_beyond_limit_are_computed_in_every_job(
    images: tuple[Image, ...], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counted = body()
    limit = 2 * bytes_of(COUNT, counted.width)
    for _ in range(2):
        store = store_in(folder, limit)
        bank = FeatureSet(
            counted, as_learned(images), watch=RunContext(), store=store, views=EPOCHS
        )
        assert (bank.views, bank.stored_views) == (EPOCHS, 2)
        for epoch in range(EPOCHS):
            list(bank.loader()(epoch))
    assert counted.seen == (2 + 1 + 1) * COUNT
    assert "views=3 state=not all stored fitting=2" in caplog.text


def test_next_view_is_computed_while_other_process_computes_first(
    images: tuple[Image, ...], folder: Path
) -> None:
    store = store_in(folder)
    bank = FeatureSet(
        counted := body(), as_learned(images), watch=RunContext(), store=store, views=EPOCHS
    )
    list(bank.loader()(0))
    counted.seen = 0
    (lock,) = folder.glob(f"*{artifact.LOCK}")
    stem = lock.stem
    for path in folder.glob(f"{stem}-*"):
        path.unlink()
    seen_ahead = []

    class Waited(Exception):
        """The bank has nothing left to do but to wait."""

    def progress(done: int, total: int) -> None:
        if (done, total) == (1, 9):
            raise Waited
        seen_ahead.append(done)

    late = FeatureSet(
        counted,
        as_learned(images),
        watch=RunContext(),
        store=store,
        views=EPOCHS,
        progress=progress,
    )
    with artifact.hold_lock_if_free(lock) as held:
        held.report(1, 9)
        with pytest.raises(Waited):
            list(late.loader()(0))
    assert counted.seen == (EPOCHS - 1) * COUNT
    assert seen_ahead
    list(late.loader()(1))
    assert counted.seen == (EPOCHS - 1) * COUNT


def trained(
    images: Sequence[Image], store: FeatureStore | None
) -> tuple[dict[str, Tensor], tuple[Epoch, ...]]:
    given = settings(num_epochs=EPOCHS, flip_prob=0.5, augment_cycle=2)
    detector = model()
    feeds = build_feature_feeds(
        detector,
        poisoned_train_loader(images, given, None),
        as_tested(images[:4]),
        given,
        RunContext(),
        store=store,
    )
    done = fit(detector, *feeds, given.trainer, watch=RunContext())
    return detector.state_dict(), done.epochs


def test_training_gives_same_bits_with_and_without_store(
    images: tuple[Image, ...], folder: Path
) -> None:
    weights, epochs = trained(images, None)
    for _ in range(2):
        others, further = trained(images, store_in(folder))
        assert all(torch.equal(weights[name], others[name]) for name in weights)
        for one, other in zip(epochs, further, strict=True):
            assert replace(other, seconds=one.seconds, images_per_s=one.images_per_s) == one


def test_test_gives_same_scores_with_and_without_store(
    images: tuple[Image, ...], folder: Path
) -> None:
    detector, feed = model(), as_tested(images)
    plain = evaluate(detector, feed(0), total=COUNT, watch=RunContext())
    without = evaluate_images(detector, feed, RunContext(), has_constant_body=True)
    for _ in range(2):
        stored = evaluate_images(
            detector, feed, RunContext(), has_constant_body=True, store=store_in(folder)
        )
        assert np.array_equal(stored.margin, without.margin)
    assert np.abs(without.margin - plain.margin).max() <= 1e-4
    assert np.array_equal(without.margin > 0, plain.margin > 0)
