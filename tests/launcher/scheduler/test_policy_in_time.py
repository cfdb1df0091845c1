"""The policy over time: what starts, ends, waits and runs out of memory again."""

from dataclasses import dataclass
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.states import OomReport
from launcher.queue.scheduler.policy.decide import MachineScheduler, decide
from launcher.queue.scheduler.policy.inventory import permanent_refusal
from launcher.queue.scheduler.policy.model import Machine, Start, Waiting, make_waiting
from launcher.queue.scheduler.policy.oom_policy import OomContext, diagnose_oom
from launcher.queue.store.lanes import Lane
from launcher.queue.store.rows import ReadyJob
from launcher.queue.store.usage import AttemptPeak, Usage
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_gpu
from tests.launcher.cardworld import (
    World,
    jobs,
    machines,
    numbered,
    places_of,
    queues,
    taken,
    tight_jobs,
    tight_machines,
)

LONGEST = 600  # seconds of a job in an endless stream
ENDS = 250  # ends of jobs, until one must have had its turn

slowly = settings(max_examples=100, deadline=None)
arrivals = st.lists(st.integers(0, 6), min_size=10, max_size=10).map(sorted)


def expected_durations(line: list[Waiting]) -> dict[int, int]:
    return {one.job: round(one.seconds or 0) for one in line}


def _check_that_no_later_job_delays(
    line: list[Waiting], times: list[int], machine: Machine
) -> None:
    lasts = expected_durations(line)
    world = World(machine=machine, lasts=lasts.__getitem__)
    promised: dict[int, float] = {}  # job → its start time without later jobs
    for second in range(210):  # ten jobs of twenty seconds each
        world.now = float(second)
        world.settle()
        world.line += [one for one, at in zip(line, times, strict=False) if at == second]
        able = [one for one in world.line if places_of(one, [], machine)]
        if able and able[0].job not in promised and _has_reservation(world, able[0]):
            promised[able[0].job] = _start_without_later_ones(world, able[0])
        world.decide()
    for job, at in promised.items():
        assert world.started[job] <= at


@slowly
@given(queues(10, known=True), arrivals, machines(sound=True))
def test_later_jobs_do_not_delay_the_first_waiting_one(
    line: list[Waiting], times: list[int], machine: Machine
) -> None:
    _check_that_no_later_job_delays(line, times, machine)


@slowly
@given(st.lists(tight_jobs(), min_size=6, max_size=10), arrivals, tight_machines())
def test_later_jobs_do_not_delay_the_first_waiting_one_if_everything_is_scarce(
    line: list[Waiting], times: list[int], machine: Machine
) -> None:
    _check_that_no_later_job_delays(list(numbered(line, 1)), times, machine)


def _has_reservation(world: World, first: Waiting) -> bool:
    """Whether the first job has a reservation: its group is not full."""
    limit = world.machine.limits.get(first.group)
    return limit is None or sum(one.group == first.group for one in world.running) < limit


def _start_without_later_ones(world: World, first: Waiting) -> float:
    alone = world.copy(until=first.job)
    for _ in range(300):
        alone.settle()
        alone.decide()
        if first.job in alone.started:
            break
        alone.now += 1
    return alone.started[first.job]


