"""Class folders: where the images of classes are, and which classes exist, without torch.

A data set lies as torchvision keeps it, or as folders: `train/<class>/` with `test/<class>/`, or
`<class>/` alone, which is then divided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from trueface.runtime.errors import DataError, UnknownName, UsageError
from trueface.runtime.ids import DataId, parse_data

MODIFIERS = ("all",)
ADVICE = "it needs train/<class>/ and test/<class>/ with images"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """A sort of data set."""

    summary: str
    packed: str = ""  # folder in which torchvision keeps its files; "": it knows none
    names: tuple[str, ...] = ()  # of the classes in these files


SORTS: Mapping[str, Sort] = MappingProxyType(
    {
        "cifar10": Sort(
            summary="CIFAR-10",
            packed="cifar-10-batches-py",
            names=(
                "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                "truck",
            ),
        ),
        "fashion": Sort(
            summary="Fashion-MNIST",
            packed="FashionMNIST/raw",
            names=(
                "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                "Sneaker", "Bag", "Ankle boot",
            ),
        ),
        "folders": Sort(summary="a folder a class"),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A data set on disk."""

    sort: str
    root: Path
    packed: bool  # torchvision's files, not folders
    divided: bool  # train/ and test/ are there; False: one folder, to be divided
    names: tuple[str, ...]  # of the classes, in their order


def validated(data: DataId) -> DataId:
    """Return a data ID whose words are known.

    Raises:
        UnknownName: an unknown data set or modifier.
    """
    for part in data:
        if part.subset not in SORTS:
            raise UnknownName("data set", part.subset, SORTS)
        if part.modifier not in MODIFIERS:
            raise UnknownName("modifier", part.modifier, MODIFIERS)
    return data


def sort_of(data: str) -> str:
    """Return the one data set that a data ID names.

    Raises:
        UsageError: it names several, or none that is known.
    """
    sorts = {part.subset for part in validated(parse_data(data))}
    if len(sorts) > 1:
        raise UsageError(f"{data} names several data sets, and a network is trained on one")
    return sorts.pop()


def find(sort: str, root: Path) -> Place:
    """Return the data set of some sort in a folder.

    Raises:
        DataError: there is none.
    """
    packed = bool(SORTS[sort].packed) and (root / SORTS[sort].packed).is_dir()
    divided = packed or (root / "train").is_dir()
    if not root.is_dir():
        raise DataError(f"there is no data folder {root}")
    if divided and not packed and not (root / "test").is_dir():
        raise DataError(f"{root} has a folder train and none called test: {ADVICE}")
    if not divided and sort != "folders":
        files = f"torchvision's {SORTS[sort].packed}/, or "
        raise DataError(f"{root} holds no {SORTS[sort].summary}: it needs {files}{ADVICE[9:]}")
    names = SORTS[sort].names if packed else _folders(root / "train" if divided else root)
    if len(names) < 2:
        raise DataError(
            f"{root} has {len(names)} folder of a class, and two at least are needed: {ADVICE}"
        )
    return Place(sort=sort, root=root, packed=packed, divided=divided, names=names)


def number(names: Sequence[str], wanted: int | str) -> int:
    """Return the place of a class in their order, given its name, or that place.

    Raises:
        UsageError: there is no such class; says which there are.
    """
    if str(wanted) in names:
        return names.index(str(wanted))
    try:
        place = int(wanted)
    except ValueError:
        place = -1
    if not 0 <= place < len(names):
        listed = ", ".join(f"{at} {name}" for at, name in enumerate(names))
        raise UsageError(f"there is no class {wanted!r} to forget; there are {listed}")
    return place


def _folders(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted as torchvision sorts them."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
