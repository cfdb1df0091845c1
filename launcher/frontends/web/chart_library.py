"""The chart library of the pages: plotly.js, from the Python package plotly of the extra `web`.

Its Python code is not used. The file is sent by this server, so a page loads nothing from the internet.
"""

import gzip
import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from launcher.system.installation import install_command

PACKAGE, FILE = "plotly", "package_data/plotly.min.js"
ADDRESS = "static/plotly.min.js"  # below the root
# the file adds rules for its maps to a page without an element of this ID; our policy would refuse them with an error
_STYLE_ID = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')
_LEVEL = 6  # level of gzip: 9 takes twice as long for 1 % less


class ChartLibrary(NamedTuple):
    """The file of the library."""

    path: Path
    version: str  # digest of the library's content
    style_ids: tuple[str, ...] = ()  # IDs of elements for which the library adds no rules to a page

    @property
    def address(self) -> str:
        """Its address below the root; another file has another address."""
        return f"{ADDRESS}?v={self.version}"


@cache
def chart_library() -> ChartLibrary | None:
    """Return the library, or None if its package is not installed."""
    try:
        spec = find_spec(PACKAGE)
    except (ImportError, ValueError):  # ValueError: a module of that name without a spec
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, FILE)
        try:
            content = path.read_bytes()
        except OSError:
            continue
        ids = (match.decode() for match in dict.fromkeys(_STYLE_ID.findall(content)))
        return ChartLibrary(path, hashlib.sha256(content).hexdigest()[:12], tuple(ids))
    return None


def missing_library() -> str:
    """Return why pages have no charts, and the command that repairs it; "" if they have."""
    if chart_library() is not None:
        return ""
    return (
        f"The package {PACKAGE} is not installed, so there is no chart. "
        f"To install it: {install_command('web')}"
    )


@cache
def compressed_library() -> bytes:
    """Return the content of the library as gzip; b"" if it is not installed."""
    library = chart_library()
    return b"" if library is None else gzip.compress(library.path.read_bytes(), _LEVEL, mtime=0)
