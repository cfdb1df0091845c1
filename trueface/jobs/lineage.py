"""Training images of models, determined at planning: leaks into tests, and the sources of images.

The training images of a model follow from the jobs of the plan that produce it, and from the records in
model folders of earlier runs (see `image_lists`). A teacher from which a model is distilled counts like a base.

Leaks are test images on which a model was trained or selected. Images are identified by their keys, which
name no modifier: a shared copy shows the same picture. In another data folder the same key may be another
picture, so only tests in the folder of the training are checked. Lists that do not exist yet, that
cannot be read, or that have changed since an earlier run are passed over: the job itself reports the
first two. Validation images count where they selected something: an epoch, the end or the rate of a
training, or what an unlearning keeps.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial, reduce
from heapq import nsmallest
from itertools import chain
from operator import or_
from pathlib import Path
from typing import Any, NamedTuple

from launcher.api import Draft, parse_data, read_json
from trueface.benchmark.conditions import Origin, kinds_of
from trueface.data.image_keys import method_of
from trueface.data.index import Image
from trueface.data.qualities import chain_of, split_quality_words
from trueface.data.splits.split_files import keys_digest, read_list, split_files
from trueface.data.vocabulary import FLAT, DataIdResolver, Methods, has_originals
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.training import image_lists
from trueface.training.config import is_checkpoint_file, teacher_of
from trueface.training.image_lists import Ancestor, Origins
from trueface.training.ineffective_settings import OF_ORIGINALS
from trueface.training.settings import copies_of, solver_of

SHOWN = 5  # keys of shared images that a message names
PUBLISHED = Origin(parts=frozenset(), is_published=True)
_LISTS = 64  # kept in memory; a plan has a few, of up to some 100,000 keys
# setting of an augmentation's probability → type of corruption that the augmentation applies
_AUGMENTATIONS = {
    "jpeg_prob": "jpeg", "blur_prob": "blur", "resize_prob": "resize", "sbi": "jpeg",
}  # fmt: skip
# copy of the images of a fit in closed form → types of corruption in it; data/transforms needs torch
CORRUPTIONS_OF_COPIES: Mapping[str, tuple[str, ...]] = {
    "corrupted": ("jpeg", "noise", "resize", "blur", "webp", "gamma", "sharpen", "contrast"),
    "varied": ("small", "saturation", "impulse", "palette", "share", "median", "gamma"),
    "turned": ("turn",),
}


class _List(NamedTuple):
    """A list of a split as it is now; a key of the caches."""

    path: str
    name: str  # "train", "val" or "test"
    size: int
    mtime_ns: int


class _TrainedList(NamedTuple):
    """The training images of one training, or those of its validation."""

    trained_list: _List
    root: str
    data: str
    vocabulary: DataIdResolver  # vocabulary of the data ID, then or now


def find_leaks(test: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver) -> Iterator[str]:
    """Yield a warning for each training or validation list that shares images with a test.

    Args:
        test: the test.
        makers: the trainings and unlearnings of this plan that make its model, first to last.
        vocabulary: of the data IDs of this plan.
    """
    tested, test_images = _list(test, "test"), test.images or test.data
    if tested is None or test_images is None:
        return
    root = _root(test.path(test.settings["data_root"]))
    seen: set[_TrainedList] = set()
    for model, taught in _training_lists(test, makers, vocabulary):
        trained_list = taught.trained_list
        if taught in seen or taught.root != root or not _find_common_keys(trained_list, tested):
            continue  # reported already, or no leak
        seen.add(taught)
        keys, total = _find_shared_keys(taught, tested, test_images, vocabulary)
        if not (count := sum(map(len, keys))):
            continue
        files = (path.removeprefix(f"{test.folder}/") for path in (tested.path, trained_list.path))
        counted = f"{count} of the {total} test images of {test.data} are among the"
        shown = ", ".join(nsmallest(SHOWN, chain.from_iterable(keys)))
        shown += f" and {count - SHOWN} more" if count > SHOWN else ""
        if trained_list.name == "train":
            yield f"{counted} training images of {model} ({', '.join(files)}): {shown}"
        else:
            yield (
                f"{counted} validation images that selected {model} ({', '.join(files)}): {shown}. Use a "
                "test list without training and validation images: trueface splits"
            )


def count_images(draft: Draft, name: str, data: str, vocabulary: DataIdResolver) -> int | None:
    """Return the number of images of a data ID in a list of the split, or None if the list is missing.

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
    keys = {method: len(names) for method, names in _list_keys_by_method(split_list).items()}
    total = 0
    for part in parse_data(data):
        methods = vocabulary.methods(part.subset)
        each = sum(number for method, number in keys.items() if method and methods.holds(method))
        total += each * len(vocabulary.modifier_keys(part.modifier))
    return total + (keys.get("", 0) if _methods(data, vocabulary).flat else 0)


