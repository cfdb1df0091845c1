"""The job types of installed plugin packages, and the launcher's own type `command`.

A plugin package installs its kinds under the entry-point group `launcher.kinds`.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, StringConstraints, field_validator

from launcher.experiments.draft import Draft, Input
from launcher.experiments.kind_interface import Kind, Role, Settings, setting
from launcher.queue.jobs.context import INPUTS, KIND_GROUP, OUTPUTS, file_paths
from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.queue.jobs.params import PARAMS, TEMPLATE
from launcher.queue.jobs.signatures import kind_digest
from launcher.system.entry_points import find_entry_points
from launcher.system.environment import variable_fault
from launcher.system.errors import UsageError

# not a number; editors check this with the pattern
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class CommandSettings(Settings):
    """The settings that repeat a command: its arguments, folder, variables and files."""

    neutral = frozenset({PARAMS, TEMPLATE})  # users do not write these settings: a matrix sets them
    argv: tuple[str, ...] = Field(min_length=1, description="Program and its arguments")
    cwd: str = setting(
        "",
        added=True,
        description="Folder in which the program starts, relative to the folder of `launcher run`",
    )
    env: dict[str, _Text] = setting(
        {},
        added=True,
        description="Environment variables, in addition to those of `launcher run`",
    )

    # lists, as in JSON: values are compared with these defaults
    inputs: list[_Text] = setting(
        [],
        added=True,
        description="Files that the program reads, folders such as data/, patterns such as m-*.npz, or outputs:ENTRY. "
        "The job runs again if their content changes",
    )
    outputs: list[_Text] = setting(
        [],
        added=True,
        description="Files that the program makes, or folders such as out/. The job is done when they exist",
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
    """Any program, started without a shell or Python. Its entry may list the files that it reads and writes."""

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
        """Return the input files of its entry."""
        return tuple(Input(path, "an input") for path in _paths(draft, INPUTS))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the output files of its entry."""
        return _paths(draft, OUTPUTS)


def _paths(draft: Draft, setting: str) -> tuple[Path, ...]:
    """Return the paths of a setting; relative paths start in the folder in which the program starts."""
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
    unusable: dict[str, str]  # name → why the kind cannot be loaded, with a remedy


def find_kinds(names: Sequence[str] | None = None) -> InstalledKinds:
    """Return every installed kind, or the named ones; a kind that cannot be loaded does not affect others.

    Args:
        names: Names of kinds; None for all.
    """
    kinds: dict[str, Kind] = {}
    unusable: dict[str, str] = {}
    offered: dict[str, EntryPoint] = {}
    for point in find_entry_points(KIND_GROUP):
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
            point  # only an error names the package, because finding the name reads metadata
        )
        try:
            kinds[point.name] = _load(point)
        except UsageError as error:
            unusable[point.name] = str(error)
    return InstalledKinds(kinds, unusable)


def installed_kinds(names: Sequence[str] | None = None) -> dict[str, Kind]:
    """Return every installed kind by its name.

    Raises:
        UsageError: two packages offer the same kind, or a package cannot be imported.
    """
    available = find_kinds(names)
    if available.unusable:
        raise UsageError("; ".join(available.unusable.values()))
    return available.kinds


def _load(point: EntryPoint) -> Kind:
    """Import the object of an entry point.

    Raises:
        UsageError: the object cannot be imported, or is not a kind of this name.
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
    """Return the modules in which the work of a kind starts. With their imports they are its code.

    Args:
        kind: Kind of the job; a kind of commands has no modules.
        settings: Settings of the job, validated and complete.
    """
    entry = kind.entry.partition(":")[0]
    chosen = (
        module
        for key, modules_of in kind.settings.modules.items()
        if key in settings
        for module in modules_of(settings[key])
    )
    return tuple(dict.fromkeys((*([entry] if entry else []), *kind.sources, *chosen)))


def cost_settings(kind: "Kind") -> tuple[str, ...]:
    """Return the names of the settings on which time and memory of a kind depend."""
    settings = kind.settings
    return tuple(sorted(settings.costs or set(settings.model_fields) - settings.neutral))


def signature_of(kind: "Kind", settings: Mapping[str, Any], gpus: int = 1) -> str:
    """Return the signature of a job of a kind. It depends on the cost settings, not on the images.

    Args:
        kind: Kind of the job.
        settings: Settings of the job.
        gpus: Number of GPUs that share its work; each then needs less memory and time.
    """
    values = [settings.get(name) for name in cost_settings(kind) if name not in kind.settings.added]
    # a setting that was added later is omitted at its default, so earlier measurements still count
    later = [
        (name, settings[name])
        for name in cost_settings(kind)
        if name in kind.settings.added
        and settings.get(name, kind.settings.model_fields[name].default)
        != kind.settings.model_fields[name].default
    ]
    shared = [gpus] if gpus > 1 else []
    return kind_digest(kind.name, repr([*values, *later, *shared]))
