"""The scope of a task file's entries: defaults, sweeps and overrides, and which of them wins.

From weakest to strongest: `defaults`, `matrix`, `defaults: {KIND: …}`, `matrix: {KIND: …}`, the entry, the
entry's own `matrix`, `--set key=value`, `--set KIND.key=value`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.errors import Problems
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.taskfile.yaml_tree import Fields, Given, Node, Said, Scalar

Layer = Mapping[str, Given]  # settings by the name of a kind; "": of every kind that knows them
EVERY = ""

_WITHOUT_GPU = frozenset({Role.DATA, Role.LABELS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What holds for every entry of a file, and where its problems are gathered."""

    kinds: Mapping[str, Kind]
    problems: Problems
    defaults: Layer = field(default_factory=dict)
    chosen: Layer = field(default_factory=dict)  # one combination of the file's matrix
    forced: Layer = field(default_factory=dict)  # of the command line
    requests: Mapping[str, JobRequest] = field(default_factory=dict)  # by kind; "": of the others
    forced_resources: tuple[Fields, ...] = ()  # `--set resources.cpus=2`: stronger than an entry
    labels: Node | None = None  # of every training that says nothing itself
    forced_labels: Node | None = None  # of every training
    combination: int = 0  # which of the file's combinations this is
    now: float = 0.0  # seconds since 1970, for times that are relative
    # by kind what is weaker than its entries, and what is stronger; worked out once
    _around: dict[str, tuple[dict[str, Said], dict[str, Said]]] = field(
        init=False, default_factory=dict
    )

    def given(self, kind: Kind, entry: Given) -> Given:
        """Return what is said of each setting of a kind, the strongest where there are several."""
        name, names = kind.name, kind.settings.model_fields
        if name not in self._around:
            weaker = {
                **_read_by(kind, self.defaults),
                **_read_by(kind, self.chosen),
                **self.defaults.get(name, {}),
                **self.chosen.get(name, {}),
            }
            stronger = {**_read_by(kind, self.forced), **self.forced.get(name, {})}
            self._around[name] = weaker, stronger
        weaker, stronger = self._around[name]
        every = {**weaker, **entry, **stronger}
        return {name: said for name, said in every.items() if name in names}

    def paired(self, kind: Kind, given: Given) -> dict[str, Said]:
        """Return which of the file's sweeps an entry takes part in: where nothing stronger is given."""
        return {
            name: given[name]
            for layer in (EVERY, kind.name)
            for name, swept in self.chosen.get(layer, {}).items()
            if name in given and given[name].key is swept.key
        }

    def request_of(self, kind: Kind) -> JobRequest:
        """Return what jobs of a kind ask for if they say nothing themselves."""
        if kind.name in self.requests:
            return self.requests[kind.name]
        request = self.requests.get(EVERY, JobRequest())
        return request.without_gpu() if kind.role in _WITHOUT_GPU else request


def _read_by(kind: Kind, layer: Layer) -> Given:
    """Return what is said for all kinds as this one reads it."""
    given = layer.get(EVERY, {})
    converted = {}
    for key, read in kind.settings.shared.items():
        node = given[key].node if key in given else None
        if isinstance(node, Scalar) and (value := read(node.value)) != node.value:
            plain = Scalar(node.source, node.line, node.column, node.length, str(value), plain=True)
            converted[key] = given[key]._replace(node=plain)
    return {**given, **converted} if converted else given
