"""A job that fits an unused GPU starts there despite any usage records; infeasible jobs have a specific reason.

Also impossible numbers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.signatures import ignored_numbers, program_signature
from launcher.queue.jobs.states import ReasonCode
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.inventory import impossible_reason
from launcher.queue.scheduler.policy.memory_evidence import MANY, PeakEvidence, find_evidence
from launcher.queue.scheduler.policy.model import (
    Decision,
    Machine,
    Running,
    Start,
    Wait,
    Waiting,
    make_forecast,
    make_waiting,
)
from launcher.queue.scheduler.policy.oom_policy import NEGLIGIBLE
from launcher.queue.scheduler.policy.vram_request import UNTRIED, choose_vram_request
from launcher.queue.scheduler.policy.watchdog import PATIENCE_S, Watchdog
from launcher.queue.store.lanes import Lane
from launcher.queue.store.rows import ReadyJob
from launcher.queue.store.usage import AttemptPeak, Usage, margin_of
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_gpu, a_waiting
from tests.launcher.cardworld import may_have, taken

EXACT, PROGRAM = "train 0123456789abcdef", "command 0123456789abcdef"
PLENTY = Machine(cpus=64, ram=64 * GIB, ram_free=64 * GIB)
VISITS = 12  # rounds in which others come and go
LAST = 75  # rounds after which everything has had its turn


def gib(amount: float) -> int:
    return round(amount * GIB)


def a_job(
    number: int,
    *,
    asked: float | None = None,
    peaks: Sequence[float] = (),
    lacked: float = 0,
    signature: str = EXACT,
    visible: tuple[str, ...] | None = None,
    **resources: int | bool | str,
) -> Waiting:
    """A waiting job with the recorded usage of similar ones; memory in GiB."""
    lane = Lane(
        group="",
        resources=Resources(
            vram=None if asked is None else gib(asked),
            **({"device": "cuda"} | resources),  # type: ignore[arg-type]  # of many types
        ),
        environment=WorkerEnvironment(),
        signature=signature,
        visible=visible,
        least_vram=gib(lacked),
    )
    ready = ReadyJob(id=number, rank=0.0, lane_id=number, lane=lane, numbers=("1",))
    runs = tuple(AttemptPeak(gib(peak), ("1",)) for peak in peaks)
    return make_waiting(ready, Usage(peaks=tuple(run.peak for run in runs), attempt_peaks=runs))


def decide_one(job: Waiting, *gpus: GpuSnapshot, **machine: object) -> Decision:
    """Decide about one job on a machine on which nothing of ours runs."""
    (decision,) = decide([job], [], PLENTY._replace(gpus=gpus, **machine))  # type: ignore[arg-type]
    return decision


@pytest.mark.parametrize("used", [0.5, 1.75, 2.25], ids="{} GiB in use of 24".format)
@pytest.mark.parametrize("peak", [22.5, 23.9, 60.0], ids="{} GiB learned".format)
@pytest.mark.parametrize("signature", [EXACT, PROGRAM])
def test_usage_records_do_not_keep_a_job_from_a_free_gpu(
    used: float, peak: float, signature: str
) -> None:
    start = decide_one(
        a_job(1, peaks=[peak], signature=signature),
        a_gpu(total=24, used=used),
        rules=SharingRules(reserve=gib(1)),
    )
    assert isinstance(start, Start)
    assert start.exclusive
    assert start.vram == gib(24 - used) or start.vram == gib(peak * 1.05)


def test_job_waits_for_the_gpu_that_it_fitted_before_and_not_for_a_smaller_one() -> None:
    small, large = a_gpu(0, total=24), a_gpu(1, total=80, used=70)
    job = a_job(1, peaks=[30])
    wait = decide_one(job, small, large)
    assert isinstance(wait, Wait)
    assert "cuda:1 has 10 GiB free" in wait.reason
    lost = decide_one(job, small, replace(large, used=None, fault="fell off the bus"))
    assert isinstance(lost, Start)
    assert lost.devices == ("GPU-0",)


def test_declared_memory_is_used_if_the_measured_peak_exceeds_every_gpu() -> None:
    start = decide_one(a_job(1, asked=20, peaks=[23]), a_gpu(total=24, used=2))
    assert isinstance(start, Start)
    assert start.vram == gib(22)


@pytest.mark.parametrize("count", [1, 2])
def test_declared_memory_above_the_usable_memory_is_refused(count: int) -> None:
    gpus = tuple(a_gpu(at, total=24, used=0.5, processes=()) for at in range(3))
    job = a_job(1, asked=23.75, gpus=count)
    wait = decide_one(job, *gpus)
    assert isinstance(wait, Wait)
    assert wait.code is ReasonCode.NEVER_FITS
    each = " on each of 2 GPUs" if count == 2 else ""
    asked = f"23.8 GiB of GPU memory{each}"
    why = (
        "this machine's emptiest GPU has at most 23.5 GiB for it, the driver uses the rest. "
        "Request less"
    )
    assert wait.reason == f"waiting for {asked}: {why}"
    assert impossible_reason(job, PLENTY._replace(gpus=gpus)) == f"needs {asked}, but {why}"


def test_current_usage_by_others_never_refuses_a_job() -> None:
    job = a_job(1, asked=23.75)
    gpu = a_gpu(total=24, used=2)  # somebody works on it
    assert "cuda:0 has 22 GiB free" in getattr(decide_one(job, gpu), "reason", "")
    assert impossible_reason(job, PLENTY._replace(gpus=(gpu,))) == ""


def test_memory_need_after_an_oom_does_not_block_an_idle_gpu() -> None:
    job = a_job(1, lacked=23.25)
    assert isinstance(decide_one(job, a_gpu(total=24, used=1.5)), Start)
    beyond = decide_one(job, a_gpu(total=24, used=2))
    assert isinstance(beyond, Wait)
    assert "waiting for 23.2 GiB of GPU memory: cuda:0 has 22 GiB free" in beyond.reason


def test_small_gpu_is_free_despite_driver_memory_above_a_tenth() -> None:
    assert isinstance(decide_one(a_job(1), a_gpu(total=4, used=0.7)), Start)


def test_reserve_above_the_gpu_size_is_reported() -> None:
    for job in (a_job(1), a_job(1, peaks=[3])):
        wait = decide_one(job, a_gpu(total=24), rules=SharingRules(reserve=gib(24)))
        assert isinstance(wait, Wait)
        assert wait.reason.endswith(
            "cuda:0 has 24 GiB, and [sharing] reserve in config.toml is 24 GiB"
        )


def test_reservation_is_on_the_earliest_feasible_gpu() -> None:
    first = a_job(1, peaks=[22.5])._replace(backfill_until=0.0)  # 23.6 GiB with others, 22.5 alone
    running = [
        Running(job=8, cpus=1, devices=("GPU-0",), vram=gib(4), ends=50.0),
        Running(job=9, cpus=1, devices=("GPU-1",), vram=gib(20), ends=900.0),
    ]
    gpus = (a_gpu(0, total=24, used=0.5), a_gpu(1, total=40))
    (wait,) = decide([first], running, PLENTY._replace(gpus=gpus), 10.0)
    assert isinstance(wait, Wait)
    assert wait.reason.endswith("cuda:0 will have room in about 40 s")


# --- for any machine and any usage records


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A queue on a machine of which others use no more than a little."""

    machine: Machine
    line: list[Waiting]
    before: list[Waiting]  # jobs that were started earlier
    uses: list[float]  # usage of jobs, as a fraction of their reservations
    lasts: list[int]  # rounds
    # round, GPU, GiB: other users' processes that start and end in the first rounds
    guests: list[tuple[int, int, float]]
    promises: list[tuple[int, int, float]]  # round, GPU, GiB: reservations by their launchers


