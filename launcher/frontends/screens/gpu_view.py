"""How GPUs are shown: a line with a bar of memory for each, and below it who uses it, our jobs among them, and why not."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from launcher.frontends.screens.chart import blocks
from launcher.queue.gpu.gpus_file import read_gpu_status, read_known_attempts
from launcher.queue.gpu.monitor import (
    DRIVER_BYTES,
    find_owner,
    is_unused_by_others,
    parent_pid,
    recorded_program,
)
from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot, gpu_record
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.store.rows import Claim
from launcher.queue.workers.memory_share import MemoryReport, read_report
from launcher.system.files import Json
from launcher.system.processes import Identity, is_alive
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import (
    GAP,
    Cell,
    Column,
    TextLine,
    TextSpan,
    TextStyle,
    TextTable,
    line,
    shorten,
    width_of,
)
from launcher.system.units import format_bytes, format_seconds

OURS, OTHERS, RESERVED, FREE = "▓▒░·"
LEGEND = f"memory: {OURS} ours  {OTHERS} others  {RESERVED} reserved  {FREE} free"
WIDE = 100  # columns; on less, names are shorter and power stands without its limit
MOST_PROCESSES = 8  # processes of a card that are listed one by one
_GIB = 1 << 30
_BAR = range(6, 33)  # columns
_COLUMNS = (
    *(Column(title) for title in ("GPU", "NAME", "MEMORY")),
    *(Column(title, right=True) for title in ("GiB", "BUSY", "TEMP", "POWER")),
    Column("HEALTH"),
    Column("RECENT LOAD", drop=1),
)
_BAR_AT = 2  # the column of bars
_TONES = {"ok": TextStyle.GOOD, "warning": TextStyle.WARN, "faulty": TextStyle.BAD}
CURVE = 12  # characters


class GpuJob(NamedTuple):
    """A job of ours that has a reservation on a GPU."""

    job: int
    name: str
    reserved: int | None  # bytes; None: no amount
    # bytes that are reserved while the reservation follows the job's usage
    estimate: int | None = None
    # share of the time in which the job kept its GPUs busy lately, 0 to 1
    load: float | None = None
    exclusive: bool = False  # the job shares the GPU with none of ours
    pids: frozenset[int] = frozenset()  # the job's processes there, if the driver reports them
    reported: int | None = None  # bytes in use that the job's worker reports, context included
    peak: int | None = None  # peak bytes that the job's worker reports, context included


class AttemptUsage(NamedTuple):
    """The scheduler's data of a running attempt that screens show."""

    key: tuple[int, int] = (0, 0)  # job and number of the attempt
    estimate: int | None = None
    load: float | None = None

    @property
    def gpu_job_fields(self) -> dict[str, Any]:
        """The fields of a `GpuJob` for this attempt."""
        return {"estimate": self.estimate, "load": self.load}


NO_USAGE = AttemptUsage()


def read_attempt_usage(record: object) -> AttemptUsage | None:
    """Return the usage of an attempt from a record of gpus.json, or None if the record is invalid."""
    match record:
        case {"job": int() as job, "number": int() as number, **more}:
            estimate, load, measured_s = (more.get(key) for key in ("estimate", "load", "load_s"))
            known = isinstance(measured_s, int | float) and measured_s > 0
            return AttemptUsage(
                key=(job, number),
                estimate=estimate if isinstance(estimate, int) else None,
                load=float(load) if known and isinstance(load, int | float) else None,
            )
    return None


