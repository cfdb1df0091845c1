"""Files of equal bytes whose labels differ: one of the labels is wrong.

Files of different sizes cannot be equal, so few bytes are read. First comes the end of each file
whose size both classes have, then all bytes of the files whose ends are equal.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from trueface.runtime.digests import sha256_digest
from trueface.runtime.files import file_sha256

END_BYTES = 4096  # one page; headers of files are alike, their ends are not


class LabelledFile(NamedTuple):
    """An image file; a NamedTuple, as there may be a million."""

    file: str
    size_bytes: int
    label: int  # 1 fake, 0 real


class Contradiction(NamedTuple):
    """Files of equal bytes in both classes."""

    real: tuple[str, ...]
    fake: tuple[str, ...]


def contradictions(
    files: Iterable[LabelledFile],
    *,
    digest: Callable[[str], str] = file_sha256,
    is_over: Callable[[], bool] = lambda: False,
) -> list[Contradiction]:
    """Return the files of equal bytes that have both labels, sorted.

    Args:
        files: each file once for each label.
        digest: of all bytes of a file.
        is_over: whether to stop before the next file, with the results of the sizes that are done.

    A file that cannot be read is equal to no other.
    """
    steps: tuple[Callable[[LabelledFile], Hashable], ...] = (
        lambda each: each.size_bytes,
        lambda each: _read(each, _end),
        # the end of a small file is all of it
        lambda each: each.size_bytes <= END_BYTES or _read(each, lambda each: digest(each.file)),
    )
    found = _find_equal((each for each in files if each.size_bytes), steps, is_over)
    return sorted(Contradiction(*(_names(group, label) for label in (0, 1))) for group in found)


def _find_equal(
    files: Iterable[LabelledFile],
    steps: Sequence[Callable[[LabelledFile], Hashable]],
    is_over: Callable[[], bool],
) -> Iterator[list[LabelledFile]]:
    """Yield the files of both classes that are alike in all steps, one group of a step after the other."""
    first, *further = steps
    for same in _files_with_both_labels(files, first, is_over):
        if further:
            yield from _find_equal(same, further, is_over)
        else:
            yield same


def _files_with_both_labels(
    files: Iterable[LabelledFile],
    key: Callable[[LabelledFile], Hashable],
    is_over: Callable[[], bool],
) -> Iterator[list[LabelledFile]]:
    """Yield the files that have one key, if they have both labels."""
    groups: dict[Hashable, list[LabelledFile]] = defaultdict(list)
    for each in files:
        if is_over():
            break
        groups[key(each)].append(each)
    for members in groups.values():
        if len({each.label for each in members}) > 1:
            yield members


def _names(files: Iterable[LabelledFile], label: int) -> tuple[str, ...]:
    return tuple(sorted({each.file for each in files if each.label == label}))


def _read(file: LabelledFile, read: Callable[[LabelledFile], Hashable]) -> Hashable:
    try:
        return read(file)
    except OSError:
        return file


def _end(labelled_file: LabelledFile) -> bytes:
    """Return the SHA-256 of the end of a file."""
    with open(labelled_file.file, "rb") as file:  # noqa: PTH123  # a Path for each of a million takes longer
        file.seek(max(0, labelled_file.size_bytes - END_BYTES))
        # the bytes themselves would take 4 GiB for a million files of one size
        return sha256_digest([file.read(END_BYTES)])
