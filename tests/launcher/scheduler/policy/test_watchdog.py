"""A wait that nothing explains is named after a while, and the job is tried where it fits."""

from dataclasses import replace
from typing import Any

import pytest

from launcher.accounts import Colleague, Wish
from launcher.gpu.snapshot import ForeignReservation, GpuProcess
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.disciplines import FIFO
from launcher.scheduler.policy.model import Decision, Machine, Running, Start, Wait, Waiting
from launcher.scheduler.policy.watchdog import PATIENCE_S, Verdict, Watchdog
from launcher.states import ReasonCode
from launcher.system.gpu_sharing import Rules
from tests.build import GIB, a_gpu, a_waiting

LEFT = a_gpu(total=24, used=3, processes=())  # of a program that is gone
MACHINE = Machine(cpus=4, ram=8 * GIB, ram_free=8 * GIB, gpus=(LEFT,))


def reviewed(
    *waiting: Waiting,
    machine: Machine = MACHINE,
    running: tuple[Running, ...] = (),
    decisions: list[Decision] | None = None,
    after_s: float = PATIENCE_S,
) -> Verdict:
    """Decide again and again; return what came of it after so long."""
    watchdog, now = Watchdog(), 100.0
    made = decide(waiting, running, machine) if decisions is None else decisions
    assert not watchdog.review(waiting, made, running, machine, now).news
    return watchdog.review(waiting, made, running, machine, now + after_s)


def test_a_job_that_nothing_keeps_from_a_card_is_tried_there_alone() -> None:
    first, second = a_waiting(1, device="cuda"), a_waiting(2, device="cuda")
    emptier = a_gpu(1, total=24, used=2.5, processes=())
    verdict = reviewed(first, second, machine=MACHINE._replace(gpus=(LEFT, emptier)))
    start, wait = verdict.decisions
    assert isinstance(start, Start)
    assert (start.devices, start.exclusive, start.reservation) == (("GPU-1",), True, None)
    assert start.reason == (
        "tried alone on cuda:1 with 21.5 GiB free: it waited for 30 s without a cause (needs a GPU "
        "that it shares with no other job; cuda:0 has 3 GiB in use by others; cuda:1 has 2.5 GiB in "
        "use by others)"
    )
    assert isinstance(wait, Wait)
    assert wait.code is ReasonCode.UNEXPLAINED
    assert [sentence.split()[0] for sentence in verdict.news] == ["job=1", "job=2"]


def test_one_that_does_not_fit_is_named_with_what_is_in_its_way() -> None:
    verdict = reviewed(a_waiting(1, device="cuda", min_vram=22 * GIB))
    (wait,) = verdict.decisions
    assert isinstance(wait, Wait)
    assert wait.code is ReasonCode.UNEXPLAINED
    assert wait.reason == (
        "needs 22 GiB; cuda:0 has 21 GiB free; nothing explains that for 30 s or longer: "
        "nothing of yours runs there, and nobody else is seen; 3 GiB of cuda:0 are in use, and the driver "
        "lists no process there; a reset of the GPU, or a reboot, gives back what ended processes "
        "have left"
    )


def test_it_is_said_once_and_again_after_it_had_a_cause() -> None:
    watchdog, job = Watchdog(), a_waiting(1, device="cuda", min_vram=22 * GIB)
    busy = Running(job=7, cpus=1, devices=("GPU-0",))
    news = []
    for now in range(0, 300, 10):
        running = [busy] if now == 150 else []
        made = decide([job], running, MACHINE)
        if watchdog.review([job], made, running, MACHINE, float(now)).news:
            news.append(now)
    assert news == [30, 190]


def test_a_driver_that_is_slow_now_and_then_does_not_make_it_forget() -> None:
    watchdog, job = Watchdog(), a_waiting(1, device="cuda")
    made = decide([job], [], MACHINE)
    for now in range(0, 30, 10):
        assert not watchdog.review([job], made, [], MACHINE, float(now)).news
        assert not watchdog.review([], [], [], MACHINE, now + 5.0).news
    assert watchdog.review([job], made, [], MACHINE, 30.0).news
    watchdog.review([], [], [], MACHINE, 30.0 + PATIENCE_S)
    assert not watchdog.watches


