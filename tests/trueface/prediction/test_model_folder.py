from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from scipy.stats import binomtest

from trueface.data.image_formats import Format, LearnedFormats, read_format
from trueface.evaluation.estimate import Estimate, Interval
from trueface.models import checkpoint
from trueface.models.detectors import build_detector
from trueface.models.model_file import Checkpoint
from trueface.prediction import model_card, model_folder
from trueface.prediction.reference import FeatureDistance, Reference
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, MachineError, UsageError
from trueface.runtime.files import Json

NOISE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("kept") / "a.pt"
    checkpoint.save_model(path, build_detector("slim18", weights="none", seed=1), {"settings": {}})
    return checkpoint.load(path)


def write(folder: Path, kept: Checkpoint, name: str = "m") -> None:
    model_folder.write(folder, kept, name=name, licence="MIT", tests=[], card="# card\n")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["weights.pt", "card.md", "tests.json", "provenance.json"])
@pytest.mark.parametrize("change", [flip, Path.unlink])
def test_altered_folder_is_refused_by_file_name(
    tmp_path: Path, kept: Checkpoint, name: str, change: Callable[[Path], None]
) -> None:
    write(tmp_path / "m", kept)
    change(tmp_path / "m" / name)
    with pytest.raises(CheckpointError, match=name):
        model_folder.load(tmp_path / "m")


def test_altered_manifest_is_refused(tmp_path: Path, kept: Checkpoint) -> None:
    write(tmp_path / "m", kept)
    path = tmp_path / "m/model.json"
    path.write_text(path.read_text().replace("MIT", "BSD"))
    with pytest.raises(CheckpointError, match=r"checksum of model\.json does not match"):
        model_folder.load(tmp_path / "m")
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"model\.json"):
        model_folder.load(tmp_path / "m")


def test_only_model_folders_are_replaced(tmp_path: Path, kept: Checkpoint) -> None:
    write(tmp_path / "m", kept)
    write(tmp_path / "m", kept, name="n")
    assert model_folder.read(tmp_path / "m").name == "n"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    with pytest.raises(UsageError, match="is not a model folder"):
        write(tmp_path / "photos", kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "photos"]


def test_model_folder_with_extra_files_is_not_replaced(tmp_path: Path, kept: Checkpoint) -> None:
    write(tmp_path / "m", kept)
    (tmp_path / "m/notes.txt").touch()
    with pytest.raises(UsageError, match=r"would be deleted: notes\.txt"):
        write(tmp_path / "m", kept)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/model.json").write_text('{"layers": []}')  # the file of another program
    with pytest.raises(UsageError, match="is not a model folder"):
        write(tmp_path / "other", kept)
    assert (tmp_path / "m/notes.txt").exists()


def test_newer_folder_version_is_reported(tmp_path: Path, kept: Checkpoint) -> None:
    write(tmp_path / "m", kept)
    path = tmp_path / "m/model.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(CheckpointError, match="supports only schema 1"):
        model_folder.load(tmp_path / "m")


def test_folder_is_written_through_link(tmp_path: Path, kept: Checkpoint) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", kept)
    assert (tmp_path / "link").is_symlink()
    assert model_folder.read(tmp_path / "real").name == "m"


def test_failed_write_keeps_previous_folder(tmp_path: Path, kept: Checkpoint) -> None:
    write(tmp_path / "m", kept)
    with pytest.raises(MachineError):
        write(tmp_path / "m" / "card.md" / "below", kept)
    broken = replace(kept, provenance={"x": float("nan")})
    write(tmp_path / "m", broken)
    assert model_folder.read(tmp_path / "m").name == "m"


def test_exported_folder_contains_no_local_path() -> None:
    portable = model_folder.strip_machine_facts(
        {
            "data_root": "/home/a/faces",
            "settings": {"weights": "/home/a/w.pth", "lr": 0.1},
            "x": ["~/b/c"],
        }
    )
    assert portable == {"settings": {"weights": "w.pth", "lr": 0.1}, "x": ["c"]}


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 95, 100])
def test_jpeg_quality_is_read_from_quantisation_tables(tmp_path: Path, quality: int) -> None:
    NOISE.save(tmp_path / "a.jpg", quality=quality)
    assert read_format(tmp_path / "a.jpg") == Format("JPEG", quality)


def test_other_formats_and_distant_qualities_are_unlike() -> None:
    learned = LearnedFormats(counts={"JPEG": 9}, qualities=(70, 80))
    assert not learned.is_unlike(Format("JPEG", 61))
    assert learned.is_unlike(Format("JPEG", 50))
    assert learned.is_unlike(Format("PNG", None))
    lossless = LearnedFormats(counts={"PNG": 9}, qualities=None)
    assert not lossless.is_unlike(Format("BMP", None))
    assert lossless.is_unlike(Format("GIF", None))
    assert not lossless.with_jpeg(30, 95).is_unlike(Format("JPEG", 40))


def test_written_record_is_read_back() -> None:
    learned = LearnedFormats(counts={"JPEG": 9, "PNG": 1}, qualities=(70, 80))
    assert LearnedFormats.from_json(learned.as_json()) == learned
    assert str(learned) == "JPEG of 70 to 80, PNG"
    assert LearnedFormats.from_json({"counts": 3}) is None


