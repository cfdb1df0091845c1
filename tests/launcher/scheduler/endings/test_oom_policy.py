from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.scheduler.policy.oom_policy import STEP, Blame, Scene, blame
from launcher.states import Shortage, Where

GIB = 1 << 30
Facts = Mapping[str, float]


def gib(amount: float) -> int:
    return round(amount * GIB)


def judged(told: Facts, scene: Facts, *, where: Where = "gpu") -> Blame:
    """A judgement from what the program told and what the scheduler knows, both in GiB."""
    facts: dict[str, Any] = {name: gib(value) for name, value in told.items()}
    known: dict[str, Any] = {name: gib(value) for name, value in scene.items()}
    return blame(Shortage(where=where, **facts), Scene(**known))


OURS = {
    "it needed more than it was promised": (
        {"held": 9, "wanted": 2}, {"reservation": 8, "total": 24, "others": 13}, 12.75,
    ),
    "it grew little": ({"held": 8, "wanted": 0.125}, {"reservation": 8, "total": 24, "others": 8}, 10.0),
    "its cap stopped it": (
        {"held": 7.5, "wanted": 1, "cap": 7.5, "free": 6, "total": 24}, {"reservation": 9}, 11.25,
    ),
    "it was measured to hold more": (
        {}, {"reservation": 4, "peak": 6, "total": 24, "others": 12}, 7.25,
    ),
    "nobody else had taken it": ({}, {"reservation": 4, "total": 24, "others": 10}, 6.0),
    "nobody can be blamed": ({"held": 3, "wanted": 0.5}, {"reservation": 4}, 5.0),
    "it has a claim from now on": ({"held": 3, "wanted": 1}, {}, 5.0),
    "no more is asked than the card can give": (
        {"held": 20, "wanted": 2}, {"reservation": 21, "total": 24, "others": 1}, 23.25,
    ),
    "the reserve is left to others": (
        {"held": 20, "wanted": 1}, {"reservation": 20, "total": 24, "others": 2, "reserve": 1}, 22.25,
    ),
    "what it needs is more than the card has": (
        {"held": 20, "wanted": 9}, {"reservation": 21, "total": 24, "others": 3}, 32.5,
    ),
    "it was alone": ({"held": 20, "wanted": 5}, {"total": 24, "others": 0.25}, 28.0),
    "it was alone, and its memory in pieces": (
        {"held": 20, "wanted": 1}, {"reservation": 8, "total": 24, "others": 0}, 24.25,
    ),
    "it was alone and said nothing": ({}, {"total": 24, "others": 0.5}, 24.25),
}  # fmt: skip


@pytest.mark.parametrize(("told", "scene", "claim"), OURS.values(), ids=list(OURS))
def test_its_own_fault_brings_a_larger_claim_and_costs_no_retry(
    told: Facts, scene: Facts, claim: float
) -> None:
    found = judged(told, scene)
    assert (found.whose, found.charged) == ("ours", False)
    assert found.vram_request is not None
    assert found.vram_request / GIB == claim


NEIGHBOURS = {
    "others had what it was promised": (
        {"held": 3, "wanted": 1}, {"reservation": 8, "total": 24, "others": 20}, 8,
    ),
    "the program saw them, though they were gone": (
        {"held": 3, "wanted": 1, "free": 0.5, "total": 24}, {"reservation": 8, "others": 0}, 8,
    ),
    "a cap that the card could not honour": (
        {"held": 7.5, "wanted": 1, "cap": 8, "free": 0.5, "total": 24}, {"reservation": 9}, 9,
    ),
    "nobody said how much it held": ({}, {"reservation": 8, "total": 24, "others": 20}, 8),
    "it had no claim": ({"held": 3, "wanted": 1}, {"total": 24, "others": 20.5}, 5.0),
    "it had no claim and said nothing": ({}, {"total": 24, "others": 20}, 4.25),
}  # fmt: skip


@pytest.mark.parametrize(("told", "scene", "claim"), NEIGHBOURS.values(), ids=list(NEIGHBOURS))
def test_a_neighbours_fault_changes_no_promise_and_costs_no_retry(
    told: Facts, scene: Facts, claim: float
) -> None:
    found = judged(told, scene)
    assert (found.whose, found.charged) == ("neighbour", False)
    assert found.vram_request is not None
    assert found.vram_request / GIB == claim


