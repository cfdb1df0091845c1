"""Which of two launchers is the newer one: only that one takes the other's scheduler over."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import launcher
from launcher.records import Json


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A launcher as it is installed; the larger one is newer.

    Of two with the same number, as while one is developed, that with the younger file of code is
    newer. So any number of installations on one home have one order, and none takes a scheduler
    back that it has handed over.
    """

    number: tuple[int, ...]
    final: bool  # not a.1, b2, rc1 or .dev3
    suffix: str
    changed: int  # ns since 1970, when its youngest file was written; 0: nobody wrote that down


def this_version() -> Version:
    """Return the version of the code that runs here."""
    return _version(launcher.__version__, _youngest())


def version_of(record: Mapping[str, Json]) -> Version:
    """Return the version of a scheduler, as its record tells it."""
    changed = record.get("code")
    return _version(str(record.get("version", "")), changed if isinstance(changed, int) else 0)


def _version(text: str, changed: int) -> Version:
    found = re.match(r"(\d+(?:\.\d+)*)(.*)", text)
    numbers = [int(one) for one in found[1].split(".")] if found else []
    while numbers and not numbers[-1]:  # 0.3 and 0.3.0 are the same
        numbers.pop()
    suffix = found[2] if found else text
    early = re.match(r"[.-]?(a|b|rc|dev|alpha|beta)", suffix) is not None
    return Version(tuple(numbers), not early, suffix, changed)


@cache
def _youngest() -> int:
    """Return when the youngest file of our own code was written, in ns since 1970."""
    root = Path(launcher.__file__).parent
    files = [file for pattern in ("**/*.py", "**/*.sql") for file in root.glob(pattern)]
    return max((file.stat().st_mtime_ns for file in files), default=0)
