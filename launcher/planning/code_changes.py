"""Jobs that were queued before the code changed and that differ from a plan in nothing else.

A hash does not tell what went into it. Whether only the code differs is found by trying: with the
code that the queue remembers of a job, and of each job that it needs, its hash must come out as the
queue has it.
"""

import json
from collections.abc import Iterable, Mapping

from launcher.kind_interface import Kind
from launcher.planning.identity import Code, Identity
from launcher.planning.plan import Plan, PlannedJob
from launcher.store.rows import JobRow


def changed_in_code_alone(plan: Plan, rows: Mapping[str, JobRow]) -> frozenset[str]:
    """Return the names of the jobs that the queue knows with other code, and with nothing else changed.

    A setting that the queue knows nothing of and that has its default counts as code: the version
    that queued the job had no such setting.

    Args:
        plan: the jobs as they would be queued now, those that `phases` leaves out among them.
        rows: the run's jobs in the queue, by name.
    """
    if all(_agrees(job, rows) for job in _known(plan, rows)):
        return frozenset()
    earlier = _EarlierHashes(plan.kinds, rows)
    return frozenset(
        job.name
        for job in _known(plan, rows)
        if not _agrees(job, rows) and earlier.of(job.identity) == rows[job.name].hash
    )


def _known(plan: Plan, rows: Mapping[str, JobRow]) -> Iterable[PlannedJob]:
    return (job for job in (*plan.jobs, *plan.left_out) if job.name in rows)


def _agrees(job: PlannedJob, rows: Mapping[str, JobRow]) -> bool:
    return rows[job.name].hash == job.hash


class _EarlierHashes:
    """The hashes that jobs would have with the code that the queue remembers."""

    def __init__(self, kinds: Mapping[str, Kind], rows: Mapping[str, JobRow]) -> None:
        self._kinds, self._rows = kinds, rows
        self._hashes: dict[tuple[str, str], str] = {}  # (name, hash now) → hash then
        self._codes: dict[tuple[object, ...], Code] = {}  # entry and sources → the same, once

    def of(self, identity: Identity) -> str:
        """Return the hash of a job; as it is now where the queue does not know the job."""
        key = (identity.job, identity.hash)
        if key not in self._hashes:
            code, settings = identity.code, identity.settings
            if (row := self._rows.get(identity.job)) is not None:
                code = self._code(row)
                settings = _known_settings(self._kinds[identity.kind], settings, row)
            needs = [self.of(need) for need in identity.needs]
            self._hashes[key] = identity.digest(code, settings, needs)
        return self._hashes[key]

    def _code(self, row: JobRow) -> Code:
        """Return the code of a row; the jobs of a kind share it, and its text is made once."""
        key = (row.spec.entry, *row.spec.sources.items())
        if key not in self._codes:
            self._codes[key] = Code(row.spec.entry, row.spec.sources)
        return self._codes[key]


def _known_settings(kind: Kind, settings: str, row: JobRow) -> str:
    """Return settings, as JSON, without those that are new since the job was queued."""
    values = json.loads(settings)
    new = {key for key in values if key not in row.spec.settings and _is_default(kind, key, values)}
    if not new:
        return settings
    return json.dumps({key: values[key] for key in values if key not in new}, sort_keys=True)


def _is_default(kind: Kind, key: str, values: Mapping[str, object]) -> bool:
    field = kind.settings.model_fields[key]
    return (
        not field.is_required()
        and _plain(field.get_default(call_default_factory=True)) == values[key]
    )


def _plain(value: object) -> object:
    """Return a default as JSON gives it back."""
    return json.loads(json.dumps(value, default=str))
