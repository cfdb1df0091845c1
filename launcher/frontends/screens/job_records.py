"""Jobs as other programs get them: a flat record of each, or all that is known of one.

Bytes and seconds are numbers, and times are in UTC.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from os import sysconf
from typing import Any

from launcher.frontends.screens.code_notes import code_record
from launcher.frontends.screens.job_view import JobView, job_views
from launcher.queue.backends.pilot_status import PastPilot, read_past_pilots
from launcher.queue.gpu.gpus_file import gpu_labels, read_gpu_status, read_known_attempts
from launcher.queue.gpu.monitor import recorded_program
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import job_folder, program_paths, uses_job_folder
from launcher.queue.jobs.job import CPU, FUNCTION, Terms
from launcher.queue.jobs.signatures import ignored_numbers, is_exact_signature
from launcher.queue.jobs.states import OPEN_STATES, State, read_cpu_time
from launcher.queue.scheduler.chosen_policy import read_policy
from launcher.queue.scheduler.policy.vram_request import choose_vram_request
from launcher.queue.scheduler.run_places import describe_position
from launcher.queue.staging.earlier_stages import find_unaccepted_output
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import AttemptRow, JobRow
from launcher.queue.store.usage import Usage
from launcher.queue.store.usage_records import program_of_signature, similar_key
from launcher.queue.texts import folder_of, format_range, iso_time, iso_time_or_none
from launcher.queue.workers.progress.attempt_progress import (
    NumberNotes,
    read_attempt_progress,
    read_file_faults,
    split_reserved_keys,
)
from launcher.system.errors import pluralize
from launcher.system.files import Json
from launcher.system.processes import is_alive
from launcher.system.stored_fields import Unreadable
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes, format_seconds, median, quartile

_ATTEMPT_KEYS = (
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
)  # the keys of `_attempt_record`
FEWEST = 4  # runs for which quartiles are shown instead of the range


def job_records(home: Home, store: Store, jobs: Sequence[JobRow]) -> list[dict[str, Json]]:
    """Return what is known of jobs in few words; `launcher show --json` has all of one."""
    last = store.read.newest_attempts(job.id for job in jobs)
    labels, tags = gpu_labels(home), store.job_control.tags_of(job.id for job in jobs)
    elsewhere = any(attempt.pilot for attempt in last.values())
    places = read_past_pilots(home) if elsewhere else {}
    return [
        {
            **view.to_json(),
            **_request_record(job),
            **_termination(view),
            "tags": list(tags.get(job.id, ())),
            "owner_note": job.owner_note or None,
            "paused": iso_time_or_none(job.paused),
            **_attempt_record(home, job, last.get(job.id), labels, places),
        }
        for job, view in zip(jobs, job_views(home, store, jobs, is_compared=False), strict=True)
    ]


def _request_record(job: JobRow) -> dict[str, Json]:
    """Return what a job asks for, and since when."""
    resources, terms = job.spec.resources, job.spec.terms
    return {
        "reason": sanitize_terminal(job.reason),
        "reason_code": job.state_reason.code,
        "group": terms.group or None,
        "share": job.share,
        "on": list(terms.on),
        "cpus": resources.cpus,
        "ram": resources.ram,
        "gpus": resources.gpus if resources.may_need_gpu else 0,
        "vram": resources.vram,
        "not_before": iso_time_or_none(job.starts_at),
        "time_limit": terms.time_limit_s,
        "waits_for": job.waits - (job.starts_at is not None),
        "submitted": iso_time(job.submitted),
        "ended": iso_time_or_none(job.ended),
        "failures": job.failures,
        "retries": terms.retries,
        "folder": _folder(job),
    }


def _termination(view: JobView) -> dict[str, Json]:
    """Return how far the end of a running job has come, and the reason that goes with it."""
    if view.termination is None:
        return {"termination": None}
    return {
        "reason": view.reason,
        "reason_code": view.code,
        "termination": view.termination.to_json(),
    }


def _folder(job: JobRow) -> str | None:
    """Return the folder of a job's results; None if a program leaves no results there."""
    if uses_job_folder(job.spec):
        return str(job_folder(job.spec, job.id))
    folder = job.spec.run_folder
    return str(folder) if job.spec.entry or folder.exists() else None


