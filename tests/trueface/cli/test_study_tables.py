"""A table of a study has the same numbers in a terminal, on a page and for LaTeX."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from tests.trueface.commands import Command
from tests.trueface.group_runs import COUNT, logits, write_faces, write_tests
from trueface.cli import main


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`trueface` in a folder with a run of two methods, one of them with two seeds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    write_faces(tmp_path / "faces.csv")
    run = tmp_path / "runs" / "study"
    for name, seed, power in (("plain", 0, 2.0), ("plain", 1, 1.8), ("mix", 0, 1.5)):
        for corrupt, drop in (("none", 1.0), ("jpeg50", 0.5)):
            values = [logits(label, power=power * drop, skew=0.5, seed=seed) for label in (0, 1)]
            write_tests(run, f"gan2:pre@fair={name},seed={seed}", values, corrupt=corrupt)
    return Command(capsys, main.run)


@pytest.mark.parametrize(
    "words",
    [("fairness", "--by", "gender", "--measures"), ("qualities", "--against", "gan2:pre@fair=mix")],
)
def test_numbers_of_a_study_are_equal_in_a_terminal_on_a_page_and_for_latex(
    command: Command, words: tuple[str, ...]
) -> None:
    text = command(*words, "study", "--page", "study.html").out
    latex = command(*words, "study", "--latex").out
    row, *_ = re.findall(r"^gan2:pre@fair=plain  +2 .*", text, re.MULTILINE)
    numbers = re.findall(r"\d+\.\d+", row)
    assert len(numbers) > 4
    line, *_ = re.findall(r"^gan2:pre@fair=plain & 2 .*", latex, re.MULTILINE)
    assert re.findall(r"\d+\.\d+", line) == numbers
    rows = re.findall(r'<th scope="row">(fair=<wbr>plain<.*?)</tr>', Path("study.html").read_text())
    assert sorted(numbers) == sorted(re.findall(r"\d+\.\d+", rows[0]))
    assert latex.count(r"\begin{tabular}") == latex.count(r"\bottomrule") > 1


def test_csv_has_verdicts_and_the_reasons_of_missing_values(
    command: Command, tmp_path: Path
) -> None:
    constant = [np.full(COUNT, 5.0)] * 2
    write_tests(tmp_path / "runs" / "study", "gan2:pre@fair=dead,seed=0", constant)
    lines = [*csv.DictReader(command("fairness", "study", "--csv", "-").out.splitlines())]
    assert [*lines[0]] == [
        "model", "data", "by", "threshold", "group", "measure", "value", "low", "high",
        "n_real", "n_fake", "why", "verdict",
    ]  # fmt: skip
    rows = {(line["model"], line["by"], line["group"], line["measure"]): line for line in lines}
    gap = rows["gan2:pre@fair=dead,seed=0", "gender", "", "auc_gap"]
    assert [gap[name] for name in ("value", "low", "why", "verdict")] == [
        "0.0", "", "no interval is computed for this measure", "constant, lower AUC, not comparable",
    ]  # fmt: skip
    document = command("fairness", "study", "--by", "gender", "--json").json
    verdicts = {row["method"]: row["verdict"]["text"] for row in document["tables"][0]["rows"]}
    assert verdicts["gan2:pre@fair=dead"].startswith("constant")
    lines = [
        *csv.DictReader(
            command(
                "qualities", "study", "--against", "gan2:pre@fair=mix", "--csv", "-"
            ).out.splitlines()
        )
    ]
    minus = "auc_minus_gan2:pre@fair=mix"
    assert {line["verdict"] for line in lines if line["measure"] == minus} == {"gain"}
    assert [*lines[0]][-2:] == ["why", "verdict"]
