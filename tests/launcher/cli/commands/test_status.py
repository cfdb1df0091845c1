import json

import pytest

from launcher.states import State
from launcher.store.queue import Store
from tests.build import a_spec, enqueue, in_state, until
from tests.launcher.conftest import Launcher


@pytest.fixture
def three(launcher: Launcher, store: Store) -> Store:
    """A queue with a failed job, a held one and one that is done."""
    launcher("add", "--name", "bad", "--", "false")
    launcher("add", "--name", "kept", "--hold", "--", "true")
    launcher("add", "--name", "good", "--", "true")
    until(lambda: in_state(store, 1, State.FAILED) and in_state(store, 3, State.DONE), "both ended")
    return store


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["--failed"], ["1"]),
        (["--state", "failed"], ["1"]),
        (["--state", "done, held"], ["2", "3"]),
        (["--state", "running"], []),
        (["--all", "--state", "held"], ["2"]),
        (["good", "bad", "--failed"], ["1"]),
        (["good", "--failed"], []),
        (["--all"], ["1", "2", "3"]),
    ],
)
def test_jobs_are_listed_by_their_state(
    launcher: Launcher, three: Store, words: list[str], numbers: list[str]
) -> None:
    answer = launcher("status", *words)
    assert (answer.code, answer.err) == (0, "")
    assert [line.partition("\t")[0] for line in answer.out.splitlines()] == numbers
    record = json.loads(launcher("status", *words, "--json").out)
    assert [str(job["id"]) for job in record["jobs"]] == numbers
    assert record["truncated"] is False
    assert launcher("status", *words, "--exit-status").code == ("1" in numbers)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--state", "broken"], "expected some of queued, held, running, done, failed"),
        (["--state", ""], "expected some of queued, held, running, done, failed"),
        (["--failed", "--state", "done"], "--failed is --state failed: say one of them"),
        (["nobody", "--failed"], "no job is called 'nobody'"),
    ],
)
def test_a_state_that_there_is_not_is_named(
    launcher: Launcher, store: Store, words: list[str], message: str
) -> None:
    enqueue(store, a_spec(name="command/1"))
    answer = launcher("status", *words)
    assert (answer.code, message in answer.err) == (2, True)


def test_a_queue_that_is_not_there_has_no_failed_job(launcher: Launcher) -> None:
    assert launcher("status", "--failed").err == "no jobs\n"
