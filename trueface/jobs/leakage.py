"""Test images on which a model was trained or selected: leaks that a plan warns of.

The training images of a model follow from the jobs of the plan that make it, and from the records that
earlier runs left beside their models (see `image_lists`). Images are identified by their keys, which name no
modifier: a shared copy shows the same picture. In another data folder the same key may be another
picture, so only tests in the folder of the training are checked. Lists that do not exist yet, that
cannot be read, or that have changed since an earlier run are passed over: the job itself reports the
first two. Validation images count where they selected something: an epoch, the end or the rate of a
training, or what an unlearning keeps.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial, reduce
from heapq import nsmallest
from itertools import chain
from operator import or_
from pathlib import Path
from typing import NamedTuple

from launcher.api import Draft, parse_data
from trueface.data.splits import digest, method_of, read_list, split_files
from trueface.data.vocabulary import Methods, Vocabulary
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.training import image_lists
from trueface.training.image_lists import Ancestry

SHOWN = 5  # keys of shared images that a message names
_LISTS = 64  # kept in memory; a plan has a few, of up to some 100,000 keys


class _List(NamedTuple):
    """A list of a split as it is now; a key of the caches."""

    path: str
    name: str  # "train", "val" or "test"
    size: int
    mtime_ns: int


class _Taught(NamedTuple):
    """The training images of one training, or those of its validation."""

    learned: _List
    root: str
    data: str
    vocabulary: Vocabulary  # of the data ID, then or now


def leaks(test: Draft, makers: Sequence[Draft], vocabulary: Vocabulary) -> Iterator[str]:
    """Yield a warning for each training or validation list that shares images with a test.

    Args:
        test: the test.
        makers: the trainings and unlearnings of this plan that make its model, first to last.
        vocabulary: of the data IDs of this plan.
    """
    tested, wanted = _list(test, "test"), test.images or test.data
    if tested is None or wanted is None:
        return
    root = _root(test.path(test.settings["data_root"]))
    seen: set[_Taught] = set()
    for model, taught in _teaching(test, makers, vocabulary):
        if (
            taught in seen
            or taught.root != root
            or not any(_common(taught.learned, tested).values())
        ):
            continue  # reported already, or no leak
        seen.add(taught)
        shared, total = _overlap(taught, tested, wanted, vocabulary)
        if shared:
            files = _files(test.folder, tested.path, taught.learned.path)
            counted = f"{shared} of the {total} test images of {test.data} are among the"
            keys = _listed(_first_keys(taught, tested, wanted, vocabulary), shared)
            if taught.learned.name == "train":
                yield f"{counted} training images of {model} ({files}): {keys}"
            else:
                yield (
                    f"{counted} validation images by which {model} was chosen ({files}): {keys}; "
                    "test on a list that shares none with train and val, as `trueface splits` makes it"
                )


def count_images(draft: Draft, name: str, data: str, vocabulary: Vocabulary) -> int | None:
    """Return how many images of a data ID a list of the split names; None: the list is not there.

    Shared copies that are missing on disk are counted, too.

    Args:
        draft: names the split.
        name: of the list: train, val or test.
        data: the images.
        vocabulary: of the data ID.
    """
    split_list = _list(draft, name)
    if split_list is None:
        return None
    keys = {method: len(names) for method, names in _by_method(split_list).items()}
    total = 0
    for part in parse_data(data):
        methods = vocabulary.methods(part.subset)
        each = sum(number for method, number in keys.items() if method and methods.holds(method))
        total += each * len(vocabulary.modifier_keys(part.modifier))
    return total + (keys.get("", 0) if _methods(data, vocabulary).flat else 0)


def _teaching(
    test: Draft, makers: Sequence[Draft], vocabulary: Vocabulary
) -> Iterator[tuple[str, _Taught]]:
    """Yield the lists that the model of a test learned from, in this plan and in earlier runs."""
    for maker in makers:
        for taught in _planned(maker, vocabulary):
            yield maker.model or "", taught
    earlier = [makers[0].base if makers else test.model]
    # a warm start goes on from weights that an earlier run left under the model's own name
    earlier += [maker.model for maker in makers if maker.settings.get("warm_start")]
    for model in filter(None, earlier):
        find = partial(_remembered, test, model)
        yield from test.once(("ancestry", model), find)


def _planned(maker: Draft, vocabulary: Vocabulary) -> Iterator[_Taught]:
    data = maker.images or maker.data
    if data is None:
        return
    chooses = image_lists.validation_decides(maker.settings, unlearns=maker.kind != "train")
    for name in ("train", "val") if chooses else ("train",):
        learned = _list(maker, name)
        if learned is not None:
            root = _root(maker.path(maker.settings["data_root"]))
            yield _Taught(learned, root, data, vocabulary)


def _remembered(test: Draft, model: str) -> tuple[tuple[str, _Taught], ...]:
    """Return the unchanged lists that a model of an earlier run learned from."""
    if not os.path.exists(paths.checkpoint(test.model_folder(model))):  # noqa: PTH110  # takes any name
        return ()
    read_ancestry = partial(_ancestry, test)
    learned: dict[_Taught, str] = {}
    for name, lesson in image_lists.follow_lessons(model, read_ancestry):
        for kind, sha256 in (("train", lesson.train_sha256), ("val", lesson.val_sha256)):
            key = ("lesson", lesson.split_path, kind, sha256)
            learned_list = test.once(key, partial(_same, lesson.split_path, kind, sha256))
            if learned_list is not None:
                root = _root(Path(lesson.data_root))
                learned.setdefault(
                    _Taught(learned_list, root, lesson.images, lesson.vocabulary), name
                )
    return tuple((name, taught) for taught, name in learned.items())


def _ancestry(test: Draft, model: str) -> Ancestry | None:
    folder = test.model_folder(model)
    return test.once(("learned", folder), partial(image_lists.read_ancestry, folder))


def _same(split_path: str, name: str, sha256: str | None) -> _List | None:
    """Return the list of a lesson if it is unchanged."""
    current = None if sha256 is None else _read(Path(split_path), name)
    return current if current and _digest(current) == sha256 else None


@lru_cache(maxsize=_LISTS)
def _root(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a name that no file system takes
        return str(path)


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
    taught: _Taught, tested: _List, tested_data: str, vocabulary: Vocabulary
) -> tuple[int, int]:
    """Return how many images of a test a training has seen, and how many the test has."""
    testing = _methods(tested_data, vocabulary)
    total = sum(len(keys) for method, keys in _by_method(tested).items() if _means(testing, method))
    common = _common(taught.learned, tested)
    shared = sum(
        common[method] for method in _methods_of_both(taught, tested, tested_data, vocabulary)
    )
    return shared, total


def _methods_of_both(
    taught: _Taught, tested: _List, tested_data: str, vocabulary: Vocabulary
) -> list[str]:
    """Return the methods of a test's list that a training has, too."""
    training = _methods(taught.data, taught.vocabulary)
    testing = _methods(tested_data, vocabulary)
    flat = bool(training.flat & testing.flat)
    return [
        method
        for method in _by_method(tested)
        if (flat if not method else training.holds(method) and testing.holds(method))
    ]


