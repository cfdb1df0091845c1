"""Augmentations by their names, and faces blended with themselves."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

import trueface
from tests.trueface.data.forging.build import a_face
from tests.trueface.features.build import body, settings, store_in
from trueface.data.augmentations.registry import ALLOWED, extend_settings, register_augmentation
from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.data.loading.image_loaders import train_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.data.settings import AugmentationSettings
from trueface.features.bank import FeatureSet
from trueface.runtime.declarations import read_folder
from trueface.runtime.errors import DeclarationError
from trueface.runtime.progress import RunContext
from trueface.training.cells import Subgroups, image_subgroup_ids
from trueface.training.objectives.protocol import TrainingFacts

TOY = """
import random
from pydantic import Field
from torch import Tensor
from trueface.data.augmentations.registry import register_augmentation
from trueface.runtime.field_types import Settings

class ToySettings(Settings):
    toy_shift: int = Field(0, description="added to every pixel")
    toy_draws: bool = Field(False, description="in half of the images only")
    toy_lies: bool = Field(False, description="says that it does not draw")

@register_augmentation("toy", settings=ToySettings)
class Toy:
    def __init__(self, settings: ToySettings) -> None:
        self.settings = settings
        self.is_active = settings.toy_shift != 0
        self.is_random = settings.toy_draws and not settings.toy_lies

    def __call__(self, pixels: Tensor, chance: random.Random, *, unshared: bool) -> Tensor:
        if self.settings.toy_draws and chance.random() < 0.5:
            return pixels
        return pixels + self.settings.toy_shift
"""


PROGRAM = """
import json, sys
from launcher.experiments.kinds import installed_kinds, roots_of

heavy = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] == "torch"}
sys.modules.update(dict.fromkeys(heavy))  # an import of torch fails
kind = installed_kinds(["train"])["train"]
sys.modules.update(heavy)

from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.models.detectors import build_detector
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.training.parts.bank import build_feature_feeds
from trueface.training.settings import TrainSettings
from trueface.unlearning.image_source import pixel_source

images = [Image(path, path, 0, "FFHQ", "pre") for path in sys.argv[1:]]
model = build_detector("slim18", weights="none", seed=1)
facts = {}
for name, given in {
    "off": {}, "fixed": {"toy_shift": 1}, "other": {"toy_shift": 2},
    "random": {"toy_shift": 1, "toy_draws": True},
    "lying": {"toy_shift": 1, "toy_draws": True, "toy_lies": True},
    "cycle": {"toy_shift": 1, "toy_draws": True, "augment_cycle": 2},
}.items():
    settings = TrainSettings(
        data_root="d", split_path="s", model="slim18", weights="none", resize_size=12,
        flip_prob=0, freeze=True, **given,
    )
    training, validation = train_loader(images, settings), eval_loader(images, settings)
    pixels = pixel_source(training, validation, settings)
    try:
        shown = [next(iter(training.iter_positions([0], epoch))).inputs for epoch in range(8)]
    except JobError as error:
        facts[name] = str(error)
        continue
    plain = next(iter(validation.iter_positions([0], 0))).inputs
    learned, _ = build_feature_feeds(model, training, validation, settings, RunContext())
    transform_id = training.dataset.transform.id
    facts[name] = {
        "added": [int((each.int() - plain.int()).max()) for each in shown],
        "identity": pixels.identity, "period": transform_id.period,
        "is_test": transform_id.is_test, "held": learned.dataset.held_bytes > 0,
        "code": [root for root in roots_of(kind, settings.model_dump()) if "toy" in root],
    }
print(json.dumps(facts))
"""


def run(program: str, arguments: Sequence[str], folder: Path, output: Path) -> None:
    """Run a program with copies of our packages from a folder, and write what it prints to a file."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in {"launcher", "trueface"}:
            del sys.modules[name]
    sys.argv[1:], sys.path[:0] = arguments, [str(folder)]
    os.chdir(folder)
    with output.open("w") as sys.stdout:
        exec(program, {})


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("toy")
    installed = Path(trueface.__file__).parent
    shutil.copytree(installed, folder / "trueface")  # with its compiled files
    (folder / "trueface/data/augmentations/toy.py").write_text(TOY)
    files = [folder / f"{number}.png" for number in range(2)]
    for number, file in enumerate(files):
        PIL.Image.new("RGB", (12, 12), (40 * number + 9, 80, 7)).save(file)
    # By name alone, because random parameters of an image depend on its path.
    names = [file.name for file in files]
    # A fork, because it has imported torch
    process = get_context("fork").Process(
        target=run, args=(PROGRAM, names, folder, folder / "facts.json")
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    told: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return told


CODE = ["trueface.data.augmentations.toy"]


@pytest.mark.parametrize(
    ("name", "added", "period", "is_test", "held", "code"),
    [
        ("off", {0}, 1, True, True, []),
        # a random one is not taken for a constant one, nor features of a fixed one for a test's
        ("random", {0, 1}, 0, False, False, CODE),
        ("cycle", {0, 1}, 2, False, True, CODE),
        ("fixed", {1}, 1, False, True, CODE),
    ],
)
def test_features_are_cached_if_augmentation_repeats(
    facts: dict[str, Any], name: str, added: set[int], period: int, is_test: bool, held: bool,
    code: list[str],
) -> None:  # fmt: skip
    told = facts[name]
    assert set(told["added"]) == added
    assert (told["period"], told["is_test"], told["held"]) == (period, is_test, held)
    assert told["code"] == code
    if period:
        assert told["added"] == told["added"][:period] * (8 // period)


def test_features_of_other_parameters_are_not_reused(facts: dict[str, Any]) -> None:
    names = ("off", "fixed", "other", "random", "cycle")
    assert len({facts[name]["identity"] for name in names}) == len(names)


def test_augmentation_that_draws_although_declared_deterministic_is_an_error(
    facts: dict[str, Any],
) -> None:
    assert "augmentation toy draws random numbers, but its is_random is false" in facts["lying"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("toy_shift", "flip_prob"), r"flip_prob already belongs to every training"),
        (('Field(0, description="added', 'Field(description="added'), "toy_shift needs a default"),
    ],
)
def test_invalid_training_settings_are_refused_with_their_location(
    tmp_path: Path, changed: tuple[str, str], says: str
) -> None:
    (tmp_path / "toy.py").write_text(TOY.replace(*changed))
    declared = read_folder(tmp_path, "toys", "register_augmentation", modules=ALLOWED)
    specs = {name: each.pass_to(register_augmentation) for name, each in declared.items()}
    with pytest.raises(DeclarationError, match=rf"toy\.py:13: setting {says}"):
        extend_settings(AugmentationSettings, specs, declared)


