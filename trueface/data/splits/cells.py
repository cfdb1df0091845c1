"""Which group and class each key of a split is, and how many of them the lists have."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trueface.data.attributes.attributes import Attributes, OnMissing
from trueface.data.attributes.cells import CLASSES, UNKNOWN, Cells
from trueface.data.attributes.paths import paths_below
from trueface.data.index import Image
from trueface.data.splits.matching import match


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """By which attribute images are grouped."""

    attributes: Attributes
    data_root: Path  # of the images, as their files begin
    by: str  # column of the attributes
    missing: OnMissing  # a key without a group: stop, or call it `UNKNOWN`

    def of_keys(self, images: Sequence[Image]) -> dict[str, str]:
        """Return the group of each key: copies of an image share its row.

        Raises:
            UnknownName: there is no such column.
            DataError: keys without a group, where that shall stop.
        """
        paths = paths_below(images, self.data_root)
        known: dict[str, str | None] = {}
        for image, group in zip(images, self.attributes.known(self.by, paths), strict=True):
            known[image.key] = known.get(image.key) or group
        if self.missing == "stop":
            pairs = zip(images, paths, strict=True)
            lacking = [path for image, path in pairs if known[image.key] is None]
            self.attributes.values(self.by, lacking, missing="stop")
        return {key: group or UNKNOWN for key, group in known.items()}

    def cells_of_keys(self, images: Sequence[Image]) -> dict[str, str]:
        """Return the group of each key with the classes of its images: "male-white fake"."""
        groups, labels = self.of_keys(images), defaultdict[str, set[int]](set)
        for image in images:
            labels[image.key].add(image.label)
        return {
            key: f"{groups[key]} {'+'.join(CLASSES[label] for label in sorted(of_key))}"
            for key, of_key in labels.items()
        }

    def of_lists(
        self, lists: Mapping[str, Collection[str]], images: Sequence[Image]
    ) -> dict[str, Cells]:
        """Return how many images of each group and class lists have; copies of one count once.

        Raises:
            UnknownName, DataError: as `of_keys`.
        """
        chosen: dict[str, tuple[Image, ...]] = {}
        for name, keys in lists.items():
            others = frozenset(key for other in lists if other != name for key in lists[other])
            chosen[name] = match(images, frozenset(keys), others).images
        groups = self.of_keys([image for of_list in chosen.values() for image in of_list])
        cells: dict[str, Cells] = {}
        for name, of_list in chosen.items():
            once = dict.fromkeys((image.key, image.label) for image in of_list)
            cells[name] = Cells.of([groups[key] for key, _ in once], [label for _, label in once])
        return cells
