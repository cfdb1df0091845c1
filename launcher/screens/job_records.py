"""Jobs as other programs get them: one flat record each, bytes and seconds as numbers, times in UTC."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.backends.pilots_file import PastPilot
from launcher.job import CPU
from launcher.screens.clusters.pilots_now import NOT_KNOWN, places_of
from launcher.screens.format import JobLine, harmless, iso
from launcher.screens.gpu_users import labels_of
from launcher.screens.snapshots import lines_of
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.files import Json
from launcher.system.paths import Home


def job_records(
    home: Home, store: Store, jobs: Sequence[JobRow], lines: Sequence[JobLine] | None = None
) -> list[dict[str, Json]]:
    """Return what is known of jobs in few words; `launcher show --json` has all of one.

    Args:
        home: whose queue.
        store: its database.
        jobs: which.
        lines: what `lines_of` returned for them, where that was asked already.
    """
    last = store.frames.newest_attempts(job.id for job in jobs)
    labels, tags = labels_of(home), store.steering.tags_of(job.id for job in jobs)
    elsewhere = any(attempt["pilot"] for attempt in last.values())
    places = places_of(home) if elsewhere else {}
    listed = lines_of(home, store, jobs) if lines is None else lines
    return [
        {
            **line.record(),
            **_asked(job),
            **_said_by_owner(job, tags.get(job.id, ())),
            **_tried(home, job, last.get(job.id), labels, places),
        }
        for job, line in zip(jobs, listed, strict=True)
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
        "not_before": None if job.starts_at is None else iso(job.starts_at),
        "time_limit": terms.time_limit_s,
        "waits_for": job.waits - (job.starts_at is not None),
        "submitted": iso(job.submitted),
        "ended": None if job.ended is None else iso(job.ended),
        "failures": job.failures,
        "retries": terms.retries,
        "folder": _folder(job),
    }


def _said_by_owner(job: JobRow, tags: Sequence[str]) -> dict[str, Json]:
    """Return what its owner has written on a job, and since when the program is paused."""
    return {
        "tags": list(tags),
        "owner_note": job.owner_note or None,
        "paused": None if job.paused is None else iso(job.paused),
    }


def _folder(job: JobRow) -> str | None:
    """Return the folder of a job's results; None of a program that leaves none there."""
    folder = job.spec.run_folder
    return str(folder) if job.spec.entry or folder.exists() else None


def _tried(
    home: Home,
    job: JobRow,
    attempt: Mapping[str, Any] | None,
    labels: Mapping[str, str],
    nodes: Mapping[str, PastPilot],
) -> dict[str, Json]:
    """Return how a job's newest attempt went; nulls where there is none."""
    if attempt is None:
        nulls: dict[str, Json] = dict.fromkeys(_TRIED)
        return nulls | {"attempt": 0}
    outcome = _outcome(attempt["outcome"])
    places = attempt["device"].split(",")
    return {
        "attempt": attempt["number"],
        "started": iso(attempt["claimed"]),
        "seconds": None
        if attempt["ended"] is None
        else attempt["ended"] - attempt["claimed"] - attempt["paused"],
        "device": ",".join(labels.get(place, harmless(place)) for place in places),
        **place_record(attempt["pilot"], nodes),
        "vram_promised": attempt["claim"] if attempt["device"] != CPU else None,
        "vram_peak": attempt["peak"],
        "ending": outcome.get("ending"),
        "exit_code": 0 if outcome.get("ending") == "done" else outcome.get("exit_code"),
        "signal": outcome.get("signal"),
        "log": str(home.attempt(job.id, attempt["number"]).log),
    }


def place_record(pilot: str | None, nodes: Mapping[str, PastPilot]) -> dict[str, Json]:
    """Return where an attempt was: nulls on this machine, and of what is not known.

    Args:
        pilot: the token of its pilot.
        nodes: where pilots were.
    """
    place = nodes.get(pilot or "", NOT_KNOWN)
    return {
        "pilot": pilot,
        "backend": place.backend or None,
        "node": place.node or None,
    }


def _outcome(text: str | None) -> Mapping[str, Json]:
    """Return an attempt's outcome; nothing of one that cannot be read."""
    try:
        record = json.loads(text) if text else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


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
