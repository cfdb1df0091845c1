"""The jobs on a tiny image tree, one after the other, as a launcher would run them."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from launcher.api import Job, JobError, Json, MachineError, UsageError
from tests.trueface.jobs.build import SIDE, a_draft, a_job, write_images, write_lists
from trueface.data.splits.split_files import load_split
from trueface.jobs import kinds, poisoning, testing, unlearning
from trueface.jobs import training as training_job
from trueface.jobs.kinds import TEST
from trueface.models import checkpoint
from trueface.predictions.npz_tables import read_npz
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, DataError, RecordError
from trueface.training import image_lists, optimizer_state, trainer

torch.set_num_threads(1)

TRAIN, OTHERS = 12, 4  # images of a method in the training list, and in each other
DATA = CLEAN = "gan2:pre&real:pre"  # a model is named by its data
POISONED = f"{CLEAN}%50"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and splits; jobs of a run leave their files here for the next tests."""
    root = tmp_path_factory.mktemp("lab")
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for key in write_images(root, TRAIN + 2 * OTHERS):
        number = int(key[-5:])
        name = ("train", "val", "test")[(number >= TRAIN) + (number >= TRAIN + OTHERS)]
        lists[name].append(key)
    write_lists(root / "splits", **lists)
    (root / "other").symlink_to("splits")
    return root


def job(lab: Path, kind: str, model: str, **more: Any) -> Job:
    settings = {"data_root": "data", "split_path": "splits", **more.pop("settings", {})}
    return a_job(lab, kind, model, run="r", settings=settings, **more)


TRAINING = {
    "model": "slim18", "weights": "none", "num_epochs": 10, "lr": 3e-3, "batch_size": 8,
    "schedule": "onecycle", "resize_size": SIDE,
}  # fmt: skip


def trained(
    lab: Path, model: str, /, *, base: str | None = None, data: str = DATA, **changed: Any
) -> Mapping[str, Json]:
    settings = {**TRAINING, **changed}
    return training_job.train(job(lab, "train", model, base=base, data=data, settings=settings))


def validation_names(result: Mapping[str, Json]) -> set[str]:
    return {name for name in result if name.startswith("val_")}


def poison(lab: Path, model: str, **changed: Any) -> Mapping[str, Json]:
    return poisoning.poison(job(lab, "poison", model, data=DATA, settings=changed))


def unlearned(
    lab: Path, model: str, method: str, /, *, base: str = POISONED, **changed: Any
) -> Mapping[str, Json]:
    settings = {**TRAINING, "method": method, **changed}
    return unlearning.unlearn(job(lab, "unlearn", model, base=base, data=DATA, settings=settings))


def scored(lab: Path, model: str, data: str, /, **changed: Any) -> Mapping[str, Json]:
    settings = {"resize_size": SIDE, "batch_size": 8, **changed}
    return testing.test(job(lab, "test", model, data=data, settings=settings))


def folder(lab: Path, model: str) -> Path:
    return lab / "runs" / "r" / model


def source(lab: Path, model: str) -> Any:
    return checkpoint.load(paths.checkpoint(folder(lab, model))).provenance


@pytest.fixture(scope="module")
def clean(lab: Path) -> Mapping[str, Json]:
    return trained(lab, CLEAN)


@pytest.fixture(scope="module")
def poisoned(lab: Path) -> Mapping[str, Json]:
    poison(lab, POISONED, poison_per="subset")
    return trained(lab, POISONED, num_epochs=1)


