"""Changes of a queued job by its owner: the job as editable text, and the consequences of a change.

The text is YAML with the keys of task files: resources and terms, and for a program also its command line. Each value
is read back exactly, and every error has a place. Settings that determine the result of a plugin package's job are
changed in its task file. A change is refused if other jobs depend on the job as it is.
"""

import hashlib
import json
import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.kinds import COMMAND, find_kinds, signature_of
from launcher.experiments.planning.plan_builder import resources_of
from launcher.experiments.taskfile.entries import variant_name
from launcher.experiments.taskfile.nodes import (
    TRUTHS,
    GivenSetting,
    MappingNode,
    Node,
    ScalarNode,
    SourceFile,
    is_null,
)
from launcher.experiments.taskfile.overrides import OPTION, Overrides, read_overrides
from launcher.experiments.taskfile.programs import SweptJob, change_swept_values, has_template
from launcher.experiments.taskfile.scope import EVERY, Scope, read_request
from launcher.experiments.taskfile.sections import check_variables
from launcher.experiments.taskfile.settings import (
    format_pair,
    known_settings,
    resolve_settings,
    unknown_key,
)
from launcher.experiments.taskfile.yaml_tree import read_document
from launcher.queue.job_options.registry import JobOption, JobRequest, job_options, old_option_names
from launcher.queue.job_options.value_types import in_task_file, terms_fault
from launcher.queue.jobs.context import INPUTS, OUTPUTS, file_paths
from launcher.queue.jobs.job import CPU, FUNCTION, Resources, Spec
from launcher.queue.jobs.job_folders import with_folder_suffix
from launcher.queue.jobs.params import PARAMS, parse_options, swept_values, with_option
from launcher.queue.jobs.signatures import program_cost
from launcher.queue.jobs.states import OPEN_STATES, Reason, ReasonCode, State
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.steering import ChangedJob
from launcher.system.errors import (
    Problem,
    Problems,
    Severity,
    SourceLocation,
    TaskFileError,
    UsageError,
    did_you_mean,
    nearest,
)
from launcher.system.files import Json

_BUILT_ON = frozenset({State.DONE, State.RUNNING})
SETTINGS, RESOURCES = "settings", "resources"
COMMENT_WIDTH = 96  # columns of a comment
_ABOUT = (
    "To change the job, change values, save the file and close the editor. An empty or unchanged file changes "
    "nothing. A deleted line means the default."
)
_ELSEWHERE = "To change what an experiment computes, edit its task file and run it."
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+@=-]*")
_EXAMPLES = ("cpus", "vram", "time_limit")  # options that a message names
_NO_PLACE = SourceFile(file="", lines=())


class JobValues(NamedTuple):
    """All values of a job that its owner may change."""

    settings: dict[str, Json]  # settings of a program: the job's command line, folder and variables
    request: JobRequest
    swept: SweptJob | None = None  # the job with other values of its sweep; None: no sweep changes


def is_program(row: JobRow) -> bool:
    """Return whether a job runs a command line, not a function of a plugin package."""
    return not row.spec.entry


def was_added(row: JobRow) -> bool:
    """Return whether a job was queued by `launcher add` instead of a task file."""
    return is_program(row) and not row.hash


def job_text(row: JobRow, title: str) -> str:
    """Return the editable text of a job.

    Args:
        row: the job.
        title: describes the job and the effect of saving; becomes a comment.

    Raises:
        UsageError: the job cannot be changed as text.
    """
    _refuse(row)
    about = (title, _ABOUT) if is_program(row) else (title, _ABOUT, _ELSEWHERE)
    lines = [f"# {line}" for text in about for line in textwrap.wrap(text, COMMENT_WIDTH)]
    settings = [*_settings(row), ""] if is_program(row) else []
    return "\n".join([*lines, *settings, *_options(_request_of(row)), ""])


