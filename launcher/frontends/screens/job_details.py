"""All that is known of one job, as names and values for people."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from launcher.frontends.screens.code_notes import commit_text
from launcher.queue.backends.pilot_status import UNKNOWN_PLACE
from launcher.queue.gpu.gpus_file import gpu_labels
from launcher.queue.gpu.snapshot import label_for, short_uuid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import FOLDER_PLACEHOLDERS
from launcher.queue.jobs.job import CPU, FUNCTION, PROGRAM, Resources, Terms
from launcher.queue.jobs.params import TEMPLATE
from launcher.queue.jobs.states import OPEN_STATES, State, is_signal, strip_state_prefix
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import (
    common_zone,
    first_line,
    format_job_names,
    local_under,
    short_local_time,
    variables_of,
)
from launcher.system.errors import pluralize
from launcher.system.secret_arguments import hide_secret_variables, hide_secrets
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes, format_seconds

# settings by kind that another line shows in readable form: the words of a program, the call of a function
_SHOWN = {PROGRAM: {"argv", "cwd", "env", TEMPLATE}, FUNCTION: {"arguments", "offset", "identity"}}


def facts_of(record: Mapping[str, Any], row: JobRow) -> Iterator[tuple[str, str]]:
    """Yield the work and the requests of a job, as names and values in readable form."""
    spec, made = record["spec"], record["not_accepted"]
    absent = " (not there yet)" if row.state in OPEN_STATES else " (not there)"
    places = {key: record[key] for key in ("cwd", "folder", "log") if record[key]}
    # the call of a function is one of its settings
    argv = () if spec["kind"] == FUNCTION else spec["argv"]
    facts: dict[str, Any] = {
        "tags": ", ".join(record["tags"]),
        "note": record["owner_note"],
        "code": record["code_note"],
        "commit": commit_text(record["code"]) if record["code"] else "",
        "snapshot": (record["code"] or {}).get("snapshot"),
        "hash": record["hash"],
        **{key: place + absent * _is_absent(place) for key, place in places.items()},
        "staging folder": f"{made} (moved to the run when the job is done)" if made else "",
        **{key: spec[key] for key in ("model", "base", "data", "images")},
        "argv": shlex.join(hide_secrets(argv)),
        "program": ", ".join(path + absent * _is_absent(path) for path in record["programs"]),
        "env": shlex.join(
            f"{name}={text}" for name, text in hide_secret_variables(variables_of(row)).items()
        ),
        **{f"expected {name}": text for name, text in record["expected"].items()},
        "priority": str(row.priority or ""),
        "share": "" if row.share == 1 else f"{row.share:g}",
    }
    yield from ((name, _text(value)) for name, value in facts.items() if value)
    # the note is shown above
    resources, terms = row.spec.resources, row.spec.terms._replace(note="")
    for part, usual in ((resources, Resources()), (terms, Terms())):
        for field, value, default in zip(part._fields, part, usual, strict=True):
            if value != default:
                name = field.removesuffix("_s").removeprefix("min_").replace("_", " ")
                uuid = record["gpu_uuid"] if field == "device" else None
                yield (
                    name,
                    _describe_term(field, value) + (f" ({short_uuid(uuid)})" if uuid else ""),
                )
    for key, value in spec["settings"].items():
        if key in _SHOWN.get(spec["kind"], ()) or (spec["kind"] == PROGRAM and not value):
            continue
        yield f"  {_text(key)}", _text(value)


def _is_absent(place: str) -> bool:
    return not place.startswith(FOLDER_PLACEHOLDERS) and not Path(place).exists()


def _describe_term(name: str, value: Any) -> str:
    """Return one of a job's terms as people write it."""
    if name in {"ram", "vram"}:
        return format_bytes(value)
    if name == "on":
        return sanitize_terminal(",".join(value))
    if name == "not_before":
        return short_local_time(value)
    if name.endswith("_s"):
        return format_seconds(value)
    return _text(value)


def time_zone_of(record: Mapping[str, Any]) -> str:
    """Return the zone of all local times of a job's record; '' if there are several."""
    return common_zone([*map(_time_of, record["events"]), *_attempt_starts(record)])


def zone_title(record: Mapping[str, Any]) -> str:
    """Return the part of the title of a job's events that describes their times."""
    shared = time_zone_of(record)
    return f"in local time ({shared})" if shared else "in local time"


