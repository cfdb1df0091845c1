"""What is known of GPUs: what each attempt takes, what a home has used, and what attempts teach about sharing."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.accounts import HALF_LIFE_S, Use, Wish, decayed_span
from launcher.context import WorkerEnvironment
from launcher.gpu.monitor import NO_SIGHT, Ours, Sight
from launcher.gpu.reservations import Reservation, ReservationBoard
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.job import Resources
from launcher.scheduler.gpus.gpu_ledger import Ledger, reservations_of
from launcher.scheduler.gpus.gpu_state import FLOOD_S, MEMORY_S, Accelerators, UseMeter
from launcher.scheduler.gpus.shared_time import GAP_S, SharedTime, slowdown_by_duration
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.inventory import refusal
from launcher.scheduler.policy.model import Machine, Start, Wait, waiting
from launcher.scheduler.policy.oom_policy import QUIET_SHARE
from launcher.states import Done
from launcher.store.queue import Store
from launcher.store.rows import Claim, Lane, ReadyJob
from launcher.store.usage import NO_USAGE, Measured, Usage
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home
from launcher.workers.memory_share import CONTEXT, VramLimit
from tests.build import GIB, Clock, a_claim, a_gpu, a_spec, until
from tests.launcher.queued import end, one, seated

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


# --- what a home has used, decayed: counted while attempts run, and found again after a restart


DAY = HALF_LIFE_S


def an_attempt(store: Store, name: str, claimed: float, ended: float | None, **seat: object) -> int:
    """An attempt that ran for so long."""
    job = one(store, name, resources=Resources(cpus=2, device="cpu", ram=GIB))
    claim = seated(store, job, claimed, **seat)
    if ended is not None:
        end(store, claim, Done(at=ended), now=ended)
    return job


def a_meter(store: Store, clock: Clock, monotonic: Clock) -> UseMeter:
    return UseMeter(store.scheduling.past_use, clock, monotonic)


def test_what_runs_is_counted_by_what_it_has_reserved() -> None:
    clock, monotonic = Clock(), Clock()
    meter = UseMeter(lambda _since, _now: [], clock, monotonic)
    gpu = a_gpu(total=40)
    half = a_claim(device=gpu.uuid, cpus=3, reservation=20 * GIB, claimed=clock.now)
    whole = a_claim(job=2, device=f"{gpu.uuid},GPU-9", cpus=1, claimed=clock.now)
    assert meter.read([half, whole], [gpu]).cards == 0
    monotonic.now += 100
    clock.now -= 1e6  # the clock is set: what is used is not counted by it
    use = meter.read([], [gpu])
    assert use.cards == pytest.approx(250, rel=1e-3)
    assert use.cores == pytest.approx(400, rel=1e-3)
    monotonic.now += DAY
    assert meter.read([], [gpu]).cards == pytest.approx(125, rel=1e-3)


def test_a_new_scheduler_finds_in_the_store_what_was_used(store: Store) -> None:
    now = 100 * DAY
    clock, monotonic = Clock(now), Clock(5.0)
    gpu = a_gpu(total=40)
    on_gpu = {"device": gpu.uuid, "cpus": 2, "reservation": 10 * GIB}
    an_attempt(store, "long", now - 1.5 * DAY, now - 0.5 * DAY, **on_gpu)
    for number in range(20):
        an_attempt(store, f"short-{number}", now - 600 - number, now - 500 - number)
    an_attempt(store, "old", now - MEMORY_S - DAY, now - MEMORY_S - 1)
    an_attempt(store, "odd", now + 5, now + 1)  # the clock was set meanwhile
    running = an_attempt(store, "running", now - 50, None, **on_gpu)

    use = a_meter(store, clock, monotonic).read(store.scheduling.claims(), [gpu])

    assert store.scheduling.claims()[0].job == running
    span_s = decayed_span(1.5 * DAY, 0.5 * DAY) + 50
    assert use.cards == pytest.approx(span_s / 4, rel=0.01)
    seconds = span_s + 20 * decayed_span(610, 510) / 2  # they had one core each
    assert use.cores == pytest.approx(2 * seconds, rel=0.01)
    assert use.memory == pytest.approx((span_s + 20 * decayed_span(610, 510)) * GIB, rel=0.01)


def test_the_sizes_of_cards_that_become_known_later_count_for_what_was_before(
    store: Store,
) -> None:
    clock, monotonic = Clock(DAY), Clock()
    gpu = a_gpu(total=40)
    an_attempt(store, "1", DAY - 200, DAY - 100, device=gpu.uuid, reservation=10 * GIB)
    meter = a_meter(store, clock, monotonic)
    assert meter.read([], []).cards == pytest.approx(100, rel=0.01)
    monotonic.now += 1
    assert meter.read([], [gpu]).cards == pytest.approx(25, rel=0.01)
    unknown = replace(gpu, total=0)
    assert meter.read([], [unknown]).cards == pytest.approx(25, rel=0.01)


@pytest.mark.parametrize("key", [json.dumps({"resources": {"ram": "all"}}), "no JSON", ""])
def test_records_that_cannot_be_read_use_no_memory(store: Store, key: str) -> None:
    job = an_attempt(store, "1", 100.0, 200.0)
    with store.writing():
        store.database.execute(
            "UPDATE lanes SET key = ? WHERE id = (SELECT lane FROM jobs WHERE id = ?)", (key, job)
        )
    use = a_meter(store, Clock(300.0), Clock()).read([], [])
    assert use.memory == 0.0
    assert use.cores == pytest.approx(100, rel=0.01)


def a_scheduler(home: Path, claims: Path) -> tuple[Accelerators, ReservationBoard]:
    """What a scheduler knows of GPUs, without any; and what it tells others."""
    board = ReservationBoard(claims, home)
    return Accelerators(Home(home), lambda: (), lambda: None, board=board), board


def test_who_is_woken_again_and_again_does_not_listen_for_a_moment(tmp_path: Path) -> None:
    gpus, _ = a_scheduler(tmp_path / "one", tmp_path)
    gpus.take_news()
    assert gpus.deaf_s <= 0
    began = time.monotonic()
    gpus.take_news()
    took_s = time.monotonic() - began
    assert gpus.deaf_s <= FLOOD_S / 2 + took_s
    assert took_s > FLOOD_S / 2 or gpus.deaf_s > -FLOOD_S
    until(lambda: gpus.deaf_s <= 0, "it listens again")


def test_a_scheduler_that_leaves_lets_the_other_homes_of_its_user_know_what_was_used(
    tmp_path: Path,
) -> None:
    gpus, board = a_scheduler(tmp_path / "one", tmp_path)
    _, other = a_scheduler(tmp_path / "other", tmp_path)
    board.wish = Wish(since=0.0, gpus=1)
    board.use_is(Use(cards=7200.0))
    gpus.leave([])
    other.others()
    assert other.whole_use().cards == pytest.approx(7200.0, rel=1e-3)
    assert other.colleagues() == ()
    board.use_is(Use(cards=1.0))
    gpus.leave([])
    assert not [*tmp_path.glob("launcher-claims.*")], "it is not worth a file"


def test_who_leaves_his_place_to_another_has_waited_all_the_same(tmp_path: Path) -> None:
    gpus, board = a_scheduler(tmp_path / "one", tmp_path)
    published = list[Wish | None]()
    wish = Wish(since=0.0, gpus=1)
    for asked, present in ((wish, {7}), (None, {7}), (wish, {7}), (None, set[int]()), (wish, {7})):
        gpus.waits_for(asked, 7 if asked else 0, present)
        published.append(board.wish)
    first, leaves, again, _, anew = published
    assert first is not None
    assert (leaves, again) == (None, first)
    assert anew is not None
    assert anew.since > first.since


# --- what attempts teach about sharing a GPU: looks are given, progress lies where workers write it


STRANGER = 999


def a_job(job: int, device: str = "GPU-0") -> Claim:
    return a_claim(a_spec(), job=job, device=device, reservation=GIB)


def owner(pid: int) -> int | None:
    """Job N has the process N."""
    return None if pid == STRANGER else pid


class Looks:
    """Looks at one card a second, with the steps of those that run."""

    def __init__(self, home: Home) -> None:
        self.home, self.now = home, 0.0
        self.times = SharedTime(home)
        self.steps: dict[int, float] = {}
        self.look({})

    def look(
        self,
        uses: Mapping[int, float | None],
        *,
        seconds: float = 1.0,
        rates: Mapping[int, float] | None = None,
        utilisation: float | None = None,
        times: int = 1,
    ) -> None:
        """So many times let `seconds` pass, in which each process uses the card so much and its job makes steps."""
        for _ in range(times - 1):
            self.look(uses, seconds=seconds, rates=rates, utilisation=utilisation)
        self.now += seconds
        for job, rate in (rates or {}).items():
            self.steps[job] = self.steps.get(job, 0.0) + rate * seconds
            progress = self.home.attempt(job, 1).progress
            progress.parent.mkdir(parents=True, exist_ok=True)
            line: dict[str, Any] = {
                "at": self.now,
                "step": round(self.steps[job]),
                "total": None,
                "metrics": {},
            }
            with progress.open("a") as lines:
                lines.write(json.dumps(line) + "\n")
        processes = tuple(GpuProcess(pid=pid, used=2 * GIB, sm=sm) for pid, sm in uses.items())
        card = a_gpu(processes=processes, utilisation=utilisation)
        claims = [a_job(pid) for pid in uses if pid != STRANGER]
        self.times.enter(Sight(gpus=(card,), at=self.now), claims, owner)

    def of(self, job: int) -> Measured:
        return self.times.of(a_job(job))


@pytest.fixture
def looks(home: Home) -> Looks:
    return Looks(home)


def test_an_attempt_that_had_its_card_to_itself_shared_it_for_no_time(looks: Looks) -> None:
    looks.look({1: 0.5}, times=6)
    assert looks.of(1) == Measured(shared_s=0.0, slowdown=None, sm=0.5)
    assert looks.of(2) == Measured()


def test_the_steps_alone_and_beside_another_say_how_much_slower_it_was(looks: Looks) -> None:
    looks.look({1: 0.9}, rates={1: 10.0}, times=11)
    looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0, 2: 4.0}, times=11)
    known = looks.of(1)
    assert known.shared_s == pytest.approx(11.0)
    assert known.slowdown == pytest.approx(2.0)
    assert known.sm == pytest.approx(0.9)
    assert looks.of(2).slowdown is None  # it was never alone


def test_beside_several_others_the_factor_is_that_of_each(looks: Looks) -> None:
    looks.look({1: 0.9}, rates={1: 20.0}, times=11)
    looks.look({1: 0.3, 2: 0.3, 3: 0.3}, rates={1: 5.0}, times=11)
    assert looks.of(1).slowdown == pytest.approx(2.0)


def test_who_is_no_slower_beside_others_has_a_slowdown_of_one(looks: Looks) -> None:
    looks.look({1: 0.2}, rates={1: 10.0}, times=11)
    looks.look({1: 0.2, 2: 0.2}, rates={1: 11.0}, times=11)
    assert looks.of(1).slowdown == 1.0


def test_a_few_seconds_beside_another_teach_nothing(looks: Looks) -> None:
    looks.look({1: 0.9}, rates={1: 10.0}, times=11)
    looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0}, times=3)
    assert looks.of(1).slowdown is None


def test_steps_that_begin_anew_and_clocks_that_jump_are_left_out(looks: Looks) -> None:
    looks.look({1: 0.9}, rates={1: 10.0}, times=11)
    looks.steps[1] = 0.0
    looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0}, times=7)
    progress = looks.home.attempt(1, 1).progress
    with progress.open("a") as lines:
        lines.write('{"at": 1e12, "step": 36, "total": null, "metrics": {}}\n')
    looks.look({1: 0.5, 2: 0.5})
    assert looks.of(1).slowdown == pytest.approx(2.0)


def test_use_is_unknown_where_the_driver_does_not_tell_and_never_zero(looks: Looks) -> None:
    looks.look({1: None}, utilisation=0.0, times=6)
    assert looks.of(1).sm is None


def test_a_process_that_rests_between_its_bursts_is_counted_where_the_card_rests(
    looks: Looks,
) -> None:
    for _ in range(4):
        looks.look({1: 0.8})
        looks.look({1: None}, utilisation=0.0)
    looks.look({1: None})  # it goes on
    assert looks.of(1).sm == pytest.approx(0.4)


def test_a_look_between_a_programs_end_and_the_news_of_it_counts_for_nothing(looks: Looks) -> None:
    looks.look({1: 0.97}, times=5)
    looks.look({1: None}, utilisation=0.0)
    assert looks.of(1).sm == pytest.approx(0.97)


def test_use_beside_others_counts_while_the_card_is_not_full(looks: Looks) -> None:
    looks.look({1: 0.3, 2: 0.2}, times=6)
    assert looks.of(1).sm == pytest.approx(0.3)
    looks.look({3: 0.5, 4: 0.5}, times=6)
    assert looks.of(3).sm is None


def test_a_stranger_that_works_on_the_card_is_company_and_one_that_rests_is_not(
    looks: Looks,
) -> None:
    looks.look({1: 0.5, STRANGER: 0.01}, times=6)
    assert looks.of(1).shared_s == 0.0
    looks.look({1: 0.5, STRANGER: 0.4})
    assert looks.of(1).shared_s == pytest.approx(1.0)


def test_of_an_attempt_that_was_adopted_it_is_unknown_how_long_it_shared(home: Home) -> None:
    times = SharedTime(home)
    for at in range(5):
        times.enter(Sight(gpus=(a_gpu(),), at=float(at)), [a_job(1)], owner)
    assert times.of(a_job(1)).shared_s is None


def test_a_gap_between_looks_teaches_nothing(looks: Looks) -> None:
    looks.look({1: 0.5})
    looks.look({1: 0.5}, seconds=GAP_S + 1)
    assert looks.of(1) == Measured()


@pytest.mark.parametrize(
    ("seconds", "shared_s", "alone", "slowdown"),
    [
        (200.0, 200.0, [100.0], 2.0),
        (150.0, 100.0, [100.0, 100.0, 900.0], 2.0),  # 50 s of work alone, 50 s in 100
        (90.0, 90.0, [100.0], 1.0),
        (100.0, 20.0, [90.0], None),  # too little of it was shared
        (100.0, None, [90.0], None),
        (100.0, 100.0, [], None),
        (500.0, 300.0, [100.0], None),  # it took longer alone than its like in all
        (-5.0, 100.0, [100.0], None),  # a clock was set back
    ],
)
def test_durations_alone_and_shared_say_how_much_slower_it_was_beside_others(
    seconds: float, shared_s: float | None, alone: list[float], slowdown: Any
) -> None:
    factor = slowdown_by_duration(seconds, shared_s, alone)
    assert factor == (None if slowdown is None else pytest.approx(slowdown))
