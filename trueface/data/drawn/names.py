"""Names of a drawn set's images, and which part each belongs to."""

from collections.abc import Sequence

from trueface.data.drawn.settings import CLASSES, PARTS, TRAIN_SHARE
from trueface.data.made.folders import stem
from trueface.runtime.rng import derive


def numbered(count: int) -> tuple[str, ...]:
    """Return names of so many images, without suffix: their numbers in as many digits each."""
    digits = max(5, len(str(count - 1)))
    return tuple(f"{number:0{digits}d}" for number in range(count))


def parts_of(names: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Divide images into the parts A, B and C (70, 20 and 10 %), by the order of a hash of their names.

    No image is in two parts; the rest that rounding leaves is in C. The original cuts the sorted
    list instead, which puts neighbours, such as frames of a film, into one part.
    """
    ordered = sorted(names, key=lambda name: (derive(f"part/{stem(name)}", seed), name))
    ends = [round(len(ordered) * share) for share in _summed(tuple(PARTS.values()))]
    starts = (0, *ends[:-1])
    return {
        part: tuple(sorted(ordered[start:end]))
        for part, start, end in zip(PARTS, starts, ends, strict=True)
    }


def shape_files(count: int) -> tuple[tuple[str, str], ...]:
    """Return the class and the file below the data root, without suffix, of so many shapes.

    Classes take turns; the first 80 % of each are for training.
    """
    number_in_class = dict.fromkeys(CLASSES, 0)
    files = []
    for at in range(count):
        name = CLASSES[at % len(CLASSES)]
        of_class = (count - CLASSES.index(name) + len(CLASSES) - 1) // len(CLASSES)
        number, number_in_class[name] = number_in_class[name], number_in_class[name] + 1
        part = "train" if number < round(of_class * TRAIN_SHARE) else "test"
        files.append((name, f"{part}/{name}/{number:05d}"))
    return tuple(files)


def _summed(shares: Sequence[float]) -> list[float]:
    return [sum(shares[: at + 1]) for at in range(len(shares))]
