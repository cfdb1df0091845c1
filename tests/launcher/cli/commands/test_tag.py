"""Tags and notes on jobs, and the selection `tag:NAME`."""

import json

import pytest

from launcher.states import State
from launcher.store.queue import Store
from tests.build import a_spec, enqueue, job_row
from tests.launcher.conftest import Launcher


@pytest.fixture
def three(store: Store) -> Store:
    """A queue of three jobs that nobody starts."""
    enqueue(store, *(a_spec(name=f"command/{number}") for number in (1, 2, 3)))
    return store


def ids(launcher: Launcher, *patterns: str) -> list[int]:
    answer = launcher("status", "--json", *patterns)
    assert answer.code == 0, answer
    return [job["id"] for job in json.loads(answer.out)["jobs"]]


def test_jobs_are_selected_by_their_tags(launcher: Launcher, three: Store) -> None:
    answer = launcher("tag", "1", "2", "+paper", "+ablation-2")
    assert answer.out.splitlines()[0] == "1\tcommand/1\ttags: ablation-2, paper"
    assert launcher("tag", "2", "-paper", "-never").out == "2\tcommand/2\ttags: ablation-2\n"
    assert ids(launcher, "tag:paper") == [1]
    assert ids(launcher, "tag:abl*") == [1, 2]
    assert launcher("hold", "tag:ablation-2").code == 0
    assert [job_row(three, number).state for number in (1, 2, 3)] == [
        *[State.HELD] * 2,
        State.QUEUED,
    ]


def test_tags_are_listed_with_their_jobs_and_of_jobs(launcher: Launcher, three: Store) -> None:
    assert launcher("tag").code == 0
    launcher("tag", "1", "2", "+a")
    launcher("tag", "2", "+b")
    assert launcher("tag").out == "a\t2\nb\t1\n"
    assert json.loads(launcher("tag", "2", "--json").out)["jobs"][0]["tags"] == ["a", "b"]
    assert json.loads(launcher("show", "2", "--json").out)["tags"] == ["a", "b"]
    assert "tags    a, b" in launcher("show", "2").out
    three.steering.cancel([2], 1.0)
    three.steering.forget([2])
    assert launcher("tag").out == "a\t1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("1", "+a b"), "'+a b' is no tag"),
        (("1", "+"), "'+' is no tag"),
        (("1", f"+{'x' * 65}"), "is no tag"),
        (("1", "+a\x1b[2J"), "is no tag"),
        (("+a",), "say which jobs get the tags"),
        (("1", "+a", "-a"), "cannot be both given and taken away"),
        (("9", "+a"), "no job is called '9'"),
    ],
)
def test_what_is_no_tag_is_refused(
    launcher: Launcher, three: Store, words: tuple[str, ...], said: str
) -> None:
    answer = launcher("tag", *words)
    assert (answer.code, said in answer.err) == (2, True), answer
    assert three.steering.all_tags() == {}


def test_a_dry_run_gives_no_tag_and_no_note(launcher: Launcher, three: Store) -> None:
    assert "would get +a" in launcher("tag", "1", "+a", "--dry-run").out
    assert "would have note: x" in launcher("note", "1", "x", "--dry-run").out
    assert (three.steering.all_tags(), job_row(three, 1).owner_note) == ({}, "")


def test_an_unknown_tag_is_named_with_the_nearest(launcher: Launcher, three: Store) -> None:
    launcher("tag", "1", "+paper")
    answer = launcher("status", "tag:papre")
    assert (answer.code, "did you mean tag:paper?" in answer.err) == (2, True)


def test_a_note_is_shown_and_cannot_steer_a_terminal(launcher: Launcher, three: Store) -> None:
    assert launcher("note", "1", "table 3\n\x1b[2Jhidden").out == "1\tcommand/1\tnote: table 3\n"
    assert "note    table 3\\n\\x1b[2Jhidden" in launcher("show", "1").out
    record = json.loads(launcher("status", "1", "--json").out)["jobs"][0]
    assert record["owner_note"] == "table 3\n\x1b[2Jhidden"
    assert launcher("note", "1", "").out == "1\tcommand/1\tno note\n"
    assert launcher("note", "1").out == "1\tcommand/1\t\n"
    assert launcher("note", "1", "x" * 10_001).code == 2


def test_a_tag_is_found_by_the_search_of_top(launcher: Launcher, three: Store) -> None:
    launcher("tag", "3", "+paper")
    assert three.read.matching("tag:pap*", 10) == [3]
    assert three.read.matching("paper", 10) == []
