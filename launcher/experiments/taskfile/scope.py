"""The scope of the entries of a task file: defaults, sweeps, overrides, their precedence, and requests of jobs.

From weakest to strongest: `defaults`, `matrix`, `defaults: {KIND: …}`, `matrix: {KIND: …}`, the entry, the
entry's own `matrix`, `--set key=value`, `--set KIND.key=value`. The request of a job under `resources` consists of the options of
`launcher.queue.job_options`, read as in `launcher add`, from the file, its kind, its entry and `--set`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.nodes import (
    GivenSetting,
    GivenSettings,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    is_null,
    node_or_none,
)
from launcher.experiments.taskfile.searches import SearchReader
from launcher.experiments.taskfile.settings import TWO_NAMES, report_duplicate_key, unknown_key
from launcher.queue.job_options.registry import JobOption, JobRequest, job_options, old_option_names
from launcher.queue.job_options.value_types import (
    TimeInPast,
    device_fault,
    in_task_file,
    terms_fault,
)
from launcher.system.errors import Problems, Severity, SourceLocation, UsageError

# settings by the name of a kind; "": of every kind that has them
Layer = Mapping[str, GivenSettings]
EVERY = ""

RESOURCES = "resources"
_PLACING = ("gpus", "device")
_WITHOUT_GPU = frozenset({Role.DATA, Role.LABELS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The values that apply to every entry of a file, and the list of its problems."""

    kinds: Mapping[str, Kind]
    problems: Problems
    defaults: Layer = field(default_factory=dict)
    file_combination: Layer = field(default_factory=dict)  # one combination of the file's matrix
    forced: Layer = field(default_factory=dict)  # from the command line
    requests: Mapping[str, JobRequest] = field(default_factory=dict)  # by kind; "": all other kinds
    forced_resources: tuple[MappingNode, ...] = ()  # `--set resources.cpus=2`: overrides an entry
    labels: Node | None = None  # labels of every training without its own
    forced_labels: Node | None = None  # labels of every training
    combination: int = 0  # index of the file's combination
    now: float = 0.0  # seconds since 1970, for times that are relative
    searches: SearchReader = field(default_factory=lambda: SearchReader([]))
    # by kind: values weaker and stronger than its entries; computed once
    _weaker_and_stronger: dict[str, tuple[dict[str, GivenSetting], dict[str, GivenSetting]]] = (
        field(init=False, default_factory=dict)
    )

    def effective_settings(self, kind: Kind, entry: GivenSettings) -> GivenSettings:
        """Return the strongest given value of each setting of a kind."""
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

    def swept_in_file(self, kind: Kind, given_settings: GivenSettings) -> dict[str, GivenSetting]:
        """Return the file's sweeps that apply to an entry: those without a stronger value."""
        return {
            name: given_settings[name]
            for layer in (EVERY, kind.name)
            for name, swept in self.file_combination.get(layer, {}).items()
            if name in given_settings and given_settings[name].key is swept.key
        }

    def request_of(self, kind: Kind) -> JobRequest:
        """Return the request of jobs of a kind without their own options."""
        if kind.name in self.requests:
            return self.requests[kind.name]
        request = self.requests.get(EVERY, JobRequest())
        return request.without_gpu() if kind.role in _WITHOUT_GPU else request


def _readable_by(kind: Kind, layer: Layer) -> GivenSettings:
    """Return the values for all kinds in the form of this kind."""
    given = layer.get(EVERY, {})
    converted = {}
    for key, read in kind.settings.shared.items():
        node = given[key].node if key in given else None
        if isinstance(node, ScalarNode) and (value := read(node.value)) != node.value:
            plain = replace(node, text=str(value), plain=True)
            converted[key] = given[key]._replace(node=plain)
    return {**given, **converted} if converted else given


def with_current_names(resources: MappingNode, problems: Problems) -> MappingNode:
    """Return resources by their current names; note old names and report duplicates."""
    pairs: dict[str, tuple[ScalarNode, Node]] = {}
    for key, node in resources.pairs:
        name = old_option_names().get(key.text, key.text)
        if name != key.text:
            problems.add_warning(key, "old-name", f"{key.text} is now called {name}")
        if name in pairs:
            report_duplicate_key(key, name, TWO_NAMES, problems)
        else:
            pairs[name] = (key.with_text(name), node)
    return replace(resources, pairs=tuple(pairs.values()))


