"""The dependencies between jobs, from the paths that they read and write."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from launcher.draft import Input
from launcher.errors import Place, Problem, Severity
from launcher.kind_interface import Role
from launcher.planning.steps import Step
from launcher.taskfile.yaml_tree import Scalar

MISSING = "missing-input"
EXPECTED = "expected-input"
MOST_FILE_NAME = 255  # bytes of one name in a path, on every file system we know
MOST_LISTED = 5  # missing paths named in one warning


class ExistenceCache:
    """Asks once for each path whether it exists."""

    def __init__(self, exists: Callable[[Path], bool]) -> None:
        self.exists = exists
        self.answers: dict[str, bool] = {}

    def __call__(self, path: Path) -> bool:
        """Tell whether the path is there."""
        text = str(path)  # a path compares itself part by part
        answer = self.answers.get(text)
        if answer is None:
            try:
                answer = self.exists(path)
            except (OSError, ValueError):  # a name too long, or with a character no name may have
                answer = False
            self.answers[text] = answer
        return answer


@dataclass(slots=True)
class _Lack:
    """A path that a job reads and no job makes."""

    path: str
    what: str
    place: Place
    jobs: list[str] = field(default_factory=list)
    remedy: str = ""
    by: str = ""  # the program before these jobs that may make it


class Dependencies:
    """Which job makes which path, and so which job needs which."""

    def __init__(self, root: Path, there: Callable[[Path], bool]) -> None:
        self.root = root
        self.there = there
        self.makers: dict[str, str] = {}  # path → job
        self.data_makers: dict[str, list[str]] = {}  # folder in which data jobs write → jobs
        self.folders: dict[str, dict[str, None]] = {}  # folder → those that jobs make in it
        self.order: dict[str, int] = {}  # job → its place in the plan
        self.lacks: dict[str, _Lack] = {}
        self.given: dict[str, list[Path]] = {}  # job → what it reads that is there already
        self.places: dict[str, Place] = {}  # job → where the file asks for it
        self.programs: set[str] = set()  # jobs of which nobody knows what they make
        self.behind_programs: dict[str, frozenset[str]] = {}  # job → the nearest of these before it
        self.expected: dict[str, _Lack] = {}  # of jobs behind a program: it may make them

    def connect(
        self,
        step: Step,
        inputs: Iterable[Input],
        outputs: Sequence[Path],
        problems: list[Problem],
        after: Iterable[str] = (),
    ) -> list[str]:
        """Enter a job; return the earlier jobs that make what it reads, and those that it names.

        What a program makes is not known. A job behind one may read what is not there yet, and what is there
        is taken for the program's: the identity of the program stands for it in the job's hash.

        Args:
            step: of the job.
            inputs: what it reads.
            outputs: what it writes.
            problems: where complaints are added.
            after: the jobs that its entry names; others are left out.
        """
        needs = {name for name in after if name in self.order}
        others: list[Input] = []
        for file in inputs:
            makers = self._makers_of(_normal(str(file.path)))
            needs.update(makers)
            if not makers:
                others.append(file)
        needs.discard(step.name)
        behind = self.behind_programs[step.name] = self._programs_before(needs)
        self.given[step.name] = [] if behind else [x.path for x in others if self.there(x.path)]
        for file in others:
            if not self.there(file.path):
                self._lacks(step, file, min(behind, default=""))
        if not step.kind.entry and not outputs:
            self.programs.add(step.name)
        self.make(step, outputs, problems)
        self.order[step.name] = len(self.order)
        self.places[step.name] = step.place
        return sorted(needs, key=self.order.__getitem__)

    def _programs_before(self, needs: Collection[str]) -> frozenset[str]:
        """Return the nearest programs before a job; jobs behind the same ones share the set."""
        sets = {self.behind_programs[need] for need in needs if need not in self.programs}
        own = frozenset(need for need in needs if need in self.programs)
        sets = {each for each in (own, *sets) if each}
        return next(iter(sets)) if len(sets) == 1 else frozenset().union(*sets)

    def _lacks(self, step: Step, file: Input, program: str) -> None:
        """Enter a path that is not there; a program before the job, if there is one, may make it."""
        path = _normal(str(file.path))
        lacks = self.expected if program else self.lacks
        if path not in lacks:
            remedy = "" if program else file.remedy
            place = self._place(step, path)
            lacks[path] = _Lack(path, file.what, place, remedy=remedy, by=program)
        lacks[path].jobs.append(step.name)

    def _makers_of(self, path: str) -> Sequence[str]:
        """Return the jobs that make a path, or a folder in which it lies."""
        makers, above = self.data_makers.get(path, ()), _with_parents(path)
        if self.makers.keys().isdisjoint(above):
            return makers
        return [*makers, *(self.makers[folder] for folder in above if folder in self.makers)]

    def behind(self, inputs: Iterable[Input], user: str) -> tuple[list[str], list[Path]]:
        """Return the jobs that make some paths, and those of the paths that are there already.

        Args:
            inputs: the paths.
            user: a job that reads them, too; what programs before it make is theirs.
        """
        programs = self.behind_programs[user]
        needs: set[str] = {*programs}
        given = []
        for file in inputs:
            makers = self._makers_of(_normal(str(file.path)))
            if not makers and not programs and self.there(file.path):
                given.append(file.path)
            needs.update(makers)
        return sorted(needs, key=self.order.__getitem__), given

    def make(self, step: Step, outputs: Iterable[Path], problems: list[Problem]) -> None:
        """Enter what a job writes; blame it where another one writes the same."""
        paths = [_normal(str(path)) for path in outputs]
        if step.kind.role is Role.FOLDER and paths:
            within, _, name = paths[0].rpartition("/")
            self.folders.setdefault(within, {})[name] = None
        others = {self._enter(step, path, problems) for path in paths}
        others.discard(step.name)
        for other in sorted(others):
            message = f"{step.name} and {other} would write the same files"
            hint = "give one of them another name, or folder"
            problems.append(
                Problem(code="same-output", message=message, place=step.place, hint=hint)
            )

    def lack(self, job: str, path: Path, what: str) -> None:
        """Enter a path that a job reads and that no job of the plan makes."""
        text = _normal(str(path))
        self.lacks.setdefault(text, _Lack(text, what, self.places[job])).jobs.append(job)

    def missing_inputs(self) -> list[Problem]:
        """Return a warning for each place that asks for paths which are not there."""
        by_place: dict[tuple[Place, str], list[_Lack]] = {}
        for lack in (*self.lacks.values(), *self.expected.values()):
            by_place.setdefault((lack.place, lack.by), []).append(lack)
        return [
            self._expected(place, by, lacks) if by else self._missing(place, lacks)
            for (place, by), lacks in by_place.items()
        ]

    def _expected(self, place: Place, program: str, lacks: Sequence[_Lack]) -> Problem:
        """Return a warning of what a program has to make, as far as is known."""
        message = f"{lacks[0].what} is not there yet: {self._short(lacks[0].path)}"
        notes = [f"read by {_first(lacks[0].jobs)}"]
        if len(lacks) > 1:
            message = f"{len(lacks)} inputs are not there yet"
            notes = [f"{lack.what}: {self._short(lack.path)}" for lack in lacks[:MOST_LISTED]]
        if len(lacks) > MOST_LISTED:
            notes.append(f"and {len(lacks) - MOST_LISTED} more")
        return Problem(
            code=EXPECTED,
            message=f"{message}; {program}, which runs before, has to make {_them(lacks)}",
            severity=Severity.WARNING,
            place=place,
            hint=f"where {program} is done already, `launcher retry --force {program}` runs it again",
            notes=tuple(notes),
        )

    def _missing(self, place: Place, lacks: Sequence[_Lack]) -> Problem:
        message = f"{lacks[0].what} is not there, and no job makes it: {self._short(lacks[0].path)}"
        notes = [f"read by {_first(lacks[0].jobs)}"]
        if len(lacks) > 1:
            message = f"{len(lacks)} inputs are not there, and no job makes them"
            notes = [f"{lack.what}: {self._short(lack.path)}" for lack in lacks[:MOST_LISTED]]
        remedies = dict.fromkeys(lack.remedy for lack in lacks if lack.remedy)
        remedies |= dict.fromkeys(note for lack in lacks if (note := self._beside(lack.path)))
        if len(lacks) > MOST_LISTED:
            notes.append(f"and {len(lacks) - MOST_LISTED} more")
        return Problem(
            code=MISSING,
            message=message,
            severity=Severity.WARNING,
            place=place,
            notes=(*notes, *remedies),
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
                given = os.path.normpath(self.root / Path(node.text).expanduser())
                if len(given) > length and (path == given or path.startswith(given + "/")):
                    best, length = node.place, len(given)
        return best

    def _beside(self, path: str) -> str:
        """Return which folders the plan makes where it makes not the one of a path; '' elsewhere."""
        for above in _with_parents(path):
            within, _, name = above.rpartition("/")
            if made := self.folders.get(within):
                alike = [other for other in made if other.partition("@")[0] == name] or [*made]
                more = ", …" if len(alike) > MOST_LISTED else ""
                return f"made in {self._short(within)}: {', '.join(alike[:MOST_LISTED])}{more}"
        return ""

    def _short(self, path: str) -> str:
        inside = f"{self.root}/"
        return path.removeprefix(inside)


def _normal(path: str) -> str:
    return os.path.normpath(path) if ".." in path else path  # a Path has tidied up all the rest


def _them(lacks: Sequence[_Lack]) -> str:
    return "it" if len(lacks) == 1 else "them"


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


@lru_cache(maxsize=4096)
def _with_parents(path: str) -> tuple[str, ...]:
    paths = [path]
    while len(above := paths[-1].rpartition("/")[0]) > 0:
        paths.append(above)
    return tuple(paths)
