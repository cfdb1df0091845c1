import html
import re
from pathlib import Path

import numpy as np
import pytest

from tests.trueface.audit.build import Lab
from tests.trueface.commands import Command
from tests.trueface.report.forgetful import FLIPS_BASE, Forgetful, make_noise_search
from tests.trueface.report.test_page import NASTY, Reading, safe
from trueface.audit.check import judge
from trueface.audit.reading import Reader
from trueface.predictions.npz_tables import read_npz, write_npz
from trueface.report.content import make_model_report
from trueface.report.run_page import run_page
from trueface.report.unlearning import axes_of
from trueface.report.unlearning_tables import page_tables
from trueface.runtime import paths
from trueface.unlearning.evaluation.leaderboard import (
    UnlearningGroup,
    UnlearningRow,
    make_unlearning_leaderboard,
)
from trueface.unlearning.record import Relearn


@pytest.fixture
def lab(tmp_path: Path) -> Forgetful:
    return Forgetful(tmp_path)


def _page(run: Path) -> str:
    found = Reader().run(str(run))
    models = [make_model_report(model) for model in found.models]
    return run_page(
        found, judge(found), models, date="today", leaderboard=make_unlearning_leaderboard(run)
    ).html


def _section(run: Path) -> Reading:
    text = _page(run)
    start = text.index('<section id="unlearning">')
    return Reading(text[start:].partition("</section>")[0] + "</section>")


def _group(run: Path) -> UnlearningGroup:
    (group,) = make_unlearning_leaderboard(run).groups
    return group


def _row(group: UnlearningGroup, name: str) -> UnlearningRow:
    (row,) = [row for row in group.rows if row.name == name]
    return row


def test_run_without_unlearning_has_no_section(tmp_path: Path) -> None:
    run = Lab(tmp_path).run
    text = _page(run)
    assert 'id="unlearning"' not in text
    assert "#unlearning" not in text
    assert page_without(run) == text


def page_without(run: Path) -> str:
    found = Reader().run(str(run))
    return run_page(found, judge(found), [*map(make_model_report, found.models)], date="today").html


def test_command_shows_unlearning(lab: Forgetful, command: Command) -> None:
    lab.flips(["retrain", "scrub"])
    command("report", lab.run)
    read = Reading((lab.run / "report.html").read_text())
    assert {"href": "#unlearning"} in read.all("a")
    assert "scrub" in read.text
    files = [file.name for file in lab.run.glob("report-figures/unlearning gan2*/*.svg")]
    titles = [name.removesuffix(".svg").partition(" ")[2] for name in sorted(files)]
    assert titles[0].startswith("Accuracy on the test set by time as a fraction of")
    assert titles[1:] == [
        "Probability of the label as trained, retrain",
        "Probability of the label as trained, scrub",
        "Features before",
        "Features after retrain",
        "Features after scrub",
    ]


def test_references_come_first_and_seeds_form_one_row(lab: Forgetful) -> None:
    lab.flips(["scrub"], (0, 1))
    lab.flips(["finetune", "retrain", "restart", "corrected"])
    base = _group(lab.run)
    assert [row.name for row in base.rows] == [
        "before",
        "corrected",
        "retrain",
        "restart",
        "finetune",
        "scrub",
    ]
    assert [row.is_reference for row in base.rows] == [True, True, True, True, False, False]
    test = _row(base, "scrub").values["test"]
    assert test.seeds == 2
    assert test.sd is not None
    text = _section(lab.run).text
    assert f"{test.mean:.3f}" in text
    assert f"± {test.sd:.3f}" in text


def test_every_base_has_a_block(lab: Forgetful) -> None:
    lab.flips(["retrain", "scrub"])
    lab.one_class("retrain", 0, 0.93, 0.0, 300.0)
    lab.one_class("lau", 0, 0.92, 0.0, 3.0)
    read = _section(lab.run)
    assert len(read.all("h3")) == 2
    assert "eve, of 5 classes" in read.text
    titles = read.labels
    starts = ("Accuracy on the test set by time", "Unlearning score US by time")
    for start in starts:
        assert sum(title.startswith(start) for title in titles) == 1


