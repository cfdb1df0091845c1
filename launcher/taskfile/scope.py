"""What holds for the entries of a task file: defaults, sweeps and overrides, and which of them wins; what jobs ask for.

From weakest to strongest: `defaults`, `matrix`, `defaults: {KIND: …}`, `matrix: {KIND: …}`, the entry, the
entry's own `matrix`, `--set key=value`, `--set KIND.key=value`. What a job asks for under `resources` are the options of
`launcher.job_options`, read as `launcher add` reads them: those of the file, of its kind, of its entry, of `--set`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from launcher.errors import Problems, Severity, SourceLocation, UsageError
from launcher.job_options.registry import JobOption, JobRequest, job_options, old_option_names
from launcher.job_options.value_types import (
    NAMES,
    TimeInPast,
    device_fault,
    in_task_file,
    terms_fault,
)
from launcher.kind_interface import Kind, Role
from launcher.taskfile.nodes import (
    GivenSetting,
    GivenSettings,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    is_null,
    node_or_none,
)
from launcher.taskfile.settings import TWO_NAMES, report_duplicate_key, unknown_key

Layer = Mapping[
    str, GivenSettings
]  # settings by the name of a kind; "": of every kind that knows them
EVERY = ""

RESOURCES = "resources"
_PLACING = ("gpus", "device")
_WITHOUT_GPU = frozenset({Role.DATA, Role.LABELS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What holds for every entry of a file, and where its problems are gathered."""

    kinds: Mapping[str, Kind]
    problems: Problems
    defaults: Layer = field(default_factory=dict)
    file_combination: Layer = field(default_factory=dict)  # one combination of the file's matrix
    forced: Layer = field(default_factory=dict)  # of the command line
    requests: Mapping[str, JobRequest] = field(default_factory=dict)  # by kind; "": of the others
    forced_resources: tuple[
        MappingNode, ...
    ] = ()  # `--set resources.cpus=2`: stronger than an entry
    labels: Node | None = None  # of every training that says nothing itself
    forced_labels: Node | None = None  # of every training
    combination: int = 0  # which of the file's combinations this is
    now: float = 0.0  # seconds since 1970, for times that are relative
    # by kind what is weaker than its entries, and what is stronger; worked out once
    _weaker_and_stronger: dict[str, tuple[dict[str, GivenSetting], dict[str, GivenSetting]]] = (
        field(init=False, default_factory=dict)
    )

    def effective_settings(self, kind: Kind, entry: GivenSettings) -> GivenSettings:
        """Return what is said of each setting of a kind, the strongest where there are several."""
        name, names = kind.name, kind.settings.model_fields
        if name not in self._weaker_and_stronger:
            weaker = {
                **_readable_by(kind, self.defaults),
                **_readable_by(kind, self.file_combination),
                **self.defaults.get(name, {}),
                **self.file_combination.get(name, {}),
            }
            stronger = {**_readable_by(kind, self.forced), **self.forced.get(name, {})}
            self._weaker_and_stronger[name] = weaker, stronger
        weaker, stronger = self._weaker_and_stronger[name]
        every = {**weaker, **entry, **stronger}
        return {name: said for name, said in every.items() if name in names}

    def swept_in_file(self, kind: Kind, given: GivenSettings) -> dict[str, GivenSetting]:
        """Return which of the file's sweeps an entry takes part in: where nothing stronger is given."""
        return {
            name: given[name]
            for layer in (EVERY, kind.name)
            for name, swept in self.file_combination.get(layer, {}).items()
            if name in given and given[name].key is swept.key
        }

    def request_of(self, kind: Kind) -> JobRequest:
        """Return what jobs of a kind ask for if they say nothing themselves."""
        if kind.name in self.requests:
            return self.requests[kind.name]
        request = self.requests.get(EVERY, JobRequest())
        return request.without_gpu() if kind.role in _WITHOUT_GPU else request


def _readable_by(kind: Kind, layer: Layer) -> GivenSettings:
    """Return what is said for all kinds as this one reads it."""
    given = layer.get(EVERY, {})
    converted = {}
    for key, read in kind.settings.shared.items():
        node = given[key].node if key in given else None
        if isinstance(node, ScalarNode) and (value := read(node.value)) != node.value:
            plain = replace(node, text=str(value), plain=True)
            converted[key] = given[key]._replace(node=plain)
    return {**given, **converted} if converted else given


