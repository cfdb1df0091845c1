import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.states import (
    ENDED,
    NEXT,
    OPEN,
    Done,
    Failed,
    Lost,
    Outcome,
    OutOfMemory,
    Shortage,
    State,
    Stopped,
    Void,
    ending,
    outcome_record,
    read_outcome,
)
from launcher.system.files import Json

times = st.floats(0, 1e10)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
amounts = st.none() | st.integers(0, (1 << 50) - 1)
outcomes = st.one_of(
    st.builds(
        Done,
        at=times,
        result=st.dictionaries(st.text(), json_values, max_size=3),
        files=st.just(()) | st.tuples(st.text(min_size=1), st.text()),
        outputs=st.lists(st.tuples(st.integers(), st.integers()), max_size=2).map(tuple),
    ),
    st.builds(
        Failed,
        at=times,
        error=st.text(),
        exit_code=st.none() | st.integers(0, 255),
        signal=st.none() | st.integers(1, 64),
    ),
    st.builds(
        OutOfMemory,
        at=times,
        error=st.text(),
        shortage=st.builds(
            Shortage,
            where=st.sampled_from(["gpu", "ram"]),
            **dict.fromkeys(["wanted", "held", "cap", "free", "total"], amounts),
            message=st.just(""),  # is no part of the record
        ),
        exit_code=st.none() | st.integers(0, 255),
        signal=st.none() | st.integers(1, 64),
    ),
    st.builds(Stopped, at=times),
    st.builds(Lost, at=times, why=st.text()),
    st.builds(Void, at=times, why=st.just(""), whose=st.just("")),
    st.builds(Void, at=times, why=st.text(min_size=1), whose=st.text()),
)


def test_every_state_says_what_may_follow_it() -> None:
    assert set(NEXT) == set(State)
    assert all(state not in NEXT[state] for state in State)


def test_a_job_begins_to_run_only_from_the_queue() -> None:
    assert [state for state in State if State.RUNNING in NEXT[state]] == [State.QUEUED]


def test_a_job_is_done_only_by_running() -> None:
    assert [state for state in State if State.DONE in NEXT[state]] == [State.RUNNING]


def test_a_running_job_is_never_held_or_skipped() -> None:
    assert NEXT[State.RUNNING] & {State.HELD, State.SKIPPED} == frozenset()


def test_what_has_ended_goes_nowhere_but_into_the_queue_again() -> None:
    assert set(State) == OPEN | ENDED
    assert all(NEXT[state] == {State.QUEUED} for state in (State.DONE, State.FAILED))
    for state in (State.CANCELLED, State.SKIPPED):  # either may have been held before
        assert NEXT[state] == {State.QUEUED, State.HELD}


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_an_outcome_is_read_as_it_was_written(outcome: Outcome) -> None:
    read = read_outcome(json.loads(json.dumps(outcome_record(outcome))))
    assert (type(read), read) == (type(outcome), outcome)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"schema": 2, "ending": "done", "at": 1.0, "result": {}},
        {"schema": 1, "ending": "done", "at": 1.0},
        {"schema": 1, "ending": "done", "at": 1.0, "result": [1]},
        {"schema": 1, "ending": "failed", "at": "yesterday"},
        {"schema": 1, "ending": "exploded", "at": 1.0},
    ],
)
def test_an_outcome_that_cannot_be_understood_is_lost(record: dict[str, Json]) -> None:
    assert isinstance(read_outcome(record), Lost)


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_an_ending_is_one_word(outcome: Outcome) -> None:
    words = {"done", "failed", "out-of-memory", "stopped", "lost", "void"}
    assert ending(outcome) in words
    assert outcome_record(outcome)["ending"] == ending(outcome)
