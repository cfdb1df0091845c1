import pytest

from launcher.errors import UsageError
from launcher.job_options.notifications import (
    AS_CONFIGURED,
    Event,
    RunNotify,
    read_run_notify,
    recorded_run_notify,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, RunNotify(events=tuple(Event))),
        (False, RunNotify(events=())),
        ("run-ended", RunNotify(events=(Event.RUN_ENDED,))),
        (["first-failure", "first-failure"], RunNotify(events=(Event.FIRST_FAILURE,))),
        ({"to": "mail"}, RunNotify(to=("mail",))),
        (
            {"events": ["out-of-memory"], "to": ["mail", "desk"]},
            RunNotify(events=(Event.OUT_OF_MEMORY,), to=("mail", "desk")),
        ),
    ],
)
def test_a_run_says_what_its_owner_is_told(value: object, expected: RunNotify) -> None:
    assert read_run_notify(value) == expected
    assert recorded_run_notify(expected.record()) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "expected true, false, events"),
        ({}, "expected true, false, events"),
        ({"on": ["run-ended"]}, "expected true, false, events"),
        ("run-end", "did you mean 'run-ended'?"),
        ("gpu-idle", "'gpu-idle' is no event"),
        ({"to": []}, "to: expected names of targets"),
        ({"to": [1]}, "to: expected names of targets"),
        ({"events": 3}, "expected events such as run-ended"),
    ],
)
def test_what_is_wrong_is_named(value: object, expected: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_run_notify(value)
    assert expected in str(refused.value)


def test_what_a_newer_launcher_wrote_is_left_to_the_configuration() -> None:
    assert recorded_run_notify(None) == AS_CONFIGURED
    assert recorded_run_notify({"events": 3, "to": 4}) == AS_CONFIGURED
    newer = recorded_run_notify({"events": ["run-ended", "eclipse"]})
    assert newer.events == (Event.RUN_ENDED,)
