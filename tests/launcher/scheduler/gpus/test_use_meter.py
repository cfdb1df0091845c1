"""What a home has used, decayed, and what attempts teach about sharing a GPU."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.accounts import HALF_LIFE_S, Use, Wish, decayed_span
from launcher.gpu.monitor import Sight
from launcher.gpu.reservations import ReservationBoard
from launcher.gpu.snapshot import GpuProcess
from launcher.job import Resources
from launcher.scheduler.gpus.gpu_state import FLOOD_S, MEMORY_S, Accelerators, UseMeter
from launcher.scheduler.gpus.shared_time import GAP_S, SharedTime, slowdown_by_duration
from launcher.states import Done
from launcher.store.queue import Store
from launcher.store.rows import Claim
from launcher.store.usage import Measured
from launcher.system.paths import Home
from tests.build import GIB, Clock, a_claim, a_gpu, a_spec, until
from tests.launcher.queued import end, one, seated

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
