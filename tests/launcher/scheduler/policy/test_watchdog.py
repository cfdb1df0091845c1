"""Waiting times of jobs (for others, for their retry, and unexplained ones with messages), and clock changes."""

import itertools
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from launcher.queue.gpu.resources import ForeignReservation, core_resource_name
from launcher.queue.gpu.snapshot import GpuProcess
from launcher.queue.jobs.accounts import PeerScheduler, ResourceDemand
from launcher.queue.jobs.states import Failed, ReasonCode
from launcher.queue.scheduler.admission import Pauses
from launcher.queue.scheduler.cycle import CycleResult
from launcher.queue.scheduler.policy.ages import LONGEST_S, AgeTracker
from launcher.queue.scheduler.policy.backfill import (
    BACKFILL_S,
    HOLD_S,
    FirstJobReservation,
    ReservationAging,
)
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.disciplines import FIFO, order_by_policy, response_ratio
from launcher.queue.scheduler.policy.model import (
    Decision,
    Forecast,
    Machine,
    Running,
    Start,
    Wait,
    Waiting,
    make_forecast,
)
from launcher.queue.scheduler.policy.queue_lengths import queue_length
from launcher.queue.scheduler.policy.watchdog import PATIENCE_S, Watchdog, WatchdogReport
from launcher.queue.store.queue import Store
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_gpu, a_waiting, without_reason_data
from tests.launcher.queued import end, one, ready

# --- A wait that nothing explains is named after a while, and the job is tried where it fits


LEFT = a_gpu(total=24, used=3, processes=())  # memory of a program that is gone
MACHINE = Machine(cpus=4, ram=8 * GIB, ram_free=8 * GIB, gpus=(LEFT,))


def reviewed(
    *waiting: Waiting,
    machine: Machine = MACHINE,
    running: tuple[Running, ...] = (),
    decisions: list[Decision] | None = None,
    after_s: float = PATIENCE_S,
) -> WatchdogReport:
    """Decide again and again; return what came of it after so long."""
    watchdog, now = Watchdog(), 100.0
    made = decide(waiting, running, machine) if decisions is None else decisions
    assert not watchdog.review(waiting, made, running, machine, now).messages
    return watchdog.review(waiting, made, running, machine, now + after_s)


def test_job_without_a_cause_of_waiting_is_started_alone() -> None:
    first, second = (a_waiting(job, device="cuda", exclusive=True) for job in (1, 2))
    emptier = a_gpu(1, total=24, used=2.5, processes=())
    verdict = reviewed(first, second, machine=MACHINE._replace(gpus=(LEFT, emptier)))
    start, wait = verdict.decisions
    assert isinstance(start, Start)
    assert (start.devices, start.exclusive, start.vram) == (("GPU-1",), True, None)
    assert start.reason == (
        "tried alone on cuda:1 with 21.5 GiB free after 30 s without a known cause (waiting for an "
        "empty GPU (--exclusive): cuda:0 has 3 GiB in use by other users; cuda:1 has 2.5 GiB in "
        "use by other users)"
    )
    assert isinstance(wait, Wait)
    assert wait.code is ReasonCode.UNEXPLAINED
    assert [sentence.split()[0] for sentence in verdict.messages] == ["job=1", "job=2"]


def test_job_that_does_not_fit_is_reported_with_its_obstacle() -> None:
    verdict = reviewed(a_waiting(1, device="cuda", vram=22 * GIB))
    (wait,) = verdict.decisions
    assert isinstance(wait, Wait)
    assert wait.code is ReasonCode.UNEXPLAINED
    assert wait.reason == (
        "waiting for 22 GiB of GPU memory: cuda:0 has 21 GiB free. No job of yours and no other user "
        "explains it for 30 s or longer. 3 GiB of cuda:0 are in use, but the driver lists no process "
        "there. Reset the GPU or reboot to free the memory of ended processes"
    )


def test_warning_is_reported_once_and_again_after_a_cause() -> None:
    watchdog, job = Watchdog(), a_waiting(1, device="cuda", vram=22 * GIB)
    busy = Running(job=7, cpus=1, devices=("GPU-0",))
    news = []
    for now in range(0, 300, 10):
        running = [busy] if now == 150 else []
        made = decide([job], running, MACHINE)
        if watchdog.review([job], made, running, MACHINE, float(now)).messages:
            news.append(now)
    assert news == [30, 190]


