"""Jobs of a detector of landmarks: plans, refusals by name, and trainings and tests that run."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from launcher.api import Job, Kind, TaskFileError, Words
from tests.trueface.jobs.build import a_draft, a_job, plan_text, write_lists
from trueface.data.dataset_file import write_video_sources
from trueface.data.landmarks import write_landmarks
from trueface.data.made.moving_points import plain_face
from trueface.evaluation.result_rows import by_video
from trueface.jobs import previewing, testing, training
from trueface.jobs.benchmark import benchmarking
from trueface.jobs.benchmark.kind import BENCHMARK
from trueface.jobs.kinds import TEST, TRAIN
from trueface.jobs.published.adoption import adopt
from trueface.jobs.published.kind import CHECKPOINT
from trueface.models import checkpoint
from trueface.models.detectors import build_detector
from trueface.predictions.csv_tables import read_csv
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.training.trainer import _EpochRunner

DATA = "fakes:pre&reals:pre"
WORDS = Words(subsets={"fakes": ("W",), "reals": ("V",)})
LISTS = {"train": range(6), "val": range(6, 8), "test": range(8, 12)}
FRAMES = 60
BLUE = (0, 0, 200)
CLIPS = {"frames": 30, "stride": 1, "per_video": 0}
NAME = f"{DATA}@clips=frames-30-stride-1-per_video-0"
PLACES = {"data_root": "data", "split_path": "splits", "num_threads": 0, "batch_size": 8, "clips": CLIPS}  # fmt: skip
BASIC: dict[str, Any] = {
    **PLACES, "model": "lrnet", "objective": "lrnet", "weights": "none", "num_epochs": 12, "lr": 0.01, "seed": 1,
    "select": "last",
}  # fmt: skip


def write_set(root: Path) -> None:
    """Write videos whose faces sway; those of a fake tremble."""
    lists: dict[str, list[str]] = {name: [] for name in LISTS}
    picture = PIL.Image.new("L", (4, 4))
    for label, (side, source) in enumerate((("Real", "V"), ("Fake", "W"))):
        for video in range(12):
            rng = np.random.default_rng([label, video])
            folder = root / "data/PreSocial" / side / source / f"{video:03}"
            folder.mkdir(parents=True)
            names = [f"{at:03}" for at in range(FRAMES)]
            sway = 0.05 * np.sin(np.arange(FRAMES) / rng.uniform(5, 9))[:, None, None]
            tremor = label * rng.normal(0, 0.2, (FRAMES, 68, 2))
            points = plain_face() * rng.uniform(0.7, 0.9, 2) + sway + tremor
            write_landmarks(folder, names, points, is_calibrated=True)
            for name in names:
                picture.save(folder / f"{name}.png")
            split = next(name for name, videos in LISTS.items() if video in videos)
            lists[split] += [f"{source}/{video:03}/{name}" for name in names]
    write_video_sources(root / "data", ("V", "W"))
    write_lists(root / "splits", **lists)


def job_of(folder: Path, kind: str, /, **settings: Any) -> Job:
    return a_job(
        folder, kind, DATA, data=DATA, images=DATA, settings=settings, words=WORDS, name=f"{kind}/{DATA}"
    )  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a trained detector of landmarks."""
    folder = tmp_path_factory.mktemp("lab")
    write_set(folder)
    torch.set_num_threads(1)
    result = training.train(job_of(folder, "train", **BASIC))
    assert result["images"] == 24
    return folder


def test_detector_of_landmarks_is_scored_by_video_and_finds_the_tremor(lab: Path) -> None:
    job = job_of(lab, "test", **PLACES)
    result = testing.test(job)
    scores = read_csv(paths.scores(job.model_folder(DATA), DATA, NAME))
    assert (result["n"], result["bad_images"]) == (16, 0)
    assert (scores.keys[0], scores.ids[0]) == ("W/008/000-029", "PreSocial/Fake/W/008/000.png")
    videos = by_video(scores)
    assert len(videos) == 8
    assert videos.margin[videos.labels == 1].min() > videos.margin[videos.labels == 0].max()
    assert benchmarking.benchmark(job_of(lab, "benchmark", **PLACES))["scored"] == 1


