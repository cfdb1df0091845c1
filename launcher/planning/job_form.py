"""What the owner of a queued job may change, as text: its resources and terms, and of a program its words.

It is YAML in the words of task files; each value is read back as what it was, to the last digit, and every mistake
has its place. What decides the result of a laboratory's job stands in its task file, and is changed there.
"""

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from launcher.errors import Place, Problem, Problems, Severity, TaskFileError, UsageError
from launcher.job import CPU, FUNCTION
from launcher.job_options.registry import JobOption, JobRequest, job_options
from launcher.job_options.value_types import (
    Moment,
    Names,
    Size,
    Span,
    Truth,
    in_task_file,
    terms_fault,
)
from launcher.kind_interface import Kind, Role
from launcher.kinds import COMMAND, find_kinds
from launcher.planning.plan_builder import resources_of
from launcher.store.rows import JobRow
from launcher.system.files import Json
from launcher.taskfile.entry_reader import check_variables
from launcher.taskfile.overrides import OPTION, Overrides, read_overrides
from launcher.taskfile.resources import read_request
from launcher.taskfile.scope import EVERY, Scope
from launcher.taskfile.settings import known, settle, unknown_key
from launcher.taskfile.yaml_tree import (
    TRUTHS,
    Fields,
    Node,
    Said,
    Scalar,
    Source,
    is_null,
    read_document,
)

ADDED = "add"  # the run of programs that `launcher add` queued
SETTINGS, RESOURCES = "settings", "resources"
WIDTH = 96  # columns of a comment
_ABOUT = (
    "Change values, save the file, and leave the editor: the job is changed then. An empty file, or one without "
    "a change, leaves it as it is. A line that you delete means the default."
)
_ELSEWHERE = "The settings of its kind stand in its task file: change them there, and run it."


class JobValues(NamedTuple):
    """What the owner of a job may change, complete."""

    settings: dict[str, Json]  # of a program: its words, folder and variables
    request: JobRequest


def is_program(row: JobRow) -> bool:
    """Tell whether a job is a command line, and no function of a laboratory."""
    return not row.spec.entry


def was_added(row: JobRow) -> bool:
    """Tell whether a job came from `launcher add`, and from no task file."""
    return is_program(row) and row.run == ADDED


def form_of(row: JobRow, title: str) -> str:
    """Return the text in which a person changes a job.

    Args:
        row: which.
        title: what it is, and what follows when the text is saved; becomes a comment.

    Raises:
        UsageError: it is no job that can be changed so.
    """
    _refuse(row)
    about = (title, _ABOUT) if is_program(row) else (title, _ABOUT, _ELSEWHERE)
    lines = [f"# {line}" for text in about for line in textwrap.wrap(text, WIDTH)]
    settings = [*_settings(row), ""] if is_program(row) else []
    return "\n".join([*lines, *settings, *_resources(_request_of(row)), ""])


def _refuse(row: JobRow) -> None:
    """Refuse a job that cannot be written as text.

    Raises:
        UsageError: says what to do instead.
    """
    if not row.spec.role:
        raise UsageError(f"job {row.id} was queued by a newer launcher: change it with that")
    if row.kind == FUNCTION:
        raise UsageError(
            f"job {row.id} calls a function of Python, whose options were given when it was submitted: "
            f"`launcher cancel {row.id}`, and submit it again"
        )


def _settings(row: JobRow) -> Iterator[str]:
    yield f"{SETTINGS}:"
    values = row.spec.settings or {"argv": list(row.spec.argv)}
    for name, field in COMMAND.settings.model_fields.items():
        if name in values:
            yield _line(name, yaml_text(values[name]), field.description or "")


def _resources(request: JobRequest) -> Iterator[str]:
    """Give the options that are set, and the others as comments."""
    yield f"{RESOURCES}:"
    others = []
    for option in job_options().values():
        if text := option_text(option, request):
            yield _line(option.name, text, option.help)
        else:
            others.append(f"  # {option.name}: …  {option.summary}")
    yield "  # not set:"
    yield from others


def _line(name: str, value: str, about: str) -> str:
    line = f"  {name}: {value}"
    return f"{line}  # {about}" if about and "\n" not in about else line