def test_occasionally_slow_driver_does_not_reset_the_watchdog() -> None:
    watchdog, job = Watchdog(), a_waiting(1, device="cuda", exclusive=True)
    made = decide([job], [], MACHINE)
    for now in range(0, 30, 10):
        assert not watchdog.review([job], made, [], MACHINE, float(now)).messages
        assert not watchdog.review([], [], [], MACHINE, now + 5.0).messages
    assert watchdog.review([job], made, [], MACHINE, 30.0).messages
    watchdog.review([], [], [], MACHINE, 30.0 + PATIENCE_S)
    assert not watchdog.is_watching


def test_contradictory_rules_start_the_job_on_the_cpu_too() -> None:
    for reason in (ReasonCode.NO_ROOM, ReasonCode.WOULD_DELAY):
        odd: list[Decision] = [Wait(job=1, reason="waiting for job 9", code=reason)]
        (start,) = reviewed(a_waiting(1, cpus=9), decisions=odd).decisions
        assert isinstance(start, Start)
        assert (start.cpus, start.devices) == (4, ())
        assert start.reason.startswith("tried alone on the CPU after 30 s without")


def test_jobs_elsewhere_do_not_explain_waiting_for_an_empty_gpu() -> None:
    beside = Running(job=9, cpus=1)
    theirs = (ForeignReservation(user="ada", device="cores", amount=1),)
    (start,) = reviewed(
        a_waiting(1, device="cuda", exclusive=True),
        machine=MACHINE._replace(foreign=theirs),
        running=(beside,),
    ).decisions
    assert isinstance(start, Start)
    odd: list[Decision] = [Wait(job=1, reason="would delay", code=ReasonCode.WOULD_DELAY)]
    verdict = reviewed(a_waiting(1, device="cpu"), running=(beside,), decisions=odd)
    assert not verdict.messages


SOMEBODY = (GpuProcess(pid=7, used=GIB, user="ada"),)
CAUSES: dict[str, dict[str, Any]] = {
    "the time is not over": {"after_s": PATIENCE_S - 1},
    "one of ours runs": {"running": (Running(job=9, cpus=1, devices=("GPU-0",)),)},
    "another user has promised something": {
        "foreign": (ForeignReservation(user="ada", device="GPU-0", amount=5 * GIB),)
    },
    "another user waits for it": {
        "peers": (
            PeerScheduler(user="ada", waited_s=5.0, demand=ResourceDemand(since=0.0, gpus=1)),
        )
    },
    "all cores are taken": {"running": (Running(job=9, cpus=4),)},
    "somebody works there": {"gpus": (replace(LEFT, processes=SOMEBODY),)},
    "somebody hidden works there": {"gpus": (replace(LEFT, utilisation=0.9),)},
    "the driver does not tell who": {"gpus": (replace(LEFT, processes=None),)},
    "the card is lost": {"gpus": (replace(LEFT, fault="fell off the bus", used=None),)},
    "the driver does not tell how much": {"gpus": (replace(LEFT, used=None),)},
    "its owner's rules": {"rules": SharingRules(idle_s=60)},
    "all is kept for others": {"rules": SharingRules(reserve=24 * GIB)},
    "there is no such card": {"gpus": (replace(LEFT, index=1),)},
}


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_explained_wait_is_not_reported(cause: dict[str, Any]) -> None:
    job = a_waiting(1, device="cuda:0", exclusive=True)
    known = {"after_s", "running"}
    changes = {key: value for key, value in cause.items() if key not in known}
    given = {key: value for key, value in cause.items() if key in known}
    verdict = reviewed(job, machine=MACHINE._replace(**changes), **given)
    assert not verdict.messages
    assert isinstance(verdict.decisions[0], Wait)
    assert verdict.decisions[0].code is not ReasonCode.UNEXPLAINED


def test_ram_used_by_other_programs_is_a_cause() -> None:
    job = a_waiting(1, device="cpu", ram=5 * GIB)
    verdict = reviewed(job, machine=MACHINE._replace(ram_free=GIB))
    assert not verdict.messages


def test_job_behind_one_with_a_cause_has_a_cause() -> None:
    first, second = a_waiting(1, device="cpu", ram=5 * GIB), a_waiting(2, device="cpu")
    machine = MACHINE._replace(ram_free=GIB)
    made = decide([first, second], [], machine, 0.0, FIFO)
    assert [getattr(wait, "code", None) for wait in made] == [
        ReasonCode.NO_ROOM,
        ReasonCode.WOULD_DELAY,
    ]
    assert not reviewed(first, second, machine=machine, decisions=made).messages


def test_a_full_group_is_a_cause() -> None:
    job = a_waiting(1, device="cpu", group="night")
    verdict = reviewed(job, machine=MACHINE._replace(limits={"night": 0}))
    assert not verdict.messages