class GpuView(NamedTuple):
    """A GPU with our jobs on it."""

    gpu: GpuSnapshot
    node: str = ""  # node of the GPU; '' for this machine
    jobs: tuple[GpuJob, ...] = ()
    foreign: tuple[ForeignReservation, ...] = ()  # reservations of other users' schedulers

    @property
    def own_used_bytes(self) -> int | None:
        """Bytes that our jobs use, None if unknown."""
        used = [self.used_by(guest) for guest in self.jobs]
        return None if None in used else sum(filter(None, used))

    @property
    def unused_reserved_bytes(self) -> int:
        """Bytes that are reserved for our jobs and not in use yet."""
        return sum(
            max(0, (guest.reserved or guest.estimate or 0) - (self.used_by(guest) or 0))
            for guest in self.jobs
        )

    @property
    def amounts(self) -> tuple[int, int, int]:
        """Bytes used by our jobs, used by others, and reserved; 0 if unknown."""
        used = self.gpu.used or 0
        ours = min(self.own_used_bytes or 0, used)
        return (
            ours,
            used - ours,
            self.unused_reserved_bytes + sum(each.amount for each in self.foreign),
        )

    @property
    def is_idle(self) -> bool | None:
        """Whether no process uses it; None if unknown."""
        if self.gpu.used is None:
            return None
        return not self.jobs and is_unused_by_others(self.gpu)

    @property
    def health(self) -> str:
        """One word on the state of the GPU."""
        if self.gpu.fault:
            return "faulty"
        return "warning" if self.gpu.warnings or self.gpu.used is None else "ok"

    def used_by(self, guest: GpuJob) -> int | None:
        """Return the bytes that a job of ours uses there, None if unknown.

        If the driver does not report its processes, as in a container, its worker's report is used.
        """
        if self.gpu.processes is None:
            return guest.reported
        used = [process.used for process in self.gpu.processes if process.pid in guest.pids]
        if None in used or not used:
            return guest.reported if None in used or guest.reported is not None else 0
        return sum(filter(None, used))

    def columns(self) -> tuple[str, ...]:
        """Return the GPU as a line for pipes: bytes, watts and shares, a dash for the unknown."""
        gpu = self.gpu
        idle = {None: "-", True: "idle", False: "used"}[self.is_idle]
        memory = (gpu.used, gpu.total or None, self.own_used_bytes, self.unused_reserved_bytes)
        work = (gpu.utilisation, gpu.temperature_c, gpu.power_w, gpu.power_limit_w)
        return (
            gpu.number,
            gpu.uuid,
            sanitize_terminal(gpu.name),
            *("-" if number is None else f"{number:.15g}" for number in (*memory, *work)),
            idle,
            self.health,
            sanitize_terminal("; ".join(filter(None, (gpu.fault, *gpu.warnings)))),
            *([self.node] if self.node else []),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the GPU for JSON."""
        jobs = {pid: guest.job for guest in self.jobs for pid in guest.pids}
        listed: list[Json] = []
        for process in self.gpu.processes or ():
            told = process._asdict()
            del told["sm"]
            listed.append(told | {"job": jobs.get(process.pid)})
        guests: list[Json] = [
            {
                "job": guest.job,
                "name": guest.name,
                "promised": guest.reserved,
                "estimated": guest.estimate,
                "used": self.used_by(guest),
                "load": guest.load,
            }
            for guest in self.jobs
        ]
        return {
            "label": self.gpu.number,
            "node": self.node or None,
            **gpu_record(self.gpu),
            "processes": None if self.gpu.processes is None else listed,
            "jobs": guests,
            "ours": self.own_used_bytes,
            "promised": self.unused_reserved_bytes,
            "foreign": [
                {"user": promise.user, "promised": promise.amount} for promise in self.foreign
            ],
            "idle": self.is_idle,
            "health": self.health,
        }


def draw(
    gauges: Sequence[GpuView], width: int, *, busy: Mapping[str, Sequence[float]] | None = None
) -> list[TextLine]:
    """Return the lines of the table for a screen with this many columns.

    Args:
        gauges: the GPUs.
        width: columns.
        busy: UUID → how busy each was, 0 to 1, the newest last: drawn as a little curve.
    """
    cells = [
        _cells(gauge, (busy or {}).get(gauge.gpu.uuid, ()), wide=width >= WIDE) for gauge in gauges
    ]
    # columns without a word take no room: so far the bars have none
    others = TextTable(_COLUMNS, cells).to_lines()
    taken = max(width_of(row.text) for row in others)
    bar = min(max(width - taken - GAP, _BAR.start), _BAR.stop - 1)
    rows = [
        (*row[:_BAR_AT], _bar(gauge, bar), *row[_BAR_AT + 1 :])
        for gauge, row in zip(gauges, cells, strict=True)
    ]
    head, *lines = TextTable(_COLUMNS, rows).to_lines(width)
    drawn = [head]
    for gauge, gauge_line in zip(gauges, lines, strict=True):
        drawn += [
            gauge_line,
            *(line(f"  {note}", tone).truncate(width) for note, tone in notes(gauge)),
        ]
    return [*drawn, line(LEGEND, TextStyle.DIM).truncate(width)]


def notes(gauge: GpuView) -> list[tuple[str, TextStyle]]:
    """Return in words what a GPU's line cannot tell: faults, jobs of ours, others' processes."""
    gpu = gauge.gpu
    texts = [(f"fault: {sanitize_terminal(gpu.fault)}", TextStyle.BAD)] if gpu.fault else []
    texts += [
        (f"warning: {sanitize_terminal(warning)}", TextStyle.WARN) for warning in gpu.warnings
    ]
    by_pid = {process.pid: process for process in gpu.processes or ()}
    for guest in gauge.jobs:
        texts.append((_gpu_job_text(gauge, guest), TextStyle.OURS))
        pids = sorted(guest.pids & by_pid.keys())
        texts += [(f"  {_process(by_pid[pid])}", TextStyle.OURS) for pid in pids]
    texts += [
        (
            f"{sanitize_terminal(promise.user)}: {format_bytes(promise.amount)} reserved for jobs",
            TextStyle.OTHERS,
        )
        for promise in gauge.foreign
    ]
    ours = {pid for guest in gauge.jobs for pid in guest.pids}
    others = [process for pid, process in by_pid.items() if pid not in ours]
    texts += [(_process(process), TextStyle.OTHERS) for process in others[:MOST_PROCESSES]]
    if len(others) > MOST_PROCESSES:
        texts.append((f"and {len(others) - MOST_PROCESSES:,} more", TextStyle.OTHERS))
    if gauge.node:  # processes of another machine are not reported
        return texts
    return texts + [(columns, TextStyle.OTHERS) for columns in _unreported_facts(gpu)]


def _unreported_facts(gpu: GpuSnapshot) -> list[str]:
    """Return notes on data about the use of a GPU that the driver does not report."""
    if gpu.fault or gpu.used is None:
        return (
            [] if gpu.fault else ["the driver does not report used memory, so no job starts here"]
        )
    if gpu.shares_host_memory:
        return ["its memory is the main memory of the machine, also used by programs without GPU"]
    if gpu.processes is None:
        return (
            ["the driver does not report which processes use the GPU"]
            if gpu.used > DRIVER_BYTES
            else []
        )
    uses = [process.used for process in gpu.processes]
    rest = gpu.used - sum(filter(None, uses))
    if None in uses or rest <= DRIVER_BYTES:
        return []
    return [f"{format_bytes(rest)} used by processes that the driver does not list"]


def _gpu_job_text(gauge: GpuView, guest: GpuJob) -> str:
    facts = []
    if (used := gauge.used_by(guest)) is None or guest.pids or gauge.node:
        facts.append(f"uses {_amount(used)}")
    if guest.reserved is not None:
        facts.append(f"{format_bytes(guest.reserved)} reserved")
    elif guest.estimate is not None:
        facts.append(f"{format_bytes(guest.estimate)} estimated")
    if guest.load is not None:
        facts.append(f"{guest.load:.0%} busy".replace("%", " %"))
    if guest.exclusive:
        facts.append("exclusive")
    return f"job {guest.job} {sanitize_terminal(guest.name)}: {', '.join(facts) or 'usage unknown'}"


def _process(process: GpuProcess) -> str:
    who = "a user of another container" if process.user is None else sanitize_terminal(process.user)
    what = "" if process.command is None else f"{sanitize_terminal(process.command)} "
    return f"{who}: {_amount(process.used)}, {what}pid {process.pid}"


def _cells(gauge: GpuView, busy: Sequence[float], *, wide: bool) -> tuple[Cell, ...]:
    gpu = gauge.gpu
    name = sanitize_terminal(gpu.name).removeprefix("NVIDIA ")
    share = None if gpu.utilisation is None else gpu.utilisation * 100
    most = f"/{gpu.power_limit_w:.0f}" if wide and gpu.power_limit_w is not None else ""
    return (
        TextSpan(f"{gauge.node} {gpu.label}".lstrip(), TextStyle.STRONG),
        shorten(name, 20 if wide else 14),
        "",
        f"{gib(gpu.used)}/{gib(gpu.total or None)}",
        "idle" if gauge.is_idle else _format_or_unknown(share, "{:.0f} %"),
        _format_or_unknown(gpu.temperature_c, "{} °C"),
        _format_or_unknown(gpu.power_w, f"{{:.0f}}{most} W"),
        TextSpan(gauge.health, _TONES[gauge.health]),
        TextSpan(blocks(busy[-CURVE:], 0.0, 1.0), TextStyle.DIM),
    )


def _bar(gauge: GpuView, width: int) -> TextLine:
    """Return a bar of memory; question marks if its use is unknown."""
    gpu = gauge.gpu
    if gpu.used is None or not gpu.total:
        return line("?" * width, TextStyle.WARN)
    looks = ((OURS, TextStyle.OURS), (OTHERS, TextStyle.OTHERS), (RESERVED, TextStyle.RESERVED))
    spans, drawn, so_far = [], 0, 0
    for (glyph, tone), amount in zip(looks, gauge.amounts, strict=True):
        so_far += amount
        piece = glyph * (round(width * min(so_far, gpu.total) / gpu.total) - drawn)
        drawn += len(piece)
        spans.append(TextSpan(piece, tone))
    return TextLine((*spans, TextSpan(FREE * (width - drawn), TextStyle.DIM)))


def _amount(used_bytes: int | None) -> str:
    return "unknown memory" if used_bytes is None else format_bytes(used_bytes)


def gib(amount: int | None) -> str:
    """Return an amount of memory in GiB, without the unit; a question mark if it is not known."""
    return "?" if amount is None else f"{amount / _GIB:.1f}"


def _format_or_unknown(value: float | None, form: str) -> str:
    return "?" if value is None else form.format(value)


NAMELESS = "#"  # the first character of the UUID of a GPU that never reported one
FRESH_S = 15.0  # older values from the scheduler may have changed


def merge_recorded(
    gpus: Sequence[GpuSnapshot], earlier_gpus: Sequence[GpuSnapshot], age_s: float = 0.0
) -> list[GpuSnapshot]:
    """Return the GPUs with recorded data that the driver no longer reports.

    These are the identity of a lost GPU, and a fault that was reported only once.

    Args:
        gpus: GPUs as they are now.
        earlier_gpus: the scheduler's latest snapshot.
        age_s: age of that snapshot in seconds.
    """
    by_uuid = {gpu.uuid: gpu for gpu in earlier_gpus}
    by_place = {(gpu.index, gpu.mig): gpu for gpu in earlier_gpus}
    gpus_seen = []
    for gpu in gpus:
        nameless = gpu.uuid.startswith(NAMELESS)
        recorded = by_place.get((gpu.index, gpu.mig)) if nameless else by_uuid.get(gpu.uuid)
        if recorded is not None and nameless:
            gpu = replace(gpu, uuid=recorded.uuid, name=recorded.name, total=recorded.total)
        gpus_seen.append(replace(gpu, fault=_fault(gpu, recorded, age_s)))
    return gpus_seen


def gpu_views(
    gpus: Sequence[GpuSnapshot],
    claims: Sequence[Claim],
    home: Home,
    foreign: Sequence[ForeignReservation],
) -> list[GpuView]:
    """Return each GPU with the jobs of ours that have a place on it.

    Args:
        gpus: GPUs as they are now.
        claims: our attempts that have not ended.
        home: where their folders are.
        foreign: reservations of other queues of this machine.
    """
    heads = {
        who.pid: claim.job
        for claim in claims
        for who in _root_processes(claim, home.attempt(*claim.key))
        if who is not None and is_alive(who)
    }
    owners = {
        process.pid: job
        for gpu in gpus
        for process in gpu.processes or ()
        if (job := find_owner(process.pid, parent_pid, heads)) is not None
    }
    reports = {claim.job: read_report(home.attempt(*claim.key)) for claim in claims if claim.gpus}
    measured = {
        each.key: each
        for each in map(read_attempt_usage, read_known_attempts(home))
        if each is not None
    }
    return [
        GpuView(
            gpu=gpu,
            jobs=tuple(
                gpu_job_of(
                    claim,
                    reports[claim.job],
                    pids=frozenset(pid for pid, job in owners.items() if job == claim.job),
                )._replace(**measured.get(claim.key, NO_USAGE).gpu_job_fields)
                for claim in claims
                if gpu.uuid in claim.gpus
            ),
            foreign=tuple(promise for promise in foreign if promise.device == gpu.uuid),
        )
        for gpu in gpus
    ]


def gpu_job_of(
    claim: Claim,
    report: MemoryReport | None,
    *,
    pids: frozenset[int] = frozenset(),
    reported_index: int | None = None,
) -> GpuJob:
    """Return an attempt as a job on a GPU.

    Args:
        claim: the attempt.
        report: the report of its worker.
        pids: its processes there.
        reported_index: bytes that it uses, from a better source than its worker.
    """
    return GpuJob(
        job=claim.job,
        name=claim.spec.name,
        reserved=claim.vram,
        exclusive=claim.exclusive,
        pids=pids,
        reported=reported_index or (None if report is None else report.used_bytes),
        peak=None if report is None else report.peak_bytes,
    )


def _root_processes(claim: Claim, attempt: Attempt) -> tuple[Identity | None, ...]:
    """Return the processes from which all of an attempt's descend; its supervisor may be dead."""
    return claim.supervisor, recorded_program(attempt)


def _fault(gpu: GpuSnapshot, recorded_gpu: GpuSnapshot | None, age_s: float) -> str:
    """Return a GPU's fault, as the scheduler knows it where it does; an old one with its age."""
    if recorded_gpu is None or not recorded_gpu.fault:
        return gpu.fault
    if age_s < FRESH_S or gpu.fault:
        return recorded_gpu.fault
    return f"{recorded_gpu.fault} (as the scheduler saw it {format_seconds(round(age_s))} ago)"


def scheduler_snapshot(home: Home) -> tuple[tuple[GpuSnapshot, ...], float]:
    """Return the scheduler's latest snapshot and its age in seconds; nothing if no scheduler runs.

    The snapshot of an ended scheduler is outdated.
    """
    look = read_gpu_status(home) if scheduler_pid(home) is not None else None
    return ((), 0.0) if look is None else (look.gpus, max(0.0, time.time() - look.at))