def _refuse(row: JobRow) -> None:
    """Refuse a job that cannot be written as text.

    Raises:
        UsageError: names an alternative.
    """
    if not row.spec.role:
        raise UsageError(
            f"job {row.id} was queued by a newer launcher. Change it with that version."
        )
    if row.kind == FUNCTION:
        raise UsageError(
            f"job {row.id} calls a Python function and cannot be edited. Cancel it with "
            f"`launcher cancel {row.id}`, and submit it again with other options."
        )


def _settings(row: JobRow) -> Iterator[str]:
    yield f"{SETTINGS}:"
    # a job of `launcher add` has no such keys
    values = {"argv": list(row.spec.argv), **row.spec.settings}
    for name, field in COMMAND.settings.model_fields.items():
        if name in values:
            yield _line(name, yaml_text(values[name]), field.description or "")


def _options(request: JobRequest) -> Iterator[str]:
    """Yield the options that are set, and the others as comments."""
    yield f"{RESOURCES}:"
    others = []
    for option in job_options().values():
        if text := option_text(option, request):
            yield _line(option.name, text, option.help)
        else:
            others.append(f"  # {option.name}: …  {option.summary}")
    yield "  # not set:"
    yield from others


def _line(name: str, value: str, comment: str) -> str:
    line = f"  {name}: {value}"
    return f"{line}  # {comment}" if comment and "\n" not in comment else line


def _request_of(row: JobRow) -> JobRequest:
    """Return the request of a job, without derived values."""
    asked = row.spec.resources
    learns = resources_of(JobRequest(), Role(row.spec.role), has_entry=True).accelerated
    gpus = asked.gpus if asked.gpus > 1 or (asked.accelerated and not learns) else None
    device = asked.device
    if is_program(row) and device == "cuda":
        if gpus is None and asked.vram is None and not asked.exclusive:
            gpus = asked.gpus
        device = "auto"
    elif was_added(row) and device == CPU:
        device = "auto"
    return JobRequest(
        resources=asked._replace(device=device, accelerated=False),
        terms=row.spec.terms._replace(note=row.owner_note),
        priority=row.priority,
        gpus=gpus,
    )


def own_values(row: JobRow, now: float) -> JobValues:
    """Return the values of a job, read back from its own text.

    Raises:
        UsageError: the text cannot represent the job, as a command line may not be valid text.
    """
    try:
        return read_form(row, job_text(row, ""), now)
    except TaskFileError as error:
        why = error.problems[0].message
        raise UsageError(
            f"job {row.id} cannot be edited as text: {why}. Cancel it and queue it again."
        ) from error


def read_form(row: JobRow, text: str, now: float, sets: Sequence[str] = ()) -> JobValues:
    """Parse the edited text of a job.

    Args:
        row: the job.
        text: text of `job_text`, edited by the user.
        now: seconds since 1970.
        sets: `key=value` each; they override the text.

    Raises:
        TaskFileError: all errors of the text.
        UsageError: the text is empty.
    """
    problems = Problems()
    kinds: dict[str, Kind] = {COMMAND.name: COMMAND}
    if not is_program(row) and sets:  # for messages: none of its settings can be set
        kinds = find_kinds([row.kind]).kinds
    scope = Scope(kinds=kinds, problems=problems, now=now)
    root = read_document(text, f"job-{row.id}.yaml", problems)
    if root is None:
        raise UsageError("the edited file contains no values")
    given = _swept_settings(row, overrides := read_overrides(sets, scope.kinds, problems))
    overrides = _check_overrides(row, overrides, scope)
    parts = _parts(row, root, problems)
    settings = swept = None
    if is_program(row):
        settings = _program(parts.get(SETTINGS), overrides, root.place, scope)
    if given and settings is not None:
        swept = change_swept_values(row.spec.settings, given, problems)
        settings |= {} if swept is None else swept.settings
    request = _request(parts.get(RESOURCES), row.kind, overrides, scope)
    if swept is not None:
        request = _with_swept_terms(row, request, swept)
    fault = terms_fault(request.terms, in_task_file)
    if fault is not None:
        problems.add_error(root, RESOURCES, fault)
    # the text contains every setting, so settings without effect are not an error
    errors = [
        problem._replace(severity=Severity.ERROR)
        for problem in problems
        if problem.severity is Severity.ERROR
        # the user sets an option without effect, such as a time in the past
        or (problem.code == RESOURCES and problem.place and problem.place.file == OPTION)
    ]
    if errors:
        raise TaskFileError(errors, outcome="nothing was changed")
    return JobValues(settings or {}, request, swept)


