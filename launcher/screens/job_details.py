"""All that is known of one job, as names and values for people; and jobs as other programs get them.

For programs each is a flat record: bytes and seconds as numbers, times in UTC.
"""

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from launcher.backends.pilots_file import ELSEWHERE, PastPilot, past_pilots
from launcher.context import FOLDERS, has_folder, job_folder
from launcher.errors import counted
from launcher.gpu.gpus_file import attempts_seen, labels_of, seen_gpus
from launcher.job import CPU, FUNCTION, PROGRAM, Resources, Terms
from launcher.scheduler.chosen_policy import chosen_discipline
from launcher.scheduler.policy.vram_request import vram_request_of
from launcher.scheduler.run_places import turn_of
from launcher.screens.format import (
    between,
    common_zone,
    first_line,
    folder_of,
    harmless,
    iso,
    iso_if_known,
    local_under,
    moment,
    named,
    variables_of,
)
from launcher.screens.job_view import JobView, views_of
from launcher.signatures import is_exact, numbers_of
from launcher.staging.left_stages import left_by
from launcher.states import OPEN, State, is_signal, without_state
from launcher.store.queue import Store
from launcher.store.rows import AttemptRow, JobRow
from launcher.store.usage import Usage
from launcher.store.usage_records import program_by, similar_key
from launcher.system.daemon_control import scheduler_pid
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.units import format_bytes, format_seconds, median, quartile
from launcher.workers.progress.attempt_progress import newest


def job_records(home: Home, store: Store, jobs: Sequence[JobRow]) -> list[dict[str, Json]]:
    """Return what is known of jobs in few words; `launcher show --json` has all of one."""
    last = store.read.newest_attempts(job.id for job in jobs)
    labels, tags = labels_of(home), store.steering.tags_of(job.id for job in jobs)
    elsewhere = any(attempt.pilot for attempt in last.values())
    places = past_pilots(home) if elsewhere else {}
    return [
        {
            **view.record(),
            **_asked(job),
            **_termination(view),
            "tags": list(tags.get(job.id, ())),
            "owner_note": job.owner_note or None,
            "paused": iso_if_known(job.paused),
            **_tried(home, job, last.get(job.id), labels, places),
        }
        for job, view in zip(jobs, views_of(home, store, jobs, compared=False), strict=True)
    ]


def _asked(job: JobRow) -> dict[str, Json]:
    """Return what a job asks for, and since when."""
    resources, terms = job.spec.resources, job.spec.terms
    return {
        "reason": harmless(job.reason),
        "reason_code": job.why.code,
        "group": terms.group or None,
        "share": job.share,
        "on": list(terms.on),
        "cpus": resources.cpus,
        "ram": resources.ram,
        "gpus": resources.gpus if resources.may_need_gpu else 0,
        "vram": resources.min_vram,
        "not_before": iso_if_known(job.starts_at),
        "time_limit": terms.time_limit_s,
        "waits_for": job.waits - (job.starts_at is not None),
        "submitted": iso(job.submitted),
        "ended": iso_if_known(job.ended),
        "failures": job.failures,
        "retries": terms.retries,
        "folder": _folder(job),
    }


def _termination(view: JobView) -> dict[str, Json]:
    """Return how far the end of a running job has come, and the reason that goes with it."""
    if view.termination is None:
        return {"termination": None}
    return {
        "reason": view.note,
        "reason_code": view.code,
        "termination": view.termination.record(),
    }


def _folder(job: JobRow) -> str | None:
    """Return the folder of a job's results; None of a program that leaves none there."""
    if has_folder(job.spec):
        return str(job_folder(job.spec, job.id))
    folder = job.spec.run_folder
    return str(folder) if job.spec.entry or folder.exists() else None


def _tried(
    home: Home,
    job: JobRow,
    attempt: AttemptRow | None,
    labels: Mapping[str, str],
    nodes: Mapping[str, PastPilot],
) -> dict[str, Json]:
    """Return how a job's newest attempt went; nulls where there is none."""
    if attempt is None:
        nulls: dict[str, Json] = dict.fromkeys(_TRIED)
        return nulls | {"attempt": 0}
    outcome = attempt.outcome or {}
    places = attempt.device.split(",")
    return {
        "attempt": attempt.number,
        "started": iso(attempt.claimed),
        "seconds": attempt.seconds,
        "device": ",".join(labels.get(place, harmless(place)) for place in places),
        **place_record(attempt.pilot, nodes),
        "vram_promised": attempt.claim if attempt.device != CPU else None,
        "vram_peak": attempt.peak,
        "ending": outcome.get("ending"),
        "exit_code": 0 if outcome.get("ending") == "done" else outcome.get("exit_code"),
        "signal": outcome.get("signal"),
        "log": str(home.attempt(job.id, attempt.number).log),
    }


