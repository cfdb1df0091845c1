"""A model is trained, handed on as a folder, and answers from there."""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from launcher.api import Job, Json
from tests.trueface.commands import Command
from trueface.cli.pretrain import export_model
from trueface.jobs import testing
from trueface.jobs import training as training_job
from trueface.models import checkpoint
from trueface.prediction.model_card import ModelTest
from trueface.prediction.reference import Reference
from trueface.runtime import paths, tensor_files

torch.set_num_threads(1)

SIDE = 16
COUNTS = {"train": 20, "val": 30, "test": 10}  # images of each class
MODEL = "gan2:pre&real:pre"
TESTS = [
    ModelTest(data=MODEL),
    ModelTest(data=MODEL, condition="corrupt=jpeg50", corrupt="jpeg50"),
    ModelTest(data="gan3:pre"),  # not done
]
SETTINGS: dict[str, Json] = {
    "data_root": "data", "split_path": "splits", "model": "slim18", "weights": "none",
    "solver": "ridge", "copies": "none", "resize_size": SIDE, "batch_size": 32, "cache": "none",
}  # fmt: skip


def write_images(root: Path) -> None:
    lists: dict[str, list[str]] = {name: [] for name in COUNTS}
    rng = np.random.default_rng(0)
    for folder, trace in {"Fake/StyleGAN2/conf-f-psi-1": 60, "Real/FFHQ": 0}.items():
        names = [name for name, count in COUNTS.items() for _ in range(count)]
        for number, name in enumerate(names):
            pixels = rng.integers(90, 150, (SIDE, SIDE, 3))
            pixels[::2, ::2] += trace
            path = root / "data/PreSocial" / folder / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)
            lists[name].append(f"{folder.split('/', 1)[1]}/{number:05}")
    (root / "splits").mkdir()
    for name, keys in lists.items():
        (root / f"splits/{name}.json").write_text(json.dumps(keys))


