"""Existing folders that a program would replace although they contain other files than its output."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.provenance.folder_contents import FOLDER_END
from launcher.queue.jobs.context import JOB_FOLDER, OUTPUTS, folders_above, resolve_path
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.system.lazy_regex import compile_lazily
from launcher.system.real_paths import RealPaths

_SCRIPT = compile_lazily(r"(?i).*\.(py|pyw|ipynb|sh|bash|r|jl|m|lua|pl|rb|js)")
_ANOTHER = "Name another folder"


class OutputFolder(NamedTuple):
    """A folder that a program would make."""

    name: str  # name as written, with a slash at the end
    path: str  # normalized
    argv: Sequence[str]  # command line of the job
    start: str  # the folder in which the program starts
    run_folder: str
    job: str  # the job's name, '' if it has none yet


def named_output_folders(
    settings: Mapping[str, object],
    paths: Iterable[str],
    argv: Sequence[str],
    start: str,
    run_folder: Path,
    job: str = "",
) -> list[OutputFolder]:
    """Return the folders among the outputs of a program.

    Args:
        settings: Settings of the program.
        paths: Paths of its outputs.
        argv: Program and arguments.
        start: Folder in which the program starts.
        run_folder: Folder of its run.
        job: Name of the job.
    """
    names = settings.get(OUTPUTS)
    return [
        OutputFolder(name, os.path.normpath(path), argv, start, str(run_folder), job)
        for name, path in zip(names if isinstance(names, list | tuple) else (), paths, strict=False)
        if name.endswith(FOLDER_END) and not name.startswith(JOB_FOLDER)  # each attempt has its own
    ]


def find_replaced_folder(
    folders: Iterable[OutputFolder], root: str, store: Store | None
) -> tuple[OutputFolder, str, str] | None:
    """Return the first folder that a program must not replace, why, and a remedy; None if there is none.

    Args:
        folders: Output folders of programs.
        root: Folder of the project.
        store: Queue, None if there is none.
    """
    real = RealPaths()
    written = None  # folders into which programs write
    results = f"{root}/runs/"
    for folder in folders:
        own = os.path.normpath(folder.run_folder)
        if folder.path.startswith(results) and own not in folders_above(folder.path):
            return folder, "is in the folder of another run", _ANOTHER
        if not _has_content(folder.path):
            continue
        if written is None:
            written = [] if store is None else store.read.output_folders()
        location = real.locate(folder.path)
        is_result = store is not None and _is_result(store, location, written, real)
        if word := _file_inside(folder, scripts_only=is_result):
            return folder, f"contains {word}, which its command names", _ANOTHER
        if store is None or not is_result:
            why = "has content that no job of this queue made"
            return folder, why, "Move it away, or name another folder"
        inside = (each for each in written if location in folders_above(real.locate(f"{each}x")))
        for path, job in store.read.done_outputs_in(inside):
            if os.path.lexists(path):
                return folder, f"contains {real.locate(path)}, which job {job} made", _ANOTHER
    return None


def _is_result(store: Store, location: str, written_names: Iterable[str], real: RealPaths) -> bool:
    """Whether a program that has started makes a folder."""
    name = location.rpartition("/")[2]
    paths = [path for each in written_names if real.locate(path := f"{each}{name}") == location]
    makers = store.read.programs_by_output([*State], paths)
    return any(_has_begun(row) for path in paths for row in makers.get(path, ()))


def _has_begun(row: JobRow) -> bool:
    return row.attempts > 0 or row.state is State.DONE  # done by `launcher touch`


def _has_content(path: str) -> bool:
    """Return whether a path is a folder that is not empty, or that cannot be read."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except PermissionError:
        return True
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return False


def _file_inside(folder: OutputFolder, *, scripts_only: bool) -> str:
    """Return a word of the command that names an existing file in a folder, '' if there is none.

    A program may name files that it makes itself, but not itself.
    """
    for place, word in enumerate(folder.argv):
        path = os.path.normpath(resolve_path(folder.start, word)) if word else ""
        if folder.path not in folders_above(path) or not Path(path).is_file():
            continue
        if not scripts_only or place == 0 or _SCRIPT.fullmatch(path):
            return word
    return ""
