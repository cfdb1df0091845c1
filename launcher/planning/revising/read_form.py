"""What a person wrote of a job, read as a task file is: every mistake with its place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.errors import Place, Problem, Severity, TaskFileError, UsageError
from launcher.job_options.registry import JobRequest
from launcher.job_options.value_types import in_task_file, terms_fault
from launcher.kind_interface import Kind
from launcher.planning.revising.form import RESOURCES, SETTINGS
from launcher.planning.revising.queued_job import QueuedJob
from launcher.system.files import Json
from launcher.taskfile.entry_reader import check_variables
from launcher.taskfile.overrides import Overrides, read_overrides
from launcher.taskfile.resources import read_request
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import OPTION, Settled, known_settings, settle, unknown_key
from launcher.taskfile.values import is_null
from launcher.taskfile.yaml_reader import read_document
from launcher.taskfile.yaml_tree import Fields, Given, Node, Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class JobValues:
    """What a job is to work with, complete."""

    settings: dict[str, Json]
    decisive: str  # what of the settings can change a result, as JSON
    request: JobRequest


def read_form(
    text: str, file: str, kind: Kind, now: float, sets: Sequence[str] = ()
) -> JobValues | None:
    """Read what is written of a job; None where nothing is.

    Args:
        text: as `form_of` wrote it and a person changed it.
        file: its name in messages.
        kind: of the job.
        now: seconds since 1970.
        sets: `key=value` each, stronger than the text.

    Raises:
        TaskFileError: all that is wrong with it.
    """
    problems: list[Problem] = []
    scope = Scope(kinds={kind.name: kind}, problems=problems, now=now)
    root = read_document(text, file, problems)
    if root is None:
        return None
    overrides = _overrides(sets, scope)
    parts = _parts(root, problems)
    settled = _settled(parts.get(SETTINGS), kind, overrides, root.place, scope)
    request = _request(parts.get(RESOURCES), kind, overrides, scope)
    fault = terms_fault(request.terms, in_task_file)
    if fault is not None:
        problems.append(Problem(code=RESOURCES, message=fault, place=root.place))
    # a form has every setting, and of many of them it is no mistake that they have no effect
    errors = [
        replace(problem, severity=Severity.ERROR)
        for problem in problems
        if problem.severity is Severity.ERROR or _is_set_in_vain(problem)
    ]
    if settled is None or errors:
        raise TaskFileError(errors, outcome="nothing was changed")
    return JobValues(settings=dict(settled.values), decisive=settled.text, request=request)


def _is_set_in_vain(problem: Problem) -> bool:
    """Tell whether somebody sets an option that has no effect now: a time that is over."""
    place = problem.place
    return problem.code == RESOURCES and place is not None and place.file == OPTION


def _parts(root: Node, problems: list[Problem]) -> dict[str, Node]:
    """Return the two parts of a form by name."""
    if not isinstance(root, Fields):
        message = f"expected {SETTINGS}: and {RESOURCES}:, each with values below it"
        problems.append(Problem(code="wrong-type", message=message, place=root.place))
        return {}
    for key, _ in root.pairs:
        if key.text not in (SETTINGS, RESOURCES):
            problems.append(unknown_key(key, "a part of a job", (SETTINGS, RESOURCES)))
    return {key.text: node for key, node in root.pairs if not is_null(node)}


def _settled(
    node: Node | None, kind: Kind, overrides: Overrides, where: Place, scope: Scope
) -> Settled | None:
    problems = scope.problems
    given: dict[str, tuple[Scalar, Node]] = {}
    names = known_settings(kind)
    if isinstance(node, Fields):
        for key, value in node.pairs:
            if key.text in names:
                given[key.text] = key, value
            else:
                problems.append(unknown_key(key, f"a setting of {kind.name}", names))
    elif node is not None:
        message = f"expected settings of {kind.name}, such as {names[0]}: …" if names else ""
        problems.append(Problem(code="wrong-type", message=message, place=node.place))
    stronger: Given = {**overrides.settings, **overrides.kind_settings.get(kind.name, {})}
    given |= stronger
    if not kind.entry and not check_variables(given, scope):
        return None
    return settle(kind, given, where, problems)


def _request(node: Node | None, kind: Kind, overrides: Overrides, scope: Scope) -> JobRequest:
    request = JobRequest()
    if node is not None:
        request = read_request(node, request, scope)
    if overrides.resources:  # together, as they may contradict each other
        pairs = [pair for fields in overrides.resources for pair in _own(fields, kind)]
        request = read_request(replace(overrides.resources[0], pairs=tuple(pairs)), request, scope)
    return request


def _own(fields: Fields, kind: Kind) -> Iterator[tuple[Scalar, Node]]:
    """Give the options that are set for a kind, by its name or without."""
    for key, value in fields.pairs:
        if key.text == kind.name and isinstance(value, Fields):
            yield from value.pairs
        else:
            yield key, value


def _overrides(sets: Sequence[str], scope: Scope) -> Overrides:
    """Read what is set on the command line; a task file has words that one job has not."""
    overrides = read_overrides(sets, scope.kinds, scope.problems)
    for fields in overrides.words:
        key = fields.pairs[0][0]
        scope.blame(
            key.place,
            "set",
            f"{key.text!r} is a word of task files: of a job, settings and resources can be changed",
        )
    if overrides.poison is not None:
        scope.blame(overrides.poison.place, "set", "what is poisoned stands in the job's name")
    return overrides


def own_values(job: QueuedJob, text: str, now: float) -> JobValues:
    """Return what the text of a job's form says before anybody has changed it.

    Raises:
        UsageError: not what the job has: a program's words may be no text, and a kind may have changed.
    """
    try:
        return values_of(job, text, now)
    except TaskFileError as error:
        why = error.problems[0].message
        raise UsageError(
            f"job {job.row.id} cannot be written as text and read back: {why}; queue it anew"
        ) from error


def values_of(job: QueuedJob, text: str, now: float, sets: Sequence[str] = ()) -> JobValues:
    """Return what the text of a job's form says.

    Raises:
        TaskFileError: all that is wrong with it.
    """
    values = read_form(text, f"job-{job.row.id}.yaml", job.kind, now, sets)
    if values is None:
        raise UsageError("nothing is written of the job")
    return values
