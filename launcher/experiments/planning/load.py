"""`load` and `plan` read task files from Python, as `launcher run` does (see `launcher.api`)."""

import contextlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

from launcher.experiments.kind_interface import Kind, RepeatsWork, Role
from launcher.experiments.kinds import COMMAND, find_kinds
from launcher.experiments.planning.plan import Plan, PlannedJob
from launcher.experiments.planning.plan_builder import build_plan
from launcher.experiments.taskfile.entries import TaskFile
from launcher.experiments.taskfile.language import TOP
from launcher.experiments.taskfile.parser import ParseContext, parse
from launcher.experiments.taskfile.searches import ChosenValues
from launcher.experiments.taskfile.settings import differences
from launcher.experiments.taskfile.yaml_tree import MOST_BYTES
from launcher.ids import Words
from launcher.provenance.code_identity import CodeIndex, user_cache_file
from launcher.provenance.file_digests import FileDigests, HashProgress
from launcher.queue.home.paths import find_home
from launcher.queue.jobs.context import KIND_GROUP
from launcher.system.config import read_configuration
from launcher.system.entry_points import find_entry_points
from launcher.system.errors import (
    Problem,
    Severity,
    SourceLocation,
    TaskFileError,
    UsageError,
    nearest,
    pluralize,
)
from launcher.system.lazy_regex import compile_lazily

_WORD = compile_lazily(r"\w[\w-]*")
_KEY_AT_TOP = compile_lazily(r"^([^\s#:]+)\s*:", re.MULTILINE)
_TASK_FILES = (".yaml", ".yml")
_RUN_BY = {".py": "python", ".sh": "bash", ".R": "Rscript", ".jl": "julia"}
_WORDS_AT_TOP = {COMMAND.name, *TOP} - {"autotest", "include", "modifiers", "subsets"}


def load(
    path: str | Path,
    *,
    settings: Sequence[str] = (),
    text: str | None = None,
    chosen: ChosenValues | None = None,
    environment: Mapping[str, str] | None = None,
) -> TaskFile:
    """Read a task file and the files that it includes.

    Its located errors are kept in `problems`, so that `plan` can tell them together with what
    only a plan finds; nothing can be planned while there is one.

    Args:
        path: path of the file.
        settings: `key=value` each, stronger than the file, as with `--set`.
        text: its text, None to read the file.
        chosen: the values of a trial of one of its searches.
        environment: for `${NAME}`, None for that of this process.

    Raises:
        UsageError: the file does not exist, or cannot be read.
        TaskFileError: it is not a YAML mapping, or has a section of a kind that is installed but
            cannot be loaded, so that nothing more can be said.
    """
    own = read_configuration(os.environ)
    words = Words(subsets=own.subsets, modifiers=own.modifiers)
    text = _read_task_file_text(Path(path)) if text is None else text

    def read(kinds: Sequence[str] | None) -> TaskFile:
        installed = find_kinds(kinds)
        context = ParseContext(
            kinds=installed.kinds,
            unusable=installed.unusable,
            environment=os.environ if environment is None else environment,
            chosen=chosen,
            settings=settings,
            words=words,
        )
        return read_taskfile(text, str(path), context)

    # to import a laboratory takes longer than all the rest: programs need none, and a file whose kinds
    # are of one room of it needs no other. Where anything is wrong, a word may be one of its kinds:
    # then all of them are asked
    if not words and set(_KEY_AT_TOP.findall(text)) <= _WORDS_AT_TOP:
        with contextlib.suppress(TaskFileError):
            if not (programs := read([COMMAND.name])).problems:
                return programs
    if not words and (named := _mentioned_kinds(text, settings)):
        with contextlib.suppress(TaskFileError):
            if not (task := read(named)).problems and _has_shared_work(task.kinds.values()):
                return task
    return read(None)


def _mentioned_kinds(text: str, settings: Sequence[str]) -> list[str]:
    """Return the kinds that a task file may mention, and all kinds of the packages that contain them.

    Kinds of a package use each other without being named. For example, one tests models of another.

    Returns:
        Names; none if they cannot be determined, for example if the file includes others.
    """
    said = set(_WORD.findall("\n".join((text, *settings))))
    if "include" in said:
        return []
    points = find_entry_points(KIND_GROUP)
    rooms = {_package(point) for point in points if point.name in said}
    return [point.name for point in points if point.name in said or _package(point) in rooms]


def _package(point: EntryPoint) -> str:
    return point.module.rpartition(".")[0]


def _has_shared_work(kinds: Iterable[Kind]) -> bool:
    """Return whether a kind does repeated work once, or no kind repeats work."""
    listed = list(kinds)
    return any(kind.role is Role.SHARED for kind in listed) or not any(
        isinstance(kind, RepeatsWork) for kind in listed
    )


def plan(
    task: TaskFile, *, root: str | Path | None = None, watch: HashProgress | None = None
) -> Plan:
    """Return all jobs of a task file, with their files, dependencies and hashes.

    Writes only caches: the digests of the kinds' code and of large files.

    Args:
        task: task from `load`.
        root: the folder of relative paths and of `runs/`; by default the working directory.
        watch: called while a large file is read.

    Raises:
        TaskFileError: all that is wrong with the file; `problems` holds it piece by piece.
    """
    code, files = CodeIndex(user_cache_file()), FileDigests(find_home(os.environ).digests, watch)
    made = build_plan(
        task,
        root=Path(os.path.normpath(Path.cwd() / (root or "."))),
        exists=Path.exists,
        code=code.code,
        content=files.digest_file,
    )
    code.save()
    files.save()
    made = replace(made, index=code)
    return (
        replace(made, warnings=(*made.warnings, *_opaque_module_warnings(code)))
        if code.opaque_modules
        else made
    )