def test_poison_logs_the_used_images_of_each_source(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(lab, "gan2:pre&realFFHQ:pre%40")
    lines = [line for line in capsys.readouterr().err.splitlines() if "source=FFHQ" in line]
    assert [line.partition(" split=")[2] for line in lines] == [
        f"train source=FFHQ modifier=pre used={TRAIN} listed={TRAIN} on_disk={TRAIN + 2 * OTHERS}"
    ]


def test_validation_and_test_labels_are_never_flipped(
    lab: Path, poisoned: Mapping[str, Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    del poisoned
    seen: dict[str, set[tuple[int, int]]] = {}
    original = trainer.train

    def spy(model: Any, *feeds: Any, **more: Any) -> Any:
        for made in (feed.dataset.image_set for feed in feeds[:2]):
            pairs = zip(made.labels, made.images, strict=True)
            seen[type(made.transform).__name__] = {(label, image.label) for label, image in pairs}
        return original(model, *feeds, **more)

    monkeypatch.setattr(trainer, "train", spy)
    trained(lab, POISONED, num_epochs=1)
    assert seen["TestTransform"] == {(0, 0), (1, 1)}
    assert seen["TrainTransform"] == {(0, 0), (1, 1), (0, 1), (1, 0)}


FROZEN = f"{POISONED}@freeze=true"


@pytest.fixture(scope="module")
def frozen(lab: Path, clean: Mapping[str, Json]) -> dict[str, Any]:
    """Train the last layer of a poisoned model; return its settings."""
    del clean
    # a backbone that was trained on these images, so that a last layer can separate them
    body = str(paths.checkpoint(folder(lab, CLEAN)))
    settings: dict[str, Any] = {"freeze": True, "flip_prob": 0, "weights": body, "lr": 0.03}
    poison(lab, FROZEN, poison_per="subset")
    trained(lab, FROZEN, **settings)
    return settings


@pytest.mark.parametrize("method", ["retrain", "relabel", "exact"])
def test_unlearning_of_last_layer_keeps_the_measured_weights(
    lab: Path, frozen: dict[str, Any], method: str
) -> None:
    model = f"{POISONED}~{method}@freeze=true"
    before = weights(lab, FROZEN)
    result = unlearned(lab, model, method, base=FROZEN, select="last", **frozen)
    assert validation_names(result) == kinds.UNLEARN.validation_metrics({})
    after = weights(lab, model)
    assert result["val_accuracy"] == 1.0
    assert not torch.equal(before["fc.weight"], after["fc.weight"])
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith("fc."))
    said = read_npz(paths.predictions_after(folder(lab, model)))
    assert said["test"].accuracy("true") == scored(lab, model, DATA)["accuracy"] == 1.0


def test_unlearning_method_that_contradicts_the_name_is_rejected(
    lab: Path, poisoned: Mapping[str, Json]
) -> None:
    del poisoned
    with pytest.raises(JobError, match="is not the result of retrain on"):
        unlearned(lab, f"{POISONED}~relabel", "retrain")


def test_fine_tuning_of_another_architecture_is_rejected(
    lab: Path, clean: Mapping[str, Json]
) -> None:
    del clean
    with pytest.raises(
        CheckpointError, match="has model slim18, but the settings have model nodown18"
    ):
        trained(lab, f"{CLEAN}#{DATA}", base=CLEAN, model="nodown18")


def test_poisoned_training_without_record_is_rejected(lab: Path) -> None:
    with pytest.raises(RecordError):
        trained(lab, f"{CLEAN}%20")


def weights(lab: Path, model: str) -> Mapping[str, torch.Tensor]:
    return checkpoint.load(paths.checkpoint(folder(lab, model))).state


STILL: dict[str, Any] = {"num_epochs": 1, "lr": 1e-12, "schedule": "plateau", "freeze": True}


def test_warm_start_uses_own_weights_instead_of_base(lab: Path, clean: Mapping[str, Json]) -> None:
    del clean
    model = f"{CLEAN}#gan2:pre@seed=9"
    facts: dict[str, Any] = {"base": CLEAN, "data": "gan2:pre"}
    trained(lab, model, num_epochs=1, warm_start=True, **facts)  # none of its own yet
    assert source(lab, model)["started_from"] == CLEAN
    before = weights(lab, model)
    assert not torch.equal(before["conv1.weight"], weights(lab, CLEAN)["conv1.weight"])

    trained(lab, model, warm_start=True, **STILL, **facts)
    assert source(lab, model)["started_from"] == model
    assert torch.equal(weights(lab, model)["conv1.weight"], before["conv1.weight"])

    trained(lab, model, **STILL, **facts)
    own, base = weights(lab, model), weights(lab, CLEAN)
    assert torch.equal(own["conv1.weight"], base["conv1.weight"])


def test_fine_tuning_continues_with_optimizer_moments_of_base(lab: Path) -> None:
    def steps(model: str, **changed: Any) -> Any:
        trained(lab, model, schedule="plateau", save_optimizer=True, **changed)
        kept = optimizer_state.load_optimizer(paths.optimizer(folder(lab, model)))
        return kept.state["fc.weight"]["step"]

    base = f"{CLEAN}@seed=7"
    before = steps(base, num_epochs=2)
    kept, fresh = (
        steps(
            f"{base}#gan2:pre@state={state}",
            base=base,
            data="gan2:pre",
            num_epochs=1,
            optimizer_state=state,
        )
        for state in ("kept", "fresh")
    )
    assert kept == before + fresh
    assert fresh == 2 * TRAIN // 8


def test_missing_optimizer_moments_of_base_are_an_error(
    lab: Path, clean: Mapping[str, Json]
) -> None:
    del clean
    with pytest.raises(CheckpointError, match="with save_optimizer"):
        trained(lab, f"{CLEAN}#gan2:pre", base=CLEAN, optimizer_state="kept")
    with pytest.raises(
        UsageError, match=r"kept needs a model to start from, and .*seed=8 has none"
    ):
        trained(lab, f"{CLEAN}@seed=8", optimizer_state="kept")


def test_test_of_earlier_model_on_its_training_images_is_rejected(
    lab: Path, clean: Mapping[str, Json]
) -> None:
    del clean
    leaky = lab / "leaky"
    leaky.mkdir()
    (leaky / "test.json").write_text((lab / "splits/train.json").read_text())
    leaking, sound = (
        a_draft(
            TEST, lab, {"data_root": "data", "split_path": split}, run="r", model=CLEAN,
            data="real:pre",
        )
        for split in ("leaky", "splits")
    )  # fmt: skip
    (said,) = TEST.refusals(leaking, ())
    assert said.startswith(f"{TRAIN} of the {TRAIN} test images of real:pre")
    assert TEST.refusals(sound, ()) == ()


def one_class(lab: Path, name: str, word: str, rest: int = 0) -> str:
    """Write a split of which one list has the images of one class and `rest` others; return its name."""
    split = lab / f"{name}-{word}-{rest}"
    shutil.copytree(lab / "splits", split)
    keys = load_split(split, name).keys
    others = sorted(key for key in keys if not key.startswith(word))
    write_lists(split, **{name: [*(key for key in keys if key.startswith(word)), *others[:rest]]})
    return split.name


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("FFHQ", "the training images are 12 real and 0 fake ones"),
        ("Style", "none of the 20 images of real:pre"),  # a training reads real images in any case
    ],
)
def test_training_on_one_class_is_rejected(lab: Path, word: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        trained(lab, "all:pre@seed=20", data="all:pre", split_path=one_class(lab, "train", word))


@pytest.mark.parametrize("freeze", [False, True])
def test_training_whose_images_of_a_class_are_unreadable_is_rejected(
    lab: Path, tmp_path: Path, *, freeze: bool
) -> None:
    data = tmp_path / "data"
    shutil.copytree(lab / "data", data)
    for image in (data / "PreSocial/Fake").rglob("*.png"):
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"the training images are 12 real and 0 fake ones"):
        trained(lab, f"{DATA}@seed=21", data_root=str(data), num_epochs=2, freeze=freeze)
    assert not paths.checkpoint(folder(lab, f"{DATA}@seed=21")).exists()