def job(root: Path, kind: str, data: str, settings: dict[str, Any]) -> Job:
    return Job(
        name=f"{kind}/{MODEL}", kind=kind, run="photos", run_folder=root / "runs/photos",
        folder=root, attempt_folder=root, attempt=1, device="cpu", cpus=1, model=MODEL, data=data,
        settings=settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of one model that was tested, and with its model folder."""
    root = tmp_path_factory.mktemp("trained")
    write_images(root)
    training_job.train(job(root, "train", MODEL, SETTINGS))
    tested = {key: SETTINGS[key] for key in ("data_root", "split_path", "resize_size", "cache")}
    for corrupt in ("none", "jpeg50"):
        testing.test(job(root, "test", MODEL, {**tested, "corrupt": corrupt}))
    export_model(root / "handed", root / "runs/photos", MODEL, TESTS)
    return root


@pytest.fixture
def lab(trained: Path) -> Iterator[Path]:
    with chdir(trained):
        yield trained


def test_only_model_of_a_run_needs_no_name(lab: Path, predict: Command) -> None:
    rows = predict("data", "--name", "photos", "--json").json["images"]
    assert len(rows) == 2 * sum(COUNTS.values())
    fakes = [row["probability"] for row in rows if "/Fake/" in row["path"]]
    reals = [row["probability"] for row in rows if "/Real/" in row["path"]]
    assert np.mean(fakes) > np.mean(reals)


def test_names_of_several_models_are_listed(lab: Path, predict: Command) -> None:
    for model in ("a", "b"):
        path = paths.checkpoint(lab / "runs/two" / model)
        path.parent.mkdir(parents=True)
        path.touch()
    assert (
        "run 'two' has 2 trained models. Choose one with --model: a, b"
        in predict("data", "--name", "two", code=2).err
    )


def test_model_folder_gives_same_predictions_as_the_run(
    lab: Path, predict: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = "data/PreSocial/Real/FFHQ/00055.png"
    monkeypatch.setenv("TRUEFACE_MODEL", str(lab / "handed"))
    logits = [
        predict(image, *words, "--json").json["images"][0]["logit"]
        for words in (["--name", "photos"], ["--model-folder", "handed"], ["--model", "handed"], [])
    ]
    assert len(set(logits)) == 1


def test_altered_model_folder_is_rejected(lab: Path, tmp_path: Path, predict: Command) -> None:
    copied = shutil.copytree(lab / "handed", tmp_path / "copied")
    (copied / "card.md").write_text("It never fails.\n")
    err = predict("data", "--model-folder", copied, code=1).err
    assert "copied was changed. The checksum of card.md does not match" in err
    assert "data is not a model folder" in predict("data", "--model-folder", "data", code=2).err


def test_model_card_describes_training_and_quality(lab: Path) -> None:
    card = (lab / "handed/card.md").read_text()
    assert "20 fake StyleGAN2/conf-f-psi-1 pre, 20 real FFHQ pre" in card
    assert "file formats: PNG" in card
    assert f"shorter side: {SIDE} pixels" in card
    assert f"| `{MODEL}` | unchanged | 20 |" in card
    assert f"| `{MODEL}` | jpeg50 | 20 |" in card
    assert "not tested against adversarial attacks" in card
    assert "not tested on compressed" not in card
    assert "real FFHQ" in card.split("## Errors by source")[1]
    assert "## Do not use it for" in card


def test_published_files_contain_no_local_paths(lab: Path) -> None:
    for file in (lab / "handed").iterdir():
        assert str(lab).encode() not in file.read_bytes(), file


def test_checkpoint_contains_reference_of_predictions(lab: Path) -> None:
    kept = checkpoint.load(paths.checkpoint(lab / "runs/photos" / MODEL))
    reference = Reference.read(kept.reference)
    assert reference is not None
    assert reference.labels.tolist().count(1) == COUNTS["val"]
    assert reference.features is not None


def test_images_unlike_training_images_are_named_with_reasons(lab: Path, predict: Command) -> None:
    stripes = np.zeros((SIDE, SIDE, 3), np.uint8)
    stripes[:, ::2] = 255
    PIL.Image.fromarray(stripes).save(lab / "stripes.jpg", quality=95)
    like = "data/PreSocial/Real/FFHQ/00055.png"
    out, err = predict("stripes.jpg", like, "--name", "photos", "--json")
    striped, usual = json.loads(out)["images"]
    assert [each["reason"] for each in striped["unlike"]] == ["format", "features"]
    assert striped["verdict"] == "unlike"
    assert (usual["unlike"], usual["abstained"]) == ([], False)
    assert "note: no class for 1 of 2 images that differ from the training images" in err
    assert "stripes.jpg: its format is JPEG of quality 95; training images have PNG" in err


def test_prediction_abstains_if_validation_does_not_show_the_rate(
    lab: Path, predict: Command
) -> None:
    assert (
        "--abstain 0.001: the 60 validation images cannot show"
        in predict("data", "--name", "photos", "--abstain", "0.001", code=2).err
    )
    out, err = predict("data", "--name", "photos", "--abstain", "0.45", "--json")
    content = json.loads(out)
    unsure = [row for row in content["images"] if row["abstained"]]
    assert {row["verdict"] for row in unsure} <= {"unsure", "unlike"}
    assert content["abstain"]["bound"] <= 0.45
    assert "of these are wrong (95 % confidence)" in err
    old = {"schema": 1, "arch": "slim18", "state": {}, "provenance": {"settings": SETTINGS}}
    tensor_files.save(lab / "old.pt", old)
    assert (
        "contains no validation scores. Train the model again."
        in predict("data", "--checkpoint", "old.pt", "--abstain", "0.4", code=2).err
    )


def test_heat_maps_are_written_to_file_or_folder(
    lab: Path, tmp_path: Path, predict: Command
) -> None:
    one, other = (
        f"data/PreSocial/{name}/00055.png" for name in ("Real/FFHQ", "Fake/StyleGAN2/conf-f-psi-1")
    )
    words = ["--name", "photos", "--heat-map"]
    predict(one, *words, tmp_path / "a.png")
    predict(one, other, *words, tmp_path / "maps")
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"00055.png", "00055-2.png"}
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    predict(one, other, *words, tmp_path / "a.png", code=2)
    before = Path(one).read_bytes()
    for place in (one, str(Path(one).parent)):
        assert "could overwrite the input images" in predict(one, *words, place, code=2).err
    assert Path(one).read_bytes() == before
    assert (
        "Use --heat-map-by occlusion"
        in predict(one, *words, tmp_path / "a.png", "--heat-map-by", "blocks", code=1).err
    )


def test_unusual_files_give_a_prediction_or_a_reason(
    lab: Path, tmp_path: Path, predict: Command
) -> None:
    frames = [PIL.Image.new("P", (20, 20), colour) for colour in (0, 9)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    PIL.Image.new("CMYK", (20, 20)).save(tmp_path / "b.jpg")
    PIL.Image.fromarray(np.zeros((20, 20), np.uint16)).save(tmp_path / "c.png")
    PIL.Image.new("RGB", (1, 1)).save(tmp_path / "d.png")
    PIL.Image.new("RGBA", (9, 200)).save(tmp_path / "é\n.png")
    PIL.Image.new("1", (20_000, 20_000)).save(tmp_path / "vast.png")
    (tmp_path / "text.jpg").write_text("no image")
    odd = [str(path) for path in sorted(tmp_path.iterdir())]
    content = predict(*odd, odd[0], "--name", "photos", "--json", code=1).json
    names = [Path(row["path"]).name for row in content["images"]]
    assert names == ["a.gif", "b.jpg", "c.png", "d.png", "é\n.png"]
    assert {Path(file["path"]).name for file in content["bad"]} == {"text.jpg", "vast.png"}


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("", "has no training"),
        (
            "train: [{model: null, data: 'gan2:pre'}, {model: null, data: 'gan3:pre'}]",
            "2 trainings",
        ),
    ],
)
def test_file_without_exactly_one_training_is_rejected(
    tmp_path: Path, command: Command, train: str, said: str
) -> None:
    (tmp_path / "a.yaml").write_text(
        f"name: a\ndefaults: {{data_root: d, split_path: s}}\nsample: [{{}}]\n{train}\n"
    )
    assert said in command("pretrain", tmp_path / "a.yaml", "--out", tmp_path / "out", code=2).err
