"""Equal files of both classes."""

import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import pytest

from trueface.data.splits.equal_files import END_BYTES, Contradiction, LabelledFile, contradictions

BODY = bytes(range(256)) * 40


def write(folder: Path, contents: Mapping[str, bytes]) -> list[LabelledFile]:
    """Write files, those with `fake` in their names as fakes, and return them."""
    files = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        files.append(LabelledFile(str(folder / name), len(content), int("fake" in name)))
    return files


def test_equal_files_of_both_classes_are_found(tmp_path: Path) -> None:
    changed = bytes([BODY[0] + 1]) + BODY[1:]  # only its first byte, far from its end
    assert len(BODY) > END_BYTES
    files = write(
        tmp_path,
        {
            "real1": BODY, "real2": BODY, "fake1": BODY, "fake2": changed,
            "real3": b"short", "real4": b"short", "fake3": b"other",
            "real5": b"", "fake4": b"",
        },
    )  # fmt: skip
    names = [str(tmp_path / name) for name in ("real1", "real2", "fake1")]
    assert contradictions(files) == [Contradiction((names[0], names[1]), (names[2],))]


def test_link_to_file_of_other_class_is_an_equal_file(tmp_path: Path) -> None:
    files = write(tmp_path, {"real": BODY})
    (tmp_path / "fake").symlink_to("real")
    os.link(tmp_path / "real", tmp_path / "fake_hard")
    files += [LabelledFile(str(tmp_path / n), len(BODY), 1) for n in ("fake", "fake_hard")]
    ((real, fake),) = contradictions(files)
    assert (len(real), len(fake)) == (1, 2)


@pytest.mark.parametrize("size", [10, 2 * END_BYTES])
def test_deleted_file_equals_no_other(tmp_path: Path, size: int) -> None:
    files = write(tmp_path, {"real": bytes(size), "fake": bytes(size)})
    (tmp_path / "fake").unlink()
    assert contradictions(files) == []


def test_comparison_stops_at_time_limit(tmp_path: Path) -> None:
    files = write(tmp_path, {"real": BODY, "fake": BODY})
    assert contradictions(files, is_over=lambda: True) == []


def test_interrupted_comparison_returns_equal_files_found_so_far(tmp_path: Path) -> None:
    contents = {f"{label}{n}": BODY + bytes(n) for n in range(10) for label in ("real", "fake")}
    files = write(tmp_path, contents)
    looks = count()
    every = contradictions(files, is_over=lambda: next(looks) < 0)
    half, looks = next(looks) // 2, count()
    found = contradictions(files, is_over=lambda: next(looks) >= half)
    assert len(every) == 10
    assert 0 < len(found) < 10
    assert set(found) < set(every)