def list_keys(
    draft: Draft, name: str, data: str, vocabulary: DataIdResolver
) -> Mapping[str, frozenset[str]] | None:
    """Return the keys of a data ID in a list of the split by their source, or None if the list is missing."""
    split_list = _list(draft, name)
    if split_list is None:
        return None
    methods = [vocabulary.methods(part.subset) for part in parse_data(data)]
    return {
        source: keys
        for source, keys in _list_keys_by_method(split_list).items()
        if source and any(each.holds(source) for each in methods)
    }


def planned_teacher(maker: Draft) -> str:
    """Return the ID of the teacher of a planned job, or the path of its checkpoint. '' if there is none."""
    teacher = teacher_of(maker.settings) if maker.kind == "train" else ""
    if not is_checkpoint_file(teacher):
        return teacher
    path = maker.path(teacher)
    models = (model for model in maker.plan_makers if _checkpoint(maker, model) == path)
    return next(models, str(path))


class _Sources(NamedTuple):
    """The jobs of a plan and the models of earlier runs that a model learns from."""

    jobs: tuple[tuple[str, Draft], ...]  # the name of the model for messages, and its job
    earlier: tuple[tuple[str, str, str], ...]  # name, student and teacher, as of `Ancestor`


def _find_sources(test: Draft, makers: Sequence[Draft]) -> _Sources:
    """Return what the model of a test learns from, with bases and teachers."""
    jobs: list[tuple[str, Draft]] = []
    earlier: list[tuple[str, str, str]] = []
    pending = [("", test.model or "", tuple(makers))]  # student, model, the jobs that make it
    seen: set[str] = set()
    while pending:
        student, model, line = pending.pop(0)
        base = line[0].base if line else model  # the second is that of an earlier run
        # a warm start continues from weights of an earlier run under the same model name
        warm = [maker.model for maker in line if maker.settings.get("warm_start")]
        names = filter(None, (base, *warm))
        earlier += [(name, student, model) for name in names]
        for maker in line:
            name = image_lists.describe_ancestor(maker.model or "", student, model)
            jobs.append((name, maker))
            teacher = planned_teacher(maker)
            if teacher and teacher not in seen:
                seen.add(teacher)
                pending.append((maker.model or "", teacher, maker.plan_makers.get(teacher, ())))
    return _Sources(tuple(jobs), tuple(dict.fromkeys(earlier)))


def _checkpoint(draft: Draft, model: str) -> Path:
    return paths.checkpoint(draft.model_folder(model))


def _training_lists(
    test: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver
) -> Iterator[tuple[str, _TrainedList]]:
    """Yield the lists that the model of a test learned from, in this plan and in earlier runs."""
    sources = _find_sources(test, makers)
    for name, maker in sources.jobs:
        for taught in _planned_lists(maker, vocabulary):
            yield name, taught
    for model in sources.earlier:
        find = partial(_recorded_lists, test, *model)
        yield from test.once(("ancestry", model), find)


def _planned_lists(maker: Draft, vocabulary: DataIdResolver) -> Iterator[_TrainedList]:
    data = maker.images or maker.data
    if data is None or _is_published(maker):
        return
    chooses = image_lists.validation_decides(maker.settings, unlearns=maker.kind != "train")
    for name in ("train", "val") if chooses else ("train",):
        split_list = _list(maker, name)
        if split_list is not None:
            root = _root(maker.path(maker.settings["data_root"]))
            yield _TrainedList(split_list, root, data, vocabulary)


def _is_published(maker: Draft) -> bool:
    """Return whether a job makes a model from a published file, whose training images are unknown."""
    return "split_path" not in maker.settings