_amounts = st.sampled_from(
    [0.25, 1, 2, 3.5, 5, 8, 11, 14, 16, 19, 21.5, 22.5, 23, 23.6, 24, 30, 60]
)


@st.composite
def cards(draw: st.DrawFn) -> tuple[GpuSnapshot, ...]:
    cards: list[GpuSnapshot] = []
    for index in range(draw(st.integers(1, 3))):
        total = draw(st.sampled_from([4, 12, 24, 24, 40]))
        most = max(NEGLIGIBLE / GIB, total / 10)
        used = draw(st.sampled_from([0, 0.3, 0.5, 0.7, 0.9 * most, 0.99 * most]))
        gpu = a_gpu(index, total=total, used=min(used, 0.99 * most))
        kind = draw(st.sampled_from(["", "", "", "", "mig", "unknown", "fault"]))
        if kind == "mig":
            gpu = replace(gpu, mig=0, uuid=f"MIG-{index}")
        elif kind == "unknown":
            gpu = replace(gpu, used=None, total=0)
        elif kind == "fault":
            gpu = replace(gpu, used=None, fault="fell off the bus")
        cards.append(gpu)
    return tuple(cards)


@st.composite
def draw_measured_job(draw: st.DrawFn, number: int) -> Waiting:
    return a_job(
        number,
        asked=draw(st.none() | st.none() | _amounts),
        peaks=draw(st.lists(_amounts, max_size=2)),
        lacked=draw(st.sampled_from([0, 0, 0, 1]) | _amounts),
        signature=draw(st.sampled_from([EXACT, PROGRAM, ""])),
        visible=draw(st.sampled_from([None, None, None, ("0",), ("1", "0"), ()])),
        gpus=draw(st.sampled_from([1, 1, 1, 2, 3])),
        device=draw(st.sampled_from(["cuda", "cuda", "cuda", "auto", "cuda:0", "cuda:1"])),
        exclusive=draw(st.sampled_from([False, False, False, True])),
        cpus=draw(st.sampled_from([1, 4, 99])),
    )


