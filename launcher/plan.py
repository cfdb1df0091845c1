"""A task file worked out: every job with its files, its needs and its hash.

Pure but for three questions it asks through its arguments: whether a path exists, what the text
of a kind's source modules is, and what is in a file that no job makes.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from launcher.document import Scalar
from launcher.errors import Error, Place, Problem, Severity, TaskFileError
from launcher.expansion import Step, expand
from launcher.ids import model_folder_name, parse_data
from launcher.kinds import NO_WORDS, Draft, Input, Kind, Role, Words
from launcher.records import Json
from launcher.taskfile import TaskFile, in_order
from launcher.written import Asked

MOST_FILE_NAME = 255  # bytes of one name in a path, on every file system we know
MOST_LISTED = 5  # missing paths named in one warning

_LEARNING = frozenset({Role.TRAIN, Role.UNLEARN, Role.TEST})
_MISSING = "missing-input"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One job, complete but for its place in the queue."""

    name: str  # unique within its run
    kind: str
    role: Role
    model: str | None  # ID of the model made or tested
    base: str | None  # ID of the model it starts from
    data: str | None  # as written
    images: str | None  # with real data added
    settings: Mapping[str, Json]
    words: Words  # the user's own among those of its data
    needs: tuple[str, ...]  # names of earlier jobs, in the plan's order
    resources: Asked
    accelerated: bool  # a GPU is worth having
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    argv: tuple[str, ...]
    entry: str
    preload: tuple[str, ...]
    sources: Mapping[str, str]  # module → digest of its text
    hash: str  # over everything that determines the result


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All jobs of a task file; each one's needs come before it."""

    file: str
    name: str  # of the run
    about: str
    run_folder: Path
    jobs: tuple[PlannedJob, ...]
    warnings: tuple[Problem, ...]

    @property
    def missing(self) -> tuple[Problem, ...]:
        """What the jobs read and nobody makes, as errors: with one of them nothing is queued."""
        return tuple(
            replace(one, severity=Severity.ERROR) for one in self.warnings if one.code == _MISSING
        )


