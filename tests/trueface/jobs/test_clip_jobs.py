"""Jobs on clips of videos: plans, refusals by name, and trainings and tests that run."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

from launcher import api
from launcher.api import Job, Kind, PlannedJob, TaskFileError, UsageError, Words
from tests.trueface.jobs.build import a_draft, a_job, plan_text, write_lists
from trueface.benchmark.videos import read_benchmark
from trueface.data.dataset_file import write_video_sources
from trueface.evaluation.fairness import fairness_rows
from trueface.evaluation.result_rows import by_video
from trueface.evaluation.results import table
from trueface.jobs import poisoning, testing, training
from trueface.jobs.benchmark import benchmarking
from trueface.jobs.benchmark.kind import BENCHMARK
from trueface.jobs.clip_parts import TABLE, table_rows
from trueface.jobs.kinds import POISON, TEST, TRAIN, UNLEARN
from trueface.models import checkpoint
from trueface.models.registry import SPECS, ModelSpec
from trueface.poisoning.poison_record import read_record
from trueface.prediction.predictor import Predictor
from trueface.predictions.csv_tables import read_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.declarations import Declaration
from trueface.runtime.errors import DataError
from trueface.training.trainer import _EpochRunner

KINDS = (TRAIN, TEST, BENCHMARK, POISON, UNLEARN)
CLIPS = {"frames": 4, "stride": 1, "per_video": 0}
NAME = "clips=frames-4-stride-1-per_video-0"
NETWORK = "tiny"
DATA = "fakes:pre&reals:pre"
CLIP_MODEL, IMAGE_MODEL = DATA, f"{DATA}@model=slim18"
LISTS = {"train": range(3), "val": range(3, 5), "test": range(5, 8)}
BASIC: dict[str, Any] = {
    "data_root": "data", "split_path": "splits", "weights": "none", "num_epochs": 1, "resize_size": 32,
    "batch_size": 4, "num_threads": 0, "model": NETWORK, "clips": CLIPS,
}  # fmt: skip
SCORED = ("data_root", "split_path", "resize_size", "batch_size", "num_threads", "clips")
TASK = """
name: study
defaults: {{data_root: data, split_path: splits, weights: none, num_epochs: 1, resize_size: 32, model: {network}}}
{sections}
"""
GIVEN = {"data_root": "data", "split_path": "splits", "weights": "none"}


def plan(*sections: str, network: str = "slim18") -> dict[str, PlannedJob]:
    text = TASK.format(network=network, sections="\n".join(sections))
    planned = plan_text(text, KINDS)
    return {job.name: job for job in planned.jobs}


def training_of(**settings: object) -> str:
    given = "".join(f", {name}: {json.dumps(value)}" for name, value in settings.items())
    return f'train: [{{model: null, data: "gan2:pre"{given}}}]'


def a_test_of(data: str = "gan2:pre", **settings: object) -> str:
    given = "".join(f", {name}: {json.dumps(value)}" for name, value in settings.items())
    return f'test: [{{model: "gan2:pre", data: "{data}"{given}}}]'


def test_tests_and_poisons_take_the_clips_of_the_training() -> None:
    jobs = plan(training_of(clips={"frames": 8}), a_test_of(), "autotest: [real:pre]")
    full = {"frames": 8, "stride": 1, "per_video": 0}
    name = "clips=frames-8-stride-1-per_video-0"
    for data in ("gan2:pre", "real:pre"):
        job = jobs[f"test/gan2:pre/{data}@{name}"]
        assert job.settings["clips"] == full
        assert job.condition == name
        assert "--clips" in job.argv
        assert job.argv[job.argv.index("--clips") + 1] == "frames=8,stride=1,per_video=0"
    poisoned = 'train: [{model: null, data: "gan2:pre", poison: 20, clips: {frames: 8}}]'
    assert plan(poisoned)["poison/gan2:pre%20"].settings["clips"] == full


def test_test_of_its_own_clips_keeps_them_and_equal_tests_run_once() -> None:
    given = training_of(clips={"frames": 8}), a_test_of(clips=[{"frames": 4}, None])
    names = [name for name in plan(*given) if name.startswith("test/")]
    assert names == [
        "test/gan2:pre/gan2:pre@clips=frames-4-stride-1-per_video-0",
        "test/gan2:pre/gan2:pre",
    ]
    twice = training_of(clips={"frames": 8}), a_test_of(clips={"frames": 8}), "autotest: [gan2:pre]"
    assert [name for name in plan(*twice) if name.startswith("test/")] == [
        "test/gan2:pre/gan2:pre@clips=frames-8-stride-1-per_video-0"
    ]


def test_jobs_without_clips_keep_names_and_hashes() -> None:
    jobs = plan(training_of(), a_test_of(corrupt="jpeg50"))
    assert [*jobs] == ["train/gan2:pre", "test/gan2:pre/gan2:pre@corrupt=jpeg50"]
    for job in jobs.values():
        assert job.settings["clips"] is None
        assert "clips" not in json.loads(job.identity.settings or "{}")
        assert "--clips" not in job.argv


def refusals(kind: Kind, folder: Path, **settings: Any) -> str:
    model = None if kind is POISON else "gan2:pre"
    draft = a_draft(kind, folder, {**GIVEN, **settings}, model=model, data="gan2:pre")
    return " ".join(kind.refusals(draft, ()))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "tv/r3d_18"}, "model tv/r3d_18 needs clips of 4 or more frames, not single images. Write clips with frames=4"),
        ({"model": "tv/r3d_18", "clips": {"frames": 3}}, "model tv/r3d_18 needs clips of 4 or more frames, got 3"),
        ({"model": "tv/mvit_v2_s", "clips": {"frames": 8}, "resize_size": 224}, "needs clips of 16 frames, got 8"),
        ({"model": "tv/mvit_v2_s", "clips": {"frames": 16}, "resize_size": 64}, "needs images of 224 by 224 pixels, got 64 by 64"),
        ({"model": "tv/mvit_v1_b", "clips": {"frames": 16}, "resize_size": 448}, "needs images of 224 by 224 pixels, got 448 by 448"),
        ({"model": "tv/mvit_v2_s", "clips": {"frames": 16}, "resize_size": 224, "processes": 2}, "several processes"),
        ({"model": "tv/s3d", "clips": {"frames": 16}}, "model tv/s3d has no linear layer"),
        ({"model": "altfreezing", "clips": {"frames": 16}}, "model altfreezing needs clips of 32 frames, got 16"),
        ({"model": "ftcn"}, "model ftcn needs clips of 32 frames, not single images. Write clips with frames=32"),
        ({"objective": "altfreezing"}, "needs the parts of model altfreezing, but model is nodown"),
        ({"objective": "altfreezing", "model": "tv/r3d_18", "clips": {"frames": 8}},
         "but model is tv/r3d_18. Use another objective, or model: altfreezing"),
        ({"model": "tv/r3d_18", "clips": {"frames": 8}, "nodown": True}, "nodown needs a network of images"),
        ({"clips": {"frames": 8}, "solver": "ridge", "model": "moments/slim18"}, "solver: ridge does not take clips"),
        ({"clips": {"frames": 8}, "solver": "ridge", "model": "slim18"}, "solver: ridge does not take clips"),
        ({"clips": {"frames": 8}, "freeze": True}, "freeze: true does not take clips: it stores features"),
        ({"clips": {"frames": 8}, "sbi": 0.5}, "sbi: 0.5 does not take clips"),
        ({"clips": {"frames": 8}, "qualities": "raw,jpeg50"}, "qualities: raw,jpeg50 does not take clips"),
        ({"clips": {"frames": 8}, "objective": "core", "batch_size": 8}, "objective: core does not take clips"),
        ({"clips": {"frames": 8}, "objective": "triplet", "batch_size": 8}, "objective: triplet does not take clips"),
        ({"clips": {"frames": 8}, "features": True}, "features: true does not take clips"),
    ],
)  # fmt: skip
def test_trainings_that_do_not_take_clips_are_refused_by_name(
    tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusals(TRAIN, tmp_path, **settings)


def test_objective_of_a_network_of_clips_takes_clips(tmp_path: Path) -> None:
    given = {"model": "altfreezing", "objective": "altfreezing", "clips": {"frames": 32}}
    assert refusals(TRAIN, tmp_path, **given) == ""


def test_only_a_family_is_suggested_with_an_inner_network(tmp_path: Path) -> None:
    for objective, suggested in (("altfreezing", False), ("recce", False), ("fairnet", True)):
        refused = refusals(TRAIN, tmp_path, objective=objective)
        assert f"or model: {objective}" in refused
        assert (f"{objective}/NETWORK" in refused) == suggested


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        (TEST, {"features": True}, "features: true does not take clips"),
        (TEST, {"save_images": True}, "save_images: true does not take clips"),
        (TEST, {"attack": "square4"}, "attack: square4 does not take clips"),
        (BENCHMARK, {"attack": ["pgd4", "square4"]}, "attack: square4 does not take clips"),
    ],
)
def test_scorings_that_do_not_take_clips_are_refused_by_name(
    tmp_path: Path, kind: Kind, settings: dict[str, Any], sentence: str
) -> None:
    given = {"data_root": "data", "split_path": "splits", "clips": {"frames": 8}, **settings}
    draft = a_draft(kind, tmp_path, given, model="gan2:pre", data="gan2:pre")
    assert sentence in " ".join(kind.refusals(draft, ()))


def test_models_of_clips_are_refused_where_single_images_are_meant() -> None:
    clips = training_of(clips={"frames": 8})
    for sections, network, sentence in (
        ((clips, a_test_of(clips=None)), "tv/r3d_18", "needs clips of 4 or more frames, not single images"),
        ((clips, a_test_of(clips={"frames": 2})), "tv/r3d_18", "needs clips of 4 or more frames, got 2"),
        ((clips.replace("null", "null, poison: 20"), "unlearn: [retrain]"), "slim18", "unlearn does not take clips"),
        ((clips,), "patch/tv/r3d_18", "model tv/r3d_18 looks at clips"),
        ((training_of(clips={"stride": 2}),), "slim18", "clips: frames is missing"),
    ):  # fmt: skip
        with pytest.raises(TaskFileError) as raised:
            plan(*sections, network=network)
        assert sentence in " ".join(str(raised.value).split())


PAIR = """train:
  - {model: null, data: "gan2:pre", clips: {frames: 8}, matrix: {model: [tv/r3d_18]}}
  - {model: null, data: "gan2:pre", matrix: {model: [slim18]}}"""
OF_CLIPS, OF_IMAGES = "gan2:pre@model=tv-r3d_18", "gan2:pre@model=slim18"


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        # an attack on single images would fail in the job, with a surrogate that needs clips
        (f'test: [{{model: "{OF_IMAGES}", data: "gan2:pre", attack: transfer4, surrogate: "{OF_CLIPS}"}}]',
         f"surrogate: {OF_CLIPS}: model tv/r3d_18 needs clips of 4 or more frames, not single images"),
        (f'test: [{{model: "{OF_IMAGES}", data: "gan2:pre", clips: {{frames: 2}}, attack: transfer4, surrogate: "{OF_CLIPS}"}}]',
         f"surrogate: {OF_CLIPS}: model tv/r3d_18 needs clips of 4 or more frames, got 2"),
        (f'benchmark: [{{model: "{OF_IMAGES}", test: "gan2:pre", attack: transfer4, surrogate: "{OF_CLIPS}"}}]',
         f"surrogate: {OF_CLIPS}: model tv/r3d_18 needs clips of 4 or more frames, not single images"),
        (f'test: [{{model: "{OF_CLIPS}", data: "gan2:pre", attack: transfer4, surrogate: "{OF_IMAGES}"}}]', ""),
        (f'  - {{model: "{OF_CLIPS}", data: "gan1:pre"}}', f"its base {OF_CLIPS} has model tv/r3d_18, not slim18"),
        (f'  - {{model: "{OF_IMAGES}", data: "gan1:pre", clips: {{frames: 8}}, matrix: {{model: [tv/r3d_18]}}}}',
         f"its base {OF_IMAGES} has model slim18, not tv/r3d_18"),
        (f'  - {{model: "{OF_IMAGES}", data: "gan1:pre", matrix: {{model: [nodown18]}}}}',
         f"its base {OF_IMAGES} has model slim18, not nodown18"),
        (f'  - {{model: null, data: "gan1:pre", objective: add, teacher: "{OF_CLIPS}", '
         "qualities: [raw, jpeg50], quality_batch: paired}",
         f"its teacher {OF_CLIPS}: model tv/r3d_18 needs clips of 4 or more frames, not single images"),
    ],
)  # fmt: skip
def test_surrogates_bases_and_teachers_of_clips_are_refused_in_the_plan(
    section: str, sentence: str
) -> None:
    if not sentence:
        assert len(plan(PAIR, section)) == 3
        return
    with pytest.raises(TaskFileError) as raised:
        plan(PAIR, section)
    assert sentence in " ".join(str(raised.value).split())


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        (("corrupt: [none, jpeg50, noise4]",), ""),
        (("attack: [pgd1]",),
         f"{OF_CLIPS} reads clips of 8 frames, and {OF_IMAGES} reads single frames, so the benchmark counts videos. pgd1"),
        (("corrupt: [none, share]",), "share draws its values for each clip or single frame"),
        (("corrupt: [c23]",), "h264-23 codes all frames of a clip together"),
        (("attack: [pgd1], clips: {frames: 8}",), ""),
        ((f'model: ["{OF_IMAGES}"], attack: [pgd1]', f'model: ["{OF_CLIPS}"]'), "counts videos. pgd1 changes"),
        ((f'model: ["{OF_IMAGES}"], attack: [pgd1]',), ""),
    ],
)  # fmt: skip
def test_benchmark_of_different_clips_has_only_conditions_that_are_the_same(
    sections: tuple[str, ...], sentence: str
) -> None:
    entries = "\n".join(f'  - {{test: "gan2:pre", {each}}}' for each in sections)
    if not sentence:
        jobs = plan(PAIR, "benchmark:", entries)
        assert [job.settings["clips"] for job in jobs.values() if job.kind == "benchmark"]
        return
    with pytest.raises(TaskFileError) as raised:
        plan(PAIR, "benchmark:", entries)
    said = " ".join(str(raised.value).split())
    assert sentence in said
    assert said.count("counts videos") == 1


def test_every_refusal_of_the_table_is_of_a_part_that_a_job_can_have() -> None:
    assert {kind for part in TABLE for kind in part.kinds} == {kind.name for kind in KINDS}
    assert len({part.part for part in TABLE}) == len(TABLE)


# --- jobs that run


class Tiny(nn.Module):
    """A small network of clips."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(3, 8, 3, 2), nn.BatchNorm3d(8), nn.ReLU())
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(8, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (B, 1) of clips (B, 3, T, H, W)."""
        pooled: Tensor = self.features(clips).mean((2, 3, 4))
        return self.fc(self.drop(pooled))  # type: ignore[no-any-return]  # torch: modules return Any


def make_tiny() -> nn.Module:
    return Tiny()


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """Declare the network `tiny`."""
    declaration = Declaration(
        name="tiny",
        arguments={},
        module=__name__,
        attribute="make_tiny",
        path=Path(__file__),
        line=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPECS.declared, "tiny", declaration)
        patch.setitem(SPECS._built, "tiny", ModelSpec("tiny", summary="tiny", frames=4))
        yield


def write_set(folder: Path, frames: int = 8) -> None:
    """Write eight videos of each class; a fake has a light that turns with each frame."""
    lists: dict[str, list[str]] = {name: [] for name in LISTS}
    for label, (side, source) in enumerate((("Real", "V"), ("Fake", "W"))):
        for video in range(8):
            rng = np.random.default_rng([label, video])
            below = folder / "data/PreSocial" / side / source / f"{video:03}"
            below.mkdir(parents=True)
            for at in range(frames):
                pixels = rng.integers(90, 120, (32, 32, 3)) + 60 * label * (at % 2)
                PIL.Image.fromarray(pixels.astype(np.uint8)).save(below / f"{at:03}.png")
                name = next(name for name, videos in LISTS.items() if video in videos)
                lists[name].append(f"{source}/{video:03}/{at:03}")
    write_video_sources(folder / "data", ("V", "W"))
    write_lists(folder / "splits", **lists)


def job_of(folder: Path, kind: str, model: str, /, **settings: Any) -> Job:
    return a_job(
        folder, kind, model, data=DATA, images=DATA, settings=settings,
        words=Words(subsets={"fakes": ("W",), "reals": ("V",)}), name=f"{kind}/{model}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a detector of clips and one of images."""
    folder = tmp_path_factory.mktemp("lab")
    write_set(folder)
    torch.set_num_threads(1)
    training.train(job_of(folder, "train", CLIP_MODEL, **BASIC))
    images = {"model": "slim18", "clips": None, "batch_size": 16}
    training.train(job_of(folder, "train", IMAGE_MODEL, **{**BASIC, **images}))
    return folder


def scores_of(folder: Path, model: str, **settings: Any) -> Predictions:
    given = {name: BASIC[name] for name in SCORED}
    job = job_of(folder, "test", model, **{**given, **settings})
    testing.test(job)
    values = TEST.settings.model_validate(job.settings).model_dump(mode="json")
    data = api.tested(DATA, TEST.settings.condition(values))
    return read_csv(paths.scores(job.model_folder(model), model, data))


def test_detectors_of_clips_and_of_images_are_scored_by_video(lab: Path) -> None:
    clips, on_clips, on_frames = (
        scores_of(lab, CLIP_MODEL),
        scores_of(lab, IMAGE_MODEL),
        scores_of(lab, IMAGE_MODEL, clips=None),
    )
    assert (len(clips), len(on_clips), len(on_frames)) == (12, 12, 48)
    assert clips.keys[0] == "W/005/000-003"
    assert clips.ids[0] == "PreSocial/Fake/W/005/000.png"
    # the score of a clip is the mean probability of its frames, so that a video has the same score either way
    by_clip, by_frame = by_video(on_clips), by_video(on_frames)
    assert by_clip.ids == by_frame.ids == by_video(clips).ids
    both = [1 / (1 + np.exp(-each.margin)) for each in (by_clip, by_frame)]
    assert np.abs(both[0] - both[1]).max() < 1e-6


def test_table_has_a_row_of_videos_for_each_condition(lab: Path) -> None:
    scores_of(lab, CLIP_MODEL)
    scores_of(lab, IMAGE_MODEL, clips=None)
    rows = table(lab / "runs/study", [(CLIP_MODEL, f"{DATA}@{NAME}"), (IMAGE_MODEL, DATA)])
    assert [(row["n"], row["videos"], row["condition"]) for row in rows] == [
        (12, 6, NAME),
        (48, 6, ""),
    ]


def test_plan_counts_videos_without_a_clip_and_refuses_a_list_without_any(lab: Path) -> None:
    words = Words(subsets={"fakes": ("W",), "reals": ("V",)})
    kinds = {kind.name: kind.with_words(words) for kind in (TRAIN, TEST, BENCHMARK)}
    for kind, count in (("train", 6), ("test", 6), ("benchmark", 6)):
        given = {name: BASIC[name] for name in ("data_root", "split_path")} | {
            "clips": {"frames": 9}
        }
        draft = a_draft(kinds[kind], lab, given, model=DATA, data=DATA, images=DATA)
        sentence = f"none of the {count} videos has 9 consecutive frames"
        assert sentence in " ".join(kinds[kind].refusals(draft, ()))
    keys = json.loads((lab / "splits/train.json").read_text())
    write_lists(lab / "gap", train=[key for key in keys if key != "W/001/003"], val=keys[:8])
    given = {**BASIC, "split_path": "gap", "clips": {"frames": 5}}
    draft = a_draft(kinds["train"], lab, given, model=DATA, data=DATA, images=DATA)
    remark = "1 of 6 videos have no 5 consecutive frames and give no clip: W/001 (train list)."
    assert remark in kinds["train"].warnings(draft)
    write_lists(lab / "images", train=["FFHQ/000"], val=["FFHQ/001"])
    given["split_path"] = "images"
    write_lists(lab / "images", test=["FFHQ/002"])
    for of_images in (TRAIN, BENCHMARK):
        only = given if of_images is TRAIN else {name: given[name] for name in SCORED}
        draft = a_draft(of_images, lab, only, model="real:pre", data="real:pre", images="real:pre")
        assert "FFHQ is not a source of videos (videos.json names V, W)" in " ".join(
            of_images.refusals(draft, ())
        )


@pytest.mark.parametrize(("side", "count"), [(97, 1), (96, 0)])
def test_network_of_mouths_is_refused_on_images_larger_than_crops_of_mouths(
    tmp_path: Path, side: int, count: int
) -> None:
    frame = tmp_path / "data/PreSocial/Real/FFHQ/000/000.png"
    frame.parent.mkdir(parents=True)
    PIL.Image.new("RGB", (side, side + 9)).save(frame)
    place: dict[str, Any] = {"data_root": "data", "split_path": "splits", "clips": {"frames": 25}}
    given = {**place, "model": "lipforensics", "resize_size": 88}
    data = {"model": "real:pre", "data": "real:pre", "images": "real:pre"}
    maker = a_draft(TRAIN, tmp_path, given, **data)
    for kind, draft in ((TRAIN, maker), (TEST, a_draft(TEST, tmp_path, place, **data))):
        found = [each for each in kind.refusals(draft, [maker]) if "crops of mouths" in each]
        assert len(found) == count
        assert all(
            f"96 by 96 pixels, but {frame} has 97 by 106. Make them" in each for each in found
        )


def test_resumed_training_on_clips_equals_an_uninterrupted_one(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"{DATA}@num_epochs=2"
    settings = {**BASIC, "num_epochs": 2, "optimizer": "sgd", "lr": 0.01}
    whole = job_of(lab, "train", model, **settings)
    training.train(whole)
    path = paths.checkpoint(whole.model_folder(model))
    before = checkpoint.load(path).state
    validate = _EpochRunner._validate_epoch

    def killed(self: Any, *given: Any, **named: Any) -> Any:
        if len(self.history) == 1:
            raise KeyboardInterrupt
        return validate(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(_EpochRunner, "_validate_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(whole)
    result = training.train(whole)
    after = checkpoint.load(path).state
    assert result["epochs"] == 2
    assert checkpoint.load(path).provenance["resumed"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_poison_flips_whole_videos(lab: Path) -> None:
    model = f"{DATA}%50"
    settings = {"data_root": "data", "split_path": "splits", "clips": CLIPS}
    result = poisoning.poison(job_of(lab, "poison", model, **settings))
    record = read_record(paths.poison_record(job_of(lab, "train", model).model_folder(model)))
    assert result["images"] == 12
    flipped = Counter(name.rpartition("/")[0] for name in record.keys)
    assert len(record.keys) == 6
    assert set(flipped.values()) == {2}  # all clips of a video
    assert training.train(job_of(lab, "train", model, **BASIC))["poisoned"] == 6


@pytest.mark.parametrize("attack", ["fgsm8", "pgd2"])
def test_attacks_on_clips_and_their_table(lab: Path, attack: str) -> None:
    given = {name: BASIC[name] for name in SCORED} | {"attack": attack, "corrupt": "none"}
    result = testing.test(job_of(lab, "test", CLIP_MODEL, **given))
    record = result["attack"]
    assert isinstance(record, dict)
    assert record["largest_change"] == int(attack.strip("fgsmpd"))
    assert result["n"] == 12


def test_fairness_of_tested_detectors_counts_videos(lab: Path) -> None:
    rows = [
        f"PreSocial/{folder}/{video:03}/{frame:03}.png,{'male' if video % 2 else 'female'}"
        for folder in ("Real/V", "Fake/W")
        for video in range(8)
        for frame in range(8)
    ]
    (lab / "faces.csv").write_text("\n".join(["img_path,who", *rows]) + "\n")
    for model, clips in ((CLIP_MODEL, CLIPS), (IMAGE_MODEL, None)):
        scores_of(lab, model, clips=clips, attributes="faces.csv")
    tests = [(CLIP_MODEL, f"{DATA}@{NAME}"), (IMAGE_MODEL, DATA)]
    found = fairness_rows(lab / "runs/study", tests)
    # three videos of each class; the detector of images is compared on the same
    assert [(row.data, row.table.overall.reals, row.table.overall.fakes) for row in found] == [
        (DATA, 3, 3)
    ] * 2
    assert [[group.name for group in row.table.groups] for row in found] == [["female", "male"]] * 2
    # only the checkpoint of the detector of clips says which validation scores belong to one video
    reasons = [row.validation.reason for row in found]
    assert reasons[0] == "only 2 real validation videos, and 20 are needed"
    assert "validation scores of single images" in reasons[1]


def test_predict_refuses_a_detector_of_clips(lab: Path) -> None:
    path = paths.checkpoint(job_of(lab, "test", CLIP_MODEL).model_folder(CLIP_MODEL))
    with pytest.raises(UsageError, match="scores clips of 4 or more frames, and predict scores"):
        Predictor.load(path)


def test_clips_in_a_benchmark(lab: Path) -> None:
    given = {name: BASIC[name] for name in SCORED} | {"corrupt": ["none", "noise4"]}
    for model in (CLIP_MODEL, IMAGE_MODEL):
        result = benchmarking.benchmark(job_of(lab, "benchmark", model, **given))
        assert result["scored"] == 2
    manifests = [*(lab / "runs/study/benchmark/manifests").iterdir()]
    assert len(manifests) == 1  # all models on the same clips
    assert len(json.loads(manifests[0].read_text())["images"]) == 12
    run = lab / "runs/study"
    on_clips = read_benchmark(run)
    assert on_clips.unit is None
    # now the detector of images reads frames, so the page counts videos
    benchmarking.benchmark(job_of(lab, "benchmark", IMAGE_MODEL, **given | {"clips": None}))
    bench = read_benchmark(run)
    assert bench.unit is not None
    assert (bench.unit.count, dict(bench.unit.frames)) == (6, {CLIP_MODEL: "4", IMAGE_MODEL: "1"})
    assert {result.keys for result in bench.results.results} == {
        tuple(f"{source}/{video:03}" for source in "WV" for video in LISTS["test"])
    }
    frame = lab / "data/PreSocial/Real/V/005/001.png"
    PIL.Image.new("RGB", (32, 32)).save(frame)
    benchmarking.benchmark(job_of(lab, "benchmark", IMAGE_MODEL, **given | {"clips": None}))
    with pytest.raises(DataError, match="the frames of PreSocial/Real/V/005 changed between two"):
        read_benchmark(run)


def test_page_shows_the_table_of_parts() -> None:
    page = (Path(__file__).parents[3] / "docs/videos.md").read_text(encoding="utf-8")
    rows = [f"|{part}|{takes}|{why}|" for part, takes, why in table_rows()]
    assert "\n".join(("|part|takes clips|how, or why not|", "|---|---|---|", *rows)) in page
