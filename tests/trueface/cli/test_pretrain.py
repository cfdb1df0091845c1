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
from trueface.cli import main
from trueface.cli.pretrain import hand_on
from trueface.jobs import testing
from trueface.jobs import training as training_job
from trueface.models import checkpoint
from trueface.prediction.model_folder import ModelTest
from trueface.prediction.reference import Reference
from trueface.runtime import paths

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
    random = np.random.default_rng(0)
    for folder, trace in {"Fake/StyleGAN2/conf-f-psi-1": 60, "Real/FFHQ": 0}.items():
        names = [name for name, count in COUNTS.items() for _ in range(count)]
        for number, name in enumerate(names):
            pixels = random.integers(90, 150, (SIDE, SIDE, 3))
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
    hand_on(root / "handed", root / "runs/photos", MODEL, TESTS)
    return root


@pytest.fixture
def lab(trained: Path) -> Iterator[Path]:
    with chdir(trained):
        yield trained


def run(*words: str) -> int:
    return main.run(["predict", *words, "--device", "cpu"])


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_the_only_model_of_a_run_needs_no_name(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("data", "--name", "photos", "--json") == 0
    rows = document(capsys)["images"]
    assert len(rows) == 2 * sum(COUNTS.values())
    fakes = [row["probability"] for row in rows if "/Fake/" in row["path"]]
    reals = [row["probability"] for row in rows if "/Real/" in row["path"]]
    assert np.mean(fakes) > np.mean(reals)


def test_of_several_models_the_names_are_listed(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("a", "b"):
        path = paths.checkpoint(lab / "runs/two" / model)
        path.parent.mkdir(parents=True)
        path.touch()
    assert run("data", "--name", "two") == 2
    assert "run two has 2 trained models: name one with --model: a, b" in capsys.readouterr().err


def test_a_model_folder_answers_as_the_run_does(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = "data/PreSocial/Real/FFHQ/00055.png"
    logits = []
    for words in (["--name", "photos"], ["--model-folder", "handed"], ["--model", "handed"]):
        assert run(image, *words, "--json") == 0
        logits.append(document(capsys)["images"][0]["logit"])
    monkeypatch.setenv("TRUEFACE_MODEL", str(lab / "handed"))
    assert run(image, "--json") == 0
    logits.append(document(capsys)["images"][0]["logit"])
    assert len(set(logits)) == 1


def test_a_model_folder_that_was_altered_is_refused(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(lab / "handed", tmp_path / "copied")
    (copied / "card.md").write_text("It never fails.\n")
    assert run("data", "--model-folder", str(copied)) == 1
    assert "was altered: card.md" in capsys.readouterr().err
    assert run("data", "--model-folder", "data") == 2
    assert "data is no model folder" in capsys.readouterr().err


def test_the_card_says_what_was_learned_and_how_well(lab: Path) -> None:
    card = (lab / "handed/card.md").read_text()
    assert "20 fake StyleGAN2/conf-f-psi-1 pre, 20 real FFHQ pre" in card
    assert "file formats: PNG" in card
    assert f"shorter side: {SIDE} pixels" in card
    assert f"| `{MODEL}` | as they are | 20 |" in card
    assert f"| `{MODEL}` | jpeg50 | 20 |" in card
    assert "not tested against an attacker" in card
    assert "not tested on images that were compressed" not in card
    assert "real FFHQ" in card.split("## Where it fails")[1]
    assert "## What it is not for" in card


def test_nothing_that_is_handed_on_names_a_folder_of_this_machine(lab: Path) -> None:
    for file in (lab / "handed").iterdir():
        assert str(lab).encode() not in file.read_bytes(), file


def test_a_checkpoint_keeps_what_predictions_are_compared_with(lab: Path) -> None:
    kept = checkpoint.load(paths.checkpoint(lab / "runs/photos" / MODEL))
    reference = Reference.read(kept.reference)
    assert reference is not None
    assert reference.labels.tolist().count(1) == COUNTS["val"]
    assert reference.features is not None


def test_images_unlike_the_trainings_are_named_with_their_reasons(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stripes = np.zeros((SIDE, SIDE, 3), np.uint8)
    stripes[:, ::2] = 255
    PIL.Image.fromarray(stripes).save(lab / "stripes.jpg", quality=95)
    like = "data/PreSocial/Real/FFHQ/00055.png"
    assert run("stripes.jpg", like, "--name", "photos", "--json") == 0
    out, err = capsys.readouterr()
    striped, usual = json.loads(out)["images"]
    assert [each["reason"] for each in striped["unlike"]] == ["format", "features"]
    assert striped["verdict"] == "unlike"
    assert (usual["unlike"], usual["abstained"]) == ([], False)
    assert "note: no answer for 1 of 2 images, which are unlike those of the training" in err
    assert "stripes.jpg: it is JPEG of quality 95, and the training had PNG" in err


def test_it_abstains_where_validation_does_not_show_the_rate(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("data", "--name", "photos", "--abstain", "0.001") == 2
    assert "--abstain 0.001: no part of the 60 images of validation" in capsys.readouterr().err
    assert run("data", "--name", "photos", "--abstain", "0.45", "--json") == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    unsure = [row for row in content["images"] if row["abstained"]]
    assert {row["verdict"] for row in unsure} <= {"unsure", "unlike"}
    assert content["abstain"]["bound"] <= 0.45
    assert "of which at most" in err
    checkpoint.save(
        lab / "old.pt",
        checkpoint.Checkpoint(arch="slim18", state={}, provenance={"settings": SETTINGS}),
    )
    assert run("data", "--checkpoint", "old.pt", "--abstain", "0.4") == 2
    assert "holds no answers to validation: train it anew" in capsys.readouterr().err


def test_heat_maps_go_into_a_file_or_a_folder(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (
        f"data/PreSocial/{name}/00055.png" for name in ("Real/FFHQ", "Fake/StyleGAN2/conf-f-psi-1")
    )
    words = ["--name", "photos", "--heat-map"]
    assert run(one, *words, str(tmp_path / "a.png")) == 0
    assert run(one, other, *words, str(tmp_path / "maps")) == 0
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"00055.png", "00055-2.png"}
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert run(one, other, *words, str(tmp_path / "a.png")) == 2
    before = Path(one).read_bytes()
    for place in (one, str(Path(one).parent)):
        assert run(one, *words, place) == 2
        assert "could replace images" in capsys.readouterr().err
    assert Path(one).read_bytes() == before
    assert run(one, *words, str(tmp_path / "a.png"), "--heat-map-by", "blocks") == 1
    assert "occlusion works for every detector" in capsys.readouterr().err


def test_odd_files_give_an_answer_or_a_reason(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    assert run(*odd, odd[0], "--name", "photos", "--json") == 1
    content = document(capsys)
    names = [Path(row["path"]).name for row in content["images"]]
    assert names == ["a.gif", "b.jpg", "c.png", "d.png", "é\n.png"]
    assert {Path(file["path"]).name for file in content["bad"]} == {"text.jpg", "vast.png"}


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("", "trains no model"),
        (
            "train: [{model: null, data: 'gan2:pre'}, {model: null, data: 'gan3:pre'}]",
            "2 trainings",
        ),
    ],
)
def test_a_file_of_no_or_several_trainings_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], train: str, said: str
) -> None:
    (tmp_path / "a.yaml").write_text(
        f"name: a\ndefaults: {{data_root: d, split_path: s}}\nsample: [{{}}]\n{train}\n"
    )
    assert main.run(["pretrain", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