@pytest.mark.parametrize(
    ("told", "promised", "whose", "charged"),
    [
        ({"held": 3, "wanted": 0}, 4, "machine", False),
        ({"held": 3, "wanted": 0.5}, 4, "machine", False),
        ({"held": 3, "wanted": 2}, 4, "ours", True),
        ({"held": 7.2}, 4, "ours", True),
        ({"held": 7.2}, None, "machine", True),
        ({"held": 3}, 4, "machine", True),
        ({}, 4, "machine", True),
        ({}, None, "machine", True),
    ],
)
def test_main_memory_is_the_machines_fault_only_within_the_promise(
    told: Facts, promised: float | None, whose: str, charged: bool
) -> None:
    scene = {"reservation": 6.0} if promised is None else {"reservation": 6.0, "ram": promised}
    found = judged(told, scene, where="ram")
    assert (found.whose, found.charged, found.vram_request) == (whose, charged, gib(6))


def test_a_shortage_of_which_nothing_is_known_costs_a_retry() -> None:
    assert judged({}, {}) == Blame(
        whose="ours", vram_request=None, why="its own: ran out of memory", charged=True
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            judged({"held": 9, "wanted": 2}, {"reservation": 8, "total": 24, "others": 13}),
            "its own: held 9 GiB and wanted 2 GiB more, was promised 8 GiB;"
            " needs 12.8 GiB next time",
        ),
        (
            judged({"held": 3}, {"reservation": 8, "total": 24, "others": 20}),
            "a neighbour's: held 3 GiB, was promised 8 GiB; others have 20 GiB of 24 GiB there",
        ),
        (
            judged({"held": 20, "wanted": 5}, {"total": 24, "others": 0}),
            "its own: held 20 GiB and wanted 5 GiB more, alone on a card of 24 GiB;"
            " needs 28 GiB next time",
        ),
        (
            judged({"held": 7.2}, {"ram": 4}, where="ram"),
            "its own: used 7.2 GiB of main memory, was promised 4 GiB",
        ),
    ],
)  # fmt: skip
def test_a_judgement_is_told_in_numbers(found: Blame, why: str) -> None:
    assert found.why == why


amounts = st.none() | st.integers(0, 200 * GIB)
shortages = st.builds(
    Shortage,
    where=st.sampled_from(["gpu", "ram"]),
    wanted=amounts,
    held=amounts,
    cap=amounts,
    free=amounts,
    total=amounts,
)
scenes = st.builds(
    Scene,
    reservation=amounts,
    total=amounts,
    others=amounts,
    peak=amounts,
    reserve=st.integers(0, 8 * GIB),
    ram=amounts,
)


@settings(max_examples=150, deadline=None)
@given(shortages, scenes, st.integers(0, 200 * GIB))
def test_a_claim_of_ones_own_fault_only_grows(shortage: Shortage, scene: Scene, claim: int) -> None:
    verdict = blame(shortage._replace(where="gpu"), scene._replace(reservation=claim))
    assert verdict.vram_request is not None
    assert verdict.vram_request >= (claim + STEP if verdict.whose == "ours" else claim)


@settings(max_examples=150, deadline=None)
@given(shortages, scenes, st.integers(0, 200 * GIB))
def test_a_claim_is_at_least_what_was_seen_to_be_needed(
    shortage: Shortage, scene: Scene, held: int
) -> None:
    found = blame(shortage._replace(where="gpu", held=held), scene)
    assert found.vram_request is not None
    assert found.vram_request >= held + (shortage.wanted or 0)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 40 * GIB), st.integers(GIB, 192 * GIB), shortages, amounts)
def test_a_job_that_never_fits_is_tried_a_few_times_only(
    claim: int, total: int, shortage: Shortage, others: int | None
) -> None:
    tries = 0
    while claim <= total:
        found = blame(
            shortage._replace(where="gpu"), Scene(reservation=claim, total=total, others=others)
        )
        if found.whose != "ours":
            return  # its scheduler counts these
        assert found.vram_request is not None
        claim, tries = found.vram_request, tries + 1
    assert tries <= 35


@settings(max_examples=150, deadline=None)
@given(shortages, scenes)
def test_a_fault_that_costs_no_retry_brings_a_promise_or_is_not_ours(
    shortage: Shortage, scene: Scene
) -> None:
    found = blame(shortage, scene)
    assert found.charged or found.whose != "ours" or found.vram_request is not None
    assert found.why
