"""Drawing, training a translator and translating as jobs."""

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import Draft, Job, JobError, Kind, read_json
from tests.trueface.jobs import build
from trueface.data.settings import DRAWN_MARK
from trueface.generators.jobs.draw import draw
from trueface.generators.jobs.translation_kinds import DRAW, TRANSLATE, TRANSLATOR
from trueface.generators.jobs.translator import train_translator, translate
from trueface.generators.made_folders import digest_of, image_names
from trueface.generators.translation.settings import TranslatorSettings
from trueface.generators.translation.translator import (
    GeneratorShape,
    build_generator,
    labels_of,
    load_translator,
)
from trueface.jobs.kinds import TEST, TRAIN
from trueface.runtime import paths, tensor_files
from trueface.runtime.artifact import Artifact
from trueface.runtime.errors import CheckpointError, DataError
from trueface.runtime.stepping import values_fingerprint

MODEL = "labelled:A"
TINY: dict[str, Any] = {
    "data_root": "drawn", "size": 32, "width": 4, "blocks": 1, "critic_width": 4, "gan": "hinge",
    "n_critic": 1, "num_steps": 4, "batch_size": 4,
}  # fmt: skip


STUDY = """
name: study
draw: [{data_root: drawn}]
translator: [{model: null, data: "labelled:A", data_root: drawn, size: 32}]
translate: [{name: fakes, source: drawn/B, translator: "labelled:A"}]
subsets: {translated: [Translated], realOriginals: [Originals]}
defaults: {data_root: runs/study/made/fakes, split_path: runs/study/made/fakes/splits}
train: [{model: null, data: "translated:pre"}]
test: [{model: "translated:pre", data: "translated:pre"}]
"""


def a_draft(kind: Kind, folder: Path, **given: Any) -> Draft:
    facts = {"model": MODEL, "data": MODEL} if kind is TRANSLATOR else {"name": kind.name}
    return build.a_draft(kind, folder, given, **facts)


def a_job(kind: Kind, folder: Path, *, stopped: bool = False, **given: Any) -> Job:
    stop = threading.Event()
    if stopped:
        stop.set()
    return build.job_of(a_draft(kind, folder, **given), kind, stop=stop)


def draw_dataset(folder: Path) -> Path:
    draw(a_job(DRAW, folder, data_root="drawn", images=30))
    return folder / "drawn"


def test_generated_dataset_trains_translator_that_makes_fakes(tmp_path: Path) -> None:
    draw_dataset(tmp_path)
    job = a_job(TRANSLATOR, tmp_path, **TINY)
    result = train_translator(job)
    assert result["labels"] == ["dark_hair", "light_background", "warm_skin"]
    assert all(path.is_file() for path in job.outputs)
    folder = job.model_folder(MODEL)
    assert paths.history(folder).read_text().startswith("step,critic,")
    assert (folder / "translated.png").is_file()
    assert not paths.resume(folder).exists()

    made = a_job(TRANSLATE, tmp_path, source="drawn/B", translator=MODEL)
    counts = translate(made)
    assert counts["images"] == 6
    assert all(path.exists() for path in made.outputs)
    record = read_json(made.outputs[1])
    assert record is not None
    assert (record["kind"], record["source"], record["images"]) == ("translate", "drawn/B", 6)
    assert record["real"] == "drawn/B"


def test_inputs_and_outputs_follow_from_the_settings(tmp_path: Path) -> None:
    outputs = DRAW.outputs(a_draft(DRAW, tmp_path, data_root="drawn"))
    assert outputs == (tmp_path / "drawn", tmp_path / "drawn" / DRAWN_MARK)
    photographs = a_draft(
        DRAW, tmp_path, data_root="drawn", content="resized", source="photos", attributes="a.txt"
    )
    read = [item.path for item in DRAW.inputs(photographs)]
    assert read == [tmp_path / "photos", tmp_path / "a.txt"]
    training = a_draft(TRANSLATOR, tmp_path, **TINY)
    assert [item.path for item in TRANSLATOR.inputs(training)] == [tmp_path / "drawn/A"]
    adopted = a_draft(TRANSLATOR, tmp_path, data_root="x", weights="G.ckpt", labels="a,b")
    assert [item.path for item in TRANSLATOR.inputs(adopted)] == [tmp_path / "G.ckpt"]
    unlabelled = a_draft(TRANSLATOR, tmp_path, **TINY, weights="G.ckpt")
    read = [item.path for item in TRANSLATOR.inputs(unlabelled)]
    assert read == [tmp_path / "G.ckpt", tmp_path / "drawn/A"]
    made = a_draft(TRANSLATE, tmp_path, source="drawn/B", translator=MODEL)
    checkpoint = paths.checkpoint(made.model_folder(MODEL))
    assert [item.path for item in TRANSLATE.inputs(made)] == [tmp_path / "drawn/B", checkpoint]
    assert TRANSLATE.outputs(made)[0] == tmp_path / "runs/study/made/translate"


