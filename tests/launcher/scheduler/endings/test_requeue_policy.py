from typing import Any

import pytest

from launcher.context import WorkerEnvironment
from launcher.job import Resources, Terms
from launcher.scheduler.endings import CROWDED_PAUSE_S, requeue_of
from launcher.scheduler.policy.model import Machine
from launcher.states import (
    Done,
    Failed,
    Lost,
    Outcome,
    OutOfMemory,
    Reason,
    ReasonCode,
    Shortage,
    Stopped,
)
from launcher.store.rows import Lane
from launcher.store.transitions import Requeue
from tests.build import GIB, a_claim, a_gpu, a_reason, a_spec

LANE = Lane(group="", resources=Resources(device="cuda"), environment=WorkerEnvironment())
FELL = a_gpu(fault="fell off the bus")
FAILED = Failed(at=1.0, error="RuntimeError: boom")


def short(**facts: Any) -> OutOfMemory:
    return OutOfMemory(at=1.0, error="CUDA out of memory", shortage=Shortage("gpu", **facts))


def fell(text: str) -> Reason:
    return a_reason(text, ReasonCode.GPU_FAULT, fault="cuda:0 fell off the bus")


def requeue(
    outcome: Outcome,
    *gpus: Any,
    claim: int | None = 8 * GIB,
    device: str = "GPU-0",
    rerun: str = "again",
    **known: Any,
) -> Requeue | None:
    attempt = a_claim(a_spec(terms=Terms(rerun=rerun)), device=device, reservation=claim)
    machine = Machine(cpus=4, gpus=gpus)
    return requeue_of(attempt, LANE, outcome, machine, **known)


def test_what_is_done_or_failed_by_itself_needs_no_excuse() -> None:
    assert requeue(Done(at=1.0), FELL) is None
    assert requeue(FAILED, a_gpu()) is None
    assert requeue(Lost(at=1.0, why="killed"), a_gpu()) is None
    assert requeue(FAILED, FELL, device="cpu") is None


def test_an_attempt_whose_card_failed_is_excused_and_says_so() -> None:
    told = "cuda:0 fell off the bus; queued again"
    assert requeue(FAILED, FELL) == Requeue(reason=fell(f"RuntimeError: boom: {told}"))
    assert requeue(short(), FELL) == Requeue(reason=fell(f"CUDA out of memory: {told}"))
    assert requeue(Lost(at=1.0, why="killed"), FELL) == Requeue(reason=fell(told))


def test_an_attempt_that_had_to_leave_its_card_is_excused_however_it_ended() -> None:
    for outcome in (FAILED, short(), Stopped(at=1.0)):
        decision = requeue(outcome, a_gpu(), moved="cuda:0 fell off the bus")
        assert decision == Requeue(reason=fell("cuda:0 fell off the bus; queued again"))
    assert requeue(Done(at=1.0), a_gpu(), moved="cuda:0 fell off the bus") is None


def test_one_that_needed_more_than_it_was_promised_gets_more_at_once() -> None:
    decision = requeue(short(held=8 * GIB, wanted=2 * GIB), a_gpu(total=40, used=20))
    assert decision is not None
    assert decision.vram_request is not None
    assert decision.vram_request >= 10 * GIB
    assert (decision.hopeless, decision.pause_s) == (False, 0.0)
    assert decision.reason.text.startswith("out of memory, its own: ")


def test_one_whose_memory_others_took_waits_a_little_and_keeps_its_claim() -> None:
    decision = requeue(short(held=2 * GIB, wanted=1 * GIB), a_gpu(total=40, used=38))
    assert decision is not None
    assert (decision.vram_request, decision.pause_s) == (8 * GIB, CROWDED_PAUSE_S)
    assert decision.reason.text.startswith("out of memory, a neighbour's: ")
    assert decision.reason.text.endswith("; queued again")


def test_others_who_have_left_meanwhile_are_remembered() -> None:
    outcome, card = short(held=2 * GIB, wanted=1 * GIB), a_gpu(total=40, used=2)
    now, then = requeue(outcome, card), requeue(outcome, card, others_usage={"GPU-0": 38 * GIB})
    assert now is not None
    assert then is not None
    assert "its own" in now.reason.text
    assert "a neighbour's" in then.reason.text


def test_a_job_on_the_cpu_gets_no_larger_claim() -> None:
    assert requeue(short(held=2 * GIB, wanted=1 * GIB), a_gpu(), device="cpu") is None


def test_one_that_no_card_can_ever_hold_is_not_tried_again() -> None:
    decision = requeue(short(held=30 * GIB, wanted=20 * GIB), a_gpu(total=40))
    assert decision is not None
    assert decision.hopeless
    assert "can never fit: cuda:0 has 40 GiB for it" in decision.reason.text


def test_a_larger_card_elsewhere_is_hope() -> None:
    gpus = a_gpu(0, total=24), a_gpu(1, total=80, used=70)
    decision = requeue(short(held=20 * GIB, wanted=9 * GIB), *gpus, claim=20 * GIB)
    assert decision is not None
    assert not decision.hopeless


@pytest.mark.parametrize("gpus", [(), (a_gpu(used=None),)])
def test_an_attempt_of_which_nothing_is_known_is_charged(gpus: tuple[Any, ...]) -> None:
    assert requeue(short(), *gpus, claim=None) is None


def test_what_must_never_run_twice_is_not_excused_when_its_end_is_lost() -> None:
    card = a_gpu(fault="has fallen off the bus")
    assert requeue(Lost(at=1.0, why="killed"), card, rerun="never") is None
    assert requeue(Lost(at=1.0, why="killed"), card, moved="cuda:0 died", rerun="never") is None


def test_what_must_never_run_twice_does_not_move_to_another_gpu() -> None:
    decision = requeue(Stopped(at=1.0), a_gpu(), moved="cuda:0 fell off the bus", rerun="never")
    assert decision == Requeue(
        reason=fell("cuda:0 fell off the bus, and it must never run twice"), hopeless=True
    )
    assert requeue(Stopped(at=1.0), FELL, rerun="never") is None


def test_one_that_no_look_has_seen_is_not_said_to_have_been_alone() -> None:
    decision = requeue(short(held=None, wanted=None), a_gpu(total=24, used=0))
    assert decision is not None
    assert not decision.hopeless
    assert "alone" not in decision.reason.text
