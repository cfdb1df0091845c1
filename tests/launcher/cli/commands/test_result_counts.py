"""`launcher results`: each name of a run counts once, and a mean says how many values it has."""

import csv
import io
import shlex

import pytest

from launcher.experiments.functions.task_files import results as results_in_python
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Failed, Outcome
from launcher.queue.store.queue import Store
from tests.build import a_spec, enqueue, finished
from tests.launcher.conftest import Launcher
from tests.launcher.queued_again import FAILED, a_seed, add, done
from tests.launcher.results.conftest import scored

__all__ = ["scored"]  # a fixture

OVER = ("results", "fix", "--over", "seed")
NOTE = "2 of 3 seeds, 1 failed"


def test_sweep_queued_twice_counts_once(launcher: Launcher, store: Store, home: Home) -> None:
    for seed in (6, 7, 8):
        if seed == 7:
            add(store, a_seed(seed), FAILED)
        else:
            done(store, home, a_seed(seed), 0.1)
    for seed in (6, 7, 8):
        done(store, home, a_seed(seed), seed / 10)
    answer = launcher.json("results", "fix")
    assert [(row["seed"], row["acc"]) for row in answer["rows"]] == [(6, 0.6), (7, 0.7), (8, 0.8)]
    assert answer["counts"] == {"jobs": 3, "older_results": {}, "without_result": {}}
    (mean,) = launcher.json(*OVER)["rows"]
    assert (mean["count"], mean["acc"]["n"]) == (3, 3)
    assert mean["acc"]["value"] == pytest.approx(0.7)
    replaced = "note: newer jobs replaced 3 older jobs. To print all: --all-jobs\n"
    assert launcher("results", "fix").err == replaced
    assert [row["seed"] for row in results_in_python("fix", frame=False)] == [6, 7, 8]


def test_older_jobs_of_a_name_are_printed_on_request(
    launcher: Launcher, store: Store, home: Home
) -> None:
    for value in (0.1, 0.6):
        done(store, home, a_seed(6), value)
    rows = launcher.json("results", "fix", "--all-jobs")["rows"]
    assert [(row["job"], row["acc"]) for row in rows] == [
        ("command/s@seed=6@1", 0.1),
        ("command/s@seed=6", 0.6),
    ]
    (row,) = launcher.json("results", "fix", "s@seed=6@1")["rows"]
    assert row["acc"] == 0.1
    (row,) = launcher.json("results", "fix", "s@*")["rows"]
    assert row["acc"] == 0.6
    assert len(results_in_python("fix", frame=False, all_jobs=True)) == 2


@pytest.mark.parametrize(
    ("outcome", "counted", "note"),
    [
        (None, {"waiting": 1}, "is waiting again"),
        (FAILED, {"failed": 1}, "failed when it ran again"),
    ],
)
def test_older_result_is_kept_with_a_note_if_the_newest_job_has_none(
    launcher: Launcher,
    store: Store,
    home: Home,
    outcome: Outcome | None,
    counted: dict[str, int],
    note: str,
) -> None:
    for seed in (6, 7):
        done(store, home, a_seed(seed), seed / 10)
    add(store, a_seed(7), outcome)
    answer = launcher.json("results", "fix")
    assert [(row["job"], row["acc"]) for row in answer["rows"]] == [
        ("command/s@seed=6", 0.6),
        ("command/s@seed=7@2", 0.7),
    ]
    assert answer["counts"] == {"jobs": 2, "older_results": counted, "without_result": {}}
    said = launcher("results", "fix").err
    replaced, kept = said.splitlines()
    assert replaced == "note: newer jobs replaced 1 older job. To print all: --all-jobs"
    assert kept == f"note: 1 of 2 jobs {note}; its older result is shown"


def test_rerunning_job_keeps_the_result_of_its_done_attempt(
    launcher: Launcher, store: Store, home: Home
) -> None:
    jobs = [done(store, home, a_seed(seed), seed / 10) for seed in (6, 7, 8)]
    store.job_control.retry(jobs[:2], 3.0)
    answer = launcher.json("results", "fix")
    assert [row["acc"] for row in answer["rows"]] == [0.6, 0.7, 0.8]
    text = "note: 2 of 3 jobs are waiting again; their older results are shown\n"
    assert launcher("results", "fix").err == text
    finished(store, jobs[0], FAILED)
    assert launcher.json("results", "fix")["counts"]["older_results"] == {"failed": 1, "waiting": 1}
    store.job_control.cancel(jobs[1:2], 4.0)
    assert "1 of 3 jobs was cancelled before it ran again" in launcher("results", "fix").err