def test_detector_trains_after_the_translation_that_makes_its_images(tmp_path: Path) -> None:
    plan = build.plan_text(STUDY, (DRAW, TRANSLATOR, TRANSLATE, TRAIN, TEST), tmp_path)
    order = [job.kind for job in plan.jobs]
    assert order == ["draw", "translator", "translate", "train", "test"]
    needs = {job.kind: job.needs for job in plan.jobs}
    names = {job.kind: job.name for job in plan.jobs}
    assert names["translator"] in needs["translate"]
    assert needs["train"] == (names["translate"],)


def test_translation_without_translator_is_rejected(tmp_path: Path) -> None:
    draft = a_draft(TRANSLATE, tmp_path, source="drawn/B", translator="")
    assert "needs a translator" in TRANSLATE.refusals(draft, ())[0]


def test_published_weights_replace_a_training(tmp_path: Path) -> None:
    generator = build_generator(GeneratorShape(2, width=4, blocks=1), seed=1)
    torch.save(generator.state_dict(), tmp_path / "G.ckpt")
    given: dict[str, Any] = {"data_root": "nowhere", "weights": "G.ckpt", "size": 32}
    job = a_job(TRANSLATOR, tmp_path, **given, labels="Male,Young")
    train_translator(job)
    translator = load_translator(paths.checkpoint(job.model_folder(MODEL)))
    assert translator.labels == ("Male", "Young")
    images, targets = torch.zeros(1, 3, 32, 32), torch.ones(1, 2)
    assert torch.equal(translator(images, targets), generator(images, targets))
    with pytest.raises(CheckpointError, match=r"with 2 labels \(c_dim\), but 3 are set"):
        train_translator(a_job(TRANSLATOR, tmp_path, **given, labels="Male,Young,Bald"))


def test_stopped_training_keeps_state_and_stopped_translation_leaves_no_folder(
    tmp_path: Path,
) -> None:
    draw_dataset(tmp_path)
    job = a_job(TRANSLATOR, tmp_path, stopped=True, **TINY)
    with pytest.raises(JobError, match="stopped after 0 of 4 steps"):
        train_translator(job)
    assert paths.resume(job.model_folder(MODEL)).is_file()
    train_translator(a_job(TRANSLATOR, tmp_path, **TINY))
    job = a_job(TRANSLATE, tmp_path, stopped=True, source="drawn/B", translator=MODEL)
    with pytest.raises(JobError, match="Nothing was written"):
        translate(job)
    assert not job.outputs[0].exists()


def test_state_of_a_training_before_adversarial_settings_still_resumes(tmp_path: Path) -> None:
    draw_dataset(tmp_path)
    job = a_job(TRANSLATOR, tmp_path, stopped=True, **TINY)
    with pytest.raises(JobError):
        train_translator(job)
    state = tensor_files.load(paths.resume(job.model_folder(MODEL)))
    names = image_names(tmp_path / "drawn/A")
    labels, rows = labels_of(tmp_path / "drawn/A", names)
    made_of = {
        "settings": {
            name: value
            for name, value in TranslatorSettings.model_validate(TINY)
            .model_dump(mode="json")
            .items()
            if name not in {"data_root", "save_every"} and not name.startswith("adversarial")
        },
        "labels": list(labels),
        "images_sha256": digest_of(tmp_path / "drawn/A", names),
        "labels_sha256": hashlib.sha256(json.dumps(rows.tolist()).encode()).hexdigest(),
    }
    assert state["fingerprint"] == values_fingerprint(made_of)


def test_job_reports_another_process_that_writes_its_folder(tmp_path: Path) -> None:
    shown = list[dict[str, Any]]()
    job = a_job(DRAW, tmp_path, stopped=True, data_root="drawn", images=30)
    job = replace(job, progress=lambda **facts: shown.append(facts))
    writer = Artifact("drawn set", tmp_path / "drawn", DRAWN_MARK, {})
    with writer.lock_place(), pytest.raises(JobError, match="stopped"):
        draw(job)
    assert shown == [{"step": 0, "waiting": "another process writes the folder"}]
    assert list((tmp_path / "drawn").glob("*")) == []


def test_images_without_attribute_table_are_rejected(tmp_path: Path) -> None:
    root = draw_dataset(tmp_path)
    (root / "A" / "attributes.csv").unlink()
    with pytest.raises(DataError, match="no attribute table found"):
        train_translator(a_job(TRANSLATOR, tmp_path, **TINY))
