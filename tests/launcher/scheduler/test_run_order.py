"""Whose jobs come next between runs, replayed in time on a machine of equal cards."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.jobs.accounts import FairShareAccount, gpu_equivalents, read_account
from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.policy.model import Running, Waiting
from launcher.queue.scheduler.waiting_line import (
    NEW_RUN_CREDIT_S,
    VtimeInitializer,
    order_by_fair_share,
)
from launcher.queue.store.lanes import PRIORITY_POINT_S, rank_of

HOUR = 3600.0


def a_job(
    number: int,
    run: str = "a",
    *,
    priority: int = 0,
    submitted: float = 0.0,
    gpus: int = 1,
    seconds: float | None = None,
) -> Waiting:
    """A job that asks for whole cards."""
    return Waiting(
        job=number,
        resources=Resources(gpus=gpus, device="cuda"),
        run=run,
        priority=priority,
        since=rank_of(submitted, priority),
        seconds=seconds,
    )


def order(*jobs: Waiting, **context: object) -> list[int]:
    return [job.job for job in order_by_fair_share(jobs, **context)]  # type: ignore[arg-type]


@dataclass
class Cards:
    """Equal cards, jobs in the order of `order_by_fair_share`, and accounts as the store keeps them."""

    cards: int
    now: float = 0.0
    waiting: list[Waiting] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    ends: list[tuple[float, int]] = field(default_factory=list)
    accounts: dict[str, FairShareAccount] = field(default_factory=dict)
    card_s: dict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # seconds of ended jobs
    started: dict[int, float] = field(default_factory=dict)
    newcomers: VtimeInitializer = field(default_factory=VtimeInitializer)
    shares: Mapping[str, float] = field(default_factory=dict)  # by run; 1 where it is left out

    def start(self, lasts: Callable[[Waiting], float]) -> None:
        """Start jobs in turn until one does not fit: its cards are kept."""
        free = self.cards - sum(len(run.devices) for run in self.running)
        there = {
            job.run: self.accounts.get(
                job.run, FairShareAccount(share=self.shares.get(job.run, 1.0))
            )
            for job in self.waiting
        }
        self.accounts |= self.newcomers.initialize(there, self.running, self.now)
        for job in order_by_fair_share(self.waiting, self.running, self.accounts, self.now):
            if job.resources.gpus > free:
                return
            free -= job.resources.gpus
            self.waiting.remove(job)
            devices = ("card",) * job.resources.gpus
            place = Running(
                job=job.job, cpus=1, devices=devices, run=job.run, since=self.now,
                ends=None if job.seconds is None else self.now + job.seconds,
            )  # fmt: skip
            self.running.append(place)
            self.started[job.job] = self.now
            heappush(self.ends, (self.now + lasts(job), job.job))

    def end(self) -> Running:
        """Go on to the next end."""
        self.now, number = heappop(self.ends)
        (place,) = (run for run in self.running if run.job == number)
        self.running.remove(place)
        assert place.since is not None
        had = (self.now - place.since) * gpu_equivalents(place.devices, place.cpus)
        self.accounts[place.run] = self.accounts[place.run].charge_attempt(had, self.now)
        self.card_s[place.run] += had
        return place


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cards", [1, 4])
def test_two_endless_runs_get_gpu_time_by_share_within_one_job_per_gpu(
    cards: int, seed: int
) -> None:
    draw, longest, shares = random.Random(seed), 10 * HOUR, {"a": 1.0, "b": 3.0}
    machine, numbers = Cards(cards, shares=shares), iter(range(1, 10**9))
    for _ in range(1500):
        for run in shares:
            while sum(job.run == run for job in machine.waiting) < cards:
                machine.waiting.append(a_job(next(numbers), run))
        machine.start(lambda _: draw.uniform(1.0, longest))
        machine.end()
        gap = machine.card_s["a"] - machine.card_s["b"] / 3
        assert abs(gap) <= longest * cards
    assert machine.card_s["b"] / machine.card_s["a"] == pytest.approx(3, rel=0.01 * cards)


def test_short_run_starts_at_the_next_ends_despite_a_thousand_jobs() -> None:
    machine = Cards(2, waiting=[a_job(n, "sweep") for n in range(1000)])
    for _ in range(20):
        machine.start(lambda _: HOUR)
        machine.end()
    quick = [a_job(n, "quick", submitted=machine.now) for n in range(5000, 5003)]
    machine.waiting += quick
    for _ in range(3):
        machine.start(lambda _: HOUR)
        machine.end()
    assert all(job.job in machine.started for job in quick)


def test_plain_order_would_place_the_short_run_last() -> None:
    sweep = [a_job(n, "sweep") for n in range(1000)]
    quick = [a_job(5000, "quick", submitted=1.0)]
    assert order(*sweep, *quick)[:2] == [0, 5000]
    assert order(*sweep, *(job._replace(run="sweep") for job in quick))[-1] == 5000


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.floats(0, 1e6)), max_size=30),
    st.floats(0.001, 1000),
)
def test_single_run_has_policy_order_for_any_usage(
    jobs: list[tuple[int, float]], share: float
) -> None:
    waiting = [
        a_job(n, priority=priority, submitted=submitted)
        for n, (priority, submitted) in enumerate(jobs)
    ]
    accounts = {"a": FairShareAccount(vtime=1e9, share=share)}
    assert order_by_fair_share(waiting, accounts=accounts, now=2e6) == waiting


@given(st.data())
def test_order_is_a_stable_permutation_that_keeps_the_order_within_runs(
    data: st.DataObject,
) -> None:
    runs, odd = ["a", "b", "c"], [nan, inf, -inf, -1.0, 0.0, 1e30]
    number = st.one_of(st.floats(0, 1e6), st.sampled_from(odd))
    waiting = [
        a_job(n, data.draw(st.sampled_from(runs)), priority=data.draw(st.integers(-2, 2)))._replace(
            seconds=data.draw(st.none() | number),
        )
        for n in range(data.draw(st.integers(0, 12)))
    ]
    running = [
        Running(
            cpus=1, devices=("x",), run=data.draw(st.sampled_from(runs)),
            since=data.draw(st.none() | number), ends=data.draw(st.none() | number),
        )
        for _ in range(data.draw(st.integers(0, 4)))
    ]  # fmt: skip
    accounts = {run: read_account(1, run, *(data.draw(number) for _ in range(4))) for run in runs}
    ordered = order_by_fair_share(waiting, running, accounts, 1e6)
    assert ordered == order_by_fair_share(waiting, running, accounts, 1e6)
    assert sorted(job.job for job in ordered) == [job.job for job in waiting]
    for run in runs:
        own = [job.job for job in ordered if job.run == run]
        assert own == sorted(own)


def test_higher_priority_of_another_run_is_first_for_any_usage() -> None:
    accounts = {"busy": FairShareAccount(vtime=100 * HOUR)}
    urgent = a_job(2, "busy", priority=1)
    assert order(a_job(1, "a"), urgent, accounts=accounts) == [2, 1]


def test_run_without_service_for_a_day_gains_a_priority_point() -> None:
    old, urgent = a_job(1, "old"), a_job(2, "new", priority=1, submitted=PRIORITY_POINT_S)
    accounts = {
        "old": FairShareAccount(updated_at=0.0),
        "new": FairShareAccount(vtime=HOUR, updated_at=2 * PRIORITY_POINT_S),
    }
    assert order(old, urgent, accounts=accounts, now=PRIORITY_POINT_S - 1) == [2, 1]
    assert order(old, urgent, now=3 * PRIORITY_POINT_S, accounts=accounts) == [1, 2]
    runs = Running(cpus=1, devices=("x",), run="old", since=0.0)
    assert order(old, urgent, running_jobs=[runs], now=3 * PRIORITY_POINT_S, accounts=accounts) == [
        2,
        1,
    ]


def test_clock_set_back_does_not_remove_a_priority_point() -> None:
    accounts = {"old": FairShareAccount(updated_at=1e9), "new": FairShareAccount(vtime=HOUR)}
    old, urgent = a_job(1, "old"), a_job(2, "new", priority=1, submitted=PRIORITY_POINT_S)
    assert order(old, urgent, now=2 * PRIORITY_POINT_S, accounts=accounts)[0] == 1


def test_running_jobs_count_with_past_and_expected_usage() -> None:
    since, ends = 0.0, 2 * HOUR
    busy = Running(cpus=1, devices=("x",), run="a", since=since, ends=ends)
    none = {"a": FairShareAccount(), "b": FairShareAccount()}
    assert order(a_job(1, "a"), a_job(2, "b"), running_jobs=[busy], accounts=none, now=60.0) == [
        2,
        1,
    ]
    had = {"a": FairShareAccount(), "b": FairShareAccount(vtime=1.5 * HOUR)}
    jobs = a_job(1, "a"), a_job(2, "b")
    assert order(*jobs, running_jobs=[busy], accounts=had, now=60.0) == [2, 1]
    assert order(*jobs, running_jobs=[busy._replace(ends=1800.0)], accounts=had, now=60.0) == [1, 2]


def test_new_run_starts_slightly_ahead_of_the_others() -> None:
    newcomers, old = VtimeInitializer(), {"old": FairShareAccount(vtime=100 * HOUR)}
    assert newcomers.initialize(old, [], 0.0) == old
    busy = Running(cpus=1, devices=("x",), run="old", since=0.0)
    many = old | {"new": FairShareAccount(), "back": FairShareAccount(vtime=1e9)}
    entered = newcomers.initialize(many, [busy], HOUR)
    assert {run: each.vtime / HOUR for run, each in entered.items()} == {
        "old": 100,
        "new": 101 - NEW_RUN_CREDIT_S / HOUR,
        "back": 101 + NEW_RUN_CREDIT_S / HOUR,
    }
    assert newcomers.initialize(many, [busy], 2 * HOUR) == many  # they are there already


def test_simultaneous_runs_stay_close_together() -> None:
    accounts = {"a": FairShareAccount(vtime=100 * HOUR), "b": FairShareAccount(vtime=HOUR)}
    entered = VtimeInitializer().initialize(accounts, [], 0.0)
    assert entered["b"].vtime == HOUR
    assert entered["a"].vtime == HOUR + NEW_RUN_CREDIT_S


def test_displayed_recent_usage_decays() -> None:
    used = FairShareAccount(used=8 * HOUR, updated_at=0.0)
    assert used.decayed_usage(2 * PRIORITY_POINT_S) == 2 * HOUR


def test_clock_set_back_does_not_increase_usage() -> None:
    ahead = FairShareAccount(used=HOUR, updated_at=1e9)
    assert ahead.decayed_usage(0.0) == HOUR
    after = ahead.charge_attempt(60.0, 0.0)
    assert (after.updated_at, after.used, after.vtime) == (0.0, HOUR + 60, 60.0)


def test_eight_empty_gpus_are_divided_by_share() -> None:
    jobs = [a_job(n, "a") for n in range(8)] + [a_job(n, "b") for n in range(8, 16)]
    first = [
        job.run for job in order_by_fair_share(jobs, accounts={"a": FairShareAccount(share=3.0)})
    ][:8]
    assert Counter(first) == {"a": 6, "b": 2}


def test_multi_gpu_job_is_charged_for_all_its_gpus() -> None:
    wide = [a_job(n, "wide", gpus=4) for n in range(2)]
    narrow = [a_job(n, "narrow") for n in range(2, 12)]
    assert order(*wide, *narrow)[:6] == [0, 2, 3, 4, 5, 1]


@pytest.mark.parametrize("streams", [1, 3])
def test_large_job_starts_despite_endless_runs(streams: int) -> None:
    shares = {"big": 0.1, **{f"narrow{n}": 10.0 for n in range(streams)}}
    machine, numbers = Cards(4, shares=shares), iter(range(1, 10**9))
    draw, big = random.Random(streams), 10**9
    machine.waiting.append(a_job(big, "big", gpus=4))
    for _ in range(4000):
        for run in shares:
            while sum(job.run == run for job in machine.waiting) < 5:
                late = a_job(next(numbers), run)._replace(since=1.0)
                machine.waiting.append(late)
        machine.start(lambda _: draw.uniform(60.0, HOUR))
        if big in machine.started:
            return
        machine.end()
    pytest.fail("the big job starved")


def test_new_runs_delay_an_old_one_by_at_most_a_day() -> None:
    machine = Cards(1, waiting=[a_job(n, "old") for n in range(2)])
    for number in range(100, 200):
        new = [a_job(number + 1000 * n, f"new{number}.{n}", submitted=machine.now) for n in (0, 1)]
        machine.waiting += new if number > 100 else []
        machine.start(lambda _: HOUR)
        machine.end()
    assert machine.started[1] <= PRIORITY_POINT_S + 2 * HOUR


def test_cores_count_as_a_fraction_of_a_gpu() -> None:
    assert gpu_equivalents((), 16) == 1.0
    assert gpu_equivalents(("x", "y"), 16) == 2.0
    assert gpu_equivalents(("x",), 64) == 4.0