def _first_keys(
    taught: _Taught, tested: _List, tested_data: str, vocabulary: Vocabulary
) -> list[str]:
    """Return the first keys, sorted, that a test and a training share."""
    testing, training = _by_method(tested), _by_method(taught.learned)
    shared = (
        testing[method] & training.get(method, frozenset())
        for method in _methods_of_both(taught, tested, tested_data, vocabulary)
    )
    return nsmallest(SHOWN, chain.from_iterable(shared))


def _listed(keys: Sequence[str], total: int) -> str:
    more = f" and {total - len(keys)} more" if total > len(keys) else ""
    return ", ".join(keys) + more


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
def _by_method(split_list: _List) -> Mapping[str, frozenset[str]]:
    """Return the keys of a list by the first of their folders; "" for those without one."""
    try:
        keys = read_list(Path(split_list.path), split_list.name)
    except DataError:
        return {}
    methods: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        methods[method_of(key)].add(key)
    return {method: frozenset(keys_below) for method, keys_below in methods.items()}


@lru_cache(maxsize=_LISTS)
def _digest(split_list: _List) -> str:
    return digest(key for keys in _by_method(split_list).values() for key in keys)


@lru_cache(maxsize=_LISTS**2)
def _files(folder: Path, *files: str) -> str:
    """Return files for a message: those below `folder` without it."""
    return ", ".join(file.removeprefix(f"{folder}/") for file in files)
