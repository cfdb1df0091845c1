"""The files of programs that `launcher add` queues: invalid paths, producers, and earlier jobs with the same files."""

import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from launcher.provenance.file_digests import FileDigests, current_digests, file_changes
from launcher.provenance.file_patterns import (
    OUTPUTS_OF,
    RECURSIVE,
    existing_files,
    folder_around,
    is_pattern,
    matching_paths,
    name_from,
)
from launcher.provenance.folder_contents import FOLDER_END
from launcher.queue.jobs.context import (
    INPUTS,
    OUTPUTS,
    file_obstacle,
    file_paths,
    folders_above,
    output_folders,
    resolve_path,
    start_folder,
)
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.params import TEMPLATE
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.connection import known_record
from launcher.queue.store.output_index import OutputIndex
from launcher.queue.store.queue import Store
from launcher.queue.store.replaced_folders import find_replaced_folder, named_output_folders
from launcher.queue.store.rows import JobRow
from launcher.system.errors import UsageError, pluralize
from launcher.system.executables import program_of
from launcher.system.files import file_stamp
from launcher.system.real_paths import RealPaths
from launcher.system.text import sanitize_terminal

# path → programs that declare it as output, the newest last
ProgramsByOutput = Mapping[str, Sequence[JobRow]]


class EarlierJob(NamedTuple):
    """A done job with the same program."""

    row: JobRow
    changes: Sequence[str]  # short texts about changed files; empty: the program need not run again


def find_finished_program(
    spec: Spec, folder: str, makers: ProgramsByOutput, store: Store, digests: FileDigests
) -> EarlierJob | None:
    """Return the done job with the same program and files, otherwise the newest with other files; None if there is none.

    Args:
        spec: Specification of the program.
        folder: Folder in which it would start.
        makers: Producers of its outputs.
        store: Queue.
        digests: Digests of input files.
    """
    outputs = _named_paths(OUTPUTS, spec, folder)
    inputs, start = spec.settings.get(INPUTS) or (), start_folder(spec, folder)
    newest = None
    for row in reversed(makers.get(outputs[0][1], ()) if outputs else ()):
        before = row.spec_without_sources
        alike = before.argv == spec.argv and _without_template(
            before.settings
        ) == _without_template(spec.settings)
        if row.state is not State.DONE or not alike or store.read.working_folder(row.id) != folder:
            continue
        changes = [
            f"{name} {'changed' if at else 'is missing'}"
            for name, path in outputs
            if not (at := file_stamp(path))
            or (made := row.outputs.get(path)) is None
            or not digests.is_unchanged(path, made, at)
        ]
        known = known_record(row.sources_text or "{}")
        now = current_digests(
            known, inputs, partial(resolve_path, start), digests.digest_or_missing
        )
        changes += file_changes(known, now).values()
        if not changes:
            return EarlierJob(row, ())
        newest = newest or EarlierJob(row, changes)
    return newest


def replaced_outputs_warning(specs: Sequence[Spec], folder: str, makers: ProgramsByOutput) -> str:
    """Return the warning that programs will replace outputs of other programs or runs; '' if they do not.

    Args:
        specs: Specifications of the programs.
        folder: Folder in which they start.
        makers: Producers of all files.
    """
    replaced = [
        (name, row)
        for spec in specs
        for read in [{path for _, path in _named_paths(INPUTS, spec, folder)}]
        for name, path in _named_paths(OUTPUTS, spec, folder)
        if path not in read
        and (rows := makers.get(path))
        and _is_other_work((row := rows[-1]), spec)
    ]
    if not replaced:
        return ""
    (name, row), more = replaced[0], len(replaced) - 1
    others = f", and {pluralize(more, 'more output')}" if more else ""
    return sanitize_terminal(
        f"warning: --output {name} was made by job {row.id} {row.name} of run {row.run}{others}. It is replaced when "
        "this program is done. To keep it, write another file."
    )


def _is_other_work(row: JobRow, spec: Spec) -> bool:
    """Whether a done job belongs to another run, or is neither an earlier version of a program nor of its name."""
    if row.state is not State.DONE or row.run != spec.run:
        return row.state is State.DONE
    stem = spec.name.partition("@")[0]
    is_same = bool(stem) and stem == row.name.partition("@")[0]
    return not is_same and program_of(row.spec_without_sources.argv) != program_of(spec.argv)


