"""A table of a study has the same numbers in a terminal, on a page and for LaTeX."""

import re
from pathlib import Path

import pytest

from tests.trueface.commands import Command
from tests.trueface.group_runs import logits, write_faces, write_tests
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
