from collections.abc import Sequence
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.scheduler.policy.co_location import (
    MOST_SLOWED,
    UNKNOWN_LOAD,
    UNMEASURED_MOST,
    GpuLoad,
    can_share,
    format_job_names,
    make_load,
    relative_rates,
    total_load,
    why_cannot_share,
)
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.fair_share import demand_of
from launcher.queue.scheduler.policy.gpu_slot import FIRST_SIMILAR_S, MOST_UNMEASURED, UNMEASURED_S
from launcher.queue.scheduler.policy.model import Machine, Running, Start, Wait
from launcher.queue.store.lanes import PRIORITY_POINT_S
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_gpu, a_waiting

uses = st.floats(0, 1)
loads = st.builds(make_load, st.none() | uses, st.none() | st.floats(1, 4, allow_nan=False))


def slowdown_beside(job: GpuLoad, others: Sequence[GpuLoad]) -> float:
    return 1 / relative_rates([job, *others])[0]


def test_jobs_with_low_utilization_are_not_slowed_down() -> None:
    assert slowdown_beside(GpuLoad(sm=0.3), [GpuLoad(sm=0.5)]) == 1
    assert can_share(GpuLoad(sm=0.3), (GpuLoad(sm=0.5),))
    assert can_share(GpuLoad(sm=0.05), (GpuLoad(sm=0.05),) * 19)  # twenty times 5 %


def test_jobs_above_full_utilization_share_gpu_time() -> None:
    both = [GpuLoad(sm=0.6), GpuLoad(sm=0.6)]
    assert relative_rates(both) == pytest.approx([1 / 1.2] * 2)
    assert can_share(
        *both[:1], (both[1],)
    )  # each is 1.2 times slower, and together they do 1.67 times as much
    assert not can_share(
        GpuLoad(sm=0.7), (GpuLoad(sm=0.6),)
    )  # 1.3 times by prediction may be more in truth
    assert not can_share(GpuLoad(sm=0.05), (GpuLoad(sm=0.05),) * 25)


def test_busy_gpu_gets_another_job_only_if_total_throughput_grows() -> None:
    full = (GpuLoad(sm=0.125),) * 9  # 1.125 of the GPU: 8 times the work of one
    assert not can_share(GpuLoad(sm=0.125), full)
    assert can_share(GpuLoad(sm=0.01), (GpuLoad(sm=0.9),) + (GpuLoad(sm=0.01),) * 9)


def test_job_with_full_utilization_gets_no_co_location() -> None:
    alone = GpuLoad(sm=0.93, measured=True)
    assert not can_share(GpuLoad(sm=0.01), (alone,))
    assert can_share(
        GpuLoad(sm=0.01), (alone._replace(steps=True),)
    )  # it is noticed if that slows it down


def test_small_slowdowns_by_many_jobs_are_multiplied() -> None:
    job = make_load(0.03, 1.6 ** (1 / 15))
    assert can_share(job, (job,) * 7)
    assert not can_share(job, (job,) * 10), "together they would be 1.37 times as slow"


def test_a_measured_slowdown_counts_more_than_the_load() -> None:
    busy = GpuLoad(sm=1.0, slowdown=1.1)
    assert slowdown_beside(busy, [busy]) == pytest.approx(1.1)
    assert can_share(busy, (busy,))
    idle = GpuLoad(sm=0.1, slowdown=2.1)
    assert not can_share(idle, (idle,))


def test_eight_unmeasured_jobs_fill_a_gpu() -> None:
    assert can_share(UNKNOWN_LOAD, (UNKNOWN_LOAD,) * 7)
    assert not can_share(UNKNOWN_LOAD, (UNKNOWN_LOAD,) * 8)
    measured = GpuLoad(sm=0.05, measured=True)
    assert can_share(
        UNKNOWN_LOAD, (measured,) * 8
    )  # the ramp doubles once the first ones are measured


def test_load_of_other_users_is_considered() -> None:
    assert can_share(UNKNOWN_LOAD, (UNKNOWN_LOAD,) * 3, 0.5)
    assert not can_share(UNKNOWN_LOAD, (UNKNOWN_LOAD,) * 4, 0.5)


