"""Results of a task file that were made in another folder: its project was moved or copied.

The queue stores absolute paths. So one folder is replaced by the other before jobs are compared: in the identity of the
job here, and in the row of the job there.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from launcher.errors import UsageError
from launcher.ids import read_words
from launcher.planning.comparison import ADOPT, Action, Adoption, ComparedJob, Comparison, Elsewhere
from launcher.planning.plan import Identity, Plan
from launcher.states import OPEN, State
from launcher.store.rows import JobRow
from launcher.system.paths import Home
from launcher.workers.progress.attempt_progress import last_metrics


class _Move:
    """Replaces a folder by another one in texts that hold absolute paths."""

    def __init__(self, before: str, after: str) -> None:
        # a longer path or name that only contains the folder must not match
        self._pattern = re.compile(rf"(?<![\w.~/-]){re.escape(before)}(?![^/\"',:;\s\\])")
        self._after = after

    def text(self, text: str) -> str:
        """Return a text with the other folder."""
        return self._pattern.sub(lambda _: self._after, text)


def _move_in_json(before: str, after: str) -> _Move:
    return _Move(json.dumps(before)[1:-1], json.dumps(after)[1:-1])


class _IdentitiesElsewhere:
    """The identities that the jobs of a plan would have in another folder."""

    def __init__(self, here: str, there: str) -> None:
        self._in_json = _move_in_json(here, there)
        self._known: dict[str, Identity] = {}  # by the hash here

    def of(self, identity: Identity) -> Identity:
        """Return the identity of a job; the same one if no path of this folder enters it."""
        if identity.hash not in self._known:
            words = identity.words
            if words:
                words = read_words(json.loads(self._in_json.text(json.dumps(words.record()))))
            self._known[identity.hash] = replace(
                identity,
                settings=self._in_json.text(identity.settings),
                needs=tuple(map(self.of, identity.needs)),
                words=words,
            )
        return self._known[identity.hash]


def rows_elsewhere(plan: Plan, rows: Mapping[str, JobRow], there: str) -> dict[str, JobRow]:
    """Return what the queue knows of jobs of a plan that were done in another folder, as if that were this one.

    Args:
        plan: the jobs as they would be queued here.
        rows: the jobs of the run in the other folder, by name.
        there: the other folder.

    Raises:
        UsageError: one of them runs there.
    """
    here = str(plan.run_folder.parents[1])
    identities = _IdentitiesElsewhere(here, there)
    in_json, plain = _move_in_json(there, here), _Move(there, here)
    found: dict[str, JobRow] = {}
    for job in plan.jobs:
        row = rows.get(job.name)
        if row is not None and row.state is State.RUNNING:
            raise UsageError(
                f"{ADOPT} {there}: {job.name} (job {row.id}) is running there. Wait for it with "
                f"`launcher wait {row.id}` or cancel it with `launcher cancel {row.id}`, then run this again."
            )
        if row is None or row.state is not State.DONE:
            continue
        is_same = row.hash == identities.of(job.identity).hash
        sources = row.sources_text
        found[job.name] = replace(
            row,
            root=here,
            hash=job.hash if is_same else row.hash,
            spec_text=in_json.text(row.spec_text),
            sources_text=None if sources is None else in_json.text(sources),
            outputs={plain.text(path): value for path, value in row.outputs.items()},
        )
    return found


def adoption_from(
    plan: Plan, rows_there: Mapping[str, JobRow], rows_here: Mapping[str, JobRow], there: str
) -> Adoption:
    """Return what of another folder can be adopted, before its files are compared.

    What is done or under way here stays as it is.

    Raises:
        UsageError: a job of the plan runs there.
    """
    names = {job.name for job in plan.jobs}
    kept = {name for name, row in rows_here.items() if row.state in {State.DONE, *OPEN}}
    found = rows_elsewhere(plan, rows_there, there)
    waiting = (row.id for name, row in rows_there.items() if name in names and row.state in OPEN)
    return Adoption(
        root=there,
        rows={name: row for name, row in found.items() if name not in kept},
        waiting=tuple(waiting),
    )


def with_adoption(
    comparison: Comparison, adoption: Adoption, rows_here: Mapping[str, JobRow]
) -> Comparison:
    """Return the comparison with what of the other folder is adopted in the end.

    Args:
        comparison: of the plan with the jobs of both folders.
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


def with_printed(comparison: Comparison, home: Home) -> Comparison:
    """Return a comparison with the numbers of the programs of which copies are made, which have no attempt."""
    adoption = comparison.adoption
    if adoption is None or not adoption.keeps:
        return comparison
    printed = {
        name: numbers
        for name, row in adoption.rows.items()
        if not row.spec.entry and row.attempts and (numbers := last_metrics(row.attempt_in(home)))
    }
    return comparison._replace(adoption=adoption._replace(printed=printed))


def done_elsewhere(
    plan: Plan, jobs: Iterable[ComparedJob], hashes: Mapping[str, Mapping[str, str]]
) -> tuple[Elsewhere, ...]:
    """Return the folders in which jobs are done that are new here, those with most of them first.

    A folder counts if it does not exist any more, or is this one under another name.

    Args:
        plan: the plan.
        jobs: its jobs beside what the queue knows of them here.
        hashes: folder → name → hash of the jobs that are done in the run of this name there.
    """
    here = plan.run_folder.parents[1]
    new = [compared.job for compared in jobs if compared.number is None]
    found = []
    for root, known in hashes.items():
        if not _is_gone_or_same(Path(root), here):
            continue
        identities = _IdentitiesElsewhere(str(here), root)
        number = sum(
            known[job.name] == identities.of(job.identity).hash for job in new if job.name in known
        )
        found += [Elsewhere(root, number)] if number else []
    return tuple(sorted(found, key=lambda each: -each.jobs))


def _is_gone_or_same(root: Path, here: Path) -> bool:
    try:
        return root.samefile(here)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # nobody can tell
        return False