def _request_of(row: JobRow) -> JobRequest:
    """Return what a job asked for, without what follows from that."""
    asked = row.spec.resources
    learns = resources_of(JobRequest(), Role(row.spec.role), has_entry=True).accelerated
    gpus = asked.gpus if asked.gpus > 1 or (asked.accelerated and not learns) else None
    device = asked.device
    if is_program(row) and device == "cuda":
        if gpus is None and asked.min_vram is None and not asked.exclusive:
            gpus = asked.gpus
        device = "auto"
    elif was_added(row) and device == CPU:
        device = "auto"
    return JobRequest(
        resources=replace(asked, device=device, accelerated=False),
        terms=row.spec.terms,
        priority=row.priority,
        gpus=gpus,
    )


def own_values(row: JobRow, now: float) -> JobValues:
    """Return the values of a job as its own text says them.

    Raises:
        UsageError: the text does not say what the job has: a program's words may be no text.
    """
    try:
        return read_form(row, form_of(row, ""), now)
    except TaskFileError as error:
        why = error.problems[0].message
        raise UsageError(
            f"job {row.id} cannot be written as text and read back: {why}; queue it anew"
        ) from error


def read_form(row: JobRow, text: str, now: float, sets: Sequence[str] = ()) -> JobValues:
    """Return what is written of a job.

    Args:
        row: the job.
        text: as `form_of` wrote it and a person changed it.
        now: seconds since 1970.
        sets: `key=value` each, stronger than the text.

    Raises:
        TaskFileError: all that is wrong with it.
        UsageError: nothing is written.
    """
    problems = Problems()
    kinds: dict[str, Kind] = {COMMAND.name: COMMAND}
    if not is_program(row) and sets:  # for messages: none of its settings can be set
        kinds = find_kinds([row.kind]).kinds
    scope = Scope(kinds=kinds, problems=problems, now=now)
    root = read_document(text, f"job-{row.id}.yaml", problems)
    if root is None:
        raise UsageError("nothing is written of the job")
    overrides = _overrides(row, sets, scope)
    parts = _parts(row, root, problems)
    settings = None
    if is_program(row):
        settings = _program(parts.get(SETTINGS), overrides, root.place, scope)
    request = _request(parts.get(RESOURCES), row.kind, overrides, scope)
    fault = terms_fault(request.terms, in_task_file)
    if fault is not None:
        problems.blame(root, RESOURCES, fault)
    # a form has every setting, and of many of them it is no mistake that they have no effect
    errors = [
        problem._replace(severity=Severity.ERROR)
        for problem in problems
        if problem.severity is Severity.ERROR or _is_set_in_vain(problem)
    ]
    if errors:
        raise TaskFileError(errors, outcome="nothing was changed")
    return JobValues(settings or {}, request)


def _is_set_in_vain(problem: Problem) -> bool:
    """Tell whether somebody sets an option that has no effect now: a time that is over."""
    place = problem.place
    return problem.code == RESOURCES and place is not None and place.file == OPTION


def _parts(row: JobRow, root: Node, problems: Problems) -> dict[str, Node]:
    """Return the parts of a form by name."""
    known = (SETTINGS, RESOURCES) if is_program(row) else (RESOURCES,)
    if not isinstance(root, Fields):
        message = f"expected {' and '.join(f'{name}:' for name in known)} with values below"
        problems.blame(root, "wrong-type", message)
        return {}
    for key, _ in root.pairs:
        if key.text not in known:
            problems.append(unknown_key(key, "a part of this job", known))
    return {key.text: node for key, node in root.pairs if not is_null(node)}


def _program(
    node: Node | None, overrides: Overrides, where: Place, scope: Scope
) -> dict[str, Json] | None:
    """Return the words of a program, its folder and its variables; None: they are faulty."""
    given: dict[str, Said] = {}
    settings, problems = known([COMMAND]), scope.problems
    what = f"a setting of {COMMAND.name}"
    if isinstance(node, Fields):

        def refuse(key: Scalar) -> None:
            problems.append(unknown_key(key, what, settings.names))

        given = settings.among(node.pairs, problems, refuse)
    elif node is not None:
        first = next(iter(COMMAND.settings.model_fields))
        message = f"expected settings of {COMMAND.name}, such as {first}: …"
        problems.blame(node, "wrong-type", message)
    given |= overrides.settings.get(EVERY, {}) | overrides.settings.get(COMMAND.name, {})
    settled = settle(COMMAND, given, where, problems) if check_variables(given, problems) else None
    return None if settled is None else dict(settled.values)


