"""Tables and pages of measures: `trueface fairness` and `trueface qualities`."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from tests.trueface.audit.build import (
    DATA,
    FAKE,
    REAL,
    TESTS,
    Lab,
    write_attributes,
)
from tests.trueface.audit.build import (
    make_logits as answers,
)
from tests.trueface.commands import Command
from tests.trueface.group_runs import logits, write_faces, write_tests

MODELS = ("gan2:pre@fair=none,seed=1", "gan2:pre@fair=none,seed=2", "gan2:pre@fair=dag")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "skew"
    write_faces(tmp_path / "faces.csv")
    for model, power in zip(MODELS, (3.0, 3.0, 0.3), strict=True):
        for corrupt, fraction in (("none", 1.0), ("jpeg50", 0.5)):
            values = [logits(y, power=fraction * power, skew=1.0) for y in (0, 1)]
            write_tests(folder, model, values, corrupt=corrupt)
    return folder


def test_fairness_prints_methods_over_seeds_with_floors_and_explanations(
    run: Path, command: Command
) -> None:
    out = command("fairness", run, "--by", "gender", "--rank", "--groups").out
    table = out.split("gan2:pre by gender")[1].splitlines()
    (first, second) = (line for line in table[:6] if line.startswith("gan2:pre@fair="))
    assert first.startswith("gan2:pre@fair=none      2  ")
    assert re.search(r" \d+\.\d ± \d+\.\d \[\d+\.\d\]", first)
    assert first.endswith("above chance")
    assert second.startswith("gan2:pre@fair=dag")
    assert second.endswith("lower AUC, not comparable")
    assert "\n\ngan2:pre@fair=dag: lower AUC, not comparable: -0.4" in out
    assert "no FPR gap at 10% FPR: the checkpoint with" in out
    assert "gan2:pre@fair=dag, gan2:pre by gender" in out  # of --groups
    out = command("fairness", run, "--by", "gender", "--against", "gan2:pre@fair=none").out
    assert re.search(
        r"gan2:pre@fair=dag: AUC -0\.4\d+ \(-.*\) compared with the reference: \w+\n", out
    )


@pytest.mark.parametrize(
    ("skew", "verdict"), [(0.0, "not above chance"), (0.3, "near its floor"), (1.0, "above chance")]
)
def test_gap_has_one_verdict(tmp_path: Path, command: Command, skew: float, verdict: str) -> None:
    write_faces(tmp_path / "faces.csv")
    values = [logits(y, power=3.0, skew=skew) for y in (0, 1)]
    write_tests(tmp_path / "runs/skew", "gan2:pre", values)
    table = command("fairness", tmp_path / "runs/skew", "--by", "gender").out.split("by gender")[1]
    assert re.findall(r"^gan2:pre .*–  (.*)$", table, re.MULTILINE) == [verdict]


def test_fairness_writes_json_and_a_long_table(run: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "fairness.csv"
    document = command("fairness", run, "--json", "--csv", out).json
    assert document["schema"] == 1
    keys = {"model", "auc", "fpr_gap", "fpr_gap_floor", "f_fpr", "by"}
    assert all(keys <= set(model) for model in document["models"])
    assert {model["by"] for model in document["models"]} == {"gender", "race", "intersec"}
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    gaps = [row for row in rows if row["measure"] == "fpr_gap"]
    assert len(gaps) == len(document["models"])
    assert float(gaps[0]["value"]) == document["models"][0]["fpr_gap"]


def test_fairness_of_original_folder_reports_lost_logits(tmp_path: Path, command: Command) -> None:
    for group in ("male,white", "nonmale,white"):
        np.save(tmp_path / f"{group}labels.npy", np.arange(20) % 2)
        np.save(tmp_path / f"{group}predictions.npy", np.linspace(-1, 1, 20))
    (tmp_path / "._male,whitepredictions.npy").write_bytes(b"of macOS")
    assert "only the logit of class 1" in command("fairness", tmp_path).out


def write_group(folder: Path, group: str, fakes: int) -> None:
    """Write the files of a group of 60 reals and some fakes, of which each answer is right."""
    labels = np.repeat([0, 1], [60, fakes])
    np.save(folder / f"{group}labels.npy", labels)
    np.save(folder / f"{group}predictions.npy", np.where(labels == 1, 3.0, -3.0))


def test_equalized_odds_of_one_group_with_fakes_are_undefined_everywhere(
    tmp_path: Path, command: Command
) -> None:
    folder, page = tmp_path / "npy", tmp_path / "page.html"
    folder.mkdir()
    write_group(folder, "male,asian", 60)
    write_group(folder, "nonmale,asian", 0)
    out = command("fairness", folder, "--by", "intersec", "--page", page).out
    (line,) = re.findall(r"^npy .*$", out, re.MULTILINE)
    head, verdict = "npy 1 1.000 – 0.0 [0.0] 0.0 [0.0] – –", "not above chance, F_EO undefined"
    assert " ".join(line.split()) == f"{head} {verdict}"
    assert "undefined: f_meo by intersec, fewer than two groups have a known TPR" in out
    assert "not above chance; F_EO undefined" in page.read_text()
    answer = command("fairness", folder, "--by", "intersec", "--json").json
    for record in (answer["models"][0], answer["methods"][0]):
        assert record["f_eo"] is record["f_meo"] is record["worst_group_auc"] is None
        assert (record["f_eo_groups"], record["fpr_gap_groups"]) == (1, 2)
    assert answer["models"][0]["f_meo_low"] is None
    rows = csv.DictReader(command("fairness", folder, "--csv", "-").out.splitlines())
    values = {row["measure"]: (row["value"], row["low"]) for row in rows if row["by"] == "intersec"}
    assert values["f_eo"] == values["f_meo"] == ("", "")
    assert values["f_eo_groups"] == ("1", "")


def test_measure_without_some_group_reports_number_of_groups(
    tmp_path: Path, command: Command
) -> None:
    folder, page = tmp_path / "npy", tmp_path / "page.html"
    folder.mkdir()
    for group, fakes in (("male,asian", 60), ("male,white", 60), ("nonmale,asian", 0)):
        write_group(folder, group, fakes)
    out = command("fairness", folder, "--by", "intersec", "--page", page).out
    (line,) = re.findall(r"^npy .*$", out, re.MULTILINE)
    some = "(2 of 3 groups)"
    expected = f"npy 1 1.000 1.000 {some} 0.0 [0.0] 0.0 [0.0] 0.0 [0.0] {some} – not above chance"
    assert " ".join(line.split()) == expected
    assert page.read_text().count("<small>2 of 3 groups</small>") == 5  # F_EO, worst, and 3 further


def test_fairness_without_attributes_explains_the_attribute_table(
    tmp_path: Path, command: Command
) -> None:
    values = [logits(y, power=3, skew=0) for y in (0, 1)]
    write_tests(tmp_path / "runs/plain", "plain", values, attributes="")
    assert "attributes: faces.csv" in command("fairness", tmp_path / "runs/plain", code=2).err


def test_qualities_prints_each_quality_and_explains_the_difference(
    run: Path, command: Command
) -> None:
    out = command("qualities", run, "--against", "gan2:pre@fair=none").out
    header = next(line for line in out.splitlines() if line.startswith("method"))
    assert header.split() == ["method", "seeds", "raw", "jpeg50", "mean", "worst", "pooled"]
    assert "points: loss" in out
    document = command("qualities", run, "--json").json
    assert [each["quality"] for each in document["models"][0]["qualities"]] == ["raw", "jpeg50"]


def test_qualities_names_omitted_models_with_reasons(run: Path, command: Command) -> None:
    values = [logits(y, power=3, skew=0) for y in (0, 1)]
    write_tests(run, "gan2:pre@fair=ldam", values)
    for form in ((), ("--json",)):
        ended = command("qualities", run, *form)
        assert ended.err == (
            "skipped: gan2:pre@fair=ldam: not tested on the same images in two qualities\n"
        )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_fairness_writes_page_and_table(lab: Lab, command: Command) -> None:
    write_attributes(lab, lambda place, fake: 1 if place % 2 else -1)
    page = lab.run / "fairness.html"
    assert "FPR gap" in command("fairness", lab.run, "--by", "gender", "--page", page).out
    text = page.read_text()
    assert "<h1>night: fairness</h1>" in text
    assert "nonmale" in text
    assert "No threshold at a common FPR" in text  # the weights of this run are not a checkpoint


def test_qualities_writes_page_and_table(command: Command, lab: Lab) -> None:
    for data, key, label in zip(TESTS, (FAKE, REAL), (1, 0), strict=True):
        keys = [each for each in lab.lists["test"] if each.startswith(key)]
        lab.scores(lab.run / DATA, f"{data}@corrupt=jpeg50", keys, label, answers(label, len(keys)))
    page = lab.root / "new" / "q.html"
    command("qualities", lab.run, "--page", page)
    text = page.read_text()
    assert "<h1>night: qualities</h1>" in text
    assert "jpeg50" in text


def test_fairness_by_unique_column_prints_few_lines_and_a_warning(
    run: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    table = run.parent.parent / "faces.csv"
    header, *rows = table.read_text().splitlines()
    named = [f"{row},id{number}" for number, row in enumerate(rows)]
    table.write_text("\n".join([f"{header},person", *named]) + "\n")
    said = command("fairness", run, "--by", "person")
    lines = [line for line in said.out.splitlines() if line.startswith("undefined: ")]
    assert len(lines) == 13
    assert lines[-1].endswith(" more rates. List all: --json")
    assert "column person: 480 groups, more than 50" in caplog.text
