"""What a home has used, decayed: counted while attempts run, and found again after a restart."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.accounts import HALF_LIFE_S, Use, Wish, decayed_span
from launcher.gpu.reservations import ReservationBoard
from launcher.job import Resources
from launcher.scheduler.gpus.gpu_state import FLOOD_S, MEMORY_S, Accelerators, UseMeter
from launcher.states import Done
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import GIB, Clock, a_claim, a_gpu, a_seat, a_spec, enqueue, until

DAY = HALF_LIFE_S


def an_attempt(store: Store, name: str, claimed: float, ended: float | None, **seat: object) -> int:
    """An attempt that ran for so long."""
    spec = a_spec(name=f"command/{name}", resources=Resources(cpus=2, device="cpu", ram=GIB))
    (job,) = enqueue(store, spec)
    claim = store.scheduling.claim(job, a_seat(**seat), reason="fits", now=claimed)
    assert claim is not None
    if ended is not None:
        store.scheduling.finish(claim, Done(at=ended), outputs={}, now=ended)
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
