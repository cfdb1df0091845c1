"""The scope of a task file's entries: defaults, sweeps and overrides, and which of them wins.

From weakest to strongest: `defaults`, `matrix`, `defaults: {KIND: …}`, `matrix: {KIND: …}`, the entry, the
entry's own `matrix`, `--set key=value`, `--set KIND.key=value`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from launcher.errors import Place, Problem, Severity
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.system.files import Json
from launcher.taskfile.matrix import Combination
from launcher.taskfile.settings import known_settings
from launcher.taskfile.yaml_tree import Fields, Given, Node, Scalar

_WITHOUT_GPU = frozenset({Role.DATA, Role.LABELS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What holds for every entry of a file, and where its problems are gathered.

    `given`, `chosen` and `forced` are settings: those of `defaults`, of this combination of the
    file's matrix, and of the command line; each for all kinds, and by the name of one.
    """

    kinds: Mapping[str, Kind]
    problems: list[Problem]
    defaults: Given = field(default_factory=dict)
    kind_defaults: Mapping[str, Given] = field(default_factory=dict)
    chosen: Combination = field(default_factory=dict)
    kind_chosen: Mapping[str, Combination] = field(default_factory=dict)
    forced: Given = field(default_factory=dict)
    kind_forced: Mapping[str, Given] = field(default_factory=dict)
    request: JobRequest = field(default_factory=JobRequest)
    kind_requests: Mapping[str, JobRequest] = field(default_factory=dict)
    forced_resources: tuple[Fields, ...] = ()  # `--set resources.cpus=2`: stronger than an entry
    labels: Node | None = None  # of every training that says nothing itself
    forced_labels: Node | None = None  # of every training
    combination: int = 0  # which of the file's combinations this is
    now: float = 0.0  # seconds since 1970, for times that are relative

    def blame(self, place: Place, code: str, message: str, hint: str = "") -> None:
        """Add one error."""
        self.problems.append(Problem(code=code, message=message, place=place, hint=hint))

    def note(self, place: Place, code: str, message: str, hint: str = "") -> None:
        """Add one warning."""
        severity = Severity.WARNING
        self.problems.append(
            Problem(code=code, message=message, place=place, hint=hint, severity=severity)
        )

    def given(self, kind: Kind, entry: Given) -> dict[str, tuple[Scalar, Node]]:
        """Return the value given for each setting of a kind, the strongest where there are several."""
        name = kind.name
        merged = {
            **_read_by(kind, self.defaults),
            **_read_by(kind, _as_given(self.chosen)),
            **self.kind_defaults.get(name, {}),
            **_as_given(self.kind_chosen.get(name, {})),
            **entry,
            **_read_by(kind, self.forced),
            **self.kind_forced.get(name, {}),
        }
        names = set(known_settings(kind))
        return {name: value for name, value in merged.items() if name in names}

    def swept(self, kind: Kind, entry: Given) -> Combination:
        """Return which of the file's sweeps this entry takes part in: where it has no own word."""
        name = kind.name
        given = {*self.kind_defaults.get(name, {}), *entry, *self.kind_forced.get(name, {})}
        general = {key: swept_value for key, swept_value in self.chosen.items() if key not in given}
        names = set(known_settings(kind))
        swept = {**general, **self.kind_chosen.get(name, {})}
        stronger = {*entry, *self.kind_forced.get(name, {})}
        return {
            key: swept_value
            for key, swept_value in swept.items()
            if key in names and key not in stronger
        }

    def request_of(self, kind: Kind) -> JobRequest:
        """Return what jobs of a kind ask for if they say nothing themselves."""
        if kind.name in self.kind_requests:
            return self.kind_requests[kind.name]
        return self.request.without_gpu() if kind.role in _WITHOUT_GPU else self.request


def _as_given(combination: Combination) -> Given:
    return {key: (swept.key, swept.node) for key, swept in combination.items()}


def _read_by(kind: Kind, given: Given) -> Given:
    """Return values that are given for all kinds as this one reads them."""
    shared = kind.settings.shared
    if not any(key in given for key in shared):
        return given
    return {
        key: (at, _converted(node, shared[key](node.value)))
        if key in shared and isinstance(node, Scalar)
        else (at, node)
        for key, (at, node) in given.items()
    }


def _converted(node: Scalar, value: Json) -> Scalar:
    """Return a word that stands where `node` does and means `value`."""
    return node if value == node.value else replace(node, text=str(value), plain=True)
