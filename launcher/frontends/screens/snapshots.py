"""Snapshots of a queue, each as of one moment, from the database and the latest GPU snapshot.

A snapshot is a value: `status`, its watch, `top` and the web page show only its contents.
"""

import math
import sqlite3
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from launcher.frontends.screens.code_notes import code_change_notes
from launcher.frontends.screens.gpu_view import CURVE, FRESH_S, GpuView, gpu_views, merge_recorded
from launcher.frontends.screens.host import Host
from launcher.frontends.screens.host_reader import HostReader
from launcher.frontends.screens.job_view import (
    RECENT,
    WAITING,
    DifferingParams,
    GpuMemoryUsage,
    GroupStatus,
    JobView,
    differing_params,
    ending_reason_of,
    job_view,
    limited_groups,
    read_final_metrics,
    read_newest_progress,
    view_of_end,
)
from launcher.frontends.screens.pilot_gpus import pilot_gpu_views
from launcher.frontends.screens.search_view import shown_searches
from launcher.queue.backends.pilot_status import (
    NO_PILOTS,
    UNKNOWN_PLACE,
    PilotStatus,
    read_pilot_status,
)
from launcher.queue.gpu.gpus_file import read_gpu_status
from launcher.queue.gpu.monitor import GpuPoller
from launcher.queue.gpu.reservations import ReservationBoard, quiet_board
from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.gpu.snapshot import GpuSnapshot, label_for
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.home_checks import network_warning
from launcher.queue.home.paths import Home, check_home
from launcher.queue.jobs.job import PROGRAM
from launcher.queue.jobs.states import ENDED_STATES, ReasonCode, State
from launcher.queue.scheduler.chosen_policy import policy_note, read_policy
from launcher.queue.scheduler.policy.model import running_forecast
from launcher.queue.scheduler.screen_order import screen_order
from launcher.queue.store.feed import QueueVersion, queue_version
from launcher.queue.store.queue import Store
from launcher.queue.store.recovery import describe_long_log, queue_database_error
from launcher.queue.store.rows import Claim, JobRow
from launcher.queue.store.searches import SearchRow
from launcher.queue.store.usage import NO_USAGE
from launcher.queue.store.usage_records import program_of_signature
from launcher.queue.workers.progress.steps import NO_PROGRESS, ProgressReport
from launcher.system.files import describe_full_disk, read_json
from launcher.system.mounts import read_mountinfo
from launcher.system.text import sanitize_terminal
from launcher.system.units import mean

_MOST_COUNTED = 5000  # queued jobs; with more, their kinds are not counted for each snapshot
MOST_FOUND = 500  # jobs that a search lists
_RECENT_ENDS = 200  # most recently ended jobs that an estimate uses
_RECENT_S = 6 * 3600.0  # seconds; an estimate uses no older jobs
_STATES = {
    (True, False): "running",
    (True, True): "stopping",
    (False, False): "absent",
    (False, True): "stopped",
}  # by whether a scheduler lives, and whether the queue is stopped
SEARCH_SHARE = 0.02  # part of the time that a search may take, as it is slow with very many jobs
LEAST_ENDS = 3  # ended jobs that an estimate needs


class SchedulerStatus(NamedTuple):
    """The scheduler of a queue."""

    pid: int | None
    state: str  # running, stopping, stopped or absent
    since: float | None = None
    version: str | None = None


