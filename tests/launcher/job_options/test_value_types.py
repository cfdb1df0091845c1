"""Values of options: moments in local time, and notification settings of a run."""

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.job_options.notifications import (
    AS_CONFIGURED,
    NotifyEvent,
    RunNotify,
    read_run_notify,
    run_notify_from_record,
)
from launcher.queue.job_options.value_types import MOMENT, span
from launcher.system.errors import UsageError


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    """A place whose clocks are changed twice a year."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("18:00", "2026-11-20T12:00", "2026-11-20T18:00"),
        ("18:00", "2026-11-20T18:00", "2026-11-21T18:00"),
        ("8:05", "2026-11-20T12:00", "2026-11-21T08:05"),
        ("12:00", "2026-03-28T13:00", "2026-03-29T12:00"),  # 23 hours later
        ("12:00", "2026-10-24T13:00", "2026-10-25T12:00"),  # 25 hours later
        ("00:00", "2026-12-31T23:59", "2027-01-01T00:00"),
        ("2026-12-24", "2026-11-20T12:00", "2026-12-24T00:00"),
        ("2026-12-24 18:30", "2026-11-20T12:00", "2026-12-24T18:30"),
        ("2026-07-01T18:30:05", "2026-06-20T12:00", "2026-07-01T18:30:05"),
        ("2026-12-24T18:00Z", "2026-11-20T12:00", "2026-12-24T19:00"),
        ("+2h30m", "2026-11-20T12:00", "2026-11-20T14:30"),
        ("+0s", "2026-11-20T12:00", "2026-11-20T12:00"),
        (" +1d ", "2026-11-20T12:00", "2026-11-21T12:00"),
    ],
)
def test_moment_is_parsed_in_the_local_time_zone(text: str, now: str, expected: str) -> None:
    assert MOMENT.read(text, at(now)) == at(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a time such as"),
        ("soon", "expected a time such as"),
        ("25:00", "expected a time such as"),
        ("18:60", "expected a time such as"),
        ("2026-13-01", "expected a time such as"),
        ("2026-11-19", "is in the past"),
        ("0001-01-01", "expected a time such as|is in the past"),
        ("9999-12-31T23:59:59", "expected a time such as|more than ten"),
        ("+5", "has no unit"),
        ("+", "expected a time such as"),
        ("-2h", "expected a time such as"),
        ("+999999999999d", "more than ten years away"),
    ],
)
def test_past_or_invalid_moment_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MOMENT.read(text, at("2026-11-20T12:00"))


@pytest.mark.parametrize("text", ["0", "0.0", "0s", "0h"])
def test_zero_time_has_the_same_message_with_and_without_a_unit(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"must be greater than zero\. Leave it out for no limit\."
    ):
        span(positive=True).read(text, 0.0)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001  # local on purpose
    st.integers(0, 23),
    st.integers(0, 59),
)
def test_time_of_day_is_the_next_occurrence(now: datetime, hour: int, minute: int) -> None:
    begin = now.timestamp()
    found = MOMENT.read(f"{hour:02}:{minute:02}", begin)
    assert begin < found <= begin + timedelta(hours=25, minutes=60).total_seconds()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, RunNotify(events=tuple(NotifyEvent))),
        (False, RunNotify(events=())),
        ("run-ended", RunNotify(events=(NotifyEvent.RUN_ENDED,))),
        (["first-failure", "first-failure"], RunNotify(events=(NotifyEvent.FIRST_FAILURE,))),
        ({"to": "mail"}, RunNotify(to=("mail",))),
        (
            {"events": ["out-of-memory"], "to": ["mail", "desk"]},
            RunNotify(events=(NotifyEvent.OUT_OF_MEMORY,), to=("mail", "desk")),
        ),
    ],
)
def test_notify_option_is_parsed_into_events_and_targets(
    value: object, expected: RunNotify
) -> None:
    assert read_run_notify(value) == expected
    assert run_notify_from_record(expected.to_json()) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "expected true, false, events"),
        ({}, "expected true, false, events"),
        ({"on": ["run-ended"]}, "expected true, false, events"),
        ("run-end", "Did you mean 'run-ended'?"),
        ("gpu-idle", "'gpu-idle' is not an event"),
        ({"to": []}, "to: expected names of targets"),
        ({"to": [1]}, "to: expected names of targets"),
        ({"events": 3}, "expected events such as run-ended"),
    ],
)
def test_invalid_notify_option_is_explained(value: object, expected: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_run_notify(value)
    assert expected in str(refused.value)


def test_unknown_stored_notify_option_falls_back_to_the_configuration() -> None:
    assert run_notify_from_record(None) == AS_CONFIGURED
    assert run_notify_from_record({"events": 3, "to": 4}) == AS_CONFIGURED
    newer = run_notify_from_record({"events": ["run-ended", "eclipse"]})
    assert newer.events == (NotifyEvent.RUN_ENDED,)
