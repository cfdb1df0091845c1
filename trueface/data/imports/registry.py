"""Layouts of data sets by name: a file of this room each.

A layout is a class with two functions below `@register_layout`: `fits` looks at a folder without
listing all of it, `images` lists it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar, cast

from trueface.data.imports.images import ImportedImage, contents
from trueface.runtime.declarations import read_declarations
from trueface.runtime.errors import DataError, UnknownName

AUTO = "auto"
Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutOptions:
    """What a person says of a set that its folders do not say."""

    real: frozenset[str] = frozenset()  # classes or sources that are real


class Layout(Protocol):
    """How one data set, or a family of them, lies on disk."""

    def fits(self, folder: Path) -> bool:
        """Tell whether a folder has this layout, by a few of its entries."""

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield every image.

        Raises:
            DataError: the folder, or a table in it, cannot be read as this layout.
        """


@dataclass(frozen=True, slots=True)
class LayoutSpec:
    """A layout: its name, and in words what it is and how a folder must look."""

    name: str
    summary: str
    expects: str

    def __call__(self, layout: Class) -> Class:
        """Leave the decorated class as it is."""
        return layout


def register_layout(name: str, *, summary: str, expects: str) -> LayoutSpec:
    """Declare a layout; the class below it is a `Layout`.

    Args:
        name: as people write it.
        summary: which data sets lie so.
        expects: what a folder must hold, for messages.
    """
    return LayoutSpec(name, summary, expects)


DECLARED = read_declarations("trueface.data.imports", "register_layout", modules=(__name__,))
# the strictest first: plain folders fit much
ORDER = ("deepfakebench", "genimage", "truefake", "folders", "imagefolder", "csv")
_SPECS = {name: DECLARED[name].pass_to(register_layout) for name in DECLARED}
LAYOUTS: Mapping[str, LayoutSpec] = MappingProxyType(
    {name: _SPECS[name] for name in (*ORDER, *sorted(_SPECS.keys() - set(ORDER)))}
)


def load(name: str) -> Layout:
    """Import the file of a layout; return the layout."""
    return cast(Layout, DECLARED[name].load()())


def fitting(folder: Path) -> str:
    """Return the first layout that a folder fits; "" if there is none."""
    return next((name for name in LAYOUTS if load(name).fits(folder)), "")


def chosen(name: str, folder: Path) -> str:
    """Return the layout that is meant by its name, or by `auto`, for a folder that fits it.

    Raises:
        UnknownName: there is no such layout.
        DataError: the folder does not exist, or does not look so.
    """
    if name != AUTO and name not in LAYOUTS:
        raise UnknownName("layout", name, (*LAYOUTS, AUTO))
    if not folder.exists():
        raise DataError(f"no {folder}; name the folder of the data set")
    if name != AUTO and load(name).fits(folder):
        return name
    fits = fitting(folder)
    if name == AUTO:
        if fits:
            return fits
        known = "; ".join(f"{spec.name}: {spec.expects}" for spec in LAYOUTS.values())
        raise DataError(f"{folder} holds {contents(folder)}, which fits no layout ({known})")
    hint = f"; it fits {fits}: trueface import {fits} {folder}" if fits else ""
    raise DataError(
        f"{folder} is not laid out as {name}: expected {LAYOUTS[name].expects}; "
        f"it holds {contents(folder)}{hint}"
    )