_visits = st.tuples(st.integers(0, VISITS), st.integers(0, 2), st.sampled_from([1, 5, 11, 22]))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    rules = SharingRules(
        reserve=draw(st.sampled_from([0, 0, GIB, 4 * GIB, 30 * GIB])),
        max_per_gpu=draw(st.sampled_from([None, None, 1, 2])),
        devices=draw(st.sampled_from([None, None, None, ("0",)])),
    )
    cpus = draw(st.sampled_from([1, 8, 64]))
    count, earlier = draw(st.integers(1, 6)), draw(st.integers(0, 4))
    return Scene(
        machine=PLENTY._replace(cpus=cpus, gpus=draw(cards()), rules=rules),
        line=[draw(draw_measured_job(number)) for number in range(1, 1 + count)],
        before=[draw(draw_measured_job(number)) for number in range(101, 101 + earlier)],
        uses=draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3)),
        lasts=draw(st.lists(st.integers(1, 9), min_size=3, max_size=3)),
        guests=draw(st.lists(_visits, max_size=3)),
        promises=draw(st.lists(_visits, max_size=3)),
    )


def fits_unused(job: Waiting, gpu: GpuSnapshot, machine: Machine) -> bool:
    """Whether a job can be tried on a GPU without jobs of ours."""
    rules = machine.rules
    mine = rules.devices is None or str(gpu.index) in rules.devices
    if not mine or not gpu.total or gpu.used is None or rules.reserve >= gpu.total:
        return False
    free = gpu.total - gpu.used
    if job.vram is None:
        return True
    declared = job.resources.vram or 0
    if job.vram <= declared and declared > gpu.total - rules.reserve:
        return False  # the declaration of the owner counts
    beside = job.vram <= free - rules.reserve
    alone = job.enough is not None and job.least_vram <= free
    # a GPU that is large enough may come back, so the job waits for it
    larger = any(
        gpu.total - (gpu.used or 0) >= (job.enough or 0)
        for gpu in may_have(job, machine)
        if gpu.total
    )
    measured = job.enough is not None and job.enough <= free
    return beside or (alone and (measured or not larger))


def is_explained_wait(decision: Decision) -> bool:
    """Whether the reason of a wait names the request and the available amount."""
    asked = r"waiting for (\d|an? |cuda:)"
    return isinstance(decision, Wait) and re.match(asked, decision.reason) is not None


