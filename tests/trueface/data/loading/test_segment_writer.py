from pathlib import Path

import numpy as np
import pytest

from trueface.data.loading.segments import (
    INDEX,
    PIXELS,
    SegmentMap,
    SegmentWriter,
    forget,
    read_index,
    unpacked,
)

IMAGE = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)


def keys(folder: Path, segment: str) -> list[bytes]:
    return [key.rstrip(b"\0") for key, _ in unpacked(segment, read_index(folder, segment))]


def key(letter: str) -> bytes:
    return letter.encode().ljust(40, b"\0")


def a_writer(folder: Path, capacity: int = 1000) -> SegmentWriter:
    writer = SegmentWriter.new(folder, capacity)
    assert writer is not None
    return writer


def test_a_segment_has_one_writer_at_a_time_and_another_goes_on_after_it(tmp_path: Path) -> None:
    writer = a_writer(tmp_path)
    writer.append(key("a"), IMAGE)
    assert SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes) is None
    writer.close()
    heir = SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes)
    assert heir is not None
    heir.append(key("b"), IMAGE)
    assert keys(tmp_path, writer.segment) == [b"a", b"b"]


def test_a_segment_takes_no_more_than_it_has_room_for(tmp_path: Path) -> None:
    writer = a_writer(tmp_path)
    for letter in "abc":
        assert writer.has_room(IMAGE.nbytes)
        writer.append(key(letter), IMAGE)
    assert not writer.has_room(IMAGE.nbytes)
    writer.close()
    assert SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes) is None
    assert SegmentWriter.adopt(tmp_path, writer.segment, 10) is not None


def test_what_a_killed_writer_left_half_done_is_overwritten(tmp_path: Path) -> None:
    writer = a_writer(tmp_path)
    place = writer.append(key("a"), IMAGE)
    writer.close()
    with (tmp_path / f"{writer.segment}{PIXELS}").open("r+b") as file:
        file.seek(place.end)
        file.write(b"x" * 200)
    with (tmp_path / f"{writer.segment}{INDEX}").open("ab") as file:
        file.write(b"half a record")
    heir = SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes)
    assert heir is not None
    other = IMAGE[::-1].copy()
    place = heir.append(key("b"), other)
    assert keys(tmp_path, writer.segment) == [b"a", b"b"]
    pixels = SegmentMap(tmp_path, writer.segment).pixels(place)
    assert pixels is not None
    assert np.array_equal(pixels, other)


def test_a_segment_that_was_removed_is_not_gone_on_with(tmp_path: Path) -> None:
    assert SegmentWriter.adopt(tmp_path, "none", 1) is None
    writer = a_writer(tmp_path)
    writer.close()
    (tmp_path / f"{writer.segment}{PIXELS}").unlink()
    assert SegmentWriter.adopt(tmp_path, writer.segment, 1) is None


def test_an_image_that_is_not_in_one_piece_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in one piece"):
        a_writer(tmp_path).append(key("a"), IMAGE[::2])


def test_the_place_of_an_image_that_was_forgotten_is_not_taken_by_another(tmp_path: Path) -> None:
    writer = a_writer(tmp_path)
    first = writer.append(key("a"), IMAGE)
    writer.close()
    forget(tmp_path, first)
    heir = SegmentWriter.adopt(tmp_path, writer.segment, IMAGE.nbytes)
    assert heir is not None
    assert heir.append(key("b"), IMAGE).offset >= first.end
    assert keys(tmp_path, writer.segment) == [b"b"]
