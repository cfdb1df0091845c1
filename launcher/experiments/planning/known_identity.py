"""The identities of planned jobs as recorded in the queue, without plug-ins that came later and that they do not use.

A new plug-in may change the hash of jobs that do not use it. Its settings become settings of all jobs of a kind, and
its module becomes code of the jobs that go through its package. Such a job keeps the hash that it had.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import roots_of
from launcher.experiments.planning.plan import JobCode, JobIdentity, Plan, PlannedJob
from launcher.experiments.taskfile.settings import default_value, is_default
from launcher.provenance.code_identity import WHOLE_CODE
from launcher.queue.store.rows import JobRow
from launcher.system.files import Json


class _QueuedIdentity(NamedTuple):
    """The code and the settings of a job as a row of the queue has them."""

    code: JobCode
    later_settings: frozenset[str]  # settings that came after the job was queued, at their default
    removed_settings: frozenset[str]  # settings whose value was None and that no longer exist


class KnownIdentities:
    """The identities that the jobs of a plan get; those of a job's needs are decided before its own."""

    def __init__(self, plan: Plan, rows: Mapping[str, JobRow]) -> None:
        """Begin with nothing decided.

        Args:
            plan: the jobs as they would be queued now.
            rows: the run's jobs in the queue, by name.
        """
        self._plan, self._rows = plan, rows
        self._planned = {job.name for job in (*plan.jobs, *plan.left_out)}
        self._decided: dict[tuple[str, str], JobIdentity] = {}  # (job, hash as planned) → identity
        # jobs with the hash that they had
        self._unchanged: dict[str, tuple[_QueuedIdentity, bool]] = {}
        if plan.index is not None:  # thousands of jobs have the same code
            self._code, self._words = cache(plan.index.code), cache(plan.index.words)

    def identify_as_queued(self, job: PlannedJob) -> PlannedJob:
        """Return a job as recorded in the queue; with the hash of its row, if only unused plug-ins are new."""
        whole = self.identify_as_new(job)
        identity = self._match_row(whole.identity, job.settings)
        return whole if identity is whole.identity else whole._replace(identity=identity)

    def identify_as_new(self, job: PlannedJob) -> PlannedJob:
        """Return a job as it is queued when it has to run: with all that it would be done with now."""
        identity = self._with_needs(job.identity)
        return job if identity is job.identity else job._replace(identity=identity)

    def decide(self, planned_job: PlannedJob, job: PlannedJob) -> None:
        """Record the identity that the queue will have for a planned job."""
        self._decided[planned_job.name, planned_job.hash] = job.identity
        if job.hash == self.identify_as_new(planned_job).hash:
            self._unchanged.pop(planned_job.name, None)

    def _with_needs(self, identity: JobIdentity) -> JobIdentity:
        needs = tuple([self._identity_of_need(need) for need in identity.dependencies])
        alike = all(now is before for now, before in zip(needs, identity.dependencies, strict=True))
        return identity if alike else replace(identity, dependencies=needs)

    def _identity_of_need(self, need: JobIdentity) -> JobIdentity:
        """Return the identity of a job that others need, or of the choice that it makes for one model alone."""
        key = (need.job, need.hash)
        if key not in self._decided:
            identity = self._with_needs(need)
            if need.job in self._unchanged:
                known, with_gone = self._unchanged[need.job]
                identity = _with_queued_identity(identity, known, with_gone=with_gone)
            elif need.job not in self._planned:  # a phase that is left out needs the job
                settings = _with_defaults(self._plan.kinds[need.kind], json.loads(need.settings))
                identity = self._match_row(identity, settings)
            self._decided[key] = identity
        return self._decided[key]

    def _match_row(self, identity: JobIdentity, settings: Mapping[str, Json]) -> JobIdentity:
        """Return the identity with the hash of its row, if only unused plug-ins are new. Otherwise it is unchanged."""
        row = self._rows.get(identity.job)
        if row is None or row.hash == identity.hash or not identity.code.entry:
            return identity
        known = self._read_row(identity, settings, row)
        if known is None:
            return identity
        for with_gone in (False, True):
            matched = _with_queued_identity(identity, known, with_gone=with_gone)
            if matched.hash == row.hash:
                self._unchanged[identity.job] = known, with_gone
                return matched
        return identity

    def _read_row(
        self, identity: JobIdentity, settings: Mapping[str, Json], row: JobRow
    ) -> _QueuedIdentity | None:
        """Return the identity of a job in a row, or None if its code differs or a new setting may matter to it."""
        sources = row.spec.sources
        if self._plan.index is None or WHOLE_CODE not in sources:
            return None
        kind = self._plan.kinds[identity.kind]
        later = later_settings(kind, json.loads(identity.settings), row)
        gone = frozenset(
            name
            for name, value in row.spec.settings.items()
            if value is None and name not in kind.settings.model_fields
        )
        modules = frozenset(sources) - {WHOLE_CODE}
        roots = roots_of(kind, {key: settings[key] for key in settings if key not in later})
        if self._code(identity.code.entry, roots, modules)[WHOLE_CODE] != sources[WHOLE_CODE]:
            return None
        # code that names a setting may have another default for one that is not there
        if (later or gone) and not self._words(roots, modules).isdisjoint(later | gone):
            return None
        return _QueuedIdentity(JobCode(row.spec.entry, sources), later, gone)


def later_settings(kind: Kind, values: Mapping[str, Json], row: JobRow) -> frozenset[str]:
    """Return which settings came after a job was queued and have their default.

    Args:
        kind: kind of the job.
        values: its settings now.
        row: row of the job in the queue.
    """
    return frozenset(
        name for name in values if name not in row.spec.settings and is_default(kind, name, values)
    )


def without_settings(settings: str, names: frozenset[str]) -> str:
    """Return settings, as JSON, without some."""
    if not names:
        return settings
    values = json.loads(settings)
    return json.dumps({key: values[key] for key in values if key not in names}, sort_keys=True)


def _with_queued_identity(
    identity: JobIdentity, queued_identity: _QueuedIdentity, *, with_gone: bool
) -> JobIdentity:
    settings = without_settings(identity.settings, queued_identity.later_settings)
    if with_gone and queued_identity.removed_settings:
        values = json.loads(settings) | dict.fromkeys(queued_identity.removed_settings)
        settings = json.dumps(values, sort_keys=True)
    return replace(identity, code=queued_identity.code, settings=settings)


def _with_defaults(kind: Kind, values: Mapping[str, Json]) -> dict[str, Json]:
    """Return the settings of a job, those that have their default among them."""
    defaults = {
        name: default_value(field)
        for name, field in kind.settings.model_fields.items()
        if not field.is_required()
    }
    return {**defaults, **values}