@settings(max_examples=250, deadline=None)
@given(scenes())
def test_every_job_starts_or_has_a_specific_reason(scene: Scene) -> None:
    line = [*scene.before, *scene.line]
    running: list[Running] = []
    ends: dict[int, int] = {}
    decisions: list[Decision] = []
    watchdog = Watchdog()
    for now in range(LAST):
        seen = _machine_with_usage(scene, running, now)
        asked = line if now else scene.before
        decisions = decide(asked, running, seen, float(now))
        reviewed = watchdog.review(asked, decisions, running, seen, now * PATIENCE_S / 3).decisions
        assert not [
            decision
            for decision, before in zip(reviewed, decisions, strict=True)
            if isinstance(decision, Start) and not isinstance(before, Start)
        ], "the policy has left something to the watchdog"
        starts = [decision for decision in decisions if isinstance(decision, Start)]
        for start in starts:
            running.append(_running_of(start))
            ends[start.job] = now + scene.lasts[start.job % 3]
        _check_no_card_is_promised_twice(starts, running, seen)
        line = [job for job in line if job.job not in ends]
        running = [_with_usage(run, scene) for run in running if ends[run.job] > now]
    assert not running
    for job, decision in zip(line, decisions, strict=True):
        assert is_explained_wait(decision), decision
        cards = may_have(job, scene.machine)
        able = [gpu for gpu in cards if fits_unused(job, gpu, scene.machine)]
        assert len(able) < job.resources.gpus, (job, decision)


def _running_of(start: Start) -> Running:
    return Running(
        job=start.job,
        cpus=start.cpus,
        devices=start.devices,
        vram=start.vram,
        exclusive=start.exclusive,
    )


def _with_usage(run: Running, scene: Scene) -> Running:
    """Return a job that takes what it takes, no more than it may: that is another story."""
    share = scene.uses[run.job % 3]
    free = {gpu.uuid: gpu.total - (gpu.used or 0) for gpu in scene.machine.gpus}
    used = {uuid: round(share * (run.vram or free[uuid])) for uuid in run.devices}
    return run._replace(used=used)


def _machine_with_usage(scene: Scene, running: Sequence[Running], now: int) -> Machine:
    """Return the machine as it is while jobs of ours run, and others come and go."""
    gpus = []
    for gpu in scene.machine.gpus:
        if gpu.used is not None:
            ours = sum(run.used.get(gpu.uuid, 0) for run in running)
            theirs = sum(
                gib(size) for at, card, size in scene.guests if (at, card) == (now, gpu.index)
            )
            gpu = replace(gpu, used=min(gpu.total, gpu.used + ours + theirs), processes=())
            if theirs or ours:
                gpu = replace(gpu, processes=(GpuProcess(pid=7),))
        gpus.append(gpu)
    foreign = tuple(
        ForeignReservation(user="ada", device=gpu.uuid, amount=gib(size))
        for at, card, size in scene.promises
        for gpu in gpus
        if (at, card) == (now, gpu.index)
    )
    return scene.machine._replace(gpus=tuple(gpus), foreign=foreign)


def _check_no_card_is_promised_twice(
    starts: Sequence[Start], running: Sequence[Running], machine: Machine
) -> None:
    """Check the GPUs on which a job starts: on the others, other users may have allocated reserved memory."""
    bare = machine._replace(rules=machine.rules._replace(reserve=0))
    fresh = {uuid for start in starts for uuid in start.devices}
    for gpu in machine.gpus:
        ours = [run for run in running if gpu.uuid in run.devices]
        assert gpu.uuid not in fresh or taken(gpu, running, bare) <= gpu.total
        assert len(ours) < 2 or not any(run.exclusive for run in ours)


# --- numbers that cannot be: each costs a sentence, and nothing starts or hangs because of it


MACHINE = Machine(cpus=4, ram=8 * GIB, ram_free=8 * GIB)
SOUND = a_gpu(1, total=24)
ODD: dict[str, Any] = {
    "used": [-GIB, nan, inf, 25 * GIB, None],
    "total": [0, -1],
}