def _attempt_record(
    home: Home,
    job: JobRow,
    attempt: AttemptRow | None,
    labels: Mapping[str, str],
    nodes: Mapping[str, PastPilot],
) -> dict[str, Json]:
    """Return how a job's newest attempt went; nulls if there is none."""
    if attempt is None:
        nulls: dict[str, Json] = dict.fromkeys(_ATTEMPT_KEYS)
        return nulls | {"attempt": 0}
    outcome = attempt.outcome or {}
    places = attempt.device.split(",")
    return {
        "attempt": attempt.number,
        "started": iso_time(attempt.claimed),
        "seconds": attempt.seconds,
        "device": ",".join(labels.get(place, sanitize_terminal(place)) for place in places),
        **place_record(attempt.pilot, nodes),
        "vram_promised": attempt.vram if attempt.device != CPU else None,
        "vram_peak": attempt.peak,
        "ending": outcome.get("ending"),
        "exit_code": 0 if outcome.get("ending") == "done" else outcome.get("exit_code"),
        "signal": outcome.get("signal"),
        "log": str(home.attempt(job.id, attempt.number).log),
    }


def _program_paths(store: Store, row: JobRow) -> list[Json]:
    """Return the paths of the programs or the interpreter with which a job was queued; none if they are unknown."""
    try:
        return [*program_paths(row.spec_without_sources, store.read.context_of(row.id))]
    except Unreadable:
        return []


def place_record(pilot: str | None, nodes: Mapping[str, PastPilot]) -> dict[str, Json]:
    """Return the place of an attempt. Values are null on this machine, or if they are unknown.

    Args:
        pilot: the token of its pilot.
        nodes: places of past pilots, by token.
    """
    place = nodes.get(pilot or "", PastPilot(token=""))
    return {
        "pilot": pilot,
        "backend": place.backend or None,
        "node": place.node or None,
    }


def record_of(
    home: Home, store: Store, row: JobRow, dependents: Sequence[JobRow]
) -> dict[str, Any]:
    """Return all that is known of a job, as JSON has it.

    Args:
        home: whose queue.
        store: its database.
        row: the job.
        dependents: the open jobs that need it.
    """
    attempts = store.read.attempts([row.id])
    result, notes = store.read.result_of(row.id), NumberNotes()
    spec = row.spec_without_sources
    if result is not None and (not spec.entry or spec.kind == FUNCTION):
        result, notes = split_reserved_keys(result)
    faults = notes.faults
    if row.attempts and not faults:  # a job without a result has none in the database
        faults = read_file_faults(row.attempt_in(home))
    places = read_past_pilots(home) if any(attempt.pilot for attempt in attempts) else {}
    return {
        **job_records(home, store, [row])[0],
        "code": code_record(store, row),
        # nodes have programs of their own
        "programs": [] if attempts and attempts[-1].pilot else _program_paths(store, row),
        "turn": describe_position(store, row, time.time(), read_policy(home)) or None,
        "hash": row.hash,
        "gpu_uuid": store.read.gpu_of_number(row.id) or None,
        "needs": store.read.dependency_names(row.id),
        "needed_by": [job.name for job in dependents],
        "after_any": [job.name for job in store.read.awaited_jobs_of(row.id)],
        "awaited_by": [job.name for job in store.read.jobs_awaiting(row.id)],
        "cwd": folder_of(row, store.read.working_folder(row.id)),
        "log": str(row.attempt_in(home).log) if row.attempts else None,
        "not_accepted": _unaccepted_folder(home, row),
        "progress": _progress(home, row),
        "expected": _expected_usage_texts(home, store, row) if row.state in OPEN_STATES else {},
        "spec": row.spec.to_json(),
        "attempts": [
            {**each.to_json(), **_cpu_record(home, row, each), **place_record(each.pilot, places)}
            for each in attempts
        ],
        "events": [
            {
                "at": iso_time(at),
                "state": state,
                "reason": sanitize_terminal(reason.text),
                "reason_code": reason.code,
            }
            for at, state, reason in store.read.events_of(row.id)
        ],
        "number_faults": [*map(sanitize_terminal, faults)],
        "left_out": _reasons_of(home, row, notes.left_out),
        "result": result or None,
    }


def _reasons_of(home: Home, row: JobRow, names: Sequence[str]) -> dict[str, str]:
    """Return why printed names are no results; the reasons are empty if the log is gone."""
    if not names:
        return {}
    # the forms of lines, which few jobs need here
    from launcher.queue.workers.progress.log_report import read_log_report

    reasons = dict.fromkeys(map(sanitize_terminal, names), "")
    attempt = row.attempt_in(home)
    for log in (attempt.log, attempt.stderr):
        with suppress(OSError):
            for name, each in read_log_report(log).left_out.items():
                if (shown := sanitize_terminal(name)) in reasons:
                    reasons[shown] = each.reason
    return reasons


