"""The rows of a run's jobs, of their attempts, settings and numbers."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from launcher.job import CPU
from launcher.kind_interface import Kind
from launcher.results.models import PARTS, SEED, Models
from launcher.results.returned import measured
from launcher.results.sweeps import scalar, settings_of, swept
from launcher.screens.format import first_line, iso
from launcher.store.rows import JobRow
from launcher.system.files import Json

Attempt = Mapping[str, Any]  # of `launcher.store.news`
JOBS = (
    "id", "run", "number", "name", "kind", "role", "state", "reason", "reason_code", "model", "base",
    "data", *PARTS, "command", "folder", "priority", "cpus", "ram", "gpus", "vram", "job_group",
    "attempts", "failures", "submitted", "started", "ended", "seconds", "hash",
)  # fmt: skip
ATTEMPTS = (
    "job", "number", "device", "cpus", "started", "ended", "seconds", "ending", "reason_code",
    "exit_code", "signal", "vram_promised", "vram_peak", "pilot",
)  # fmt: skip
SETTINGS = ("job", "name", "value", "swept")
METRICS = ("job", "name", "value", "low", "high")


def job_cells(
    job: JobRow, run: int, number: int, models: Models, attempt: Attempt | None
) -> tuple[Any, ...]:
    """Return the cells of a job.

    Args:
        job: as the queue knows it.
        run: the row of its run.
        number: its own row.
        models: of its run.
        attempt: its newest one.
    """
    spec = job.plain_spec
    parts = models.columns(spec.model) if spec.model else {}
    seed = parts.get(SEED)
    own = {**parts, SEED: scalar(settings_of(spec).get(SEED)) if seed is None else seed}
    resources = spec.resources
    began, ended = (attempt["claimed"], attempt["ended"]) if attempt else (None, None)
    return (
        number, run, job.id, job.name, job.kind, spec.role, str(job.state), first_line(job.reason),
        str(job.why.code), spec.model, spec.base, spec.data, *(own.get(name) for name in PARTS),
        shlex.join(spec.argv), str(spec.run_folder), job.priority, resources.cpus, resources.ram,
        resources.gpus if resources.may_need_gpu else 0, resources.min_vram, spec.terms.group or None,
        job.attempts, job.failures, iso(job.submitted), _time(began), _time(job.ended),
        None if began is None or ended is None else ended - began, job.hash,
    )  # fmt: skip


def attempt_cells(attempt: Attempt, job: int) -> tuple[Any, ...]:
    """Return the cells of an attempt of the job of a row."""
    outcome = attempt["outcome"] or {}
    done = outcome.get("ending") == "done"
    began, ended = attempt["claimed"], attempt["ended"]
    on_gpu = attempt["device"] != CPU
    return (
        job, attempt["number"], attempt["device"], attempt["cpus"], iso(began), _time(ended),
        None if ended is None else ended - began, outcome.get("ending"), attempt["reason_code"],
        0 if done else outcome.get("exit_code"), outcome.get("signal"),
        attempt["claim"] if on_gpu else None, attempt["peak"], attempt["pilot"],
    )  # fmt: skip


def setting_rows(
    jobs: Sequence[JobRow], rows: Mapping[int, int], kinds: Mapping[str, Kind]
) -> Iterator[tuple[Any, ...]]:
    """Yield the settings of jobs: job, name, value, and whether jobs of its kind differ in it."""
    sweeping = {
        kind: frozenset(names)
        for kind, names in swept((job.plain_spec for job in jobs), kinds).items()
    }
    for job in jobs:
        number, names = rows[job.id], sweeping[job.kind]
        for name, value in settings_of(job.plain_spec).items():
            yield number, name, scalar(value), name in names


def metric_rows(
    jobs: Iterable[JobRow],
    results: Mapping[int, Mapping[str, Json]],
    rows: Mapping[int, int],
    kinds: Mapping[str, Kind],
) -> Iterator[tuple[Any, ...]]:
    """Yield the numbers that jobs returned: job, name, value, and its interval."""
    for job in jobs:
        if result := results.get(job.id):
            for name, metric in measured(job.plain_spec, result, kinds).metrics.items():
                yield rows[job.id], name, metric.value, metric.low, metric.high


def _time(at: float | None) -> str | None:
    return None if at is None else iso(at)