# --- A wall clock that is set by years while jobs wait and run changes nothing for them


YEARS = 30 * 365 * 86_400.0
TODAY = 1.8e9
ONE_CARD = Machine(cpus=4, ram=8 * GIB, ram_free=8 * GIB, gpus=(a_gpu(total=24),))
WIDE = a_waiting(1, device="cuda", vram=20 * GIB)._replace(since=TODAY - 100, seconds=50.0)
SMALL = a_waiting(2, device="cuda", vram=GIB)._replace(since=TODAY - 10, seconds=500.0)
RUNS = Running(
    job=9,
    cpus=1,
    devices=("GPU-0",),
    vram=10 * GIB,
    since=TODAY - 300,
    ends=TODAY + 300,
    forecast=make_forecast([600.0]),
)


def decided(ages: AgeTracker, now: float, steady: float) -> tuple[list[Waiting], list[Decision]]:
    line, running = ages.correct_clock([WIDE, SMALL], [RUNS], now=now, steady=steady)
    line = order_by_policy(line, now)
    return line, decide(line, running, ONE_CARD, now)


def _at_moved_clock(decision: Decision, jump: float) -> Decision:
    """Return what is decided by a clock that was set: a place is kept until another moment."""
    if isinstance(decision, Wait) and decision.reserved_from is not None:
        return decision._replace(reserved_from=decision.reserved_from + jump)
    return decision


@pytest.mark.parametrize("jump", [YEARS, -YEARS], ids=["forward", "back"])
def test_clock_change_does_not_change_decisions(jump: float) -> None:
    ages, still = AgeTracker(), AgeTracker()
    before = decided(ages, TODAY, 5000.0)
    assert before == decided(still, TODAY, 5000.0)
    line, decisions = decided(ages, TODAY + jump + 7, 5007.0)
    unmoved, expected = decided(still, TODAY + 7, 5007.0)
    assert decisions == [_at_moved_clock(each, jump) for each in expected]
    assert [job.job for job in line] == [job.job for job in unmoved]
    assert [round(TODAY + jump + 7 - job.since) for job in line] == [
        round(TODAY + 7 - job.since) for job in unmoved
    ]


@pytest.mark.parametrize("stamp", [TODAY + YEARS, TODAY - YEARS], ids=["the future", "the past"])
def test_job_queued_under_a_wrong_clock_starts_with_age_zero(
    stamp: float,
) -> None:
    ages, job = AgeTracker(), WIDE._replace(since=stamp)
    ratios = []
    for second in (0.0, 100.0, 200.0):
        ((job_now,), _) = ages.correct_clock([job], [], now=TODAY + second, steady=second)
        ratios.append(response_ratio(job_now, TODAY + second))
    assert ratios[0] == pytest.approx(1)
    assert ratios == sorted(set(ratios))


def test_plausible_times_are_unchanged() -> None:
    old = WIDE._replace(since=TODAY - LONGEST_S + 1)
    later = SMALL._replace(since=TODAY + 400 * 86_400, priority=-400)
    line, running = AgeTracker().correct_clock([old, later], [RUNS], now=TODAY, steady=1.0)
    assert line == [old, later]
    assert running == [RUNS]


def test_ages_of_removed_jobs_are_deleted() -> None:
    ages = AgeTracker()
    ages.correct_clock([WIDE], [RUNS], now=TODAY, steady=0.0)
    ages.correct_clock([], [], now=TODAY, steady=1.0)
    ((job,), _) = ages.correct_clock([WIDE], [], now=TODAY + YEARS, steady=2.0)
    assert job.since == TODAY + YEARS


@pytest.mark.parametrize("now", [TODAY - YEARS, TODAY, TODAY + YEARS])
@pytest.mark.parametrize("ends", [TODAY - YEARS, TODAY + YEARS, None])
def test_decision_works_for_any_times(now: float, ends: float | None) -> None:
    running = [RUNS._replace(ends=ends)]
    decisions = decide(order_by_policy([WIDE, SMALL], now), running, ONE_CARD, now)
    assert {decision.job for decision in decisions} == {1, 2}
    wide = next(decision for decision in decisions if decision.job == 1)
    assert isinstance(wide, Wait)
    assert "waiting for 20 GiB of GPU memory: cuda:0 has 24 GiB free" in wide.reason
    (alone,) = decide([WIDE], [], ONE_CARD, now)
    assert isinstance(alone, Start)


