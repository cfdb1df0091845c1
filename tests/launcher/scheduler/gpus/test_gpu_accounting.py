import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.context import WorkerEnvironment
from launcher.gpu.monitor import NO_SIGHT, Ours, Sight
from launcher.gpu.reservations import Reservation
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.job import Resources
from launcher.scheduler.gpus.gpu_ledger import Ledger, reservations_of
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.inventory import refusal
from launcher.scheduler.policy.model import Machine, Start, Wait, waiting
from launcher.scheduler.policy.oom_policy import QUIET_SHARE
from launcher.store.rows import Claim, Lane, ReadyJob
from launcher.store.usage import NO_USAGE, Usage
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home
from launcher.workers.memory_share import CONTEXT, VramLimit
from tests.build import GIB, a_claim, a_gpu, a_spec

ME = os.getpid()  # a process that lives
OTHER = 1


def a_card(index: int = 0, used: float = 0, **processes: int | None) -> GpuSnapshot:
    """A card with processes: `ours=…` and `other=…` are their bytes, None where it is not told."""
    pids = {"ours": ME, "other": OTHER}
    found = [GpuProcess(pid=pids[who], used=amount) for who, amount in processes.items()]
    return a_gpu(index, used=used, processes=tuple(found))


def running(job: int = 1, device: str = "GPU-0", **changes: Any) -> Claim:
    values: dict[str, Any] = {"reservation": 8 * GIB, "pid": ME}
    return a_claim(a_spec(), job=job, device=device, **values | changes)


def reported(home: Home, job: int = 1, **changes: Any) -> None:
    folder = home.attempt(job, 1).folder
    folder.mkdir(parents=True, exist_ok=True)
    told = {"schema": 1, "at": 1.0, "reserved": 0, "peak": 0, "context": None, "uuid": None}
    (folder / "memory.json").write_text(json.dumps(told | changes))


def a_ledger(home: Home, claims: Iterable[Claim], *gpus: GpuSnapshot, at: float = 1.0) -> Ledger:
    ledger = Ledger(home, Ours())
    assert ledger.enter(Sight(gpus=gpus, at=at), list(claims))
    return ledger


def untaught(_: str) -> Usage:
    return NO_USAGE


def used(ledger: Ledger, *claims: Claim) -> list[Mapping[str, int]]:
    """What each attempt uses of cards."""
    return [one.used for one in ledger.taken.running(claims, untaught)]


def test_what_the_driver_tells_of_our_processes_is_put_down(home: Home) -> None:
    claims = [running()]
    card = a_card(used=9, ours=5 * GIB, other=4 * GIB)
    ledger = a_ledger(home, claims, card)
    assert used(ledger, *claims) == [{"GPU-0": 5 * GIB}]
    assert ledger.taken.peak(claims[0]) == 5 * GIB
    assert ledger.taken.gpus(claims, [card]) == (card,)


def test_the_same_look_is_put_down_once(home: Home) -> None:
    sight = Sight(gpus=(a_card(),), at=1.0)
    ledger = Ledger(home, Ours())
    assert not ledger.enter(NO_SIGHT, [])
    assert ledger.enter(sight, [])
    assert not ledger.enter(sight, [])
    assert ledger.enter(sight._replace(at=2.0), [])


def test_where_the_driver_does_not_tell_the_workers_word_counts(home: Home) -> None:
    claims = [running()]
    reported(home, reserved=3 * GIB, peak=4 * GIB)
    for card in (a_card(used=9, ours=None), a_card(used=9)):
        ledger = a_ledger(home, claims, card)
        assert used(ledger, *claims) == [{"GPU-0": 3 * GIB + CONTEXT}]
        assert ledger.taken.peak(claims[0]) == 4 * GIB + CONTEXT


def test_unknown_stays_unknown(home: Home) -> None:
    claims = [running()]
    ledger = a_ledger(home, claims, a_card(used=9, ours=None))
    assert used(ledger, *claims) == [{}]
    assert ledger.taken.peak(claims[0]) is None
    assert ledger.taken.peak(running(device="cpu")) is None


