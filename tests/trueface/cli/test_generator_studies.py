import json
from pathlib import Path

import pytest

from tests.trueface.report.run_by_hand import (
    METHODS,
    PURIFIERS,
    erased_run,
    restored_run,
)
from trueface.cli import main as cli


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "study"
    restored_run(folder)
    erased_run(folder)
    return folder


def test_purification_prints_a_row_a_purifier_and_writes_its_page(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run / "purification.html"
    assert cli.run(["purification", str(run), "--json", "--page", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert [row["method"] for row in document["purifiers"]] == [
        "none",
        *sorted(name for name, *_ in PURIFIERS if name != "none"),
    ]
    assert {row["attack"] for row in document["attacks"]} == {"pgd"}
    assert any("no adaptive attack was run" in line for line in document["verdict"])
    assert "<h1>study: purification</h1>" in page.read_text()


def test_erasing_prints_a_row_a_method_and_writes_its_page(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run / "pages" / "erasing.html"
    assert cli.run(["erasing", str(run), "--json", "--page", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in document["methods"]} == {name for name, *_ in METHODS}
    assert "<h1>study: erasing</h1>" in page.read_text()


def test_without_json_tables_and_sentences_are_printed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["purification", str(run)]) == 0
    text = capsys.readouterr().out
    assert "mse_adaptive" in text
    assert "oneshot@20" in text
    assert cli.run(["erasing", str(run)]) == 0
    text = capsys.readouterr().out
    assert "recovery" in text
    assert "The teacher draws the concept in 100 % of its samples" in text