def _with_swept_terms(row: JobRow, request: JobRequest, swept_job: SweptJob) -> JobRequest:
    """Return a request with the other values of the sweep in its options, unless the user changed these."""
    old, new = row.spec.terms, request.terms
    terms = {
        name: text
        for name, text in swept_job.terms.items()
        if getattr(new, name) == getattr(old, name)
    }
    return request._replace(terms=new.with_files(terms)) if terms else request


def changes_sweep(row: JobRow, sets: Sequence[str]) -> bool:
    """Return whether some of `key=value` set a value of a job's sweep that can be changed."""
    keys = {text.partition("=")[0].strip() for text in sets}
    return has_template(row.spec.settings) and not keys.isdisjoint(row.spec.settings[PARAMS])


def _swept_settings(row: JobRow, overrides: Overrides) -> dict[str, GivenSetting]:
    """Remove the values of a job's sweep from overrides, and return them."""
    swept: dict[str, GivenSetting] = {}
    if has_template(row.spec.settings):
        for name in overrides.unmatched.keys() & row.spec.settings[PARAMS].keys():
            del overrides.unmatched[name]
            for layer in overrides.settings.values():
                if name in layer:
                    swept[name] = layer.pop(name)
    return swept


def _parts(row: JobRow, root: Node, problems: Problems) -> dict[str, Node]:
    """Return the parts of a form by name."""
    known = (SETTINGS, RESOURCES) if is_program(row) else (RESOURCES,)
    if not isinstance(root, MappingNode):
        message = f"expected {' and '.join(f'{name}:' for name in known)} with their values below"
        problems.add_error(root, "wrong-type", message)
        return {}
    for key, _ in root.pairs:
        if key.text not in known:
            problems.append(unknown_key(key, "a section of a job", known))
    return {key.text: node for key, node in root.pairs if not is_null(node)}


def _program(
    node: Node | None, overrides: Overrides, place: SourceLocation, scope: Scope
) -> dict[str, Json] | None:
    """Return the command line, folder and variables of a program; None if they are invalid."""
    given: dict[str, GivenSetting] = {}
    settings, problems = known_settings([COMMAND]), scope.problems
    what = "a setting of a program"
    if isinstance(node, MappingNode):
        given = settings.read_given(
            node.pairs, problems, lambda key: settings.unknown_key_problem(key, what)
        )
    elif node is not None:
        first = next(iter(COMMAND.settings.model_fields))
        message = f"expected settings of a program, such as {first}: …"
        problems.add_error(node, "wrong-type", message)
    given |= overrides.settings.get(EVERY, {}) | overrides.settings.get(COMMAND.name, {})
    settled = (
        resolve_settings(COMMAND, given, place, problems)
        if check_variables(given, problems)
        else None
    )
    return None if settled is None else dict(settled.values)


def _request(node: Node | None, kind: str, overrides: Overrides, scope: Scope) -> JobRequest:
    request = JobRequest()
    if node is not None:
        request = read_request(node, request, scope)
    if overrides.resources:  # all resources together, as they may contradict each other
        pairs = [pair for fields in overrides.resources for pair in _options_for_kind(fields, kind)]
        request = read_request(replace(overrides.resources[0], pairs=tuple(pairs)), request, scope)
    return request


