"""The folder and environment in which a job's program runs, and the environment of its worker."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from launcher.provenance.folder_contents import FOLDER_END
from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.system.environment import owners_environment
from launcher.system.lazy_regex import compile_lazily
from launcher.system.process_limits import is_limits, niceness_of, soft_limits
from launcher.system.program_paths import (
    Start,
    find_named_paths,
    find_paths,
    named_words,
    program_index,
    use_paths,
    used_paths,
)
from launcher.system.stored_fields import Unreadable, restore_known_fields

JOB_FOLDER, RUN_FOLDER = "{job_folder}", "{run_folder}"  # in the entry of a program
FOLDER_PLACEHOLDERS = (JOB_FOLDER, RUN_FOLDER)  # replaced when an attempt starts
JOBS = "jobs"  # name of a folder in a run's folder: it contains the folders of programs
_SHARED_FOLDERS = frozenset({JOBS, "made"})  # in a run's folder: many jobs write there
_FOLDER_BYTES = 255
_FEW_LETTERS = 60  # letters of a long name that its folder keeps; a hash follows
_PLACEHOLDER = compile_lazily(r"\{(?:job|run)_folder\}")
_UNSAFE = compile_lazily(r"[^\w.,=@+%~-]|^\.")
INPUTS, OUTPUTS = "inputs", "outputs"  # settings of a program: the files that it reads and writes
_OPTION = compile_lazily(r"-{0,2}[A-Za-z_][\w.-]*=(.+)", re.DOTALL)
LIMITS, NICENESS, PROGRAMS = "limits", "niceness", "programs"  # keys of a stored context
KINDS = "launcher.kinds"  # the module that a worker imports, and that imports pydantic
KIND_GROUP = "launcher.kinds"  # the entry points by which plugin packages offer job types


class Context(NamedTuple):
    """The folder, environment and affinity in which a job's program runs, with its limits and niceness."""

    folder: str
    umask: int
    interpreter: str
    environment: Mapping[str, str]
    affinity: tuple[int, ...]
    limits: Mapping[str, int | None] = {}  # soft limits; a missing one is that of the supervisor
    niceness: int | None = None  # None: the supervisor's
    # from which its code comes, see `launcher.provenance.snapshots.SnapshotReference`; empty: the working folder
    snapshot: Mapping[str, Any] = {}
    # name of a program → its path when the job was queued, see `launcher.system.program_paths`
    programs: Mapping[str, str] = {}

    @property
    def digest(self) -> str:
        """The digest of this context: equal contexts are stored once."""
        text = json.dumps(self._asdict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_context(record: Mapping[str, Any]) -> Context:
    """Return the context that was stored as JSON.

    Raises:
        Unreadable: a field is missing or has the wrong type.
    """
    cpus = record.get("affinity")
    if isinstance(cpus, list | tuple):
        context = restore_known_fields(
            Context, {**record, "affinity": tuple(cpus)}, "its environment"
        )
        texts = (context.environment, context.programs)
        words = {type(text) for each in texts for pair in each.items() for text in pair}
        if words <= {str} and is_limits(context.limits):
            return context
    raise Unreadable("the record of its environment is incomplete")


def entry_variables(spec: Spec) -> Mapping[str, str]:
    """Return the environment variables that a program's entry sets; empty for any other job.

    Raises:
        Unreadable: the stored value has the wrong type.
    """
    variables = spec.settings.get("env") if spec.kind == PROGRAM else None
    if not variables:
        return {}
    match variables:
        case dict() if {*map(type, variables), *map(type, variables.values())} <= {str}:
            return variables
    raise Unreadable("the variables of its entry are not strings")


def program_words(settings: Mapping[str, Any], argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that starts a program like its entry: in its folder and with its variables.

    Args:
        settings: Settings of the program.
        argv: Program and arguments.
    """
    folder, variables = settings.get("cwd"), settings.get("env") or {}
    if not folder and not variables:
        return tuple(argv)
    start = ("-C", str(folder)) if folder else ()
    return ("env", *start, *(f"{name}={text}" for name, text in variables.items()), *argv)


def start_folder(spec: Spec, folder: str) -> str:
    """Return the folder in which a job starts.

    Args:
        spec: Specification of the job; a program's entry may name a folder.
        folder: Folder in which the job was queued.

    Raises:
        Unreadable: the stored folder is not a text.
    """
    named = spec.settings.get("cwd") if spec.kind == PROGRAM else None
    if not named:
        return folder
    if not isinstance(named, str):
        raise Unreadable("the folder of its entry is not a string")
    if named.startswith(FOLDER_PLACEHOLDERS):
        return named
    try:
        return str(Path(folder, Path(named).expanduser()))
    except RuntimeError:  # "~nobody": no such folder; the start of the job reports it
        return str(Path(folder, named))


def _entry_text(spec: Spec) -> str:
    """Return arguments, folders, variables and files of a program's entry as one text."""
    own = map(spec.settings.get, ("cwd", "env", INPUTS, OUTPUTS))
    return str((spec.argv, *own, spec.terms.tensorboard, spec.terms.metrics))


def uses_job_folder(spec: Spec) -> bool:
    """Return whether a job is a program that names the folder of its attempt."""
    return not spec.entry and JOB_FOLDER in _entry_text(spec)


def job_folder(spec: Spec, job: int) -> Path:
    """Return the final folder of a program; no other job of its run has the same.

    The folder of an entry of a task file has the job's name, on which other entries and later runs rely. The name of an
    added job can be given to a newer job, so its folder has the job number. `launcher.queue.jobs.job_folders` adds a
    suffix if a job of another queue folder may have the same number.
    """
    if not spec.hash:
        return spec.run_folder / JOBS / f"{job}{spec.folder_suffix}"
    return spec.run_folder / JOBS / _as_file_name(spec.name.removeprefix(f"{PROGRAM}/"))


def attempt_job_folder(spec: Spec, job: int) -> Path:
    """Return the folder that a program's attempt uses in place of its final folder, as if it was in the run's folder.

    Its name is the job number: a program's own parser could split the path at a character of the job's name.
    """
    return spec.run_folder / JOBS / str(job)


def job_folder_link(spec: Spec, job: int) -> str:
    """Return the name of the link that shows people the job of a folder; "" if the folder has the job's name."""
    name, number = spec.name.removeprefix(f"{PROGRAM}/").rstrip("'"), str(job)
    if spec.hash or name == number:
        return ""
    linked = name if name.endswith(f"@{number}") else f"{name}@{number}"
    return _as_file_name(f"{linked}{spec.folder_suffix}")


def _as_file_name(name: str) -> str:
    """Return the name of a job as the name of a file."""
    plain = _UNSAFE.sub("-", name)
    if plain != name or len(plain.encode()) > _FOLDER_BYTES:
        mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
        plain = f"{plain[:_FEW_LETTERS]}.{mark}"
    return plain


def substitute_folders(
    spec: Spec, context: Context, make_job_folder: Callable[[], Path]
) -> tuple[Spec, Context]:
    """Return a program with the placeholders of folders replaced by their paths.

    Args:
        spec: Specification of the program.
        context: Context with the folder and the variables of its entry.
        make_job_folder: Creates the folder of the attempt; called if the program names it.
    """
    entry = _entry_text(spec)
    folders = {RUN_FOLDER: str(spec.run_folder)} if RUN_FOLDER in entry else {}
    if uses_job_folder(spec):
        folders[JOB_FOLDER] = str(make_job_folder())
    if not folders:
        return spec, context

    def fill_text(text: str) -> str:
        return _PLACEHOLDER.sub(lambda name: folders.get(name[0], name[0]), text)

    variables = {name: fill_text(text) for name, text in entry_variables(spec).items()}
    files = {name: [*map(fill_text, spec.settings.get(name) or ())] for name in (INPUTS, OUTPUTS)}
    return (
        spec._replace(
            argv=tuple(map(fill_text, spec.argv)),
            settings={**spec.settings, "env": variables, **files},
            terms=spec.terms._replace(
                tensorboard=fill_text(spec.terms.tensorboard), metrics=fill_text(spec.terms.metrics)
            ),
        ),
        context._replace(
            folder=fill_text(context.folder), environment={**context.environment, **variables}
        ),
    )


def named_files(spec: Spec) -> tuple[str, ...]:
    """Return the names of files that a program may read, as written: its inputs, then a name per argument.

    The number is equal on every host; paths may differ between nodes. '' stands for an argument that names an input
    or output. It also stands for a file in an output folder.
    """
    inputs, outputs = (tuple(spec.settings.get(name) or ()) for name in (INPUTS, OUTPUTS))
    known = {os.path.normpath(name) for name in (*inputs, *outputs)}
    made = {os.path.normpath(name) for name in outputs if name.endswith(FOLDER_END)}

    def is_known(word: str) -> bool:
        path = os.path.normpath(word)
        return path in known or (bool(made) and not made.isdisjoint(folders_above(path)))

    words = (match[1] if (match := _OPTION.fullmatch(word)) else word for word in spec.argv)
    return (*inputs, *("" if is_known(word) else word for word in words))


def file_paths(setting: str, spec: Spec, folder: str, job: int) -> tuple[str, ...]:
    """Return the final paths of the files that a program names.

    Args:
        setting: Setting that names the files.
        spec: Specification of the program.
        folder: Folder in which the program was queued.
        job: Job number.
    """
    folders = {RUN_FOLDER: str(spec.run_folder), JOB_FOLDER: str(job_folder(spec, job))}

    def fill_text(text: str) -> str:
        return _PLACEHOLDER.sub(lambda name: folders[name[0]], text)

    start = fill_text(start_folder(spec, folder))
    names = map(fill_text, spec.settings.get(setting) or ())
    return tuple(os.path.normpath(resolve_path(start, name)) for name in names)


def folders_above(path: str) -> Iterator[str]:
    """Yield the folders that contain a normalized path, the nearest first, without the root."""
    while above := path.rpartition("/")[0]:
        yield above
        path = above


def output_folders(spec: Spec) -> frozenset[str]:
    """Return the final paths of the folders that a queued program makes."""
    names = spec.settings.get(OUTPUTS) or () if spec.kind == PROGRAM else ()
    return frozenset(
        os.path.normpath(path)
        for name, path in zip(names, spec.outputs, strict=False)
        if name.endswith(FOLDER_END)
    )


# bytes; most file systems allow 255, and an earlier output is set aside as `.NAME.launcher-JOB`
LONGEST_OUTPUT_NAME = 255 - len("..launcher-") - 7  # 7 digits of the job number


def file_obstacle(
    path: Path,
    project: str,
    *,
    is_output: bool,
    name: str = "",
    is_link: Callable[[Path], bool] = Path.is_symlink,
    is_folder: Callable[[Path], bool] = Path.is_dir,
    exists: Callable[[Path], bool] = Path.exists,
) -> tuple[str, str]:
    """Return why a path cannot be a file or folder of a program, with a remedy; '' if it can.

    Args:
        path: Path of the file or folder.
        project: Folder that contains outputs.
        is_output: Whether the program writes it.
        name: Path as written. A slash at its end means a folder.
        is_link: Returns whether a path is a link.
        is_folder: Returns whether a path is a folder.
        exists: Returns whether a path exists.
    """
    means_folder = name.endswith(FOLDER_END)
    if is_output and means_folder and ".git" in path.parts:
        return "belongs to Git", "name another folder"
    if is_output and means_folder and (fault := _folder_fault(path, project, name)):
        return fault, "name a folder in it that only this program writes"
    if is_output and is_link(path):
        return "is a link", "name the file it points to, or another file"
    if is_folder(path) and not means_folder:
        verb = "makes" if is_output else "reads"
        hint = f"add / to its name if the program {verb} all of it, or name files in it"
        return "is a folder", hint if name else "name files in it"
    if means_folder and not is_folder(path) and exists(path):
        return "is a file, not a folder", "remove the / at the end of its name"
    if is_output and len(os.fsencode(path.name)) > LONGEST_OUTPUT_NAME:
        return (
            f"has a name of more than {LONGEST_OUTPUT_NAME} bytes",
            "shorten it; an earlier file gets a longer name while the program runs",
        )
    if is_output and not os.path.normpath(path).startswith(f"{project}/"):
        return f"is outside of the project {project}", "name a file in the project"
    return "", ""


def _folder_fault(path: Path, project: str, name: str) -> str:
    """Return why no program may replace a whole folder; '' if it may."""
    place = os.path.normpath(path)
    if place == project:
        return "is the folder of the project"
    if name.rstrip(FOLDER_END) in FOLDER_PLACEHOLDERS:
        return "has more content than this program writes"
    if not {*os.path.normpath(name).split("/")} - {"..", "."}:
        return "contains the folder in which the program starts"
    above, _, last = place.rpartition("/")
    results = f"{project}/runs"
    if results in {place, above} or (last in _SHARED_FOLDERS and os.path.dirname(above) == results):  # noqa: PTH120  # texts
        return "contains the results of other jobs"
    return ""


def resolve_path(folder: str, name: str) -> str:
    """Return the path of a file of a program's entry, relative to the folder in which the program starts."""
    return os.path.join(folder, os.path.expanduser(name))  # noqa: PTH111, PTH118  # called for every argument


def entry_context(spec: Spec, context: Context) -> Context:
    """Return the context of a job with the folder and the variables of its own entry.

    Raises:
        Unreadable: a stored value has the wrong type.
    """
    folder, variables = start_folder(spec, context.folder), entry_variables(spec)
    if folder == context.folder and not variables:
        return context
    return context._replace(folder=folder, environment={**context.environment, **variables})


def with_programs(context: Context, specs: Iterable[Spec]) -> Context:
    """Return the context of jobs with the paths that PATH gives now for their programs.

    A path that the context has already stays, such as that of a search whose trials are queued later.
    """
    found: dict[str, str] = {}
    known: dict[object, set[str]] = {}
    for spec in specs:
        if spec.entry or not spec.argv:
            continue
        at, path = program_index(spec.argv)
        own = spec.settings.get("env") or {}
        key = (spec.argv[: at + 1], path, spec.settings.get("cwd"), tuple(own.items()))
        is_new, words = key not in known, {*spec.argv} - known.setdefault(key, set())
        known[key] |= words
        with suppress(Unreadable):  # the start of the job reports the error
            if is_new:
                found |= find_paths(spec.argv, _start(spec, entry_context(spec, context)))
            elif names := named_words(words):  # the jobs of a sweep have one program
                start = _start(spec, entry_context(spec, context))
                found |= find_named_paths(names, start, path)
    programs = {**found, **context.programs}
    return context if programs == context.programs else context._replace(programs=programs)


def started_words(spec: Spec, context: Context) -> tuple[str, ...]:
    """Return the command line of a program that starts now, with the programs that it had when it was queued.

    Args:
        spec: Specification of the program.
        context: Context with the folder and the variables of its entry.

    Raises:
        ProgramGone: a program does not exist.
    """
    if not context.programs:
        return spec.argv
    return use_paths(spec.argv, _start(spec, context), context.programs)


def program_paths(spec: Spec, context: Context) -> list[str]:
    """Return the stored paths of a job's programs that its command line does not name.

    Args:
        spec: Specification of the job.
        context: Context in which it was queued.
    """
    if spec.entry:
        return [context.interpreter]
    return used_paths(spec.argv, _start(spec, entry_context(spec, context)), context.programs)


def _start(spec: Spec, context: Context) -> Start:
    return Start(context.folder, context.environment, entry_variables(spec))


class WorkerEnvironment(NamedTuple):
    """The environment of a worker; jobs with the same environment share a fork server."""

    interpreter: str = ""  # empty: any, as for a program
    preload: tuple[str, ...] = ()
    python_path: str = ""


def worker_environment_of(spec: Spec, context: Context) -> WorkerEnvironment:
    """Return the environment of the worker that runs a job."""
    if not spec.entry:
        return WorkerEnvironment()
    python_path = context.environment.get("PYTHONPATH", "")
    return WorkerEnvironment(context.interpreter, (*spec.preload, KINDS), python_path)


def current_context(environment: Mapping[str, str]) -> Context:
    """Return the context of the calling process, with the part of its environment that is stored."""
    umask = os.umask(0o077)
    os.umask(umask)
    return Context(
        folder=str(Path.cwd()),
        umask=umask,
        interpreter=sys.executable,
        environment=owners_environment(environment),
        affinity=tuple(sorted(os.sched_getaffinity(0))),
        limits=soft_limits(),
        niceness=niceness_of(),
    )
