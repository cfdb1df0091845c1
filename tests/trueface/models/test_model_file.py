"""The one format of model files: files of earlier versions, and messages about files that cannot be used."""

import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.source_tree import ROOT
from trueface.generators.diffusion.diffuser import load_diffuser, read_diffuser, save_diffuser
from trueface.generators.purification.denoiser import load_denoiser, save_denoiser
from trueface.generators.translation.translator import load_translator, save_translator
from trueface.models import checkpoint, model_file
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError

FILES = ROOT / "tests/data/model_files"
OUTPUTS: dict[str, list[float]] = json.loads((FILES / "outputs.json").read_text())
EVERY = 64  # numbers of an image for one number of the outputs
CLASSES = ["cross", "disc", "ring"]


def stored(name: str, folder: Path) -> Path:
    """Return a file of an earlier version, decompressed."""
    path = folder / "best.pt"
    path.write_bytes(lzma.decompress((FILES / f"{name}.xz").read_bytes()))
    return path


def pixels(*shape: int) -> Tensor:
    """Return images that are the same everywhere, uint8."""
    at = torch.arange(torch.Size(shape).numel())
    return (at * at * 37 + at * 11).remainder(251).to(torch.uint8).reshape(shape)


def signed(*shape: int) -> Tensor:
    """Return these images in [-1, 1]."""
    return pixels(*shape).float() / 125 - 1


def detector(path: Path) -> Tensor:
    model = checkpoint.load_detector(path)
    side = 24 if model.spec.name == "slim18" else 64
    logits: Tensor = model(pixels(3, 3, side, side))
    return logits


def classifier(path: Path) -> Tensor:
    kept = checkpoint.load(path)
    names = kept.provenance["class_names"]
    assert names == CLASSES
    side = 8 if kept.arch == "vit" else 16
    assert kept.arguments == {"stem": "small", "size": side, "classes": len(CLASSES)}
    logits: Tensor = checkpoint.classifier_from_checkpoint(kept, path)(pixels(3, 3, side, side))
    return logits


def diffuser(path: Path) -> Tensor:
    model = load_diffuser(path)
    named = model.embed(torch.tensor([0, 2, 3]))
    return model.eps(signed(3, 3, 16, 16), torch.tensor([1, 50, 1000]), named).flatten()[::EVERY]


def translator(path: Path) -> Tensor:
    targets = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    return load_translator(path)(signed(2, 3, 16, 16), targets).flatten()[::EVERY]


def denoiser(path: Path) -> Tensor:
    images: Tensor = load_denoiser(path)(signed(2, 3, 16, 16))
    return images.flatten()[::EVERY]


KINDS: dict[str, Callable[[Path], Tensor]] = {
    "detector": detector, "classifier": classifier, "diffuser": diffuser,
    "translator": translator, "denoiser": denoiser,
}  # fmt: skip


@pytest.mark.parametrize("name", list(OUTPUTS))
def test_model_of_earlier_version_has_its_outputs(name: str, tmp_path: Path) -> None:
    path = stored(name, tmp_path)
    with torch.no_grad():
        outputs = KINDS[Path(name).stem](path)
    torch.testing.assert_close(outputs.flatten(), torch.tensor(OUTPUTS[name]), rtol=1e-3, atol=1e-3)


def test_facts_of_earlier_files_are_read(tmp_path: Path) -> None:
    old = checkpoint.load(stored("0.2/detector.pt", tmp_path))
    assert (old.arch, old.provenance["epochs"]) == ("slim18", 2)
    model = checkpoint.from_checkpoint(old, tmp_path)
    assert (model.normalization, model.nodown) == ("half", False)
    newer = checkpoint.load(stored("0.3/detector.pt", tmp_path))
    assert newer.reference.keys() == {"labels", "logits"}
    drawing = read_diffuser(stored("0.3/diffuser.pt", tmp_path))
    assert drawing.diffuser.class_names == tuple(CLASSES)
    assert (drawing.diffuser.t_max, drawing.diffuser.has_null) == (1000, True)
    assert drawing.provenance["seed"] == 42
    faces = load_translator(stored("0.3/translator.pt", tmp_path))
    assert (faces.size, faces.labels) == (32, ("dark_hair", "light_background", "warm_skin"))


OWN_KEYS = {"schema", "kind", "arch", "state", "provenance"}
LAYOUTS = {
    "0.2/detector.pt": ("detector", "slim18", {"normalization", "nodown", "side"}),
    "0.2/classifier.pt": ("classifier", "vit", {"stem", "size", "classes"}),
    "0.3/detector.pt": ("detector", "mesonet", {"normalization", "nodown", "side", "reference"}),
    "0.3/classifier.pt": ("classifier", "cnn", {"stem", "size", "classes"}),
    "0.3/diffuser.pt": (
        "diffuser", "unet",
        {"network", "schedule", "prediction", "t_max", "size", "channels", "class_names",
         "has_null"},
    ),
    "0.3/translator.pt": ("translator", "stargan", {"labels", "size", "width", "blocks"}),
    "0.3/denoiser.pt": ("denoiser", "residual", {"channels", "width", "depth"}),
}  # fmt: skip