@pytest.mark.parametrize("limit", [1.0, 10 * 365 * 86_400.0], ids=["1 s", "10 years"])
def test_extreme_time_limits_do_not_delay_jobs_forever(limit: float) -> None:
    forecast = Forecast(limit=limit)
    run = RUNS._replace(forecast=forecast, ends=forecast.end(TODAY - 300, TODAY))
    small = SMALL._replace(forecast=forecast, seconds=forecast.quantile(0.75))
    wide, other = decide([WIDE, small], [run], ONE_CARD, TODAY)
    assert isinstance(wide, Wait)
    assert "cuda:0 will have room " in wide.reason
    # the small one fits together with the wide one in any case
    assert isinstance(other, Start)


# --- what is said of the place that is kept for the first waiting job: when there is room


NOW = 1000.0


@pytest.mark.parametrize(
    ("at", "slip", "said"),
    [
        (inf, 0.0, ""),
        (NOW - 5, 0.0, " within a second"),
        (NOW + 0.4, 0.0, " within a second"),
        (NOW + 1, 0.0, " in about 1 s"),
        (NOW + 90, 59.9, " in about 1 m 30 s"),
        (NOW + 90, 60.0, " in about 1 m 30 s or up to 1 m later"),
    ],
)
def test_expected_start_is_described_in_words(at: float, slip: float, said: str) -> None:
    kept = FirstJobReservation(
        job="7",
        group="",
        starts_at=(at, 1),
        max_delay_s=slip,
        where="a GPU",
        cpus=1,
        ram=0,
        room_beside={},
    )
    assert kept.describe_time(NOW) == said
    assert kept.describe(NOW) == f"job 7, which is first and will get a GPU{said}"


# --- expected length of the queue: it bounds how long jobs are passed, so nothing may inflate it


HOUR, TEN_YEARS = 3600.0, 10 * 365 * 86_400.0
EIGHT_CORES = Machine(cpus=8)


def test_ten_year_limit_does_not_give_a_ten_year_queue() -> None:
    limit = make_forecast([], TEN_YEARS)
    runs = Running(cpus=8, since=0.0, ends=TEN_YEARS, forecast=limit)
    job = a_waiting(1, cpus=8)._replace(forecast=limit, seconds=TEN_YEARS)
    assert queue_length([(job, 3)], [runs], EIGHT_CORES, HOUR) == pytest.approx(3 * 2 * HOUR + HOUR)


def test_one_second_limit_bounds_the_expected_duration() -> None:
    limit = make_forecast([HOUR], 1.0)
    runs = Running(cpus=8, since=0.0, ends=1.0, forecast=limit)
    job = a_waiting(1, cpus=8)._replace(forecast=limit, seconds=1.0)
    assert queue_length([(job, 3)], [runs], EIGHT_CORES, 0.5) == pytest.approx(3.5)


def test_running_jobs_without_ends_do_not_add_up_their_durations() -> None:
    runs = [Running(cpus=1, since=0.0) for _ in range(8)]
    length_s = queue_length([(a_waiting(1, cpus=1), 8)], runs, EIGHT_CORES, 2 * HOUR)
    assert length_s == pytest.approx(4 * HOUR + 2 * HOUR), "as long again: 4 h in all each"


def test_job_longer_than_most_similar_ones_is_expected_to_run_like_the_longest() -> None:
    known = make_forecast([HOUR, HOUR, HOUR, 10 * HOUR])
    runs = Running(cpus=8, since=0.0, ends=HOUR, forecast=known)
    assert queue_length([], [runs], EIGHT_CORES, 2 * HOUR) == pytest.approx(8 * HOUR)


@pytest.mark.parametrize("since", [None, float("nan"), float("inf"), -float("inf")])
def test_impossible_times_are_ignored(since: float | None) -> None:
    runs = Running(cpus=8, since=since, forecast=make_forecast([HOUR]))
    assert queue_length([(a_waiting(1, cpus=8), 1)], [runs], EIGHT_CORES, 0.0) >= HOUR


def test_zero_duration_is_valid_and_an_invalid_one_is_none() -> None:
    measured = [2.0, 0.0, 0.5, -1.0, float("inf"), float("nan")]
    assert make_forecast(measured, 0.0).seconds == (0.0, 0.5, 2.0)
    assert [make_forecast((), limit).limit for limit in (0.0, -1.0, float("inf"), 3.0)] == [
        None,
        None,
        None,
        3.0,
    ]


# --- a job that waits for cores of other queues is passed by our later jobs for a limited time


