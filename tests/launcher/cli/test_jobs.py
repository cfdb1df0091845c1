from collections.abc import Sequence

import pytest

from launcher.cli.jobs import only_job, select
from launcher.errors import UsageError
from launcher.store.queue import Store
from tests.build import a_spec, enqueue
from tests.launcher.conftest import Launcher

NAMES = ("train/a", "train/ab", "train/c", "test/[x]", "12")


@pytest.fixture
def filled(store: Store) -> Store:
    """A queue with a few jobs in two runs."""
    enqueue(store, *(a_spec(name=name) for name in NAMES), run="quick")
    enqueue(store, a_spec(name="train/a"), run="quicker")
    return store


@pytest.mark.parametrize(
    ("patterns", "numbers"),
    [
        (["2"], [2]),
        (["5"], [5]),
        (["train/a"], [1, 6]),
        (["train/"], [1, 2, 3, 6]),
        (["train/*b"], [2]),
        (["train/a*"], [1, 2, 6]),
        (["test/[x]"], [4]),
        (["*"], [1, 2, 3, 4, 5, 6]),
        (["run:quick"], [1, 2, 3, 4, 5]),
        (["run:quicker"], [6]),
        (["run:quick*"], [1, 2, 3, 4, 5, 6]),
        (["run:*er"], [6]),
        (["3", "train/a", "1"], [1, 3, 6]),
        ([], []),
    ],
)
def test_jobs_are_chosen(filled: Store, patterns: Sequence[str], numbers: list[int]) -> None:
    assert [job.id for job in select(filled, patterns)] == numbers


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("train/a", [6]),
        ("1", [1]),
        ("train/", [1, 2, 3, 6]),
        ("train/*", [1, 2, 3, 6]),
        ("run:quick*", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_what_waits_for_a_whole_name_waits_for_its_newest_job(
    filled: Store, launcher: Launcher, pattern: str, numbers: list[int]
) -> None:
    assert [job.id for job in select(filled, [pattern], newest=True)] == numbers
    assert launcher("add", "--after", pattern, "--", "true").code == 0
    assert [job.id for job in filled.read.needed_by(7)] == numbers


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("trian/c", "no job is called 'trian/c', did you mean 'train/c'?"),
        ("Train/", "did you mean 'train/"),
        ("run:quik", "there is no run 'quik', did you mean run:quick?"),
        ("run:zzz*", "there is no run 'zzz*' (known: quick, quicker)"),
        ("run:", "there is no run ''"),
        ("7", "no job is called '7'; `launcher status --all` lists every job"),
        ("9" * 30, "no job is called '999"),
        ("9" * 5000, "no job is called '999"),
        ("²", "no job is called '²'"),
        ("٣", "no job is called '٣'"),
        ("", "no job is called ''"),
        ("\udcff", "no job is called '\\udcff'"),
        ("zzz*", "no job is called 'zzz*'"),
    ],
)
def test_what_matches_nothing_is_an_error(filled: Store, pattern: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(filled, ["1", pattern])
    assert message in str(caught.value)


def test_a_command_is_found_without_its_kind(store: Store) -> None:
    enqueue(store, *(a_spec(name=f"command/{name}") for name in ("prep", "prepare", "12", "last")))
    assert [job.name for job in select(store, ["prep"])] == ["command/prep"]
    assert [job.name for job in select(store, ["prepa"])] == ["command/prepare"]
    assert [job.name for job in select(store, ["*st"])] == ["command/last"]
    assert [job.id for job in select(store, ["2"])] == [2], "a number is a job's number"
    with pytest.raises(UsageError):
        select(store, ["command/1"])  # is not the beginning of command/12


def test_one_job_is_the_newest_of_its_name(filled: Store) -> None:
    assert only_job(filled, "train/a").id == 6
    assert only_job(filled, "train/c").id == 3
    with pytest.raises(UsageError, match=r"matches 3 jobs \(train/a, train/ab\); name one"):
        only_job(filled, "train/a*")


def test_a_pattern_without_a_queue_names_nothing(store: Store) -> None:
    with pytest.raises(
        UsageError, match="no job is called 'a'; `launcher status --all` lists every job"
    ):
        select(store, ["a"])
    with pytest.raises(UsageError, match=r"there is no run 'a' \(known: none\)"):
        select(store, ["run:a"])
