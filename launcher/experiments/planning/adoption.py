"""Results of a task file that were made in another folder: its project was moved or copied.

The queue stores absolute paths. So one folder is replaced by the other before jobs are compared: in the identity of the
job here, and in the row of the job there.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from launcher.experiments.planning.comparison import (
    ADOPT,
    Action,
    AdoptableRoot,
    Adoption,
    ComparedJob,
    Comparison,
)
from launcher.experiments.planning.plan import JobIdentity, Plan
from launcher.ids import read_words
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.rows import JobRow
from launcher.queue.workers.progress.attempt_progress import read_last_metrics
from launcher.system.errors import UsageError


class _FolderReplacer:
    """Replaces a folder by another one in texts that hold absolute paths."""

    def __init__(self, old_folder: str, new_folder: str) -> None:
        # a longer path or name that only contains the folder must not match
        self._pattern = re.compile(rf"(?<![\w.~/-]){re.escape(old_folder)}(?![^/\"',:;\s\\])")
        self._after = new_folder

    def replace_in(self, text: str) -> str:
        """Return a text with the other folder."""
        return self._pattern.sub(lambda _: self._after, text)


def _json_replacer(old_folder: str, new_folder: str) -> _FolderReplacer:
    return _FolderReplacer(json.dumps(old_folder)[1:-1], json.dumps(new_folder)[1:-1])


class _RelocatedIdentities:
    """The identities that the jobs of a plan would have in another folder."""

    def __init__(self, folder: str, other_folder: str) -> None:
        self._in_json = _json_replacer(folder, other_folder)
        self._relocated: dict[str, JobIdentity] = {}  # hash here → identity

    def relocate(self, identity: JobIdentity) -> JobIdentity:
        """Return the identity of a job; the same one if no path of this folder enters it."""
        if identity.hash not in self._relocated:
            words = identity.words
            if words:
                words = read_words(
                    json.loads(self._in_json.replace_in(json.dumps(words.to_json())))
                )
            self._relocated[identity.hash] = replace(
                identity,
                settings=self._in_json.replace_in(identity.settings),
                dependencies=tuple(map(self.relocate, identity.dependencies)),
                words=words,
            )
        return self._relocated[identity.hash]


def rows_from_root(plan: Plan, rows: Mapping[str, JobRow], other_root: str) -> dict[str, JobRow]:
    """Return the rows of a plan's jobs that were done in another folder, with paths changed to this one.

    Args:
        plan: the jobs as they would be queued here.
        rows: the jobs of the run in the other folder, by name.
        other_root: the other folder.

    Raises:
        UsageError: one of the jobs runs there.
    """
    here = str(plan.run_folder.parents[1])
    identities = _RelocatedIdentities(here, other_root)
    in_json, plain = _json_replacer(other_root, here), _FolderReplacer(other_root, here)
    found: dict[str, JobRow] = {}
    for job in plan.jobs:
        row = rows.get(job.name)
        if row is not None and row.state is State.RUNNING:
            raise UsageError(
                f"{ADOPT} {other_root}: {job.name} (job {row.id}) is running there. Wait for it with "
                f"`launcher wait {row.id}` or cancel it with `launcher cancel {row.id}`, then run this again."
            )
        if row is None or row.state is not State.DONE:
            continue
        is_same = row.hash == identities.relocate(job.identity).hash
        sources = row.sources_text
        found[job.name] = replace(
            row,
            root=here,
            hash=job.hash if is_same else row.hash,
            spec_text=in_json.replace_in(row.spec_text),
            sources_text=None if sources is None else in_json.replace_in(sources),
            outputs={plain.replace_in(path): value for path, value in row.outputs.items()},
        )
    return found


def find_adoption(
    plan: Plan, rows_there: Mapping[str, JobRow], rows_here: Mapping[str, JobRow], other_root: str
) -> Adoption:
    """Return what of another folder can be adopted, before its files are compared.

    What is done or under way here stays as it is.

    Raises:
        UsageError: a job of the plan runs there.
    """
    names = {job.name for job in plan.jobs}
    kept = {name for name, row in rows_here.items() if row.state in {State.DONE, *OPEN_STATES}}
    found = rows_from_root(plan, rows_there, other_root)
    waiting = (
        row.id for name, row in rows_there.items() if name in names and row.state in OPEN_STATES
    )
    return Adoption(
        root=other_root,
        rows={name: row for name, row in found.items() if name not in kept},
        waiting=tuple(waiting),
    )


def with_adoption(
    comparison: Comparison, adoption: Adoption, rows_here: Mapping[str, JobRow]
) -> Comparison:
    """Return the comparison with what of the other folder is adopted in the end.

    Args:
        comparison: comparison of the plan with the jobs of both folders.
        adoption: what could be adopted.
        rows_here: the jobs of the run in this folder, by name.
    """
    jobs: list[ComparedJob] = []
    for compared in comparison.jobs:
        name = compared.job.name
        if name not in adoption.rows:
            jobs.append(compared)
        elif compared.action is Action.CACHED:
            reason = f"done in {adoption.root}, with the same settings, code and inputs"
            jobs.append(compared._replace(reason=reason))
        else:
            own = rows_here.get(name)
            jobs.append(compared._replace(number=None if own is None else own.id))
    cached = {compared.job.name for compared in jobs if compared.action is Action.CACHED}
    adopted = {name: row for name, row in adoption.rows.items() if name in cached}
    return comparison._replace(jobs=tuple(jobs), adoption=adoption._replace(rows=adopted))


def with_printed_numbers(comparison: Comparison, home: Home) -> Comparison:
    """Return a comparison with the numbers of the programs of which copies are made, which have no attempt."""
    adoption = comparison.adoption
    if adoption is None or not adoption.keeps_original:
        return comparison
    printed = {
        name: numbers
        for name, row in adoption.rows.items()
        if not row.spec.entry
        and row.attempts
        and (numbers := read_last_metrics(row.attempt_in(home)))
    }
    return comparison._replace(adoption=adoption._replace(printed_numbers=printed))


def find_adoptable_roots(
    plan: Plan, jobs: Iterable[ComparedJob], hashes: Mapping[str, Mapping[str, str]]
) -> tuple[AdoptableRoot, ...]:
    """Return the folders in which jobs are done that are new here, those with most such jobs first.

    A folder counts if it does not exist any more, or is this one under another name.

    Args:
        plan: the plan.
        jobs: its jobs, compared with the queue here.
        hashes: folder → name → hash of the jobs that are done in the run of this name there.
    """
    here = plan.run_folder.parents[1]
    new = [compared.job for compared in jobs if compared.number is None]
    found = []
    for root, known in hashes.items():
        if not _is_gone_or_same(Path(root), here):
            continue
        identities = _RelocatedIdentities(str(here), root)
        number = sum(
            known[job.name] == identities.relocate(job.identity).hash
            for job in new
            if job.name in known
        )
        found += [AdoptableRoot(root, number)] if number else []
    return tuple(sorted(found, key=lambda each: -each.jobs))


def _is_gone_or_same(root: Path, path: Path) -> bool:
    try:
        return root.samefile(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # unknown
        return False
