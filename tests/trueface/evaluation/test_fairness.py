from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from launcher.api import Json, model_folder_name
from tests.trueface.group_runs import COUNT, logits, pairs_of, write_faces, write_tests
from tests.trueface.intervals import interval_of
from trueface.audit.image_reading import fpr_gap
from trueface.evaluation.fairness import Comparability, FairnessRow, fairness_rows, methods
from trueface.evaluation.group_rates import GapVerdict
from trueface.evaluation.result_rows import compare
from trueface.models import model_file
from trueface.models.model_file import Checkpoint
from trueface.predictions.csv_tables import read_csv, write_csv
from trueface.runtime import paths
from trueface.runtime.errors import DataError, UsageError
from trueface.runtime.files import read_json, write_json

SKEWED = tuple(f"gan2:pre@fair=none,seed={seed}" for seed in (1, 2, 3))
EVEN = tuple(f"gan2:pre@fair=reweight,seed={seed}" for seed in (1, 2, 3))
WEAK, CONSTANT = "gan2:pre@fair=dag", "gan2:pre@fair=cvar2"

LABELS = np.repeat([0, 1], COUNT)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that no test changes."""
    return write_run(tmp_path_factory.mktemp("fairness"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def write_run(place: Path) -> Path:
    """Write a run of a skewed, an even, a weak and a constant detector."""
    folder = place / "runs" / "skew"
    write_faces(place / "faces.csv")
    for seed, (skewed, even) in enumerate(zip(SKEWED, EVEN, strict=True)):
        for model, skew in ((skewed, 1.5), (even, 0.0)):
            write_tests(folder, model, [logits(y, power=3, skew=skew, seed=seed) for y in (0, 1)])
    write_tests(folder, WEAK, [logits(y, power=0.5, skew=0.0) for y in (0, 1)])
    write_tests(folder, CONSTANT, [logits(y, power=3, skew=0.0) + 99 for y in (0, 1)])
    return folder


def read_fairness_rows(run: Path, *models: str, by: str = "gender") -> list[FairnessRow]:
    return fairness_rows(run, pairs_of(*models), [by] if by else [])


def write_validation_logits(run: Path, *models: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Write validation logits into the checkpoints of models, and return labels and logits."""
    labels, answers = torch.arange(400) % 2, torch.linspace(-3, 1, 400)
    reference = {"labels": labels, "logits": answers}
    kept = Checkpoint(
        kind="detector",
        arch="slim18",
        arguments={"normalization": "model", "nodown": False, "side": None},
        state={},
        provenance={},
        reference=reference,
    )
    for model in models:
        model_file.save(paths.checkpoint(run / model_folder_name(model)), kept)
    return labels, answers


def test_groups_are_by_gender_race_intersection_or_any_other_column(shared: Path) -> None:
    assert [row.by for row in read_fairness_rows(shared, EVEN[0], by="")] == [
        "gender",
        "race",
        "intersec",
    ]
    (row,) = read_fairness_rows(shared, EVEN[0], by="age")
    assert [group.name for group in row.table.groups] == ["old", "young"]
    with pytest.raises(DataError, match="group column"):
        read_fairness_rows(shared, EVEN[0], by="hair")


def test_table_without_a_group_column_is_rejected_by_name(run: Path) -> None:
    table = run.parents[1] / "labels.csv"
    table.write_text("img_path,label\nPreSocial/Real/FFHQ/0.png,0\n")
    with pytest.raises(DataError, match=r"labels.csv: no group column"):
        fairness_rows(run, pairs_of(EVEN[0]), attributes=[table])


def test_gap_of_a_much_weaker_or_constant_detector_is_not_compared(shared: Path) -> None:
    made = methods(read_fairness_rows(shared, CONSTANT, WEAK, *SKEWED, *EVEN))
    by_name = {method.model.partition("=")[2]: method for method in made}
    assert list(by_name) == ["cvar2", "dag", "none", "reweight"]  # the order of the tests
    assert {name: method.rank for name, method in by_name.items()} == {
        "cvar2": None, "dag": None, "none": None, "reweight": 1,
    }  # fmt: skip
    assert by_name["cvar2"].comparability is Comparability.CONSTANT
    assert by_name["cvar2"].why_not == ""  # its logits order the images as well as any
    assert by_name["dag"].why_not.startswith("lower AUC, not comparable: -0.")
    assert " compared with gan2:pre@fair=" in by_name["dag"].why_not
    assert len(by_name["none"].rows) == 3
    gap = by_name["none"].measure("fpr_gap")
    assert gap is not None
    assert gap.mean > 30
    assert gap.sd is not None
    assert by_name["none"].verdict is GapVerdict.ABOVE
    assert by_name["none"].comparability is Comparability.LOWER_AUC
    assert by_name["reweight"].verdict in {GapVerdict.NEAR, GapVerdict.WITHIN}


def test_mean_is_over_the_seeds_that_have_a_value(run: Path) -> None:
    write_validation_logits(run, *SKEWED[:2])
    (method,) = methods(read_fairness_rows(run, *SKEWED))
    gap = method.measure("fpr_gap", common=True)
    assert gap is not None
    assert gap.seeds_note == "2 of 3 seeds"
    assert method.json_record["fpr_gap_at_common_fpr"] == {"mean": gap.mean, "sd": gap.sd}


