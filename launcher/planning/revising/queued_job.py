"""A job of the queue together with its kind: what its task file said of it, as far as the queue knows."""

from dataclasses import dataclass, replace
from pathlib import Path

from launcher.draft import Draft
from launcher.errors import UsageError
from launcher.ids import read_words
from launcher.job import CPU, FUNCTION, Resources
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.kinds import COMMAND, find_kinds
from launcher.planning.plan import resources_of
from launcher.store.rows import JobRow
from launcher.system.files import Json

ADDED = "add"  # the run of programs that `launcher add` queued


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job that was queued, and the kind that queued it."""

    row: JobRow
    kind: Kind  # with the words of the user

    @property
    def is_program(self) -> bool:
        """Whether it is a command line, and no function of a laboratory."""
        return not self.row.spec.entry

    @property
    def is_added(self) -> bool:
        """Whether it came from `launcher add`, and from no task file."""
        return self.is_program and self.row.run == ADDED

    @property
    def values(self) -> dict[str, Json]:
        """Its settings; of a program that was added, its words."""
        spec = self.row.spec
        if self.is_program and not spec.settings:
            return {"argv": list(spec.argv)}
        return dict(spec.settings)

    @property
    def request(self) -> JobRequest:
        """What it asked for, without what follows from that."""
        asked, terms = self.row.spec.resources, self.row.spec.terms
        role = Role(self.row.spec.role)
        learns = resources_of(JobRequest(), role, has_entry=True).accelerated
        gpus = asked.gpus if asked.gpus > 1 or (asked.accelerated and not learns) else None
        device = asked.device
        if self.is_program and device == "cuda":
            if gpus is None and asked.min_vram is None and not asked.exclusive:
                gpus = asked.gpus
            device = "auto"
        elif self.is_added and device == CPU:
            device = "auto"
        return JobRequest(
            resources=replace(asked, device=device, accelerated=False),
            terms=terms,
            priority=self.row.priority,
            gpus=gpus,
        )

    def resources(self, request: JobRequest) -> Resources:
        """Return what it asks of the machine by a request."""
        if self.is_added:
            device = request.resources.device
            if device == "auto":
                device = "cuda" if request.wants_gpu else CPU
            return replace(request.resources, device=device)
        return resources_of(request, Role(self.row.spec.role), has_entry=not self.is_program)

    def draft(self, values: dict[str, Json], request: JobRequest) -> Draft:
        """Return the job as its kind is asked about it."""
        spec = self.row.spec
        return Draft(
            kind=spec.kind,
            run=spec.run,
            run_folder=spec.run_folder,
            folder=Path(spec.root),
            model=spec.model,
            base=spec.base,
            data=spec.data,
            images=spec.images,
            name=spec.name.partition("/")[2] if spec.model is None else None,
            settings=values,
            words=read_words(spec.words),
            device=request.resources.device,
            gpus=request.resources.gpus,
        )


def queued_job(row: JobRow) -> QueuedJob:
    """Return a job with its kind.

    Raises:
        UsageError: the kind is not installed, or cannot be loaded; or a newer launcher queued the job.
    """
    spec = row.spec
    if not spec.role:
        raise UsageError(f"job {row.id} was queued by a newer launcher: change it with that")
    if row.kind == COMMAND.name:
        return QueuedJob(row=row, kind=COMMAND)
    if row.kind == FUNCTION:
        raise UsageError(
            f"job {row.id} calls a function of Python, whose options were given when it was submitted: "
            f"`launcher cancel {row.id}`, and submit it again"
        )
    available = find_kinds([row.kind])
    if why := available.unusable.get(row.kind):
        raise UsageError(f"job {row.id} cannot be changed: {why}")
    if row.kind not in available.kinds:
        raise UsageError(
            f"job {row.id} cannot be changed: kind {row.kind!r} is not installed here; "
            "use the environment that queued it"
        )
    return QueuedJob(row=row, kind=available.kinds[row.kind].with_words(read_words(spec.words)))