def _time_of(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def _attempt_starts(record: Mapping[str, Any]) -> Iterator[float]:
    yield from (attempt["claimed"] for attempt in record["attempts"])


def event_cells(record: Mapping[str, Any], head: str) -> list[tuple[str, str, str]]:
    """Return the cells of the events of a job's record: when, which state, why.

    Args:
        record: record as `record_of` has it.
        head: the zone that is named above or below them; times of other zones have their own.
    """
    return [
        (
            f"  {local_under(_time_of(event), head)}",
            event["state"],
            strip_state_prefix(event["reason"]),
        )
        for event in record["events"]
    ]


def result_cells(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the names and values of a job's result; nothing if it has none."""
    return [(f"  {_text(name)}", _text(value)) for name, value in (record["result"] or {}).items()]


def dependency_cells(dependencies: Sequence[JobRow], most: int) -> list[tuple[str, ...]]:
    """Return a row for each of the first jobs that come before another, those that are not done first."""
    ordered = sorted(dependencies, key=lambda need: (need.state is State.DONE, need.id))
    return [(f"  {need.id}", need.state, sanitize_terminal(need.name)) for need in ordered[:most]]


def dependents_text(dependents: Sequence[JobRow]) -> str:
    """Return which open jobs need another; '' if none does."""
    verb = "needs" if len(dependents) == 1 else "need"
    return (
        f"{pluralize(len(dependents), 'open job')} {verb} it: {format_job_names(dependents)}"
        if dependents
        else ""
    )


def attempt_cells(home: Home, record: Mapping[str, Any], head: str) -> list[tuple[str, ...]]:
    """Return the cells of a job's attempts: number, start, place, end, duration, and cores."""
    labels, device = gpu_labels(home), record["spec"]["resources"]["device"]
    return [_attempt(attempt, labels, device, head) for attempt in record["attempts"]]


def _attempt(
    attempt: Mapping[str, Any], labels: Mapping[str, str], device: str, head: str
) -> tuple[str, ...]:
    ended = attempt["ended"]
    span_s = None if ended is None else max(0.0, ended - attempt["claimed"] - attempt["paused"])
    pauses = f"pauses of {format_seconds(attempt['paused'])}" if attempt["paused"] else ""
    took = "" if span_s is None else f"after {format_seconds(span_s)}"
    took = ", and ".join(filter(None, (took, pauses)))
    node = (attempt["node"] or UNKNOWN_PLACE) if attempt["pilot"] else ""
    where = ", ".join(
        label_for(device, labels[uuid], uuid) if uuid in labels else uuid
        for uuid in attempt["device"].split(",")
    )
    return (
        f"  {attempt['number']}",
        local_under(attempt["claimed"], head),
        f"{node} {sanitize_terminal(where)}".lstrip() + _memory(attempt),
        sanitize_terminal(_outcome_sentence(attempt["outcome"])),
        took,
        _cores(attempt),
    )


def _cores(attempt: Mapping[str, Any]) -> str:
    """Return the reserved cores of an attempt, and the average of the used ones if it is known."""
    used = "" if attempt["cpus_used"] is None else f", {attempt['cpus_used']:.1f} used"
    return f"{pluralize(attempt['cpus'], 'core')} reserved{used}"


def _memory(attempt: Mapping[str, Any]) -> str:
    """Return the GPU memory that an attempt reserved and used; '' for an attempt on the CPU."""
    if attempt["device"] == CPU:
        return ""
    promised = "alone" if attempt["exclusive"] else "estimated memory"
    if attempt["vram"] is not None:
        promised = f"reserved {format_bytes(attempt['vram'])}"
    took = "" if attempt["peak"] is None else f", used {format_bytes(attempt['peak'])}"
    return f", {promised}{took}"


def _outcome_sentence(outcome: Mapping[str, Any] | None) -> str:
    """Return in one sentence how an attempt ended."""
    match outcome:
        case None:
            return "runs"
        case {"ending": "done"}:
            return "done"
        case {"ending": "failed", "error": str(why)}:
            return f"failed: {first_line(why)}"
        case {"ending": "out-of-memory", "error": str(why)}:
            return f"out of memory: {_oom_text(outcome) or first_line(why)}"
        case {"ending": "lost", "why": str(why)}:
            return f"lost: {first_line(why)}"
        case {"ending": "stopped", "by": str(by)}:
            return f"stopped: {f'its supervisor got {by}' if is_signal(by) else by}"
        case {"ending": "stopped"}:
            return "stopped on request"
        case {"ending": "void"}:
            return "not started"
    return str(outcome.get("ending", "unknown"))


def _oom_text(outcome: Mapping[str, Any]) -> str:
    """Return the memory that an attempt used and lacked, and its limit; '' if it did not report them."""
    forms = {"held": "used {}", "wanted": "needed {} more", "cap": "limit {}"}
    return ", ".join(
        form.format(format_bytes(outcome[key]))
        for key, form in forms.items()
        if isinstance(outcome.get(key), int)
    )


def _text(value: object) -> str:
    match value:
        case list() | tuple():
            return sanitize_terminal(" ".join(map(str, value)))
        case float():
            return f"{value:.6g}"
        case dict():
            return sanitize_terminal(json.dumps(value))
    return sanitize_terminal(str(value))