def _recorded_lists(
    test: Draft, model: str, student: str, teacher: str
) -> tuple[tuple[str, _TrainedList], ...]:
    """Return the unchanged lists that a model of an earlier run learned from."""
    models: dict[_TrainedList, str] = {}
    for each, origins in _iter_earlier(test, model, student, teacher):
        for lesson in origins.ancestry.lessons if origins.ancestry else ():
            for kind, sha256 in (("train", lesson.train_sha256), ("val", lesson.val_sha256)):
                key = ("lesson", lesson.split_path, kind, sha256)
                learned_list = test.once(
                    key, partial(_read_unchanged_list, lesson.split_path, kind, sha256)
                )
                if learned_list is not None:
                    root = _root(Path(lesson.data_root))
                    models.setdefault(
                        _TrainedList(learned_list, root, lesson.images, lesson.vocabulary),
                        each.description,
                    )
    return tuple((name, taught) for taught, name in models.items())


def _iter_earlier(
    test: Draft, model: str, student: str, teacher: str
) -> Iterator[tuple[Ancestor, Origins]]:
    """Yield a model of an earlier run and its ancestors. Nothing if its weights do not exist."""
    first = image_lists.ancestor(model, test.model_folder, student, teacher)
    # `os.path` takes any name
    if first.folder is not None and not os.path.exists(paths.checkpoint(first.folder)):  # noqa: PTH110
        return
    yield from image_lists.iter_ancestors(
        model,
        test.model_folder,
        student=student,
        teacher=teacher,
        read=lambda folder: test.once(("origins", folder), partial(Origins.read, folder)),
    )


def _read_unchanged_list(split_path: str, name: str, sha256: str | None) -> _List | None:
    """Return the training list of a record if it is unchanged."""
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


@lru_cache(maxsize=1 << 16)  # cached because a plan calls it thousands of times for few pairs
def _find_shared_keys(
    training_list: _TrainedList, test_list: _List, tested_data: str, vocabulary: DataIdResolver
) -> tuple[tuple[frozenset[str], ...], int]:
    """Return the keys of a test that a training has seen, by method, and how many the test has."""
    training = _methods(training_list.data, training_list.vocabulary)
    testing = _methods(tested_data, vocabulary)
    flat = training.flat & testing.flat
    shared = (
        keys
        for method, keys in _find_common_keys(training_list.trained_list, test_list).items()
        if (training.holds(method) and testing.holds(method) if method else flat)
    )
    every = _list_keys_by_method(test_list).items()
    counts = (len(keys) for name, keys in every if (testing.holds(name) if name else testing.flat))
    return tuple(shared), sum(counts)


@lru_cache(maxsize=1 << 12)
def _methods(data: str, vocabulary: DataIdResolver) -> Methods:
    return reduce(or_, (vocabulary.methods(part.subset) for part in parse_data(data)))


@lru_cache(maxsize=_LISTS**2)
def _find_common_keys(training_list: _List, test_list: _List) -> Mapping[str, frozenset[str]]:
    """Return the keys that are in both lists, by method."""
    training = _list_keys_by_method(training_list)
    every = _list_keys_by_method(test_list).items()
    both = ((name, keys & training.get(name, frozenset())) for name, keys in every)
    return {name: keys for name, keys in both if keys}


@lru_cache(maxsize=_LISTS)
def _list_keys_by_method(split_list: _List) -> Mapping[str, frozenset[str]]:
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
    return keys_digest(key for keys in _list_keys_by_method(split_list).values() for key in keys)


def origin_of_images(images: Iterable[Image], vocabulary: DataIdResolver) -> Origin:
    """Return where the images of a test come from."""
    names = _names(vocabulary)
    flat = {label: word for word, label in FLAT.items()}
    parts = {(image.method, image.label, image.modifier) for image in images}
    return Origin(
        parts=frozenset(
            (names.get(method, method) if method else flat[label], modifier)
            for method, label, modifier in parts
        )
    )


def origin_of_model(
    model: str, model_folder: Callable[[str], Path], vocabulary: DataIdResolver
) -> Origin | None:
    """Return the training images of an existing model, or None if they are not recorded.

    Those of a model that others published are not known, so those of its descendants are not known either.

    Args:
        model: its ID.
        model_folder: gives the folder of a model of the run.
        vocabulary: of the job.
    """
    found = [*image_lists.iter_ancestors(model, model_folder)]
    if any(image_lists.has_unknown_origin(*each) for each in found):
        return PUBLISHED
    return _origin(_recorded_trainings(found), vocabulary)


def _recorded_trainings(
    models: Iterable[tuple[Ancestor, Origins]],
) -> Iterator["_Training"]:
    for each, origins in models:
        record = _read_provenance(each.folder).get("settings") if each.folder else None
        settings = record if isinstance(record, dict) else {}
        for lesson in origins.ancestry.lessons if origins.ancestry else ():
            yield Path(lesson.split_path), lesson.images, lesson.vocabulary, settings


