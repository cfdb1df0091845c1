"""The job that evaluates an erasing: its files, its caches and its rejections."""

import importlib.util
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from pydantic import ValidationError

from launcher.api import JobError, UnknownName, UsageError, install_command, read_json
from tests.trueface.generators.diffusion.closed_forms import small
from tests.trueface.generators.erasing.build import write_inception
from tests.trueface.generators.jobs.forgetting.small_lab import (
    CLASSIFIER,
    EDITED,
    NAMES,
    SIDE,
    TEACHER,
    a_draft,
    job_maker,
    make_lab,
)
from trueface.generators.diffusion.diffuser import save_diffuser
from trueface.generators.erasing import registry
from trueface.generators.erasing.study import table
from trueface.generators.jobs.diffusion_kinds import ERASED
from trueface.generators.jobs.erasure_measurement import measure_erased_diffuser
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, DataError
from trueface.runtime.files import write_json

FEW: dict[str, Any] = {
    "diffuser": EDITED, "teacher": TEACHER, "classifier": CLASSIFIER, "data_root": "data",
    "concept": "cross", "anchor": "disc", "samples": 4, "sample_steps": 2, "recover_images": [1, 2],
    "recover_steps": [1, 2], "recover_batch": 2, "least_teacher_rate": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_lab(tmp_path_factory.mktemp("lab"))
    write_json(root / "runs" / "r" / EDITED / "erasing.json", {"seconds": 1.5})
    return root


job = job_maker(ERASED, FEW)


def test_evaluation_of_erasing_writes_measures_curves_and_samples(lab: Path) -> None:
    result = measure_erased_diffuser(job(lab, "erased", never=TEACHER))
    draft = a_draft(ERASED, lab, "erased", {**FEW, "never": TEACHER})
    assert all(path.exists() for path in ERASED.outputs(draft))
    facts: Any = read_json(draft.made_folder() / "metrics.json")
    assert (facts["method"], facts["concept"], facts["anchor"]) == ("abo", "cross", "disc")
    assert facts["class_names"] == list(NAMES)
    assert facts["seconds"] == 1.5
    assert facts["measures"]["erased"]["n"] == 4
    assert facts["measures"]["null_drift"] > 0
    places = [(1, 1), (1, 2), (2, 1), (2, 2)]
    for curve in ("recovery", "recovery_floor", "recovery_ceiling"):
        assert [(row["images"], row["steps"]) for row in facts[curve]] == places
    assert facts["recovery_floor"] == facts["recovery_ceiling"]  # the same model here
    assert facts["classifier_accuracy"]["n"] == 12
    assert "last layer of folders:all" in facts["features"]
    with PIL.Image.open(draft.made_folder() / "samples.png") as picture:
        assert picture.size == (4 * SIDE, 3 * SIDE)
    made: Any = read_json(draft.made_folder() / "made.json")
    assert made["kind"] == "erased"
    assert made["seed"] == 1
    assert len(made["source_digest"]) == 64
    (row,) = table(lab / "runs" / "r", [("", "erased")])
    assert row["method"] == "abo"
    assert row["erased"] == result["erased"]
    assert row["verdict"] == result["verdict"]


def test_published_measures_are_reported_with_ours(lab: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity", reason="the extra `metrics` is not installed")
    pytest.importorskip("torchmetrics", reason="the extra `metrics` is not installed")
    weights = write_inception(tmp_path / "inception.pth")
    measure_erased_diffuser(job(lab, "published", inception=str(weights), samples=2))
    facts: Any = read_json(lab / "runs" / "r" / "made" / "published" / "metrics.json")
    assert facts["measures"]["fid"] >= 0
    assert "kid" in facts["measures"]
    assert "clip_score" not in facts["measures"]
    (row,) = table(lab / "runs" / "r", [("", "published")])
    assert row["fid"] == facts["measures"]["fid"]
    assert "clip_score" not in row


@pytest.mark.skipif(
    importlib.util.find_spec("torchmetrics") is not None, reason="the extra `metrics` is installed"
)
def test_measures_with_missing_packages_are_rejected_at_planning(lab: Path) -> None:
    draft = a_draft(ERASED, lab, "erased", {**FEW, "inception": "weights.pth"})
    (reason,) = ERASED.refusals(draft, ())
    assert "FID and KID (inception) needs torchmetrics" in reason
    assert install_command("metrics") in reason
    assert not ERASED.refusals(a_draft(ERASED, lab, "erased", FEW), ())
    assert lab / "weights.pth" in [item.path for item in ERASED.inputs(draft)]
    with pytest.raises(UsageError, match="needs torchmetrics"):
        measure_erased_diffuser(job(lab, "lacking", inception="weights.pth"))


def test_teacher_compared_with_itself_shows_no_change(lab: Path) -> None:
    result = measure_erased_diffuser(job(lab, "teacher", diffuser=TEACHER))
    assert result["ssim"] == pytest.approx(1)
    assert result["null_drift"] == 0
    facts: Any = read_json(lab / "runs" / "r" / "made" / "teacher" / "metrics.json")
    assert facts["method"] == "teacher"
    assert facts["recovery"] == facts["recovery_ceiling"]
    assert facts["recovery_floor"] == []


def test_ceiling_is_measured_once_and_cached_in_teacher_folder(lab: Path) -> None:
    measure_erased_diffuser(job(lab, "first"))
    cache = lab / "runs" / "r" / TEACHER / "cache"
    before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert before
    measure_erased_diffuser(job(lab, "second"))
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == before
    measure_erased_diffuser(job(lab, "third", recover_lr=0.2))
    assert len(list(cache.iterdir())) == len(before) + 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"least_teacher_rate": 0.95},
            r"too few samples of the teacher: .* Train the teacher longer",
        ),
        ({"concept": "crss"}, "cross"),
        ({"recover_images": [5]}, r"train/cross has 4 images, but the attack needs 5"),
    ],
    ids=[
        "a teacher that draws nothing",
        "an unknown concept",
        "too few images",
    ],
)
def test_job_that_cannot_measure_fails_and_leaves_no_folder(
    lab: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises((JobError, UnknownName, DataError), match=said):
        measure_erased_diffuser(job(lab, "failed", **changed))
    assert not (lab / "runs" / "r" / "made" / "failed").exists()


def test_models_with_other_classes_or_kinds_are_rejected(lab: Path) -> None:
    other = "classes:other"
    save_diffuser(paths.checkpoint(lab / "runs" / "r" / other), small(size=SIDE, classes=2), {})
    with pytest.raises(
        JobError, match=r"classes of the measured diffuser \(.*\) and of the teacher .* differ"
    ):
        measure_erased_diffuser(job(lab, "other", diffuser=other))
    larger = "classes:larger"
    save_diffuser(paths.checkpoint(lab / "runs" / "r" / larger), small(size=2 * SIDE), {})
    with pytest.raises(
        JobError, match=r"side of the diffuser trained without the concept \(.*\) and of the"
    ):
        measure_erased_diffuser(job(lab, "larger", never=larger))
    with pytest.raises(CheckpointError):
        measure_erased_diffuser(job(lab, "kind", classifier=TEACHER))


def test_model_trained_on_early_noise_steps_only_cannot_sample(lab: Path) -> None:
    early = "classes:early"
    model = small(size=SIDE)
    model.t_max = model.schedule.steps - 1
    save_diffuser(paths.checkpoint(lab / "runs" / "r" / early), model, {})
    with pytest.raises(
        JobError, match=r"trained only up to step \d+ of \d+ and cannot draw images"
    ):
        measure_erased_diffuser(job(lab, "early", diffuser=early))


def test_stopped_job_leaves_no_folder(lab: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped"):
        measure_erased_diffuser(job(lab, "stopped", stop=stop))
    assert not (lab / "runs" / "r" / "made" / "stopped").exists()


def test_job_inputs_are_all_models_and_images(lab: Path) -> None:
    draft = a_draft(ERASED, lab, "erased", {**FEW, "never": TEACHER})
    read = [place.path.relative_to(lab).as_posix() for place in ERASED.inputs(draft)]
    assert read == [
        "data",
        *(
            f"runs/r/{model}/checkpoints/best.pt"
            for model in (EDITED, TEACHER, CLASSIFIER, TEACHER)
        ),
    ]


def test_nudity_of_class_models_and_unknown_classes_are_rejected(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "missing_detector", lambda _: ())  # the package may be missing
    draft = a_draft(ERASED, lab, "erased", {**FEW, "detector": "nudenet"})
    teacher = replace(draft, kind="diffuser", model=TEACHER, settings={"weights": ""})
    said = f"detector: nudenet needs a text-to-image model, but {TEACHER} draws classes"
    assert any(said in reason for reason in ERASED.refusals(draft, [teacher]))
    with pytest.raises(JobError, match=said):
        measure_erased_diffuser(job(lab, "nude", detector="nudenet"))
    imported = replace(teacher, settings={"weights": "sd"})
    assert not any(said in reason for reason in ERASED.refusals(draft, [imported]))
    values = {**FEW, "nudity_classes": ["FEET_EXPOSE"], "nudity_score": 0.1}
    with pytest.raises(ValidationError, match=r"Did you mean 'FEET_EXPOSED'\?(.|\n)*nudity_score"):
        ERASED.settings.model_validate(values)
    idle = ERASED.settings.without_effect(
        ERASED.settings.model_validate({**FEW, "nudity_score": 0.5}).model_dump()
    )
    assert idle == {"nudity_score": "without detector nothing is detected"}