def test_alarm_is_written_out_below_its_row(lab: Forgetful) -> None:
    lab.flips(["retrain", "ng"])
    row = _row(_group(lab.run), "ng")
    assert row.verdict == "constant"
    text = _page(lab.run)
    for alarm in row.alarms:
        assert html.escape(alarm.text) in text
    start = text.index('<th scope="row">ng<small>')
    block = text[start : text.index("</tbody>", start)]
    assert "alarm" in block
    assert '<span class="tag">constant</span>' in block


def test_training_times_are_shown_if_nothing_was_retrained(lab: Forgetful) -> None:
    lab.flips(["scrub"])
    assert axes_of(_group(lab.run)) == ("test", "of_training")
    text = _section(lab.run).text
    assert "retrained: the" not in text
    assert "±" not in text  # one seed has no spread


def test_validation_replaces_a_missing_test_list(lab: Forgetful) -> None:
    lab.flips(["retrain", "scrub"])
    for folder in lab.run.iterdir():
        for path in (paths.predictions_before(folder), paths.predictions_after(folder)):
            parts = read_npz(path)
            write_npz(path, {name: one for name, one in parts.items() if name != "test"})
    base = _group(lab.run)
    assert axes_of(base)[0] == "val"
    assert "val" in {column.name for column in page_tables(base)[0].head}


def test_only_measured_follow_up_tests_have_columns(
    lab: Forgetful,
) -> None:
    lab.flips(
        ["retrain", "scrub"],
        found=make_noise_search(),
        attack=0.02,
        cached_seconds=2.5,
        relearn=Relearn(steps=None, most=200, loss=0.1),
    )
    names = {column.name for column in page_tables(_group(lab.run))[1].head}
    assert {"found_precision", "attack", "cached_seconds"} <= names
    assert not {"probe", "relearn", "cached_samples", "peak_bytes"} & names


def test_missing_or_broken_files_are_reported_and_the_rest_is_shown(lab: Forgetful) -> None:
    lab.flips(["retrain", "scrub", "ssd", "rl"])
    folders = {name: lab.run / f"{FLIPS_BASE}~{name}@seed=0" for name in ("scrub", "ssd", "rl")}
    paths.predictions_after(folders["scrub"]).unlink()
    paths.plane(folders["ssd"]).write_bytes(b"broken")
    paths.unlearning(folders["rl"]).write_text("{broken")
    text = _section(lab.run).text
    assert "Not shown:" in text
    for path in ("scrub@seed=0/answers/after.npz", "ssd@seed=0/plane.npz", "rl@seed=0"):
        assert path in text
    assert "retrain" in text


def test_run_without_a_readable_record_is_reported(lab: Forgetful) -> None:
    lab.flips(["retrain"])
    paths.unlearning(lab.run / f"{FLIPS_BASE}~retrain@seed=0").write_text("{broken")
    text = _section(lab.run).text
    assert "Not shown:" in text
    assert "unlearning.json" in text


def test_non_finite_logits_do_not_break_a_plot(lab: Forgetful) -> None:
    lab.flips(["retrain", "scrub"])
    path = paths.predictions_after(lab.run / f"{FLIPS_BASE}~scrub@seed=0")
    parts = read_npz(path)
    parts["forget"].logits[:] = np.nan
    write_npz(path, parts)
    read = _section(lab.run)
    assert "are not finite" in read.text
    assert "nan" not in re.sub(r"<[^>]*title[^>]*>", "", _page(lab.run)).lower().split()


def test_names_that_are_markup_are_escaped(lab: Forgetful) -> None:
    lab.flips(
        ["retrain", "scrub"], notes=(NASTY,), class_names=(NASTY, "fake"), base='some"><script>x'
    )
    text = _page(lab.run)
    safe(text)
    assert html.escape(NASTY) in text


def test_section_is_self_contained_and_accessible_without_sight(lab: Forgetful) -> None:
    lab.flips(["retrain", "scrub", "ng"], (0, 1))
    read = _section(lab.run)
    for _, attributes in read.tags:
        assert not any(name.startswith("on") or name in {"src", "href"} for name in attributes)
    assert all(one.get("scope") in {"row", "col"} for one in read.all("th"))
    plots = [one for one in read.all("svg") if one.get("class") == "plot"]
    assert plots
    assert all(one.get("role") == "img" and one.get("aria-label") for one in plots)