def test_the_context_is_what_the_driver_sees_beyond_the_workers_word(home: Home) -> None:
    claims = [running(), running(2, pid=OTHER)]
    reported(home, reserved=3 * GIB, peak=6 * GIB)
    ledger = a_ledger(home, claims, a_card(used=9, ours=4 * GIB))
    assert ledger.taken.peak(claims[0]) == 7 * GIB
    assert ledger.taken.vram_limits(claims)[1, 1] == VramLimit(cap=8 * GIB, context=1 * GIB)


def test_a_peak_is_remembered_when_less_is_used_later(home: Home) -> None:
    claims = [running()]
    ledger = a_ledger(home, claims, a_card(used=9, ours=7 * GIB))
    ledger.enter(Sight(gpus=(a_card(used=3, ours=1 * GIB),), at=2.0), claims)
    assert ledger.taken.peak(claims[0]) == 7 * GIB
    assert used(ledger, *claims) == [{"GPU-0": 1 * GIB}]


def test_what_an_attempt_took_that_has_ended_since_the_look_is_free(home: Home) -> None:
    claims = [running()]
    seen = a_card(used=9, ours=5 * GIB), a_gpu(1, used=None)
    ledger = a_ledger(home, claims, *seen)
    assert [one.used for one in ledger.taken.gpus([], seen)] == [4 * GIB, None]
    assert Ledger(home, Ours()).taken.gpus([], seen) == seen


def test_only_jobs_that_share_a_card_are_held_to_what_they_were_promised(home: Home) -> None:
    alone, first, second, unknown = (
        running(1, "GPU-1"),
        running(2),
        running(3, "GPU-0,GPU-2", pid=OTHER),
        running(4, "GPU-3", reservation=None, exclusive=True),
    )
    claims = [alone, first, second, unknown, running(5, "cpu")]
    ledger = a_ledger(home, claims, a_card(used=9))
    vram_limits = ledger.taken.vram_limits(claims)
    assert {job: one.cap for (job, _), one in vram_limits.items()} == {
        1: None,
        2: 8 * GIB,
        3: 8 * GIB,
        4: None,
    }


def test_what_a_job_took_while_it_was_alone_stays_its_own(home: Home) -> None:
    first, second = running(), running(2, pid=OTHER)
    ledger = a_ledger(home, [first, second], a_card(used=12, ours=11 * GIB))
    assert ledger.taken.vram_limits([first, second])[1, 1].cap == 11 * GIB


def test_others_hear_of_every_promise_with_what_is_in_use_of_it(home: Home) -> None:
    works = a_spec(resources=Resources(cpus=2, ram=3 * GIB, device="cpu"))
    claims = [
        running(1, "GPU-0,GPU-1"),
        a_claim(works, job=2, cpus=2),
    ]
    ledger = a_ledger(home, claims, a_card(0, used=9, ours=5 * GIB), a_card(1))
    assert ledger.reservations(claims, 0b1111) == [
        Reservation(device="cores:f", amount=1, used=None, job=1),
        Reservation(device="GPU-0", amount=8 * GIB, used=5 * GIB, job=1),
        Reservation(device="jobs:GPU-0", amount=1, used=None, job=1),
        Reservation(device="GPU-1", amount=8 * GIB, used=None, job=1),
        Reservation(device="jobs:GPU-1", amount=1, used=None, job=1),
        Reservation(device="cores:f", amount=2, used=None, job=2),
        Reservation(device="memory", amount=3 * GIB, used=None, job=2),
    ]


def promised(claim: int | None, **asked: Any) -> dict[str, int]:
    place = Start(job=1, devices=("GPU-0",), cpus=1, reason="", reservation=claim)
    reservations = reservations_of(place, Resources(**asked), totals={"GPU-0": 40 * GIB})
    return {one.device: one.amount for one in reservations if "GPU-0" in one.device}


def test_a_promise_of_unknown_size_is_told_as_a_quarter_of_the_card() -> None:
    assert promised(None) == {"GPU-0": 10 * GIB, "jobs:GPU-0": 1}


def test_a_job_that_shares_with_nobody_is_told_as_the_whole_card() -> None:
    whole = {"GPU-0": 40 * GIB, "jobs:GPU-0": 1, "alone:GPU-0": 1}
    assert promised(GIB, exclusive=True) == promised(None, exclusive=True) == whole