@slowly
@given(queues(10), arrivals, machines(sound=True), st.lists(st.integers(1, 20), min_size=10))
def test_reservations_never_exceed_a_gpu(
    line: list[Waiting], times: list[int], machine: Machine, lasts: list[int]
) -> None:
    world = World(machine=machine, lasts=lambda job: lasts[job % len(lasts)])
    for second in range(60):
        world.now = float(second)
        world.settle()
        world.line += [one for one, at in zip(line, times, strict=False) if at == second]
        world.decide()
        assert sum(one.cpus for one in world.running) <= machine.cpus
        for gpu in machine.gpus:
            ours = [one for one in world.running if gpu.uuid in one.devices]
            if ours and ours[0].vram is not None:
                assert taken(gpu, world.running, machine) <= gpu.total
            assert len(ours) <= 1 or not any(one.exclusive for one in ours)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Jobs that wait, and those that come behind them again and again; each could start alone."""

    machine: Machine
    first: list[Waiting]
    behind: list[Waiting]
    lasts: list[int]

    def seconds(self, job: int) -> int:
        """Return how long a job takes; hardly ever do two end at once."""
        return self.lasts[job % len(self.lasts)] + job * 37 % 101


def _starts_alone(job: Waiting, machine: Machine) -> bool:
    """Whether a job starts on the empty machine: a GPU that it may see can have reservations of others."""
    world = World(machine=machine, lasts=lambda _: 1)
    world.line = [job._replace(job=1)]
    world.decide()
    return 1 in world.started


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    machine = draw(machines(sound=True))._replace(ram_free=8 * GIB)
    possible = jobs().filter(lambda one: _starts_alone(one, machine))
    return Stream(
        machine=machine,
        first=draw(st.lists(possible, min_size=1, max_size=4)),
        behind=draw(st.lists(possible, min_size=2, max_size=6)),
        lasts=draw(st.lists(st.integers(100, LONGEST), min_size=5, max_size=9)),
    )


@st.composite
def tight_streams(draw: st.DrawFn) -> Stream:
    return Stream(
        machine=draw(tight_machines()),
        first=draw(st.lists(tight_jobs(large=True), min_size=1, max_size=2)),
        behind=draw(st.lists(tight_jobs(large=False), min_size=2, max_size=6)),
        lasts=draw(st.lists(st.integers(100, LONGEST), min_size=5, max_size=9)),
    )


def _check_no_starvation(stream: Stream, *, told: bool) -> None:
    world = World(machine=stream.machine, lasts=stream.seconds)
    numbers = count(1)

    def come(found: list[Waiting]) -> list[int]:
        new = [one._replace(job=next(numbers)) for one in found]
        world.line += [
            one._replace(seconds=float(stream.seconds(one.job)) if told else None) for one in new
        ]
        return [one.job for one in new]

    for _ in range(3):
        come(stream.behind)
    world.decide()  # the machine is busy before they come
    wanted = come(stream.first)
    for _ in range(ENDS):
        if world.running:
            world.now = min(world.ends[one.job] for one in world.running)
        world.settle()
        while len(world.line) < 12:
            come(stream.behind)
        world.decide()
        if world.started.keys() >= set(wanted):
            return
    raise AssertionError(f"of {wanted} started {sorted(world.started)[:20]} …")


@slowly
@given(streams(), st.booleans())
def test_no_job_starves_behind_a_stream_of_later_ones(stream: Stream, told: bool) -> None:
    _check_no_starvation(stream, told=told)


@slowly
@given(tight_streams(), st.booleans())
def test_no_job_starves_if_everything_is_scarce(stream: Stream, told: bool) -> None:
    _check_no_starvation(stream, told=told)


@slowly
@given(queues(10), arrivals, machines(), st.lists(st.integers(1, 20), min_size=10))
def test_reused_policy_decides_like_a_new_one(
    line: list[Waiting], times: list[int], machine: Machine, lasts: list[int]
) -> None:
    kept = MachineScheduler(machine)
    world = World(machine=machine, lasts=lambda job: lasts[job % len(lasts)])
    for second in range(40):
        world.now = float(second)
        for run in world.settle():
            kept.release_job(run.job)
        world.line += [one for one, at in zip(line, times, strict=False) if at == second]
        waiting = world.line
        assert kept.decide(waiting, world.now) == world.decide()
        assert list(kept.inventory.running.values()) == world.running


# --- A job that ran out of memory does not run out of it in the same place for ever


MOST_AT_ONCE = (
    14  # attempts without a pause: from 1 GiB to the largest GPU, a quarter more each time
)


def gib(amount: float) -> int:
    return round(amount * GIB)


@settings(max_examples=300, deadline=None)
@given(
    total=st.sampled_from([12, 24, 80]),
    others=st.sampled_from([0, 0.3, 0.7, 0.9, 1.4, 2.0, 2.3, 5.0]),
    reserve=st.sampled_from([0, 0, 2]),
    needs=st.floats(0.5, 100),
    asked=st.none() | st.sampled_from([1, 8, 16, 22]),
    exact=st.booleans(),
    says=st.sampled_from(["nothing", "held", "all"]),
    seen=st.booleans(),
)
def test_attempts_end_or_pause(
    total: int,
    others: float,
    reserve: int,
    needs: float,
    asked: int | None,
    exact: bool,
    says: str,
    seen: bool,
) -> None:
    gpu = a_gpu(total=total, used=min(others, total / 10 - 0.01))
    machine = Machine(cpus=1, gpus=(gpu,), rules=SharingRules(reserve=gib(reserve)))
    least, peaks, tries = 0, tuple[int, ...](), 0
    while True:
        job = a_job(asked, least, peaks, exact)
        (decision,) = decide([job], [], machine)
        if not isinstance(decision, Start):
            return
        room = gpu.total - (gpu.used or 0)
        if gib(needs) <= room:
            return
        tries += 1
        assert tries <= MOST_AT_ONCE, (least / GIB, decision)
        held = room - gib(0.125)
        shortage = OomReport(
            where="gpu",
            held=None if says == "nothing" else held,
            wanted=gib(needs) - held if says == "all" else None,
        )
        peaks = (held,) if seen else ()
        scene = OomContext(
            vram=decision.vram,
            total=gpu.total,
            others=gpu.used,
            peak=held if seen else None,
            reserve=machine.rules.reserve,
        )
        judged = diagnose_oom(shortage, scene)
        if judged.charged or judged.blamed_on == "neighbour":
            return  # it counts, or it is put off for twice as long each time
        assert judged.vram is not None
        least = judged.vram
        larger = Waiting(job=1, resources=job.resources, vram=least)
        if permanent_refusal(larger, machine):
            return


def a_job(asked: int | None, least: int, peaks: tuple[int, ...], exact: bool) -> Waiting:
    lane = Lane(
        group="",
        resources=Resources(device="cuda", vram=None if asked is None else asked * GIB),
        environment=WorkerEnvironment(),
        signature="train 0123" if exact else "command 0123",
        least_vram=least,
    )
    ready = ReadyJob(id=1, rank=0.0, lane_id=1, lane=lane, numbers=("1",))
    return make_waiting(
        ready, Usage(peaks=peaks, attempt_peaks=tuple(AttemptPeak(peak, ("1",)) for peak in peaks))
    )