def read_resources(node: Node | None, scope: Scope, shared_keys: Iterable[str]) -> Scope:
    """Return the scope with the requests of all jobs and of single kinds.

    Args:
        node: Node of `resources`.
        scope: Scope of the file.
        shared_keys: Names of kinds whose jobs are created automatically; `resources` may contain them.
    """
    if node is None:
        return scope
    if not isinstance(node, MappingNode):
        return replace(scope, requests={EVERY: read_request(node, JobRequest(), scope)})
    kinds = {*scope.kinds, *shared_keys}
    general = tuple(pair for pair in node.pairs if pair[0].text not in kinds)
    request = read_request(replace(node, pairs=general), JobRequest(), scope, other_keys=kinds)
    requests = {
        key.text: read_request(value, request, scope)
        for key, value in node.pairs
        if key.text in kinds and not is_null(value)
    }
    return replace(scope, requests={EVERY: request, **requests})


def read_request(
    node: Node, parent_request: JobRequest, scope: Scope, other_keys: Iterable[str] = ()
) -> JobRequest:
    """Read a mapping of job options that overrides the inherited request; the keys in `other_keys` are valid too."""
    problems = scope.problems
    if not isinstance(node, MappingNode):
        problems.add_error(node, "wrong-type", "expected resources such as {cpus: 2, device: auto}")
        return parent_request
    request = parent_request
    values: dict[str, object] = {}
    today = with_current_names(node, problems)
    # `gpus` is applied last
    for key, value in sorted(today.pairs, key=lambda pair: pair[0].text == "gpus"):
        option = job_options().get(key.text)
        if option is None:
            problems.append(unknown_key(key, "a resource", job_options(), nearby=other_keys))
            continue
        try:
            values[option.name] = _value(option, value, scope.now)
            request = option.apply(request, values[option.name])
        except TimeInPast:
            # a time in the past is valid if the file runs again after its jobs are done
            request = option.apply(request, None)
            text = repr(value.text) if isinstance(value, ScalarNode) else ""
            message = f"{key.text}: {text} is in the past and delays nothing"
            problems.add_warning(value, RESOURCES, message)
        except UsageError as error:
            problems.add_error(value, RESOURCES, f"{key.text}: {error}")
    if len({value.place.file for _, value in node.pairs}) == 1:  # otherwise two files are merged
        # an amount with `device: cpu` is the request for a GPU: files move between machines
        placing = {name: values[name] for name in _PLACING if name in values}
        fault = device_fault(placing, in_task_file)
        if fault is not None:
            problems.add_error(node, RESOURCES, fault)
    return request


def request_for(kind: Kind, node: Node | None, place: SourceLocation, scope: Scope) -> JobRequest:
    """Return the request of the jobs of an entry.

    Args:
        kind: Kind of the entry.
        node: Its own `resources`, if it has some.
        place: Location of the entry.
        scope: Scope of the file with the overrides of the command line.
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
    if (
        fault is not None
        and not any(
            problem.message == fault and problem.severity is Severity.ERROR
            for problem in scope.problems  # every entry below one `resources` has the problem: report it once
        )
    ):
        scope.problems.add_error(place if own is None else own, RESOURCES, fault)
    return request


def _value(option: JobOption, node: Node, now: float) -> object:
    """Return the value of an option.

    Raises:
        UsageError: the value is invalid; the message contains the expected form.
    """
    takes = option.takes
    if takes.is_list and isinstance(node, SequenceNode):
        words = [
            item.text for item in node.nodes if isinstance(item, ScalarNode) and not is_null(item)
        ]
        if words and len(words) == len(node.nodes):
            return takes.read(",".join(words), now)
    elif isinstance(node, ScalarNode) and not is_null(node) and (node.plain or takes.is_text):
        return takes.read(node.text, now)
    raise UsageError(f"expected {takes.expected}")
