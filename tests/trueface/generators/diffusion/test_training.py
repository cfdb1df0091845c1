"""The training of a diffuser: loss, resumption and errors."""

import csv
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.trueface.recorded_steps import RecordedSteps, recorded
from tests.trueface.stored_states import assert_almost_equal, put_state
from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.settings import (
    DiffuserSettings,
    names_of_classes,
    training_folder,
)
from trueface.generators.diffusion.training import BatchSource, fit, learning_rate, load_classes
from trueface.generators.made_folders import digest_of_images as digest
from trueface.generators.made_folders import load_images
from trueface.generators.step_loader import StepLoader
from trueface.runtime import paths
from trueface.runtime.errors import DataError, JobError, UnknownName
from trueface.runtime.progress import RunContext

__all__ = ["recorded"]
NAMES = ("cross", "disc")


def settings(**given: Any) -> DiffuserSettings:
    toy = {
        "data_root": "data", "size": 8, "channels": 1, "network": "mlp", "widths": (16, 16),
        "num_steps": 12, "batch_size": 8,
    }  # fmt: skip
    return DiffuserSettings.model_validate({**toy, **given})


def images(count: int = 10, channels: int = 1, side: int = 8) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    shape = (count, channels, side, side)
    return torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)


def labels(count: int = 10) -> Tensor:
    return torch.arange(count) % 2


def weights(diffuser: Diffuser) -> dict[str, Tensor]:
    return diffuser.network.state_dict()


def same(first: Diffuser, second: Diffuser) -> bool:
    mine, others = weights(first), weights(second)
    return mine.keys() == others.keys() and all(torch.equal(mine[key], others[key]) for key in mine)


class StopsAt(RunContext):
    """Stops a training after some steps."""

    def __init__(self, step: int) -> None:
        class Counted(threading.Event):
            looks = 0

            def is_set(self) -> bool:
                self.looks += 1
                return self.looks > step

        super().__init__(stop=Counted())


@pytest.mark.parametrize(
    "given",
    [
        {"prediction": "v", "small_t": 0.5, "t_max": 300},
        {"network": "unet", "widths": (8, 8), "unshuffle": 2},
    ],
)
def test_stopped_training_resumes_bit_identically(tmp_path: Path, given: dict[str, Any]) -> None:
    asked = settings(**given)
    whole = fit(images(), labels(), asked, class_names=NAMES)
    with pytest.raises(JobError, match="stopped after step 5 of 12"):
        fit(images(), labels(), asked, class_names=NAMES, folder=tmp_path, watch=StopsAt(5))
    assert paths.resume(tmp_path).exists()
    steps = list[int]()
    watch = RunContext(progress=lambda step, **_: steps.append(step))
    gone_on = fit(images(), labels(), asked, class_names=NAMES, folder=tmp_path, watch=watch)
    assert steps[0] == 6
    assert same(whole.diffuser, gone_on.diffuser)
    assert [row[:3] for row in whole.rows] == [row[:3] for row in gone_on.rows]


def test_replayed_training_has_the_bits_of_an_eager_one_and_resumes(
    tmp_path: Path, recorded: RecordedSteps
) -> None:
    given: dict[str, Any] = {
        "prediction": "v", "network": "unet", "widths": (8, 8), "unshuffle": 2,
    }  # fmt: skip
    plain, asked = settings(**given), settings(**given, accelerate="graph")
    whole = fit(images(), labels(), plain, class_names=NAMES)
    with pytest.raises(JobError, match="stopped after step 5 of 12"):
        fit(images(), labels(), asked, class_names=NAMES, folder=tmp_path, watch=StopsAt(5))
    assert (recorded.replays, recorded.released) == (2, 1)
    resumed = fit(images(), labels(), asked, class_names=NAMES, folder=tmp_path)
    assert (recorded.replays, recorded.released) == (2 + 4, 2)
    assert same(whole.diffuser, resumed.diffuser)
    assert [row[:3] for row in whole.rows] == [row[:3] for row in resumed.rows]
    assert resumed.acceleration == {"accelerate": "graph"}
    assert whole.acceleration == {}