def test_a_running_job_is_expected_to_end_as_those_alike_did(home: Home) -> None:
    claims = [running(claimed=1000.0), running(2, "cpu", claimed=1000.0)]
    ledger = a_ledger(home, claims, a_card())
    on_gpu, on_cpu = ledger.taken.running(claims, lambda _: Usage(seconds=(100.0,)))
    assert on_gpu.ends is not None
    assert on_gpu.ends == 1100
    assert (on_cpu.ends, on_cpu.devices) == (None, ())


def ready(least: int = 0, visible: tuple[str, ...] | None = ("0",), **asked: Any) -> ReadyJob:
    asks = Resources(**{"device": "cuda"} | asked)
    lane = Lane(
        group="g", resources=asks, environment=WorkerEnvironment(), least=least, visible=visible
    )
    return ReadyJob(id=7, rank=0.0, lane_id=1, lane=lane)


def test_a_waiting_job_has_what_was_declared_learned_or_needed() -> None:
    taught = Usage(peaks=(4 * GIB,), seconds=(10.0,))
    one = waiting(ready(min_vram=8 * GIB), NO_USAGE)
    assert (one.job, one.group, one.visible) == (7, "g", ("0",))
    assert (one.vram_request, one.seconds) == (8 * GIB, None)
    assert waiting(ready(), NO_USAGE).vram_request is None
    learned = waiting(ready(), taught)
    assert learned.vram_request is not None
    assert learned.vram_request > 4 * GIB
    assert learned.seconds is not None
    assert waiting(ready(least=9 * GIB), taught).vram_request == 9 * GIB


def test_what_nearly_fills_the_largest_card_gets_that_for_itself() -> None:
    full, gpus = Usage(peaks=(int(23.5 * GIB),)), (a_gpu(0, total=24), a_gpu(1, total=8))
    for rules in (Rules(), Rules(reserve=2 * GIB)):
        machine = Machine(cpus=2, gpus=gpus, rules=rules)
        (start,) = decide([waiting(ready(visible=None), full)], [], machine)
        assert isinstance(start, Start)
        assert (start.devices, start.exclusive) == ((gpus[0].uuid,), True)
        assert start.reservation == gpus[0].total
        # what its owner asks for, or what it lacked, can be more than any card has
        for job, usage in (
            (ready(visible=None, min_vram=30 * GIB), NO_USAGE),
            (ready(least=30 * GIB, visible=None), NO_USAGE),
            (ready(visible=None, min_vram=30 * GIB), full),
        ):
            never = refusal(waiting(job, usage), machine)
            assert never is not None
            assert "can never fit" in never.text


@settings(deadline=None)
@given(
    total=st.integers(8, 80),
    driver=st.floats(0, QUIET_SHARE),
    reserve=st.sampled_from([0.0, 0.1, 0.3]),
    took=st.floats(0.02, 1),
    count=st.integers(1, 2),
    larger=st.booleans(),
)
def test_on_an_idle_machine_a_job_starts_again_where_it_was_seen_to_fit(
    total: int, driver: float, reserve: float, took: float, count: int, larger: bool
) -> None:
    cards = [a_gpu(at, total=total, used=total * driver) for at in range(2)]
    if larger:  # it may not have that one
        cards.append(a_gpu(2, total=4 * total, used=0))
    kept = round(total * GIB * reserve)
    machine = Machine(cpus=2, gpus=tuple(cards), rules=Rules(reserve=kept))
    peak = int((cards[0].total - (cards[0].used or 0)) * took)
    asks = ready(visible=("0", "1"), gpus=count, device="cuda")
    again = waiting(asks, Usage(peaks=(peak,)))

    assert refusal(again, machine) is None
    (start,) = decide([again], [], machine)

    assert isinstance(start, Start), start.reason
    free = cards[0].total - (cards[0].used or 0)
    assert start.reservation is None or peak <= start.reservation <= free
    if start.reservation is None or start.reservation > free - kept:
        assert start.exclusive, "its card is promised to it as a whole"


