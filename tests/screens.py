"""Screens as values, for tests of what draws them: nothing of them depends on the hour."""

from collections.abc import Iterable
from datetime import datetime

from launcher.frontends.screens.gpu_view import GpuJob, GpuView
from launcher.frontends.screens.host import DiskUsage, Host
from launcher.frontends.screens.job_view import GpuMemoryUsage, GroupStatus, JobView
from launcher.frontends.screens.snapshots import QueueSnapshot, SchedulerStatus
from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.gpu.snapshot import GpuProcess
from launcher.queue.jobs.states import State
from launcher.queue.workers.progress.steps import ProgressReport
from launcher.system.text_table import TextLine
from tests.build import GIB, a_gpu

NOW = datetime(2026, 11, 20, 14, 32, 7).timestamp()  # noqa: DTZ001  # local: what screens show
MIB = 1 << 20


def a_line(job: int, name: str, state: State, reason: str = "", **changes: object) -> JobView:
    """A job of a list."""
    values: dict[str, object] = {
        "id": job,
        "run": "blend",
        "name": name,
        "kind": name.partition("/")[0],
        "state": state,
        "priority": 0,
        "since": NOW - 3600,
        "reason": reason,
    }
    return JobView(**values | changes)  # type: ignore[arg-type]  # as the test says


def a_host(**changes: object) -> Host:
    """A machine at work, shared with others."""
    values: dict[str, object] = {
        "cores": 16,
        "usable": 16,
        "reserved": 6,
        "busy": 7.4,
        "ours": 5.1,
        "load": 8.3,
        "memory": 64 * GIB,
        "memory_used": 21 * GIB,
        "memory_ours": 12 * GIB,
        "disks": (
            DiskUsage(use="home", free=120 * GIB, total=250 * GIB),
            DiskUsage(use="runs", free=3 << 40, total=8 << 40),
        ),
    }
    return Host(**values | changes)  # type: ignore[arg-type]  # as the test says


def an_idle_screen() -> QueueSnapshot:
    """A queue with nothing in it."""
    return QueueSnapshot(
        at=NOW, home="~/.local/state/launcher", scheduler=SchedulerStatus(pid=None, state="absent")
    )


def a_busy_screen() -> QueueSnapshot:
    """Two GPUs shared with somebody, three jobs at work, more that wait, some that have ended."""
    first, second, third = (
        a_line(41, "train/gan2:pre&real:pre@seed=3", State.RUNNING, "7/10 loss=0.1841"),
        a_line(42, "train/gan2:pre%50&real:pre@seed=1", State.RUNNING, "2/10 loss=0.6712"),
        a_line(43, "command/prepare", State.RUNNING, "on the CPU with 4 cores", run="add"),
    )
    return QueueSnapshot(
        at=NOW,
        host=a_host(),
        home="~/.local/state/launcher",
        scheduler=SchedulerStatus(pid=48113, state="running", since=NOW - 11520, version="0.2.0"),
        counts={
            State.RUNNING: 3,
            State.QUEUED: 30,
            State.HELD: 1,
            State.DONE: 1044,
            State.FAILED: 1,
        },
        active={"blend": (44, 79)},
        remaining_s=15_600.0,
        warnings=("other users' launchers cannot know our promises: /dev/shm is full",),
        gpus=(_shared(), _crowded()),
        busy={"GPU-0": (0.1, 0.5, 0.97, 0.99, 0.97), "GPU-1": (0.6, 0.64)},
        groups=(GroupStatus(name="downloads", limit=2, running=1),),
        running=(
            first._replace(
                since=NOW - 4740,
                devices="cuda:0",
                memory=GpuMemoryUsage(now=11_700 * MIB, peak=11_900 * MIB, requested=12_000 * MIB),
                step=ProgressReport(
                    at=NOW, step=7, total=10, metrics={"loss": 0.1841}, rate=7 / 4740
                ),
                ends=NOW + 3 * 4740 / 7,
            ),
            second._replace(
                since=NOW - 1260,
                devices="cuda:0,1",
                memory=GpuMemoryUsage(now=18 * GIB, peak=19 * GIB, requested=18 * GIB),
                step=ProgressReport(at=NOW, step=2, total=10, metrics={"loss": 0.6712}),
            ),
            third._replace(since=NOW - 41),
        ),
        waiting=(
            a_line(
                44,
                "train/gan3:pre&real:pre@seed=1",
                State.QUEUED,
                "waiting for 18.9 GiB of GPU memory: cuda:0 has 8.6 GiB free, of which 2 GiB"
                " is reserved for job 41; cuda:1 has 2.2 GiB free",
            ),
            a_line(45, "train/gan3:pre&real:pre@seed=2", State.QUEUED, "behind job 44", priority=5),
            a_line(46, "train/gan3:pre&real:pre@seed=3", State.QUEUED, "behind job 44"),
            a_line(47, "test/gan3:pre/sdXL:shr", State.QUEUED, "waiting for 1 more job"),
            a_line(48, "train/sd3:pre&real:pre", State.HELD, "wait for new crops"),
        ),
        more=26,
        recent=(
            a_line(
                40,
                "test/gan2:pre/real:pre",
                State.DONE,
                "n=300 fake=150 accuracy=0.9833",
                since=NOW - 41,
                seconds=41.2,
                latest=State.DONE,
            ),
            a_line(
                44,
                "train/gan3:pre&real:pre@seed=1",
                State.FAILED,
                "out of memory: used 13.8 GiB and needed 2 GiB more (reserved: 14 GiB)."
                " Queued again with a request of 18.9 GiB",
                since=NOW - 1800,
                requeued=True,
                latest=State.QUEUED,
            ),
            a_line(
                39,
                "train/flux:pre",
                State.FAILED,
                "FileNotFoundError: no folder called Flux below data/TrueFace",
                since=NOW - 90_000,
                latest=State.FAILED,
                short="FileNotFoundError: no folder called Flux below data/TrueFace",
                seconds=2.0,
            ),
        ),
    )


def _shared() -> GpuView:
    processes = (
        GpuProcess(pid=4711, used=11_700 * MIB, user="ada", command="python"),
        GpuProcess(pid=9921, used=9 * GIB, user="ben", command="python"),
    )
    gpu = a_gpu(0, total=39.4, used=21, processes=processes, utilisation=0.97, temperature_c=71)
    guest = GpuJob(
        job=41, name="train/gan2:pre&real:pre@seed=3", reserved=12 << 30, pids=frozenset({4711})
    )
    return GpuView(
        gpu=gpu,
        jobs=(guest,),
        foreign=(ForeignReservation(user="cleo", device="GPU-0", amount=2 * GIB),),
    )


def _crowded() -> GpuView:
    return GpuView(
        gpu=a_gpu(1, total=39.4, used=37.2, fault="has fallen off the bus (Xid 79)"),
    )


def texts_of(lines: Iterable[TextLine]) -> list[str]:
    """Return the texts of drawn lines."""
    return [one.text for one in lines]
