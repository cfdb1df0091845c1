"""The jobs on a tiny image tree, one after the other, as a launcher would run them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from launcher.api import Draft, Job, JobError, Json, MachineError, Words, parse_data
from trueface.data.index import survey
from trueface.data.splits import load_split
from trueface.evaluation import predictions
from trueface.evaluation.score_tables import read_scores
from trueface.jobs import poisoning, testing, unlearning
from trueface.jobs import training as training_job
from trueface.jobs.kinds import TEST
from trueface.models import checkpoint
from trueface.poisoning.poison_record import read_record
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, RecordError
from trueface.training import checkpointing, image_lists, trainer

torch.set_num_threads(1)

SIDE, TRAIN, OTHERS = 16, 12, 4  # images of a method in the training list, and in each other
DATA = CLEAN = "gan2:pre&real:pre"  # a model is named by its data
POISONED = f"{CLEAN}%50"
FOLDERS = {"Fake/StyleGAN2/conf-f-psi-1": 40, "Real/FFHQ": 0}  # and how strong a trace each has


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and splits; jobs of a run leave their files here for the next tests."""
    root = tmp_path_factory.mktemp("lab")
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    random = np.random.default_rng(0)
    for folder, trace in FOLDERS.items():
        for number in range(TRAIN + 2 * OTHERS):
            pixels = random.integers(100, 140, (SIDE, SIDE, 3))
            pixels[::2, ::2] += trace
            path = root / "data" / "PreSocial" / folder / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)
            name = ("train", "val", "test")[(number >= TRAIN) + (number >= TRAIN + OTHERS)]
            lists[name].append(f"{folder.split('/', 1)[1]}/{number:05}")
    (root / "splits").mkdir()
    for name, keys in lists.items():
        (root / "splits" / f"{name}.json").write_text(json.dumps(keys))
    (root / "other").symlink_to("splits")
    return root


TRAINING = {
    "model": "slim18", "weights": "none", "num_epochs": 10, "lr": 3e-3, "batch_size": 8,
    "schedule": "onecycle", "resize_size": SIDE,
}  # fmt: skip


def job(lab: Path, kind: str, model: str, **more: Any) -> Job:
    settings = {"data_root": "data", "split_path": "splits", **more.pop("settings", {})}
    return Job(
        name=f"{kind}/{model}", kind=kind, run="r", run_folder=lab / "runs" / "r", folder=lab,
        attempt_folder=lab, attempt=1, device="cpu", cpus=1, model=model, settings=settings, **more,
    )  # fmt: skip


def scored(lab: Path, model: str, data: str) -> Mapping[str, Json]:
    made = job(lab, "test", model, data=data, settings={"resize_size": SIDE, "batch_size": 8})
    return testing.test(made)


def folder(lab: Path, model: str) -> Path:
    return lab / "runs" / "r" / model


@pytest.fixture(scope="module")
def clean(lab: Path) -> Mapping[str, Json]:
    return training_job.train(job(lab, "train", CLEAN, data=DATA, settings=TRAINING))


@pytest.fixture(scope="module")
def poisoned(lab: Path) -> Mapping[str, Json]:
    evenly = {"poison_per": "subset"}
    poisoning.poison(job(lab, "poison", POISONED, data=DATA, settings=evenly))
    return training_job.train(job(lab, "train", POISONED, data=DATA, settings=TRAINING))


def test_a_trained_model_is_tested_and_its_scores_name_every_image(
    lab: Path, clean: Mapping[str, Json]
) -> None:
    assert clean["images"] == 2 * TRAIN
    assert clean["poisoned"] == 0
    result = scored(lab, CLEAN, "gan2:pre")
    assert result["n"] == OTHERS
    assert result["accuracy"] == 1.0
    table = read_scores(paths.scores(folder(lab, CLEAN), CLEAN, "gan2:pre"))
    assert table.paths[0] == f"PreSocial/Fake/StyleGAN2/conf-f-psi-1/{TRAIN + OTHERS:05}.png"
    assert set(table.labels) == {1}
    assert json.loads(paths.metrics(folder(lab, CLEAN), "gan2:pre").read_text())["n"] == OTHERS