def test_self_blended_images_need_no_fakes(lab: Path) -> None:
    split = one_class(lab, "train", "FFHQ", rest=1)
    write_lists(
        lab / split, train=[key for key in load_split(lab / split, "train").keys if key[0] == "F"]
    )
    told: dict[str, Any] = {"data": "all:pre", "num_epochs": 1, "split_path": split}
    result = trained(lab, "all:pre@seed=22", sbi=0.5, **told)
    assert result["images"] == TRAIN
    assert validation_names(result) == kinds.TRAIN.validation_metrics({})


@pytest.mark.parametrize(
    ("word", "rest", "more", "warning"),
    [
        (
            "FFHQ",
            0,
            {},
            "split=val real=4 fake=0 reason=one class alone chooses the epoch, and temp",
        ),
        ("FFHQ", 0, {}, "Make another split: trueface splits"),
        ("FFHQ", 0, {"sbi": 0.5}, "need 2 images of each class. Add fake images to the data"),
        ("FFHQ", 0, {"select": "last"}, "fake=0 reason=temperature and threshold are not fitted"),
        ("Style", 1, {}, "split=val real=1 fake=4 reason=temperature and threshold are not fitted"),
        ("Style", 2, {}, ""),
    ],
)
def test_validation_on_one_class_is_reported(
    lab: Path,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    word: str,
    rest: int,
    more: dict[str, Any],
    warning: str,
) -> None:
    split = tmp_path / "splits"
    shutil.copytree(lab / "splits", split)
    keys = sorted(load_split(split, "val").keys)
    others = [key for key in keys if not key.startswith(word)][:rest]
    write_lists(split, val=[*(key for key in keys if key.startswith(word)), *others])
    told: dict[str, Any] = {"data": "all:pre", "num_epochs": 1, "split_path": str(split), **more}
    done = trained(lab, "all:pre@seed=23", **told)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)
    assert ((done["temperature"], done["threshold"]) == (1, 0)) is bool(warning)


