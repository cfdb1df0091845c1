"""Regular expressions of modules that many commands import, compiled at their first use.

A short command uses few of those that its modules define. To compile all of them took an eighth of its CPU time.
"""

import re
from typing import Any, AnyStr, cast

_arguments: list[tuple[str | bytes, int]] = []  # those of `re.compile` for each pattern


class _LazyPattern:
    """Compiles the expression as soon as one of its methods is read."""

    def __init__(self, text: str | bytes, flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:  # methods of re.Pattern have different types
        value = getattr(re.compile(self._text, self._flags), name)
        setattr(self, name, value)  # later calls reach the compiled pattern directly
        return value


def compile_lazily(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return a pattern with the methods of `re.compile(text, flags)`.

    Functions of `re` do not accept it in the place of a compiled pattern, and it is not the `re` of its matches.

    Args:
        text: The expression. A fault in it raises `re.error` at the first use.
        flags: As for `re.compile`.
    """
    _arguments.append((text, flags))
    return cast("re.Pattern[AnyStr]", _LazyPattern(text, flags))


def compile_all() -> None:
    """Compile all patterns of imported modules, so that forks of this process share them."""
    for text, flags in _arguments:
        re.compile(text, flags)  # kept in the cache of `re`