def plan(
    task: TaskFile,
    kinds: Mapping[str, Kind],
    *,
    root: Path,
    exists: Callable[[Path], bool],
    digest: Callable[[str], str],
    content: Callable[[Path], str],
) -> Plan:
    """Work out every job of a task file.

    Args:
        task: the file.
        kinds: every installed kind by its name.
        root: absolute; relative paths in settings start here, results lie in <root>/runs/<name>.
        exists: tells whether a path is there.
        digest: gives a digest of the text of a source module.
        content: gives a digest of an input that is there and that no job makes.

    Raises:
        TaskFileError: all that is wrong with the file; nothing of it may be queued.
    """
    problems = list(task.problems)
    run_folder = root / "runs" / task.name
    there = _Once(exists)
    wiring = _Wiring(root, there)
    jobs: dict[str, PlannedJob] = {}
    for step in expand(
        task, kinds, lambda model: there(run_folder / model_folder_name(model)), problems
    ):
        try:
            words = _words(step, task.words)
            files = _files(step, words, task.name, run_folder, root)
        except Error as error:  # a laboratory's own check
            problems.append(Problem(code="setting", message=str(error), place=step.place))
            continue
        needs = wiring.connect(step, files, problems)
        jobs[step.name] = _planned(
            step,
            files,
            words,
            [jobs[need] for need in needs],
            sources={module: digest(module) for module in step.kind.sources},
            given=[content(path) for path in wiring.given[step.name]],
        )
    if any(one.severity is Severity.ERROR for one in problems):
        raise TaskFileError(in_order(problems))
    return Plan(
        file=task.file,
        name=task.name,
        about=task.about,
        run_folder=run_folder,
        jobs=tuple(jobs.values()),
        warnings=in_order([*problems, *wiring.missing_inputs()]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What a kind says of one job."""

    inputs: tuple[Input, ...]
    outputs: tuple[Path, ...]
    argv: tuple[str, ...]


def _words(step: Step, words: Words) -> Words:
    """Return those of the user's words that stand in a job's data, unions written out."""
    if not words or step.images is None:
        return NO_WORDS
    return words.used_by(step.kind.elementary(parse_data(step.images)))


def _files(step: Step, words: Words, run: str, run_folder: Path, root: Path) -> _Files:
    draft = Draft(
        kind=step.kind.name,
        run=run,
        run_folder=run_folder,
        folder=root,
        model=step.model,
        base=step.base,
        data=step.data,
        images=step.images,
        name=step.name.partition("/")[2] if step.model is None else None,
        settings=step.settings.values,
        words=words,
    )
    return _Files(
        inputs=tuple(step.kind.inputs(draft)),
        outputs=tuple(step.kind.outputs(draft)),
        argv=tuple(step.kind.argv(draft)),
    )


def _planned(
    step: Step,
    files: _Files,
    words: Words,
    needs: Sequence[PlannedJob],
    *,
    sources: Mapping[str, str],
    given: Sequence[str],
) -> PlannedJob:
    return PlannedJob(
        name=step.name,
        kind=step.kind.name,
        role=step.kind.role,
        model=step.model,
        base=step.base,
        data=step.data,
        images=step.images,
        settings=step.settings.values,
        words=words,
        needs=tuple(need.name for need in needs),
        resources=step.asked,
        accelerated=step.kind.role in _LEARNING,
        inputs=tuple(one.path for one in files.inputs),
        outputs=files.outputs,
        argv=files.argv,
        entry=step.kind.entry,
        preload=step.kind.preload,
        sources=sources,
        hash=_hash(step, words, needs, sources, given),
    )


def _hash(
    step: Step,
    words: Words,
    needs: Iterable[PlannedJob],
    sources: Mapping[str, str],
    given: Sequence[str],
) -> str:
    """Return a digest of everything that determines the job's result."""
    neutral = step.kind.settings.neutral
    record = {
        "kind": step.kind.name,
        "entry": step.kind.entry,
        "model": step.model,
        "base": step.base,
        "images": step.images,
        "settings": {k: v for k, v in step.settings.values.items() if k not in neutral},
        "needs": sorted(need.hash for need in needs),
        "sources": dict(sources),
        "given": list(given),
    }
    if words:
        record["words"] = words.record()
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class _Once:
    """Asks once for each path whether it exists."""

    def __init__(self, exists: Callable[[Path], bool]) -> None:
        self.exists = exists
        self.known: dict[Path, bool] = {}

    def __call__(self, path: Path) -> bool:
        if path not in self.known:
            try:
                self.known[path] = self.exists(path)
            except (OSError, ValueError):  # a name too long, or with a character no name may have
                self.known[path] = False
        return self.known[path]


@dataclass(slots=True)
class _Lack:
    """A path that a job reads and nobody makes."""

    path: str
    what: str
    place: Place
    jobs: list[str] = field(default_factory=list)


class _Wiring:
    """Who makes what, and so who needs whom."""

    def __init__(self, root: Path, there: Callable[[Path], bool]) -> None:
        self.root = root
        self.there = there
        self.makers: dict[str, str] = {}  # path → job
        self.data_makers: dict[str, list[str]] = {}  # folder in which data jobs write → jobs
        self.order: dict[str, int] = {}  # job → its place in the plan
        self.lacks: dict[str, _Lack] = {}
        self.given: dict[str, list[Path]] = {}  # job → what it reads that is there already

    def connect(self, step: Step, files: _Files, problems: list[Problem]) -> list[str]:
        """Enter a job; return the earlier jobs that make what it reads."""
        needs: set[str] = set()
        given = self.given[step.name] = []
        for one in files.inputs:
            path = _normal(one.path)
            makers = {self.makers[above] for above in _with_parents(path) if above in self.makers}
            makers.update(self.data_makers.get(path, ()))
            if not makers and self.there(one.path):
                given.append(one.path)
            elif not makers:
                lack = self.lacks.get(path)
                if lack is None:
                    lack = self.lacks[path] = _Lack(path, one.what, self._place(step, path))
                lack.jobs.append(step.name)
            needs |= makers
        others = {self._enter(step, os.path.normpath(path), problems) for path in files.outputs}
        for other in sorted(others - {step.name}):
            message = f"{step.name} and {other} would write the same files"
            problems.append(Problem(code="same-output", message=message, place=step.place))
        self.order[step.name] = len(self.order)
        return sorted(needs - {step.name}, key=self.order.__getitem__)

    def missing_inputs(self) -> list[Problem]:
        """Return a warning for each place that asks for paths which are not there."""
        by_place: dict[Place, list[_Lack]] = {}
        for lack in self.lacks.values():
            by_place.setdefault(lack.place, []).append(lack)
        return [self._missing(place, lacks) for place, lacks in by_place.items()]

    def _missing(self, place: Place, lacks: Sequence[_Lack]) -> Problem:
        message = f"{lacks[0].what} is not there, and no job makes it: {self._short(lacks[0].path)}"
        notes = [f"read by {_first(lacks[0].jobs)}"]
        if len(lacks) > 1:
            message = f"{len(lacks)} inputs are not there, and no job makes them"
            notes = [f"{one.what}: {self._short(one.path)}" for one in lacks[:MOST_LISTED]]
        if len(lacks) > MOST_LISTED:
            notes.append(f"and {len(lacks) - MOST_LISTED} more")
        return Problem(
            code=_MISSING,
            message=message,
            severity=Severity.WARNING,
            place=place,
            notes=tuple(notes),
        )

    def _enter(self, step: Step, path: str, problems: list[Problem]) -> str:
        """Enter a path that a job writes; return the job that was the first to write it."""
        if len(path) > MOST_FILE_NAME:
            longest = max(path.split("/"), key=lambda name: len(name.encode()))
            if len(longest.encode()) > MOST_FILE_NAME:
                message = f"{step.name} would write a file with a name of {len(longest)} characters"
                problems.append(Problem(code="long-name", message=message, place=step.place))
        if step.kind.role is Role.DATA:
            for above in _with_parents(path):
                self.data_makers.setdefault(above, []).append(step.name)
        return self.makers.setdefault(path, step.name)

    def _place(self, step: Step, path: str) -> Place:
        """Return where the file says this path: at the setting from which it comes."""
        best, length = step.place, 0
        for _, node in step.settings.given.values():
            if not isinstance(node, Scalar) or not node.text:
                continue
            with contextlib.suppress(RuntimeError):  # "~nobody": no path, then
                said = os.path.normpath(self.root / Path(node.text).expanduser())
                if len(said) > length and (path == said or path.startswith(said + "/")):
                    best, length = node.place, len(said)
        return best

    def _short(self, path: str) -> str:
        inside = f"{self.root}/"
        return path.removeprefix(inside)


@lru_cache(maxsize=4096)  # jobs read the same few folders and files
def _normal(path: Path) -> str:
    return os.path.normpath(path)


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _with_parents(path: str) -> Iterable[str]:
    yield path
    while len(above := path.rpartition("/")[0]) > 0:
        yield above
        path = above