TWO = 0b11
CROWDED = Machine(
    cpus=2,
    cores=TWO,
    foreign=(ForeignReservation(user="ada", device=core_resource_name(TWO), amount=1),),
)
LASTS_S = 20.0


def test_large_job_is_passed_by_later_ones_for_a_limited_time() -> None:
    patience, big, running = ReservationAging(), a_waiting(1, cpus=2), list[tuple[float, Running]]()
    started: list[float] = []
    step, number = 1.0, 2
    for second in range(int(2 * (BACKFILL_S + HOLD_S + LASTS_S))):
        now = second * step
        running = [(end, one) for end, one in running if end > now]
        waiting = patience.with_held_reservations([big, a_waiting(number)], now)
        decisions = decide(waiting, [one for _, one in running], CROWDED)
        patience.record_decisions(decisions, now)
        assert isinstance(decisions[0], Wait)
        assert "1 of 2 reserved by another queue of user ada" in decisions[0].reason
        if isinstance(decisions[1], Start):
            started.append(now)
            running.append((now + LASTS_S, Running(job=number, cpus=1)))
            number += 1
    gaps = [later - before for before, later in itertools.pairwise(started)]
    # our core was reserved for it once in each round, for a limited time
    assert max(gaps) >= HOLD_S
    assert max(gaps) <= HOLD_S + LASTS_S + 2
    assert len([gap for gap in gaps if gap > LASTS_S]) == 2


def test_first_job_with_a_reservation_starts_when_others_leave() -> None:
    big, small = (
        Waiting(job=1, resources=a_waiting(1, cpus=2).resources, holds_reservation=True),
        a_waiting(2),
    )
    first, second = decide([big, small], [], CROWDED)
    assert without_reason_data(first) == Wait(
        job=1,
        reason="waiting for 2 CPU cores: 1 of 2 free; 1 of 2 reserved by another queue of user ada",
        blocked_by_others=True,
    )
    assert without_reason_data(second) == Wait(
        job=2, reason="waiting for job 1, which is first and will get 2 CPU cores"
    )
    first, _ = decide([big, small], [], Machine(cpus=2, cores=TWO))
    assert isinstance(first, Start)


def test_memory_used_by_other_programs_is_not_reserved_for_a_job() -> None:
    """It is in use by programs that are none of a launcher's, which may run for ever."""
    machine = Machine(cpus=2, ram=8 * GIB, ram_free=GIB)
    large = Waiting(job=1, resources=a_waiting(1, ram=4 * GIB).resources, holds_reservation=True)
    first, second = decide([large, a_waiting(2, ram=GIB // 2)], [], machine)
    assert isinstance(first, Wait)
    assert not first.blocked_by_others
    assert isinstance(second, Start)


# --- pauses of waiting jobs over the turns of a scheduler, on a real queue


def paused_job(store: Store, *, failed_at: float, backoff_s: float) -> int:
    """Queue a job that failed once and waits for its retry."""
    job = one(store, retries=1, backoff_s=backoff_s)
    failed = Failed(at=failed_at, error="no network")
    end(store, job, failed, now=failed_at)
    return job


def look_again_s(pauses: Pauses, now: float) -> float:
    """End the pauses whose time is over. Return the seconds until the next end."""
    result = CycleResult()
    pauses.end_due(now, result)
    return result.max_sleep_s


def test_next_cycle_is_at_the_end_of_the_next_pause(store: Store) -> None:
    job, pauses = (
        paused_job(store, failed_at=100.0, backoff_s=10.0),
        Pauses(store.ready_jobs),
    )
    assert look_again_s(pauses, 108.0) == 2.0
    assert ready(store) == []
    assert look_again_s(pauses, 110.0) > 2.0
    assert ready(store) == [job]


def test_new_pause_is_considered_after_a_reread(store: Store) -> None:
    pauses = Pauses(store.ready_jobs)
    nothing_to_end = look_again_s(pauses, 100.0)
    job = paused_job(store, failed_at=100.0, backoff_s=1.0)
    assert look_again_s(pauses, 100.5) == nothing_to_end
    pauses.mark_stale()
    assert look_again_s(pauses, 100.5) == 0.5
    look_again_s(pauses, 101.0)
    assert ready(store) == [job]


def test_clock_set_back_ends_earlier_pauses(store: Store) -> None:
    job, pauses = (
        paused_job(store, failed_at=10_000.0, backoff_s=3.0),
        Pauses(store.ready_jobs),
    )
    assert look_again_s(pauses, 10_001.0) == 2.0
    look_again_s(pauses, 5_000.0)
    assert ready(store) == [job]
