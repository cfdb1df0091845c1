"""The kinds of jobs that installed packages offer, and one of the launcher's own: `command`.

A laboratory installs its kinds under the entry-point group `launcher.kinds`.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, StringConstraints, field_validator

from launcher.context import INPUTS, OUTPUTS, file_paths
from launcher.draft import Draft, Input
from launcher.errors import UsageError
from launcher.job import PROGRAM, Spec
from launcher.kind_interface import Kind, Role, Settings
from launcher.params import PARAMS
from launcher.signatures import kind_digest, program_signature

GROUP = "launcher.kinds"


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


# no number, as editors know by the pattern
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


def variable_fault(name: str) -> str:
    """Return why no variable of an environment can have a name, '' where it can."""
    if _VARIABLE.fullmatch(name):
        return ""
    return f"{name!r} is not a valid variable name; use letters, digits and _, and no digit first"


class CommandSettings(Settings):
    """What a command needs to be run again: its words, and where it starts."""

    neutral = frozenset({PARAMS})  # no setting that a person writes: a matrix gives them
    added = frozenset({"cwd", "env", INPUTS, OUTPUTS})
    argv: tuple[str, ...] = Field(min_length=1, description="Program and its arguments")
    cwd: str = Field(
        default="",
        description="Folder in which the program starts, relative to the folder of `launcher run`",
    )
    env: dict[str, _Text] = Field(
        default={}, description="Environment variables, in addition to those of `launcher run`"
    )

    # lists, as JSON gives them back: by that it is told whether they have their default
    inputs: list[_Text] = Field(
        default=[],
        description="Files that the program reads. The job runs again if their content changes",
    )
    outputs: list[_Text] = Field(
        default=[], description="Files that the program makes. The job is done when they exist"
    )

    @field_validator("cwd")
    @classmethod
    def _check_folder(cls, cwd: str) -> str:
        if "\0" in cwd:
            raise ValueError("a folder name cannot contain a null character")
        return cwd

    @field_validator("env")
    @classmethod
    def _check_variables(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if fault := variable_fault(name):
                raise ValueError(fault)
        return env


class Command(Kind):
    """Any program, started as it is typed: no shell, no Python; what it reads and writes its entry may say."""

    name = "command"
    role = Role.PLAIN
    summary = "run any program"
    entry = ""
    preload: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    settings: type[Settings] = CommandSettings
    results = ""

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return the program and its arguments."""
        return tuple(draft.settings["argv"])

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return the files that its entry says it reads."""
        return tuple(Input(path, "an input") for path in _paths(draft, INPUTS))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the files that its entry says it makes."""
        return _paths(draft, OUTPUTS)


def _paths(draft: Draft, setting: str) -> tuple[Path, ...]:
    """Return the paths of a setting; relative ones begin in the folder in which the program starts."""
    if not draft.settings.get(setting):
        return ()
    spec = Spec(
        name=f"{PROGRAM}/{draft.name}",
        kind=PROGRAM,
        role=Role.PLAIN,
        run=draft.run,
        root=str(draft.run_folder.parents[1]),
        settings=draft.settings,
        hash="planned",
    )
    return tuple(map(Path, file_paths(setting, spec, str(draft.folder), 0)))


COMMAND = Command()


class InstalledKinds(NamedTuple):
    """The kinds that installed packages offer."""

    kinds: dict[str, Kind]  # by name
    unusable: dict[str, str]  # name → why the kind cannot be had, and what to do about it


def find_kinds(names: Sequence[str] | None = None) -> InstalledKinds:
    """Return every installed kind, or those named; one that cannot be had harms no other.

    Args:
        names: of the kinds to look for; None: all.
    """
    kinds: dict[str, Kind] = {}
    unusable: dict[str, str] = {}
    offered: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if names is not None and point.name not in names:
            continue
        if (other := offered.get(point.name)) is not None:
            kinds.pop(point.name, None)
            unusable[point.name] = (
                f"job type {point.name!r} is provided by {_package_of_entry_point(other)} and by {_package_of_entry_point(point)}. "
                "Uninstall one of them, or rename one of the job types."
            )
            continue
        offered[point.name] = (
            point  # its package is named in an error only: that reads its metadata
        )
        try:
            kinds[point.name] = _load(point)
        except UsageError as error:
            unusable[point.name] = str(error)
    return InstalledKinds(kinds, unusable)


def installed_kinds(names: Sequence[str] | None = None) -> dict[str, Kind]:
    """Return every installed kind by its name.

    Raises:
        UsageError: two packages offer the same kind, or one of them cannot be imported.
    """
    available = find_kinds(names)
    if available.unusable:
        raise UsageError("; ".join(available.unusable.values()))
    return available.kinds


def _load(point: EntryPoint) -> Kind:
    """Import what an entry point names.

    Raises:
        UsageError: it cannot be imported, or is not a kind of this name.
    """
    try:
        kind: object = point.load()
    except Exception as error:
        raise UsageError(
            f"cannot load job type {point.name!r} of {_package_of_entry_point(point)} ({error}). "
            "Fix this package or uninstall it."
        ) from error
    if not isinstance(kind, Kind) or kind.name != point.name:
        raise UsageError(
            f"{point.value} is not a job type named {point.name!r}. Fix the entry point of its package."
        )
    return kind


def _package_of_entry_point(point: EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.dist.name} ({point.value})"


def roots_of(kind: Kind, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modules from which the work of a kind begins: with their imports, its code.

    Args:
        kind: of the job; a kind of commands has none.
        settings: of the job, validated and complete.
    """
    entry = kind.entry.partition(":")[0]
    chosen = (
        module
        for key, modules_of in kind.settings.modules.items()
        if key in settings
        for module in modules_of(settings[key])
    )
    return tuple(dict.fromkeys((*([entry] if entry else []), *kind.sources, *chosen)))


def program_words(settings: Mapping[str, Any], argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that starts a program as its entry does, in its folder, with its variables.

    Args:
        settings: of a command; one that was added has none.
        argv: the program and its arguments.
    """
    folder, variables = settings.get("cwd"), settings.get("env") or {}
    if not folder and not variables:
        return tuple(argv)
    start = ("-C", str(folder)) if folder else ()
    return ("env", *start, *(f"{name}={text}" for name, text in variables.items()), *argv)


def program_cost(settings: Mapping[str, Any], argv: Sequence[str]) -> str:
    """Return the signature of a program; a folder in which it starts costs nothing, as no path does."""
    variables = settings.get("env") or {}
    return program_signature(argv, [f"{name}={variables[name]}" for name in sorted(variables)])


def cost_settings(kind: "Kind") -> tuple[str, ...]:
    """Return the settings on which a kind's time and memory depend."""
    settings = kind.settings
    return tuple(sorted(settings.costs or set(settings.model_fields) - settings.neutral))


def signature_of(kind: "Kind", settings: Mapping[str, Any], gpus: int = 1) -> str:
    """Return the signature of a job of a kind: the settings that cost, not which images it reads.

    Args:
        kind: of the job.
        settings: of the job.
        gpus: that share its work; each then takes less memory and time.
    """
    values = [settings.get(name) for name in cost_settings(kind) if name not in kind.settings.added]
    # what was added later is left out at its default, so that what was learned before still counts
    later = [
        (name, settings[name])
        for name in cost_settings(kind)
        if name in kind.settings.added
        and settings.get(name, kind.settings.model_fields[name].default)
        != kind.settings.model_fields[name].default
    ]
    shared = [gpus] if gpus > 1 else []
    return kind_digest(kind.name, repr([*values, *later, *shared]))
