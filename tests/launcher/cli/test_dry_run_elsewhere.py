"""A dry run for a cluster writes nothing and submits nothing, whatever its engine says."""

import json
from pathlib import Path

import pytest

from tests.launcher.conftest import Launcher

FILE = """
name: away
command:
  - {name: first, argv: [echo], resources: {on: "slurm,local"}}
  - {name: then, argv: [echo], resources: {on: slurm}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "away.yaml").write_text(FILE)
    config = tmp_path / "config.toml"
    config.write_text('[backends.slurm]\nkind = "local"\ncpus = 2\npilots = 3\n')
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(folder)
    return folder


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.parent.rglob("*")}


def test_a_dry_run_says_where_jobs_would_go_and_leaves_no_trace(
    launcher: Launcher, project: Path
) -> None:
    before = everything(project)
    answer = launcher("run", "away.yaml", "--dry-run")
    assert answer.code == 0, answer.err
    assert "On slurm, all but 1 else on this machine: 2 command; 1 pilot with 2 cores" in " ".join(
        answer.out.split()
    )
    assert everything(project) == before
    assert not (project.parent / "none").exists(), "no queue, no pilots"


def test_its_json_has_the_shape_and_the_number_of_pilots(launcher: Launcher, project: Path) -> None:
    record = json.loads(launcher("run", "away.yaml", "--dry-run", "--json").out)
    (slurm,) = record["backends"]
    assert (slurm["name"], slurm["jobs"], slurm["otherwise"]) == (
        "slurm",
        {"command": 2},
        ["local"],
    )
    assert (slurm["pilots_first"], slurm["pilots_most"]) == (1, 1)
    assert slurm["pilot"] == {
        "cpus": 2,
        "gpus": 0,
        "gpu_type": None,
        "ram": None,
        "seconds": None,
    }


def test_the_command_to_paste_names_the_places(launcher: Launcher, project: Path) -> None:
    answer = launcher("run", "away.yaml", "--dry-run", "--on", "slurm")
    assert answer.out.endswith("To start: launcher run away.yaml --on slurm\n"), answer.err