def place_record(pilot: str | None, nodes: Mapping[str, PastPilot]) -> dict[str, Json]:
    """Return where an attempt was: nulls on this machine, and of what is not known.

    Args:
        pilot: the token of its pilot.
        nodes: where pilots were.
    """
    place = nodes.get(pilot or "", PastPilot(token=""))
    return {
        "pilot": pilot,
        "backend": place.backend or None,
        "node": place.node or None,
    }


_TRIED = (
    "attempt",
    "started",
    "seconds",
    "device",
    "pilot",
    "backend",
    "node",
    "vram_promised",
    "vram_peak",
    "ending",
    "exit_code",
    "signal",
    "log",
)  # the keys of `_tried`


# settings by kind that stand in another line, as people read them: of a program its words, of a function its call
_SHOWN = {PROGRAM: {"argv", "cwd", "env"}, FUNCTION: {"arguments", "offset"}}
FEWEST = 4  # runs of which a half is told


def record_of(home: Home, store: Store, row: JobRow, needy: Sequence[JobRow]) -> dict[str, Any]:
    """Return all that is known of a job, as JSON has it.

    Args:
        home: whose queue.
        store: its database.
        row: the job.
        needy: the open jobs that need it.
    """
    attempts = store.read.attempts([row.id])
    places = past_pilots(home) if any(attempt.pilot for attempt in attempts) else {}
    return {
        **job_records(home, store, [row])[0],
        "turn": turn_of(store, row, time.time(), chosen_discipline(home)) or None,
        "hash": row.hash,
        "needs": store.read.needs_of(row.id),
        "needed_by": [job.name for job in needy],
        "after_any": [job.name for job in store.read.awaited_by(row.id)],
        "awaited_by": [job.name for job in store.read.awaiting(row.id)],
        "cwd": folder_of(row, store.read.folder_of(row.id)),
        "log": str(row.attempt_in(home).log) if row.attempts else None,
        "not_accepted": _not_accepted(home, row),
        "progress": _progress(home, row),
        "expected": _expected(home, store, row) if row.state in OPEN else {},
        "spec": row.spec.record(),
        "attempts": [{**each.record(), **place_record(each.pilot, places)} for each in attempts],
        "events": [
            {
                "at": iso(at),
                "state": state,
                "reason": harmless(reason.text),
                "reason_code": reason.code,
            }
            for at, state, reason in store.read.events_of(row.id)
        ],
        "result": store.read.result_of(row.id),
    }


def _progress(home: Home, row: JobRow) -> dict[str, Any] | None:
    """Return the newest that a job's newest attempt reported; None: nothing, or none was made."""
    step = newest(row.attempt_in(home)).step if row.attempts else None
    if step is None:
        return None
    return {
        "at": iso(step.at),
        "step": step.step,
        "total": step.total,
        "rate": step.rate,
        "metrics": {
            harmless(name): value if not isinstance(value, float) or isfinite(value) else str(value)
            for name, value in step.metrics.items()
        },
    }


def _not_accepted(home: Home, row: JobRow) -> str | None:
    """Return where it lies what a job's newest attempt makes, until its outcome is accepted."""
    if not row.attempts or row.state is State.DONE:
        return None
    try:
        return left_by(row.attempt_in(home), row.spec.run_folder) or None
    except OSError:
        return None


def _expected(home: Home, store: Store, row: JobRow) -> dict[str, str]:
    """Return what an open job on a GPU is expected to take, and on what that rests, in words.

    Nothing is there of what nobody knows: how long a job takes where not even another of its kind ran.
    """
    spec = row.spec
    if not spec.resources.may_need_gpu:
        return {}
    look = seen_gpus(home)
    store.scheduling.forget()  # the scheduler may have learned since this process began
    store.scheduling.know_machines(gpu.fingerprint for gpu in (look.gpus if look else ()))
    exact = is_exact(spec.signature)
    program = program_by(spec.signature, spec.argv)
    usage = store.scheduling.usage(spec.signature, program)
    live = _live_peaks(home, store, row.id, similar_key(spec.signature, program))
    usage = usage._replace(similar=usage.similar._replace(live=live))
    request, source, _ = vram_request_of(
        spec.resources.min_vram,
        store.scheduling.lane_of(row.id).least,
        usage,
        exact=exact,
        numbers=None if exact else numbers_of(spec.argv),
    )
    if spec.resources.min_vram is not None and source == "declared":
        memory = ""  # its owner has said so
    elif request is not None:
        memory = f"{format_bytes(request)} on each GPU ({source})"
    else:
        memory = f"a fixed part of a GPU at first ({source or 'no similar job has been measured'})"
    return {
        name: text
        for name, text in (("time", expected_time(usage, spec.terms)), ("memory", memory))
        if text
    }