def test_older_result_is_shown_with_the_settings_of_its_attempt(
    launcher: Launcher, store: Store, home: Home
) -> None:
    """A task file replaces a job that was changed in place."""
    for seed in (1, 2):
        done(store, home, a_seed(seed, lr=0.1), seed / 10)
    enqueue(store, a_seed(2, lr=0.2), run="fix")
    rows = launcher.json("results", "fix")["rows"]
    assert [(row["seed"], row["lr"], row["acc"]) for row in rows] == [(1, 0.1, 0.1), (2, 0.1, 0.2)]
    done(store, home, a_seed(3, lr=0.2), 0.3)
    low, high = launcher.json(*OVER)["rows"]
    assert (low["lr"], low["count"], low["count_note"]) == (0.1, 2, None)
    assert (high["lr"], high["count_note"]) == (0.2, "1 of 2 seeds, 1 waiting")


@pytest.fixture
def incomplete(store: Store, home: Home) -> None:
    """Queue a sweep over three seeds of which one failed, and jobs that belong to no mean of it."""
    for seed in (6, 8):
        done(store, home, a_seed(seed), seed / 10)
    add(store, a_seed(7), FAILED)
    add(store, a_spec("sh", "plot.sh", name="command/plot"))


@pytest.mark.usefixtures("incomplete")
def test_mean_has_its_number_of_values_in_every_format(launcher: Launcher) -> None:
    for form in ("table", "latex", "markdown"):
        assert NOTE in launcher(*OVER, "--format", form).out, form
        assert f"({NOTE})" in launcher(*OVER, "--columns", "acc", "--format", form).out, form
        assert f"({NOTE})" in launcher(*OVER, "--metric", "acc", "--format", form).out, form
    for delimiter, form in ((",", "csv"), ("\t", "tabs")):
        for words in ((), ("--columns", "acc"), ("--metric", "acc")):
            text = launcher(*OVER, *words, "--format", form).out
            (row,) = csv.DictReader(io.StringIO(text), delimiter=delimiter)
            assert row["acc_note"] == NOTE, (form, words)
    answer = launcher.json(*OVER)
    (row,) = answer["rows"]
    assert (row["count"], row["count_expected"], row["count_note"]) == (2, 3, NOTE)
    assert (row["acc"]["n"], row["acc"]["expected"], row["acc"]["note"]) == (2, 3, NOTE)
    assert answer["counts"]["without_result"] == {"failed": 1, "waiting": 1}
    (value,) = launcher.json(*OVER, "--metric", "acc")["values"]
    assert (value["n"], value["expected"], value["note"]) == (2, 3, NOTE)
    assert launcher(*OVER).err == "note: 2 of 4 jobs have no result: 1 failed, 1 waiting\n"


def test_each_reason_of_a_missing_value_is_counted(
    launcher: Launcher, store: Store, home: Home
) -> None:
    for seed in (1, 2):
        done(store, home, a_seed(seed, lr=0.1), seed / 10)
    add(store, a_seed(3, lr=0.1), FAILED)
    add(store, a_seed(4, lr=0.1))
    store.job_control.cancel([add(store, a_seed(5, lr=0.1))], 1.0)
    finished(store, add(store, a_seed(6, lr=0.1)), Done(at=2.0))
    add(store, a_seed(1, name="other", lr=0.2), FAILED)
    add(store, a_seed(1, name="again", lr=0.1), FAILED)  # its value is known
    row, other = launcher.json(*OVER)["rows"]
    assert row["count_note"] == (
        "2 of 6 seeds, 1 failed, 1 waiting, 1 cancelled, 1 without a result"
    )
    assert row["lr"] == 0.1
    assert other == {
        "lr": 0.2,
        "count": 0,
        "count_expected": 1,
        "count_note": "0 of 1 seeds, 1 failed",
    }


def test_group_whose_seeds_all_failed_has_a_row_and_notes_name_their_groups(
    launcher: Launcher, store: Store, home: Home
) -> None:
    for seed in (0, 1):
        done(store, home, a_seed(seed, lr=0.1), 0.1)
    for lr in (0.1, 0.2):
        for seed in (2, 3):
            add(store, a_seed(seed, name=f"s{lr}", lr=lr), FAILED)
    answer = launcher(*OVER, "--format", "table")
    assert [line.split() for line in answer.out.splitlines()[1:]] == [
        ["0.1", "2", "of", "4", "seeds,", "2", "failed", "0.1", "±", "0.0"],
        ["0.2", "0", "of", "2", "seeds,", "2", "failed", "–"],
    ]
    assert answer.err.splitlines() == [
        "note: lr=0.1 has 2 of 4 seeds, 2 failed",
        "note: lr=0.2 has 0 of 2 seeds, 2 failed",
        "note: 4 of 6 jobs have no result: 4 failed",
    ]
    assert [row["lr"] for row in launcher.json(*OVER, "--sort", "acc")["rows"]] == [0.1, 0.2]
    answer = launcher(*OVER, "--best", "acc", "--format", "csv")
    assert len(answer.out.splitlines()) == 1
    assert "1 row was left out of the best: 1 has a failed or missing value" in answer.err
    for lr in range(10):
        add(store, a_seed(1, name=f"s{lr}", lr=lr), FAILED)
    assert "note: values are missing from 7 more rows, see count_note\n" in launcher(*OVER).err