@pytest.mark.parametrize(
    "gpu",
    [replace(a_gpu(total=24), **{name: value}) for name, values in ODD.items() for value in values],
    ids=lambda gpu: f"{gpu.used} of {gpu.total}",
)
def test_gpu_with_impossible_values_takes_no_job_and_has_a_reason(gpu: GpuSnapshot) -> None:
    for job in (a_waiting(1, device="cuda"), a_waiting(1, device="cuda", vram=GIB)):
        (wait,) = decide([job], [], MACHINE._replace(gpus=(gpu,)))
        assert isinstance(wait, Wait)
        assert "cuda:0 " in wait.reason
        assert any(
            word in wait.reason for word in ("does not report", "impossible usage", "has at most")
        )
        (start,) = decide([job], [], MACHINE._replace(gpus=(gpu, SOUND)))
        assert isinstance(start, Start)
        assert start.devices == ("GPU-1",)


@pytest.mark.parametrize("used", [nan, -5.0])
def test_impossible_utilization_does_not_count_as_idle(used: float) -> None:
    gpu = replace(a_gpu(total=24, used=3, processes=()), utilisation=used)
    machine, job, dog = MACHINE._replace(gpus=(gpu,)), a_waiting(1, device="cuda"), Watchdog()
    for now in (0.0, PATIENCE_S):
        decisions = decide([job], [], machine)
        assert not dog.review([job], decisions, [], machine, now).messages


@pytest.mark.parametrize("seconds", [nan, inf, -inf, -3.0])
def test_impossible_duration_is_ignored(seconds: float) -> None:
    assert make_forecast([seconds, 60.0]) == make_forecast([60.0])
    forecast = make_forecast([seconds], limit=seconds)
    run = Running(
        job=9,
        cpus=1,
        devices=("GPU-1",),
        vram=20 * GIB,
        since=0.0,
        ends=forecast.end(0.0, 0.0),
        forecast=forecast,
    )
    (wait,) = decide(
        [a_waiting(1, device="cuda", vram=8 * GIB)], [run], MACHINE._replace(gpus=(SOUND,)), 5.0
    )
    assert isinstance(wait, Wait)
    assert "of which 20 GiB is reserved for job 9" in wait.reason


# --- a sweep shares its GPUs once its numbers were found not to matter; a larger batch inherits
# nothing


def a_run(peak: float, *numbers: object) -> AttemptPeak:
    return AttemptPeak(round(peak * GIB), tuple(map(str, numbers)))


def request(runs: list[AttemptPeak], *numbers: object) -> int | None:
    """The request of a program with these numbers after these runs, the oldest first."""
    usage = Usage(peaks=tuple(run.peak for run in runs), attempt_peaks=tuple(runs))
    return choose_vram_request(None, 0, usage, exact=False, numbers=tuple(map(str, numbers)))[0]


def test_one_run_gives_no_estimate_for_another_argument() -> None:
    runs = [a_run(4, 4)]
    assert request(runs, 7) is None
    assert request(runs, 4) == 4 * GIB + margin_of(4 * GIB)
    assert request(runs, "4.0") == request(runs, 4)
    usage = Usage(peaks=(4 * GIB,), attempt_peaks=tuple(runs))
    assert choose_vram_request(None, 0, usage, exact=False, numbers=("7",)) == (
        None,
        UNTRIED,
        True,
    )
    assert choose_vram_request(None, 6 * GIB, usage, exact=False, numbers=("7",))[0] == 6 * GIB


