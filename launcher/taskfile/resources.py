"""`resources:` in a task file: what the jobs of a file, of a kind, of an entry ask for.

The options are those of `launcher.job_options`, read as `launcher add` reads them.
"""

from collections.abc import Iterable
from dataclasses import replace

from launcher.errors import Place, Problems, Severity, UsageError
from launcher.job_options.registry import JobOption, JobRequest, job_options, renamed_options
from launcher.job_options.value_types import (
    Names,
    TimeOver,
    device_fault,
    in_task_file,
    terms_fault,
)
from launcher.kind_interface import Kind
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import TWO_NAMES, unknown_key
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar, is_null

CODE = "resources"
_PLACING = ("gpus", "device")


def resources_today(asked: Fields, problems: Problems) -> Fields:
    """Return resources by their names of today; note which have older ones, blame what is there twice."""
    pairs: dict[str, tuple[Scalar, Node]] = {}
    for key, node in asked.pairs:
        name = renamed_options().get(key.text, key.text)
        if name != key.text:
            problems.note(key, "old-name", f"{key.text} is called {name} today")
        if name in pairs:
            message = f"{name!r} is given twice{TWO_NAMES}"
            problems.blame(key, "duplicate-key", message, "leave one of them out")
        else:
            pairs[name] = (key.named(name), node)
    return replace(asked, pairs=tuple(pairs.values()))


def read_request(
    node: Node, above: JobRequest, scope: Scope, also: Iterable[str] = ()
) -> JobRequest:
    """Read a mapping of job options on top of those that hold above it; `also` could stand there."""
    problems = scope.problems
    if not isinstance(node, Fields):
        problems.blame(node, "wrong-type", "expected resources such as {cpus: 2, device: auto}")
        return above
    request = above
    values: dict[str, object] = {}
    today = resources_today(node, problems)
    # `gpus` has the last word
    for key, value in sorted(today.pairs, key=lambda pair: pair[0].text == "gpus"):
        option = job_options().get(key.text)
        if option is None:
            problems.append(unknown_key(key, "a resource", job_options(), nearby=also))
            continue
        try:
            values[option.name] = _value(option, value, scope.now)
            request = option.apply(request, values[option.name])
        except TimeOver:  # the file is run again when its jobs are done: then it is no mistake
            request = option.apply(request, None)
            text = repr(value.text) if isinstance(value, Scalar) else ""
            message = f"{key.text}: {text} is over already, so it delays nothing"
            problems.note(value, CODE, message)
        except UsageError as error:
            problems.blame(value, CODE, f"{key.text}: {error}")
    if len({value.place.file for _, value in node.pairs}) == 1:  # two files are merged, and agree
        # an amount beside `device: cpu` is what it would take on a GPU: files are moved so
        placing = {name: values[name] for name in _PLACING if name in values}
        fault = device_fault(placing, in_task_file)
        if fault is not None:
            problems.blame(node, CODE, fault)
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
    own = None if node is None or is_null(node) else node
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
        scope.problems.blame(place if own is None else own, CODE, fault)
    return request


def _value(option: JobOption, node: Node, now: float) -> object:
    """Return the value of an option.

    Raises:
        UsageError: it does not fit; says what was expected.
    """
    takes = option.takes
    if isinstance(takes, Names) and isinstance(node, Items):
        words = [item.text for item in node.nodes if isinstance(item, Scalar) and not is_null(item)]
        if words and len(words) == len(node.nodes):
            return takes.read(",".join(words), now)
    elif isinstance(node, Scalar) and not is_null(node) and (node.plain or takes.is_text):
        return takes.read(node.text, now)
    raise UsageError(f"expected {takes.expected}")
