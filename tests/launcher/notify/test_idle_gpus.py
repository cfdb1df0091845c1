import json
from dataclasses import replace

from launcher.gpu.snapshot import GpuProcess
from launcher.job_options.notifications import Event
from launcher.notify.machine_news import Sight, for_gpus, free_gpus, looked
from launcher.notify.state import Idle
from launcher.store.news import Waiting
from launcher.store.rows import lane_of
from tests.build import a_context, a_gpu, a_spec

HALF_HOUR = 1800.0
WAITING = Waiting(jobs=3, held=False, reason="needs 60 GiB; a GPU has 40 GiB")
SIGHT = Sight(at=5e6, uptime=100.0, boot="b", free={"GPU-0": "cuda:0"}, waiting=[WAITING])


def later(seconds: float, **changes: object) -> Sight:
    return replace(SIGHT, uptime=SIGHT.uptime + seconds, **changes)  # type: ignore[arg-type]


def test_a_gpu_that_idles_for_half_an_hour_while_work_waits_is_told_once() -> None:
    idle, notes = looked(Idle(), SIGHT, HALF_HOUR)
    assert notes == []
    idle, notes = looked(idle, later(HALF_HOUR - 1), HALF_HOUR)
    assert notes == []
    idle, (note,) = looked(idle, later(HALF_HOUR), HALF_HOUR)
    assert note.events == (Event.GPU_IDLE,)
    assert note.text.splitlines() == [
        "cuda:0 idles for 30 m while 3 jobs wait",
        "  3 jobs: needs 60 GiB; a GPU has 40 GiB",
    ]
    assert note.at == 5e6
    idle, notes = looked(idle, later(9 * HALF_HOUR), HALF_HOUR)
    assert notes == []


def test_who_was_told_hears_again_when_the_gpu_was_used_meanwhile() -> None:
    idle, _ = looked(Idle(), SIGHT, HALF_HOUR)
    idle, _ = looked(idle, later(HALF_HOUR), HALF_HOUR)
    idle, _ = looked(idle, later(HALF_HOUR + 60, free={}), HALF_HOUR)
    idle, notes = looked(idle, later(HALF_HOUR + 120), HALF_HOUR)
    assert notes == []
    _, notes = looked(idle, later(2 * HALF_HOUR + 120), HALF_HOUR)
    assert len(notes) == 1


def test_a_gpu_may_idle_while_nothing_waits() -> None:
    idle, _ = looked(Idle(), later(0, waiting=[]), HALF_HOUR)
    idle, notes = looked(idle, later(9 * HALF_HOUR, waiting=[]), HALF_HOUR)
    assert notes == []
    idle, notes = looked(idle, later(9 * HALF_HOUR + 1), HALF_HOUR)
    assert notes == []  # it idles in vain from now on


def test_why_work_waits_is_told_in_the_order_of_its_number() -> None:
    waiting = [
        Waiting(jobs=2, held=True, reason=""),
        Waiting(jobs=1, held=False, reason="group lab is full"),
        Waiting(jobs=1, held=True, reason="old"),
    ]
    idle, _ = looked(Idle(), SIGHT, HALF_HOUR)
    _, (note,) = looked(idle, later(HALF_HOUR, waiting=waiting), HALF_HOUR)
    assert note.text.splitlines()[1:] == [
        "  3 jobs: held; launcher release lets them start",
        "  1 job: group lab is full",
    ]
    _, (note,) = looked(idle, later(HALF_HOUR, stopped=True), HALF_HOUR)
    assert "the queue is stopped; launcher start goes on" in note.text
    _, (note,) = looked(idle, later(HALF_HOUR, served=False), HALF_HOUR)
    assert "no scheduler lives" in note.text


def test_what_was_seen_before_a_restart_of_the_machine_does_not_count() -> None:
    idle, _ = looked(Idle(), SIGHT, HALF_HOUR)
    idle, notes = looked(idle, later(HALF_HOUR, boot="c"), HALF_HOUR)
    assert notes == []
    assert idle.boot == "c"


def test_a_gpu_is_free_when_neither_we_nor_others_use_it() -> None:
    used = [GpuProcess(pid=7, used=1 << 30)]
    gpus = [
        a_gpu(0, processes=()),
        a_gpu(1, processes=()),
        a_gpu(2, used=1, processes=tuple(used)),
        a_gpu(3, processes=(), fault="fell off the bus"),
        a_gpu(4, used=None),
        a_gpu(5, processes=(), utilisation=0.9),
    ]
    assert free_gpus(gpus, {"GPU-1"}, None) == {"GPU-0": "cuda:0"}
    assert free_gpus(gpus, (), ["1", "2"]) == {"GPU-1": "cuda:1"}
    assert free_gpus(gpus, (), ["GPU-0"]) == {"GPU-0": "cuda:0"}
    assert free_gpus(gpus, (), []) == {}


def test_work_of_the_cpu_waits_for_no_gpu() -> None:
    cpu = lane_of(a_spec("true"), a_context()).key
    gpu = lane_of(
        replace(a_spec("true"), resources=replace(a_spec().resources, device="cuda")), a_context()
    ).key
    newer = json.dumps({**json.loads(gpu), "quantum": 1})
    rows = [(cpu, WAITING), (gpu, WAITING), (newer, WAITING)]
    assert for_gpus(rows) == [WAITING]