SIZES: Json = {"smallest": 64, "median": 64, "largest": 64}
NO_ANSWER = "- Verdict `unlike` instead of a class: images that differ from the training images in"
WARNED = "- Prediction with a warning: images that differ from the training images in"
NOTHING = np.zeros(0, np.float32)
DISTANCE = FeatureDistance(mean=NOTHING, scale=NOTHING, limit=1.0)


def card(provenance: dict[str, Json], features: FeatureDistance | None = None, **more: Any) -> str:
    reference = Reference(labels=NOTHING.astype(np.int8), logits=NOTHING, features=features)
    empty: dict[str, Any] = {"tests": [], "conditions": {}, "sources": []}
    facts = model_card.CardContents(
        name="m", arch="slim18", licence="MIT", provenance=provenance, reference=reference,
        **{**empty, **more},
    )  # fmt: skip
    return model_card.card(facts)


@pytest.mark.parametrize(
    ("learned", "features", "said"),
    [
        (
            {"image_sizes": SIZES, "image_formats": {"counts": {"PNG": 9}}},
            DISTANCE,
            [f"{NO_ANSWER} size or features.", f"{WARNED} file format or orientation."],
        ),
        ({"image_sizes": SIZES}, None, [f"{NO_ANSWER} size.", f"{WARNED} orientation."]),
        ({}, None, [f"{WARNED} orientation.", "- Nothing else is checked, "]),
    ],
)
def test_card_separates_refusals_from_warnings(
    learned: dict[str, Json], features: FeatureDistance | None, said: list[str]
) -> None:
    refused = card(learned, features).split("## Rejected images")[1].splitlines()
    assert [line[: len(words)] for line, words in zip(refused[3:], said, strict=False)] == said
    assert refused[3 + len(said)].startswith("- The model cannot abstain")


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        ("exact", "input: the central 64 x 64 pixels of an image\n"),
        ("fitted", "pixels of an image after resizing its shorter side to 64 pixels\n"),
    ],
)
def test_card_states_whether_images_are_resized(decode: str, said: str) -> None:
    assert said in card({"settings": {"resize_size": 64, "decode": decode}})


def test_card_has_values_intervals_and_the_worst_source_first() -> None:
    test = model_card.ModelTest("gan2:pre")
    right = {"fake StyleGAN2": (0.66, 0.55, 0.75), "real FFHQ": (0.5, 0.4, 0.6)}
    text = card(
        {},
        tests=[{"data": "gan2:pre", "n": 1200, "auc": {"value": 0.9, "low": 0.85, "high": 0.9375}}],
        conditions={"": test},
        sources=[
            model_card.SourceErrors(
                test, name, Estimate(value=value, interval=Interval(low, high)), 1500
            )
            for name, (value, low, high) in right.items()
        ],
    )
    rows = [line for line in text.splitlines() if line.startswith("| `gan2:pre`")]
    assert rows == [
        "| `gan2:pre` | unchanged | 1,200 | 0.900 (0.850 to 0.938) |",
        "| `gan2:pre` | unchanged | real FFHQ | 50.0 % (40.0 to 60.0) | 750 of 1,500 | **fails** |",
        "| `gan2:pre` | unchanged | fake StyleGAN2 | 66.0 % (55.0 to 75.0) | 510 of 1,500 | **fails** |",
    ]


def test_card_has_the_verdicts_of_tests() -> None:
    auc: Json = {"value": 0.9, "low": 0.85, "high": 0.95}
    tests: list[Json] = [
        {"data": name, "n": 9, "auc": auc, "verdict": verdict}
        for name, verdict in (("a:pre", ""), ("b:pre", "confounded by format"))
    ]
    text = card({}, tests=tests, conditions={"": model_card.ModelTest("a:pre")})
    assert "| number | AUC | verdict |\n|---|---|---|---|---|\n" in text
    assert "| `a:pre` | unchanged | 9 | 0.900 (0.850 to 0.950) |  |\n" in text
    assert "| `b:pre` | unchanged | 9 | 0.900 (0.850 to 0.950) | confounded by format |\n" in text


def test_accuracy_by_source_counts_frames_by_video(tmp_path: Path) -> None:
    test, names = model_card.ModelTest("gan2:pre"), [f"a/v{n // 10}/{n}" for n in range(200)]
    right = np.repeat(np.arange(20) < 15, 10)
    table = Predictions.from_margin(
        np.where(right, 1.0, -1.0),
        np.ones(200, np.int8),
        ids=tuple(names),
        keys=tuple(names),
        videos=tuple(name.rpartition("/")[0] for name in names),
    )
    write_csv(paths.scores(tmp_path, "m", test.name), table)
    (errors,) = model_card.source_errors(tmp_path, "m", [test], threshold=0.0)
    exact = binomtest(15, 20).proportion_ci(method="wilson")
    assert errors.right.interval == pytest.approx((exact.low, exact.high))


def test_failed_tests_are_listed_in_card(tmp_path: Path, kept: Checkpoint) -> None:
    tests: list[Json] = [
        {"data": "gan2:pre", "balanced_accuracy": {"value": 0.93}},
        {"data": "gan3:pre", "balanced_accuracy": {"value": 0.507}},
        {
            "data": "flux:pre",
            "balanced_accuracy": {"value": 0.5},
            "balanced_accuracy_at_threshold": {"value": 0.8},
        },
        {"data": "real:pre"},
    ]
    folder = tmp_path / "m"
    model_folder.write(folder, kept, name="m", licence="MIT", tests=tests, card="# card\n")
    assert model_card.failed_tests(folder) == ["gan3:pre 50.7 %"]
