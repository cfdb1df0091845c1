import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from launcher.api import Json, parse_data
from tests.terminal import read_terminal
from tests.trueface.commands import Command
from tests.trueface.conftest import Tree
from trueface.cli import main as cli
from trueface.data.folders import find_images, paths_in
from trueface.data.index import survey
from trueface.data.loading.image_loaders import eval_loader
from trueface.evaluation.inference import evaluate
from trueface.models import checkpoint, model_file
from trueface.models.detectors import build_detector
from trueface.prediction import model_folder
from trueface.prediction.predictor import Prediction, Predictor
from trueface.prediction.reference import Reference
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError
from trueface.runtime.progress import RunContext
from trueface.training.settings import TrainSettings

MODEL = "gan2:pre&real:pre"
SETTINGS: dict[str, Json] = TrainSettings(
    data_root="d", split_path="s", model="slim18", resize_size=16, patch_size=8, test_crops=4
).model_dump(mode="json")


def write_model(path: Path, settings: Json = SETTINGS, **known: Json) -> Path:
    detector = build_detector("slim18", weights="none", seed=1)
    checkpoint.save_model(path, detector, {"settings": settings, **known})
    return path


@pytest.fixture
def lab(tree: Tree, tmp_path: Path) -> Iterator[Path]:
    """A folder with a run of one model and five images; it is the working folder."""
    names = ("Fake/StyleGAN2/00003", "Fake/StyleGAN2/00001", "Fake/StyleGAN2/00002")
    tree(f"PreSocial/{name}.png" for name in (*names, "Real/FFHQ/00009", "Real/FFHQ/00008"))
    write_model(paths.checkpoint(tmp_path / "runs/test" / MODEL))
    with chdir(tmp_path):
        yield tmp_path


def test_predictions_equal_test_scores_of_the_same_images(lab: Path) -> None:
    weights = paths.checkpoint(lab / "runs/test" / MODEL)
    images = survey(lab / "data", parse_data("gan2:pre&real:pre")).images
    settings = TrainSettings.model_validate(SETTINGS)
    feed = eval_loader(images, settings)
    tested = evaluate(
        checkpoint.load_detector(weights), feed(0), total=len(feed), watch=RunContext()
    )
    files = [image.path for image in images]
    answers = list(Predictor.load(weights, batch_size=2).predict_files(files))
    logits = [answer.logit for answer in answers if isinstance(answer, Prediction)]
    assert [answer.path for answer in answers] == files
    assert logits == pytest.approx(tested.margin.tolist(), abs=1e-5)
    assert len(set(logits)) == 5


def test_folder_is_searched_and_its_images_are_printed_sorted(lab: Path, predict: Command) -> None:
    rows = [line.split("\t") for line in predict("data", "--model", MODEL).out.splitlines()]
    assert [row[0] for row in rows] == [
        *(f"data/PreSocial/Fake/StyleGAN2/0000{n}.png" for n in (1, 2, 3)),
        *(f"data/PreSocial/Real/FFHQ/0000{n}.png" for n in (8, 9)),
    ]
    for _, logit, probability, verdict in rows:
        assert float(probability) == pytest.approx(1 / (1 + np.exp(-float(logit))), abs=1e-5)
        assert verdict == ("fake" if float(logit) > 0 else "real")


