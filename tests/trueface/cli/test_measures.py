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
from trueface.evaluation.group_rates import MEASURES

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


@pytest.mark.parametrize("fraction", [0.5, 0.0])
def test_images_without_an_intersection_do_not_stop_the_table_of_another_column(
    tmp_path: Path, command: Command, caplog: pytest.LogCaptureFixture, fraction: float
) -> None:
    write_faces(tmp_path / "faces.csv")
    lines = ["img_path,label,gender,intersec"]
    for number, row in enumerate((tmp_path / "faces.csv").read_text().splitlines()[1:]):
        path, label, male, *_ = row.split(",")
        gender = "male" if male == "1" else "nonmale"
        both = f"{gender}-{'white' if number % 3 else 'black'}"
        lines.append(f"{path},{label},{gender},{both if number % 10 < 10 * fraction else ''}")
    (tmp_path / "some.csv").write_text("\n".join(lines) + "\n")
    values = [logits(y, power=3.0, skew=1.0) for y in (0, 1)]
    write_tests(tmp_path / "runs/skew", "gan2:pre", values)
    words = ("fairness", tmp_path / "runs/skew", "--attributes", tmp_path / "some.csv")
    (model,) = command(*words, "--by", "gender", "--json").json["models"]
    assert model["f_g"] is not None
    assert (model["f_a"] is None) == (not fraction)
    error = command(*words, "--by", "intersec", code=2).err
    assert "images have no intersec" in error
    command(*words, "--by", "gender", "--npy", tmp_path / "out")
    lost = "240 images of gan2:pre have no intersec and are in no file"
    assert (lost in caplog.text) == (fraction > 0)


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
    assert page.read_text().count("<small>2 of 3 groups</small>") == 7  # F_EO, worst, and 5 further


def test_group_without_members_has_its_cause_place_and_remedy(
    tmp_path: Path, command: Command
) -> None:
    folder = tmp_path / "npy"
    folder.mkdir()
    for group in ("male,asian", "nonmale,asian"):
        write_group(folder, group, 60)
    np.save(folder / "male,whitelabels.npy", np.zeros(0, int))
    np.save(folder / "male,whitepredictions.npy", np.zeros(0))
    out = command("fairness", folder, "--by", "intersec").out
    assert f"no images in the group files of male-white in {folder}. The gaps leave" in out
    assert "To include them, test the detector on their images" in out
    for path in folder.glob("*.npy"):
        np.save(path, np.zeros(0))
    error = command("fairness", folder, code=2).err
    assert f"error: {folder}: no group has an image, in files of male-asian" in error
    assert "Test the detector on images of these groups" in error


def test_all_measures_are_a_table_of_their_own(run: Path, command: Command) -> None:
    plain = command("fairness", run, "--by", "gender").out
    out = command("fairness", run, "--by", "gender", "--measures").out
    assert "F_COV" not in plain
    lines = [line for line in out.splitlines() if line not in plain.splitlines()]
    header = next(line for line in lines if "F_COV" in line and line.startswith("method"))
    titles = ["TPR gap %", "F_OAE %", "F_DP %", "F_MEO %", "AUC gap %", "F_G %", "F_A %"]
    assert header.endswith("  F_COV logits")
    assert [title for title in titles if title in header] == titles
    methods = command("fairness", run, "--by", "gender", "--json").json["methods"]
    line = next(line for line in lines if line.startswith("gan2:pre@fair=none"))
    method = next(each for each in methods if each["seeds"] == 2)
    covariance, floor = method["f_cov"], method["f_cov_floor"]
    assert f"{covariance['mean']:.3f} ± {covariance['sd']:.3f} [{floor['mean']:.3f}]" in line


def test_predictions_are_written_as_the_npy_folder_of_the_original(
    tmp_path: Path, command: Command
) -> None:
    write_faces(tmp_path / "faces.csv")
    run, out = tmp_path / "runs/skew", tmp_path / "out"
    write_tests(run, "gan2:pre", [logits(y, power=2.0, skew=1.0) for y in (0, 1)])
    written = command("fairness", run, "--json", "--npy", out)
    assert str(out) in written.err
    again = command("fairness", out, "--json").json
    for before, after in zip(written.json["models"], again["models"], strict=True):
        assert before["by"] == after["by"]
        for name in MEASURES:
            assert after[name] == before[name]
        assert after["groups"] == before["groups"]
        assert after["note"] in {"", next(iter(_empty(out)), "")}
    names = {path.name for path in out.iterdir()}
    assert {"male,asianlabels.npy", "nonmale,otherspredictions.npy", "predictions.json"} <= names
    probabilities = 1 / (1 + np.exp(-np.load(out / "male,whitepredictions.npy")))  # as theirs
    labels = np.load(out / "male,whitelabels.npy")
    group = again["models"][2]["groups"][2]
    assert group["name"] == "male-white"
    assert group["tpr"] == pytest.approx(100 * np.mean(probabilities[labels == 1] >= 0.5))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    error = command("fairness", run, "--npy", tmp_path / "mine", code=2).err
    assert "files that trueface fairness did not write. Name a new folder." in error
    assert (tmp_path / "mine/file").read_text() == "mine"