def _without_template(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without the template of a sweep: a program is the same however it was written."""
    return {name: value for name, value in settings.items() if name != TEMPLATE}


def expand_inputs(specs: Sequence[Spec], folder: str, makers: ProgramsByOutput) -> list[Spec]:
    """Return specifications in which patterns among the inputs are replaced by the names of files.

    A pattern means existing files, and outputs of programs that wait or run.

    Args:
        specs: Specifications of the programs.
        folder: Folder in which they start.
        makers: Producers of all files.

    Raises:
        UsageError: a pattern matches nothing, or an output of its program.
    """
    made: list[str] | None = None
    found: dict[tuple[str, str], list[str]] = {}
    real = RealPaths()
    expanded = []
    for spec in specs:
        inputs = _named_paths(INPUTS, spec, folder)
        if not any(is_pattern(name) for name, _ in inputs):
            expanded.append(spec)
            continue
        if made is None:
            made = [
                path + FOLDER_END if path in output_folders(rows[-1].spec_without_sources) else path
                for path in makers
                if (rows := _open(makers, path))
            ]
        names: dict[str, None] = {}
        for name, path in inputs:
            if (name, path) not in found:
                found[name, path] = _files_of(name, path, real.respell(made, path))
            own = {real.locate(path) for _, path in _named_paths(OUTPUTS, spec, folder)}
            paths_of = found[name, path]
            if both := [each for each in paths_of if real.locate(each) in own]:
                raise UsageError(
                    f"--input {name} matches {min(both)}, which this program makes. Write another pattern."
                )
            names |= dict.fromkeys(
                [name]
                if paths_of == [path]
                else [name_from(each, start_folder(spec, folder), folder) for each in paths_of]
            )
        expanded.append(spec._replace(settings={**spec.settings, INPUTS: [*names]}))
    return expanded


def _files_of(name: str, path: str, made_names: Collection[str]) -> list[str]:
    """Return the paths for which an input stands: its own, or those that match its pattern."""
    if not is_pattern(name) or path in made_names or os.path.exists(path):  # noqa: PTH110  # a text
        return [path]
    if RECURSIVE in name:
        raise UsageError(f"--input {name} contains {RECURSIVE}. Write * once for each folder.")
    if name.endswith(FOLDER_END):
        path += FOLDER_END
    if around := folder_around(path, made_names):
        raise UsageError(
            f"--input {name} matches files in {around}, which a job makes. Write this folder, or the whole "
            "name of a file in it."
        )
    paths = matching_paths(path, made_names, existing_files(path))
    if not paths:
        raise UsageError(
            f"--input {name} matches no file, and no output of a waiting or running job. "
            "First queue the program that makes the files, with --output"
        )
    return paths


def check_files(
    specs: Sequence[Spec],
    folder: str,
    makers: ProgramsByOutput,
    replaced_jobs: Collection[int] = (),
) -> list[list[int]]:
    """Return per program the jobs that make its inputs and have not ended.

    Args:
        specs: Specifications of the programs.
        folder: Folder in which they start.
        makers: Producers of all files.
        replaced_jobs: Numbers of jobs that they replace.

    Raises:
        UsageError: a path cannot be a file of a program, or no job makes a missing input.
    """
    needs: list[list[int]] = []
    made, written, real = OutputIndex[str](), OutputIndex[JobRow](), RealPaths()
    for path in makers:
        for row in _open(makers, path):
            if row.id not in replaced_jobs:
                is_folder = path in output_folders(row.spec_without_sources)
                written.add(real.locate(path), row, is_folder=is_folder)
    for spec in specs:
        outputs = _named_paths(OUTPUTS, spec, folder)
        named = (*(spec.settings.get(INPUTS) or ()), *(spec.settings.get(OUTPUTS) or ()))
        has_folders = any(name.endswith(FOLDER_END) for name in named)
        for name, path in outputs:
            is_folder = name.endswith(FOLDER_END)
            _refuse("--output", name, path, folder)
            location = real.locate(path)
            if made.find(location, is_folder=is_folder):
                raise UsageError(
                    f"--output {name}: two of these programs would make it. Put a value into its name, "
                    "such as {sweep}."
                )
            if other := next(iter(written.find(location, is_folder=is_folder)), None):
                raise UsageError(
                    f"--output {name} is made by job {other.id} {other.name} ({other.state}). Write another "
                    f"file, or end that job first: launcher cancel {other.id}"
                )
            if has_folders:
                _refuse_overlap(name, location, spec, folder, real)
        for name, path in outputs:
            made.add(real.locate(path), name, is_folder=name.endswith(FOLDER_END))
        before: list[int] = []
        for name, path in _named_paths(INPUTS, spec, folder):
            is_folder = name.endswith(FOLDER_END)
            _refuse("--input", name, path, folder)
            makers_of_it = [
                row
                for each in real.targets(path)
                for row in written.find(each, is_folder=is_folder)
            ]
            _refuse_other_type(name, real.targets(path), makers_of_it, real)
            before += (rows := [*dict.fromkeys(row.id for row in makers_of_it)])
            if not rows and not os.path.exists(path):  # noqa: PTH110  # called for thousands of programs
                hint = f"First queue the program that makes it, with --output {name}"
                if name.startswith(OUTPUTS_OF):
                    hint = f"{OUTPUTS_OF}ENTRY has a meaning in task files only. Write a pattern such as 'm-*.npz'"
                raise UsageError(
                    f"--input {name} does not exist, and no waiting or running job makes it. {hint}"
                )
        needs.append(before)
    return needs


def refuse_replaced_folders(specs: Sequence[Spec], folder: str, store: Store) -> None:
    """Refuse output folders with content that no job of the queue made.

    Args:
        specs: Specifications of the programs.
        folder: Folder in which they are queued.
        store: Queue.

    Raises:
        UsageError: Names the first one.
    """
    folders = (
        each
        for spec in specs
        for each in named_output_folders(
            spec.settings,
            file_paths(OUTPUTS, spec, folder, 0),
            spec.argv,
            start_folder(spec, folder),
            spec.run_folder,
        )
    )
    if (found := find_replaced_folder(folders, folder, store)) is not None:
        output, fault, hint = found
        raise UsageError(f"--output {output.name} {fault}. {hint}.")


def _refuse_overlap(name: str, path: str, spec: Spec, folder: str, real: RealPaths) -> None:
    """Refuse an output in a folder that its program also reads or makes, and a folder around its inputs.

    Raises:
        UsageError: names both.
    """
    for setting, option in ((INPUTS, "--input"), (OUTPUTS, "--output")):
        for other, spelled in _named_paths(setting, spec, folder):
            place = real.locate(spelled)
            inside = other.endswith(FOLDER_END) and place in folders_above(path)
            same_or_above = path == place or path in folders_above(place)
            around = name.endswith(FOLDER_END) and setting == INPUTS and same_or_above
            if inside or around:
                raise UsageError(
                    f"--output {name} overlaps with {option} {other} of the same program. Let it write to "
                    "another file or folder."
                )


def _refuse_other_type(
    name: str, locations: Sequence[str], makers: Sequence[JobRow], real: RealPaths
) -> None:
    """Refuse a folder that is named like a file, and a file that is named like a folder.

    Raises:
        UsageError: a job makes it as the other one.
    """
    for row in makers:
        spec = row.spec_without_sources
        if {*locations}.isdisjoint(map(real.locate, spec.outputs)):
            continue
        is_folder = not {*locations}.isdisjoint(map(real.locate, output_folders(spec)))
        if is_folder and not name.endswith(FOLDER_END):
            raise UsageError(
                f"--input {name} is a folder that job {row.id} makes. Add / to its name if the program reads "
                "all of it, or name files in it."
            )
        if name.endswith(FOLDER_END) and not is_folder:
            raise UsageError(
                f"--input {name} is a file that job {row.id} makes. Remove the / at the end of its name."
            )


def _named_paths(setting: str, spec: Spec, folder: str) -> list[tuple[str, str]]:
    names = spec.settings.get(setting) or ()
    return [*zip(names, file_paths(setting, spec, folder, 0), strict=True)]


def _open(makers: ProgramsByOutput, path: str) -> list[JobRow]:
    return [row for row in makers.get(path, ()) if row.state in OPEN_STATES]


def _refuse(option: str, name: str, path: str, folder: str) -> None:
    if option == "--input" and not path.strip(FOLDER_END):
        raise UsageError(f"--input {name} is the whole file system. Name a folder or file in it.")
    fault, hint = file_obstacle(Path(path), folder, is_output=option == "--output", name=name)
    if fault:
        raise UsageError(
            f"{option} {name or repr(name)} {fault}. {hint[:1].upper()}{hint[1:].removesuffix('.')}."
        )