def _live_peaks(home: Home, store: Store, job: int, similar: str) -> tuple[int, ...]:
    """Return what other running jobs that are similar use, in bytes, as the scheduler measured it."""
    if scheduler_pid(home) is None:  # what an earlier one measured may be out of date
        return ()
    settled: dict[tuple[int, int], int] = {}
    for record in attempts_seen(home):
        match record:
            case {"job": int() as running, "number": int() as number, "settled": int() as used}:
                settled[running, number] = used
    return tuple(
        settled[claim.key]
        for claim in store.scheduling.claims()
        if claim.key in settled
        and claim.job != job
        and similar_key(claim.spec.signature, program_by(claim.spec.signature, claim.spec.argv))
        == similar
    )


def expected_time(usage: Usage, terms: Terms) -> str:
    """Return how long a job is expected to run, and why, in words; '' where nobody knows."""
    if not usage.seconds:
        return ""
    middle = median(usage.seconds)
    if len(usage.seconds) < FEWEST:
        shortest, longest = min(usage.seconds), max(usage.seconds)
        part = ""
    else:
        shortest, longest = quartile(usage.seconds, 1), quartile(usage.seconds, 3)
        part = "half of "
    runs = counted(len(usage.seconds), "run")
    runs = runs if usage.own else f"{runs} of other jobs"
    took = f"{part}{runs} took {between(format_seconds(shortest), format_seconds(longest))}"
    if not usage.own:
        took += "; no similar job is done"
    if terms.time_limit_s is not None:
        middle = min(middle, terms.time_limit_s)
        took += f"; its time limit is {format_seconds(terms.time_limit_s)}"
    return f"{format_seconds(middle)} ({took})"


def facts_of(record: Mapping[str, Any], row: JobRow) -> Iterator[tuple[str, str]]:
    """Give what a job does and asks for: names and values, as people write them."""
    spec, made = record["spec"], record["not_accepted"]
    absent = " (not there yet)" if row.state in OPEN else " (not there)"
    places = {key: record[key] for key in ("cwd", "folder", "log") if record[key]}
    # the call of a function is one of its settings
    argv = () if spec["kind"] == FUNCTION else spec["argv"]
    facts: dict[str, Any] = {
        "tags": ", ".join(record["tags"]),
        "note": record["owner_note"],
        "hash": record["hash"],
        **{key: place + absent * _is_absent(place) for key, place in places.items()},
        "staging folder": f"{made} (moved to the run when the job is done)" if made else "",
        **{key: spec[key] for key in ("model", "base", "data", "images")},
        "argv": shlex.join(argv),
        "env": shlex.join(f"{name}={text}" for name, text in variables_of(row).items()),
        **{f"expected {name}": text for name, text in record["expected"].items()},
        "priority": str(row.priority or ""),
        "share": "" if row.share == 1 else f"{row.share:g}",
    }
    yield from ((name, _text(value)) for name, value in facts.items() if value)
    resources, terms = row.spec.resources, row.spec.terms
    for part, usual in ((resources, Resources()), (terms, Terms())):
        for field, value, default in zip(part._fields, part, usual, strict=True):
            if value != default:
                name = field.removesuffix("_s").removeprefix("min_").replace("_", " ")
                yield name, _term(field, value)
    for key, value in spec["settings"].items():
        if key in _SHOWN.get(spec["kind"], ()) or (spec["kind"] == PROGRAM and not value):
            continue
        yield f"  {_text(key)}", _text(value)


def _is_absent(place: str) -> bool:
    return not place.startswith(FOLDERS) and not Path(place).exists()


def _term(name: str, value: Any) -> str:
    """Return one of a job's terms as people write it."""
    if name in {"ram", "min_vram"}:
        return format_bytes(value)
    if name == "on":
        return harmless(",".join(value))
    if name == "not_before":
        return moment(value)
    if name.endswith("_s"):
        return format_seconds(value)
    return _text(value)


def zone_of(record: Mapping[str, Any]) -> str:
    """Return the zone of all local times of a job's record; '' if they lie in several."""
    return common_zone([*map(_time_of, record["events"]), *_begins(record)])


def zone_title(record: Mapping[str, Any]) -> str:
    """Return what the title of a job's events says of their times."""
    shared = zone_of(record)
    return f"in local time ({shared})" if shared else "in local time"