def test_state_of_another_seed_or_an_eager_training_and_no_state_are_not_resumed(
    tmp_path: Path, recorded: RecordedSteps
) -> None:
    def first_step(**given: Any) -> int:
        steps = list[int]()
        watch = RunContext(progress=lambda step, **_: steps.append(step))
        fit(images(), None, settings(save_every=5, **given), folder=tmp_path, watch=watch)
        return steps[0]

    fit(images(), None, settings(save_every=5), folder=tmp_path)
    assert first_step(seed=7) == 1
    assert recorded.replays == 0
    assert first_step(seed=7, accelerate="graph") == 1
    assert recorded.replays == 9
    paths.resume(tmp_path).write_bytes(b"no state")
    assert first_step(seed=7, accelerate="graph") == 1


def test_killed_training_resumes_from_last_state(tmp_path: Path) -> None:
    asked = settings(save_every=5)
    whole = fit(images(), None, asked, folder=tmp_path)
    state = torch.load(paths.resume(tmp_path), weights_only=True)
    assert state["step"] == 10  # as a SIGKILL after step 10 or 11 leaves it
    assert same(whole.diffuser, fit(images(), None, asked, folder=tmp_path).diffuser)


def test_state_of_earlier_version_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")  # it belongs to the fingerprint
    put_state("diffuser-0.3", paths.resume(tmp_path))
    steps = list[int]()
    watch = RunContext(progress=lambda step, **_: steps.append(step))
    asked = settings(ema=0.99, save_every=5)
    resumed = fit(images(), labels(), asked, class_names=NAMES, folder=tmp_path, watch=watch)
    assert steps == [8, 9, 10, 11, 12]
    whole = fit(images(), labels(), asked, class_names=NAMES)
    assert_almost_equal(weights(resumed.diffuser), weights(whole.diffuser))
    assert [row[0] for row in resumed.rows] == [row[0] for row in whole.rows]


def test_history_contains_a_falling_loss(tmp_path: Path) -> None:
    flat = torch.full((4, 1, 8, 8), 200, dtype=torch.uint8)
    trained = fit(flat, None, settings(num_steps=200, widths=(32, 32)), folder=tmp_path)
    with paths.history(tmp_path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    assert [int(row["step"]) for row in rows[:2]] == [2, 4]
    losses = [float(row["loss"]) for row in rows]
    assert losses[0] == pytest.approx(1, abs=0.2)
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    assert trained.loss == pytest.approx(losses[-1], rel=1e-4)


def test_nonfinite_loss_raises_error_with_step_and_learning_rate() -> None:
    with pytest.raises(JobError, match=r"at step \d+ of 12 \(lr .*\. Use a smaller lr"):
        fit(images(), None, settings(lr=1e30))


def test_excluded_class_is_never_sampled_and_its_row_never_trained() -> None:
    asked = settings(without="disc", ema=0)
    trained = fit(images(), labels(), asked, class_names=NAMES).diffuser
    untrained = fit(
        images(), labels(), settings(without="disc", num_steps=1, lr=1e-30), class_names=NAMES
    ).diffuser
    rows, before = (each.network.table for each in (trained, untrained))
    assert rows is not None
    assert before is not None
    assert torch.equal(rows.weight[1], before.weight[1])
    assert not torch.equal(rows.weight[0], before.weight[0])
    assert trained.class_names == NAMES
    with pytest.raises(UnknownName, match="Did you mean 'disc'"):
        fit(images(), labels(), settings(without="disk"), class_names=NAMES)


def test_batches_depend_on_the_step_number() -> None:
    asked = settings(t_max=300, small_t=0.5, batch_size=400, drop=0.25)
    loader = StepLoader(images(), "step", asked.batch_size, asked.seed)
    source = BatchSource(loader=loader, labels=labels(), classes=2, settings=asked, device="cpu")
    first, again, other = source.batch(3), source.batch(3), source.batch(4)
    assert torch.equal(first.noise, again.noise)
    assert not torch.equal(first.noise, other.noise)
    assert 1 <= int(first.t.min()) <= int(first.t.max()) <= 300
    assert float((first.t < 30).float().mean()) == pytest.approx(0.55, abs=0.1)
    assert first.labels is not None
    assert float((first.labels == 2).float().mean()) == pytest.approx(0.25, abs=0.1)
    assert first.images.abs().max() <= 1


def test_images_of_another_size_raise_an_error() -> None:
    with pytest.raises(DataError, match=r"\(10, 1, 9, 9\)"):
        fit(images(side=9), None, settings())


def test_learning_rate_rises_and_falls() -> None:
    asked = settings(num_steps=1000, lr=0.5)
    rates = [learning_rate(asked, step) for step in range(1000)]
    assert rates[49] == max(rates) == 0.5
    assert rates[0] == 0.01
    assert rates[-1] == pytest.approx(0.025, rel=0.01)


def picture(path: Path, level: int, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((side, side, 3), level, dtype=np.uint8)).save(path)


def test_images_are_sorted_by_name_with_pixel_values_of_their_files(tmp_path: Path) -> None:
    for level in (200, 3, 77):
        picture(tmp_path / f"{level:03}.png", level)
    images = load_images(tmp_path, size=8, channels=3, cpus=2)
    assert images.shape == (3, 3, 8, 8)
    assert images[:, 0, 0, 0].tolist() == [3, 77, 200]
    assert load_images(tmp_path, size=8, channels=1).shape == (3, 1, 8, 8)


def test_images_of_another_size_and_empty_folders_raise_errors_that_name_them(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match="contains no images"):
        load_images(tmp_path, size=8, channels=3)
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 1, side=9)
    with pytest.raises(DataError, match=r"b\.png has 9x9 pixels, expected 8x8"):
        load_images(tmp_path, size=8, channels=3)