@pytest.mark.parametrize(
    ("program", "other"),
    [
        ("python3 -u a.py", "python3 -u b.py"),
        ("python3 -X dev a.py", "python3 -X dev b.py"),
        ("python3 -m a", "python3 -m b"),
        ("nice -n 5 python3 a.py", "nice -n 5 python3 b.py"),
        ("torchrun --nproc_per_node=2 a.py", "torchrun --nproc_per_node=2 b.py"),
        ("env A=1 ./a", "env A=1 ./b"),
        ("./a", "./b"),
        ("./tool train", "./tool test"),
        ("sh -c 'exec ./a {mode} $0'", "sh -c 'exec ./b {mode} $0'"),
    ],
)
def test_only_missing_seeds_of_the_same_program_are_counted(
    launcher: Launcher, store: Store, program: str, other: str
) -> None:
    def queue(line: str, name: str, seed: int, outcome: Outcome) -> None:
        words = [word.replace("{mode}", "fast") for word in shlex.split(line)]
        settings = {"params": {"mode": "fast", "seed": seed}}
        spec = a_spec(*words, f"--seed={seed}", name=f"command/{name}-{seed}", settings=settings)
        add(store, spec, outcome)

    for seed in (1, 2):
        queue(program, "a", seed, Done(at=2.0, result={"acc": seed}))
    for seed in (3, 4):
        queue(other, "b", seed, FAILED)
    (row,) = launcher.json(*OVER)["rows"]
    assert row["count"] == 2
    assert "count_note" not in row
    queue(program, "a", 3, FAILED)
    (row,) = launcher.json(*OVER)["rows"]
    assert row["count_note"] == NOTE


@pytest.mark.parametrize("line", ["sh -c './a {mode}'", "./a {mode}", "./a --mode={mode}"])
def test_missing_values_of_a_sweep_are_counted_wherever_they_are_in_the_command_line(
    launcher: Launcher, store: Store, line: str
) -> None:
    for mode in ("fast", "slow", "small"):
        words = [word.replace("{mode}", mode) for word in shlex.split(line)]
        spec = a_spec(*words, name=f"command/a@{mode}", settings={"params": {"mode": mode}})
        add(store, spec, FAILED if mode == "small" else Done(at=2.0, result={"acc": 1}))
    (row,) = launcher.json("results", "fix", "--over", "mode")["rows"]
    assert row["count_note"] == "2 of 3 values, 1 failed"


@pytest.mark.usefixtures("scored")
def test_means_of_tests_count_failed_tests(launcher: Launcher, store: Store) -> None:
    model = "line:pre@lr=0.1,seed=2"
    jobs = {row.name: row.id for row in store.read.jobs_of_runs_named("test")}
    tests = [number for name, number in jobs.items() if name.startswith(f"scoredtest/{model}/")]
    store.job_control.retry(tests, 3.0)
    for number in tests:
        finished(store, number, Failed(at=4.0, error="no"))
    rows = launcher.json("results", "test", "--over", "seed")["rows"]
    notes = {(row["model"], row["pooled"]): row["count_note"] for row in rows}
    assert notes == {
        ("line:pre@lr=0.1", False): NOTE,
        ("line:pre@lr=0.1", True): NOTE,
        ("line:pre@lr=0.2", False): None,
        ("line:pre@lr=0.2", True): None,
    }
    tests = [number for name, number in jobs.items() if "@lr=0.1," in name and "test/" in name]
    store.job_control.retry(tests, 5.0)
    for number in tests:
        finished(store, number, Failed(at=6.0, error="no"))
    rows = launcher.json("results", "test", "--over", "seed")["rows"]
    without = [row for row in rows if row["model"] == "line:pre@lr=0.1"]
    assert {(row["count"], row["count_note"]) for row in without} == {(0, "0 of 3 seeds, 3 failed")}


@pytest.mark.usefixtures("scored")
def test_test_of_a_retrained_model_has_no_older_result(
    launcher: Launcher, store: Store, home: Home
) -> None:
    model = "line:pre@lr=0.1,seed=2"
    jobs = {row.name: row.id for row in store.read.jobs_of_runs_named("test")}
    train, test = jobs[f"scoredtrain/{model}"], jobs[f"scoredtest/{model}/dot:pre"]
    order = home.attempt(test, 1).spec
    order.parent.mkdir(parents=True)
    (row,) = store.read.jobs_by_id([test])
    order.write_text(f'{{"spec": {row.spec_text}}}\n')
    store.job_control.retry([test], 3.0)
    counts = launcher.json("results", "test")["counts"]
    assert (counts["older_results"], counts["without_result"]) == ({"waiting": 1}, {})
    store.job_control.retry([train], 3.0)
    finished(store, train, Done(at=5.0))
    counts = launcher.json("results", "test")["counts"]
    assert (counts["older_results"], counts["without_result"]) == ({}, {"waiting": 1})