def test_resumed_training_on_landmarks_equals_an_uninterrupted_one(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(lab, "train", **{**BASIC, "num_epochs": 2, "seed": 3})
    path = paths.checkpoint(job.model_folder(DATA))
    stored = path.read_bytes()
    training.train(job)
    before = checkpoint.load(path).state
    validate = _EpochRunner._validate_epoch

    def killed(self: Any, *given: Any, **named: Any) -> Any:
        if len(self.history) == 1:
            raise KeyboardInterrupt
        return validate(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(_EpochRunner, "_validate_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(job)
    training.train(job)
    after = checkpoint.load(path)
    assert after.provenance["resumed"]
    assert all(torch.equal(before[name], after.state[name]) for name in before)
    path.write_bytes(stored)


def test_videos_without_landmarks_are_left_out_and_named(lab: Path, tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "data/PreSocial/Real/V/008/calibrated_landmarks.csv").unlink()
    job = job_of(tmp_path, "test", **PLACES)
    path = paths.checkpoint(job.model_folder(DATA))
    path.parent.mkdir(parents=True)
    path.write_bytes(paths.checkpoint(job_of(lab, "test").model_folder(DATA)).read_bytes())
    result = testing.test(job)
    assert (result["n"], result["bad_images"]) == (14, 2)
    with pytest.raises(
        JobError, match="corrupt: jpeg50 needs a network of pixels, but model lrnet"
    ):
        testing.test(job_of(tmp_path, "test", **PLACES, corrupt="jpeg50"))


def test_preview_shows_the_points_of_clips(lab: Path) -> None:
    folder = lab / "data/PreSocial/Real/V/002"
    points = np.repeat(plain_face()[None] * 3 + 4, FRAMES, axis=0)
    write_landmarks(folder, [f"{at:03}" for at in range(FRAMES)], points, is_calibrated=False)
    for frame in folder.glob("*.png"):
        PIL.Image.new("RGB", (8, 8), BLUE).save(frame)
    result = previewing.preview(job_of(lab, "train", **BASIC), None)
    with PIL.Image.open(str(result["preview"])) as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20) or ()}
    assert {previewing.POINT, BLUE} <= colours  # points on frames, or on black without their pixels
    assert result["shown"] == 8


PUBLISHED = """
name: study
defaults: {data_root: data, split_path: splits, clips: {frames: 30}, num_threads: 0}
checkpoint:
  - {model: null, data: "published:lrnet", architecture: lrnet, weights: {points: p.pth, differences: d.pth}}
test: [{model: "published:lrnet", data: "real:pre"}]
"""


def test_published_pair_of_files_is_planned_adopted_and_scored(lab: Path) -> None:
    jobs = {job.kind: job for job in plan_text(PUBLISHED, (CHECKPOINT, TEST)).jobs}
    weights = jobs["checkpoint"].settings["weights"]
    assert weights == "points=p.pth,differences=d.pth"
    assert weights in jobs["checkpoint"].argv
    network = build_detector("lrnet", weights="none", seed=5).network
    for name, file in (("points", "p.pth"), ("differences", "d.pth")):
        torch.save(network.get_submodule(name).state_dict(), lab / file)
    model = "published:lrnet"
    adopt(a_job(lab, "checkpoint", model, data=model, settings={"architecture": "lrnet", "weights": weights}))  # fmt: skip
    job = a_job(lab, "test", model, data=DATA, images=DATA, settings=PLACES, words=WORDS)
    assert testing.test(job)["n"] == 16
    state = checkpoint.load(paths.checkpoint(job.model_folder(model))).state
    assert all(torch.equal(state[name], each) for name, each in network.state_dict().items())
    with pytest.raises(TaskFileError, match="corrupt: blur1 needs a network of pixels"):
        plan_text(PUBLISHED.replace('data: "real:pre"', 'data: "real:pre", corrupt: blur1'), (CHECKPOINT, TEST))  # fmt: skip


def refusals(kind: Kind, folder: Path, **settings: Any) -> str:
    kind = kind.with_words(WORDS)
    draft = a_draft(kind, folder, settings, model=DATA, data=DATA, images=DATA)
    return " ".join(kind.refusals(draft, ()))


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (TRAIN, {"objective": "bce"}, "model lrnet learns by objective: lrnet, the sum of the losses"),
        (TRAIN, {"clips": {"frames": 20}}, "needs clips of 30 frames, got 20"),
        (TRAIN, {"clips": None}, "needs clips of 30 frames, not single images"),
        (TRAIN, {"jpeg_prob": 0.5}, "jpeg_prob: 0.5 needs a network of pixels, but model lrnet reads"),
        (TRAIN, {"flip_prob": 1.0}, "flip_prob: 1 needs a network of pixels"),
        (TRAIN, {"blur_prob": 0.1, "resize_prob": 0.1}, "blur_prob: 0.1 needs a network of pixels"),
        (TRAIN, {"freeze": True}, "needs a network that ends in one linear layer"),
        (TRAIN, {"model": "slim18"}, "objective: lrnet needs the parts of model lrnet"),
        (TEST, {"corrupt": "jpeg50"}, "corrupt: jpeg50 needs a network of pixels, but model lrnet"),
        (TEST, {"attack": "fgsm4"}, "attack: fgsm4 needs a network of pixels"),
        (TEST, {"trigger": True}, "trigger: true needs a network of pixels"),
        (BENCHMARK, {"corrupt": ["none", "blur1"]}, "corrupt: blur1 needs a network of pixels"),
    ],
)  # fmt: skip
def test_parts_that_change_pixels_are_refused_by_name(
    lab: Path, kind: Kind, settings: dict[str, Any], words: str
) -> None:
    given = {**(BASIC if kind is TRAIN else PLACES), **settings}
    assert words in refusals(kind, lab, **given)


def test_plan_takes_the_set_and_refuses_one_without_landmarks(lab: Path, tmp_path: Path) -> None:
    assert refusals(TRAIN, lab, **BASIC) == refusals(TEST, lab, **PLACES) == ""
    write_set(tmp_path)
    for file in tmp_path.rglob("*.csv"):
        file.unlink()
    sentence = "no video of fakes:pre&reals:pre in"
    assert sentence in refusals(TRAIN, tmp_path, **BASIC)
