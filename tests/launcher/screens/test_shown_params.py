"""Parameters of programs on screens: what differs within a run, and what a program told last."""

import json
from collections.abc import Mapping, Sequence

import pytest

from launcher.params import PARAMS
from launcher.screens.job_view import views_of
from launcher.screens.queue_view import recent, waiting
from launcher.screens.snapshots import Queue
from launcher.states import Done
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, claimed, enqueue
from tests.launcher.conftest import Launcher
from tests.terminal import in_a_terminal


def queued(store: Store, jobs: Mapping[str, str], *, run: str = "grid") -> list[int]:
    """Queue programs by their names and what their command lines say."""
    specs = [a_spec("train.py", *words.split(), name=name, run=run) for name, words in jobs.items()]
    return enqueue(store, *specs, run=run)


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        (("--lr 0.1 --seed 1 --epochs 3", "--lr 1e-5 --seed 1 --epochs 3"), ("lr=0.1", "lr=1e-05")),
        (("--seed 1 --amp", "--seed 1"), ("amp", "")),
        (("--seed 1", "--seed 1"), ("", "")),
        (("--lr 0.342391", "--lr 2 --out a/b"), ("lr=0.3424", "lr=2")),
        ((f"--tag {'x' * 30}", "--tag y\x1b"), (f"tag={'x' * 23}…", "tag=y\\x1b")),
        (("data", ""), ("", "")),
    ],
)
def test_a_job_tells_the_parameters_in_which_jobs_of_its_run_differ(
    home: Home, store: Store, jobs: Sequence[str], told: Sequence[str]
) -> None:
    queued(store, {f"command/grid-{at}": words for at, words in enumerate(jobs)})
    queued(store, {"command/alone": "--lr 7"}, run="other")
    assert [view.told for view in views_of(home, store, store.read.jobs())] == [*told, ""]


def test_what_is_listed_is_compared_with_the_ends_of_the_whole_run(
    home: Home, store: Store
) -> None:
    queued(
        store,
        {f"command/{lr}-{seed}": f"--lr {lr} --seed {seed}" for lr in (1, 2, 3) for seed in (1, 2)},
    )
    second = store.read.jobs()[2:4]
    assert [view.told for view in views_of(home, store, second)] == ["lr=2 seed=1", "lr=2 seed=2"]


def test_what_a_name_tells_is_not_told_again(home: Home, store: Store) -> None:
    specs = [
        a_spec(
            "train.py",
            "--lr",
            str(lr),
            "--depth",
            str(at),
            name=f"command/train@lr={lr}",
            settings={PARAMS: {"lr": lr}},
        )
        for at, lr in enumerate((0.1, 1e-3))
    ]
    enqueue(store, *specs)
    assert [view.told for view in views_of(home, store, store.read.jobs())] == [
        "depth=0",
        "depth=1",
    ]


def test_a_short_command_line_that_is_shown_whole_tells_its_parameters(
    home: Home, store: Store
) -> None:
    queued(store, {"command/1": "--seed 1", "command/2": f"--seed 2 {'x' * 40}"})
    short, long = views_of(home, store, store.read.jobs())
    assert (short.told, long.told) == ("", "seed=2")


def test_lists_for_people_have_them_behind_the_name(home: Home, store: Store) -> None:
    queued(store, {f"command/grid-{seed}": f"--lr 0.342 --seed {seed}" for seed in (1, 2)})
    lines = [line.text for line in waiting(Queue(home, store).look()).drawn(80)]
    assert lines[1].startswith("○ grid-1 seed=1")
    drawn = in_a_terminal("status", "run:grid", columns=80)
    assert "grid-2 seed=2" in drawn


def test_at_80_columns_what_differs_stays_and_what_is_alike_is_cut(
    home: Home, store: Store
) -> None:
    values = [(lr, momentum) for lr in (0.1, 0.01, 0.001) for momentum in (0.9, 0.99)]
    jobs = queued(
        store,
        {
            f"command/a-long-name-of-a-sweep-{at}": f"--learning-rate {lr} --momentum {momentum}"
            for at, (lr, momentum) in enumerate(values)
        },
    )
    lines = [line.text for line in waiting(Queue(home, store).look()).drawn(80)][1:]
    assert len(lines) == len(jobs)
    for at, (line, (lr, momentum)) in enumerate(zip(lines, values, strict=True)):
        assert len(line) <= 80
        assert f"{at} l" in line
        assert f"{lr} " in line
        assert f"{momentum} " in line


def test_the_result_of_a_program_is_what_it_told_last(home: Home, store: Store) -> None:
    (job,) = queued(store, {"command/grid": "--lr 0.1"})
    claim = claimed(store, job)
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True)
    attempt.log.write_text("launcher: step=3 loss=.25\nlauncher: acc=0.91\n")
    store.scheduling.finish(claim, Done(at=2.0), outputs={}, now=2.0)
    (line,) = [line.text for line in recent(Queue(home, store).look()).drawn(100)][1:]
    assert line.endswith("loss=0.25 acc=0.91")


def test_pipes_and_json_have_all_parameters(launcher: Launcher, store: Store) -> None:
    (job,) = enqueue(store, a_spec("true", name="command/plain"))
    plain = launcher("status", "--header").out.splitlines()
    assert plain[0].split("\t") == ["id", "run", "name", "state", "since", "why"]
    enqueue(
        store,
        a_spec(
            "train.py",
            "--lr=0.1",
            "--amp",
            name="command/swept",
            settings={PARAMS: {"lr": 0.1, "n": None}},
        ),
    )
    head, first, second = launcher("status", "--header").out.splitlines()
    assert head.split("\t")[-1] == "params"
    assert first.endswith("\t")
    assert second.endswith("\tlr=0.1 n=None amp")
    records = json.loads(launcher("status", "--json").out)["jobs"]
    assert [record["params"] for record in records] == [{}, {"lr": 0.1, "n": None, "amp": True}]
    assert json.loads(launcher("show", str(job), "--json").out)["params"] == {}
