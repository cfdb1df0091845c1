"""How many images of each class a group has: the cells of a data set, and those that are small."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEW = 30  # images; rates of fewer are hardly known: ±18 points at 30, Wilson's interval
UNKNOWN = "unknown"  # the group of images that have none
CLASSES = ("real", "fake")
GROUPS_BY = "intersec"  # the column of groups, unless another is named


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The images of a list by group and class."""

    counts: Mapping[str, tuple[int, int]]  # group, sorted → real, fake; `UNKNOWN` at the end

    @classmethod
    def of(cls, groups: Sequence[str | None], labels: Sequence[int]) -> "Cells":
        """Count images.

        Args:
            groups: of each image; None: it has none.
            labels: 1 fake, 0 real.
        """
        known = (UNKNOWN if group is None else group for group in groups)
        cells = Counter(zip(known, labels, strict=True))
        return cls(counts={name: (cells[name, 0], cells[name, 1]) for name in named(groups)})

    @property
    def few(self) -> dict[str, tuple[int, int]]:
        """The groups with fewer than `FEW` images of a class."""
        return {name: counts for name, counts in self.counts.items() if min(counts) < FEW}


def named(groups: Sequence[str | None]) -> tuple[str, ...]:
    """Return the groups of images, sorted; `UNKNOWN` stands at the end where an image has none."""
    known = {group for group in groups if group is not None}
    return (*sorted(known), *((UNKNOWN,) if None in groups and UNKNOWN not in known else ()))


def numbered(groups: Sequence[str | None], names: Sequence[str]) -> list[int]:
    """Return the number of each image's group among the names that `named` gave."""
    places = {name: place for place, name in enumerate(names)}
    return [places[UNKNOWN if group is None else group] for group in groups]