def _read_provenance(folder: Path) -> Mapping[str, Any]:
    try:
        return read_json(paths.provenance(folder)) or {}
    except OSError:
        return {}


def origin_of_makers(
    test: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver
) -> Origin | None:
    """Return what the model of a test will have learned from; None where its lists are not known (yet).

    Args:
        test: the test.
        makers: the jobs that make its model.
        vocabulary: of the plan.
    """
    sources = _find_sources(test, makers)
    earlier = [each for model in sources.earlier for each in _iter_earlier(test, *model)]
    if any(_is_published(maker) for _, maker in sources.jobs) or any(
        image_lists.has_unknown_origin(*each) for each in earlier
    ):
        return PUBLISHED
    planned = (
        (
            each.path(each.settings["split_path"]),
            each.images or each.data or "",
            vocabulary,
            each.settings,
        )
        for _, each in sources.jobs
    )
    return _origin(chain(planned, _recorded_trainings(earlier)), vocabulary)


def find_unknown_origins(draft: Draft) -> Iterator[str]:
    """Yield the bases and teachers of a planned training whose training images are not known."""
    sources = _find_sources(draft, draft.plan_makers.get(draft.model or "") or (draft,))
    yield from (name for name, maker in sources.jobs if _is_published(maker))
    for model in sources.earlier:
        for each, origins in _iter_earlier(draft, *model):
            if image_lists.has_unknown_origin(each, origins):
                yield each.description.removeprefix(f"{draft.folder}/")


def origin_of_test(test: Draft, vocabulary: DataIdResolver) -> Origin | None:
    """Return where the images of a planned test come from; None where its list is not there yet."""
    split_path, data = test.path(test.settings["split_path"]), test.images or test.data or ""
    parts = frozenset(_parts(split_path, "test", data, vocabulary, _names(vocabulary)))
    return Origin(parts=parts) if parts else None


# folder of a training's lists, its images, the meaning of user words, and its settings
_Training = tuple[Path, str, DataIdResolver, Mapping[str, Any]]


def _origin(trainings: Iterable[_Training], vocabulary: DataIdResolver) -> Origin | None:
    names, parts, processing = _names(vocabulary), set[tuple[str, str]](), set[str]()
    for split_path, data, words, settings in trainings:
        parts |= set(_parts(split_path, "train", data, words, names))
        processing |= set(_processing(settings, originals=has_originals(parse_data(data), words)))
    return Origin(parts=frozenset(parts), processing=frozenset(processing)) if parts else None


def _parts(
    split_path: Path,
    split_list: str,
    data: str,
    vocabulary: DataIdResolver,
    names: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    """Yield the sources and modifiers of a data ID that a list of a split has images of."""
    found = _read(split_path, split_list)
    there = _list_keys_by_method(found) if found else {}
    for part in parse_data(data):
        meant = vocabulary.methods(part.subset)
        sources = [names.get(method, method) for method in there if method and meant.holds(method)]
        if "" in there:
            sources += [word for word, label in FLAT.items() if label in meant.flat]
        for modifier in vocabulary.modifier_keys(part.modifier):
            yield from ((source, modifier) for source in sources)


def _names(vocabulary: DataIdResolver) -> dict[str, str]:
    """Return the word for each folder of images."""
    words = [word for word in vocabulary.subset_keys("all") if word not in FLAT]
    return {folder: word for word in reversed(words) for folder in vocabulary.methods(word).folders}


def _processing(settings: Mapping[str, Any], *, originals: bool) -> Iterator[str]:
    """Yield the types of corruption of the training images, by random augmentations or in copies.

    Args:
        settings: of the training.
        originals: whether any training image is an original one; re-shared ones are not compressed or blurred.
    """
    copies = copies_of(settings.get("copies", "none")) if solver_of(settings) == "ridge" else ()
    copied = [kind for copy in copies for kind in CORRUPTIONS_OF_COPIES.get(copy, ())]
    if copied:
        yield from copied
        return
    for name, kind in _AUGMENTATIONS.items():
        if settings.get(name) and (originals or name not in OF_ORIGINALS):
            yield kind
    for quality in split_quality_words(settings.get("qualities", "")):
        yield from kinds_of(chain_of(quality))