class QueueSnapshot(NamedTuple):
    """The state of a queue at one moment, as the screens show it."""

    at: float  # seconds since 1970
    home: str
    scheduler: SchedulerStatus
    host: Host | None = None
    counts: Mapping[State, int] = {}
    active: Mapping[str, tuple[int, int]] = {}  # run → ended, of how many
    # seconds until all jobs are done, at the recent pace; None: unknown
    remaining_s: float | None = None
    run_remaining_s: Mapping[str, float] = {}  # run → the same, where known
    warnings: tuple[str, ...] = ()
    gpus: tuple[GpuView, ...] = ()
    pilots: PilotStatus = NO_PILOTS
    busy: Mapping[str, tuple[float, ...]] = {}  # UUID → recent utilisation, each 0 to 1
    groups: tuple[GroupStatus, ...] = ()
    searches: tuple[SearchRow, ...] = ()  # searches that have not ended, and those of recent jobs
    unlisted_searches: tuple[SearchRow, ...] = ()  # the others
    running: tuple[JobView, ...] = ()
    waiting: tuple[JobView, ...] = ()
    more: int = 0  # waiting jobs that are not listed
    recent: tuple[JobView, ...] = ()  # ends of attempts, the newest first
    found: tuple[JobView, ...] | None = None  # jobs that match the search; None: no search
    search_text: str = ""  # text of the search
    orders: Mapping[str, str] = {}  # list → its sort key

    @property
    def ended_more(self) -> int:
        """How many jobs have ended that are not listed."""
        listed = {ended.id for ended in self.recent if not ended.is_open_again}
        return sum(self.counts.get(state, 0) for state in ENDED_STATES) - len(listed)

    def remaining_of(self, run: str) -> float | None:
        """Return the seconds until a run is done, None if unknown; the only open run takes as long as the queue."""
        return self.run_remaining_s.get(run, self.remaining_s if len(self.active) == 1 else None)

    def order_of(self, name: str) -> str:
        """Return the suffix of a list's title that names its sort key; '' if it is not sorted."""
        return f" by {self.orders[name]}" if name in self.orders else ""