def test_bad_files_are_listed_and_the_others_scored(lab: Path, predict: Command) -> None:
    whole = (lab / "data/PreSocial/Real/FFHQ/00008.png").read_bytes()
    (lab / "cut.png").write_bytes(whole[: len(whole) // 2])
    (lab / "text.jpg").write_text("no image")
    good = "data/PreSocial/Real/FFHQ/00009.png"
    out, err = predict(
        "cut.png", good, "text.jpg", "absent.png", "--model", MODEL, "--json", code=1
    )
    told = json.loads(out)
    assert told["schema"] == 1
    assert [row["path"] for row in told["images"]] == [good]
    assert {row["path"] for row in told["bad"]} == {"cut.png", "text.jpg", "absent.png"}
    assert err.count("error: cut.png: ") == 1
    assert "error: absent.png: no such file or folder" in err
    assert err.endswith("error: no prediction for 3 of 4 paths. See the errors above.\n")


@pytest.mark.parametrize(("in_logits", "divisor"), [(False, 2.5), (True, 1.0)])
def test_logits_are_printed_with_the_remaining_temperature(
    lab: Path, in_logits: bool, divisor: float, predict: Command
) -> None:
    found: Json = {"temperature": 2.5, "threshold": -0.75, "in_logits": in_logits}
    write_model(lab / "calibrated.pt", calibration=found)
    told = predict("data", "--checkpoint", "calibrated.pt", "--json").json
    assert (told["calibrated"], told["temperature"], told["threshold"]) == (True, divisor, -0.75)
    assert told["temperature_in_logits"] == 2.5 / divisor
    for row in told["images"]:
        scaled = 1 / (1 + np.exp(-row["logit"] / divisor))
        assert row["probability"] == pytest.approx(scaled, abs=1e-6)
        assert row["verdict"] == ("fake" if row["logit"] > -0.75 else "real")


def test_reasons_are_printed_if_no_file_is_an_image(lab: Path, predict: Command) -> None:
    (lab / "text.png").write_text("no image")
    (lab / "empty").mkdir()
    out, err = predict("text.png", "empty", "--model", MODEL, code=1)
    assert out == ""
    assert "error: empty: no image in this folder" in err
    assert "2 of 2" in err


def test_unknown_model_or_run_is_rejected_with_list_of_existing_ones(
    lab: Path, predict: Command
) -> None:
    assert MODEL in predict("data", "--model", "gan2:pre&real:fb", code=2).err
    assert "test" in predict("data", "--model", MODEL, "--name", "tset", code=2).err
    (lab / "runs/test").rename(lab / "runs/mine")
    image = "data/PreSocial/Real/FFHQ/00009.png"
    assert predict(image, "--model", MODEL, "--json").json["images"]  # the model of the only run
    other = paths.checkpoint(lab / "runs/two" / MODEL)
    other.parent.mkdir(parents=True)
    other.touch()
    told = predict(image, code=2).err
    assert "2 runs have trained models. Choose one with --name: mine, two" in told
    with chdir(lab / "data"):
        assert "no trained model in" in predict("x.png", "--model", MODEL, code=2).err


def test_missing_image_is_named_before_the_model_is_loaded(lab: Path, predict: Command) -> None:
    (lab / "empty.pt").touch()  # no checkpoint
    err = predict("photo.jpg", "--checkpoint", "empty.pt", code=1).err
    assert "error: photo.jpg: no such file or folder" in err
    assert "empty.pt" not in err


@pytest.mark.parametrize(("gap", "is_warned"), [(0.0, True), (4.0, False)])
def test_model_that_guesses_is_warned_of(
    lab: Path, predict: Command, gap: float, *, is_warned: bool
) -> None:
    calibration: Json = {"temperature": 1.0, "threshold": 0.5, "in_logits": False}
    path = write_model(lab / "mine.pt", calibration=calibration)
    labels = np.arange(40) % 2
    logits = np.random.default_rng(1).normal(0.5 - gap / 2 + gap * labels)
    kept = Reference.from_predictions(labels, logits, None).tensors
    model_file.save(path, replace(checkpoint.load(path), reference=kept))
    err = predict("data", "--checkpoint", "mine.pt").err
    assert (
        "on its validation images the model is chance, so its verdicts are guesses" in err
    ) == is_warned
    assert "note: images above 62.2 % get the verdict fake" in err


def test_only_run_with_models_is_the_default(lab: Path, predict: Command) -> None:
    (lab / "runs/test").rename(lab / "runs/mine")
    assert predict("data", "--model", MODEL).err == predict("data", "--name", "mine").err
    write_model(paths.checkpoint(lab / "runs/yours" / MODEL))
    refused = predict("data", code=2).err
    assert "2 runs have trained models. Choose one with --name: mine, yours" in refused
    assert "test" not in refused


def test_other_runs_are_not_read_if_the_default_one_has_models(
    lab: Path, predict: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(paths.checkpoint(lab / "runs/other" / MODEL))
    read, iterdir = list[Path](), Path.iterdir

    def record_folder(folder: Path) -> Iterator[Path]:
        read.append(folder)
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", record_folder)
    predict("data")
    assert lab / "runs/test" in read
    assert lab / "runs/other" not in read


def test_first_of_many_runs_with_models_are_listed(lab: Path, predict: Command) -> None:
    for name in "abcd":
        path = paths.checkpoint(lab / "runs" / name / MODEL)
        path.parent.mkdir(parents=True)
        path.touch()
    (lab / "runs/test").rename(lab / "runs/e")
    refused = predict("data", code=2).err
    assert "5 runs have trained models. Choose one with --name: a, b, c and 2 more" in refused


@pytest.mark.parametrize(("accuracy", "is_warned"), [(0.507, True), (0.93, False)])
def test_model_folder_with_failed_tests_causes_a_warning(
    lab: Path, accuracy: float, is_warned: bool, predict: Command
) -> None:
    known = checkpoint.load(paths.checkpoint(lab / "runs/test" / MODEL))
    tests: list[Json] = [
        {"data": "gan2:pre", "balanced_accuracy": {"value": 0.93}},
        {"data": "gan3:pre", "balanced_accuracy": {"value": accuracy}},
    ]
    folder = Path("made")
    model_folder.write(folder, known, name="m", licence="MIT", tests=tests, card="# card\n")
    out, err = predict("data", "--model-folder", folder)
    assert len(out.splitlines()) == 5
    warning = (
        "warning: the model failed its own tests (balanced accuracy: gan3:pre 50.7 %). Do not rely on "
        "its answers. Details: made/card.md\n"
    )
    assert (warning in err) == is_warned
    assert ("failed" in err) == is_warned


@pytest.mark.parametrize("model", ["../../elsewhere", ".."])
def test_model_outside_the_runs_is_rejected(lab: Path, model: str, predict: Command) -> None:
    assert "outside runs/" in predict("data", "--model", model, code=2).err


@pytest.mark.parametrize(
    "words", [["--model", MODEL, "--checkpoint", "x.pt"], ["--checkpoint", "absent.pt"]]
)
def test_one_existing_model_is_required(predict: Command, lab: Path, words: list[str]) -> None:
    predict("data", *words, code=2)


def test_wrong_arguments_are_reported_before_importing_torch(lab: Path) -> None:
    program = (
        "import sys; from trueface.cli import main as cli;"
        "code = cli.run(['predict', 'data', '--model', 'gan3:pre']);"
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 2
    assert MODEL.encode() in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "does not contain the settings of its images"),
        ({"patch_size": 8}, "does not contain the settings of its images"),
        ({"resize_size": "wide"}, "resize_size"),
        ({"resize_size": -1}, "resize_size"),
    ],
)
def test_checkpoint_without_preprocessing_is_rejected(
    tmp_path: Path, settings: Json, said: str
) -> None:
    path = write_model(tmp_path / "x.pt", settings)
    with pytest.raises(CheckpointError, match=said):
        Predictor.load(path)


def test_settings_newer_than_a_checkpoint_have_their_defaults(lab: Path) -> None:
    path = write_model(lab / "old.pt", {"resize_size": 16})
    answers = Predictor.load(path).predict_files(find_images([lab / "data"]).files)
    assert [type(answer) for answer in answers] == [Prediction] * 5


def test_terminal_output_is_a_table(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert cli.run(["predict", "data", "--model", MODEL, "--device", "cpu"]) == 0
    shown = b"".join(iter(lambda: read_terminal(ours), b"")).decode()
    os.close(ours)
    header, first, *_ = shown.splitlines()
    assert header.split() == ["path", "logit", "fake", "%", "verdict"]
    assert first.startswith("data/PreSocial/Fake/StyleGAN2/00001.png  ")


def test_probabilities_of_large_logits_do_not_overflow() -> None:
    at = Path("x")
    assert Prediction(path=at, logit=-2000.0).probability == 0
    assert Prediction(path=at, logit=2000.0).probability == 1
    assert Prediction(path=at, logit=0.0).verdict == "real"


def test_file_counts_once_and_hidden_files_and_link_cycles_are_skipped(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "note.txt", "sub/c.jpeg", ".git/d.png"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    os.mkfifo(tmp_path / "in/pipe.png")
    (tmp_path / "in/sub/up").symlink_to(tmp_path / "in")
    (tmp_path / "other").mkdir()
    PIL.Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "other/e.png")
    (tmp_path / "in/linked").symlink_to(tmp_path / "other")
    found = find_images([tmp_path / "in/b.JPG", tmp_path / "in"])
    names = [str(file.relative_to(tmp_path / "in")) for file in found.files]
    assert names == ["b.JPG", "a.png", "linked/e.png", "sub/c.jpeg"]
    assert found.missing == ()


def test_path_that_is_not_a_file_is_reported_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    found = find_images(
        [tmp_path / name for name in ("pipe.png", "broken.png", "absent.png", "a" * 300)]
    )
    assert found.files == ()
    assert [one.reason for one in found.missing] == [
        "not a readable file",
        "not a readable file",
        "no such file or folder",
        "no such file or folder",
    ]


def test_link_to_itself_does_not_hide_other_images_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "loop").symlink_to("loop")
    pictures = find_images([tmp_path])
    assert pictures.files == (tmp_path / "a.png",)
    assert [each.path.name for each in pictures.missing] == ["loop"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a.png\n\nb c.png\n", ["a.png", "b c.png"]),
        (b"a\n.png\0b.png\0", ["a\n.png", "b.png"]),
        (b"\xef\xbb\xbfa.png\r\nb.png\r\n", ["a.png", "b.png"]),
    ],
)
def test_path_list_is_separated_by_lines_or_nul(content: bytes, names: list[str]) -> None:
    assert [str(path) for path in paths_in(content)] == names