def _options_for_kind(fields: MappingNode, kind: str) -> Iterator[tuple[ScalarNode, Node]]:
    """Yield the options that are set for a kind, with or without its name."""
    for key, value in fields.pairs:
        if key.text == kind and isinstance(value, MappingNode):
            yield from value.pairs
        else:
            yield key, value


def _check_overrides(row: JobRow, overrides: Overrides, scope: Scope) -> Overrides:
    """Return settings of the command line without unknown ones; keys that only task files have are refused."""
    for fields in overrides.words:
        key = fields.pairs[0][0]
        what = "settings and resources" if is_program(row) else "resources"
        message = f"{key.text!r} is a key of task files; a job has only {what}"
        scope.problems.add_error(key, "set", message)
    if not is_program(row):
        for said in (said for layer in overrides.settings.values() for said in layer.values()):
            message = f"{said.key.text!r} is a setting of {row.kind} and changes the results"
            hint = "change the task file and run it; only the affected jobs run again"
            scope.problems.add_error(said.key, "set", message, hint)
    scope.problems.extend(_free_name(row, *free) for free in overrides.unmatched.items())
    for name in overrides.unmatched:  # one job is not swept
        for layer in overrides.settings.values():
            layer.pop(name, None)
    if overrides.labels is not None:
        scope.problems.add_error(overrides.labels, "set", "the poison is part of the job's name")
    return overrides


def _free_name(row: JobRow, name: str, problem: Problem) -> Problem:
    """Return the problem of an unknown setting, with the settings of a program."""
    if not is_program(row):
        return problem
    swept = name in swept_values(row.spec.settings)
    in_command = swept or name in parse_options(tuple(row.spec.argv))
    is_option = name in job_options() or name in old_option_names()
    if problem.place is None or not in_command or (problem.hint and is_option):
        options = ", ".join(
            (*COMMAND.settings.model_fields, *map("resources.{}".format, _EXAMPLES))
        )
        message, notes = f"{name!r} is not an option of a program", [f"options: {options}, …"]
        if has_template(row.spec.settings):
            values = row.spec.settings[PARAMS]
            message += " or a value of its sweep"
            notes.insert(0, f"values of the sweep: {', '.join(values)}")
            close = did_you_mean(nearest(name, values))
            problem = problem._replace(hint=problem.hint if is_option else close or problem.hint)
        return problem._replace(message=message, notes=tuple(notes))
    value = problem.place.text.partition("=")[2].strip()
    argv: list[Json] = [*with_option(row.spec.argv, name, value)]
    command = shlex.quote(f"argv={yaml_text(argv)}")
    notes = [f"to set the whole command line: --set {command}"]
    if swept:
        notes.append(
            f"job {row.id} then keeps its name. To queue a new job with its own name: "
            f"launcher add --sweep {shlex.quote(f'{name}={value}')} -- PROGRAM",
        )
    return problem._replace(
        code="set",
        message=f"{name!r} is part of the command line of job {row.id}",
        hint="",
        notes=tuple(notes),
    )


def yaml_text(value: Json) -> str:
    """Return a setting's value as one line of YAML."""
    match value:
        case str():
            return value if _is_plain_text(value) else f'"{"".join(map(_escape, value))}"'
        case list() | tuple():
            return f"[{', '.join(map(yaml_text, value))}]"
        case dict():
            pairs = (f"{yaml_text(key)}: {yaml_text(inner)}" for key, inner in value.items())
            return f"{{{', '.join(pairs)}}}"
    return json.dumps(value)


def _escape(char: str) -> str:
    """Return a character escaped for double quotes in YAML, which has no pairs of surrogates as JSON has."""
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _is_plain_text(text: str) -> bool:
    """Return whether a text needs no quotes in YAML, including YAML 1.1."""
    if text.lower() in TRUTHS:
        return False
    node = ScalarNode(_NO_PLACE, 0, 0, len(text), text, plain=True)
    return _PLAIN.fullmatch(text) is not None and node.value == text