def _cpu_record(home: Home, job: JobRow, attempt: AttemptRow) -> dict[str, Json]:
    """Return the CPU time of an attempt, and the number of cores that it used on average.

    A running attempt on this machine is measured now. Values are null if they are unknown.
    """
    if attempt.outcome is None:
        cpu_s = _running_cpu_s(home, attempt) if attempt.pilot is None else None
        standing = 0.0 if job.paused is None else time.time() - job.paused
        seconds = time.time() - attempt.claimed - attempt.paused - standing
    else:
        cpu_s, seconds = read_cpu_time(attempt.outcome), attempt.seconds or 0.0
    used = None if cpu_s is None or seconds <= 0 else cpu_s / seconds
    return {"cpu_s": cpu_s, "cpus_used": used}


def _running_cpu_s(home: Home, attempt: AttemptRow) -> float | None:
    """Return the CPU time of the processes of an attempt so far, None if none is found."""
    # only a running job needs it
    from launcher.frontends.screens.host_reader import process_times

    program = recorded_program(home.attempt(attempt.job, attempt.number))
    if program is None or not is_alive(program):
        return None
    ticks = process_times([program.pid]).ticks.get(program.pid)
    return None if ticks is None else ticks / sysconf("SC_CLK_TCK")


def _progress(home: Home, row: JobRow) -> dict[str, Any] | None:
    """Return the last report of a job's newest attempt, or None if there is no report or attempt."""
    step = read_attempt_progress(row.attempt_in(home)).step if row.attempts else None
    if step is None:
        return None
    return {
        "at": iso_time(step.at),
        "step": step.step,
        "total": step.total,
        "unit": step.unit,
        "batch": None if step.batch is None else [*step.batch],
        "rate": step.rate,
        "metrics": {
            sanitize_terminal(name): value
            if not isinstance(value, float) or isfinite(value)
            else str(value)
            for name, value in step.metrics.items()
        },
    }


def _unaccepted_folder(home: Home, row: JobRow) -> str | None:
    """Return the folder with the output of a job's newest attempt until its outcome is accepted."""
    if not row.attempts or row.state is State.DONE:
        return None
    try:
        return find_unaccepted_output(row.attempt_in(home), row.spec.run_folder) or None
    except OSError:
        return None


def _expected_usage_texts(home: Home, store: Store, row: JobRow) -> dict[str, str]:
    """Return the expected usage of an open job on a GPU, and the basis of the estimate, in words.

    Unknown values are left out, for example the duration if no job of its kind has run.
    """
    spec = row.spec
    if not spec.resources.may_need_gpu:
        return {}
    look = read_gpu_status(home)
    store.database.invalidate_caches()  # the scheduler may have learned since this process began
    store.usage_records.set_local_machines(gpu.fingerprint for gpu in (look.gpus if look else ()))
    exact = is_exact_signature(spec.signature)
    program = program_of_signature(spec.signature, spec.argv)
    usage = store.usage_records.usage(spec.signature, program)
    live = _live_peaks(home, store, row.id, similar_key(spec.signature, program))
    usage = usage._replace(similar=usage.similar._replace(running_bytes=live))
    request, source, _ = choose_vram_request(
        spec.resources.vram,
        store.ready_jobs.lane_of_job(row.id).least_vram,
        usage,
        exact=exact,
        numbers=None if exact else ignored_numbers(spec.argv),
    )
    if spec.resources.vram is not None and source == "declared":
        memory = ""  # the user requested this memory
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
    if scheduler_pid(home) is None:  # measurements of an earlier scheduler may be out of date
        return ()
    settled: dict[tuple[int, int], int] = {}
    for record in read_known_attempts(home):
        match record:
            case {"job": int() as running, "number": int() as number, "settled": int() as used}:
                settled[running, number] = used
    return tuple(
        settled[claim.key]
        for claim in store.claims.open_claims()
        if claim.key in settled
        and claim.job != job
        and similar_key(
            claim.spec.signature, program_of_signature(claim.spec.signature, claim.spec.argv)
        )
        == similar
    )


def expected_time(usage: Usage, terms: Terms) -> str:
    """Return how long a job is expected to run, and why, in words; '' if it is unknown."""
    if not usage.seconds:
        return ""
    middle = median(usage.seconds)
    if len(usage.seconds) < FEWEST:
        shortest, longest = min(usage.seconds), max(usage.seconds)
        part = ""
    else:
        shortest, longest = quartile(usage.seconds, 1), quartile(usage.seconds, 3)
        part = "half of "
    runs = pluralize(len(usage.seconds), "run")
    runs = runs if usage.is_own else f"{runs} of other jobs"
    took = f"{part}{runs} took {format_range(format_seconds(shortest), format_seconds(longest))}"
    if not usage.is_own:
        took += "; no similar job is done"
    if terms.time_limit_s is not None:
        middle = min(middle, terms.time_limit_s)
        took += f"; its time limit is {format_seconds(terms.time_limit_s)}"
    return f"{format_seconds(middle)} ({took})"