class QueueSnapshotReader:
    """Reads snapshots of a queue, which need not exist yet; it keeps the recent utilisation of the GPUs."""

    message = ""  # text to show with the snapshot

    def __init__(
        self,
        home: Home,
        store: Store | None = None,
        *,
        gpu_poller: GpuPoller | None = None,
        clock: Callable[[], float] = time.time,
        measures: bool = False,
    ) -> None:
        """Create a reader; nothing is read yet.

        Args:
            home: the queue folder, which need not exist.
            store: its database, if it is open already.
            gpu_poller: queries the GPUs if no scheduler does. With None they are not queried.
            clock: returns the seconds since 1970.
            measures: also measure the processes of jobs and the disks of runs, in a thread.
        """
        self.home, self.store = home, store
        self._gpu_poller, self._clock = gpu_poller, clock
        self._host = HostReader(home.folder, measures=measures)
        self._busy: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=CURVE))
        self._peaks: dict[tuple[int, int], int] = {}
        self._found: tuple[str, tuple[JobView, ...]] = ("", ())
        self._search_at = 0.0  # when to search for the same again

    @cached_property
    def _board(self) -> ReservationBoard:
        """The folder in which other queues of this machine publish their reservations."""
        return quiet_board(self.home.folder)

    def current(self) -> Store | None:
        """Return the queue's database, reopened if its file was replaced; None if there is none."""
        if self.store is not None and not self.store.is_current():
            self.close()
            self.store = None  # the database was deleted, or restored from a backup
            self._peaks.clear()
        if self.store is None and self.home.exists():
            check_home(self.home)
            self.store = Store(self.home)
        return self.store

    @property
    def version(self) -> QueueVersion | None:
        """A value that changes when another process changes the queue; None if there is no queue."""
        store = self.current()
        return None if store is None else queue_version(store)

    def invalidate_search(self) -> None:
        """Repeat the search at the next snapshot, because this screen has changed a job."""
        self._search_at = 0.0

    def close(self) -> None:
        """Close the database."""
        if self.store is not None:
            self.store.close()

    def read_snapshot(
        self, *, waiting_limit: int = WAITING, recent: int = RECENT, search_text: str = ""
    ) -> QueueSnapshot:
        """Return the snapshot as of now; a search is repeated only as often as SEARCH_SHARE allows.

        Args:
            waiting_limit: number of waiting jobs to list.
            recent: number of ended attempts to list.
            search_text: also list the jobs whose name or run contains this text; '' for none.

        Raises:
            Error: the queue cannot be read.
        """
        store = self.current()
        if store is None:
            self.message = (
                "no queue yet. To make one: launcher run TASKFILE, or launcher add -- PROGRAM"
            )
            folder = sanitize_terminal(str(self.home.folder))
            return QueueSnapshot(
                at=self._clock(), home=folder, scheduler=read_scheduler_status(self.home)
            )
        self.message = ""
        began = time.monotonic()
        again = self._found[0] != search_text or began >= self._search_at
        try:
            screen = self._query_snapshot(
                store, waiting_limit, recent, search_text if again else ""
            )
        except sqlite3.Error as error:
            raise queue_database_error(self.home.database, error) from error
        if not search_text:
            return screen
        if again:
            self._found = search_text, screen.found or ()
            now = time.monotonic()
            self._search_at = now + (now - began) / SEARCH_SHARE
        # the progress of running jobs is always read
        works = {work.id: work for work in screen.running}
        found = tuple(works.get(job.id, job) for job in self._found[1])
        return screen._replace(found=found, search_text=search_text)

    def _query_snapshot(
        self, store: Store, waiting_limit: int, recent: int, search_text: str
    ) -> QueueSnapshot:
        now = self._clock()
        store.database.invalidate_caches()  # new history changes the estimates of the remaining jobs
        with store.database.reading():
            counts = store.read.current_counts()
            claims = store.claims.open_claims()
            running = store.read.jobs_by_id(claim.job for claim in claims)
            order = screen_order(store, now, read_policy(self.home))
            queued = store.read.waiting_jobs(waiting_limit, order) if waiting_limit else []
            needs = store.read.first_unmet_dependencies(row.id for row in queued if row.waits)
            events = store.read.recent_completions(recent)
            about = {event.job for event in events}
            matching = store.read.search_numbers(search_text, MOST_FOUND) if search_text else []
            rows = {row.id: row for row in store.read.jobs_by_id({*about, *matching})}
            results = store.read.results(about)
            paces = store.read.recent_durations(_RECENT_ENDS, now - _RECENT_S)
            waits = (
                store.read.queued_by_cost_key()
                if counts.get(State.QUEUED, 0) <= _MOST_COUNTED
                else None
            )
            runs = store.read.run_progress(_MOST_COUNTED)
            groups = limited_groups(store, running)
            searches, unlisted_searches = shown_searches(store, about)
            differ = differing_params(store, [*running, *queued, *rows.values()])
            code = code_change_notes(store, [*running, *queued, *rows.values()])
        pilots, foreign = read_pilot_status(self.home), self._board.foreign_reservations()
        gauges, warnings = self._read_gpu_views(claims, pilots, foreign, now)
        by_job = {claim.job: claim for claim in claims}
        alive = {claim.key for claim in claims}
        self._peaks = {key: peak for key, peak in self._peaks.items() if key in alive}
        left = counts.get(State.QUEUED, 0) + counts.get(State.HELD, 0) - len(queued)
        nodes = pilots.nodes
        works = tuple(
            self._running_job_view(row, by_job[row.id], gauges, nodes, differ)._replace(
                code_note=code.get(row.id, "")
            )
            for row in running
        )
        stopped = self.home.stop_record.exists()
        runs_left = (
            {}
            if stopped
            else remaining_by_run(
                {run: each.queued for run, each in runs.items()}, works, paces, now
            )
        )
        here = [claim for claim in claims if not claim.pilot]
        folders = list({Path(row.root, "runs", row.run): None for row in running or queued[:1]})
        return QueueSnapshot(
            at=now,
            host=self._host.read(here, folders, foreign=foreign),
            home=sanitize_terminal(short_path(self.home.folder)),
            scheduler=read_scheduler_status(self.home),
            counts=counts,
            active={sanitize_terminal(run): (each.ended, each.jobs) for run, each in runs.items()},
            remaining_s=None if waits is None or stopped else remaining_s(waits, works, paces, now),
            run_remaining_s=runs_left,
            warnings=warnings,
            gpus=gauges,
            pilots=pilots,
            busy={uuid: tuple(shares) for uuid, shares in self._busy.items() if len(shares) > 1},
            groups=groups,
            searches=searches,
            unlisted_searches=unlisted_searches,
            running=works,
            waiting=tuple(
                job_view(row, need=needs.get(row.id), differing_params=differ)._replace(
                    memory=_requested_memory(row), code_note=code.get(row.id, "")
                )
                for row in queued
            ),
            more=max(0, left),
            recent=tuple(
                view_of_end(
                    job_view(rows[event.job], differing_params=differ)._replace(
                        code_note=code.get(event.job, "")
                    ),
                    event,
                    results.get(event.job) or read_final_metrics(self.home, rows[event.job]),
                )
                for event in events
                if event.job in rows
            ),
            found=tuple(
                job_view(rows[job], differing_params=differ) for job in matching if job in rows
            )
            if search_text
            else None,
            search_text=search_text,
        )

    def _running_job_view(
        self,
        row: JobRow,
        claim: Claim,
        gauges: Sequence[GpuView],
        nodes: Mapping[str, str],
        differ: DifferingParams,
    ) -> JobView:
        labels = {gauge.gpu.uuid: gauge.gpu.label for gauge in gauges}
        device = "" if claim.pilot else row.spec.resources.device
        # it takes no step now
        now = read_newest_progress(self.home, row) if row.paused is None else NO_PROGRESS
        ending = ending_reason_of(self.home, row)
        return job_view(
            row, now, start_time=claim.claimed, differing_params=differ, end_reason=ending
        )._replace(
            devices=_devices(
                [
                    label_for(device, labels.get(uuid, sanitize_terminal(uuid)), uuid)
                    for uuid in claim.gpus
                ]
            ),
            node=nodes.get(claim.pilot, UNKNOWN_PLACE) if claim.pilot else "",
            memory=self._memory(claim, gauges) if claim.gpus else None,
            step=now.step,
            ends=self._ends(claim, now.step) if row.paused is None else None,
            cost_key=(row.kind == PROGRAM and row.spec.signature) or row.kind,
        )

    def _ends(self, claim: Claim, step: ProgressReport | None) -> float | None:
        """Return the scheduler's expected end of an attempt; None if all its steps are done."""
        if step is not None and step.total and step.step >= step.total:
            return None
        assert self.store is not None, "claims are a store's"
        usage = NO_USAGE
        if claim.gpus:
            signature = claim.spec.signature
            program = program_of_signature(signature, claim.spec.argv)
            usage = self.store.usage_records.usage(signature, program)
        now = self._clock()
        forecast = running_forecast(claim, usage, None if step is None else step.estimated_end(now))
        return forecast.expected_end(claim.claimed, now)

    def _memory(self, claim: Claim, gauges: Sequence[GpuView]) -> GpuMemoryUsage:
        places = [
            (gauge.used_by(guest), guest.peak)
            for gauge in gauges
            for guest in gauge.jobs
            if guest.job == claim.job
        ]
        used = [now for now, _ in places if now is not None]
        key = claim.key
        peaks = [*used, *(peak for _, peak in places if peak is not None)]
        most = max([*peaks, self._peaks.get(key, 0)])
        self._peaks[key] = most  # measured, as the program reports nothing
        estimates = [
            guest.estimate
            for gauge in gauges
            for guest in gauge.jobs
            if guest.job == claim.job and guest.estimate is not None
        ]
        return GpuMemoryUsage(
            now=max(used, default=None),
            peak=most or None,
            requested=claim.vram,
            estimate=max(estimates, default=None),
            exclusive=claim.exclusive,
        )

    def _read_gpu_views(
        self,
        claims: Sequence[Claim],
        pilots: PilotStatus,
        foreign: Sequence[ForeignReservation],
        now: float,
    ) -> tuple[tuple[GpuView, ...], tuple[str, ...]]:
        look = read_gpu_status(self.home)
        is_fresh = look is not None and abs(now - look.at) <= FRESH_S  # the clock may be set back
        fault = look.error if look is not None and is_fresh else ""
        network = network_warning(self.home.folder, read_mountinfo())
        full = describe_full_disk(self.home.folder)
        full = full and f"{full}. Jobs start and end when there is room"
        warnings = (network, full, describe_long_log(self.home), policy_note(self.home), fault)
        gpus: Sequence[GpuSnapshot] = ()
        if look is not None and is_fresh and look.gpus:
            gpus = look.gpus
        elif self._gpu_poller is not None:
            self._gpu_poller.request_sample()
            sight = self._gpu_poller.latest_sample()
            before = () if look is None or scheduler_pid(self.home) is None else look.gpus
            age_s = now - look.at if look is not None else 0.0
            gpus = () if sight is None else merge_recorded(sight.gpus, before, age_s)
        here = [claim for claim in claims if not claim.pilot]
        gauges = (
            *(gpu_views(gpus, here, self.home, foreign) if gpus else ()),
            *pilot_gpu_views(self.home, pilots, claims),
        )
        for gauge in gauges:
            if gauge.gpu.utilisation is not None:
                self._busy[gauge.gpu.uuid].append(gauge.gpu.utilisation)
        return gauges, tuple(map(sanitize_terminal, filter(None, warnings)))


