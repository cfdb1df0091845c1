from pathlib import Path

import pytest

from tests.trueface.audit.build import DATA, FAKE, REAL, TESTS, Lab, answers, write_attributes
from trueface.cli import main


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_fairness_writes_its_page_beside_its_table(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    write_attributes(lab, lambda place, fake: 1 if place % 2 else -1)
    page = lab.run / "fairness.html"
    assert main.run(["fairness", str(lab.run), "--by", "gender", "--page", str(page)]) == 0
    assert "FPR gap" in capsys.readouterr().out
    text = page.read_text()
    assert "<h1>night: fairness</h1>" in text
    assert "nonmale" in text
    assert "No common FPR" in text  # the weights of this run are no checkpoint


def test_qualities_writes_its_page_beside_its_table(lab: Lab) -> None:
    for data, key, label in zip(TESTS, (FAKE, REAL), (1, 0), strict=True):
        keys = [each for each in lab.lists["test"] if each.startswith(key)]
        lab.scores(lab.run / DATA, f"{data}@corrupt=jpeg50", keys, label, answers(label, len(keys)))
    page = lab.root / "new" / "q.html"
    assert main.run(["qualities", str(lab.run), "--page", str(page)]) == 0
    text = page.read_text()
    assert "<h1>night: qualities</h1>" in text
    assert "jpeg50" in text