def option_text(option: JobOption, request: JobRequest) -> str:
    """Return the value of an option as in a task file; '' if it is not set."""
    value, default = (attrgetter(option.field)(asked) for asked in (request, JobRequest()))
    if option.name == "gpus":  # one GPU is the default only without a request
        value, default = request.gpus, None
    if value in (None, default):
        return ""
    return yaml_text(value) if isinstance(value, str) else option.takes.text_of(value)


class Revision(NamedTuple):
    """A queued job with the changes of its owner."""

    row: JobRow  # the job's row when the revision was computed
    spec: Spec
    changes: tuple[str, ...]  # in words: "cpus 1 → 2"
    hashes: tuple[tuple[JobRow, str], ...] = ()  # job → new hash, of the jobs after a program

    # another job gets the changes: this one is done, keeps its result, and has other values of its sweep
    is_new_job: bool = False

    @property
    def summary(self) -> str:
        """The changes as text."""
        return ", ".join(self.changes)

    def to_changed_job(self) -> ChangedJob:
        """Return the change for the database; its reason is written to the job's events."""
        if self.row.state in OPEN_STATES:
            code, text = ReasonCode.EDITED, f"changed by the user: {self.summary}"
        else:
            code, text = (
                ReasonCode.RETRIED,
                f"queued again by the user, with changes: {self.summary}",
            )
        reason = Reason(code=code, text=text, data={"changes": list(self.changes)})
        return ChangedJob(row=self.row, spec=self.spec, reason=reason, dependent_hashes=self.hashes)

    def new_job_reason(self) -> Reason:
        """Return why the job is queued that gets the changes."""
        text = f"queued by the user, as job {self.row.id} with changes: {self.summary}"
        data: dict[str, Json] = {"changes": list(self.changes)}
        return Reason(code=ReasonCode.EDITED, text=text, data=data)


def check_new_names(store: Store, revisions: Iterable[Revision]) -> None:
    """Refuse changes that give a job the name of another one, or the outputs of the job that keeps its result.

    Raises:
        UsageError: names both jobs.
    """
    names: dict[tuple[int, str], int] = {}
    for revision in revisions:
        row, name = revision.row, revision.spec.name
        if revision.is_new_job and (both := {*revision.spec.outputs} & {*row.spec.outputs}):
            raise UsageError(
                f"job {row.id} is done, and a job with {revision.summary} would overwrite its output {min(both)}. "
                "Put the value into the name of the output, and queue a new sweep."
            )
        if name == row.spec.name:
            continue
        if other := names.get((row.run_id, name)):
            raise UsageError(
                f"jobs {other} and {row.id} would both be named {name}. Choose one of them."
            )
        names[row.run_id, name] = row.id
        if (holder := store.read.find_job(row.run_id, name)) is not None:
            raise UsageError(
                f"job {holder.id} {name} exists already ({holder.state}). {_next_command(holder)}"
            )
        if not revision.is_new_job and (below := store.job_control.transitive_dependents(row.id)):
            raise UsageError(
                f"job {row.id} cannot get other values, because job {below[0].id} needs it. "
                "Queue a new sweep, or change the task file and run it."
            )


def _next_command(holder: JobRow) -> str:
    """Return a sentence with the command that fits a job which has the wanted values already."""
    match holder.state:
        case State.QUEUED | State.RUNNING:
            return f"To wait for it: launcher wait {holder.id}"
        case State.HELD:
            return f"To let it start: launcher release {holder.id}"
        case State.DONE:
            return f"To run it again: launcher retry {holder.id} --force"
        case _:
            return f"To run it again: launcher retry {holder.id}"