def _opaque_module_warnings(code: CodeIndex) -> Iterator[Problem]:
    """Give a warning that names the modules of which only the bytes are known."""
    yield Problem(
        code="unread-code",
        message=f"cannot parse {pluralize(len(code.opaque_modules), 'module')} as Python; jobs that use one run again "
        "after any change or move of its file",
        severity=Severity.WARNING,
        notes=tuple(f"{module}: {file}" for module, file in sorted(code.opaque_modules.items())),
    )


def read_taskfile(text: str, file: str, context: ParseContext) -> TaskFile:
    """Read the text of a task file and the files that it includes, as `load` does."""
    return parse(
        text, file=file, context=context, include=lambda name: _read_task_file_text(Path(name))
    )


def plan_files(
    paths: Sequence[str], *, settings: Sequence[str] = (), watch: HashProgress | None = None
) -> list[Plan]:
    """Load and work out several task files; `watch` is called while a large file is read.

    Raises:
        TaskFileError: all that is wrong with any of them.
        UsageError: there is no such file.
    """
    plans: list[Plan] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            plans.append(plan(load(path, settings=settings), watch=watch))
        except TaskFileError as error:
            problems += [problem for problem in error.problems if problem not in problems]
        except UsageError as error:
            if len(paths) == 1:
                raise
            problems.append(Problem(code="no-file", message=str(error)))
    problems += _duplicate_job_problems(plans)
    if problems:
        raise TaskFileError(problems)
    return plans


def _duplicate_job_problems(plans: Sequence[Plan]) -> Iterator[Problem]:
    """Give a problem for each two files that ask for a job of one name in different ways."""
    first_jobs: dict[tuple[Path, str], tuple[Plan, PlannedJob]] = {}
    reported: set[tuple[str, str]] = set()
    for made in plans:
        for job in made.jobs:
            other, first = first_jobs.setdefault((made.run_folder, job.name), (made, job))
            if first.hash == job.hash or (other.file, made.file) in reported:
                continue
            reported.add((other.file, made.file))  # jobs that depend on the duplicate differ, too
            yield Problem(
                code="duplicate-job",
                message=f"{job.name} of run {made.name} differs between {other.file} and {made.file}",
                hint="give one of the files another run name, or run them one after the other",
                notes=tuple(differences(first.settings, job.settings)),
            )


def _read_task_file_text(path: Path) -> str:
    """Return the text of a task file.

    Raises:
        UsageError: the file does not exist, or cannot be read.
        TaskFileError: it is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        if path.is_symlink():
            message = f"{str(path)!r} is a link to {str(path.readlink())!r}, which does not exist"
            raise UsageError(message) from error
        by_stem = {Path(name).stem: name for name in _neighbours(path)}
        close = nearest(path.stem, by_stem)
        hint = f"Did you mean {path.with_name(by_stem[close])}?" if close else ""
        if "=" in path.name and path.suffix not in _TASK_FILES:
            hint = f"To set a value: --set {shlex.quote(str(path))}"
        raise UsageError(
            f"task file {str(path)!r} does not exist. {hint or 'Give the path of a task file.'}"
        ) from error
    except IsADirectoryError as error:
        inside = _neighbours(path / "x.yaml")
        hint = f", such as {path / inside[0]}" if inside else ""
        message = f"{str(path)!r} is a folder. Give the path of a task file{hint}."
        raise UsageError(message) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        message = f"cannot read task file {str(path)!r} ({why}). Give a file that you can read."
        raise UsageError(message) from error
    if words := _program_command_line(path, data):
        raise UsageError(
            f"{str(path)!r} is a program, not a task file. Queue it: launcher add -- {words}"
        )
    if len(data) > MOST_BYTES:
        raise UsageError(
            f"{str(path)!r} has more than {MOST_BYTES:,} bytes, too many for a task file. Give another "
            "file, or split it and join the parts with include."
        )
    return _decode(data, str(path))


def _program_command_line(path: Path, data: bytes) -> str:
    """Return the command line that starts a file which is a program; '' if it may be a task file."""
    if path.suffix in _TASK_FILES:
        return ""
    typed = shlex.quote(str(path))
    local = typed if "/" in str(path) else f"./{typed}"
    if data.startswith(b"#!") and os.access(path, os.X_OK):
        return local  # the first line of the file names the interpreter
    if path.suffix in _RUN_BY:
        return f"{_RUN_BY[path.suffix]} {typed}"
    return local if data.startswith((b"#!", b"\x7fELF")) else ""


def _neighbours(path: Path) -> list[str]:
    try:
        return sorted(file.name for file in path.parent.iterdir() if file.suffix in _TASK_FILES)
    except (OSError, ValueError):
        return []


def _decode(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace").splitlines() or [""]
        if data[: error.start].endswith(b"\n"):
            before.append("")
        rest = data[error.start :].split(b"\n", 1)[0].decode(errors="replace")
        place = SourceLocation(
            file=file,
            line=len(before),
            column=len(before[-1]) + 1,
            text=before[-1] + rest.rstrip("\r"),
        )
        message = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        problem = Problem(
            code="not-utf8", message=message, place=place, hint="save the file as UTF-8"
        )
        raise TaskFileError([problem]) from error