def test_each_folder_is_a_class(tmp_path: Path) -> None:
    for name, level in (("disc", 5), ("cross", 9), (".hidden", 1)):
        picture(tmp_path / "train" / name / "0.png", level)
    folder = training_folder(tmp_path, "classes:all")
    assert folder == tmp_path / "train"
    assert training_folder(tmp_path, "images:all") == tmp_path
    assert training_folder(tmp_path, "images:A") == tmp_path / "A"
    images, labels, names = load_classes(folder, size=8, channels=1)
    assert names == ("cross", "disc")
    assert images[:, 0, 0, 0].tolist() == [9, 5]
    assert labels.tolist() == [0, 1]
    assert digest(images, labels, names) != digest(images, labels.flip(0), names)


def test_fewer_than_two_classes_raise_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no class folder"):
        names_of_classes(tmp_path)
    (tmp_path / "cross").mkdir()
    with pytest.raises(DataError, match="has only one class folder"):
        names_of_classes(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        names_of_classes(tmp_path / "train")


def make_data_settings(**given: Any) -> DiffuserSettings:
    return DiffuserSettings.model_validate({"data_root": "data", **given})


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"size": 30}, "size 30 is not a multiple of 8, which unshuffle 2 and 3 levels"),
        ({"size": 32, "unshuffle": 16}, "not a multiple of 64"),
        ({"widths": [48, 60]}, "60 is not a multiple of 8"),
        ({"network": "mlp", "widths": [8, 16]}, "widths 8,16 differ"),
        ({"t_max": 1001}, "t_max 1001 is larger than noise_steps 1000"),
        ({"ema": 1.0}, "less than 1"),
        ({"channels": 2}, "1 or 3"),
        (
            {"weights": "sd", "prompts": "words.txt", "num_steps": 5},
            "settings of a training: num_steps",
        ),
        ({"prompts": "words.txt"}, "prompts needs weights"),
        ({"weights": "sd"}, "weights needs prompts"),
    ],
)
def test_incompatible_settings_are_rejected(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        make_data_settings(**given)


def test_omitted_settings_have_defaults_of_the_network() -> None:
    unet, mlp = make_data_settings(), make_data_settings(network="mlp", size=10)
    assert (unet.network_widths, unet.embedding_width) == ((48, 64, 96), 64)
    assert (mlp.network_widths, mlp.embedding_width) == ((192,) * 4, 16)
    assert (unet.latest_t, make_data_settings(t_max=300).latest_t) == (1000, 300)
    assert (
        unet.class_dropout_rate(0),
        unet.class_dropout_rate(6),
        make_data_settings(drop=0).class_dropout_rate(6),
    ) == (0, 0.1, 0)


def test_imported_weights_ignore_size_checks() -> None:
    assert make_data_settings(weights="sd", size=30, prompts="words.txt").weights == "sd"