def revise_all(
    store: Store, rows: Sequence[JobRow], sets: Sequence[str], now: float
) -> dict[int, Revision]:
    """Return number → revision of jobs with some values set; jobs that already have them are left out.

    Args:
        store: the queue.
        rows: the jobs; none of them runs.
        sets: `key=value` each, as for `launcher run --set`.
        now: seconds since 1970.

    Raises:
        TaskFileError: all errors of `sets`.
        UsageError: a job cannot be changed in this way.
    """
    revisions = {}
    for row in rows:
        before = own_values(row, now)
        after = read_form(row, job_text(row, ""), now, sets)
        if (revision := revise(store, row, before, after)) is not None:
            revisions[row.id] = revision
    return _with_consistent_hashes(revisions)


def _with_consistent_hashes(revisions: dict[int, Revision]) -> dict[int, Revision]:
    """Return revisions whose new hashes agree: a job may follow several revised jobs."""
    hashes: dict[int, str] = {}
    rows: dict[int, JobRow] = {}
    for revision in revisions.values():
        own = (
            () if revision.spec.hash == revision.row.hash else ((revision.row, revision.spec.hash),)
        )
        for row, text in (*own, *revision.hashes):
            hashes[row.id] = _digest(hashes[row.id], text) if row.id in hashes else text
            rows[row.id] = row
    last = next(reversed(revisions), None)
    others = tuple((row, hashes[row.id]) for row in rows.values() if row.id not in revisions)
    return {
        number: revision._replace(
            spec=revision.spec._replace(hash=hashes.get(number, revision.spec.hash)),
            hashes=others if number == last else (),
        )
        for number, revision in revisions.items()
    }


def revise(
    store: Store, row: JobRow, old_values: JobValues, new_values: JobValues
) -> Revision | None:
    """Return the revision of a job, or None if nothing changes.

    Args:
        store: the queue.
        row: the job, which does not run.
        old_values: its values, read back from its own text.
        new_values: the requested values.

    Raises:
        UsageError: dependent jobs need the job as it is, or the values are invalid.
    """
    changed = [
        name
        for name in new_values.settings
        if new_values.settings[name] != old_values.settings.get(name)
    ]
    options = [*_changed_options(old_values.request, new_values.request)]
    swept = new_values.swept
    swept_changes = [] if swept is None else _swept_changes(row, swept)
    if not (changed or options or swept_changes):
        return None
    filled = () if swept is None else swept.settings
    changes = swept_changes + [
        f"{name} {' → '.join(format_pair(old_values.settings.get(name), new_values.settings[name]))}"
        for name in changed
        if name not in filled
    ]
    # `launcher priority` and `launcher note` change those of the row, not of its spec
    spec = row.spec._replace(priority=new_values.request.priority, terms=new_values.request.terms)
    if swept is not None and swept_changes:
        spec = spec._replace(name=_swept_name(row, swept))
        changed = changed or [PARAMS]
    if options:
        spec = spec._replace(resources=_resources(row, new_values.request))
    hashes: tuple[tuple[JobRow, str], ...] = ()
    if changed:
        spec, hashes = _replace_command_line(store, row, spec, new_values)
    elif options:  # files of numbers may be in its folder now
        spec = with_folder_suffix(spec, row.id, row.spec, store.home)
    if swept is not None and swept_changes:
        spec = spec._replace(settings={**spec.settings, **swept.stored})
    if spec.resources.gpus != row.spec.resources.gpus:
        spec = spec._replace(signature=_signature(row, spec.resources.gpus))
    is_new_job = row.state is State.DONE and bool(swept_changes)
    return Revision(row, spec, (*changes, *options), hashes, is_new_job)


def _swept_changes(row: JobRow, swept_job: SweptJob) -> list[str]:
    """Return the changed values of a sweep as text."""
    before, after = row.spec.settings[PARAMS], swept_job.stored[PARAMS]
    assert isinstance(after, dict)
    return [
        f"{name} {' → '.join(format_pair(before[name], value))}"
        for name, value in after.items()
        if value != before[name]
    ]


