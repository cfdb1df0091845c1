import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from launcher.api import parse_data
from trueface.data.batch import Batch
from trueface.data.index import Image, survey
from trueface.data.loading import transforms
from trueface.data.loading.decoding import Scaling, decode
from trueface.data.loading.image_set import ImageSet, OnBadImage, apply_trigger
from trueface.data.loading.loader import WHOLE, Loader, Shard
from trueface.data.loading.pass_order import Order
from trueface.data.loading.processes import PART, ImageRequest
from trueface.data.loading.segment_folder import SegmentFolder
from trueface.data.loading.shared_images import SharedImages
from trueface.data.loading.transforms import TrainTransform
from trueface.data.settings import TestSettings
from trueface.runtime.errors import BadImageError, DataError
from trueface.training.settings import TrainSettings

Tree = Callable[[Iterable[str]], Path]
WHERE: dict[str, Any] = {"data_root": "data", "split_path": "splits"}
FAKES = tuple(f"PreSocial/Fake/StyleGAN2/{number:05d}.png" for number in range(6))
REALS = tuple(f"PreSocial/Real/FFHQ/{number:05d}.png" for number in range(5))


@pytest.fixture
def root(tree: Tree) -> Path:
    return tree(FAKES + REALS)


def survey_images(root: Path) -> tuple[Image, ...]:
    return survey(root, parse_data("gan2:pre&real:pre")).images


def a_set(root: Path, **settings: Any) -> ImageSet:
    return ImageSet(
        survey_images(root),
        transforms.test_transform(TestSettings(**WHERE, resize_size=12)),
        **settings,
    )


def batches(
    image_set: ImageSet,
    *,
    batch_size: int,
    shuffle_seed: int | None = None,
    epoch: int = 0,
    num_threads: int = 0,
    on_bad_image: OnBadImage = "skip",
    shard: Shard = WHOLE,
) -> Iterator[Batch]:
    """Yield the batches of a pass."""
    image_set.num_threads, image_set.on_bad_image = num_threads, on_bad_image
    order = Order(seed=shuffle_seed)
    return Loader(dataset=image_set, batch_size=batch_size, order=order, shard=shard)(epoch)


def indices(image_set: ImageSet, **settings: Any) -> list[int]:
    return [
        index
        for batch in batches(image_set, batch_size=4, **settings)
        for index in batch.indices.tolist()
    ]


def test_training_labels_replace_original_labels(root: Path) -> None:
    image_set = a_set(root, labels=[0] * 6 + [1] * 5)
    labels = torch.cat([batch.labels for batch in batches(image_set, batch_size=4)])
    assert labels.squeeze(1).tolist() == [0.0] * 6 + [1.0] * 5


def test_wrong_number_of_labels_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="3 labels for 11 images"):
        a_set(root, labels=[0, 1, 0])


@pytest.mark.parametrize("cache_bytes", [0, 1000, 1 << 20])
def test_later_passes_get_same_pixels_with_and_without_memory(root: Path, cache_bytes: int) -> None:
    image_set = a_set(root, cache_bytes=cache_bytes)
    passes = [torch.cat([b.inputs for b in batches(image_set, batch_size=4)]) for _ in range(2)]
    assert torch.equal(*passes)


def test_small_set_is_read_from_disk_once(root: Path) -> None:
    image_set = a_set(root)
    indices(image_set)
    for image in image_set.images:
        image.path.unlink()
    assert len(indices(image_set)) == 11


def damage_file(root: Path, how: str) -> Path:
    path = root / FAKES[2]
    if how == "missing":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if how == "cut" else b"")
    return path


@pytest.mark.parametrize(
    ("how", "sharing", "threads"),
    [
        ("cut", False, 0), ("cut", True, 0), ("empty", False, 0), ("missing", False, 0),
        ("cut", False, 2), ("cut", True, 2),
    ],
)  # fmt: skip
def test_bad_image_is_skipped_named_and_counted_or_is_an_error(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, sharing: bool,
    threads: int,
) -> None:  # fmt: skip
    kept, stopping = (
        a_set(root, **({"shared_images": shared(tmp_path)} if sharing else {})) for _ in range(2)
    )
    bad = damage_file(root, how)
    for _ in range(2):
        assert indices(kept, num_threads=threads) == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [file.path for file in kept.bad.values()] == [bad]
    assert sum(str(bad) in record.getMessage() for record in caplog.records) == 1
    with pytest.raises(BadImageError, match=bad.name) as caught:
        indices(stopping, on_bad_image="stop", num_threads=threads)
    assert (caught.value.path, caught.value.exit_code) == (bad, 1)


def test_set_with_only_bad_images_is_an_error(root: Path) -> None:
    image_set = a_set(root)
    for image in image_set.images:
        image.path.write_bytes(b"")
    (first, *_) = image_set.images
    reason = f"0 of 11 images could be read, 11 are bad, such as {first.file}: the file is empty"
    with pytest.raises(DataError, match=re.escape(reason)):
        indices(image_set)


def in_order(image_set: ImageSet, **options: Any) -> torch.Tensor:
    return torch.cat([batch.inputs for batch in batches(image_set, batch_size=4, **options)])