def _request(node: Node | None, kind: str, overrides: Overrides, scope: Scope) -> JobRequest:
    request = JobRequest()
    if node is not None:
        request = read_request(node, request, scope)
    if overrides.resources:  # together, as they may contradict each other
        pairs = [pair for fields in overrides.resources for pair in _own(fields, kind)]
        request = read_request(replace(overrides.resources[0], pairs=tuple(pairs)), request, scope)
    return request


def _own(fields: Fields, kind: str) -> Iterator[tuple[Scalar, Node]]:
    """Give the options that are set for a kind, by its name or without."""
    for key, value in fields.pairs:
        if key.text == kind and isinstance(value, Fields):
            yield from value.pairs
        else:
            yield key, value


def _overrides(row: JobRow, sets: Sequence[str], scope: Scope) -> Overrides:
    """Read what is set on the command line; a task file has words that one job has not."""
    overrides = read_overrides(sets, scope.kinds, scope.problems)
    for fields in overrides.words:
        key = fields.pairs[0][0]
        what = "settings and resources" if is_program(row) else "resources"
        message = f"{key.text!r} is a word of task files: of a job, {what} can be changed"
        scope.problems.blame(key, "set", message)
    if not is_program(row):
        for said in (said for layer in overrides.settings.values() for said in layer.values()):
            message = f"{said.key.text!r} is a setting of {row.kind}, on which results depend"
            hint = "change the task file, and run it: only the jobs that it concerns run again"
            scope.problems.blame(said.key, "set", message, hint)
    if overrides.labels is not None:
        scope.problems.blame(overrides.labels, "set", "what is poisoned stands in the job's name")
    return overrides


_UNITS = ("GiB", "MiB", "KiB", "B")
_SPANS = (("d", 86_400), ("h", 3_600), ("m", 60))
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+@=-]*")
_NOWHERE = Source(file="", lines=())


def yaml_text(value: Json) -> str:
    """Return a setting's value as YAML, in one line."""
    match value:
        case str():
            return value if _is_plain(value) else f'"{"".join(map(_escaped, value))}"'
        case list() | tuple():
            return f"[{', '.join(map(yaml_text, value))}]"
        case dict():
            pairs = (f"{yaml_text(key)}: {yaml_text(inner)}" for key, inner in value.items())
            return f"{{{', '.join(pairs)}}}"
    return json.dumps(value)


def _escaped(char: str) -> str:
    """Return a character as it stands between double quotes; JSON's pairs of surrogates are no YAML."""
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _is_plain(text: str) -> bool:
    """Tell whether a text means itself without quotes, to readers of YAML 1.1, too."""
    if text.lower() in TRUTHS:
        return False
    node = Scalar(_NOWHERE, 0, 0, len(text), text, plain=True)
    return _PLAIN.fullmatch(text) is not None and node.value == text


def option_text(option: JobOption, request: JobRequest) -> str:
    """Return the value of an option as a task file has it; '' where it is not given."""
    value, default = (attrgetter(option.field)(asked) for asked in (request, JobRequest()))
    if option.name == "gpus":  # one is the default only of who asks for none
        value, default = request.gpus, None
    if value in (None, default):
        return ""
    match option.takes:
        case Truth():
            return str(value).lower()
        case Size() if isinstance(value, int):
            return _size(value)
        case Span() if isinstance(value, float | int):
            return _span(float(value))
        case Moment() if isinstance(value, float | int):
            return datetime.fromtimestamp(value).isoformat()  # noqa: DTZ006  # as it is read: local
        case Names() if isinstance(value, tuple):
            return ",".join(map(str, value))
    return yaml_text(value) if isinstance(value, str) else str(value)


def _size(amount: int) -> str:
    for power, unit in zip((30, 20, 10), _UNITS, strict=False):
        if amount and amount % (1 << power) == 0:
            return f"{amount >> power}{unit}"
    return f"{amount}B"


def _span(span_s: float) -> str:
    parts, left = [], span_s
    for unit, unit_s in _SPANS:
        count, left = divmod(left, unit_s)
        parts += [f"{int(count)}{unit}"] if count else []
    if left or not parts:
        parts.append(f"{left:.9f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)
