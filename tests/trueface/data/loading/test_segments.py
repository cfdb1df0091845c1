import fcntl
from pathlib import Path

import numpy as np
import pytest

from trueface.data.loading.segments import (
    INDEX,
    PIXELS,
    RECORD,
    Place,
    SegmentMap,
    SegmentWriter,
    forget,
    read_index,
    unpacked,
)

KEYS = [bytes([number]) * 40 for number in range(1, 4)]


def image(number: int) -> np.ndarray:
    """Return an image; no two have the same size."""
    shape = (number + 1, 3 * number + 1, 3)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def written(folder: Path) -> str:
    """Write three images; return the name of their segment."""
    writer = SegmentWriter.new(folder, 4096)
    assert writer is not None
    for number, key in enumerate(KEYS):
        writer.append(key, image(number))
    writer.close()
    return writer.segment


def places(folder: Path, segment: str) -> dict[bytes, Place]:
    return dict(unpacked(segment, read_index(folder, segment)))


def test_images_of_any_size_come_back_as_they_were_written(tmp_path: Path) -> None:
    segment = written(tmp_path)
    memory = SegmentMap(tmp_path, segment)
    read = places(tmp_path, segment)
    assert list(read) == KEYS
    for number, key in enumerate(KEYS):
        pixels = memory.pixels(read[key])
        assert pixels is not None
        assert np.array_equal(pixels, image(number))


def test_new_records_are_read_from_where_the_last_ended(tmp_path: Path) -> None:
    segment = written(tmp_path)
    rest = read_index(tmp_path, segment, begin=2 * RECORD.size)
    assert [(key, place.row) for key, place in unpacked(segment, rest, 2)] == [(KEYS[2], 2)]


def test_a_record_that_is_damaged_cut_off_or_forgotten_is_left_out(tmp_path: Path) -> None:
    segment = written(tmp_path)
    content = bytearray(read_index(tmp_path, segment))
    content[50] ^= 1
    assert [key for key, _ in unpacked(segment, bytes(content[:-1]))] == [KEYS[1]]
    forget(tmp_path, places(tmp_path, segment)[KEYS[1]])
    assert list(places(tmp_path, segment)) == [KEYS[0], KEYS[2]]


def test_a_place_behind_the_end_of_the_file_holds_nothing(tmp_path: Path) -> None:
    segment = written(tmp_path)
    with (tmp_path / f"{segment}{PIXELS}").open("r+b") as file:
        file.truncate(100)
    memory = SegmentMap(tmp_path, segment)
    read = places(tmp_path, segment)
    assert memory.pixels(read[KEYS[0]]) is not None
    assert memory.pixels(read[KEYS[2]]) is None


def test_what_is_written_into_the_memory_of_one_reader_reaches_no_other(tmp_path: Path) -> None:
    segment = written(tmp_path)
    place = places(tmp_path, segment)[KEYS[1]]
    memory = SegmentMap(tmp_path, segment)
    pixels = memory.pixels(place)
    assert pixels is not None
    pixels[:] = 0
    other = SegmentMap(tmp_path, segment).pixels(place)
    assert other is not None
    assert np.array_equal(other, image(1))


def test_a_segment_that_is_being_removed_is_not_mapped(tmp_path: Path) -> None:
    segment = written(tmp_path)
    with (tmp_path / f"{segment}{PIXELS}").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            SegmentMap(tmp_path, segment)


def test_a_segment_without_pixels_is_not_mapped(tmp_path: Path) -> None:
    (tmp_path / f"a{INDEX}").touch()
    with pytest.raises(FileNotFoundError):
        SegmentMap(tmp_path, "a")
    (tmp_path / f"a{PIXELS}").touch()
    with pytest.raises(ValueError, match="empty"):
        SegmentMap(tmp_path, "a")