def test_no_job_is_slowed_down_by_more_than_a_third() -> None:
    victim = GpuLoad(sm=0.1, slowdown=1.4)
    other = GpuLoad(sm=0.1, slowdown=1.0)
    assert not can_share(victim, (other,))
    assert not can_share(other, (victim,))


@given(loads, st.lists(loads, max_size=3), loads)
def test_co_location_never_speeds_up_a_job(
    job: GpuLoad, others: list[GpuLoad], another: GpuLoad
) -> None:
    assert 1 <= slowdown_beside(job, others) <= slowdown_beside(job, [*others, another])


@given(uses, uses, st.lists(uses.map(GpuLoad), min_size=1, max_size=3))
def test_admitted_job_is_also_admitted_with_a_lower_load(
    use: float, less: float, others: list[GpuLoad]
) -> None:
    if (
        less <= use
        and can_share(GpuLoad(sm=use), tuple(others))
        and total_load([GpuLoad(use), *others]) <= 1
    ):
        assert can_share(GpuLoad(sm=less), tuple(others))


@given(loads, loads)
def test_two_jobs_that_share_a_gpu_take_at_most_a_third_longer(
    first: GpuLoad, second: GpuLoad
) -> None:
    if can_share(first, (second,)):
        assert slowdown_beside(first, [second]) <= MOST_SLOWED + 1e-6
        assert slowdown_beside(second, [first]) <= MOST_SLOWED + 1e-6


@pytest.mark.parametrize("sm", [nan, inf, -0.1, 1.5, "much", None, 10**400])
@pytest.mark.parametrize("slowdown", [nan, inf, -1.0, 0.0, "slow", None, 1e9])
def test_impossible_load_is_unknown(sm: Any, slowdown: Any) -> None:
    assert make_load(sm, slowdown) == UNKNOWN_LOAD


def test_speedup_in_co_location_counts_as_no_slowdown() -> None:
    assert make_load(0.5, 0.9) == GpuLoad(sm=0.5, slowdown=1.0)


def test_hundreds_of_hanging_jobs_cause_no_overflow() -> None:
    assert not can_share(GpuLoad(0.5, 100.0), (GpuLoad(0.5, 100.0),) * 500)


# --- as the policy decides


def runs(job: int, device: str = "GPU-0", **changes: Any) -> Running:
    values: dict[str, Any] = {"vram": GIB, "devices": (device,)}
    return Running(job=job, cpus=1, **values | changes)


def wants(job: int, sm: float | None = None, **changes: Any) -> Any:
    return a_waiting(job, vram=GIB, **changes)._replace(load=GpuLoad(sm=sm))


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["1"], "job 1"),
        (["1", "2", "3"], "jobs 1, 2, 3"),
        (["1", "2", "3", "4", "5"], "jobs 1, 2, 3 and 2 more"),
    ],
)
def test_three_jobs_are_named_and_the_others_counted(names: list[str], text: str) -> None:
    assert format_job_names(names) == text


def test_job_is_not_placed_with_a_busy_one_and_the_reason_names_it() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(),))
    (wait,) = decide([wants(1, 0.97)], [runs(3, load=GpuLoad(sm=0.97, measured=True))], machine)
    assert isinstance(wait, Wait)
    assert wait.reason == (
        "waiting for 1 GiB of GPU memory: cuda:0 is 97 % busy with job 3, another job would slow each down 1.9 times"
    )


def test_a_reason_names_other_users_who_keep_a_gpu_busy() -> None:
    there = [("3", GpuLoad(sm=0.5, measured=True))]
    assert why_cannot_share(GpuLoad(sm=0.6), there, 0.3).startswith(
        "is 80 % busy with job 3 and other users"
    )
    assert why_cannot_share(GpuLoad(sm=0.6), there).startswith("is 50 % busy with job 3,")


def test_job_is_placed_where_total_throughput_is_highest() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(0), a_gpu(1), a_gpu(2)))
    running = [
        runs(3, "GPU-0", load=GpuLoad(sm=0.8)),
        runs(4, "GPU-1", load=GpuLoad(sm=0.2)),
        runs(5, "GPU-2", load=GpuLoad(sm=0.6)),
    ]
    (start,) = decide([wants(1, 0.7)], running, machine)
    assert isinstance(start, Start)
    assert start.devices == ("GPU-1",)


