"""`resources:` in a task file: what the jobs of a file, of a kind, of an entry ask for.

The options are those of `launcher.job_options`, read as `launcher add` reads them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from launcher.errors import Place, Problem, Severity, UsageError
from launcher.job_options.registry import JobOption, JobRequest, job_options, renamed_options
from launcher.job_options.value_types import (
    Names,
    TimeOver,
    device_fault,
    in_task_file,
    terms_fault,
)
from launcher.kind_interface import Kind
from launcher.taskfile.legacy_names import resources_today
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import unknown_key
from launcher.taskfile.values import is_null
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar

CODE = "resources"
_PLACING = ("gpus", "device")

# For an option that is written where it is none.
RESOURCE_HINTS: Mapping[str, str] = {
    **{name: f"it goes below resources: {{{name}: …}}" for name in job_options()},
    **{old: f"it is resources: {{{now}: …}} today" for old, now in renamed_options().items()},
}


def read_request(
    node: Node, above: JobRequest, scope: Scope, also: Iterable[str] = ()
) -> JobRequest:
    """Read a mapping of job options on top of those that hold above it; `also` could stand there."""
    if not isinstance(node, Fields):
        scope.blame(node.place, "wrong-type", "expected resources such as {cpus: 2, device: auto}")
        return above
    request = above
    values: dict[str, object] = {}
    today = resources_today(node, scope.problems)
    # `gpus` has the last word
    for key, value in sorted(today.pairs, key=lambda pair: pair[0].text == "gpus"):
        option = job_options().get(key.text)
        if option is None:
            problem = unknown_key(key, "a resource", job_options(), nearby=also)
            scope.problems.append(problem)
            continue
        try:
            values[option.name] = _value(option, value, scope.now)
            request = option.apply(request, values[option.name])
        except TimeOver:  # the file is run again when its jobs are done: then it is no mistake
            request = option.apply(request, None)
            message = f"{key.text}: {_text(value)} is over already, so it delays nothing"
            scope.note(value.place, CODE, message)
        except UsageError as error:
            scope.blame(value.place, CODE, f"{key.text}: {error}")
    if len({value.place.file for _, value in node.pairs}) == 1:  # two files are merged, and agree
        # an amount beside `device: cpu` is what it would take on a GPU: files are moved so
        placing = {name: values[name] for name in _PLACING if name in values}
        fault = device_fault(placing, in_task_file)
        if fault is not None:
            scope.blame(node.place, CODE, fault)
    return request


def request_for(kind: Kind, node: Node | None, place: Place, scope: Scope) -> JobRequest:
    """Return what the jobs of an entry ask for.

    Args:
        kind: of the entry.
        node: its own `resources`, if it has some.
        place: of the entry.
        scope: what holds for the file, and what the command line sets.
    """
    request = scope.request_of(kind)
    request = request if node is None or is_null(node) else read_request(node, request, scope)
    for fields in scope.forced_resources:
        for key, value in fields.pairs:
            if key.text not in scope.kinds:
                request = read_request(replace(fields, pairs=((key, value),)), request, scope)
            elif key.text == kind.name:
                request = read_request(value, request, scope)
    fault = terms_fault(request.terms, in_task_file)
    if fault is not None:
        where = place if node is None or is_null(node) else node.place
        _blame_once(Problem(code=CODE, message=fault, place=where), scope)
    return request


def _blame_once(problem: Problem, scope: Scope) -> None:
    """Add a problem that every entry below one `resources` has: once is enough."""
    errors = (error for error in scope.problems if error.severity is Severity.ERROR)
    if all(error.message != problem.message for error in errors):
        scope.problems.append(problem)


def _value(option: JobOption, node: Node, now: float) -> object:
    """Return the value of an option.

    Raises:
        UsageError: it does not fit; says what was expected.
    """
    if isinstance(option.takes, Names) and isinstance(node, Items):
        return _names(option.takes, node, now)
    if not isinstance(node, Scalar) or is_null(node) or not (node.plain or option.takes.is_text):
        raise UsageError(f"expected {option.takes.expected}")
    return option.takes.read(node.text, now)


def _names(takes: Names, node: Items, now: float) -> object:
    """Return the names of a list.

    Raises:
        UsageError: it holds something else.
    """
    words = [item.text for item in node.nodes if isinstance(item, Scalar) and not is_null(item)]
    if not words or len(words) < len(node.nodes):
        raise UsageError(f"expected {takes.expected}")
    return takes.read(",".join(words), now)


def _text(node: Node) -> str:
    return repr(node.text) if isinstance(node, Scalar) else ""