def test_trigger_is_stamped_on_network_input(root: Path) -> None:
    clean = a_set(root)
    plain = in_order(clean)
    stamped = in_order(clean.with_labels(clean.labels, {1, 7}))
    for position, (before, after) in enumerate(zip(plain, stamped, strict=True)):
        expected = apply_trigger(before) if position in {1, 7} else before
        assert torch.equal(after, expected)
    assert not torch.equal(plain[1], stamped[1])
    assert torch.equal(in_order(clean), plain)


def test_scaled_decoding_reads_fewer_bytes_of_jpeg(root: Path) -> None:
    for image in a_set(root).images:
        PIL.Image.new("RGB", (64, 64)).save(image.path, "JPEG")
    for way, side in {"scaled": 16, "fitted": 12, "exact": 64}.items():
        (pixels,) = a_set(root, scaling=Scaling.from_decode_setting(way, 12))._pixels(
            ImageRequest(0, 0, is_sound=False)
        )
        assert pixels.shape == (3, side, side)


@pytest.mark.parametrize("threads", [0, 2])
def test_file_damaged_outside_decoded_rows_is_bad_in_every_pass(root: Path, threads: int) -> None:
    images = survey_images(root)
    for image in images:
        with PIL.Image.open(image.path) as file:
            file.resize((70, 200)).save(image.path, "JPEG")
    images[3].path.write_bytes(images[3].path.read_bytes()[:-300] + b"\xff\xd9")
    settings = TrainSettings(**WHERE, resize_size=64, patch_size=8)
    image_set = ImageSet(images, TrainTransform(settings=settings, seed=1), cache_bytes=0)
    for epoch in range(3):
        left = indices(image_set, epoch=epoch, num_threads=threads)
        assert left == [0, 1, 2, *range(4, 11)]
    assert list(image_set.bad) == [3]


def test_batch_that_several_processes_load_is_that_of_one(tree: Tree) -> None:
    names = [f"PreSocial/Real/FFHQ/{number:05d}.png" for number in range(2 * PART + 5)]
    root = tree(names)
    (root / names[PART]).write_bytes(b"")  # in the second part

    def content(threads: int) -> list[tuple[list[int], torch.Tensor]]:
        image_set = ImageSet(
            survey(root, parse_data("real:pre")).images,
            transforms.test_transform(TestSettings(**WHERE, resize_size=12)),
        )
        passed = batches(image_set, batch_size=2 * PART, num_threads=threads)
        found = [(batch.indices.tolist(), batch.inputs) for batch in passed]
        assert list(image_set.bad) == [PART]
        return found

    alone, together = content(0), content(2)
    assert [places for places, _ in together] == [places for places, _ in alone]
    assert all(torch.equal(one[1], other[1]) for one, other in zip(alone, together, strict=True))


def test_processes_that_share_batches_load_equally_many_and_each_image_once(root: Path) -> None:
    for broken in (FAKES[1], REALS[4]):  # both are of the second process
        (root / broken).write_bytes(b"")
    parts = []
    for rank in range(2):
        image_set = a_set(root)
        shared = batches(image_set, batch_size=2, shard=Shard(rank=rank, size=2))
        parts.append([batch.indices.tolist() for batch in shared])
        assert sorted(image_set.bad) == [[], [1, 10]][rank]
    assert parts == [[[0], [2], [4], [6], [8], []], [[], [3], [5], [7], [9], []]]


def future_time_ns() -> int:
    """Return a time at which files of this test are old enough to be shared."""
    return time.time_ns() + 10_000_000_000


def shared(tmp_path: Path, **options: Any) -> SharedImages:
    folder = SegmentFolder(top=tmp_path / "cache", decoding="exact", limit=1 << 22)
    folder.path.mkdir(parents=True, exist_ok=True)
    return SharedImages(folder, clock=future_time_ns, **options)


@pytest.mark.parametrize("threads", [0, 2])
def test_shared_image_cache_and_skipped_rows_do_not_change_pixels(
    root: Path, tmp_path: Path, threads: int
) -> None:
    settings = TrainSettings(
        **WHERE, resize_prob=0.3, resize_scale=[0.2, 1], resize_size=40, blur_prob=0.5,
        blur_sigma=[0.1, 3], jpeg_prob=0.5, jpeg_qual=[30, 100], patch_size=8,
    )  # fmt: skip
    images = survey_images(root)
    for number, image in enumerate(images):
        with PIL.Image.open(image.path) as file:
            file.resize((40 + number, 70)).save(image.path, ("PNG", "JPEG")[number % 2])
    transform = TrainTransform(settings=settings, seed=1)

    def seen(sharing: SharedImages | None) -> torch.Tensor:
        image_set = ImageSet(images, transform, cache_bytes=0, shared_images=sharing)
        passes = [in_order(image_set, epoch=epoch, num_threads=threads) for epoch in range(2)]
        return torch.cat(passes)

    expected = torch.stack(
        [transform(decode(image.path), image, epoch) for epoch in range(2) for image in images]
    )
    assert torch.equal(seen(None), expected)
    assert torch.equal(seen(shared(tmp_path)), expected)
    never = shared(tmp_path, decoder=lambda path, **_: pytest.fail(f"{path} was decoded again"))
    assert torch.equal(seen(never), expected)


def test_abandoned_pass_does_not_affect_the_next(root: Path) -> None:
    image_set = a_set(root)
    expected = in_order(image_set)
    for _ in batches(image_set, batch_size=2, num_threads=2):
        break
    assert torch.equal(in_order(image_set, num_threads=2), expected)
    assert torch.equal(in_order(image_set, num_threads=2), expected)
