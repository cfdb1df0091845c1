from collections.abc import Sequence
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.scheduler.policy.co_location import (
    MOST_UNKNOWN,
    SWITCH,
    UNKNOWN_LOAD,
    UNKNOWN_SLOWDOWN,
    Load,
    admits,
    gain,
    load_of,
    pays,
    rates,
)
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.model import Machine, Running, Start, Wait
from launcher.system.gpu_sharing import Rules
from tests.build import GIB, a_gpu, a_waiting

uses = st.floats(0, 1)
loads = st.builds(load_of, st.none() | uses, st.none() | st.floats(1, 4, allow_nan=False))


def slowdown_beside(job: Load, others: Sequence[Load]) -> float:
    return 1 / rates([job, *others])[0]


def test_two_jobs_that_leave_the_card_time_for_each_other_only_pay_for_switching() -> None:
    assert slowdown_beside(Load(sm=0.3), [Load(sm=0.5)]) == pytest.approx(1 + SWITCH)
    assert pays(Load(sm=0.3), [Load(sm=0.5)])


def test_two_jobs_that_want_more_than_the_card_get_of_it_in_proportion() -> None:
    both = [Load(sm=1.0), Load(sm=0.6)]
    assert rates(both) == pytest.approx([1 / (1.6 * (1 + SWITCH))] * 2)


def test_two_jobs_that_each_fill_the_card_end_later_together() -> None:
    assert not pays(Load(sm=0.97), [Load(sm=0.97)])
    assert sum(rates([Load(sm=0.97)] * 2)) < 1


def test_a_measured_slowdown_counts_more_than_the_use_of_the_card() -> None:
    busy = Load(sm=1.0, slowdown=1.1)
    assert slowdown_beside(busy, [busy]) == pytest.approx(1.1)
    assert pays(busy, [busy])
    idle = Load(sm=0.1, slowdown=2.1)
    assert not pays(idle, [idle])


def test_jobs_of_which_nothing_is_known_slow_each_other_as_a_simulation_assumes() -> None:
    for more in range(4):
        assert slowdown_beside(UNKNOWN_LOAD, [UNKNOWN_LOAD] * more) == pytest.approx(
            UNKNOWN_SLOWDOWN**more
        )
    assert pays(UNKNOWN_LOAD, [UNKNOWN_LOAD])


def test_nobody_is_slowed_down_more_than_by_taking_turns() -> None:
    victim = Load(sm=0.1, slowdown=3.0)
    other = Load(sm=0.1, slowdown=1.0)
    assert sum(rates([victim, other])) > 1.3
    assert not pays(victim, [other])


@given(loads, loads)
def test_whether_two_jobs_belong_together_does_not_depend_on_who_comes_first(
    first: Load, second: Load
) -> None:
    assert pays(first, [second]) == pays(second, [first])
    assert gain(first, (second,)) == pytest.approx(gain(second, (first,)))


@given(loads, st.lists(loads, max_size=3), loads)
def test_a_job_never_gains_by_company_and_never_by_more_of_it(
    job: Load, others: list[Load], another: Load
) -> None:
    assert 1 <= slowdown_beside(job, others) <= slowdown_beside(job, [*others, another])


@given(uses, uses, st.lists(uses.map(Load), min_size=1, max_size=3))
def test_what_pays_for_a_job_pays_for_one_that_uses_less(
    use: float, less: float, others: list[Load]
) -> None:
    if less <= use and pays(Load(sm=use), others):
        assert pays(Load(sm=less), others)


@given(loads, loads)
def test_a_pair_that_pays_ends_sooner_than_one_after_the_other(first: Load, second: Load) -> None:
    # two jobs of the same length: together both end after the slower one, in turn after two lengths
    if pays(first, [second]):
        slowest = max(slowdown_beside(first, [second]), slowdown_beside(second, [first]))
        assert slowest <= 2


