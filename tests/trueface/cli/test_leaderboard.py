"""`trueface unlearned`: the ladder of a run as a table, in a pipe, as JSON."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.trueface.commands import Command
from tests.trueface.unlearning.unlearned_runs import (
    class_predictions as one_class,
)
from tests.trueface.unlearning.unlearned_runs import (
    flip_predictions as flips,
)
from tests.trueface.unlearning.unlearned_runs import (
    make_predictions as said,
)
from tests.trueface.unlearning.unlearned_runs import (
    make_record as told,
)
from tests.trueface.unlearning.unlearned_runs import (
    write_unlearning as leave,
)
from trueface.cli.leaderboard import print_leaderboard
from trueface.cli.studies import table_records
from trueface.cli.text_tables import tab_lines, table_lines
from trueface.evaluation.estimate import Estimate
from trueface.evaluation.over_seeds import NO_VALUE, SeedSummary
from trueface.report.tables import study_table
from trueface.report.unlearning_tables import terminal_table
from trueface.runtime import paths
from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard
from trueface.unlearning.evaluation.measures import compute_metrics
from trueface.unlearning.record import Probe, Relearn

BASE = "gan:pre%20"
OF_CLASS: dict[str, Any] = {
    "goal": "class",
    "classes": 3,
    "class_names": ("cat", "dog", "bird"),
    "forgotten": (2,),
    "rate": None,
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Wrong labels unlearned by one method with two seeds and by retraining; a constant model."""
    for seed, wrong in ((0, 8), (1, 10)):
        base = f"{BASE}@seed={seed}"
        for method, off in (("retrain", 4), ("scrub", wrong)):
            record = told(f"{BASE}~{method}@seed={seed}", base, seed=seed, notes=("it went well",))
            leave(tmp_path, record, flips(24), flips(off + seed, seed=seed))
    truth = [0, 1, 1] * 30
    dead = flips(8) | {"test": said(truth, [1] * 90, true=truth)}
    leave(tmp_path, told(f"{BASE}~ng@seed=0", f"{BASE}@seed=0"), flips(24), dead)
    return tmp_path


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """One class forgotten by one method and by retraining."""
    probe, relearn = Probe(before=1.0, after=0.98, chance=0.5), Relearn(steps=2, most=9, loss=0.1)
    record = told(
        "cifar10:all~lau@model=resnet18",
        "cifar10:all@model=resnet18",
        **OF_CLASS,
        probe=probe,
        relearn=relearn,
    )
    leave(tmp_path, record, one_class(40), one_class(0, wrong=4))
    leave(
        tmp_path,
        told("cifar10:all~retrain@model=resnet18", "cifar10:all@model=resnet18", **OF_CLASS),
        one_class(40),
        one_class(0),
    )
    return tmp_path


def render_leaderboard(run: Path, *, published: bool = False) -> str:
    """Return what a wide terminal shows."""
    file = io.StringIO()
    print_leaderboard(
        make_unlearning_leaderboard(run), Console(file=file, width=260), with_published=published
    )
    return file.getvalue()


def test_membership_attacks_are_a_table_of_their_own(study: Path, command: Command) -> None:
    plain, output = command("unlearned", study), command("unlearned", study, "--membership")
    above, _, below = output.out.partition("\n\n")
    assert f"{above}\n" == plain.out
    header, *rows = [line.split("\t") for line in below.splitlines()]
    assert header == [
        "base", "method", "verdict", "n", "correctness %", "confidence %", "entropy %",
        "modified entropy %", "m_entropy of SVC-MIA %", "probability %", "members by entropy %",
        "accuracy by loss %", "TPR@1%FPR by loss %",
    ]  # fmt: skip
    assert [row[1] for row in rows] == ["before", "retrain", "scrub", "ng"]
    scrub = dict(zip(header, rows[2], strict=True))
    document = json.loads(command("unlearned", study, "--membership", "--json").out)
    value = document["groups"][0]["rows"][2]["values"]["mia_svc_modified_entropy"]
    assert scrub["modified entropy %"] == f"{100 * value['mean']:.2f} ± {100 * value['std']:.2f}"
    assert scrub["TPR@1%FPR by loss %"] == NO_VALUE
    assert "no TPR@1%FPR by loss: outside the training there are 80 samples" in output.err
    assert "mia_svc_modified_entropy" not in command("unlearned", study, "--json").out