def read_scheduler_status(home: Home) -> SchedulerStatus:
    """Return the scheduler's process and state: running, stopping, stopped or absent."""
    pid = scheduler_pid(home)
    record = read_json(home.scheduler_record) or {}
    details = record if pid is not None and record.get("pid") == pid else {}
    since, version = details.get("since"), details.get("version")
    is_time = isinstance(since, int | float) and math.isfinite(since)
    return SchedulerStatus(
        pid=pid,
        state=_STATES[pid is not None, home.stop_record.exists()],
        since=float(since) if is_time and isinstance(since, int | float) else None,
        version=version if isinstance(version, str) else None,
    )


def short_path(folder: Path) -> str:
    """Return a folder with `~` for the user's home folder."""
    try:
        below = folder.relative_to(Path.home())
    except (ValueError, RuntimeError):  # the path is elsewhere, or the user has no home folder
        return str(folder)
    return f"~/{below}"


def _requested_memory(job: JobRow) -> GpuMemoryUsage | None:
    resources = job.spec.resources
    return GpuMemoryUsage(requested=resources.vram) if resources.may_need_gpu else None


def _devices(labels: Sequence[str]) -> str:
    """Return the devices of a job: `cpu`, `cuda:1`, or `cuda:0,1`."""
    if not labels:
        return "cpu"
    kind, _, number = labels[0].partition(":")
    others = [label.removeprefix(f"{kind}:") for label in labels[1:]]
    return f"{kind}:{','.join([number, *others])}" if number else ",".join(labels)