def test_scores_that_are_not_of_a_test_of_the_weights_are_logged(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run / model_folder_name(WEAK)
    write_json(paths.provenance(folder), {"calibration": {"temperature": 2.0, "threshold": 0.0}})
    changes: dict[str, dict[str, Json]] = {
        "gan2:pre": {"accuracy": 2.0},
        "real:pre": {"calibration": {"temperature": 1.0, "threshold": 0.0}},
    }
    for data, changed in changes.items():
        record = read_json(paths.metrics(folder, data)) or {}
        write_json(paths.metrics(folder, data), {**record, **changed})
    read_fairness_rows(run, WEAK)
    for data, state in (("gan2:pre", "edited scores"), ("real:pre", "old scores")):
        assert f"model={WEAK} test={data} state={state}" in caplog.text


def test_method_that_was_tested_on_other_images_is_not_ranked(run: Path) -> None:
    for file in (run / model_folder_name(SKEWED[0])).glob("scores/*.csv"):
        write_csv(file, read_csv(file).rows(np.arange(COUNT // 2)))
    by_name = {
        each.rows[0].model: each for each in methods(read_fairness_rows(run, SKEWED[0], *EVEN))
    }
    other, even = by_name[SKEWED[0]], by_name[EVEN[0]]
    assert (other.rank, even.rank) == (None, 1)
    assert other.why_not == (
        f"other images, not comparable: {COUNT} here, and {2 * COUNT} of other models. "
        "Test all on one list"
    )
    assert even.why_not == ""


def test_aucs_are_compared_with_a_reference(shared: Path) -> None:
    tests = pairs_of(*SKEWED, *EVEN, WEAK)
    rows = fairness_rows(shared, tests, ["gender"], reference="gan2:pre@fair=reweight")
    by_model = {row.model: row for row in rows}
    assert by_model[EVEN[0]].to_reference is None
    behind = by_model[WEAK].to_reference
    assert behind is not None
    assert behind.word == "loss"
    assert behind.value == pytest.approx(
        roc_auc_score(LABELS, np.concatenate([logits(y, power=0.5, skew=0) for y in (0, 1)]))
        - np.mean([row.auc.value for row in rows if row.model in EVEN and row.auc is not None])
    )
    with pytest.raises(UsageError, match="unknown model 'other'"):
        fairness_rows(shared, tests, reference="other")


def test_gaps_are_also_computed_at_the_threshold_from_validation(run: Path) -> None:
    (row,) = read_fairness_rows(run, EVEN[0])
    assert row.json_record["at_common_fpr"] == {
        "target": 10.0,
        "validation_reals": 0,
        "reason": "the checkpoint with the validation scores is missing",
        "threshold": None,
    }
    labels, answers = write_validation_logits(run, EVEN[0])
    (row,) = read_fairness_rows(run, EVEN[0])
    reals = answers[labels == 0].double()
    assert row.common is not None
    assert (reals > row.common.threshold).double().mean() == pytest.approx(0.1)
    assert row.common.overall.rates["fpr"].value != row.table.overall.rates["fpr"].value
    assert row.validation.reals == 200


def test_frames_of_a_video_get_one_group_when_groups_are_shuffled(run: Path) -> None:
    model, floors = EVEN[0], []
    for frames in (False, True):
        for _, test in pairs_of(model):
            path = paths.scores(run / model_folder_name(model), model, test)
            old = read_csv(path)
            videos = tuple(f"{test}-{n % 6}-{n // 60}" for n in range(COUNT))
            firsts = [videos.index(video) for video in videos]
            alike = old.with_margin(old.margin[firsts])
            if frames:
                keys = tuple(f"{video}/{n}" for n, video in enumerate(videos))
                alike = replace(alike, keys=keys, videos=videos)
            write_csv(path, alike)
        (row,) = read_fairness_rows(run, model, by="intersec")
        floor, ends = row.table.floor["fpr_gap"].p95, interval_of(row.table.intervals["fpr_gap"])
        floors.append((floor, ends.high - ends.low))
        assert compare(run, pairs_of(model))[0]["fpr_gap_floor"] == floor
        assert row.grouped is not None
        names = [row.grouped.column.names[group] for group in row.grouped.column.groups]
        assert fpr_gap(row.grouped.grouped_scores, names)[1] == floor
    (floor, width), (floor_of_videos, width_of_videos) = floors
    assert floor_of_videos >= 2 * floor
    assert width_of_videos > 2 * width


def test_image_without_a_row_is_an_error_or_is_counted(run: Path) -> None:
    faces = run.parents[1] / "faces.csv"
    lines = faces.read_text().splitlines(keepends=True)
    faces.write_text("".join(lines[:-7]))
    with pytest.raises(DataError, match="7 of 480 images have no row"):
        read_fairness_rows(run, EVEN[0])
    (row,) = fairness_rows(run, pairs_of(EVEN[0]), ["gender"], missing="skip")
    assert row.ungrouped == 7
    assert row.table.overall.fakes == COUNT - 7


def test_non_finite_logit_is_rejected_with_file_and_line(run: Path) -> None:
    path = paths.scores(run / model_folder_name(EVEN[0]), EVEN[0], "real:pre")
    lines = path.read_text().splitlines()
    lines[4] = lines[4].rpartition(",")[0] + ",nan"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"real:pre\.csv:5: the logit nan is not a finite number"):
        read_fairness_rows(run, EVEN[0])


def test_run_without_attributes_has_no_row_until_a_file_is_given(run: Path) -> None:
    values = [logits(y, power=4, skew=0.0) for y in (0, 1)]
    write_tests(run, "plain", values, attributes="")
    assert read_fairness_rows(run, "plain") == []
    faces = run.parents[1] / "faces.csv"
    assert len(fairness_rows(run, pairs_of("plain"), ["race"], attributes=[faces])) == 1
