"""What attempts teach about sharing a GPU: looks are given, progress lies where workers write it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from launcher.gpu.monitor import Sight
from launcher.gpu.snapshot import GpuProcess
from launcher.scheduler.gpus.shared_time import GAP_S, SharedTime, slowdown_by_duration
from launcher.store.rows import Claim
from launcher.store.usage import Measured
from launcher.system.paths import Home
from tests.build import GIB, a_claim, a_gpu, a_spec

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
    ) -> None:
        """Let `seconds` pass, in which each process uses the card so much and its job makes steps."""
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
    for _ in range(6):
        looks.look({1: 0.5})
    assert looks.of(1) == Measured(shared_s=0.0, slowdown=None, sm=0.5)
    assert looks.of(2) == Measured()


def test_the_steps_alone_and_beside_another_say_how_much_slower_it_was(looks: Looks) -> None:
    for _ in range(11):
        looks.look({1: 0.9}, rates={1: 10.0})
    for _ in range(11):
        looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0, 2: 4.0})
    known = looks.of(1)
    assert known.shared_s == pytest.approx(11.0)
    assert known.slowdown == pytest.approx(2.0)
    assert known.sm == pytest.approx(0.9)
    assert looks.of(2).slowdown is None  # it was never alone


def test_beside_several_others_the_factor_is_that_of_each(looks: Looks) -> None:
    for _ in range(11):
        looks.look({1: 0.9}, rates={1: 20.0})
    for _ in range(11):
        looks.look({1: 0.3, 2: 0.3, 3: 0.3}, rates={1: 5.0})
    assert looks.of(1).slowdown == pytest.approx(2.0)


def test_who_is_no_slower_beside_others_has_a_slowdown_of_one(looks: Looks) -> None:
    for _ in range(11):
        looks.look({1: 0.2}, rates={1: 10.0})
    for _ in range(11):
        looks.look({1: 0.2, 2: 0.2}, rates={1: 11.0})
    assert looks.of(1).slowdown == 1.0


def test_a_few_seconds_beside_another_teach_nothing(looks: Looks) -> None:
    for _ in range(11):
        looks.look({1: 0.9}, rates={1: 10.0})
    for _ in range(3):
        looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0})
    assert looks.of(1).slowdown is None


def test_steps_that_begin_anew_and_clocks_that_jump_are_left_out(looks: Looks) -> None:
    for _ in range(11):
        looks.look({1: 0.9}, rates={1: 10.0})
    looks.steps[1] = 0.0
    for _ in range(7):
        looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0})
    progress = looks.home.attempt(1, 1).progress
    with progress.open("a") as lines:
        lines.write('{"at": 1e12, "step": 36, "total": null, "metrics": {}}\n')
    looks.look({1: 0.5, 2: 0.5})
    assert looks.of(1).slowdown == pytest.approx(2.0)


def test_use_is_unknown_where_the_driver_does_not_tell_and_never_zero(looks: Looks) -> None:
    for _ in range(6):
        looks.look({1: None}, utilisation=0.0)
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
    for _ in range(5):
        looks.look({1: 0.97})
    looks.look({1: None}, utilisation=0.0)
    assert looks.of(1).sm == pytest.approx(0.97)


def test_use_beside_others_counts_while_the_card_is_not_full(looks: Looks) -> None:
    for _ in range(6):
        looks.look({1: 0.3, 2: 0.2})
    assert looks.of(1).sm == pytest.approx(0.3)
    for _ in range(6):
        looks.look({3: 0.5, 4: 0.5})
    assert looks.of(3).sm is None


def test_a_stranger_that_works_on_the_card_is_company_and_one_that_rests_is_not(
    looks: Looks,
) -> None:
    for _ in range(6):
        looks.look({1: 0.5, STRANGER: 0.01})
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
