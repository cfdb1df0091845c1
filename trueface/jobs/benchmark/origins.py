"""Where the images of trainings and tests come from: by their lists, and by what a model wrote of itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.api import Draft, parse_data
from trueface.benchmark.conditions import Origin, kinds_of
from trueface.data.index import Image
from trueface.data.qualities import chain_of, listed
from trueface.data.splits import method_of, read_list, split_files
from trueface.data.vocabulary import FLAT, Vocabulary
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import read_json
from trueface.training import image_lists
from trueface.training.settings import solver_of

Part = tuple[str, str]  # elementary subset, modifier

# augmentations of trainings: the setting of their probability, and the corruption that they are
_AUGMENTATIONS = {
    "jpeg_prob": "jpeg", "blur_prob": "blur", "resize_prob": "resize", "sbi": "jpeg",
}  # fmt: skip
# those of the corrupted copies of a training in closed form; see data/augmentations/copies, with torch
COPIED = ("jpeg", "noise", "resize", "blur", "webp", "gamma", "sharpen", "contrast")


def of_images(images: Iterable[Image], vocabulary: Vocabulary) -> Origin:
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


def of_model(
    model: str, model_folder: Callable[[str], Path], vocabulary: Vocabulary
) -> Origin | None:
    """Return what a model that is there learned from; None where nothing tells it.

    Args:
        model: its ID.
        model_folder: gives the folder of a model of the run.
        vocabulary: of the job.
    """

    def ancestry_of(name: str) -> image_lists.Ancestry | None:
        return image_lists.read_ancestry(model_folder(name))

    parts: set[Part] = set()
    processing: set[str] = set()
    for name, lesson in image_lists.follow_lessons(model, ancestry_of):
        parts |= set(
            _learned(Path(lesson.split_path), lesson.images, lesson.vocabulary, _names(vocabulary))
        )
        record = (read_json(paths.provenance(model_folder(name))) or {}).get("settings")
        processing |= set(_processing(record if isinstance(record, dict) else {}))
    return Origin(parts=frozenset(parts), processing=frozenset(processing)) if parts else None


def of_makers(makers: Sequence[Draft], vocabulary: Vocabulary) -> Origin | None:
    """Return what a model will have learned from; None where its lists are not there yet.

    Args:
        makers: the jobs that make it.
        vocabulary: of the plan.
    """
    parts: set[Part] = set()
    processing: set[str] = set()
    for maker in makers:
        split_path, data = maker.path(maker.settings["split_path"]), maker.images or maker.data
        parts |= set(_learned(split_path, data or "", vocabulary, _names(vocabulary)))
        processing |= set(_processing(maker.settings))
    return Origin(parts=frozenset(parts), processing=frozenset(processing)) if parts else None


def of_test(test: Draft, vocabulary: Vocabulary) -> Origin | None:
    """Return where the images of a planned test come from; None where its list is not there yet."""
    split_path, data = test.path(test.settings["split_path"]), test.images or test.data
    parts = _learned(split_path, data or "", vocabulary, _names(vocabulary), split_list="test")
    return Origin(parts=frozenset(parts)) if parts else None


def _learned(
    split_path: Path,
    data: str,
    vocabulary: Vocabulary,
    names: Mapping[str, str],
    split_list: str = "train",
) -> list[Part]:
    """Return the sources and modifiers of a data ID that a list of a split has images of."""
    try:
        (file,) = split_files(split_path, (split_list,))
        methods = {method_of(key) for key in read_list(file, split_list)}
    except (DataError, OSError):
        return []
    return [*_parts(data, vocabulary, methods, names)]


def _parts(
    data: str, vocabulary: Vocabulary, methods: Iterable[str], names: Mapping[str, str]
) -> Iterator[Part]:
    there = tuple(methods)
    for part in parse_data(data):
        meant = vocabulary.methods(part.subset)
        sources = [names.get(method, method) for method in there if method and meant.holds(method)]
        if "" in there:
            sources += [word for word, label in FLAT.items() if label in meant.flat]
        for modifier in vocabulary.modifier_keys(part.modifier):
            yield from ((source, modifier) for source in sources)


def _names(vocabulary: Vocabulary) -> dict[str, str]:
    """Return the word for each folder of images."""
    words = [word for word in vocabulary.subset_keys("all") if word not in FLAT]
    return {folder: word for word in reversed(words) for folder in vocabulary.methods(word).folders}


def _processing(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the kinds of corruption that training images had by chance, or as copies."""
    if solver_of(settings) == "ridge" and settings.get("copies", "none") not in {
        "none",
        "mirrored",
    }:
        yield from COPIED
        return
    for name, kind in _AUGMENTATIONS.items():
        if settings.get(name):
            yield kind
    for quality in listed(settings.get("qualities", "")):
        yield from kinds_of(chain_of(quality))
