import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.scheduler.policy.vram_request import vram_request_of
from launcher.store.usage import LEAST_MARGIN, NO_USAGE, Usage
from tests.build import GIB

TEN = Usage(peaks=(9 * GIB, 10 * GIB))
MARGIN = round(0.05 * 10 * GIB)
amounts = st.none() | st.integers(0, 80 * GIB)


@pytest.mark.parametrize(
    ("asked", "least", "usage", "claim", "source"),
    [
        (None, 0, NO_USAGE, None, ""),
        (8 * GIB, 0, NO_USAGE, 8 * GIB, "declared"),
        (12 * GIB, 0, TEN, 12 * GIB, "declared"),
        (10 * GIB, 0, TEN, 10 * GIB, "declared"),
        (None, 0, TEN, 10 * GIB + MARGIN, "learned from 2 runs"),
        (None, 0, Usage(peaks=(GIB,)), GIB + LEAST_MARGIN, "learned from 1 run"),
        (8 * GIB, 0, TEN, 10 * GIB + MARGIN, "declared 8 GiB, measured 10 GiB"),
        (None, 14 * GIB, NO_USAGE, 14 * GIB, "after it had too little"),
        (8 * GIB, 14 * GIB, NO_USAGE, 14 * GIB, "after it had too little"),
        (None, 14 * GIB, TEN, 14 * GIB, "after it had too little"),
        (16 * GIB, 14 * GIB, TEN, 16 * GIB, "declared"),
    ],
)
def test_a_claim_says_on_what_it_rests(
    asked: int | None, least: int, usage: Usage, claim: int | None, source: str
) -> None:
    assert vram_request_of(asked, least, usage) == (claim, source)


@given(amounts, st.integers(0, 80 * GIB), st.lists(st.integers(0, 80 * GIB), max_size=4))
def test_a_claim_is_never_less_than_anything_that_is_known(
    asked: int | None, least: int, peaks: list[int]
) -> None:
    claim, source = vram_request_of(asked, least, Usage(peaks=tuple(peaks)))
    if claim is None:
        assert (asked, least, peaks, source) == (None, 0, [], "")
    else:
        assert claim >= max(asked or 0, least, *peaks)
        assert source


def test_what_a_program_asks_for_counts_more_than_what_its_like_took_with_other_numbers() -> None:
    usage = Usage(peaks=(11 * GIB,))
    assert vram_request_of(4 * GIB, 0, usage, exact=False) == (4 * GIB, "declared")
    claim, source = vram_request_of(4 * GIB, 0, usage)
    assert claim is not None
    assert claim > 11 * GIB
    assert "measured" in source