def with_current_names(asked: MappingNode, problems: Problems) -> MappingNode:
    """Return resources by their names of today; note which have older ones, blame what is there twice."""
    pairs: dict[str, tuple[ScalarNode, Node]] = {}
    for key, node in asked.pairs:
        name = old_option_names().get(key.text, key.text)
        if name != key.text:
            problems.add_warning(key, "old-name", f"{key.text} is now called {name}")
        if name in pairs:
            report_duplicate_key(key, name, TWO_NAMES, problems)
        else:
            pairs[name] = (key.with_text(name), node)
    return replace(asked, pairs=tuple(pairs.values()))


def read_resources(node: Node | None, scope: Scope, shared: Iterable[str]) -> Scope:
    """Return the scope with what all jobs ask for, and those of single kinds.

    Args:
        node: what the file says.
        scope: of the file.
        shared: names of kinds whose jobs arise by themselves: `resources` may speak of them, too.
    """
    if node is None:
        return scope
    if not isinstance(node, MappingNode):
        return replace(scope, requests={EVERY: read_request(node, JobRequest(), scope)})
    kinds = {*scope.kinds, *shared}
    general = tuple(pair for pair in node.pairs if pair[0].text not in kinds)
    request = read_request(replace(node, pairs=general), JobRequest(), scope, also=kinds)
    requests = {
        key.text: read_request(value, request, scope)
        for key, value in node.pairs
        if key.text in kinds and not is_null(value)
    }
    return replace(scope, requests={EVERY: request, **requests})


def read_request(
    node: Node, above: JobRequest, scope: Scope, also: Iterable[str] = ()
) -> JobRequest:
    """Read a mapping of job options on top of those that hold above it; `also` could stand there."""
    problems = scope.problems
    if not isinstance(node, MappingNode):
        problems.add_error(node, "wrong-type", "expected resources such as {cpus: 2, device: auto}")
        return above
    request = above
    values: dict[str, object] = {}
    today = with_current_names(node, problems)
    # `gpus` has the last word
    for key, value in sorted(today.pairs, key=lambda pair: pair[0].text == "gpus"):
        option = job_options().get(key.text)
        if option is None:
            problems.append(unknown_key(key, "a resource", job_options(), nearby=also))
            continue
        try:
            values[option.name] = _value(option, value, scope.now)
            request = option.apply(request, values[option.name])
        except TimeInPast:  # the file is run again when its jobs are done: then it is no mistake
            request = option.apply(request, None)
            text = repr(value.text) if isinstance(value, ScalarNode) else ""
            message = f"{key.text}: {text} is in the past and delays nothing"
            problems.add_warning(value, RESOURCES, message)
        except UsageError as error:
            problems.add_error(value, RESOURCES, f"{key.text}: {error}")
    if len({value.place.file for _, value in node.pairs}) == 1:  # two files are merged, and agree
        # an amount beside `device: cpu` is what it would take on a GPU: files are moved so
        placing = {name: values[name] for name in _PLACING if name in values}
        fault = device_fault(placing, in_task_file)
        if fault is not None:
            problems.add_error(node, RESOURCES, fault)
    return request


def request_for(kind: Kind, node: Node | None, place: SourceLocation, scope: Scope) -> JobRequest:
    """Return what the jobs of an entry ask for.

    Args:
        kind: of the entry.
        node: its own `resources`, if it has some.
        place: of the entry.
        scope: what holds for the file, and what the command line sets.
    """
    request = scope.request_of(kind)
    own = node_or_none(node)
    if own is not None:
        request = read_request(own, request, scope)
    for fields in scope.forced_resources:
        for key, value in fields.pairs:
            if key.text not in scope.kinds:
                request = read_request(replace(fields, pairs=((key, value),)), request, scope)
            elif key.text == kind.name:
                request = read_request(value, request, scope)
    fault = terms_fault(request.terms, in_task_file)
    if fault is not None and not any(
        problem.message == fault and problem.severity is Severity.ERROR
        for problem in scope.problems  # every entry below one `resources` has it: once is enough
    ):
        scope.problems.add_error(place if own is None else own, RESOURCES, fault)
    return request


def _value(option: JobOption, node: Node, now: float) -> object:
    """Return the value of an option.

    Raises:
        UsageError: it does not fit; says what was expected.
    """
    takes = option.takes
    if takes is NAMES and isinstance(node, SequenceNode):
        words = [
            item.text for item in node.nodes if isinstance(item, ScalarNode) and not is_null(item)
        ]
        if words and len(words) == len(node.nodes):
            return takes.read(",".join(words), now)
    elif isinstance(node, ScalarNode) and not is_null(node) and (node.plain or takes.is_text):
        return takes.read(node.text, now)
    raise UsageError(f"expected {takes.expected}")
