"""Which runs are listed: a text of names and settings, such as `night* lr=0.1 method=pgu`."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from launcher.errors import known_words, nearest
from launcher.results.sweeps import number, scalar
from launcher.screens.format import harmless

LONGEST = 200  # characters
_WILD = frozenset("*?[")

Settings = Mapping[
    str, Collection[str]
]  # of a run's jobs: name → their values, as `canonical` has them


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """What a run must have to be listed: each of the words."""

    text: str = ""
    names: tuple[str, ...] = ()  # globs of its name
    settings: tuple[tuple[str, str], ...] = ()  # name and value, each of some job of it


def read_filter(text: str) -> RunFilter:
    """Return the filter that a person wrote; what follows another `=` is part of a value."""
    text = text.strip()[:LONGEST]
    names, settings = [], []
    for word in text.split():
        name, equals, value = word.partition("=")
        if equals and name:
            settings.append((name, value))
        else:
            names.append(word if _WILD & set(word) else f"*{word}*")
    return RunFilter(text=text, names=tuple(names), settings=tuple(settings))


def canonical(value: object) -> str:
    """Return a value of a setting as a text that equal ones share: of 0.1, 1e-1 and "0.10" the same."""
    plain = scalar(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    if plain is None:
        return "none"
    if isinstance(plain, str):
        plain = number(plain)
    if isinstance(plain, str):
        return plain.casefold()
    try:
        return f"{float(plain):.12g}"
    except OverflowError:  # an integer of hundreds of digits
        return str(plain)


def matches(chosen: RunFilter, name: str, settings: Settings) -> bool:
    """Tell whether a run is listed.

    Args:
        chosen: which ones.
        name: of the run.
        settings: of its jobs.
    """
    return all(fnmatchcase(name, glob) for glob in chosen.names) and all(
        _has(settings.get(key, ()), value) for key, value in chosen.settings
    )


def _has(values: Collection[str], wanted: str) -> bool:
    text = canonical(wanted)
    if _WILD & set(wanted):
        return any(fnmatchcase(value, text) for value in values)
    return text in values


def unknown_settings(chosen: RunFilter, known: Iterable[str]) -> list[str]:
    """Return a line on each setting of a filter that no job has, with the nearest that some have."""
    names = sorted(set(known))
    lines = []
    for key, _ in chosen.settings:
        if key not in names:
            close = nearest(key, names)
            hint = f", did you mean {close!r}?" if close else ""
            lines.append(
                harmless(f"no job has a setting {key!r}{hint} ({known_words(key, names)})")
            )
    return lines
