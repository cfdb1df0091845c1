"""The filter of listed runs: a text of names and settings, such as `night* lr=0.1 method=pgu`.

The values of all settings of a run's jobs are read once; later reads add only new jobs.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from launcher.experiments.results.model_columns import settings_of
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.params import to_param_value
from launcher.queue.store.listings import ListingQueries
from launcher.queue.store.queue import Store
from launcher.system.errors import list_known_names, meant
from launcher.system.text import sanitize_terminal

LONGEST = 200  # characters
_WILD = frozenset("*?[")

# settings of a run's jobs: name → their values, as `canonical` has them
Settings = Mapping[str, Collection[str]]


class RunFilter(NamedTuple):
    """The conditions for listing a run; all of them must hold."""

    text: str = ""
    names: tuple[str, ...] = ()  # globs of the run's name
    settings: tuple[tuple[str, str], ...] = ()  # name and value, each of some job of the run


def read_filter(text: str) -> RunFilter:
    """Parse the text of a filter; only the first `=` of a word separates name and value."""
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
    """Return a value of a setting as a text that equal values share: 0.1, "0.1" and 1e-1 give the same."""
    plain = to_param_value(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    if plain is None:
        return "none"
    if isinstance(plain, str):
        return plain.casefold()
    # two long integers differ in their last digits
    return str(plain) if isinstance(plain, int) else f"{plain:.12g}"


def matches(run_filter: RunFilter, name: str, settings: Settings) -> bool:
    """Return whether a run is listed.

    Args:
        run_filter: the filter.
        name: name of the run.
        settings: settings of the run's jobs.
    """
    return all(fnmatchcase(name, glob) for glob in run_filter.names) and all(
        _has_value(settings.get(key, ()), value) for key, value in run_filter.settings
    )


def _has_value(values: Collection[str], wanted_text: str) -> bool:
    text = canonical(wanted_text)
    if _WILD & set(wanted_text):
        return any(fnmatchcase(value, text) for value in values)
    return text in values


def unknown_settings(run_filter: RunFilter, known_names: Iterable[str]) -> list[str]:
    """Return a message for each setting of a filter that no job has, with similar known settings."""
    names = sorted(set(known_names))
    lines = []
    for key, _ in run_filter.settings:
        if key not in names:
            hint = f"{meant(key, names)} ({list_known_names(key, names)})"
            lines.append(sanitize_terminal(f"no job has a setting {key!r}{hint}"))
    return lines


_FIELDS = ("kind", "model", "data")  # fields of a job, beside its settings
# jobs of a run agree in most of their settings; typed, as True and 1 are equal, and not the same text
_cached_canonical = lru_cache(maxsize=10_000, typed=True)(canonical)


# settings in a run: job → fingerprint of its settings, and setting → values of all these jobs
_Run = tuple[Mapping[int, int], Mapping[str, set[str]]]
_NOTHING: _Run = ({}, {})


class SettingsIndex:
    """The settings of runs. Use it from one thread; its return values can be read from any."""

    def __init__(self, home: Home) -> None:
        """Create an empty index.

        Args:
            home: whose runs.
        """
        self._home = home
        self._runs: dict[int, _Run] = {}

    def read(self) -> Mapping[int, Settings]:
        """Return run → setting → its values, as `canonical` has them.

        Raises:
            StoreError: the queue cannot be read.
        """
        with closing(Store(self._home, reading=True)) as store:
            listing = ListingQueries(store.database)
            self._runs = {
                run: _update_run(self._runs.get(run, _NOTHING), jobs, listing)
                for run, jobs in listing.settings_fingerprints().items()
            }
        return {run: values for run, (_, values) in self._runs.items()}


def _update_run(known_run: _Run, jobs: Mapping[int, int], listing: ListingQueries) -> _Run:
    """Return the settings of a run that has these jobs now."""
    before, settings = known_run
    if before == jobs:
        return known_run
    if any(jobs.get(job) != digest for job, digest in before.items()):
        before, settings = _NOTHING  # a job was changed or is gone, and so may its values be
    values = {name: {*those} for name, those in settings.items()}
    for record in listing.spec_records(job for job in jobs if job not in before):
        for name, value in _settings(record).items():
            # lists and mappings have no hash
            text = (_cached_canonical if isinstance(value, str | int | float) else canonical)(value)
            if len(text) <= LONGEST:
                values.setdefault(name, set()).add(text)
    return jobs, values


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a stored spec; other faults of the spec do not matter here."""
    settings, argv = record.get("settings"), record.get("argv")
    spec = Spec(
        name="",
        kind=str(record.get("kind", "")),
        role="",
        run="",
        root="",
        argv=tuple(map(str, argv)) if isinstance(argv, list) else (),
        settings=settings if isinstance(settings, dict) else {},
    )
    fields = {name: record[name] for name in _FIELDS if record.get(name)}
    return {**fields, **settings_of(spec)}