def save_again(path: Path) -> None:
    """Read a model of any kind and write it to the same place."""
    content = tensor_files.load(path)
    if content.get("kind") == "diffuser":
        drawing = read_diffuser(path)
        save_diffuser(path, drawing.diffuser, drawing.provenance)
    elif content.get("kind") == "translator":
        save_translator(path, load_translator(path), content["provenance"])
    elif content.get("kind") == "denoiser":
        save_denoiser(path, load_denoiser(path), content["provenance"])
    else:
        model_file.save(path, checkpoint.load(path))


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_every_kind_of_model_is_written_in_one_layout(name: str, tmp_path: Path) -> None:
    path = stored(name, tmp_path)
    before = tensor_files.load(path)
    with torch.no_grad():
        outputs = KINDS[Path(name).stem](path)
        save_again(path)
        assert torch.equal(KINDS[Path(name).stem](path), outputs)
    content = torch.load(path, weights_only=True)
    kind, arch, further = LAYOUTS[name]
    assert content.keys() == OWN_KEYS | further
    assert (content["schema"], content["kind"], content["arch"]) == (1, kind, arch)
    assert content["provenance"] == before["provenance"]
    assert content["state"].keys() == before["state"].keys()
    assert all(torch.equal(content["state"][key], before["state"][key]) for key in before["state"])


def test_keys_of_detectors_keep_their_names_and_values(tmp_path: Path) -> None:
    path = stored("0.2/detector.pt", tmp_path)
    before = tensor_files.load(path)
    save_again(path)
    content = tensor_files.load(path)
    assert content.keys() - before.keys() == {"kind", "nodown", "side"}
    for key in before.keys() - {"state", "reference"}:
        assert content[key] == before[key], key


def test_detector_and_classifier_do_not_replace_each_other(tmp_path: Path) -> None:
    path = stored("0.3/classifier.pt", tmp_path)
    expected = "{path} is a classifier. Give a model of job type train."
    assert message_of(path, checkpoint.load_detector) == expected
    kept = checkpoint.load(stored("0.3/detector.pt", tmp_path))
    with pytest.raises(CheckpointError, match=r"is a detector\. Give a model of job type classify"):
        checkpoint.classifier_from_checkpoint(kept, path)


ABSENT, TORN, OTHER = "absent", "torn", "other"
CHECKPOINT = "{path} is not a checkpoint of schema 1"
MESSAGES = [
    (detector, ABSENT, "checkpoint {path} does not exist. Train this model first."),
    (detector, TORN, "checkpoint {path} cannot be read safely: it is empty"),
    (detector, OTHER, CHECKPOINT),
    (diffuser, ABSENT, "diffuser {path} does not exist. Train it first."),
    (diffuser, TORN, "diffuser {path} cannot be read safely: it is empty"),
    (diffuser, OTHER, "{path} is not a diffuser, but the model of another job type"),
    (translator, ABSENT, "translator {path} does not exist. Train it first."),
    (translator, TORN, "translator {path} cannot be read safely: it is empty"),
    (translator, OTHER, "{path} is not a translator. Give a model of job type translator."),
    (denoiser, ABSENT, "checkpoint {path} does not exist. Train the denoiser first."),
    (denoiser, TORN, "checkpoint {path}: it is empty. Train the denoiser again."),
    (denoiser, OTHER, "checkpoint {path} is not a denoiser. Give a model of job type denoiser."),
]


def message_of(path: Path, load: Callable[[Path], object]) -> str:
    """Return what is said of a file, with {path} for its path."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    return str(caught.value).replace(str(path), "{path}")


@pytest.mark.parametrize(("load", "state", "message"), MESSAGES)
def test_unusable_file_is_refused_with_its_kind(
    load: Callable[[Path], object], state: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "best.pt"
    if state == TORN:
        path.touch()
    elif state == OTHER:
        torch.save({"weights": torch.zeros(1)}, path)
    assert message_of(path, load) == message


DAMAGED: list[tuple[str, dict[str, Any], str]] = [
    (
        "0.2/classifier.pt", {"provenance": {"class_names": 3, "settings": {"stem": "small", "size": 8}}},
        "{path} is a damaged checkpoint: its 'classes' is missing",
    ),
    ("0.3/detector.pt", {"schema": 9}, CHECKPOINT),
    ("0.3/detector.pt", {"arch": None}, "{path} is a damaged checkpoint: its 'arch' is missing"),
    ("0.3/detector.pt", {"state": 1}, "{path} is a damaged checkpoint: its 'state' is missing"),
    ("0.3/detector.pt", {"state": {}}, "the parameters of checkpoint {path} do not fit this model"),
    ("0.3/diffuser.pt", {"kind": []}, "{path} is not a diffuser, but the model of another job type"),
    ("0.3/diffuser.pt", {"schema": 9}, "{path} is a diffuser of schema 9, expected schema 1"),
    ("0.3/diffuser.pt", {"t_max": 0.5}, "{path} is a damaged diffuser: its 't_max' is missing"),
    ("0.3/diffuser.pt", {"t_max": 1001}, "{path} is a damaged diffuser: t_max 1001 is outside"),
    ("0.3/diffuser.pt", {"state": {}}, "{path} is a damaged diffuser: its weights do not fit"),
    ("0.3/translator.pt", {"width": "wide"}, "{path} is a damaged translator: "),
    ("0.3/translator.pt", {"state": {}}, "{path} is a damaged translator: "),
    ("0.3/denoiser.pt", {"schema": 9}, "checkpoint {path} has another schema version. Train"),
    ("0.3/denoiser.pt", {"width": "wide"}, "checkpoint {path} is damaged ("),
    ("0.3/denoiser.pt", {"state": {}}, "checkpoint {path} is damaged ("),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), DAMAGED)
def test_damaged_part_of_an_earlier_file_is_named(
    name: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = stored(name, tmp_path)
    tensor_files.save(path, {**tensor_files.load(path), **change})
    assert re.match(re.escape(message), message_of(path, KINDS[Path(name).stem]))
