"""`launcher add --sweep`: a job of each combination of values, all or none."""

from pathlib import Path

import pytest

from launcher.states import State
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import job_row
from tests.launcher.conftest import Launcher

GRID = ("add", "--name", "grid", "--sweep", "lr=0.1,1e-2", "--sweep", "seed=1..3")
GO = ("--", "sh", "-c", "echo {lr} {seed} $LAUNCHER_PARAMS")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_combination_is_a_job_that_knows_its_values(launcher: Launcher, store: Store) -> None:
    answer = launcher(*GRID, "--cpus", "2", "--run", "mine", *GO)
    pairs = [(lr, seed) for lr in ("0.1", "0.01") for seed in (1, 2, 3)]
    names = [f"command/grid@lr={lr},seed={seed}" for lr, seed in pairs]
    assert answer.out == "".join(f"{number}\t{name}\n" for number, name in enumerate(names, 1))
    assert launcher("wait").code == 0
    row = job_row(store, 4)
    assert (row.name, row.run, row.spec.resources.cpus) == (names[3], "mine", 2)
    assert row.spec.settings == {"params": {"lr": 0.01, "seed": 1}}
    assert launcher("logs", "4").out == '1e-2 1 {"lr": 0.01, "seed": 1}\n'


def test_a_job_that_has_its_name_already_ended_or_refuses_all_of_them(
    launcher: Launcher, store: Store
) -> None:
    launcher("add", "--name", "grid", "--sweep", "lr=0.1", "--", "true", "{lr}")
    assert launcher("wait").code == 0
    answer = launcher("add", "--hold", "--name", "grid", "--sweep", "lr=0.1,2", "--", "a", "{lr}")
    assert answer.err.startswith("job 1 (done) is called command/grid@lr=0.1@1 from now on\n")
    again = launcher("add", "--name", "grid", "--sweep", "lr=1,0.1", "--", "true", "{lr}")
    assert (again.code, "'command/grid@lr=0.1' is job 2, which is held" in again.err) == (2, True)
    assert len(store.read.jobs()) == 3, "all or none"


def test_without_a_name_they_have_numbers_and_words_stand_for_all_values(
    launcher: Launcher, store: Store
) -> None:
    answer = launcher("add", "--hold", "--sweep", "a=x,y", "--", "true", "{sweep}", "{{b}}", "null")
    assert answer.out == "1\tcommand/1\n2\tcommand/2\n"
    assert job_row(store, 2).spec.argv == ("true", "--a=y", "{b}", "null")
    assert job_row(store, 2).state is State.HELD
    launcher("add", "--hold", "--", "awk", "{print $1} {sweep}")
    assert job_row(store, 3).spec.argv == ("awk", "{print $1} {sweep}")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            (*GRID, "--dry-run", "--", "go", "{sweep}"),
            ["command/grid@lr=0.1,seed=1\tgo --lr=0.1 --seed=1"],
        ),
        (("add", "--dry-run", "--", "go", "a b"), ["command/…\tgo 'a b'"]),
    ],
)
def test_a_dry_run_lists_them_and_queues_nothing(
    launcher: Launcher, home: Home, words: tuple[str, ...], lines: list[str]
) -> None:
    answer = launcher(*words)
    listed = answer.out.splitlines()
    assert (answer.code, listed[: len(lines)]) == (0, lines)
    count = "6 jobs" if "grid" in words else "1 job"
    assert (f"{len(listed)} job" in count, count in answer.err) == (True, True)
    assert not home.database.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sweep", "lr=1", "--", "go"), "no argument uses lr"),
        (("--sweep", "lr=1", "--", "go", "{lt}"), "no value is called 'lt'"),
        (("--sweep", "lr", "--", "go", "{lr}"), "expected NAME=VALUE,VALUE,…"),
        (("--sweep", "lr=1,,2", "--", "go", "{lr}"), "expected NAME=VALUE,VALUE,…"),
        (("--sweep", "lr=3..1", "--", "go", "{lr}"), "expected NAME=VALUE,VALUE,…"),
        (("--sweep", "lr=1", "--sweep", "lr=2", "--", "go", "{lr}"), "'lr' is given twice"),
        (("--sweep", "lr=a/b", "--", "go", "{lr}"), "'a/b' cannot stand in the name"),
        (("--sweep", "lr=a b", "--", "go", "{lr}"), "'a b' cannot stand in the name"),
        (("--sweep", "lr=a\nb", "--", "go", "{lr}"), "cannot stand in the name"),
        (("--sweep", "lr=1,1.0", "--", "go", "{lr}"), "lr has this value twice"),
        (("--sweep", "l r=1", "--", "go", "{l r}"), "a name has letters, digits"),
        (("--sweep", "a=1..10001", "--", "go", "{a}"), "10,001 values"),
        (
            ("--sweep", "a=1..101", "--sweep", "b=1..100", "--", "go", "{sweep}"),
            "10,100 combinations",
        ),
        (("--sweep", "a=1", "--name", "x{b}", "--", "go", "{a}"), "no value is called 'b'"),
        (("--sweep", "a=1", "--from", "x.txt"), "leave one of them out"),
        (("--sweep", "a=1", "--replace", "--name", "x", "--", "go", "{a}"), "--sweep makes new"),
        (("--sweep", "a=1"), "Missing argument"),
    ],
)
def test_what_cannot_be_is_refused(
    launcher: Launcher, home: Home, words: tuple[str, ...], message: str
) -> None:
    Path("x.txt").write_text("go\n")
    answer = launcher("add", *words)
    assert (answer.code, message in answer.err) == (2, True), answer
    assert not home.database.exists()


def test_a_mistake_is_shown_in_the_command_line(launcher: Launcher) -> None:
    answer = launcher("add", "--sweep", "lr=1,2", "--name", "t", "--", "go", "a {hiden}")
    assert answer.err == (
        "error[braces]: no value is called 'hiden'\n"
        " --> launcher add:1:34\n"
        "  |\n"
        "1 | --sweep lr=1,2 --name t -- go 'a {hiden}'\n"
        "  |                                  ^^^^^^^ a brace of the text is written {{ or }}\n"
        "  = known: lr\n"
        "\n1 error in launcher add; nothing was queued\n"
    )


def test_an_edit_of_resources_keeps_the_values_and_one_of_words_drops_them(
    launcher: Launcher, store: Store
) -> None:
    launcher("add", "--hold", "--name", "t", "--sweep", "lr=1", "--", "true", "{lr}")
    assert launcher("edit", "t@lr=1", "--set", "resources.cpus=2").code == 0
    row = job_row(store, 1)
    assert (row.spec.argv, row.spec.settings) == (("true", "1"), {"params": {"lr": 1}})
    assert launcher("edit", "t@lr=1", "--set", 'argv=["true", "2"]').code == 0
    row = job_row(store, 1)
    assert (row.spec.argv, "params" in row.spec.settings) == (("true", "2"), False)
