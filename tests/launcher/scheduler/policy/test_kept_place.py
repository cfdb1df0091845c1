"""What is said of the place that is kept for the first waiting job: when there is room."""

from math import inf

import pytest

from launcher.scheduler.policy.backfill import FirstJobReservation

NOW = 1000.0


@pytest.mark.parametrize(
    ("at", "slip", "said"),
    [
        (inf, 0.0, ""),
        (NOW - 5, 0.0, " within a second"),
        (NOW + 0.4, 0.0, " within a second"),
        (NOW + 1, 0.0, " in about 1 s"),
        (NOW + 90, 59.9, " in about 1 m 30 s"),
        (NOW + 90, 60.0, " in about 1 m 30 s, or up to 1 m later, as durations are estimates"),
    ],
)
def test_when_there_is_room_is_said_in_words(at: float, slip: float, said: str) -> None:
    kept = FirstJobReservation(
        job="7", group="", at=(at, 1), slip=slip, where="a GPU", cpus=1, ram=0, beside={}
    )
    assert kept.when(NOW) == said
    assert kept.told(NOW) == f"job 7, which is first and gets a GPU{said}"
