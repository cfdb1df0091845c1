"""The jobs on three tiny classes, one after the other, as a launcher would run them."""

import json
import logging
import shutil
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from launcher.api import JobError, Json, UsageError
from tests.trueface.class_toys import DATA, a_draft, a_job, folder_of, write_data
from trueface.audit.check import judge
from trueface.audit.reading import Reader
from trueface.cli import main as cli
from trueface.jobs.classes import classification, forgetting
from trueface.jobs.classes.forgetting import draw_fraction, find_copies_in_other_classes
from trueface.jobs.classes.kinds import CLASSIFY, FORGET
from trueface.models import checkpoint
from trueface.predictions.npz_tables import read_npz
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, DataError
from trueface.runtime.rng import python_rng
from trueface.unlearning import record
from trueface.unlearning.cache import fingerprint
from trueface.unlearning.evaluation import planes
from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a trained network."""
    root = write_data(tmp_path_factory.mktemp("lab"))
    classification.classify(a_job(root, DATA))
    return root


def run_unlearning(root: Path, method: str, **changed: Any) -> dict[str, Json]:
    given = {"base": DATA, "method": method, "afterwards": False, **changed}
    return dict(forgetting.forget(a_job(root, f"{DATA}~{method}", **given)))


def test_training_writes_weights_provenance_history_and_predictions(lab: Path) -> None:
    folder = folder_of(lab, DATA)
    kept = checkpoint.load(paths.checkpoint(folder))
    assert kept.arch == "cnn"
    assert kept.provenance["class_names"] == ["blue", "green", "red"]
    assert len(paths.history(folder).read_text().splitlines()) == 1 + 3
    said = read_npz(folder / "answers" / "trained.npz")
    assert {name: len(part) for name, part in said.items()} == {
        "train": 54, "validation": 6, "test": 18
    }  # fmt: skip
    summary = json.loads(paths.summary(folder).read_text())
    assert summary["samples_read"] == 3 * 54
    assert summary["seconds"] > 0
    assert summary["accuracy"] == said["test"].accuracy("trained")
    for path in CLASSIFY.outputs(a_draft(CLASSIFY, lab, model=DATA)):
        assert path.is_file()


def test_settings_without_effect_are_in_the_log_of_a_job_other_than_train(
    lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "setting=lr state=without effect reason=method ng does not train as a training does"
    with caplog.at_level(logging.INFO):
        run_unlearning(lab, "ng", lr=0.25, unlearn_epochs=1)
    # no warning, because a file may give it for its trainings
    assert [each.levelname for each in caplog.records if each.message == said] == ["INFO"]


def test_retrained_model_never_predicts_the_class_and_records_all_results(
    lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="trueface.runtime.progress"):
        result = run_unlearning(lab, "retrain", forget_class="red", afterwards=True)
    assert [record.args for record in caplog.records if "doing" in record.msg] == [
        ("measures",), ("answers",), ("relearning",), ("probe",), ("embedding",),
    ]  # fmt: skip
    assert result["forget_accuracy"] == result["test_forget_accuracy"] == 0
    folder = folder_of(lab, f"{DATA}~retrain")
    told = record.read(folder)
    assert told is not None
    assert (told.goal, told.forgotten, told.classes) == ("class", (2,), 3)
    assert told.class_names == ("blue", "green", "red")
    assert told.samples_read == 3 * 36
    assert told.training_samples == 3 * 54
    assert told.relearn is not None
    assert told.probe is not None
    before, after = (
        read_npz(path(folder)) for path in (paths.predictions_before, paths.predictions_after)
    )
    for parts in (before, after):
        assert {name: len(part) for name, part in parts.items()} == {
            "forget": 18, "retain": 36, "validation": 6, "test": 18
        }  # fmt: skip
        assert set(parts["forget"].labels.tolist()) == {2}
        assert all(name.startswith("train/red/") for name in parts["forget"].ids)
    base = read_npz(folder_of(lab, DATA) / "answers" / "trained.npz")
    np.testing.assert_allclose(before["test"].logits, base["test"].logits, rtol=1e-4, atol=1e-5)
    assert planes.read(paths.plane(folder)).forget.sum() == 18
    draft = a_draft(FORGET, lab, model=f"{DATA}~retrain", base=DATA, method="retrain")
    for path in FORGET.outputs(draft):
        assert path.is_file()


def test_unlearned_model_can_forget_another_class(lab: Path) -> None:
    run_unlearning(lab, "finetune", unlearn_epochs=1)
    model = f"{DATA}~finetune~lau"
    forgetting.forget(
        a_job(lab, model, base=f"{DATA}~finetune", method="lau", forget_class=1, afterwards=False)
    )
    told = record.read(folder_of(lab, model))
    assert told is not None
    assert told.forgotten == (0, 1)
    assert told.training_samples == 3 * 54  # samples of the training, not of the unlearning before
    kept = read_npz(paths.predictions_after(folder_of(lab, model)))["retain"]
    assert set(kept.labels.tolist()) == {2}  # otherwise class 0 would be learned again
    first, base, made = (
        checkpoint.load(paths.checkpoint(folder_of(lab, each))).state
        for each in (DATA, f"{DATA}~finetune", model)
    )
    inner = "features.6.weight"  # the layer attack changes the last layer alone
    assert made[inner].equal(base[inner])
    assert not made[inner].equal(first[inner])


def test_all_methods_forget_the_same_random_tenth_of_images(lab: Path) -> None:
    names = []
    for method in ("retrain", "rl"):
        result = run_unlearning(
            lab, method, forget_fraction=0.1, unlearn_epochs=1, afterwards=method == "rl"
        )
        folder = folder_of(lab, f"{DATA}~{method}")
        told = record.read(folder)
        assert told is not None
        assert (told.goal, told.forgotten, told.fraction) == ("instances", (), 0.1)
        parts = read_npz(paths.predictions_after(folder))
        assert {name: len(part) for name, part in parts.items()} == {
            "forget": 5, "retain": 49, "validation": 6, "test": 18
        }  # fmt: skip
        assert not set(parts["forget"].ids) & set(parts["retain"].ids)
        assert result["test_accuracy"] == parts["test"].accuracy("trained")
        assert result["forget_accuracy"] == parts["forget"].accuracy("trained")
        assert (told.relearn is not None) is (method == "rl")
        names.append(parts["forget"].ids)
    assert names[0] == names[1]
    (group,) = make_unlearning_leaderboard(lab / "runs" / "r" / f"{DATA}~rl").groups
    assert (group.goal, group.fraction) == ("instances", 0.1)
    values = group.rows[-1].values
    assert {"retain", "forget", "test", "relearn"} <= values.keys()


def names(count: int) -> list[str]:
    return [f"{number}.png" for number in range(count)]


def test_forget_set_depends_only_on_the_seed() -> None:
    first, other = (draw_fraction(names(1000), 0.1, seed) for seed in (1, 2))
    assert first == draw_fraction(names(1000), 0.1, 1) != other
    assert (len(first), first) == (100, sorted(set(first)))
    # a set without copies draws the same images as a draw of rows
    assert first == sorted(python_rng("forget", 1).sample(range(1000), 100))
    assert [len(draw_fraction(names(2), fraction, 0)) for fraction in (0.01, 0.99)] == [1, 1]


def test_forget_set_has_all_copies_of_its_images() -> None:
    once = draw_fraction(names(90), 0.1, 1)
    assert draw_fraction(names(90) * 3, 0.1, 1) == [
        row + 90 * copy for copy in range(3) for row in once
    ]


def test_fraction_of_one_image_and_its_copies_is_refused() -> None:
    with pytest.raises(JobError, match="the 90 training images are copies of one image"):
        draw_fraction(["a"] * 90, 0.1, 1)


def test_copies_of_forgotten_classes_are_found_in_other_classes() -> None:
    images, labels = ["a", "b", "b", "c", "a", "c"], [0, 0, 1, 1, 2, 2]
    assert find_copies_in_other_classes(images, labels, {0}) == [2, 4]
    assert find_copies_in_other_classes(images, labels, {0, 2}) == [2, 3]


def test_copies_are_forgotten_warned_of_and_audited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_data(tmp_path, train=8, test=3) / "data"
    for file in sorted((data / "train").rglob("*.png")):
        for number in (1, 2):
            shutil.copy(file, file.with_stem(f"{file.stem}-{number}"))
    # one blue image is green, too, and four test images were trained
    shutil.copy(data / "train/blue/000.png", data / "train/green/blue.png")
    for number in range(4):
        shutil.copy(data / f"train/red/00{number}.png", data / f"test/red/copy{number}.png")
    classification.classify(a_job(tmp_path, DATA, num_epochs=1))
    assert "test_images=4 of=13 are copies of training images, such as train/red/" in caplog.text
    assert "training_images=1 are in several classes, such as train/blue/000" in caplog.text
    equal = {"same-content": 4, "label-contradiction": 1}
    for chosen in ({"forget_fraction": 0.2}, {"forget_class": "blue"}):
        run_unlearning(tmp_path, "retrain", num_epochs=1, **chosen)
        parts = read_npz(paths.predictions_after(folder_of(tmp_path, f"{DATA}~retrain")))
        content = {
            name: {(data / each).read_bytes() for each in part.ids} for name, part in parts.items()
        }
        assert not content["forget"] & content["retain"]
        assert not (content["forget"] | content["retain"]) & content["validation"]
    assert "left_out=1 training images of other classes are copies of forgotten" in caplog.text
    (group,) = make_unlearning_leaderboard(folder_of(tmp_path, f"{DATA}~retrain")).groups
    assert any(alarm.text.startswith("4 test images are copies") for alarm in group.rows[-1].alarms)
    audit = judge(Reader().run(str(tmp_path / "runs" / "r")))
    found = {
        (each.code, each.model): each.evidence["images"]
        for each in audit.findings
        if each.code in equal
    }
    assert found == {
        (code, model): count for code, count in equal.items() for model in (DATA, f"{DATA}~retrain")
    }
    assert "train-test-overlap" not in {gap.code for gap in audit.gaps}


@pytest.mark.parametrize(
    ("fraction", "told"),
    [(0.0001, ["forget_fraction=0.0001 of images=297 is rounded to forget=1"]), (0.1, [])],
)
def test_fraction_below_one_image_is_logged_with_the_forget_set(
    fraction: float, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    draw_fraction(names(297), fraction, 1)
    assert caplog.messages == told


@pytest.mark.parametrize(("first", "then"), [(0.1, (0.0, 0.1)), (0.0, (0.1,))])
def test_images_cannot_be_forgotten_twice(lab: Path, first: float, then: tuple[float, ...]) -> None:
    run_unlearning(lab, "ng", unlearn_epochs=1, forget_fraction=first)
    base = f"{DATA}~ng"
    for fraction in then:
        again = a_job(
            lab, f"{base}~rl", base=base, method="rl", forget_fraction=fraction, forget_class=1
        )
        with pytest.raises(JobError, match="Start from the trained model"):
            forgetting.forget(again)


def test_missing_or_mismatched_base_is_rejected(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Train this model first"):
        run_unlearning(lab, "lau", base="folders:all@seed=9")
    with pytest.raises(CheckpointError, match="was trained with seed: 1, but this job has 2"):
        run_unlearning(lab, "lau", seed=2)
    shutil.copytree(lab, tmp_path / "copy")
    next((tmp_path / "copy" / "data" / "train" / "green").iterdir()).unlink()
    with pytest.raises(CheckpointError, match="differ from the training images"):
        run_unlearning(tmp_path / "copy", "lau")


def test_missing_class_or_data_is_rejected(lab: Path) -> None:
    with pytest.raises(UsageError, match="Classes: 0 blue, 1 green, 2 red"):
        run_unlearning(lab, "lau", forget_class="violet")
    with pytest.raises(DataError, match=r"data folder .*absent does not exist"):
        classification.classify(a_job(lab, DATA, data_root="absent"))
    with pytest.raises(UsageError, match="no label is flipped"):
        run_unlearning(lab, "relabel")


def test_stopped_job_leaves_no_weights(tmp_path: Path) -> None:
    write_data(tmp_path, train=3, test=1)
    stop = Event()
    stop.set()
    with pytest.raises(JobError, match="stopped"):
        classification.classify(a_job(tmp_path, DATA, stop=stop))
    assert not paths.checkpoint(folder_of(tmp_path, DATA)).exists()


def test_command_line_of_job_gives_same_result_without_queue(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    for kind, model, facts in (
        (CLASSIFY, DATA, {}),
        (FORGET, f"{DATA}~lau", {"base": DATA, "method": "lau", "afterwards": False}),
    ):
        words = kind.argv(a_draft(kind, tmp_path, model=model, device="cpu", **facts))
        assert words[:3] == ("python", "-m", "trueface")
        assert cli.run(words[3:]) == 0
    there, here = (
        fingerprint(checkpoint.load(paths.checkpoint(folder_of(root, DATA))).state)
        for root in (lab, tmp_path)
    )
    assert there == here
    assert record.read(folder_of(tmp_path, f"{DATA}~lau")) is not None