COUNT = 12  # real images, and as many fakes


@pytest.fixture
def images(tmp_path: Path) -> tuple[Image, ...]:
    made = []
    for label, name in ((0, "Real/Faces"), (1, "Fake/Forged-self")):
        folder = tmp_path / "PreSocial" / name
        folder.mkdir(parents=True)
        for number in range(COUNT):
            file = folder / f"{number}.png"
            PIL.Image.fromarray(a_face(number, 24)).save(file)
            method = name.partition("/")[2]
            made.append(Image(str(file), f"{method}/{number}", label, method, "pre"))
    return tuple(made)


def training_loader(images: tuple[Image, ...], **more: Any) -> ImageLoader:
    return train_loader(images, settings(resize_size=24, **{"sbi": 0.5, **more}))


def outputs_by_position(batches: Iterator[Batch]) -> dict[int, tuple[float, torch.Tensor]]:
    """Return label and pixels, or features, of each position."""
    return {
        int(position): (float(label), pixels)
        for batch in batches
        for position, label, pixels in zip(
            batch.indices, batch.labels.squeeze(1), batch.inputs, strict=True
        )
    }


def test_shared_images_are_not_self_blended(images: tuple[Image, ...]) -> None:
    shared = tuple(image._replace(modifier="fb") for image in images)
    plain = outputs_by_position(training_loader(shared, sbi=0.0)(0))
    for position, (label, pixels) in outputs_by_position(
        training_loader(shared, sbi=1.0)(0)
    ).items():
        assert label == float(position >= COUNT)
        assert torch.equal(pixels, plain[position][1])


def test_images_equal_test_images_if_none_becomes_fake(images: tuple[Image, ...]) -> None:
    plain, blended = (training_loader(images, sbi=p).dataset.transform.id for p in (0.0, 0.5))
    assert plain.is_test
    assert plain.period == 1
    assert blended.identity["sbi"] == 0.5
    assert not blended.is_test
    assert blended.period == 0


def test_features_of_frozen_backbone_have_labels_of_their_view(
    images: tuple[Image, ...], tmp_path: Path
) -> None:
    feed = training_loader(images, augment_cycle=0)
    frozen = body()
    plain = FeatureSet(frozen, feed, watch=RunContext(), views=4)
    filling, reading = (
        FeatureSet(frozen, feed, watch=RunContext(), store=store_in(tmp_path / "store"), views=4)
        for _ in range(2)
    )
    for epoch in range(2):
        pixels = {
            position: label for position, (label, _) in outputs_by_position(feed(epoch)).items()
        }
        made = [outputs_by_position(bank.loader()(epoch)) for bank in (plain, filling, reading)]
        for features in made:
            assert {position: label for position, (label, _) in features.items()} == pixels
            for position, (_, row) in features.items():
                assert torch.equal(row, made[0][position][1])


def test_forgery_column_reports_self_blended_images(
    images: tuple[Image, ...],
) -> None:
    feed = training_loader(images)
    feed.dataset.columns["forgery"] = torch.tensor([0] * COUNT + [4] * COUNT)
    for batch in feed(0):
        for position, label, number in zip(
            batch.indices, batch.labels, batch.columns["forgery"], strict=True
        ):
            assert number == (4 if position >= COUNT else float(label))
    assert feed.dataset.columns["forgery"][:COUNT].sum() == 0


def test_objectives_count_images_as_shown_in_an_epoch(images: tuple[Image, ...]) -> None:
    # reals alone, and all become fakes
    image_set = training_loader(images[:COUNT], sbi=1.0).dataset
    image_set.attach_column("demographic", [0, 1] * (COUNT // 2), ("men", "women"))
    cells = Subgroups.from_training_facts(TrainingFacts.from_image_set(image_set), "reweight")
    assert cells.counts.tolist() == [0, 0, COUNT // 2, COUNT // 2]
    assert set(image_subgroup_ids(image_set, "oversample")) == {
        0,
        1,
    }  # the order is that of all epochs
