"""Which values each setting has in the jobs of each run: read once, then only what is new."""

from dataclasses import dataclass, field

from launcher.job import Spec
from launcher.results.sweeps import settings_of
from launcher.store.listing.run_listing import RunListing
from launcher.store.queue import Store
from launcher.web.runs.run_filter import canonical

LONGEST = 200  # characters of a value; a longer one is nothing to filter by
_FIELDS = ("kind", "model", "data")  # of a job, beside its settings


@dataclass(slots=True)
class _Run:
    """A run's jobs that were read, and their settings."""

    jobs: dict[int, int] = field(default_factory=dict)  # job → what tells its settings from others
    values: dict[str, set[str]] = field(default_factory=dict)


class SettingsIndex:
    """Knows the settings of runs; used from one thread."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._runs: dict[int, _Run] = {}
        self._mark: object = None

    def of_runs(self, store: Store, mark: object) -> dict[int, dict[str, set[str]]]:
        """Return run → setting → its values, as `canonical` has them.

        Args:
            store: the queue.
            mark: of the queue: with the same one nothing is read again.
        """
        if mark is None or mark != self._mark:
            self._renew(store)
            self._mark = mark
        return {number: run.values for number, run in self._runs.items()}

    def _renew(self, store: Store) -> None:
        fingerprints = RunListing(store.database).fingerprints()
        for gone in self._runs.keys() - fingerprints.keys():
            del self._runs[gone]
        for number, jobs in fingerprints.items():
            run = self._runs.setdefault(number, _Run())
            if any(jobs.get(job) != before for job, before in run.jobs.items()):
                run.values = {}  # one was changed, or is gone: its values may be, too
                run.jobs = {}
            new = [job for job in jobs if job not in run.jobs]
            for row in store.read.jobs_by_id(new) if new else ():
                _take_in(run.values, row.plain_spec)
            run.jobs = jobs


def _take_in(values: dict[str, set[str]], spec: Spec) -> None:
    settings = {
        **{name: value for name in _FIELDS if (value := getattr(spec, name))},
        **settings_of(spec),
    }
    for name, value in settings.items():
        text = canonical(value)
        if len(text) <= LONGEST:
            values.setdefault(name, set()).add(text)
