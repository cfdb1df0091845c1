"""The groups of people in a model's images: the facts that checks judge; nothing in here reads a file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trueface.data.attributes.cells import UNKNOWN, Cells


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedGroups:
    """One test by one column of groups, real images and fakes together."""

    __test__ = False  # not a test case, whatever its name

    data: str
    by: str
    cells: Cells
    gap: float | None  # of the FPR at threshold .5, in percent; None: not defined
    floor: float | None  # 95 % point of the gap when groups are shuffled within classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups of a model's training and test images, where its settings name attributes."""

    files: tuple[str, ...]
    train: Mapping[str, Cells]  # by column
    tests: tuple[TestedGroups, ...]
    train_trouble: str = ""  # why `train` is empty
    test_trouble: str = ""  # why `tests` lacks some


def dependence(cells: Cells) -> float:
    """Return Cramér's V between group and class in 0 … 1, corrected for its bias.

    Without the correction, eight groups of 400 images that depend on nothing have .13. Images without
    a group are left out; 0 where there are fewer than two groups or classes.

    Source: W. Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", J. of the Korean
    Statistical Society 42(3), 2013.
    """
    rows = [counts for name, counts in cells.counts.items() if name != UNKNOWN and any(counts)]
    classes = [sum(column) for column in zip(*rows, strict=True)]
    total, size = sum(classes), len(rows)
    if size < 2 or not all(classes) or total < 2:
        return 0.0
    squares = sum(
        (count - sum(row) * of_class / total) ** 2 / (sum(row) * of_class / total)
        for row in rows
        for count, of_class in zip(row, classes, strict=True)
    )
    phi = max(squares / total - (size - 1) / (total - 1), 0.0)
    least = min(size - (size - 1) ** 2 / (total - 1), 2 - 1 / (total - 1)) - 1
    return min(math.sqrt(phi / least), 1.0) if least > 0 else 0.0
