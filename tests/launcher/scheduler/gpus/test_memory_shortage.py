"""Which job leaves a GPU whose memory runs short, and which never does."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pytest

from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import FUNCTION, Resources, Terms
from launcher.queue.jobs.states import EndCause
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.gpus.memory_growth import MemoryGrowth
from launcher.queue.scheduler.gpus.memory_shortage import (
    LASTING_S,
    LONGEST_LOSS_S,
    LastingReservations,
    choose_evictions,
)
from launcher.queue.scheduler.gpus.reported_ends import ReportedEnds
from launcher.queue.scheduler.gpus.taken_memory import GpuUsageTracker
from launcher.queue.store.rows import Claim
from tests.build import GIB, a_claim, a_gpu, a_spec

TOTAL = 40  # GiB of a GPU
LOOK = 1000.0  # the newest one, monotonic seconds
NOW = 1e9  # seconds since 1970
LONG_S = LONGEST_LOSS_S + 1


class Job(NamedTuple):
    """A job on a GPU."""

    used: float  # GiB
    ran_s: float = 10.0
    grew: float = 0.0  # GiB since the reading before
    reserved: float | None = None  # GiB that it declared
    exclusive: bool = False
    rerun: str = "again"
    resumes: bool = False
    function: bool = False
    known_s: float | None = (
        None  # seconds for which this scheduler has watched it; None: from its start on
    )
    devices: tuple[str, ...] = ("GPU-0",)

    def claim(self, number: int) -> Claim:
        reservation = None if self.reserved is None else round(self.reserved * GIB)
        spec = a_spec(
            resources=Resources(device="cuda", vram=reservation),
            kind=FUNCTION if self.function else "command",
            entry="lab:train" if self.resumes or self.function else "",
            terms=Terms(rerun=self.rerun),
        )
        return a_claim(
            spec,
            job=number,
            device=",".join(self.devices),
            vram=reservation,
            exclusive=self.exclusive,
            claimed=NOW - self.ran_s,
        )

    @property
    def before(self) -> Mapping[str, Any]:
        """Its state at the reading before."""
        known_s = self.ran_s if self.known_s is None else self.known_s
        used, began = round((self.used - self.grew) * GIB), LOOK - known_s
        return MemoryGrowth(
            began=began, at=LOOK - 0.5, used=used, first_byte=began, steady_since=began
        ).to_json()


class Card(NamedTuple):
    """A GPU with jobs, which are numbered from 1."""

    jobs: tuple[Job, ...]
    others: float = 0.0  # GiB that processes of others use
    promised: float = 0.0  # GiB that other queues have reserved and do not use
    leaving: Collection[int] = ()
    cards: int = 1


def leave(home: Home, card: Card) -> dict[int, Eviction]:
    """Return which jobs have to leave it."""
    claims = {job.claim(number).key: job for number, job in enumerate(card.jobs, 1)}
    taken = GpuUsageTracker(lambda _: None, ReportedEnds(home))
    for key, job in claims.items():
        taken.adopt(key, job.before, LOOK)

    def seen(claim: Claim) -> tuple[dict[str, int], Collection[str]]:
        return {uuid: round(claims[claim.key].used * GIB) for uuid in claim.gpus}, ()

    running = [job.claim(number) for number, job in enumerate(card.jobs, 1)]
    gpus = [
        a_gpu(
            index,
            total=TOTAL,
            used=card.others + sum(job.used for job in card.jobs if f"GPU-{index}" in job.devices),
        )
        for index in range(card.cards)
    ]
    taken.record_sample(running, gpus, seen, LOOK)
    foreign = [ForeignReservation(user="eva", device="GPU-0", amount=round(card.promised * GIB))]
    return choose_evictions(
        gpus, running, taken, foreign[: bool(card.promised)], card.leaving, now=NOW
    )


DECLARED = Job(2, ran_s=LONG_S, reserved=20)  # 18 GiB of its reservation are not used yet
LEAVING: Mapping[str, tuple[Card, set[int]]] = {
    "there is room for all that is reserved": (Card((DECLARED, Job(10), Job(10))), set()),
    "into what was declared the one that ran for the shortest time": (
        Card((DECLARED, Job(12, ran_s=30), Job(12, ran_s=9))), {3},
    ),
    "into what was declared one whose memory is enough": (
        Card((DECLARED, Job(22, ran_s=30), Job(1, ran_s=9))), {2},
    ),
    "if no one has enough the one that has most": (
        Card((DECLARED, Job(9, ran_s=30), Job(5, ran_s=9)), others=16), {2},
    ),
    "into what other queues reserved, also alone": (Card((Job(30),), promised=20), {1}),
    "not if nothing of its own would be enough": (
        Card((DECLARED, Job(2), Job(2)), others=31), set(),
    ),
    "not alone on a card that nobody else waits for": (Card((Job(39.9, grew=5),)), set()),
    "the youngest of those that grow until nothing is free": (
        Card((Job(19.8, 30, grew=5), Job(19.8, 9))), {2},
    ),
    "not if they fill the card and do not grow": (Card((Job(19.8), Job(19.8))), set()),
    "not if what grows was declared": (
        Card((Job(19.8, reserved=19.8, grew=5), Job(19.8))), set(),
    ),
    "a job that runs for a minute": (Card((DECLARED, Job(30, ran_s=LONGEST_LOSS_S))), {2}),
    "not a job that runs for longer and cannot resume": (
        Card((DECLARED, Job(30, ran_s=LONG_S))), set(),
    ),
    "not a job that this scheduler has known for a short time only": (
        Card((DECLARED, Job(30, ran_s=LONG_S, known_s=1.0))), set(),
    ),
    "a job that runs for longer and resumes": (
        Card((DECLARED, Job(30, ran_s=LONG_S, resumes=True))), {2},
    ),
    "a function that runs for a minute": (
        Card((DECLARED, Job(30, ran_s=LONGEST_LOSS_S, function=True))), {2},
    ),
    "not a function that runs for longer, as its next attempt begins anew": (
        Card((DECLARED, Job(30, ran_s=LONG_S, function=True))), set(),
    ),
    "of those that resume none loses more than a minute, so the older one leaves": (
        Card((DECLARED, Job(12, ran_s=3600, resumes=True), Job(12, ran_s=900, resumes=True))), {2},
    ),
    "not one that must never run again": (Card((DECLARED, Job(30, rerun="never"))), set()),
    "not one with declared memory, which has more than that": (
        Card((DECLARED, Job(30, reserved=5))), set(),
    ),
    "not one that has the card for itself": (
        Card((Job(30, exclusive=True),), promised=20), set(),
    ),
    "the one that can be stopped, though another loses less": (
        Card((DECLARED, Job(15, ran_s=1, rerun="never"), Job(15, ran_s=30))), {3},
    ),
    "nobody while one leaves that makes enough room": (
        Card((DECLARED, Job(12), Job(12)), leaving={2}), set(),
    ),
    "another one if the room of those that leave is too small": (
        Card((DECLARED, Job(5), Job(14)), others=10, leaving={2}), {3},
    ),
    "nobody from another card whose job has to leave this one": (
        Card((
            DECLARED._replace(devices=("GPU-1",)),
            Job(10, ran_s=30, devices=("GPU-0", "GPU-1")),
            Job(10, ran_s=9, devices=("GPU-1",)),
        ), others=4, promised=30, cards=2), {2},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("card", "jobs"), LEAVING.values(), ids=LEAVING)
def test_job_with_an_estimate_is_evicted_so_that_no_other_fails(
    home: Home, card: Card, jobs: set[int]
) -> None:
    assert set(leave(home, card)) == jobs


def test_no_eviction_from_a_gpu_of_unknown_usage(home: Home) -> None:
    taken = GpuUsageTracker(lambda _: None, ReportedEnds(home))
    claims = [job.claim(number) for number, job in enumerate((DECLARED, Job(30)), 1)]
    gpus = [a_gpu(used=None)]
    taken.record_sample(claims, gpus, lambda claim: (dict.fromkeys(claim.gpus, 30 * GIB), ()), LOOK)
    assert choose_evictions(gpus, claims, taken, [], set(), now=NOW) == {}


def test_eviction_reason_states_the_memory_that_the_next_attempt_gets(
    home: Home,
) -> None:
    (eviction,) = leave(home, Card((DECLARED, Job(24)))).values()
    assert eviction.cause is EndCause.GPU_MEMORY
    assert eviction.vram == 24 * GIB
    assert eviction.why == (
        "cuda:0 had only 14 GiB free for reservations of 18 GiB; stopping this job,"
        " which used 24 GiB, loses the least work"
    )


# --- What other queues reserve counts once it has stood for a while


def reserved(amount: int, device: str = "GPU-0") -> ForeignReservation:
    """An unused reservation of another queue, in GiB."""
    return ForeignReservation(user="ann", device=device, amount=amount * GIB, folder="/home/ann")


def test_lowest_recent_reservation_of_another_queue_counts() -> None:
    lasting, step = LastingReservations(), LASTING_S / 2
    assert lasting.add_sample(0.0, [reserved(9)]) == ()  # it may be in use already
    assert lasting.add_sample(step, [reserved(2), reserved(7, "GPU-1")]) == ()
    assert lasting.add_sample(2 * step, [reserved(3), reserved(7, "GPU-1")]) == (reserved(2),)
    third = lasting.add_sample(3 * step, [reserved(4), reserved(8, "GPU-1")])
    assert set(third) == {reserved(2), reserved(7, "GPU-1")}
    assert lasting.add_sample(4 * step, []) == ()  # it is in use now, or was given back