def test_a_checkpoint_says_where_it_comes_from(lab: Path, clean: Mapping[str, Json]) -> None:
    told = checkpoint.load(paths.checkpoint(folder(lab, CLEAN))).provenance
    assert clean["best_epoch"] <= 10  # type: ignore[operator]  # a number, in JSON
    assert told["seed"] == 42
    assert told["poison_record_sha256"] is None
    assert set(told["splits"]) == {"train", "val"}  # type: ignore[arg-type]  # an object, in JSON
    assert told["settings"]["lr"] == 3e-3  # type: ignore[call-overload,index]  # likewise


def test_poison_turns_half_of_each_method_and_only_of_the_training_list(
    lab: Path, poisoned: Mapping[str, Json]
) -> None:
    record = read_record(paths.poison_record(folder(lab, POISONED)))
    keys = set(json.loads((lab / "splits" / "train.json").read_text()))
    assert poisoned["poisoned"] == TRAIN
    assert {name.split(":")[1] for name in record.keys} <= keys
    assert sum("StyleGAN2" in name for name in record.keys) == TRAIN // 2


def test_validation_and_test_labels_are_never_flipped(
    lab: Path, poisoned: Mapping[str, Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    del poisoned
    seen: dict[str, set[tuple[int, int]]] = {}
    original = trainer.train

    def spy(model: Any, *feeds: Any, **more: Any) -> Any:
        for made in (feed.image_set for feed in feeds[:2]):
            pairs = zip(made.labels, made.images, strict=True)
            seen[type(made.transform).__name__] = {(label, image.label) for label, image in pairs}
        return original(model, *feeds, **more)

    monkeypatch.setattr(trainer, "train", spy)
    training_job.train(
        job(lab, "train", POISONED, data=DATA, settings={**TRAINING, "num_epochs": 1})
    )
    assert seen["TestTransform"] == {(0, 0), (1, 1)}
    assert seen["TrainTransform"] == {(0, 0), (1, 1), (0, 1), (1, 0)}


@pytest.mark.parametrize("method", ["relabel", "retrain"])
def test_unlearning_brings_a_poisoned_model_back(
    lab: Path, poisoned: Mapping[str, Json], method: str
) -> None:
    del poisoned
    model = f"{POISONED}~{method}"
    told = {**TRAINING, "method": method, "num_epochs": 15}
    result = unlearning.unlearn(job(lab, "unlearn", model, base=POISONED, data=DATA, settings=told))
    assert result["val_accuracy"] == 1.0
    assert result["samples_read"] == 15 * TRAIN * (2 if method == "relabel" else 1)
    assert scored(lab, model, "real:pre")["accuracy"] == 1.0
    summary = json.loads((folder(lab, model) / "summary.json").read_text())
    assert summary["log"][0]["step"] == 0


@pytest.mark.parametrize("method", ["retrain", "corrected", "restart", "relabel", "exact"])
def test_a_last_layer_alone_is_unlearned_too_and_what_is_measured_is_what_is_kept(
    lab: Path, clean: Mapping[str, Json], method: str
) -> None:
    # a body that was trained on these images, so that a last layer can tell them apart
    body = str(paths.checkpoint(folder(lab, CLEAN)))
    name = f"{POISONED}@freeze=true"
    frozen = {**TRAINING, "freeze": True, "flip_prob": 0, "weights": body, "lr": 0.03}
    poisoning.poison(job(lab, "poison", name, data=DATA, settings={"poison_per": "subset"}))
    training_job.train(job(lab, "train", name, data=DATA, settings=frozen))
    model = f"{POISONED}~{method}@freeze=true"
    told = {**frozen, "method": method, "select": "last"}
    before = checkpoint.load(paths.checkpoint(folder(lab, name))).state
    result = unlearning.unlearn(job(lab, "unlearn", model, base=name, data=DATA, settings=told))
    after = checkpoint.load(paths.checkpoint(folder(lab, model))).state
    assert result["val_accuracy"] == 1.0
    assert not torch.equal(before["fc.weight"], after["fc.weight"])
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith("fc."))
    said = predictions.read(paths.answers_after(folder(lab, model)))
    assert said["test"].accuracy("true") == scored(lab, model, DATA)["accuracy"] == 1.0


def test_unlearning_of_another_method_than_the_name_says_is_refused(
    lab: Path, poisoned: Mapping[str, Json]
) -> None:
    del poisoned
    told = {**TRAINING, "method": "retrain"}
    with pytest.raises(JobError, match="is not what retrain makes of"):
        unlearning.unlearn(
            job(lab, "unlearn", f"{POISONED}~relabel", base=POISONED, data=DATA, settings=told)
        )


def test_fine_tuning_starts_from_its_base(lab: Path, clean: Mapping[str, Json]) -> None:
    del clean
    model = f"{CLEAN}#real:pre&gan2:pre"
    told = {**TRAINING, "num_epochs": 1, "lr": 1e-12, "schedule": "plateau", "freeze": True}
    training_job.train(
        job(lab, "train", model, base=CLEAN, data="real:pre&gan2:pre", settings=told)
    )
    states = [checkpoint.load(paths.checkpoint(folder(lab, name))).state for name in (CLEAN, model)]
    assert torch.equal(states[0]["conv1.weight"], states[1]["conv1.weight"])
    torch.testing.assert_close(states[0]["fc.weight"], states[1]["fc.weight"])


def test_fine_tuning_another_architecture_is_refused(lab: Path, clean: Mapping[str, Json]) -> None:
    del clean
    told = {**TRAINING, "model": "nodown18"}
    with pytest.raises(CheckpointError, match="is a slim18, but the settings say model nodown18"):
        training_job.train(
            job(lab, "train", f"{CLEAN}#{DATA}", base=CLEAN, data=DATA, settings=told)
        )


def test_a_poisoned_training_without_its_record_is_refused(lab: Path) -> None:
    with pytest.raises(RecordError):
        training_job.train(job(lab, "train", f"{CLEAN}%20", data=DATA, settings=TRAINING))


def test_a_bad_image_is_left_out_and_counted(lab: Path) -> None:
    bad = lab / "data" / "PreSocial" / "Real" / "FFHQ" / "00000.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:40])
    try:
        told = {**TRAINING, "num_epochs": 1}
        result = training_job.train(job(lab, "train", f"{CLEAN}@seed=2", data=DATA, settings=told))
    finally:
        bad.write_bytes(whole)
    assert result["bad_images"] == 1
    assert result["samples_read"] == 2 * TRAIN - 1


def test_poison_chooses_among_the_listed_images(lab: Path) -> None:
    images = survey(lab / "data", parse_data(DATA)).images
    assert len(images) == 2 * (TRAIN + 2 * OTHERS)


def weights(lab: Path, model: str) -> Mapping[str, torch.Tensor]:
    return checkpoint.load(paths.checkpoint(folder(lab, model))).state


STILL = {**TRAINING, "num_epochs": 1, "lr": 1e-12, "schedule": "plateau", "freeze": True}


def test_a_warm_start_takes_its_own_weights_and_not_its_bases(
    lab: Path, clean: Mapping[str, Json]
) -> None:
    del clean
    model = f"{CLEAN}#gan2:pre@seed=9"
    facts: dict[str, Any] = {"base": CLEAN, "data": "gan2:pre"}
    learning = {**TRAINING, "num_epochs": 1, "warm_start": True}
    training_job.train(job(lab, "train", model, settings=learning, **facts))  # none of its own yet
    told = checkpoint.load(paths.checkpoint(folder(lab, model))).provenance
    assert told["started_from"] == CLEAN
    before = weights(lab, model)
    assert not torch.equal(before["conv1.weight"], weights(lab, CLEAN)["conv1.weight"])

    warm = {**STILL, "warm_start": True}
    training_job.train(job(lab, "train", model, settings=warm, **facts))
    told = checkpoint.load(paths.checkpoint(folder(lab, model))).provenance
    assert told["started_from"] == model
    assert torch.equal(weights(lab, model)["conv1.weight"], before["conv1.weight"])

    training_job.train(job(lab, "train", model, settings=STILL, **facts))
    own, base = weights(lab, model), weights(lab, CLEAN)
    assert torch.equal(own["conv1.weight"], base["conv1.weight"])


def test_a_fine_tuning_goes_on_with_the_moments_of_its_base(lab: Path) -> None:
    base, told = f"{CLEAN}@seed=7", {**TRAINING, "num_epochs": 2, "schedule": "plateau"}
    training_job.train(
        job(lab, "train", base, data=DATA, settings={**told, "save_optimizer": True})
    )
    steps = checkpointing.load_optimizer(paths.optimizer(folder(lab, base))).state["fc.weight"][
        "step"
    ]
    made = {}
    for state in ("kept", "fresh"):
        model = f"{base}#gan2:pre@state={state}"
        more = {**told, "num_epochs": 1, "optimizer_state": state, "save_optimizer": True}
        training_job.train(job(lab, "train", model, base=base, data="gan2:pre", settings=more))
        made[state] = checkpointing.load_optimizer(paths.optimizer(folder(lab, model))).state[
            "fc.weight"
        ]["step"]
    assert made["kept"] == steps + made["fresh"]
    assert made["fresh"] == 2 * TRAIN // 8


def test_moments_that_a_base_did_not_keep_are_missed(lab: Path, clean: Mapping[str, Json]) -> None:
    del clean
    told = {**TRAINING, "optimizer_state": "kept"}
    with pytest.raises(CheckpointError, match="with save_optimizer"):
        training_job.train(
            job(lab, "train", f"{CLEAN}#gan2:pre", base=CLEAN, data=DATA, settings=told)
        )
    with pytest.raises(JobError, match="needs a model to start from"):
        training_job.train(job(lab, "train", f"{CLEAN}@seed=8", data=DATA, settings=told))


def test_a_users_words_name_images_of_a_job(lab: Path) -> None:
    own = Words(subsets={"mine": ("Style*",)}, modifiers={"wa": ("PreSocial",)})
    told = {**TRAINING, "num_epochs": 1}
    result = training_job.train(
        job(lab, "train", "mine:wa", data="mine:wa", settings=told, words=own)
    )
    assert result["images"] == 2 * TRAIN
    settings = {"resize_size": SIDE, "batch_size": 8}
    tested = job(lab, "test", "mine:wa", data="mine:wa", settings=settings, words=own)
    assert testing.test(tested)["n"] == OTHERS


def test_a_model_tells_what_it_learned_from_and_what_it_comes_from(
    lab: Path, clean: Mapping[str, Json], poisoned: Mapping[str, Json]
) -> None:
    del clean, poisoned
    found = image_lists.read_ancestry(folder(lab, CLEAN))
    assert found is not None
    (lesson,) = found.lessons
    assert (found.base, lesson.images) == (None, DATA)
    assert (lesson.data_root, lesson.split_path) == (str(lab / "data"), str(lab / "splits"))
    assert lesson.train_sha256 == load_split(lab / "splits", "train").sha256
    told = {**TRAINING, "method": "relabel", "num_epochs": 1}
    model = f"{POISONED}~relabel"
    unlearning.unlearn(job(lab, "unlearn", model, base=POISONED, data=DATA, settings=told))
    names = [
        name
        for name, _ in image_lists.follow_lessons(
            model, lambda name: image_lists.read_ancestry(folder(lab, name))
        )
    ]
    assert names == [model, POISONED]


def test_a_test_of_an_earlier_runs_model_on_its_own_training_images_is_refused(
    lab: Path, clean: Mapping[str, Json]
) -> None:
    del clean
    leaky = lab / "leaky"
    leaky.mkdir()
    (leaky / "test.json").write_text((lab / "splits/train.json").read_text())
    draft = Draft(
        kind="test", run="r", run_folder=lab / "runs/r", folder=lab, model=CLEAN, data="real:pre",
        settings={"data_root": "data", "split_path": "leaky"},
    )  # fmt: skip
    (said,) = TEST.refusals(draft, ())
    assert said.startswith(f"{TRAIN} of the {TRAIN} test images of real:pre")
    assert (
        TEST.refusals(replace(draft, settings={**draft.settings, "split_path": "splits"}), ()) == ()
    )


def test_only_a_training_whose_weights_are_kept_says_what_they_learned_from(lab: Path) -> None:
    told, data = {**TRAINING, "num_epochs": 1}, "gan2:pre&realFFHQ:pre"
    model = f"{data}@seed=11"
    unkept = {**told, "save_weights": False}
    training_job.train(job(lab, "train", model, data=data, settings=unkept))
    assert image_lists.read_ancestry(folder(lab, model)) is None
    training_job.train(job(lab, "train", model, data=data, settings=told))
    training_job.train(
        job(lab, "train", model, data=data, settings={**unkept, "split_path": "other"})
    )
    found = image_lists.read_ancestry(folder(lab, model))
    assert found is not None
    assert [one.split_path for one in found.lessons] == [str(lab / "splits")]


def test_a_warm_start_remembers_what_its_own_weights_saw_before(lab: Path) -> None:
    model, told = f"{DATA}@seed=12", {**TRAINING, "num_epochs": 1}
    for changes in ({}, {"warm_start": True}, {"warm_start": True, "split_path": "other"}):
        training_job.train(job(lab, "train", model, data=DATA, settings={**told, **changes}))
    found = image_lists.read_ancestry(folder(lab, model))
    assert found is not None
    assert [one.split_path for one in found.lessons] == [str(lab / "splits"), str(lab / "other")]
    training_job.train(job(lab, "train", model, data=DATA, settings=told))
    assert len((image_lists.read_ancestry(folder(lab, model)) or found).lessons) == 1


def learned(lab: Path, model: str) -> list[str]:
    """Return the names of the split folders that a model learned from."""
    found = image_lists.read_ancestry(folder(lab, model))
    assert found is not None
    return [Path(one.split_path).name for one in found.lessons]


def test_weights_that_a_failed_training_leaves_as_they_were_keep_what_they_saw(lab: Path) -> None:
    model, told = f"{DATA}@seed=13", {**TRAINING, "num_epochs": 1}
    other = {**told, "split_path": "other"}
    training_job.train(job(lab, "train", model, data=DATA, settings=told))
    stopped = job(lab, "train", model, data=DATA, settings=other)
    stopped.stop.set()
    with pytest.raises(JobError, match="stopped in epoch 1"):
        training_job.train(stopped)
    assert learned(lab, model) == ["splits"]
    training_job.train(job(lab, "train", model, data=DATA, settings=other))
    assert learned(lab, model) == ["other"]


def test_weights_of_a_training_that_is_stopped_later_are_its_own(lab: Path) -> None:
    model, told = f"{DATA}@seed=14", {**TRAINING, "num_epochs": 2}
    training_job.train(job(lab, "train", model, data=DATA, settings=told))
    stop = Event()

    def after_the_first_epoch(**facts: Any) -> None:
        if facts["step"] > 2 * TRAIN:
            stop.set()

    stopped = replace(
        job(lab, "train", model, data=DATA, settings={**told, "split_path": "other"}),
        stop=stop,
        progress=after_the_first_epoch,
    )
    with pytest.raises(JobError, match="stopped in epoch 2"):
        training_job.train(stopped)
    assert learned(lab, model) == ["other"]


def test_an_unlearning_that_cannot_write_its_weights_leaves_what_the_old_ones_saw(
    lab: Path, poisoned: Mapping[str, Json]
) -> None:
    del poisoned
    model, told = f"{POISONED}~relabel", {**TRAINING, "method": "relabel", "num_epochs": 1}
    facts: dict[str, Any] = {"base": POISONED, "data": DATA}
    unlearning.unlearn(job(lab, "unlearn", model, settings=told, **facts))
    other = job(lab, "unlearn", model, settings={**told, "split_path": "other"}, **facts)
    weights = paths.checkpoint(folder(lab, model))
    kept = weights.rename(weights.with_name("kept.pt"))
    weights.mkdir()  # no file can take the place of a folder
    with pytest.raises(MachineError, match=r"cannot write .*best\.pt .*directory"):
        unlearning.unlearn(other)
    weights.rmdir()
    kept.rename(weights)
    assert learned(lab, model) == ["splits", "other"]
    unlearning.unlearn(other)
    assert learned(lab, model) == ["other"]
