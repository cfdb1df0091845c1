from pathlib import Path

import pytest

from launcher.store.queue import Store
from launcher.system.paths import Home
from launcher.web import run_data
from launcher.web.run_data import folders_of, read_runs
from tests.build import a_spec, claimed, enqueue, job_row
from tests.launcher.results.conftest import scored
from tests.launcher.results.scored_toys import SCORES
from tests.launcher.web.made_runs import a_png, a_training

__all__ = ["scored"]  # a fixture


def test_a_run_has_results_pictures_and_reports(home: Home, store: Store, scored: Path) -> None:
    (scored / "report.html").write_text('<svg viewBox="0 0 200 9"><title>ROC</title></svg>')
    (scored / "preview.png").write_bytes(a_png())
    data = read_runs(home, [1])
    assert len(data.compared.results.rows) == 6 * 4
    assert [report.path for report in data.reports] == ["report.html"]
    assert [picture.path for picture in data.gallery.pictures] == ["preview.png"]
    assert data.trouble == ""


def test_whatever_a_laboratory_raises_is_said(home: Home, store: Store, scored: Path) -> None:
    for file in scored.rglob(SCORES):
        file.write_text("{}")
    data = read_runs(home, [1])
    assert data.trouble.startswith("the results cannot be read: KeyError")
    assert data.compared.results.rows == ()


def test_runs_of_too_many_jobs_lead_to_the_command_line(
    home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_data, "MOST_JOBS", 1)
    for rate in (0.1, 0.2):
        a_training(store, tmp_path, "night", settings={"lr": rate}, result={"auc": rate})
    assert "2 jobs are too many for a page; `launcher results RUN`" in read_runs(home, [1]).trouble


def test_a_run_that_is_gone_has_nothing(home: Home, store: Store) -> None:
    assert read_runs(home, [77]).compared.results.rows == []


def test_folders_are_those_of_a_run_and_its_jobs(home: Home, store: Store, tmp_path: Path) -> None:
    inside, outside = tmp_path / "runs" / "night" / "net", tmp_path / "data"
    spec = a_spec(run="night", root=str(tmp_path), outputs=(str(inside), str(outside)))
    (number,) = enqueue(store, spec, run="night", root=tmp_path)
    assert folders_of(home, [job_row(store, number)]) == {
        "run": tmp_path / "runs" / "night",
        "output-1-1": outside,
    }
    claimed(store, number)
    folders = folders_of(home, [job_row(store, number)])
    assert folders["attempt-1"] == home.attempt(1, 1).folder


@pytest.mark.parametrize("name", ["../elsewhere", "..", "a/b"])
def test_a_name_that_is_a_path_has_no_folder(
    home: Home, store: Store, tmp_path: Path, name: str
) -> None:
    spec = a_spec(run=name, root=str(tmp_path))
    (number,) = enqueue(store, spec, run=name, root=tmp_path)
    assert folders_of(home, [job_row(store, number)]) == {}
