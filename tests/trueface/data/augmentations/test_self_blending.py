"""Real images that become fakes while they are learned: pixels and label of one draw."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from tests.trueface.data.forging.build import a_face
from tests.trueface.features.build import body, settings, store_in
from trueface.data.dataset import Batch, Pass, augmented
from trueface.data.index import Image
from trueface.features.bank import Bank
from trueface.runtime.progress import Watch
from trueface.training.cells import GroupCells, cells_of
from trueface.training.objectives.protocol import TrainingFacts

COUNT = 12  # real images, and as many fakes


@pytest.fixture
def images(tmp_path: Path) -> tuple[Image, ...]:
    made = []
    for label, name in ((0, "Real/Faces"), (1, "Fake/Forged-self")):
        folder = tmp_path / "PreSocial" / name
        folder.mkdir(parents=True)
        for number in range(COUNT):
            file = folder / f"{number}.png"
            PIL.Image.fromarray(a_face(number, 24)).save(file)
            method = name.partition("/")[2]
            made.append(Image(str(file), f"{method}/{number}", label, method, "pre"))
    return tuple(made)


def learned(images: tuple[Image, ...], **more: Any) -> Pass:
    return augmented(images, settings(resize_size=24, **{"sbi": 0.5, **more}))


def seen(batches: Iterator[Batch]) -> dict[int, tuple[float, torch.Tensor]]:
    """Return label and pixels, or features, of each position."""
    return {
        int(position): (float(label), pixels)
        for batch in batches
        for position, label, pixels in zip(
            batch.indices, batch.labels.squeeze(1), batch.images, strict=True
        )
    }


def test_half_of_the_real_images_become_fakes_and_others_in_another_epoch(
    images: tuple[Image, ...],
) -> None:
    feed = learned(images)
    turned = []
    for epoch in range(6):
        labels = {position: label for position, (label, _) in seen(feed(epoch)).items()}
        assert all(labels[position] == 1 for position in range(COUNT, 2 * COUNT))
        turned.append(frozenset(position for position in range(COUNT) if labels[position] == 1))
    assert 0.3 < sum(map(len, turned)) / (6 * COUNT) < 0.7
    assert len(set(turned)) > 3
    assert feed.image_set.labels == (0,) * COUNT + (1,) * COUNT  # what the images are


def test_an_image_differs_from_itself_in_its_middle_where_its_label_says_so(
    images: tuple[Image, ...],
) -> None:
    compressed = seen(learned(images, sbi=1e-9)(0))  # the last JPEG alone
    for position, (label, pixels) in seen(learned(images)(0)).items():
        same = torch.equal(pixels, compressed[position][1])
        assert same == (position >= COUNT or label == 0)


def test_the_same_epoch_gives_the_same_images_and_labels_in_any_order(
    images: tuple[Image, ...],
) -> None:
    feed = learned(images)
    whole, few = seen(feed(3)), seen(feed.over([9, 2, 14], 3))
    for position, (label, pixels) in few.items():
        assert label == whole[position][0]
        assert torch.equal(pixels, whole[position][1])


def test_shared_images_stay_as_they_are(images: tuple[Image, ...]) -> None:
    shared = tuple(image._replace(modifier="fb") for image in images)
    plain = seen(learned(shared, sbi=0.0)(0))
    for position, (label, pixels) in seen(learned(shared, sbi=1.0)(0)).items():
        assert label == float(position >= COUNT)
        assert torch.equal(pixels, plain[position][1])


def test_images_are_seen_as_in_tests_where_none_becomes_a_fake(images: tuple[Image, ...]) -> None:
    plain, blended = (learned(images, sbi=p).image_set.transform.id for p in (0.0, 0.5))
    assert plain.is_test
    assert plain.period == 1
    assert blended.identity["sbi"] == 0.5
    assert not blended.is_test
    assert blended.period == 0


@pytest.mark.parametrize("cycle", [0, 2])
def test_features_of_a_frozen_body_have_the_labels_of_their_view(
    images: tuple[Image, ...], tmp_path: Path, cycle: int
) -> None:
    feed = learned(images, augment_cycle=cycle)
    plain = Bank(body(), feed, watch=Watch(), views=4)
    filling, reading = (
        Bank(body(), feed, watch=Watch(), store=store_in(tmp_path / "store"), views=4)
        for _ in range(2)
    )
    for epoch in range(4):
        pixels = {position: label for position, (label, _) in seen(feed(epoch)).items()}
        made = [seen(bank(epoch)) for bank in (plain, filling, reading)]
        for features in made:
            assert {position: label for position, (label, _) in features.items()} == pixels
            for position, (_, row) in features.items():
                assert torch.equal(row, made[0][position][1])


def test_the_column_of_forgeries_says_that_they_are_self_blended(
    images: tuple[Image, ...],
) -> None:
    feed = learned(images)
    feed.image_set.columns["forgery"] = torch.tensor([0] * COUNT + [4] * COUNT)
    for batch in feed(0):
        for position, label, number in zip(
            batch.indices, batch.labels, batch.columns["forgery"], strict=True
        ):
            assert number == (4 if position >= COUNT else float(label))
    assert feed.image_set.columns["forgery"][:COUNT].sum() == 0


def test_objectives_count_images_as_an_epoch_shows_them(images: tuple[Image, ...]) -> None:
    image_set = learned(images[:COUNT], sbi=1.0).image_set  # reals alone, and all become fakes
    image_set.give_column("demographic", [0, 1] * (COUNT // 2), ("men", "women"))
    cells = GroupCells.of(TrainingFacts.of_set(image_set), "reweight")
    assert cells.counts.tolist() == [0, 0, COUNT // 2, COUNT // 2]
    assert set(cells_of(image_set, "oversample")) == {0, 1}  # the order is that of all epochs