def test_jobs_with_declared_memory_share_a_gpu_at_once() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    decisions = decide([wants(job) for job in range(1, 12)], [], machine)
    assert [type(one) for one in decisions] == [Start] * 8 + [Wait] * 3
    assert isinstance(decisions[8], Wait)
    assert decisions[8].reason.startswith(
        "waiting for 1 GiB of GPU memory: cuda:0 is expected to be 100 % busy with jobs 1, 2, 3 and 5 more"
    )
    light = [wants(job, 0.05) for job in range(1, 15)]
    assert all(isinstance(one, Start) for one in decide(light, [], machine))


def test_configured_number_of_jobs_shares_a_gpu() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    fixed = machine._replace(rules=SharingRules(max_per_gpu=3, adaptive=False))
    decisions = decide([wants(job, 0.97) for job in range(1, 5)], [], fixed)
    assert [type(one) for one in decisions] == [Start, Start, Start, Wait]
    capped = machine._replace(rules=SharingRules(max_per_gpu=3))
    decisions = decide([wants(job) for job in range(1, 5)], [], capped)
    assert [type(one) for one in decisions] == [Start, Start, Start, Wait]


def test_without_reported_loads_a_fixed_number_shares_a_gpu() -> None:
    machine = Machine(cpus=64, gpus=(replace(a_gpu(total=80), reports_load=False),))
    decisions = decide([wants(job) for job in range(1, 6)], [], machine)
    assert [type(one) for one in decisions] == [Start] * UNMEASURED_MOST + [Wait]
    assert isinstance(decisions[-1], Wait)
    assert (
        "its limit is 4 jobs, as its driver does not report the load per job"
        in decisions[-1].reason
    )


# --- jobs of unknown memory


def unknown(job: int, similar: str, young_s: float) -> Running:
    return runs(job, vram=None, estimated=True, similar=similar, unmeasured_s=young_s)


def test_without_reported_loads_a_known_heavy_job_is_not_shared() -> None:
    machine = Machine(cpus=64, gpus=(replace(a_gpu(total=80), reports_load=False),))
    (wait,) = decide([wants(1)], [runs(3, load=GpuLoad(sm=0.97))], machine)
    assert isinstance(wait, Wait)
    assert "is expected to be 97 % busy with job 3" in wait.reason
    (start,) = decide([wants(1)], [runs(3, load=GpuLoad(sm=0.2))], machine)
    assert isinstance(start, Start)


def asks(job: int, similar: str) -> Any:
    return a_waiting(job, device="cuda")._replace(similar=similar)


def test_jobs_wait_a_limited_time_for_the_first_similar_one() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    for young_s, starts in ((FIRST_SIMILAR_S - 1, False), (FIRST_SIMILAR_S, True)):
        (decision,) = decide([asks(1, "train")], [unknown(9, "train", young_s)], machine)
        assert isinstance(decision, Start) is starts
    (other,) = decide([asks(1, "test")], [unknown(9, "train", 0.0)], machine)
    assert isinstance(other, Start)


@pytest.mark.parametrize(("young_s", "starts"), [(UNMEASURED_S - 1, False), (UNMEASURED_S, True)])
def test_four_jobs_of_unknown_memory_run_on_a_gpu_until_one_like_them_holds_memory(
    young_s: float, starts: bool
) -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    there = [unknown(job, "train", young_s) for job in range(11, 11 + MOST_UNMEASURED)]
    (decision,) = decide([asks(1, "train")], there, machine)
    assert isinstance(decision, Start) is starts
    measured = [run._replace(vram=2 * GIB, unmeasured_s=None) for run in there]
    (known,) = decide([asks(1, "train")._replace(vram=3 * GIB)], measured, machine)
    assert isinstance(known, Start)


