"""Which values each setting has in the jobs of each run: read once, then only what is new."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from launcher.job import Spec
from launcher.results.sweeps import settings_of
from launcher.store.queue import Store
from launcher.store.screen_queries import RunListing
from launcher.system.paths import Home
from launcher.web.runs.run_filter import Settings, canonical

LONGEST = 200  # characters of a value; a longer one is nothing to filter by
_FIELDS = ("kind", "model", "data")  # of a job, beside its settings
_kept = lru_cache(maxsize=10_000)(canonical)  # jobs of a run agree in most of their settings


@dataclass(slots=True)
class _Run:
    """A run's jobs that were read, and their settings."""

    jobs: dict[int, int] = field(default_factory=dict)  # job → what tells its settings from others
    values: dict[str, set[str]] = field(default_factory=dict)


class SettingsIndex:
    """Knows the settings of runs; used from one thread, but what it returns may be read by any."""

    def __init__(self, home: Home) -> None:
        """Know nothing yet.

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
        store = Store(self._home, reading=True)
        try:
            self._renew(RunListing(store.database))
        finally:
            store.close()
        return {number: run.values for number, run in self._runs.items()}

    def _renew(self, listing: RunListing) -> None:
        fingerprints = listing.fingerprints()
        for gone in self._runs.keys() - fingerprints.keys():
            del self._runs[gone]
        for number, jobs in fingerprints.items():
            run = self._runs.setdefault(number, _Run())
            if run.jobs == jobs:
                continue
            if any(jobs.get(job) != before for job, before in run.jobs.items()):
                run.jobs, run.values = (
                    {},
                    {},
                )  # one was changed or is gone, and so may its values be
            values = {name: set(those) for name, those in run.values.items()}
            _take_in(values, listing.specs(job for job in jobs if job not in run.jobs))
            run.jobs, run.values = jobs, values


def _take_in(values: dict[str, set[str]], specs: Iterable[Mapping[str, Any]]) -> None:
    for record in specs:
        for name, value in _settings(record).items():
            text = _text(value)
            if len(text) <= LONGEST:
                values.setdefault(name, set()).add(text)


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a stored spec; whatever else is odd in it does not matter here."""
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


def _text(value: object) -> str:
    # True and 1 are equal, and not the same text
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return _kept(value) if plain else canonical(value)