@pytest.mark.parametrize("sm", [nan, inf, -0.1, 1.5, "much", None, 10**400])
@pytest.mark.parametrize("slowdown", [nan, inf, -1.0, 0.0, "slow", None, 1e9])
def test_what_cannot_be_true_of_a_load_counts_as_unknown(sm: Any, slowdown: Any) -> None:
    assert load_of(sm, slowdown) == UNKNOWN_LOAD


def test_who_was_faster_beside_others_was_not_slowed_down() -> None:
    assert load_of(0.5, 0.9) == Load(sm=0.5, slowdown=1.0)


@pytest.mark.parametrize(
    ("job", "beside", "most", "admitted"),
    [
        (UNKNOWN_LOAD, [UNKNOWN_LOAD] * (MOST_UNKNOWN - 1), None, True),
        (UNKNOWN_LOAD, [UNKNOWN_LOAD] * MOST_UNKNOWN, None, False),
        (Load(sm=0.2), [UNKNOWN_LOAD, Load(sm=0.2)], None, False),  # it comes when all are known
        (UNKNOWN_LOAD, [UNKNOWN_LOAD] * 3, 4, True),  # the owner's limit is believed
        (UNKNOWN_LOAD, [UNKNOWN_LOAD] * 4, 4, False),
        (Load(sm=0.1), [Load(sm=0.1)], 1, False),
        (Load(sm=1.0), [Load(sm=1.0)], 4, False),
        # of hundreds each hangs: it overflows nothing
        (Load(0.5, 100.0), [Load(0.5, 100.0)] * 500, 1000, False),
    ],
)
def test_who_may_come_to_others_of_which_nothing_is_known_or_to_how_many(
    job: Load, beside: list[Load], most: int | None, admitted: bool
) -> None:
    assert admits(job, tuple(beside), most) is admitted


# --- as the policy decides


def runs(job: int, device: str = "GPU-0", **changes: Any) -> Running:
    values: dict[str, Any] = {"reservation": GIB, "devices": (device,)}
    return Running(job=job, cpus=1, **values | changes)


def wants(job: int, sm: float | None = None, **changes: Any) -> Any:
    return a_waiting(job, min_vram=GIB, **changes)._replace(demand=Load(sm=sm))


def test_a_job_is_not_packed_where_both_would_end_later_and_is_told_so() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(),))
    (wait,) = decide([wants(1, 0.97)], [runs(3, demand=Load(sm=0.97))], machine)
    assert isinstance(wait, Wait)
    assert wait.reason == (
        "needs 1 GiB; cuda:0 runs job 3 (uses 97 % of it): beside it both would end later "
        "(2.0 times as long each)"
    )


def test_a_job_comes_to_the_one_beside_which_most_is_done() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(0), a_gpu(1), a_gpu(2)))
    running = [
        runs(3, "GPU-0", demand=Load(sm=0.8)),
        runs(4, "GPU-1", demand=Load(sm=0.2)),
        runs(5, "GPU-2", demand=Load(sm=0.6)),
    ]
    (start,) = decide([wants(1, 0.7)], running, machine)
    assert isinstance(start, Start)
    assert start.devices == ("GPU-1",)


def test_a_third_unknown_job_waits_until_it_is_known_what_the_others_use() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(),))
    decisions = decide([wants(1), wants(2), wants(3)], [], machine)
    assert [type(one) for one in decisions] == [Start, Start, Wait]
    assert isinstance(decisions[2], Wait)
    assert "runs jobs 1, 2: 2 at once, until it is known what each of them uses" in (
        decisions[2].reason
    )
    light = [wants(job, 0.2) for job in (1, 2, 3, 4)]
    assert all(isinstance(one, Start) for one in decide(light, [], machine))
    allowed = machine._replace(rules=Rules(max_per_gpu=3))
    decisions = decide([wants(1), wants(2), wants(3)], [], allowed)
    assert all(isinstance(one, Start) for one in decisions)