def kept_waiting() -> list[tuple[Any, list[Running], Machine]]:
    """Jobs that wait for the measurement of running ones: waiting jobs, running jobs, and the machine."""
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    full = Machine(cpus=64, gpus=(replace(a_gpu(total=80), utilisation=1.0),))
    young = [unknown(job, "train", FIRST_SIMILAR_S)._replace(ends=500.0) for job in (6, 7, 8, 9)]
    first = unknown(9, "train", 0.0)._replace(ends=500.0, since=0.0)
    return [
        (asks(1, "train"), [first], machine),
        (asks(1, "train"), young, machine),
        (wants(1), [runs(9, ends=500.0, since=0.0)], full),
    ]


@pytest.mark.parametrize(("job", "there", "machine"), kept_waiting())
def test_job_waiting_for_a_measurement_has_no_expected_start_and_delays_no_other(
    job: Any, there: list[Running], machine: Machine
) -> None:
    job = job._replace(backfill_until=60.0)
    (wait,) = decide([job], there, machine, 10.0)
    assert isinstance(wait, Wait)
    assert "will have room" not in wait.reason
    assert "is kept for it" not in wait.reason
    assert (wait.lacking_resource, wait.reserved_from) == (None, None)
    assert demand_of([job], [wait], machine) == (None, 0), "others leave it nothing"


def test_overdue_job_waiting_for_a_measurement_gets_a_reservation() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    first = unknown(9, "train", 0.0)._replace(ends=500.0, since=0.0)
    for size, starts in ((50, True), (60, False)):  # 10 GiB are for the job that waits
        short = a_waiting(2, vram=size * GIB)._replace(seconds=50.0)
        _, other = decide([asks(1, "train"), short], [first], machine, 10.0)
        assert isinstance(other, Start) is starts, size


def test_backfill_keeps_the_margin_of_an_overdue_job_with_an_estimate() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    there = [runs(8, vram=15 * GIB, ends=500.0), runs(9, vram=5 * GIB)]
    overdue = asks(1, "train")._replace(vram=70 * GIB)
    for size, starts in ((4, True), (5, False)):
        _, other = decide([overdue, a_waiting(2, vram=size * GIB)], there, machine, 10.0)
        assert isinstance(other, Start) is starts, size


def test_next_job_has_an_expected_start_while_the_first_waits_for_a_measurement() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    first = unknown(9, "train", 0.0)._replace(ends=500.0, since=0.0)
    jobs = [asks(1, "train"), a_waiting(2, vram=75 * GIB)]
    waits = decide([job._replace(backfill_until=1e9) for job in jobs], [first], machine, 10.0)
    assert ["will have room" in wait.reason for wait in waits] == [False, True]


@pytest.mark.parametrize(("job", "there", "machine"), kept_waiting())
def test_job_without_room_beside_measured_jobs_has_an_expected_start(
    job: Any, there: list[Running], machine: Machine
) -> None:
    large = runs(5, vram=79 * GIB, ends=500.0, since=0.0)
    (wait,) = decide([job], [*there, large], machine, 10.0)
    assert isinstance(wait, Wait)
    assert "will have room" in wait.reason
    assert wait.lacking_resource == "gpu"
    assert demand_of([job], [wait], machine)[0] is not None


def test_older_estimate_shrinks_to_its_usage_for_a_job_with_declared_memory() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80, used=25),))
    estimated = runs(8, vram=60 * GIB, estimated=True, used={"GPU-0": 20 * GIB})
    declared = runs(9, vram=40 * GIB, used={"GPU-0": 5 * GIB}, ends=90.0)
    (wait,) = decide([wants(1)], [estimated, declared], machine, 0.0)
    assert isinstance(wait, Wait)
    assert "has 55 GiB free, of which 55 GiB is reserved for jobs 8, 9;" in wait.reason
    assert "cuda:0 will have room" in wait.reason, "as soon as job 9 has ended"
    more = runs(9, vram=70 * GIB, used={"GPU-0": 5 * GIB}, ends=90.0)
    (wait,) = decide([wants(1)], [estimated, more], machine, 0.0)
    assert isinstance(wait, Wait)
    assert "of which 65 GiB is reserved for job 9;" in wait.reason, (
        "no estimate is less than its use"
    )


def test_an_estimate_grows_only_into_memory_that_is_free() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80, used=60),))
    large = runs(9, vram=90 * GIB, estimated=True, used={"GPU-0": 60 * GIB})
    (wait,) = decide([wants(1)], [large], machine)
    assert isinstance(wait, Wait)
    assert "of which 20 GiB is reserved for job 9" in wait.reason


