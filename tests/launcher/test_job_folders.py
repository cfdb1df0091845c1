"""Names of the folders of added jobs in a run that several queue folders use."""

import json
from pathlib import Path

import pytest

from launcher.queue.home.home_checks import home_id
from launcher.queue.home.paths import Home, make_home
from launcher.queue.jobs.context import JOBS, job_folder
from launcher.queue.jobs.job import Spec, Terms
from launcher.queue.jobs.job_folders import (
    OWNER,
    is_owned_by_another,
    with_folder_suffix,
    with_folder_suffixes,
)
from tests.build import a_spec

PROJECT_RUN = "runs/night"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


def a_home(tmp_path: Path, name: str) -> Home:
    home = Home(tmp_path / name)
    make_home(home)
    return home


def names(
    project: Path, home: Home, first: int = 12, number: int = 1, *, planned: bool = False
) -> list[str]:
    spec = a_spec("true", "{job_folder}", root=str(project), run="night", hash="0f" * planned)
    specs = with_folder_suffixes([spec] * number, first, home)
    return [job_folder(spec, job).name for job, spec in enumerate(specs, first)]


def test_jobs_of_a_second_queue_folder_have_other_folders(project: Path, tmp_path: Path) -> None:
    first, second = a_home(tmp_path, "first"), a_home(tmp_path, "second")
    suffix = home_id(second.record)[:4]
    assert names(project, first, number=2) == ["12", "13"]
    assert names(project, second, number=2) == [f"12-{suffix}", f"13-{suffix}"]
    assert names(project, second, number=70)[-1] == f"81-{suffix}"
    run_folder = project / PROJECT_RUN
    assert [is_owned_by_another(run_folder, home) for home in (first, second)] == [False, True]
    moved = Home(first.folder.rename(tmp_path / "moved"))
    assert names(project, moved) == ["12"]
    assert not is_owned_by_another(run_folder, second)  # the path of the owner is empty
    assert [path.name for path in (run_folder / JOBS).iterdir()] == [OWNER]


@pytest.mark.parametrize("number", [1, 70])  # names are looked up, or listed
def test_name_of_an_existing_folder_is_not_used_again(
    project: Path, tmp_path: Path, number: int
) -> None:
    home = a_home(tmp_path, "home")
    names(project, home)
    for name in ("12", "12-2"):
        (project / PROJECT_RUN / JOBS / name).mkdir()
    assert names(project, home, number=number)[:2] == ["12-3", "13"][:number]


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', "[]"])
def test_damaged_record_of_the_owner_gives_every_queue_folder_a_suffix(
    project: Path, tmp_path: Path, text: str
) -> None:
    home = a_home(tmp_path, "home")
    names(project, home)
    (project / PROJECT_RUN / JOBS / OWNER).write_text(text)
    assert names(project, home) == [f"12-{home_id(home.record)[:4]}"]


def test_other_jobs_and_runs_of_the_queue_folder_need_no_record(
    project: Path, tmp_path: Path
) -> None:
    home = a_home(tmp_path, "home")
    other = a_spec("true", root=str(project), run="night")
    assert with_folder_suffixes([other], 12, home) == [other]
    assert names(project, home, planned=True) == ["1"]
    assert not project.exists()
    assert names(home.folder, home) == ["12"]
    assert not (home.folder / "runs").exists()
    project.mkdir()
    (project / "runs").write_text("no folder")  # the attempt reports that
    assert names(project, home) == ["12"]


def test_folder_of_a_changed_job_stays_and_a_new_one_has_its_name_checked(
    project: Path, tmp_path: Path
) -> None:
    home = a_home(tmp_path, "home")
    names(project, home)
    (project / PROJECT_RUN / JOBS / "12").mkdir()
    plain = a_spec("true", root=str(project), run="night")
    spec = plain._replace(terms=Terms(metrics="{job_folder}/a.csv"))

    def suffix(former: Spec | None) -> str:
        return with_folder_suffix(spec, 12, former, home).folder_suffix

    assert [suffix(former) for former in (spec, plain, None)] == ["", "-2", "-2"]


def test_owner_is_recorded_with_its_id_and_folder(project: Path, tmp_path: Path) -> None:
    home = a_home(tmp_path, "home")
    names(project, home)
    record = json.loads((project / PROJECT_RUN / JOBS / OWNER).read_text())
    assert record == {"schema": 1, "id": home_id(home.record), "folder": str(home.folder)}