def learned(lab: Path, model: str) -> list[str]:
    """Return the names of the split folders that a model learned from."""
    found = image_lists.read_ancestry(folder(lab, model))
    assert found is not None
    return [Path(one.split_path).name for one in found.lessons]


def test_only_training_with_saved_weights_records_training_images(lab: Path) -> None:
    data = "gan2:pre&realFFHQ:pre"
    model = f"{data}@seed=11"
    told: dict[str, Any] = {"data": data, "num_epochs": 1}
    trained(lab, model, save_weights=False, **told)
    assert image_lists.read_ancestry(folder(lab, model)) is None
    trained(lab, model, **told)
    trained(lab, model, save_weights=False, split_path="other", **told)
    assert learned(lab, model) == ["splits"]


def test_warm_start_records_images_of_earlier_trainings(lab: Path) -> None:
    model = f"{DATA}@seed=12"
    trained(lab, model, num_epochs=1)
    for split in ("splits", "other"):
        trained(lab, model, num_epochs=1, warm_start=True, split_path=split)
    assert learned(lab, model) == ["splits", "other"]
    trained(lab, model, num_epochs=1)
    assert learned(lab, model) == ["splits"]


def test_record_of_stopped_training_is_that_of_its_weights(lab: Path) -> None:
    model, changed = f"{DATA}@seed=13", {**TRAINING, "num_epochs": 2, "split_path": "other"}
    trained(lab, model, num_epochs=1)
    stop = Event()

    def after_the_first_epoch(**facts: Any) -> None:
        if facts["step"] > 2 * TRAIN:
            stop.set()

    stopped = job(lab, "train", model, data=DATA, settings=changed)
    stopped.stop.set()
    with pytest.raises(JobError, match="stopped in epoch 1"):
        training_job.train(stopped)
    assert learned(lab, model) == ["splits"]
    stopped = replace(stopped, stop=stop, progress=after_the_first_epoch)
    with pytest.raises(JobError, match="stopped in epoch 2"):
        training_job.train(stopped)
    assert learned(lab, model) == ["other"]


def test_unlearning_with_failed_write_keeps_record_of_old_weights(
    lab: Path, poisoned: Mapping[str, Json]
) -> None:
    del poisoned
    model = f"{POISONED}~relabel"
    unlearned(lab, model, "relabel", num_epochs=1)
    path = paths.checkpoint(folder(lab, model))
    kept = path.rename(path.with_name("kept.pt"))
    path.mkdir()  # no file can take the place of a folder
    with pytest.raises(MachineError, match=r"cannot write .*best\.pt .*directory"):
        unlearned(lab, model, "relabel", num_epochs=1, split_path="other")
    path.rmdir()
    kept.rename(path)
    assert learned(lab, model) == ["splits", "other"]
    unlearned(lab, model, "relabel", num_epochs=1, split_path="other")
    assert learned(lab, model) == ["other"]
