"""Inputs of programs that stand for several files: patterns, and the outputs of a named entry.

    inputs: ["models/grid-*.npz"]     existing files and outputs of the plan's jobs that match
    inputs: ["outputs:grid"]          the outputs of the jobs that `after: grid` would name
    inputs: ["checkpoints-*/"]        the same for folders, with all their files

Both are replaced by the names of the files. So the job waits for the jobs that make them, and a new file, a missing one
or another content runs it again.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from launcher.experiments.planning.dependencies import (
    FOLDER_SETTING,
    UNKNOWN_JOB_CODE,
    PlanDisk,
    PreparedStep,
    StepNames,
    named_folders,
)
from launcher.experiments.taskfile.nodes import Node, SequenceNode, as_list
from launcher.experiments.taskfile.settings import ResolvedSettings, replace_values
from launcher.provenance.file_patterns import (
    OUTPUTS_OF,
    RECURSIVE,
    folder_around,
    is_pattern,
    is_pattern_or_outputs,
    matching_paths,
    name_from,
)
from launcher.provenance.folder_contents import FOLDER_END
from launcher.queue.jobs.context import FOLDER_PLACEHOLDERS, INPUTS, OUTPUTS
from launcher.system.errors import Problems
from launcher.system.files import Json
from launcher.system.real_paths import RealPaths

_CODE = "inputs"


class _File(NamedTuple):
    """A file that a program reads, and where its entry names it."""

    name: str
    node: Node


def resolve_inputs(
    steps: Sequence[PreparedStep], disk: PlanDisk, problems: Problems
) -> dict[str, ResolvedSettings]:
    """Return name → settings of each program whose inputs stand for several files, with the names of these files.

    Args:
        steps: Every step of the plan.
        disk: The existing files.
        problems: List to which problems are added.
    """
    patterns = [
        prepared
        for prepared in steps
        if not prepared.step.kind.entry and any(map(is_pattern_or_outputs, _input_names(prepared)))
    ]
    if not patterns:
        return {}
    resolver = _InputResolver(steps, disk, problems)
    return {prepared.step.name: resolver.resolve(prepared) for prepared in patterns}


def _input_names(prepared_step: PreparedStep) -> Sequence[str]:
    names = prepared_step.step.settings.values.get(INPUTS)
    return [*map(str, names)] if isinstance(names, list) else []


def _output_paths(prepared_step: PreparedStep, real: RealPaths) -> list[str]:
    """Return the outputs of a job; folders that a program makes end with a slash."""
    folders = named_folders(prepared_step, OUTPUTS, real)
    paths = [os.path.normpath(path) for path in prepared_step.outputs]
    return [path + FOLDER_END if real.locate(path) in folders else path for path in paths]


class _InputResolver:
    """Finds the files for which inputs of programs stand."""

    def __init__(self, steps: Sequence[PreparedStep], disk: PlanDisk, problems: Problems) -> None:
        self._disk, self._problems = disk, problems
        self._names = StepNames([prepared.step for prepared in steps])
        self._outputs = {
            prepared.step.name: _output_paths(prepared, disk.real) for prepared in steps
        }
        self._made = {path for paths in self._outputs.values() for path in paths}

    def resolve(self, prepared_step: PreparedStep) -> ResolvedSettings:
        """Return the settings of a program with the names of all its inputs."""
        step = prepared_step.step
        nodes = as_list(step.settings.given[INPUTS].node)
        texts, paths = (
            _input_names(prepared_step),
            [os.path.normpath(file.path) for file in prepared_step.inputs],
        )
        files: dict[str, _File] = {}
        for text, path, node in zip(texts, paths, nodes, strict=True):
            for name in self._files(prepared_step, text, path, node):
                files.setdefault(name, _File(name, node))
        names: list[Json] = [file.name for file in files.values()]
        said = step.settings.given[INPUTS]
        source = nodes[0].source
        expanded = SequenceNode(source, 0, 0, tuple(file.node for file in files.values()))
        settings = replace_values(step.kind, step.settings, {INPUTS: names})
        given = {**settings.given, INPUTS: said._replace(node=expanded)}
        return settings._replace(given=given)

    def _files(
        self, prepared_step: PreparedStep, text: str, path: str, node: Node
    ) -> Iterator[str]:
        """Yield the names of the files for which an input stands; report one that stands for none."""
        step = prepared_step.step
        own = {*map(self._disk.real.locate, self._outputs[step.name])}
        made = self._disk.real.respell(self._made, path) if is_pattern(text) else self._made
        if text.endswith(FOLDER_END):
            path += FOLDER_END
        if text.startswith(OUTPUTS_OF):
            found = self._outputs_of(prepared_step, text.removeprefix(OUTPUTS_OF), node)
        elif not is_pattern(text) or path in made or self._disk.path_exists(path):
            yield text  # a file may have such a name
            return
        elif RECURSIVE in text:
            message = f"inputs: {text!r} contains {RECURSIVE}"
            self._problems.add_error(node, _CODE, message, "write * once for each folder")
            return
        elif around := folder_around(path, made):
            message = f"inputs: {text!r} matches files in {self._relative_path(around)!r}, which a job makes"
            hint = "write this folder, or the whole name of a file in it"
            self._problems.add_error(node, _CODE, message, hint)
            return
        else:
            found = matching_paths(path, made, self._disk.matching_files(path))
            if not found:
                message = f"inputs: no file and no output of a job matches {text!r}"
                hint = "list the files as outputs of the program that makes them"
                self._problems.add_error(node, _CODE, message, hint)
        if both := [each for each in found if self._disk.real.locate(each) in own]:
            message = f"inputs: {text!r} matches {self._relative_path(both[0])!r}, which {step.name} makes itself"
            hint = "write a pattern that does not match its outputs, or another output"
            self._problems.add_error(node, _CODE, message, hint)
            return
        cwd = str(step.settings.values.get(FOLDER_SETTING, ""))
        folder = str(prepared_step.draft.path(cwd)) if cwd else str(self._disk.root)
        if cwd.startswith(FOLDER_PLACEHOLDERS):
            folder = cwd
        for each in found:
            yield name_from(each, folder, str(self._disk.root))

    def _outputs_of(self, prepared_step: PreparedStep, text: str, node: Node) -> list[str]:
        """Return the outputs of the jobs that a text names for a step."""
        step = prepared_step.step
        known = self._names.resolve_names(text)
        meant = [name for name in self._names.matching_names(text, step) if name != step.name]
        if not known:
            why = self._names.unknown_name_texts(INPUTS, text, has_help=True)
            self._problems.add_error(node, UNKNOWN_JOB_CODE, *why)
            return []
        found = [path for name in meant for path in self._outputs[name]]
        if not found:
            message = f"inputs: no job of {text!r} has outputs for {step.name}"
            hint = "list the outputs in that entry, and sweep the same values in both"
            self._problems.add_error(node, _CODE, message, hint)
        return sorted({*found})

    def _relative_path(self, path: str) -> str:
        return path.removeprefix(f"{self._disk.root}/")
