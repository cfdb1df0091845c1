"""A data root for detectors, created from images and a translator.

<made>/PreSocial/Fake/Translated/<name>.png    the image with one attribute flipped
<made>/PreSocial/Real/Originals/<name>.png     the real image of that name
<made>/splits/train.json, val.json, test.json  both of a name in the same list

Real images are encoded again, as PNG like the fakes, so that the file format does not reveal the class.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trueface.data.folders import stem
from trueface.data.splits.split_files import write_splits
from trueface.generators.made_folders import (
    MADE,
    ImageFolderWriter,
    divide_by_hash,
    image_names,
    load_image_batch,
    partners,
    read_output_record,
)
from trueface.generators.translation.settings import TranslateSettings
from trueface.generators.translation.translator import Translator, flip_each_attribute, labels_of
from trueface.runtime.errors import DataError, UnknownName
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import stream_seed

UNSHARED = "PreSocial"
SPLITS = "splits"
MOST_LINKS = 20  # steps from a folder to its original source; more means a cycle


@dataclass(frozen=True, slots=True)
class Pairs:
    """The images that are translated, their real partners, and their attributes."""

    source: Path
    names: tuple[str, ...]
    real: Path
    reals: tuple[str, ...]
    labels: Tensor  # N×K, own
    targets: Tensor  # N×K, one attribute flipped
    changed: tuple[str, ...]  # name of the changed attribute, for each image


def pairs_of(
    source: Path, real: Path, settings: TranslateSettings, attributes: Sequence[str]
) -> Pairs:
    """Return the planned translations.

    Args:
        source: folder of the images to translate.
        real: folder of the real images, with the table of their attributes.
        settings: which images, which attribute.
        attributes: the translator's, in its order.

    Raises:
        DataError: a folder without images, a real image missing, an image without attributes.
        UnknownName: the table lacks an attribute of the translator, or it has none such.
    """
    if settings.attribute and settings.attribute not in attributes:
        raise UnknownName("attribute", settings.attribute, attributes, where="the translator")
    names = image_names(source, limit=settings.limit)
    reals = partners(real, names)
    _, labels = labels_of(real, reals, attributes)
    every = flip_each_attribute(labels, attributes)  # K×N×K
    chosen = [
        _choose_attribute(name, every[:, at], labels[at], settings, attributes)
        for at, name in enumerate(names)
    ]
    targets = every[torch.tensor(chosen), torch.arange(len(names))]
    changed = tuple(attributes[at] for at in chosen)
    return Pairs(source, names, real, reals, labels, targets, changed)


def original_of(source: Path, resolve: Callable[[str], Path]) -> Path:
    """Return the folder that a chain of made folders begins with: `source`, where nothing made it.

    Args:
        source: a folder.
        resolve: gives the place of a path as a `made.json` names it.

    Raises:
        DataError: a folder of the chain does not record its source, or the chain is a cycle.
    """
    for _ in range(MOST_LINKS):
        if not (source / MADE).is_file():
            return source
        named = read_output_record(source).get("source")
        if not isinstance(named, str):
            raise DataError(
                f"{source / MADE} does not name a source. Set real to the folder of the real images."
            )
        source = resolve(named)
    raise DataError(
        f"{source}: the sources named in {MADE} form a circle. Set real to the folder of the real "
        "images."
    )


def write_pairs(
    writer: ImageFolderWriter,
    pairs: Pairs,
    translator: Translator,
    settings: TranslateSettings,
    watch: RunContext,
) -> None:
    """Write fakes, reals and lists.

    Raises:
        DataError: an image cannot be read, or has another size than the translator's.
        JobError: stopped.
    """
    size = translator.size
    for part in watch.batches(len(pairs.names), settings.batch_size):
        images = load_image_batch(pairs.source, pairs.names[part], size=size)
        with torch.no_grad():
            fakes = translator(images.to(watch.device), pairs.targets[part].to(watch.device))
        writer.write(
            [_file("Fake", settings.fakes, name) for name in pairs.names[part]], fakes.cpu()
        )
        reals = load_image_batch(pairs.real, pairs.reals[part], size=size)
        writer.write([_file("Real", settings.reals, name) for name in pairs.names[part]], reals)
    write_splits(writer.root / SPLITS, lists_of(pairs.names, settings))


def lists_of(names: Sequence[str], settings: TranslateSettings) -> dict[str, list[str]]:
    """Return the keys of each list, sorted: of a name's fake and of its real image."""
    lists = divide_by_hash(names, settings.shares, settings.seed)
    return {
        part: sorted(
            f"{folder}/{stem(name)}"
            for name in inside
            for folder in (settings.fakes, settings.reals)
        )
        for part, inside in lists.items()
    }


def count_changed(pairs: Pairs) -> dict[str, int]:
    """Return how many images had each attribute flipped."""
    return dict(sorted(Counter(pairs.changed).items()))


def _choose_attribute(
    name: str,
    targets: Tensor,
    own_attributes: Tensor,
    settings: TranslateSettings,
    attributes: Sequence[str],
) -> int:
    """Return which attribute of an image is flipped: one that changes something, if there is one."""
    if settings.attribute:
        return attributes.index(settings.attribute)
    places = [at for at in range(len(attributes)) if not torch.equal(targets[at], own_attributes)]
    places = places or list(range(len(attributes)))
    return places[stream_seed(f"translate/{stem(name)}", settings.seed) % len(places)]


def _file(label: str, folder: str, name: str) -> str:
    return f"{UNSHARED}/{label}/{folder}/{name}"