def test_a_job_that_lacked_a_little_gets_the_idle_card_that_is_as_large_as_it_was_told() -> None:
    # the driver takes a little more than when its need was judged
    card = a_gpu(total=24, used=0.75)
    job = waiting(ready(least=int(23.5 * GIB), device="cuda"), NO_USAGE)
    (start,) = decide([job], [], Machine(cpus=2, gpus=(card,)))
    assert isinstance(start, Start), start.reason
    (wait,) = decide([job], [], Machine(cpus=2, gpus=(a_gpu(total=24, used=2),)))
    assert wait == Wait(
        job=7,
        reason="needs 23.5 GiB; cuda:0 has 22 GiB free",
        data={"need": "needs 23.5 GiB", "situation": "cuda:0 has 22 GiB free"},
        lacks="gpu",
    )


def test_a_workers_word_counts_for_the_card_that_it_names(home: Home) -> None:
    claims = [running(device="GPU-0,GPU-1")]
    reported(home, reserved=9 * GIB, peak=9 * GIB, uuid="GPU-0")
    ledger = a_ledger(home, claims, a_card(0, used=10), a_card(1, used=10))
    assert used(ledger, *claims) == [{"GPU-0": 9 * GIB + CONTEXT}]


def test_where_the_driver_knows_our_processes_what_it_does_not_list_is_not_there(
    home: Home,
) -> None:
    claims = [running(), running(2, "GPU-1", pid=os.getppid())]
    reported(home, job=2, reserved=9 * GIB, peak=9 * GIB)
    ledger = a_ledger(home, claims, a_card(0, used=10, ours=2 * GIB), a_card(1, used=10))
    assert used(ledger, *claims) == [{"GPU-0": 2 * GIB}, {}]


def test_what_an_earlier_attempt_took_is_not_its_successors(home: Home) -> None:
    first, second = running(), running(number=2)
    ledger = a_ledger(home, [first], a_card(used=9, ours=5 * GIB))
    assert used(ledger, second) == [{}]
    assert (ledger.taken.peak(second), ledger.taken.others_usage(second)) == (None, {})
    assert ledger.taken.others_usage(first) == {"GPU-0": 4 * GIB}
    assert set(ledger.taken.vram_limits([second])) == {(1, 2)}


def test_an_attempt_of_an_older_launcher_has_its_card_for_itself(home: Home) -> None:
    ledger = a_ledger(home, [], a_card(used=9))
    (one,) = ledger.taken.running([running(reservation=None, exclusive=False)], untaught)
    assert one.exclusive


def test_each_process_of_a_job_on_two_cards_counts_on_its_own_card(home: Home) -> None:
    claim = running(device="GPU-0,GPU-1", reservation=4 * GIB)
    ranks = "sleep 60 & echo $!; sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", ranks], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pids = [int(program.stdout.readline()) for _ in range(2)]
        try:
            cards = [
                a_gpu(index, used=9, processes=(GpuProcess(pid=pid, used=(index + 2) * GIB),))
                for index, pid in enumerate(pids)
            ]
            ledger = a_ledger(home, [claim], *cards)
            taken = used(ledger, claim)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
    assert taken == [{"GPU-0": 2 * GIB, "GPU-1": 3 * GIB}]
    assert ledger.taken.peak(claim) == 3 * GIB
    assert ledger.taken.others_usage(claim) == {"GPU-0": 7 * GIB, "GPU-1": 6 * GIB}


def test_where_the_driver_does_not_tell_each_card_has_its_own_word(home: Home) -> None:
    claim = running(device="GPU-0,GPU-1")
    by_card = {"GPU-0": 2 * GIB, "GPU-1": 3 * GIB, "GPU-9": GIB}
    reported(home, reserved=3 * GIB, peak=4 * GIB, cards=by_card)
    ledger = a_ledger(home, [claim], a_card(0, used=9), a_card(1, used=9))
    assert used(ledger, claim) == [{"GPU-0": 2 * GIB + CONTEXT, "GPU-1": 3 * GIB + CONTEXT}]
    assert ledger.taken.peak(claim) == 4 * GIB + CONTEXT
