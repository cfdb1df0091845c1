import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from launcher.api import install_command
from tests.trueface.audit.build import POISONED, Lab, update_json
from tests.trueface.commands import Command
from trueface.runtime import paths


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_plots_of_a_report_are_also_files_next_to_it(lab: Lab, command: Command) -> None:
    figures = lab.run / "report-figures"
    command("report", lab.run)
    model = next(figures.rglob("01 ROC curves.svg")).parent
    old, mine = model / "99 Reliability.pdf", figures / "notes" / "2024-11 mine.svg"
    mine.parent.mkdir()
    (model / "01 a folder.svg").mkdir()
    for path in (old, mine):
        path.touch()
    command("report", lab.run)
    assert not old.exists()
    assert mine.exists()
    mine.unlink()
    (model / "01 a folder.svg").rmdir()
    files = sorted(figures.rglob("*.svg"))
    assert "01 ROC curves.svg" in {file.name for file in files}
    assert {file.parent.name for file in files} <= {folder.name for folder in lab.run.iterdir()}
    for file in files:
        root = ElementTree.fromstring(file.read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "--real" in (root[1].text or "")  # the colours of the page


def test_figures_are_also_written_for_papers_on_request(lab: Lab, command: Command) -> None:
    shutil.rmtree(lab.run / POISONED)
    command("report", lab.run, "--pdf")
    out = lab.root / "page.html"
    kept = lab.root / "page-figures" / "mine.png"
    kept.parent.mkdir()
    kept.touch()
    command("report", lab.run, "--out", out, "--pdf", "--png")
    inside, beside = (
        {file.relative_to(folder) for file in folder.glob("*/*")}
        for folder in (lab.run / "report-figures", kept.parent)
    )
    plots = {file.with_suffix("") for file in inside}
    assert inside == {plot.with_suffix(end) for plot in plots for end in (".svg", ".pdf")}
    assert beside == {plot.with_suffix(end) for plot in plots for end in (".pdf", ".png")}
    assert kept.exists()  # only files that a report wrote are replaced


def test_missing_matplotlib_is_reported_with_the_package_to_install(
    lab: Lab, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = f"--png needs matplotlib: {install_command('plots')}"
    assert told in command("report", lab.run, "--png", code=3).err
    assert not (lab.run / "report.html").exists()


def test_report_of_a_faulty_run_is_still_written(lab: Lab, command: Command) -> None:
    update_json(paths.provenance(lab.run / POISONED), flipped_train=0)
    command("report", lab.run)
    assert "flag-without-effect" in (lab.run / "report.html").read_text()


def test_missing_run_gives_no_report(tmp_path: Path, command: Command) -> None:
    out = tmp_path / "page.html"
    assert "error: run " in command("report", tmp_path / "none", "--out", out, code=2).err
    assert not out.exists()


def test_report_in_the_run_is_not_taken_for_a_model(lab: Lab, command: Command) -> None:
    path = lab.run / "report.html"
    for _ in range(2):
        assert command("report", lab.run).out == f"{path}\n"
    assert "2 models" in path.read_text()
    assert not list(lab.run.glob(".*"))  # nothing half-written is left


def test_report_can_be_written_elsewhere_and_links_the_pages_next_to_it(
    lab: Lab, command: Command
) -> None:
    out = lab.root / "new" / "page.html"
    (lab.run / "fairness.html").write_text("")
    command("report", lab.run, "--out", out)
    assert "night: report" in out.read_text()
    assert not [*out.parent.glob("*figures"), *lab.run.glob("report*")]
    assert "fairness.html" not in out.read_text()
    command("report", lab.run, "--out", lab.run / "report.html")
    assert '<a href="fairness.html">Fairness</a>' in (lab.run / "report.html").read_text()
    assert "qualities.html" not in (lab.run / "report.html").read_text()