def test_no_co_location_while_little_memory_is_free() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80, used=79.5),))
    (wait,) = decide([wants(1)], [runs(9, used={"GPU-0": 79 * GIB})], machine)
    assert isinstance(wait, Wait)
    assert "cuda:0 runs job 9 and has only 512 MiB free" in wait.reason


def test_busy_gpu_gets_no_job_until_its_jobs_are_measured() -> None:
    gpu = replace(a_gpu(total=80), utilisation=1.0)
    machine = Machine(cpus=64, gpus=(gpu,))
    (wait,) = decide([wants(1)], [runs(3)], machine)
    assert isinstance(wait, Wait)
    assert wait.reason == "waiting for 1 GiB of GPU memory: cuda:0 is 100 % busy with job 3"
    light = runs(3, load=GpuLoad(sm=0.1, measured=True))
    (start,) = decide([wants(1)], [light], machine)
    assert isinstance(start, Start)


@pytest.mark.parametrize(("mode", "text"), [(3, "its compute mode is exclusive"), (1, "exclusive")])
def test_a_gpu_in_exclusive_compute_mode_runs_a_job_at_a_time(mode: int, text: str) -> None:
    machine = Machine(cpus=64, gpus=(replace(a_gpu(), compute_mode=mode),))
    start, wait = decide([wants(1), wants(2)], [], machine)
    assert isinstance(start, Start)
    assert isinstance(wait, Wait)
    assert text in wait.reason


def test_nothing_starts_on_a_gpu_in_prohibited_compute_mode() -> None:
    (wait,) = decide([wants(1)], [], Machine(cpus=4, gpus=(replace(a_gpu(), compute_mode=2),)))
    assert isinstance(wait, Wait)
    assert "its compute mode is prohibited" in wait.reason


def test_a_gpu_is_kept_free_for_an_exclusive_job_that_can_have_it_soon() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    alone = a_waiting(1, device="cuda", exclusive=True)._replace(since=0.0, backfill_until=1e9)
    for left_s, waited_s, kept in ((30.0, 0.0, True), (90.0, 10.0, False), (90.0, 100.0, True)):
        there = runs(9, since=0.0, ends=waited_s + left_s)
        _, later = decide([alone, wants(2)], [there], machine, waited_s)
        assert isinstance(later, Wait) is kept, (left_s, waited_s)


def test_priority_does_not_count_as_waiting_time_of_an_exclusive_job() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    alone = a_waiting(1, device="cuda", exclusive=True)._replace(backfill_until=1e9)
    there = runs(9, since=0.0, ends=100.0)
    for priority in (0, 3, -3):
        for waited_s, kept in ((10.0, False), (100.0, True)):
            since = 10.0 - waited_s - priority * PRIORITY_POINT_S  # as it is ranked
            job = alone._replace(priority=priority, since=since)
            _, later = decide([job, wants(2)], [there], machine, 10.0)
            assert isinstance(later, Wait) is kept, (priority, waited_s)


def test_evicted_job_does_not_drain_a_gpu_by_waiting() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    job = a_waiting(1, device="cuda")._replace(made_exclusive=True, since=-1e4, backfill_until=1e9)
    for left_s, kept in ((30.0, True), (90.0, False)):
        _, later = decide([job, wants(2)], [runs(9, since=0.0, ends=left_s)], machine, 0.0)
        assert isinstance(later, Wait) is kept, left_s


def test_heavy_job_starts_despite_a_stream_of_light_ones() -> None:
    machine = Machine(cpus=64, gpus=(a_gpu(total=80),))
    there = [runs(8, load=GpuLoad(sm=0.6, measured=True), ends=5000.0, since=0.0)]
    there += [runs(9, load=GpuLoad(sm=0.1, measured=True), ends=5.0, since=0.0)]
    heavy = wants(1, 0.6)._replace(backfill_until=1e9)
    first, later = decide([heavy, wants(2, 0.1)._replace(seconds=9.0)], there, machine)
    assert isinstance(first, Wait)
    assert isinstance(later, Wait)
    assert "waiting for job 1" in later.reason