def test_csv_and_latex_have_the_numbers_and_verdicts_of_the_pipe(
    study: Path, command: Command
) -> None:
    record = told("few:pre%20~scrub", "few:pre%20")
    leave(study, record, flips(24), flips(8))
    lines = [*csv.DictReader(command("unlearned", study, "--csv", "-").out.splitlines())]
    rows = {(line["base"], line["method"], line["measure"]): line for line in lines}
    assert rows[BASE, "scrub", "test"] | {"value": "", "sd": ""} == {
        "base": BASE, "method": "scrub", "seeds": "2", "measure": "test", "value": "", "sd": "",
        "n": "2", "low": "", "high": "", "why": "", "verdict": "", "alarms": "",
    }  # fmt: skip
    assert float(rows[BASE, "scrub", "test"]["value"]) == pytest.approx(0.88125)
    assert float(rows[BASE, "scrub", "test"]["sd"]) == pytest.approx(0.02651650)
    constant = rows[BASE, "ng", "test"]
    assert (constant["verdict"], constant["alarms"]) == (
        "constant", "constant, class share, chance, other samples",
    )  # fmt: skip
    assert [round(float(constant[end]), 4) for end in ("value", "low", "high")] == [
        0.6667, 0.5595, 0.7626,
    ]  # fmt: skip
    assert rows[BASE, "ng", "recovery"]["value"] == ""
    assert rows[BASE, "ng", "recovery"]["why"] == (
        "the reference model was tested on other samples"
    )
    assert ("few:pre%20", "scrub", "probe") not in rows
    latex = command("unlearned", study, "--latex").out
    assert latex.count(r"\begin{tabular}") == 2
    (row,) = [line for line in latex.splitlines() if line.startswith("ng & constant & 1 & ")]
    assert " & 66.67 (55.95 to 76.26) & " in row
    (document,) = [
        table for table in command("unlearned", study, "--json").json["tables"]
        if table["base"] == BASE
    ]  # fmt: skip
    assert document["rows"][3]["verdict"] == {"text": "constant"}


def test_missing_interval_has_its_reason_in_each_form(cifar: Path) -> None:
    computed = compute_metrics({"us": lambda: Estimate(value=0.75, why="few images")})
    assert computed.reasons == dict.fromkeys(("us_low", "us_high"), "few images")
    (group,) = make_unlearning_leaderboard(cifar).groups
    row = group.rows[2]._replace(
        values={"us": SeedSummary(computed.values["us"], None, (0.75,), 1)},
        reasons=computed.reasons,
    )
    table = terminal_table(group._replace(rows=(row,))).select(("us",))
    assert table_lines(table)[1] == "lau     0.750 (no interval: few images)"
    assert [*tab_lines([table])][1].endswith("\tlau\t0.750 [no interval: few images]")
    assert '"low": null, "high": null, "why": "few images"' in json.dumps(table_records([table]))
    assert 'title="no interval: few images">†</abbr>' in study_table(table)


def test_pipe_output_has_one_line_per_method(study: Path, command: Command) -> None:
    output = command("unlearned", study)
    header, *rows = [line.split("\t") for line in output.out.splitlines()]
    assert header == [
        "base", "method", "verdict", "n", "retain %", "forget (wrong) %", "forget (true) %", "val %",
        "test %", "tuned %", "AUC", "ECE", "recovery", "gap points", "MIA (loss) %",
        "MIA TPR@1% %", "time s", "cached s", "× retrain", "samples", "alarms",
    ]  # fmt: skip
    assert [row[1] for row in rows] == ["before", "retrain", "scrub", "ng"]
    scrub = dict(zip(header, rows[2], strict=True))
    assert scrub["base"] == BASE
    assert scrub["n"] == "2"
    assert scrub["test %"] == "88.13 ± 2.65"
    assert scrub["× retrain"] == "1.000 ± 0.000"
    assert scrub["verdict"] == ""
    ng = dict(zip(header, rows[3], strict=True))
    assert ng["verdict"] == "constant"
    assert ng["alarms"] == "constant, class share, chance, other samples"
    assert "nan" not in output.out
    assert "alarm: ng: 100.0% of the predictions are 'fake'" in output.err
    assert "scrub: it went well" in output.err


def test_control_characters_in_names_and_notes_are_escaped(tmp_path: Path) -> None:
    names = ("cat", "dog", "bi\x1b[31mrd")
    record = told(
        "cifar10:all~lau@model=resnet18",
        "cifar10:all@model=resnet18",
        **OF_CLASS | {"class_names": names},
        notes=("\x1b[2J",),
    )
    leave(tmp_path, record, one_class(40), one_class(0))
    text = render_leaderboard(tmp_path)
    assert "\x1b" not in text
    assert "bi\\x1b[31mrd" in text


def test_terminal_output_is_a_table_followed_by_warnings(study: Path) -> None:
    text = render_leaderboard(study)
    assert f"{BASE}: forget 20% flipped labels" in text
    assert "forget (wrong) %" in text
    assert "88.13 ± 2.65" in text
    assert "alarm: ng: 100.0% of the predictions are 'fake'" in text


def test_class_unlearning_has_the_published_layout_and_intervals_of_one_seed(cifar: Path) -> None:
    text = render_leaderboard(cifar)
    assert "cifar10:all@model=resnet18: forget class bird" in text
    for title in ("D_r %", "D_f %", "D_tr %", "D_tf %", "US", "time s", "probe %", "relearn"):
        assert title in text
    assert "98.00" in text
    assert "ResNet18" not in text
    row = next(line for line in text.splitlines() if "lau" in line)
    assert "95.00 (87.69 to 98.62)" in row