def test_seed_sweep_runs_alone_twice_and_equal_peaks_halve_the_margin() -> None:
    runs = [a_run(4, 0.1, 1), a_run(4, 0.1, 2)]
    beyond = []
    for seed in range(3, 10):
        claim = request(runs, 0.1, seed)
        assert claim is not None
        beyond.append(claim - 4 * GIB - margin_of(4 * GIB))
        runs.append(a_run(4, 0.1, seed))
    assert beyond[:3] == [2 * GIB, GIB, GIB // 2]
    assert beyond == sorted(beyond, reverse=True)
    assert request(runs, 0.2, 3) is None  # another learning rate was never tried


def test_batch_size_sweep_never_inherits_a_smaller_estimate() -> None:
    runs: list[AttemptPeak] = []
    for exponent in range(6):
        size = 2**exponent
        assert request(runs, size) is None
        runs.append(a_run(3 + size / 2, size))
    for size, least in ((24, 11), (5, 5.5), (1, 3.5)):
        claim = request(runs, size)
        assert claim is not None
        assert claim >= least * GIB


def test_grid_runs_with_equal_batch_size_give_the_estimate_of_the_next_seed() -> None:
    runs = [
        a_run(3 + batch, batch, seed)
        for batch in (2, 4)
        for seed in (1, 2, 3)
        if (batch, seed) < (4, 3)
    ]
    assert request(runs, 4, 3) == 7 * GIB + margin_of(7 * GIB)
    assert request(runs, 2, 1) == 5 * GIB + margin_of(5 * GIB)
    assert request(runs, 8, 1) is None


def test_the_order_of_a_grid_does_not_matter() -> None:
    runs: list[AttemptPeak] = []
    alone = []
    for seed in (1, 2, 3, 4):
        for batch in (2, 4):
            if request(runs, batch, seed) is None:
                alone.append((batch, seed))
            runs.append(a_run(3 + batch, batch, seed))
    assert alone == [(2, 1), (4, 1), (2, 2)]


def test_random_arguments_are_trusted_within_the_tried_range() -> None:
    runs = [
        a_run(2 + batch / 10 + width / 100, batch, width)
        for batch, width in [(10, 80), (40, 10), (25, 55), (30, 20), (15, 70), (35, 60), (12, 33)]
    ]
    assert request(runs, 20, 40) is None
    runs.append(a_run(2 + 2.8 + 0.15, 28, 15))
    assert len(runs) == MANY
    claim = request(runs, 20, 40)
    most, least = max(run.peak for run in runs), min(run.peak for run in runs)
    assert claim == most + margin_of(most) + most - least
    assert request(runs, 41, 40) is None


def test_argument_with_contradicting_peaks_is_no_longer_trusted() -> None:
    runs = [a_run(4, 1), a_run(4, 2)]
    assert request(runs, 64) is not None
    runs.append(a_run(9, 64))
    assert request(runs, 128) is None
    odd_one = [a_run(4, 1), a_run(4, 9), a_run(8, 5)]  # its cost does not grow with the number
    assert request(odd_one, 10) is None


def test_runs_with_unknown_arguments_give_no_memory_estimate() -> None:
    runs = [AttemptPeak(4 * GIB), AttemptPeak(4 * GIB, ()), AttemptPeak(4 * GIB, ("x", "1"))]
    assert request(runs, 1) is None
    assert find_evidence((), (AttemptPeak(GIB, ()),)) == PeakEvidence((GIB,))


@given(st.data())
def test_run_with_equal_arguments_is_trusted(data: st.DataObject) -> None:
    numbers = st.sampled_from(["1", "2", "1e400", "-3", "0.5", "nan", "x"])
    lists = st.tuples(numbers, numbers)
    runs = data.draw(st.lists(st.builds(AttemptPeak, st.integers(1, 80 * GIB), lists), max_size=12))
    wanted = data.draw(lists)
    proof = find_evidence(wanted, tuple(runs))
    same = [run.peak for run in runs if run.numbers == wanted]
    if same:
        assert proof is not None
        assert max(proof.peaks) >= max(same[-8:])
    if proof is not None:
        assert set(proof.peaks) <= {run.peak for run in runs}
        assert proof.extra_bytes >= 0


def test_numbers_in_file_names_do_not_count_and_are_not_in_the_signature() -> None:
    words = ("train.py", "--lr=0.1", "--out=runs/7", "resnet18", "/data/part-3 --scale 3/4")
    assert ignored_numbers(words) == ("0.1", "3", "4")
    other = ("train.py", "--lr=0.1", "--out=runs/8", "resnet18", "/data/part-4 --scale 3/4")
    assert program_signature(words) == program_signature(other)