def test_paths_are_read_from_a_list(lab: Path, predict: Command) -> None:
    (lab / "list").write_text("data/PreSocial/Real/FFHQ/00008.png\nabsent.png\n")
    out, err = predict("--files-from", "list", "--model", MODEL, code=1)
    assert out.startswith("data/PreSocial/Real/FFHQ/00008.png\t")
    assert "absent.png: no such file" in err
    assert "--files-from" in predict("--model", MODEL, code=2).err


def test_webp_folder_is_read_and_skipped_files_are_counted(lab: Path, predict: Command) -> None:
    folder = lab / "photos"
    folder.mkdir()
    for number in range(3):
        PIL.Image.new("RGB", (20, 20), (90 * number, 0, 0)).save(folder / f"{number}.webp")
    (folder / "a.mov").write_bytes(b"0")
    out, err = predict("photos", "--model", MODEL)
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        f"photos/{number}.webp" for number in range(3)
    ]
    assert "skipped files whose names are not names of images: 1 .mov" in err
    assert predict("photos", "--model", MODEL, "--json").json["passed_over"] == {".mov": 1}


def test_folder_without_images_lists_its_content_and_dangling_links(
    lab: Path, predict: Command
) -> None:
    (lab / "photos/below").mkdir(parents=True)
    for number in range(2):
        (lab / f"photos/{number}.mov").write_bytes(b"0")
    (lab / "photos/below/lost.png").symlink_to("nowhere.png")
    err = predict("photos", "--model", MODEL, code=1).err
    assert "photos: no image in this folder, but 2 .mov" in err
    assert "photos/below/lost.png: a broken link" in err


def test_images_with_other_sizes_than_training_cause_a_note(lab: Path, predict: Command) -> None:
    sizes: Json = {"smallest": 12, "median": 12, "largest": 12}
    write_model(lab / "sized.pt", image_sizes=sizes)
    PIL.Image.new("RGB", (64, 48)).save(lab / "large.png")
    near = "data/PreSocial/Real/FFHQ/00009.png"
    err = predict("large.png", near, "--checkpoint", "sized.pt").err
    assert "1 of 2 images differ from the training images in size" in err
    assert "large.png: its shorter side has 48 pixels; training images have 12 pixels" in err
    assert "the middle 16 x 16 pixels" in err
    told = predict("large.png", near, "--checkpoint", "sized.pt", "--json").json
    assert [image["size_unlike_training"] for image in told["images"]] == [True, False]
    assert [image["abstained"] for image in told["images"]] == [True, False]
    assert told["images"][0]["verdict"] == "unlike"
    assert told["training_sizes"] == sizes
    assert "shorter side" not in predict(near, "--checkpoint", "sized.pt").err
