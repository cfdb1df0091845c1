"""Layouts of data sets by name: a file of this room each.

A layout is a class with two functions below `@register_layout`: `fits` looks at a folder without
listing all of it, `images` lists it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

from trueface.data.imports.images import ImportedImage, contents
from trueface.runtime.declarations import Declared, Registry
from trueface.runtime.errors import DataError, UnknownName

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutOptions:
    """What a person says of a set that its folders do not say."""

    real: frozenset[str] = frozenset()  # classes or sources that are real
    videos: bool = False  # folders with images are videos (of plain folders and ImageFolder)


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
class LayoutSpec(Declared):
    """Declares a layout; the class below it is a `Layout`."""

    name: str  # as people write it
    _: KW_ONLY
    summary: str  # which data sets lie so
    expects: str  # what a folder must hold, for messages


register_layout = LayoutSpec
_READ = Registry(
    "trueface.data.imports", LayoutSpec, decorator="register_layout", modules=(__name__,)
)
# the strictest first: plain folders fit much
ORDER = ("deepfakebench", "genimage", "truefake", "folders", "imagefolder", "csv")
LAYOUTS: Mapping[str, LayoutSpec] = MappingProxyType(
    {name: _READ[name] for name in (*ORDER, *sorted(_READ.keys() - set(ORDER)))}
)


def load(name: str) -> Layout:
    """Import the file of a layout; return the layout."""
    return cast(Layout, _READ.load(name)())


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
        known = "".join(f"\n       {spec.name}: {spec.expects}" for spec in LAYOUTS.values())
        raise DataError(f"{folder} holds {contents(folder)}, which fits no layout:{known}")
    hint = f"; it fits {fits}: trueface import {fits} {folder}" if fits else ""
    raise DataError(
        f"{folder} is not laid out as {name}: expected {LAYOUTS[name].expects}; "
        f"it holds {contents(folder)}{hint}"
    )
