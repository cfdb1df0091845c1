"""The hashes of a job that was changed, and of those that read what it makes."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.draft import Input
from launcher.errors import Error
from launcher.ids import read_words
from launcher.planning.plan import Code, Identity
from launcher.planning.revising.queued_job import QueuedJob, queued_job
from launcher.store.rows import JobRow
from launcher.system.files import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehash:
    """Works out hashes as a plan does, from what the queue knows.

    Not all that goes into a hash is stored: a choice of labels that serves several models has a hash for each.
    Where the hash as it was does not come out, the new one is made of that: no plan ever has it, so the next
    run of the task file does the job again.
    """

    needed_by: Callable[[int], Sequence[JobRow]]  # jobs that must be done before one
    content: Callable[[Path], str]  # a digest of a file that no job makes
    hashes: dict[int, str] = field(default_factory=dict)  # job → its new hash
    free: set[int] = field(default_factory=set)  # jobs that are no programs, and behind none

    def enter(
        self,
        job: QueuedJob,
        before: Mapping[str, Json],
        after: Mapping[str, Json],
        code: Code | None = None,
    ) -> None:
        """Take in the new hash of a job, where it has one.

        Args:
            job: which.
            before: its settings as they were.
            after: its settings now.
            code: that does its work now; None: the same.
        """
        row = job.row
        if not row.hash:
            return
        needs = self.needed_by(row.id)
        identity = self._identity(job, before, needs)
        old = [need.hash for need in needs]
        new = [self.hashes.get(need.id, need.hash) for need in needs]
        text_before, text_after = _decisive(job, before), _decisive(job, after)
        code_before = _code(row)
        code = code or code_before
        if text_before == text_after and old == new and code.text == code_before.text:
            return
        if identity.digest(code_before, text_before, old) == row.hash:
            self.hashes[row.id] = self._identity(job, after, needs).digest(code, text_after, new)
            return
        text = "\n".join([row.hash, text_after, code.text, *new])
        self.hashes[row.id] = hashlib.sha256(text.encode()).hexdigest()

    def follow(self, dependants: Iterable[JobRow]) -> None:
        """Take in the new hashes of jobs that need changed ones, each after those that it needs."""
        for row in dependants:
            try:
                job = queued_job(row)
            except Error:  # its kind cannot be had here: nothing tells its hash from within
                new = [self.hashes.get(need.id, need.hash) for need in self.needed_by(row.id)]
                text = "\n".join([row.hash, *new])
                self.hashes[row.id] = hashlib.sha256(text.encode()).hexdigest()
            else:
                self.enter(job, job.values, job.values)

    def _identity(
        self, job: QueuedJob, values: Mapping[str, Json], needs: Sequence[JobRow]
    ) -> Identity:
        spec = job.row.spec
        draft = job.draft(dict(values), job.request)
        made = {path for need in needs for path in need.spec.outputs}
        return Identity(
            job=spec.name,
            kind=spec.kind,
            model=spec.model,
            base=spec.base,
            images=spec.images,
            settings="",
            needs=(),
            code=_code(job.row),
            given=() if self._behind(needs) else tuple(self._given(job.kind.inputs(draft), made)),
            words=read_words(spec.words),
        )

    def _behind(self, needs: Iterable[JobRow]) -> bool:
        """Tell whether a program runs before a job, near or far; what it makes is not known.

        See `launcher.planning.dependencies`.
        """
        waiting, seen = [*needs], set[int]()
        while waiting:
            need = waiting.pop()
            if need.id in seen or need.id in self.free:
                continue
            seen.add(need.id)
            if not need.spec.entry and not need.spec.outputs:
                return True
            waiting += self.needed_by(need.id)
        self.free.update(seen)
        return False

    def _given(self, inputs: Iterable[Input], made: set[str]) -> Iterable[str]:
        for file in inputs:
            path = os.path.normpath(file.path)
            above = {path, *map(str, Path(path).parents)}
            beside = any(output.startswith(f"{path}/") for output in made)
            if not (above & made or beside) and file.path.exists():
                yield self.content(file.path)


def _decisive(job: QueuedJob, values: Mapping[str, Json]) -> str:
    return json.dumps(job.kind.settings.decisive(values), sort_keys=True)


def _code(row: JobRow) -> Code:
    return Code(row.spec.entry, row.spec.sources)
