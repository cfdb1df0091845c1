"""The names of a library's networks, read from the text of its files: nothing of it is imported."""

import importlib.util
import re
from functools import lru_cache
from pathlib import Path

# torchvision writes `@register_model()` and one more decorator, which may take several lines
_DECLARED = re.compile(
    r"^@register_model(?:\([^)]*\))?\n(?:@\w[^\n]*\n(?:[ )][^\n]*\n)*)*def (\w+)\(", re.MULTILINE
)
_RENAMED = re.compile(
    r"^register_model_deprecations\(__name__, \{(.*?)^\}", re.MULTILINE | re.DOTALL
)
_PAIR = re.compile(r"""['"](\w+)['"]: *['"]([\w.]+)['"]""")


@lru_cache(maxsize=8)
def names_of(package: str) -> frozenset[str]:
    """Return the names of the networks that a package declares; empty where it is not installed."""
    return frozenset(name for text in _texts(package) for name in _DECLARED.findall(text))


@lru_cache(maxsize=8)
def renamed_by(package: str) -> dict[str, str]:
    """Return today's names of a package's networks by their earlier ones."""
    tables = (table for text in _texts(package) for table in _RENAMED.findall(text))
    return dict(pair for table in tables for pair in _PAIR.findall(table))


@lru_cache(maxsize=2)
def _texts(package: str) -> tuple[str, ...]:
    top, *parts = package.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(spec.submodule_search_locations[0], *parts)
    return tuple(
        text
        for path in sorted(folder.glob("*.py"))
        if "register_model" in (text := path.read_text(encoding="utf-8", errors="replace"))
    )
