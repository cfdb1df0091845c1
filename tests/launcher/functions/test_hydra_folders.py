"""Hydra programs that may write into one folder are found by their words and their script."""

from pathlib import Path

import pytest

from launcher.experiments.functions.hydra_folders import shared_folder_warning
from tests.launcher.conftest import Launcher


@pytest.mark.parametrize(
    ("words", "is_warned"),
    [
        ("python train.py lr={}", True),
        ("python -m pkg.train +lr={}", True),
        ("train hydra.job.chdir=true lr={}", True),
        ("python train.py hydra/job_logging=none lr={}", True),
        ("python train.py --lr={}", False),
        ("python plain.py lr={}", False),
        ("python missing.py lr={}", False),
        ("python train.py lr={} hydra.run.dir={{job_folder}}", False),
        ("python train.py lr={} ++hydra.run.dir=out/{}", False),
    ],
)
def test_jobs_that_may_share_a_folder_are_warned_of(
    tmp_path: Path, words: str, *, is_warned: bool
) -> None:
    (tmp_path / "train.py").write_text('"""Trains."""\n\nfrom hydra import main\n')
    (tmp_path / "plain.py").write_text("# import hydra\n")
    programs = [words.replace("{}", value).split() for value in ("1", "2")]
    assert bool(shared_folder_warning(programs, str(tmp_path))) == is_warned
    assert shared_folder_warning(programs[:1], str(tmp_path)) == ""


def test_line_of_the_warning_works_as_typed(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import hydra\n")
    add = ("add", "--hold", "--sweep", "lr=1,2", "--", "python", "train.py", "lr={lr}")
    assert launcher.well(*add).err == (
        "warning: 2 jobs can write into one folder: Hydra's outputs/DATE/TIME has whole seconds. Give each its own: "
        "launcher add --hold --sweep lr=1,2 -- python train.py 'lr={lr}' 'hydra.run.dir={job_folder}'\n"
    )
    assert launcher.well(*add, "hydra.run.dir={job_folder}").err == ""
    entry = '{name: a, argv: [python, train.py, "lr={lr}"], matrix: {lr: [1, 2]}}'
    (tmp_path / "t.yaml").write_text(f"name: t\ncommand:\n  - {entry}\n")
    assert (
        "Give each its own: hydra.run.dir={job_folder}"
        in launcher.well("run", "t.yaml", "--dry-run").err
    )
    entry = entry.replace(
        "matrix: {lr: [1, 2]}", "search: {metric: acc, trials: 2, values: {lr: 1..3}}"
    )
    (tmp_path / "t.yaml").write_text(f"name: t\ncommand:\n  - {entry}\n")
    search = ("--search", "acc", "--trials", "2", "--sweep", "lr=1..3", "--dry-run")
    program = ("--", "python", "train.py", "lr={lr}")
    warned = "warning: 2 jobs can write into one folder"
    assert warned in launcher.well("run", "t.yaml", "--dry-run").err
    assert warned in launcher.well("add", *search, *program).err
    assert not launcher.well("add", *search, *program, "hydra.run.dir={job_folder}").err.startswith(
        "warning"
    )
