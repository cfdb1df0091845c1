"""What follows when a job of the queue is changed; refused where others count on it as it is."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from launcher.errors import UsageError
from launcher.job import CPU, Resources, Spec
from launcher.job_options.registry import JobRequest, job_options
from launcher.kind_interface import Role
from launcher.kinds import find_kinds, program_cost, signature_of
from launcher.planning.job_form import (
    JobValues,
    form_of,
    is_program,
    option_text,
    own_values,
    read_form,
    was_added,
)
from launcher.planning.plan_builder import resources_of
from launcher.states import OPEN, Reason, ReasonCode, State
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.steering import ChangedJob
from launcher.taskfile.settings import spelt

_BUILT_ON = frozenset({State.DONE, State.RUNNING})


class Revision(NamedTuple):
    """A job of the queue as its owner wants it."""

    row: JobRow  # as it was when this was worked out
    spec: Spec
    changes: tuple[str, ...]  # in words: "cpus 1 → 2"
    hashes: tuple[tuple[JobRow, str], ...] = ()  # the new ones of jobs that come after a program

    @property
    def summary(self) -> str:
        """What is another, in words."""
        return ", ".join(self.changes)

    def stored(self) -> ChangedJob:
        """Return the change as the queue takes it; its reason goes into the job's events."""
        if self.row.state in OPEN:
            code, text = ReasonCode.EDITED, f"changed by its owner: {self.summary}"
        else:
            code, text = ReasonCode.RETRIED, f"asked to run again, changed: {self.summary}"
        reason = Reason(code=code, text=text, data={"changes": list(self.changes)})
        return ChangedJob(row=self.row, spec=self.spec, reason=reason, hashes=self.hashes)


def revise_all(
    store: Store, rows: Sequence[JobRow], sets: Sequence[str], now: float
) -> dict[int, Revision]:
    """Return number → job with some of its values set; one that has them already is not among these.

    Args:
        store: the queue.
        rows: the jobs; none of them runs.
        sets: `key=value` each, as those of `launcher run --set`.
        now: seconds since 1970.

    Raises:
        TaskFileError: all that is wrong with `sets`.
        UsageError: a job cannot be changed so.
    """
    revisions = {}
    for row in rows:
        before = own_values(row, now)
        after = read_form(row, form_of(row, ""), now, sets)
        if (revision := revise(store, row, before, after)) is not None:
            revisions[row.id] = revision
    return _hashed_together(revisions)


def _hashed_together(revisions: dict[int, Revision]) -> dict[int, Revision]:
    """Return revisions of which one's new hashes do not contradict another's: a job may follow several."""
    hashes: dict[int, str] = {}
    rows: dict[int, JobRow] = {}
    for revision in revisions.values():
        own = (
            () if revision.spec.hash == revision.row.hash else ((revision.row, revision.spec.hash),)
        )
        for row, text in (*own, *revision.hashes):
            hashes[row.id] = _digest(hashes[row.id], text) if row.id in hashes else text
            rows[row.id] = row
    last = next(reversed(revisions), None)
    others = tuple((row, hashes[row.id]) for row in rows.values() if row.id not in revisions)
    return {
        number: revision._replace(
            spec=replace(revision.spec, hash=hashes.get(number, revision.spec.hash)),
            hashes=others if number == last else (),
        )
        for number, revision in revisions.items()
    }


def revise(store: Store, row: JobRow, before: JobValues, after: JobValues) -> Revision | None:
    """Return a job as its owner wants it; None where nothing is another.

    Args:
        store: the queue.
        row: which; it does not run.
        before: its values as its own form is read.
        after: those that are wanted.

    Raises:
        UsageError: it would be another job for those that need it, or cannot be one.
    """
    changed = [name for name in after.settings if after.settings[name] != before.settings.get(name)]
    options = [*_changed_options(before.request, after.request)]
    if not (changed or options):
        return None
    changes = [
        f"{name} {spelt(before.settings.get(name))} → {spelt(after.settings[name])}"
        for name in changed
    ]
    # `launcher priority` writes the row's own, and not that of its spec
    spec = replace(row.spec, priority=after.request.priority)
    if options:
        spec = replace(spec, resources=_resources(row, after.request), terms=after.request.terms)
    hashes: tuple[tuple[JobRow, str], ...] = ()
    if changed:
        spec, hashes = _with_words(store, row, spec, after)
    if spec.resources.gpus != row.spec.resources.gpus:
        spec = replace(spec, signature=_signature(row, spec.resources.gpus))
    return Revision(row, spec, (*changes, *options), hashes)


def _changed_options(before: JobRequest, after: JobRequest) -> Iterator[str]:
    for option in job_options().values():
        unset = option.default or "unset"
        texts = [option_text(option, request) or unset for request in (before, after)]
        if texts[0] != texts[1]:
            yield f"{option.name} {texts[0]} → {texts[1]}"


def _resources(row: JobRow, request: JobRequest) -> Resources:
    """Return what a job asks of the machine by a request."""
    if was_added(row):
        device = request.resources.device
        if device == "auto":
            device = "cuda" if request.wants_gpu else CPU
        return replace(request.resources, device=device)
    return resources_of(request, Role(row.spec.role), has_entry=not is_program(row))


def _signature(row: JobRow, gpus: int) -> str:
    """Return by what a job is known that has another number of GPUs; a program's cost does not tell it.

    Raises:
        UsageError: its kind cannot be had here.
    """
    if is_program(row):
        return row.spec.signature
    installed = find_kinds([row.kind])
    if row.kind not in installed.kinds:
        why = installed.unusable.get(row.kind) or f"kind {row.kind!r} is not installed here"
        raise UsageError(f"job {row.id} cannot get another number of GPUs: {why}")
    return signature_of(installed.kinds[row.kind], row.spec.settings, gpus)


def _with_words(
    store: Store, row: JobRow, spec: Spec, after: JobValues
) -> tuple[Spec, tuple[tuple[JobRow, str], ...]]:
    """Return the spec of a program with other words, and the new hashes of the jobs after it.

    No plan ever has these hashes: the next run of the task file does as the file says, and does all of them again.

    Raises:
        UsageError: others have worked with what it made.
    """
    argv = _words(after)
    spec = replace(spec, argv=argv, signature=program_cost(after.settings, argv))
    if was_added(row) and not (after.settings["cwd"] or after.settings["env"]):
        return replace(spec, settings={}), ()
    spec = replace(spec, settings=after.settings)
    if not row.hash:
        return spec, ()
    dependants = store.steering.dependants(row.id)
    _refuse_built_on(row, dependants)
    change = json.dumps(after.settings, sort_keys=True)
    hashes = tuple((each, _digest(each.hash, change)) for each in dependants)
    return replace(spec, hash=_digest(row.hash, change)), hashes


def _words(values: JobValues) -> tuple[str, ...]:
    argv = values.settings["argv"]
    return tuple(map(str, argv)) if isinstance(argv, list | tuple) else ()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _refuse_built_on(row: JobRow, dependants: Sequence[JobRow]) -> None:
    """Refuse to change what others have worked with.

    Raises:
        UsageError: names the first of them.
    """
    built = [each for each in dependants if each.state in _BUILT_ON]
    if built:
        first, more = built[0], len(built) - 1
        others = f" and {more} more" if more else ""
        raise UsageError(
            f"{first.name} (job {first.id}, {first.state}){others} worked with what {row.name} "
            "makes: with other settings that would not be true any more. Change the task file and run it, "
            "or give the file another name and keep both"
        )