def test_a_contradiction_of_the_rules_starts_the_job_on_the_cpu_too() -> None:
    for reason in (ReasonCode.NO_ROOM, ReasonCode.WOULD_DELAY):
        odd: list[Decision] = [Wait(job=1, reason="would delay job 9", code=reason)]
        (start,) = reviewed(a_waiting(1, cpus=9), decisions=odd).decisions
        assert isinstance(start, Start)
        assert (start.cpus, start.devices) == (4, ())
        assert start.reason.startswith("tried alone on the CPU: it waited for 30 s without")


def test_what_runs_elsewhere_explains_no_wait_for_a_card_on_which_nobody_is() -> None:
    beside = Running(job=9, cpus=1)
    theirs = (ForeignReservation(user="ada", device="cores", amount=1),)
    (start,) = reviewed(
        a_waiting(1, device="cuda"), machine=MACHINE._replace(foreign=theirs), running=(beside,)
    ).decisions
    assert isinstance(start, Start)
    odd: list[Decision] = [Wait(job=1, reason="would delay", code=ReasonCode.WOULD_DELAY)]
    verdict = reviewed(a_waiting(1, device="cpu"), running=(beside,), decisions=odd)
    assert not verdict.news


SOMEBODY = (GpuProcess(pid=7, used=GIB, user="ada"),)
CAUSES: dict[str, dict[str, Any]] = {
    "the time is not over": {"after_s": PATIENCE_S - 1},
    "one of ours runs": {"running": (Running(job=9, cpus=1, devices=("GPU-0",)),)},
    "another user has promised something": {
        "foreign": (ForeignReservation(user="ada", device="GPU-0", amount=5 * GIB),)
    },
    "another user waits for it": {
        "colleagues": (Colleague(user="ada", waited_s=5.0, wish=Wish(since=0.0, gpus=1)),)
    },
    "all cores are taken": {"running": (Running(job=9, cpus=4),)},
    "somebody works there": {"gpus": (replace(LEFT, processes=SOMEBODY),)},
    "somebody hidden works there": {"gpus": (replace(LEFT, utilisation=0.9),)},
    "the driver does not tell who": {"gpus": (replace(LEFT, processes=None),)},
    "the card is lost": {"gpus": (replace(LEFT, fault="fell off the bus", used=None),)},
    "the driver does not tell how much": {"gpus": (replace(LEFT, used=None),)},
    "its owner's rules": {"rules": Rules(idle_s=60)},
    "all is kept for others": {"rules": Rules(reserve=24 * GIB)},
    "there is no such card": {"gpus": (replace(LEFT, index=1),)},
}


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_nothing_is_said_of_a_wait_that_has_a_cause(cause: dict[str, Any]) -> None:
    job = a_waiting(1, device="cuda:0")
    known = {"after_s", "running"}
    changes = {key: value for key, value in cause.items() if key not in known}
    given = {key: value for key, value in cause.items() if key in known}
    verdict = reviewed(job, machine=MACHINE._replace(**changes), **given)
    assert not verdict.news
    assert isinstance(verdict.decisions[0], Wait)
    assert verdict.decisions[0].code is not ReasonCode.UNEXPLAINED


def test_main_memory_that_other_programs_have_is_a_cause() -> None:
    job = a_waiting(1, device="cpu", ram=5 * GIB)
    verdict = reviewed(job, machine=MACHINE._replace(ram_free=GIB))
    assert not verdict.news


def test_who_waits_behind_one_that_has_a_cause_has_one_too() -> None:
    first, second = a_waiting(1, device="cpu", ram=5 * GIB), a_waiting(2, device="cpu")
    machine = MACHINE._replace(ram_free=GIB)
    made = decide([first, second], [], machine, 0.0, FIFO)
    assert [getattr(wait, "code", None) for wait in made] == [
        ReasonCode.NO_ROOM,
        ReasonCode.WOULD_DELAY,
    ]
    assert not reviewed(first, second, machine=machine, decisions=made).news


def test_a_full_group_is_a_cause() -> None:
    job = a_waiting(1, device="cpu", group="night")
    verdict = reviewed(job, machine=MACHINE._replace(limits={"night": 0}))
    assert not verdict.news