def _swept_name(row: JobRow, swept_job: SweptJob) -> str:
    """Return the name of a job with other values of its sweep; a job that is named by its number keeps its name."""
    if swept_job.name is not None:
        return f"{row.kind}/{swept_job.name}"
    base, at, _ = row.name.partition("@")
    return variant_name(base, swept_job.variant) if at and not was_added(row) else row.name


def _changed_options(old_request: JobRequest, new_request: JobRequest) -> Iterator[str]:
    for option in job_options().values():
        unset = option.default or "unset"
        texts = [option_text(option, request) or unset for request in (old_request, new_request)]
        if texts[0] != texts[1]:
            yield f"{option.name} {texts[0]} → {texts[1]}"


def _resources(row: JobRow, request: JobRequest) -> Resources:
    """Return the resources of a job for a request."""
    if was_added(row):
        device = request.resources.device
        if device == "auto":
            device = "cuda" if request.wants_gpu else CPU
        return request.resources._replace(device=device)
    return resources_of(request, Role(row.spec.role), has_entry=not is_program(row))


def _signature(row: JobRow, gpus: int) -> str:
    """Return the signature of a job after a change of its number of GPUs; that of a program is unchanged.

    Raises:
        UsageError: its kind is not installed.
    """
    if is_program(row):
        return row.spec.signature
    installed = find_kinds([row.kind])
    if row.kind not in installed.kinds:
        why = installed.unusable.get(row.kind) or f"job type {row.kind!r} is not installed"
        raise UsageError(f"cannot change the number of GPUs of job {row.id}: {why}")
    return signature_of(installed.kinds[row.kind], row.spec.settings, gpus)


def _replace_command_line(
    store: Store, row: JobRow, spec: Spec, new_values: JobValues
) -> tuple[Spec, tuple[tuple[JobRow, str], ...]]:
    """Return the spec of a program with another command line, and the new hashes of the jobs after it.

    No plan has these hashes, so the next run of the task file follows the file and runs all of these jobs again.

    Raises:
        UsageError: other jobs have used its results.
    """
    argv = _command_words(new_values)
    spec = spec._replace(argv=argv, signature=program_cost(new_values.settings, argv))
    settings = new_values.settings
    if was_added(row) and not (settings["cwd"] or settings["env"]):
        settings = {name: settings[name] for name in (INPUTS, OUTPUTS) if settings[name]}
    spec = with_folder_suffix(spec._replace(settings=settings), row.id, row.spec, store.home)
    if settings.get(OUTPUTS) or spec.outputs:
        outputs = file_paths(OUTPUTS, spec, store.read.working_folder(row.id), row.id)
        spec = spec._replace(outputs=outputs)
    if not row.hash:
        return spec, ()
    change = json.dumps(new_values.settings, sort_keys=True)
    if (
        row.state is State.DONE and new_values.swept is not None
    ):  # a new job, on which no other job depends
        return spec._replace(hash=_digest(row.hash, change)), ()
    dependants = store.job_control.transitive_dependents(row.id)
    _refuse_used_results(row, dependants)
    hashes = tuple((each, _digest(each.hash, change)) for each in dependants)
    return spec._replace(hash=_digest(row.hash, change)), hashes


def _command_words(values: JobValues) -> tuple[str, ...]:
    argv = values.settings["argv"]
    return tuple(map(str, argv)) if isinstance(argv, list | tuple) else ()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _refuse_used_results(row: JobRow, dependants: Sequence[JobRow]) -> None:
    """Refuse to change a program whose results other jobs have used.

    Raises:
        UsageError: names the first of these jobs.
    """
    built = [each for each in dependants if each.state in _BUILT_ON]
    if built:
        first, more = built[0], len(built) - 1
        others = f" and {more} more" if more else ""
        raise UsageError(
            f"cannot change {row.name}, because {first.name} (job {first.id}, {first.state}){others} used "
            "its results. Change the task file and run it, or give the file another name to keep both."
        )