def _time_of(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def _begins(record: Mapping[str, Any]) -> Iterator[float]:
    yield from (attempt["claimed"] for attempt in record["attempts"])


def event_cells(record: Mapping[str, Any], head: str) -> list[tuple[str, str, str]]:
    """Return the cells of the events of a job's record: when, which state, why.

    Args:
        record: as `record_of` has it.
        head: the zone that is named above or below them; times of other zones have their own.
    """
    return [
        (f"  {local_under(_time_of(event), head)}", event["state"], without_state(event["reason"]))
        for event in record["events"]
    ]


def result_cells(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a job returned: names and values, nothing of one that has not."""
    return [(f"  {_text(name)}", _text(value)) for name, value in (record["result"] or {}).items()]


def needed_cells(needs: Sequence[JobRow], most: int) -> list[tuple[str, ...]]:
    """Return a row for each of the first jobs that come before another, those that are not done first."""
    ordered = sorted(needs, key=lambda need: (need.state is State.DONE, need.id))
    return [(f"  {need.id}", need.state, harmless(need.name)) for need in ordered[:most]]


def needy_text(needy: Sequence[JobRow]) -> str:
    """Return which open jobs need another; '' where none does."""
    verb = "needs" if len(needy) == 1 else "need"
    return f"{counted(len(needy), 'open job')} {verb} it: {named(needy)}" if needy else ""


def attempt_cells(home: Home, record: Mapping[str, Any], head: str) -> list[tuple[str, ...]]:
    """Return the cells of a job's attempts: number, when each began, where, how it ended, and after how long."""
    labels = labels_of(home)
    return [_attempt(attempt, labels, head) for attempt in record["attempts"]]


def _attempt(attempt: Mapping[str, Any], labels: Mapping[str, str], head: str) -> tuple[str, ...]:
    ended = attempt["ended"]
    span_s = None if ended is None else max(0.0, ended - attempt["claimed"] - attempt["paused"])
    pauses = f"pauses of {format_seconds(attempt['paused'])}" if attempt["paused"] else ""
    took = "" if span_s is None else f"after {format_seconds(span_s)}"
    took = ", and ".join(filter(None, (took, pauses)))
    node = (attempt["node"] or ELSEWHERE) if attempt["pilot"] else ""
    where = ", ".join(labels.get(uuid, uuid) for uuid in attempt["device"].split(","))
    return (
        f"  {attempt['number']}",
        local_under(attempt["claimed"], head),
        f"{node} {harmless(where)}".lstrip() + _memory(attempt),
        harmless(_how_it_ended(attempt["outcome"])),
        took,
    )


def _memory(attempt: Mapping[str, Any]) -> str:
    """Return what an attempt was promised of a GPU, and took there; '' for one on the CPU."""
    if attempt["device"] == CPU:
        return ""
    promised = "alone" if attempt["lone"] else "estimated memory"
    if attempt["claim"] is not None:
        promised = f"reserved {format_bytes(attempt['claim'])}"
    took = "" if attempt["peak"] is None else f", used {format_bytes(attempt['peak'])}"
    return f", {promised}{took}"


def _how_it_ended(outcome: Mapping[str, Any] | None) -> str:
    """Return in one sentence how an attempt ended."""
    match outcome:
        case None:
            return "runs"
        case {"ending": "done"}:
            return "done"
        case {"ending": "failed", "error": str(why)}:
            return f"failed: {first_line(why)}"
        case {"ending": "out-of-memory", "error": str(why)}:
            return f"out of memory: {_shortage(outcome) or first_line(why)}"
        case {"ending": "lost", "why": str(why)}:
            return f"lost: {first_line(why)}"
        case {"ending": "stopped", "by": str(by)}:
            return f"stopped: {f'its supervisor got {by}' if is_signal(by) else by}"
        case {"ending": "stopped"}:
            return "stopped on request"
        case {"ending": "void"}:
            return "not started"
    return str(outcome.get("ending", "unknown"))


def _shortage(outcome: Mapping[str, Any]) -> str:
    """Return what an attempt had of memory and what it lacked, in numbers; '' where it did not say."""
    forms = {"held": "used {}", "wanted": "needed {} more", "cap": "limit {}"}
    return ", ".join(
        form.format(format_bytes(outcome[key]))
        for key, form in forms.items()
        if isinstance(outcome.get(key), int)
    )


def _text(value: object) -> str:
    match value:
        case list() | tuple():
            return harmless(" ".join(map(str, value)))
        case float():
            return f"{value:.6g}"
        case dict():
            return harmless(json.dumps(value))
    return harmless(str(value))
