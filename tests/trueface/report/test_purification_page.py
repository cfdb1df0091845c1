import html
from pathlib import Path

import pytest

from launcher.api import Json, write_json
from tests.trueface.report.run_by_hand import attack_rows, purifier_rows, restored_run, rows
from tests.trueface.report.test_page import NASTY, Reading
from trueface.evaluation.restored import DetectorRow, detectors, trained_on
from trueface.report.purification_page import Purification, purification_page, sentences
from trueface.runtime import paths


@pytest.fixture
def run(tmp_path: Path) -> Purification:
    return Purification(
        name="study",
        rows=rows(purifier_rows()),
        attacks=rows(attack_rows()),
        restored=restored_run(tmp_path / "runs" / "study"),
    )


def test_the_adaptive_number_decides_and_a_purifier_without_one_gets_no_verdict() -> None:
    first, second, *_ = sentences(rows(purifier_rows()))
    assert "oneshot@20 leaves the least damage: MSE 0.03 of 0.117" in first
    assert second == "No verdict, as no adaptive attack was run: blur@1.5."


def test_what_beats_jpeg_by_one_number_only_is_told_for_each_number() -> None:
    text = " ".join(sentences(rows(purifier_rows())))
    assert "Better than jpeg@75 (adaptive MSE 0.061, price 0.0072)" in text
    assert "No purifier is better than jpeg@75 (non-adaptive MSE 0.0069" in text


def test_a_purifier_that_an_adaptive_attack_undoes_is_named() -> None:
    records = [dict(row) for row in purifier_rows()]
    records[1]["mse_adaptive"] = 0.2
    assert any(
        "as much damage as without purification: jpeg@75." in line
        for line in sentences(rows(records))
    )


def test_the_damage_without_purification_is_that_of_the_attacks_that_were_compared() -> None:
    records = [{**row, "mse": 0.5} for row in purifier_rows()]
    assert "MSE 0.03 of 0.117 without" in next(sentences(rows(records)))


def test_verdicts_of_the_rows_are_told_together() -> None:
    text = " ".join(sentences(rows(purifier_rows())))
    assert "Broken by the adaptive attack: jpeg@75, ddpm@10." in text


def test_the_page_needs_no_other_file_and_has_tables_plot_and_tiles(run: Purification) -> None:
    text = purification_page(run).html
    read = Reading(text)
    assert not read.all("script")
    assert not read.all("link")
    assert "control" in read.text
    assert "23.4" in read.words  # times the control
    pictures = [str(row["src"]) for row in read.all("img")]
    assert len(pictures) == len(purifier_rows()) * 2 * 2  # targets, rows of tiles
    assert all(url.startswith("data:image/png;base64,") for url in pictures)
    (label,) = [str(row["aria-label"]) for row in read.all("svg") if "aria-label" in row]
    assert "jpeg@75: price 0.0072, 0.0069 non-adaptive, 0.0610 adaptive" in label


def test_two_numbers_are_no_plot(run: Purification) -> None:
    first = next(row for row in run.rows if row.record["method"] == "jpeg@75")
    assert "Damage left against the price" in purification_page(run).html
    text = purification_page(run._replace(rows=(first,))).html
    assert "Damage left against the price" not in text


def test_names_are_escaped(run: Purification) -> None:
    records = [{**row.record, "method": NASTY} for row in run.rows]
    attacks = [{**row.record, "attack": NASTY, "target": NASTY} for row in run.attacks]
    tested = DetectorRow(model=NASTY, trained_on=NASTY, data=NASTY, auc=(), accuracy=())
    text = purification_page(
        Purification(
            name=NASTY,
            rows=rows(records),
            attacks=rows(attacks),
            restored=run.restored,
            detectors=(tested,),
        )
    ).html
    assert NASTY not in text
    assert html.escape("<script>") in text
    Reading(text)


def test_a_run_without_anything_measured_says_so() -> None:
    empty = Purification(name="study", rows=[], attacks=[], restored=[])
    assert (
        "No purified folder of this run was measured."
        in Reading(purification_page(empty).html).text
    )


def test_tiles_that_cannot_be_read_are_left_out(run: Purification) -> None:
    for made in run.restored:
        (made.path / "grid.png").write_bytes(b"no picture")
    assert not Reading(purification_page(run).html).all("img")


def test_a_detector_is_called_after_what_its_images_were_made_of(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "study"
    chain = (("disrupted", "disrupt", "faces"), ("purified", "purify", "runs/study/made/disrupted"))
    for name, kind, source in chain:
        folder = run / "made" / name
        folder.mkdir(parents=True)
        facts: dict[str, Json] = {
            "kind": kind,
            "source": source,
            "settings": {"purifier": "jpeg75"},
        }
        write_json(folder / "made.json", facts)
    for source in ("purified", "disrupted", "faces"):
        place = f"runs/study/made/{source}" if source != "faces" else "data/faces"
        folder = run / "made" / f"translated-{source}"
        folder.mkdir()
        write_json(folder / "made.json", {"kind": "translate", "source": place, "settings": {}})
        model = run / f"{source}:pre"
        model.mkdir()
        write_json(paths.provenance(model), {"data_root": str(folder)})
    assert trained_on(run, "purified:pre") == "purified (jpeg75)"
    assert trained_on(run, "disrupted:pre") == "disrupted"
    assert trained_on(run, "faces:pre") == "clean"
    tested: list[dict[str, Json]] = [
        {"model": f"{name}:pre", "data": "x:pre", "pooled": pooled, "auc": {"value": 0.9}}
        for name in ("purified", "faces")
        for pooled in (False, True)
    ]
    listed = detectors(run, tested)
    assert [each.trained_on for each in listed] == ["clean", "purified (jpeg75)"]
    assert listed[0].auc == (0.9,)
