import os
from pathlib import Path

import numpy as np
import pytest

from trueface.data.loading.segments import (
    INDEX,
    LIMIT,
    PIXELS,
    SegmentFolder,
    SegmentMap,
    usual_limit,
)

IMAGE = np.zeros((10, 10, 3), dtype=np.uint8)
SEGMENT = 1000  # bytes: a quarter of the limit


def a_folder(top: Path, decoding: str = "exact", limit: int = 4 * SEGMENT) -> SegmentFolder:
    (top / decoding).mkdir(exist_ok=True)
    return SegmentFolder(top=top, decoding=decoding, limit=limit)


def filled(folder: SegmentFolder, used_at: float) -> str:
    """Fill one segment; return its name."""
    writer = folder.writer(SEGMENT)
    assert writer is not None
    writer.append(bytes(40), np.zeros((1, SEGMENT // 3, 3), dtype=np.uint8))
    writer.close()
    os.utime(folder.path / f"{writer.segment}{INDEX}", (used_at, used_at))
    return writer.segment


def test_a_segment_with_room_is_gone_on_with_before_a_new_one_is_made(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    first = folder.writer(IMAGE.nbytes)
    assert first is not None
    second = folder.writer(IMAGE.nbytes)  # the first has a writer
    first.close()
    third = folder.writer(IMAGE.nbytes)
    assert second is not None
    assert third is not None
    assert third.segment == first.segment != second.segment


def test_the_least_recently_used_of_all_decodings_goes_when_there_is_no_room(
    tmp_path: Path,
) -> None:
    exact, scaled = a_folder(tmp_path), a_folder(tmp_path, "scaled")
    newer = [filled(exact, used_at=100.0 + number) for number in range(3)]
    oldest = filled(scaled, used_at=50.0)
    assert oldest in scaled.index_sizes()
    latest = filled(exact, used_at=200.0)
    assert not list(scaled.path.glob(f"*{PIXELS}"))
    assert set(exact.index_sizes()) == {*newer, latest}


def test_what_is_read_or_written_stays_and_the_limit_holds(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    read = [SegmentMap(folder.path, filled(folder, used_at=number)) for number in range(1, 4)]
    written = folder.writer(IMAGE.nbytes)
    assert written is not None
    before = set(folder.index_sizes())
    assert folder.writer(SEGMENT) is None
    assert set(folder.index_sizes()) == before
    del read[1]
    assert folder.writer(SEGMENT) is not None
    assert len(folder.index_sizes()) == 4


def test_pixels_without_an_index_are_removed_like_any_others(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    orphan = folder.path / f"orphan{PIXELS}"
    orphan.write_bytes(bytes(4 * SEGMENT))
    assert folder.writer(SEGMENT) is not None
    assert not orphan.exists()


def test_an_image_larger_than_a_segment_is_not_kept(tmp_path: Path) -> None:
    assert a_folder(tmp_path).writer(SEGMENT + 1) is None
    assert a_folder(tmp_path, limit=0).writer(1) is None


def test_the_limit_is_part_of_the_disk_and_of_the_memory_where_none_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < usual_limit(tmp_path) <= memory // 2
    monkeypatch.setenv(LIMIT, "3GiB")
    assert usual_limit(tmp_path) == 3 << 30