def _empty(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.glob("*labels.npy") if not len(np.load(path)))
    groups = ", ".join(name.removesuffix("labels.npy").replace(",", "-") for name in names)
    return [
        f"no images in the group files of {groups} in {folder}. The gaps leave these groups out. To include "
        "them, test the detector on their images"
    ]


def test_every_model_and_test_has_its_own_npy_folder(
    run: Path, tmp_path: Path, command: Command
) -> None:
    err = command("fairness", run, "--by", "intersec", "--npy", tmp_path / "out").err
    folders = {path.parent for path in (tmp_path / "out").rglob("predictions.json")}
    assert len(folders) == 2 * len(MODELS)
    assert folders == {Path(line) for line in err.splitlines()}
    command("fairness", run, "--by", "intersec", "--npy", tmp_path / "out")  # replaces its own
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    error = command("fairness", run, "--npy", tmp_path / "mine", code=2).err
    assert "the folder has files (file)" in error
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    folder = tmp_path / "out" / MODELS[0] / "gan2:pre"
    theirs = command("fairness", folder, "--by", "intersec", "--json").json["models"][0]
    ours = command("fairness", run, "--by", "intersec", "--json").json["models"]
    (same,) = (row for row in ours if (row["model"], row["data"]) == (MODELS[0], "gan2:pre"))
    assert theirs["f_a"] == same["f_a"]


@pytest.mark.parametrize(
    ("by", "are_theirs"),
    [("gender", True), ("race", True), ("age,gender", True), ("age", False)],
)
def test_npy_files_are_by_intersection_if_it_is_known(
    tmp_path: Path,
    command: Command,
    caplog: pytest.LogCaptureFixture,
    by: str,
    are_theirs: bool,
) -> None:
    write_faces(tmp_path / "faces.csv")
    run, out = tmp_path / "runs/skew", tmp_path / "out"
    write_tests(run, "gan2:pre", [logits(y, power=2.0, skew=1.0) for y in (0, 1)])
    command("fairness", run, "--by", by, "--npy", out)
    theirs = {
        f"{gender},{race}{end}.npy"
        for gender in ("male", "nonmale")
        for race in ("asian", "white", "black", "others")
        for end in ("labels", "predictions")
    }
    names = {path.name for path in out.glob("*.npy")}
    assert (names == theirs) == are_theirs
    assert ("only trueface reads these files, which are by age" in caplog.text) != are_theirs
    assert sum(len(np.load(path)) for path in out.glob("*labels.npy")) == 480


def test_npy_of_one_model_does_not_replace_the_folders_of_several(
    run: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "out"
    command("fairness", run, "--npy", out)
    write_tests(tmp_path / "runs/one", "gan2:pre", [logits(y, power=2, skew=0) for y in (0, 1)])
    error = command("fairness", tmp_path / "runs/one", "--npy", out, code=2).err
    assert f"--npy {out}: the folder has folders ({min(MODELS)}, " in error
    assert "did not write" not in error


def test_group_that_cannot_name_a_file_is_refused(tmp_path: Path, command: Command) -> None:
    write_faces(tmp_path / "faces.csv")
    table = (tmp_path / "faces.csv").read_text().replace("young", "18_30")
    (tmp_path / "faces.csv").write_text(table)
    write_tests(tmp_path / "runs/skew", "gan2:pre", [logits(y, power=2, skew=0) for y in (0, 1)])
    words = ("fairness", tmp_path / "runs/skew", "--by", "age", "--npy", tmp_path / "out")
    error = command(*words, code=2).err
    assert "--npy: group '18_30' would be read as '18-30'" in error
    assert "choose another column with --by" in error
    assert not (tmp_path / "out").exists()


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
