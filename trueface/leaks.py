"""Whether images that a model was trained on are among those that it is tested on.

Images are told by their keys, which name no modifier: a shared copy shows the same picture. In another
data folder the same key may be another picture, so only tests in the folder of the training are looked
at. Nothing is said of lists that are not there yet, or that cannot be read: the job itself will say that.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from operator import or_
from pathlib import Path
from typing import NamedTuple

from launcher.api import Draft, parse_data
from trueface.errors import DataError
from trueface.splits import read_list, split_files
from trueface.subsets import Methods, Vocabulary

_LISTS = 64  # kept in memory; a plan has a few, of up to some 100,000 keys


class _List(NamedTuple):
    """A list of a split as it is now; the key of what is remembered of it."""

    path: str
    name: str  # "train" or "test"
    size: int
    mtime_ns: int


def leaks(test: Draft, makers: Sequence[Draft], vocabulary: Vocabulary) -> Iterator[str]:
    """Yield a sentence for each list of training images that shares some with a test's.

    Args:
        test: the test.
        makers: the trainings and unlearnings that make its model, first to last.
        vocabulary: what their data IDs mean.
    """
    tested, wanted = _list(test, "test"), test.images or test.data
    if tested is None or wanted is None:
        return
    root = _root(test.path(test.settings["data_root"]))
    seen: set[tuple[str, str, str | None]] = set()
    for maker in makers:
        data = maker.images or maker.data
        learned = (maker.settings["data_root"], maker.settings["split_path"], data)
        if data is None or learned in seen:
            continue
        seen.add(learned)
        trained = _list(maker, "train")
        if trained is None or _root(maker.path(maker.settings["data_root"])) != root:
            continue
        if not any(_common(trained, tested).values()):
            continue  # as it should be
        shared, total = _overlap(trained, tested, data, wanted, vocabulary)
        if shared:
            yield (
                f"{shared} of the {total} test images of {test.data} are among the training images "
                f"of {maker.model} ({_files(test.folder, tested.path, trained.path)})"
            )


@lru_cache(maxsize=_LISTS)
def _root(path: Path) -> str:
    return os.path.realpath(path)


def _list(draft: Draft, name: str) -> _List | None:
    split_path = draft.settings["split_path"]
    return draft.once(("list", split_path, name), lambda: _read(draft.path(split_path), name))


def _read(split_path: Path, name: str) -> _List | None:
    (file,) = split_files(split_path, (name,))
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return _List(str(file), name, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 16)  # a plan asks for the same few pairs thousands of times
def _overlap(
    trained: _List, tested: _List, trained_data: str, tested_data: str, vocabulary: Vocabulary
) -> tuple[int, int]:
    """Return how many images of a test a training has seen, and how many the test has."""
    training, testing = (_methods(data, vocabulary) for data in (trained_data, tested_data))
    total = sum(len(keys) for method, keys in _by_method(tested).items() if _means(testing, method))
    both = Methods((), training.flat & testing.flat)
    shared = sum(
        count
        for method, count in _common(trained, tested).items()
        if (both.flat if not method else training.holds(method) and testing.holds(method))
    )
    return shared, total


def _means(methods: Methods, method: str) -> bool:
    return methods.holds(method) if method else bool(methods.flat)


@lru_cache(maxsize=1 << 12)
def _methods(data: str, vocabulary: Vocabulary) -> Methods:
    return reduce(or_, (vocabulary.methods(part.subset) for part in parse_data(data)))


@lru_cache(maxsize=_LISTS**2)
def _common(trained: _List, tested: _List) -> Mapping[str, int]:
    """Return how many keys of each method stand in both lists."""
    training = _by_method(trained)
    counts: Counter[str] = Counter()
    for method, keys in _by_method(tested).items():
        counts[method] = len(keys & training.get(method, frozenset()))
    return counts


@lru_cache(maxsize=_LISTS)
def _by_method(one: _List) -> Mapping[str, frozenset[str]]:
    """Return the keys of a list by the first of their folders; "" for those without one."""
    try:
        keys = read_list(Path(one.path), one.name)
    except DataError:
        return {}
    methods: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        methods[key.partition("/")[0] if "/" in key else ""].add(key)
    return {method: frozenset(found) for method, found in methods.items()}


@lru_cache(maxsize=_LISTS**2)
def _files(folder: Path, *files: str) -> str:
    """Return files for a message: those below `folder` without it."""
    return ", ".join(file.removeprefix(f"{folder}/") for file in files)
