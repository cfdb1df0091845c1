"""Builders for the tests of the task language: from a text to a plan or its errors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import COMMAND
from launcher.experiments.planning.comparison import Comparison
from launcher.experiments.planning.plan import Plan, PlannedJob
from launcher.experiments.planning.plan_builder import build_plan
from launcher.experiments.planning.queue_comparison import compare_with_queue
from launcher.experiments.planning.submit import SubmittedRun, submit
from launcher.experiments.taskfile.entries import TaskFile
from launcher.experiments.taskfile.parser import ParseContext, parse
from launcher.queue.jobs.states import Done
from launcher.queue.store.queue import Store
from launcher.system.errors import Problem, Severity, TaskFileError, UsageError
from launcher.system.files import FileStamp
from tests.build import a_context, claimed
from tests.launcher.toylab import laboratory

KINDS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}
ROOT = Path("/root")


def read(
    text: str,
    *settings: str,
    files: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    kinds: Mapping[str, Kind] = KINDS,
) -> TaskFile:
    """Read a task file; `files` are those that it may include."""

    def include(path: str) -> str:
        if files is None or path not in files:
            raise UsageError(f"no task file {path!r}")
        return files[path]

    around = ParseContext(kinds=kinds, environment=environment or {}, settings=settings)
    named = text.startswith(("name:", "run_name:"))
    return parse(
        text if named else f"name: x\n{text}", file="x.yaml", context=around, include=include
    )


def a_plan(
    text: str,
    *settings: str,
    root: Path = ROOT,
    exists: Callable[[Path], bool] = lambda _: False,
    code: Callable[..., Mapping[str, str]] = lambda *_: {"": "d"},
    content: Callable[[Path], str] = lambda _: "c",
    is_folder: Callable[[Path], bool] = Path.is_dir,
    **reading: Any,
) -> Plan:
    """Plan a task file; the queue knows its jobs as those of `ROOT`."""
    task = read(text, *settings, **reading)
    return build_plan(
        task, root=root, exists=exists, code=code, content=content, is_folder=is_folder
    )


def refusals(text: str, *settings: str, **rest: Any) -> tuple[Problem, ...]:
    with pytest.raises(TaskFileError) as caught:
        a_plan(text, *settings, **rest)
    return tuple(one for one in caught.value.problems if one.severity is Severity.ERROR)


def refusal(text: str, *settings: str, **rest: Any) -> Problem:
    """Return the only error of a task file; the images of toys exist."""
    found = refusals(text, *settings, **{"exists": lambda path: path.parent.name == "toys", **rest})
    assert len(found) == 1, [str(one) for one in found]
    return found[0]


def told(problem: Problem) -> str:
    """Return the text of a problem, followed by its location and the text above its carets."""
    file, line, text = marked(problem)
    return f"{problem}\n@{file}:{line} {text}\n"


def blamed(text: str, **rest: Any) -> str:
    """Return the text of the only error; lines `--set …` below a file belong to the command line."""
    text, *said = text.split("\n--set ")
    return told(refusal(text, *said, **rest))


class Made(NamedTuple):
    """A task file, its jobs (all or those of some kinds), and the codes of its warnings."""

    text: str
    wanted: Sequence[str]
    kinds: Sequence[str] = ()
    codes: Sequence[str] = ()

    def check(self, **rest: Any) -> None:
        """Plan the file and compare the jobs and warnings."""
        text, *said = self.text.split("\n--set ")
        made = a_plan(text, *said, **rest)
        assert names(made, *self.kinds) == [*self.wanted]
        assert [one.code for one in notes(made)] == [*self.codes]


def marked(problem: Problem) -> tuple[str, int, str]:
    """Return file, line and the text above the carets."""
    place = problem.place
    assert place is not None
    return place.file, place.line, place.text[place.column - 1 : place.column - 1 + place.length]


def names(made: Plan, *beginnings: str) -> list[str]:
    """Return the names of jobs, or of those of some kinds."""
    return [job.name for job in made.jobs if not beginnings or job.kind in beginnings]


def job(made: Plan, name: str) -> PlannedJob:
    return next(one for one in made.jobs if one.name == name)


def setting(made: Plan, key: str, kind: str = "train") -> dict[str, object]:
    return {job.model or "": job.settings[key] for job in made.jobs if job.kind == kind}


def notes(made: Plan) -> list[Problem]:
    """Return the warnings except those about missing data."""
    return [one for one in made.warnings if one.code != "missing-input"]


def compared(
    store: Store,
    made: Plan,
    stamps: Callable[[str], FileStamp | None] = lambda _: None,
    **options: Any,
) -> Comparison:
    """Compare a plan with the queue; without `stamps` no file exists."""
    return compare_with_queue(made, store.read.jobs_of(ROOT, made.name), stamps, **options)


def queue(store: Store, made: Plan, **options: Any) -> SubmittedRun:
    """Queue the jobs of a plan that must run."""
    return submit(store, ROOT, compared(store, made, **options), a_context(), 1.0)


def finish(store: Store) -> None:
    """Finish every job that can run, in the order of dependencies."""
    while ready := store.ready_jobs.read_ready(100):
        for one in ready:
            store.transitions.finish_attempt(
                claimed(store, one.id), Done(at=1.0), outputs={}, now=1.0
            )
