"""Segments of decoded images: reading of written images, and concurrent access."""

import fcntl
import os
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from trueface.data.loading.pixel_segments import (
    INDEX,
    PIXELS,
    PixelPlace,
    SegmentMap,
    SegmentWriter,
    delete_record,
    read_index,
    unpack_records,
)
from trueface.data.loading.segment_folder import LIMIT, SegmentFolder, usual_limit

T = TypeVar("T")
KEYS = [bytes([number]) * 40 for number in range(1, 4)]


def image(number: int) -> np.ndarray:
    """Return an image; no two have the same size."""
    shape = (number + 1, 3 * number + 1, 3)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def require(found: T | None) -> T:
    assert found is not None
    return found


def write_segment(folder: Path) -> str:
    """Write three images; return the name of their segment."""
    writer = require(SegmentWriter.create(folder, 4096))
    for number, key in enumerate(KEYS):
        writer.append(key, image(number))
    writer.close()
    return writer.segment


def places(folder: Path, segment: str) -> dict[bytes, PixelPlace]:
    return dict(unpack_records(segment, read_index(folder, segment)))


def test_damaged_truncated_or_forgotten_record_is_skipped(tmp_path: Path) -> None:
    segment = write_segment(tmp_path)
    content = bytearray(read_index(tmp_path, segment))
    content[50] ^= 1
    assert [key for key, _ in unpack_records(segment, bytes(content[:-1]))] == [KEYS[1]]
    delete_record(tmp_path, places(tmp_path, segment)[KEYS[1]])
    assert list(places(tmp_path, segment)) == [KEYS[0], KEYS[2]]


def test_changes_to_pixels_of_one_reader_are_private(tmp_path: Path) -> None:
    segment = write_segment(tmp_path)
    place = places(tmp_path, segment)[KEYS[1]]
    memory = SegmentMap(tmp_path, segment)
    pixels = require(memory.pixels(place))
    pixels[:] = 0
    other = require(SegmentMap(tmp_path, segment).pixels(place))
    assert np.array_equal(other, image(1))


def test_segment_under_removal_is_not_mapped(tmp_path: Path) -> None:
    segment = write_segment(tmp_path)
    with (tmp_path / f"{segment}{PIXELS}").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            SegmentMap(tmp_path, segment)


IMAGE = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)


def keys(folder: Path, segment: str) -> list[bytes]:
    return [key.rstrip(b"\0") for key, _ in unpack_records(segment, read_index(folder, segment))]


def key(letter: str) -> bytes:
    return letter.encode().ljust(40, b"\0")


def a_writer(folder: Path, capacity: int = 1000) -> SegmentWriter:
    return require(SegmentWriter.create(folder, capacity))


def test_segment_has_one_writer_at_a_time_and_next_one_continues(tmp_path: Path) -> None:
    writer = a_writer(tmp_path)
    writer.append(key("a"), IMAGE)
    assert SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes) is None
    writer.close()
    heir = require(SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes))
    heir.append(key("b"), IMAGE)
    assert keys(tmp_path, writer.segment) == [b"a", b"b"]


def test_partial_record_of_killed_writer_is_overwritten(tmp_path: Path) -> None:
    writer = a_writer(tmp_path)
    place = writer.append(key("a"), IMAGE)
    writer.close()
    with (tmp_path / f"{writer.segment}{PIXELS}").open("r+b") as file:
        file.seek(place.end)
        file.write(b"x" * 200)
    with (tmp_path / f"{writer.segment}{INDEX}").open("ab") as file:
        file.write(b"half a record")
    heir = require(SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes))
    other = IMAGE[::-1].copy()
    place = heir.append(key("b"), other)
    assert keys(tmp_path, writer.segment) == [b"a", b"b"]
    pixels = require(SegmentMap(tmp_path, writer.segment).pixels(place))
    assert np.array_equal(pixels, other)


def test_removed_segment_is_not_continued(tmp_path: Path) -> None:
    assert SegmentWriter.adopt(tmp_path, "none", 1) is None
    writer = a_writer(tmp_path)
    writer.close()
    (tmp_path / f"{writer.segment}{PIXELS}").unlink()
    assert SegmentWriter.adopt(tmp_path, writer.segment, 1) is None


def test_non_contiguous_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        a_writer(tmp_path).append(key("a"), IMAGE[::2])


def test_slot_of_forgotten_image_is_not_reused(tmp_path: Path) -> None:
    writer = a_writer(tmp_path)
    first = writer.append(key("a"), IMAGE)
    writer.close()
    delete_record(tmp_path, first)
    heir = require(SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes))
    assert heir.append(key("b"), IMAGE).offset >= first.end
    assert keys(tmp_path, writer.segment) == [b"b"]


ANY_IMAGE = np.zeros((10, 10, 3), dtype=np.uint8)
SEGMENT = 1000  # bytes: a quarter of the limit


def a_folder(top: Path, decoding: str = "exact", limit: int = 4 * SEGMENT) -> SegmentFolder:
    (top / decoding).mkdir(exist_ok=True)
    return SegmentFolder(top=top, decoding=decoding, limit=limit)


def fill_segment(folder: SegmentFolder, used_at: float) -> str:
    """Fill one segment; return its name."""
    writer = require(folder.writer(SEGMENT))
    writer.append(bytes(40), np.zeros((1, SEGMENT // 3, 3), dtype=np.uint8))
    writer.close()
    os.utime(folder.path / f"{writer.segment}{INDEX}", (used_at, used_at))
    return writer.segment


def test_segment_with_free_space_is_continued_before_new_one(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    first = require(folder.writer(ANY_IMAGE.nbytes))
    second = require(folder.writer(ANY_IMAGE.nbytes))  # the first has a writer
    first.close()
    third = require(folder.writer(ANY_IMAGE.nbytes))
    assert third.segment == first.segment != second.segment


def test_least_recently_used_segment_is_removed_if_full(
    tmp_path: Path,
) -> None:
    exact, scaled = a_folder(tmp_path), a_folder(tmp_path, "scaled")
    newer = [fill_segment(exact, used_at=100.0 + number) for number in range(3)]
    oldest = fill_segment(scaled, used_at=50.0)
    assert oldest in scaled.index_sizes()
    latest = fill_segment(exact, used_at=200.0)
    assert not list(scaled.path.glob(f"*{PIXELS}"))
    assert set(exact.index_sizes()) == {*newer, latest}


def test_segments_in_use_are_kept_and_limit_holds(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    read = [SegmentMap(folder.path, fill_segment(folder, used_at=number)) for number in range(1, 4)]
    written = folder.writer(ANY_IMAGE.nbytes)
    assert written is not None
    before = set(folder.index_sizes())
    assert folder.writer(SEGMENT) is None
    assert set(folder.index_sizes()) == before
    del read[1]
    assert folder.writer(SEGMENT) is not None
    assert len(folder.index_sizes()) == 4


def test_segments_without_index_are_removed_like_others(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    orphan = folder.path / f"orphan{PIXELS}"
    orphan.write_bytes(bytes(4 * SEGMENT))
    assert folder.writer(SEGMENT) is not None
    assert not orphan.exists()


def test_image_larger_than_segment_is_not_cached(tmp_path: Path) -> None:
    assert a_folder(tmp_path).writer(SEGMENT + 1) is None
    assert a_folder(tmp_path, limit=0).writer(1) is None


def test_default_limit_is_a_share_of_disk_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < usual_limit(tmp_path) <= memory // 2
    monkeypatch.setenv(LIMIT, "3GiB")
    assert usual_limit(tmp_path) == 3 << 30