# --- remaining time


def remaining_s(
    queued_counts: Mapping[str, int],
    works: Sequence[JobView],
    durations: Mapping[str, Sequence[float]],
    now: float,
) -> float | None:
    """Return the seconds until all queued and running jobs are done, with as many parallel jobs as now.

    Jobs with the same cost key take about as long: those of a kind, or programs whose command lines differ in numbers
    only. Returns None if nothing runs, or if fewer than LEAST_ENDS jobs of a cost key were done recently. The same
    holds if a job is paused, or runs longer than any such job.

    Args:
        queued_counts: cost key → number of waiting jobs.
        works: the running jobs.
        durations: cost key → durations of recently done jobs, in seconds.
        now: seconds since 1970.
    """
    known = {key: spans for key, spans in durations.items() if len(spans) >= LEAST_ENDS}
    known.pop(PROGRAM, None)  # programs without a signature may all differ
    if not works or not queued_counts.keys() <= known.keys():
        return None
    each = [_job_remaining_s(work, known.get(work.cost_key, ()), now) for work in works]
    left = [span_s for span_s in each if span_s is not None]
    if len(left) < len(each):
        return None
    waiting_s = sum(number * mean(known[key]) for key, number in queued_counts.items())
    return max(max(left), (waiting_s + sum(left)) / len(works))


def remaining_by_run(
    queued_counts: Mapping[str, Mapping[str, int] | None],
    works: Sequence[JobView],
    durations: Mapping[str, Sequence[float]],
    now: float,
) -> dict[str, float]:
    """Return run → seconds until it is done, if known; other runs are ignored."""
    left_by_run = {}
    for run, keys in queued_counts.items():
        name = sanitize_terminal(run)
        ours = [work for work in works if work.run == name]
        left = None if keys is None else remaining_s(keys, ours, durations, now)
        if left is not None:
            left_by_run[name] = left
    return left_by_run


def _job_remaining_s(work: JobView, spans: Sequence[float], now: float) -> float | None:
    """Return the remaining seconds of a running job, from its own reports or from similar jobs.

    Returns None if they are unknown, as for a paused job.
    """
    if work.code == ReasonCode.PAUSED:
        return None
    if work.step is not None and (ends := work.step.estimated_end(now)) is not None:
        return ends - now
    taken_s = now - work.since
    if not spans or taken_s > max(spans):
        return None
    return max(0.0, mean(spans) - taken_s)
