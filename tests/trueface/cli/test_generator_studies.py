from pathlib import Path

import pytest

from tests.trueface.commands import Command
from tests.trueface.report.run_by_hand import (
    METHODS,
    PURIFIERS,
    erased_run,
    restored_run,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "study"
    restored_run(folder)
    erased_run(folder)
    return folder


def test_purification_prints_a_row_a_purifier_and_writes_its_page(
    run: Path, command: Command
) -> None:
    page = run / "purification.html"
    document = command("purification", run, "--json", "--page", page).json
    assert document["schema"] == 1
    assert [row["method"] for row in document["purifiers"]] == [
        "none",
        *sorted(name for name, *_ in PURIFIERS if name != "none"),
    ]
    assert {row["attack"] for row in document["attacks"]} == {"pgd"}
    assert any("no adaptive attack was run" in line for line in document["verdict"])
    assert "<h1>study: purification</h1>" in page.read_text()


def test_erasing_prints_a_row_a_method_and_writes_its_page(run: Path, command: Command) -> None:
    page = run / "pages" / "erasing.html"
    document = command("erasing", run, "--json", "--page", page).json
    assert {row["method"] for row in document["methods"]} == {name for name, *_ in METHODS}
    assert "<h1>study: erasing</h1>" in page.read_text()


def test_without_json_tables_and_sentences_are_printed(run: Path, command: Command) -> None:
    text = command("purification", run).out
    assert "mse_adaptive" in text
    assert "oneshot@20" in text
    text = command("erasing", run).out
    assert "recovery" in text
    assert "The teacher draws the concept in 100 % of its samples" in text