def test_published_values_are_shown_with_ours(cifar: Path, command: Command) -> None:
    lines = render_leaderboard(cifar, published=True).splitlines()
    lau = next(line for line in lines if "lau" in line and "ResNet18" in line)
    assert "93.53" in lau  # theirs
    assert "95.00" in lau  # ours
    assert "our US" in command("unlearned", cifar, "--published").out


def test_json_contains_all_measures_and_reasons(study: Path, command: Command) -> None:
    document = command("unlearned", study, "--json", "--published").json
    assert document["schema"] == 1
    (group,) = document["groups"]
    rows = {row["method"]: row for row in group["rows"]}
    assert rows["scrub"]["values"]["tow"]["n"] == 2
    assert rows["scrub"]["seeds"] == [0, 1]
    assert rows["scrub"]["reasons"]["probe"] == "not measured"
    assert [alarm["sort"] for alarm in rows["ng"]["alarms"]] == [
        "constant", "class share", "chance", "other samples"
    ]  # fmt: skip
    assert (rows["ng"]["verdict"], rows["scrub"]["verdict"]) == ("constant", "")
    assert len(document["published"]) == 36


def test_missing_run_is_rejected(command: Command) -> None:
    assert (
        "run 'nowhere-at-all' does not exist" in command("unlearned", "nowhere-at-all", code=2).err
    )


def test_run_without_unlearning_is_rejected(tmp_path: Path, command: Command) -> None:
    assert "no unlearned models" in command("unlearned", tmp_path, code=2).err


def test_narrow_terminal_truncates_no_number(study: Path) -> None:
    file = io.StringIO()
    print_leaderboard(make_unlearning_leaderboard(study), Console(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert "…" not in file.getvalue()
    assert max(map(len, lines)) <= 80
    assert any("88.13 ± 2.65" in line and "scrub" in line for line in lines)
    ruined = [line for line in lines if line.split()[:1] == ["ng"]]
    assert len(ruined) >= 3  # one a block, and none without its verdict
    assert all(line.split()[1] == "constant" for line in ruined)
    assert sum(line.split()[:1] == ["scrub"] for line in lines) >= 3  # one a block


def test_pipe_output_has_one_header_for_all_bases(study: Path, command: Command) -> None:
    record = told("gan:pre%50~scrub@seed=0", "gan:pre%50@seed=0", rate=0.5)
    leave(study, record, flips(30), flips(8))
    lines = command("unlearned", study).out.splitlines()
    assert [line.split("\t")[0] for line in lines].count("base") == 1
    assert {line.split("\t")[0] for line in lines[1:]} == {"gan:pre%20", "gan:pre%50"}


def test_published_values_match_a_network_given_in_defaults(tmp_path: Path) -> None:
    record = told("cifar10:all~lau", "cifar10:all", **OF_CLASS)
    folder = leave(tmp_path, record, one_class(40), one_class(0, wrong=4))
    settings = {"schema": 1, "settings": {"model": "resnet18"}}
    paths.provenance(folder).write_text(json.dumps(settings))
    lines = render_leaderboard(tmp_path, published=True).splitlines()
    lau = next(line for line in lines if "lau" in line and "ResNet18" in line)
    assert "95.00" in lau  # ours
    other = next(line for line in lines if "lau" in line and "VGG16" in line)
    assert "95.00" not in other


def test_cost_of_training_includes_feature_extraction(tmp_path: Path) -> None:
    for method, seconds in (("retrain", 2.0), ("scrub", 1.0)):
        record = told(
            f"{BASE}~{method}", BASE, seconds=seconds, cached_seconds=18.0, training_seconds=22.0
        )
        leave(tmp_path, record, flips(24), flips(4))
    (group,) = make_unlearning_leaderboard(tmp_path).groups
    rows = {row.method: row.values for row in group.rows}
    assert rows["before"]["of_retrain"].mean == pytest.approx(22 / 20)
    assert rows["scrub"]["of_retrain"].mean == pytest.approx(0.5)
    assert rows["scrub"]["of_training"].mean == pytest.approx(19 / 22)


def test_test_with_few_sources_is_marked(tmp_path: Path) -> None:
    names = tuple(f"pre:{n % 2}{n // 2 % 2}/{n}" for n in range(80))
    parts = flips(24)
    parts["test"] = replace(parts["test"], ids=names)
    leave(tmp_path, told(f"{BASE}~scrub", BASE), parts, parts)
    (group,) = make_unlearning_leaderboard(tmp_path).groups
    assert (
        "or images, they may be too narrow: 2 real sources (40 images), 2 fake sources (40 images)"
        in " ".join(group.notes)
    )


def test_published_values_match_an_imported_base(tmp_path: Path) -> None:
    leave(tmp_path, told("mine~lau", "mine", **OF_CLASS), one_class(40), one_class(0))
    assert "ResNet18" in render_leaderboard(tmp_path, published=True)
