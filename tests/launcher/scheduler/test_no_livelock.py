"""A job that ran out of memory does not run out of it in the same place for ever."""

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.context import WorkerEnvironment
from launcher.job import Resources
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.inventory import refusal
from launcher.scheduler.policy.model import Machine, Start, Waiting, waiting
from launcher.scheduler.policy.oom_policy import Scene, blame
from launcher.states import Shortage
from launcher.store.rows import Lane, ReadyJob
from launcher.store.usage import Run, Usage
from launcher.system.gpu_sharing import Rules
from tests.build import GIB, a_gpu

MOST_AT_ONCE = (
    14  # attempts without a pause: from 1 GiB to the largest card, a quarter more each time
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
    machine = Machine(cpus=1, gpus=(gpu,), rules=Rules(reserve=gib(reserve)))
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
        shortage = Shortage(
            where="gpu",
            held=None if says == "nothing" else held,
            wanted=gib(needs) - held if says == "all" else None,
        )
        peaks = (held,) if seen else ()
        scene = Scene(
            reservation=decision.reservation,
            total=gpu.total,
            others=gpu.used,
            peak=held if seen else None,
            reserve=machine.rules.reserve,
        )
        judged = blame(shortage, scene)
        if judged.charged or judged.whose == "neighbour":
            return  # it counts, or it is put off for twice as long each time
        assert judged.vram_request is not None
        least = judged.vram_request
        larger = Waiting(job=1, resources=job.resources, vram_request=least)
        if refusal(larger, machine):
            return


def a_job(asked: int | None, least: int, peaks: tuple[int, ...], exact: bool) -> Waiting:
    lane = Lane(
        group="",
        resources=Resources(device="cuda", min_vram=None if asked is None else asked * GIB),
        environment=WorkerEnvironment(),
        signature="train 0123" if exact else "command 0123",
        least=least,
    )
    ready = ReadyJob(id=1, rank=0.0, lane_id=1, lane=lane, numbers=("1",))
    return waiting(ready, Usage(peaks=peaks, runs=tuple(Run(peak, ("1",)) for peak in peaks)))
