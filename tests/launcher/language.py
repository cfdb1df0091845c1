"""Builders for the tests of the task language: from a text to a plan or to what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.errors import Problem, Severity, TaskFileError, UsageError
from launcher.kind_interface import Kind
from launcher.kinds import COMMAND
from launcher.planning.plan import Plan, PlannedJob
from launcher.planning.plan_builder import build_plan
from launcher.taskfile.entries import TaskFile
from launcher.taskfile.parser import ParseContext, parse
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
    files: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    kinds: Mapping[str, Kind] = KINDS,
) -> Plan:
    task = read(text, *settings, files=files, environment=environment, kinds=kinds)
    return build_plan(
        task, root=ROOT, exists=lambda _: False, code=lambda *_: {"": "d"}, content=lambda _: "c"
    )


def refusals(
    text: str,
    *settings: str,
    files: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    kinds: Mapping[str, Kind] = KINDS,
) -> tuple[Problem, ...]:
    with pytest.raises(TaskFileError) as caught:
        a_plan(text, *settings, files=files, environment=environment, kinds=kinds)
    return tuple(one for one in caught.value.problems if one.severity is Severity.ERROR)


def refusal(text: str, *settings: str, **rest: Mapping[str, str]) -> Problem:
    """Return the only thing that is wrong."""
    found = refusals(text, *settings, **rest)  # type: ignore[arg-type]  # no kinds among them
    assert len(found) == 1, [str(one) for one in found]
    return found[0]


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
    """Return the warnings but those about data that is not there."""
    return [one for one in made.warnings if one.code != "missing-input"]
