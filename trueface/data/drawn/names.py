"""Names of a drawn set's images, and which part each belongs to."""

from collections.abc import Mapping, Sequence

from trueface.data.drawn.settings import CLASSES, PARTS, TRAIN_SHARE
from trueface.data.made.folders import stem
from trueface.runtime.rng import derive


def numbered(count: int) -> tuple[str, ...]:
    """Return names of so many images, without suffix: their numbers in as many digits each."""
    digits = max(5, len(str(count - 1)))
    return tuple(f"{number:0{digits}d}" for number in range(count))


def parts_of(names: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Divide images into the parts A, B and C: 70, 20 and 10 %; see `divided`.

    The original cuts the sorted list instead, which puts neighbours, such as frames of a film, into one
    part.
    """
    return divided(names, PARTS, seed)


def divided(
    names: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Divide images by the order of a hash of their names, which suffixes do not change.

    Args:
        names: of the images, each once.
        shares: of the parts, which sum to 1; what rounding leaves is in the last one.
        seed: of the order.
    """
    ordered = sorted(names, key=lambda name: (derive(f"part/{stem(name)}", seed), name))
    parts, start, share = {}, 0, 0.0
    for part, own in shares.items():
        share += own
        end = round(len(ordered) * share)
        parts[part], start = tuple(sorted(ordered[start:end])), end
    return parts


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
