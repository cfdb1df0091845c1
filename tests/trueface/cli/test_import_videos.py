"""Video files of a data set: imported frames, their groups and lists, and files that are left out."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from launcher.api import Words, install_command, load, parse_data, plan
from tests.trueface.commands import Command
from tests.trueface.videos import LOSSLESS, greys, noise, write_video
from trueface.data.clips import Clips, make_clips
from trueface.data.dataset_file import video_sources
from trueface.data.imports import video_frames
from trueface.data.index import Image, survey
from trueface.data.splits.split_files import read_lists
from trueface.data.videos import evenly_spaced, read_frames
from trueface.data.vocabulary import BUILT_IN
from trueface.evaluation.result_rows import video_report
from trueface.jobs.testing import scores_of
from trueface.predictions.predictions import Predictions

ROOT = Path(__file__).parents[3]
# pairs of people of each official list, as in dataset/splits/train.json
PAIRS = {
    "train": [("000", "003"), ("001", "870")],
    "val": [("010", "005")],
    "test": [("007", "132")],
}
METHODS = ("Deepfakes", "NeuralTextures")
VIDEO_WORDS = BUILT_IN.with_words(Words(subsets={"fakes": ("v",)}))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A real and a fake video of 40 frames each."""
    for seed, name in enumerate(("real/a_real", "fake/a_fake")):
        write_video(tmp_path / "v" / f"{name}.mp4", noise(40, seed), **LOSSLESS)
    return tmp_path / "v"


@pytest.fixture(scope="module")
def faceforensics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FaceForensics++ as its download script stores it, with two compressions and the official lists."""
    top = tmp_path_factory.mktemp("ff")
    seed = 0
    for first, second in (pair for pairs in PAIRS.values() for pair in pairs):
        for source, videos in (
            ("original_sequences/youtube", (first, second)),
            *(
                (f"manipulated_sequences/{method}", (f"{first}_{second}", f"{second}_{first}"))
                for method in METHODS
            ),
        ):
            for video in videos:
                seed += 1
                for compression, crf in (("c23", "23"), ("c40", "40")):
                    write_video(
                        top / source / compression / "videos" / f"{video}.mp4",
                        noise(12, seed), options={"crf": crf, "preset": "ultrafast"},
                    )  # fmt: skip
    return top


def official_lists(top: Path, place: str = "splits") -> None:
    (top / place).mkdir(parents=True, exist_ok=True)
    for name, pairs in PAIRS.items():
        (top / place / f"{name}.json").write_text(json.dumps([list(pair) for pair in pairs]))


def pictures(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


def test_frames_are_evenly_spaced_and_without_loss(
    two: Path, tmp_path: Path, command: Command
) -> None:
    root = tmp_path / "vi"
    printed = command("import", "folders", two, "--videos", "--out", root)
    assert "64 images written, 0 existed already; 2 groups" in printed.out
    places = [f"{number:03}" for number in evenly_spaced(40, 32)]
    assert pictures(root) == [
        f"PreSocial/{folder}/{place}.png"
        for folder in ("Fake/v/a_fake", "Real/realV/a_real")
        for place in places
    ]
    frames = noise(40, 1)
    for number in (0, 13, 39):
        path = root / "PreSocial/Fake/v/a_fake" / f"{number:03}.png"
        np.testing.assert_array_equal(np.asarray(PIL.Image.open(path)), frames[number])
    assert json.loads((root / "videos.json").read_text())["sources"] == ["realV", "v"]
    record = json.loads((root / "import.json").read_text())
    file = two / "fake" / "a_fake.mp4"
    status = file.stat()
    assert record["files"]["PreSocial/Fake/v/a_fake/000.png"] == [
        f"{file}/000.png", status.st_size, status.st_mtime_ns,
    ]  # fmt: skip


def test_same_videos_give_the_same_bytes(two: Path, tmp_path: Path, command: Command) -> None:
    for name in ("a", "b"):
        command("import", "folders", two, "--videos", "--frames", "3", "--out", tmp_path / name)
    assert pictures(tmp_path / "a") == pictures(tmp_path / "b")
    assert len(pictures(tmp_path / "a")) == 6
    for name in pictures(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_dry_run_announces_the_same_frames(two: Path, tmp_path: Path, command: Command) -> None:
    words = ["import", "folders", str(two), "--videos", "--out", str(tmp_path / "vi"), "--json"]
    planned = command(*words, "--dry-run").json
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    assert planned == command(*words).json | {"dry_run": True}
    assert (planned["videos"], planned["new"]) == (2, 64)


def test_frames_that_exist_already_are_called_written(
    two: Path, tmp_path: Path, command: Command
) -> None:
    words = ["import", "folders", str(two), "--videos", "--frames", "2"]
    words += ["--out", str(tmp_path / "vi")]
    command(*words)
    assert "\n0 images written, 4 existed already; " in command(*words).out


def test_layout_without_videos_says_so_and_opens_none(
    two: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_frames, "find_frames", None)
    for name, colour in (("real", "red"), ("fake", "blue")):
        PIL.Image.new("RGB", (8, 8), colour).save(two / f"{name}.png")
    table = two / "table.csv"
    table.write_text("path,label\nreal.png,real\nfake.png,fake\n")
    words = ["import", "csv", str(two), "--videos", "--out", str(tmp_path / "vi")]
    assert (
        "warning: --videos has no effect: the layout csv reads no video files\n"
        in command(*words).err
    )
    table.write_text("path,label\nreal/a_real.mp4,real\n")
    refused = command(*words, code=2).err
    assert "real/a_real.mp4 is not an image" in refused
    assert "import videos with the layout folders or faceforensics" in refused


def test_second_import_decodes_only_new_videos(
    two: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["import", "folders", str(two), "--videos", "--out", str(tmp_path / "vi"), "--json"]
    command(*words)
    lists = read_lists(tmp_path / "vi" / "splits")
    write_video(two / "fake" / "b_fake.mp4", greys(40))
    decoded: list[str] = []

    def watch(file: str, *rest: object, **more: object) -> object:
        decoded.append(Path(file).name)
        return read_frames(file, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(video_frames, "read_frames", watch)
    record = command(*words).json
    assert (record["new"], record["there"], decoded) == (32, 64, ["b_fake.mp4"])
    after = read_lists(tmp_path / "vi" / "splits")
    assert all(set(lists[name]) <= set(after[name]) for name in lists)
    assert not [path.name for path in (tmp_path / "vi").iterdir() if path.name.endswith(".part")]
    command(*words)
    assert decoded == ["b_fake.mp4"]


def test_other_frames_of_an_imported_video_are_refused(
    two: Path, tmp_path: Path, command: Command
) -> None:
    words = ["import", "folders", str(two), "--videos", "--out", str(tmp_path / "vi")]
    command(*words)
    refused = command(*words, "--frames", "5", code=2).err
    assert f"32 frames of {two}/fake/a_fake.mp4 were imported before, and not these 5." in refused
    assert "Use the same --frames" in refused
    write_video(two / "fake" / "a_fake.mp4", greys(40))
    assert (
        f"32 images have changed since they were imported: {two}/fake/a_fake.mp4. Import into"
    ) in command(*words, code=2).err


def test_runs_of_consecutive_frames_are_imported_in_place_of_single_ones(
    two: Path, tmp_path: Path, command: Command
) -> None:
    write_video(two / "fake" / "short.mp4", noise(3, 2), **LOSSLESS)
    root = tmp_path / "vi"
    words = ["import", "folders", str(two), "--videos", "--out", str(root)]
    printed = command(*words, "--clips", "2", "--length", "4")
    assert "1 of 3 videos have fewer than 4 frames" in printed.err
    assert "short.mp4 with 3. They give no clip." in printed.err
    runs = [*range(4), *range(36, 40)]
    a_fake = [f"PreSocial/Fake/v/a_fake/{number:03}.png" for number in runs]
    assert [name for name in pictures(root) if "a_fake" in name] == a_fake
    frames = noise(40, 1)
    for number in runs:
        pixels = np.asarray(PIL.Image.open(root / f"PreSocial/Fake/v/a_fake/{number:03}.png"))
        np.testing.assert_array_equal(pixels, frames[number])
    command(*words, "--clips", "2", "--length", "4")  # a second time changes nothing
    for other in (["--clips", "3", "--length", "4"], ["--frames", "8"], []):
        refused = command(*words, *other, code=2).err
        assert "Use the same --frames, --clips and --length" in refused
    both = command(*words[:-1], tmp_path / "both", "--clips", "2", "--length", "4", "--frames", "3")
    assert (
        "21 images written" in both.out
    )  # nine of each long video, and all three of the short one
    images = survey(root, parse_data("fakes:pre"), VIDEO_WORDS).images
    clips, survey_of_clips = make_clips(images, Clips(frames=4), video_sources(root))
    assert [clip.key for clip in clips] == ["v/a_fake/000-003", "v/a_fake/036-039"]
    assert survey_of_clips.short == ("v/short",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clips", "2", "--length", "4"], "--clips: only video files have frames to choose"),
        (["--videos", "--clips", "2"], "--clips and --length belong together. Add --length 8."),
        (["--videos", "--length", "4"], "--clips and --length belong together. Add --clips 4."),
    ],
)
def test_incomplete_options_of_clips_are_refused(
    words: list[str], message: str, two: Path, tmp_path: Path, command: Command
) -> None:
    given = ["import", "folders", str(two), "--out", str(tmp_path / "vi"), *words]
    assert message in command(*given, code=2).err


@pytest.mark.parametrize("layout", ["folders", "imagefolder"])
def test_folders_of_frames_are_still_videos_next_to_video_files(
    layout: str, two: Path, tmp_path: Path, command: Command
) -> None:
    folder = two / "fake" / "000_003"
    folder.mkdir()
    for number in range(3):
        PIL.Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    words = ["import", layout, str(two), "--videos", "--frames", "4", "--out", str(tmp_path / "vi")]
    printed = command(*words)
    assert "11 images linked or written, 0 existed already; 3 groups" in printed.out
    assert sum(path.is_symlink() for path in (tmp_path / "vi").rglob("*.png")) == 3


def test_video_next_to_its_own_extracted_frames_is_left_out(
    two: Path, faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    extracted = two / "fake" / "a_fake"
    extracted.mkdir()
    for number in range(2):
        PIL.Image.new("RGB", (8, 8), (number, 0, 0)).save(extracted / f"{number}.jpg")
    (two / "real" / "a_real").mkdir()  # without images
    words = ["import", "folders", str(two), "--videos", "--frames", "4", "--out"]
    printed = command(*words, str(tmp_path / "vi"))
    assert "6 images linked or written" in printed.out
    assert "skipped: 1 .mp4 with a folder of their frames\n" in printed.out
    place = tmp_path / "vi/PreSocial/Fake/v/a_fake"
    assert sorted(path.name for path in place.iterdir()) == ["0.jpg", "1.jpg"]

    shutil.copytree(faceforensics, tmp_path / "ff")
    frames = tmp_path / "ff/original_sequences/youtube/c23/frames/000"
    frames.mkdir(parents=True)
    PIL.Image.new("RGB", (8, 8)).save(frames / "0001.png")
    words = ["import", "auto", str(tmp_path / "ff"), "--videos", "--frames", "2", "--json"]
    record = command(*words, "--dry-run", "--out", str(tmp_path / "out")).json
    assert [(each["reason"], each["example"]) for each in record["passed_over"]] == [
        ("double_video", f"{tmp_path}/ff/original_sequences/youtube/c23/videos/000.mp4")
    ]


def test_equal_names_are_refused_before_anything_is_decoded(
    two: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_frames, "read_frames", None)
    words = ["import", "folders", str(two), "--videos", "--frames", "3"]
    words += ["--out", str(tmp_path / "vi")]
    write_video(two / "fake" / "a_fake.mov", greys(9))
    one = command(*words, code=2).err
    assert (
        f"{two}/fake/a_fake.mov and {two}/fake/a_fake.mp4 would both become "
        "PreSocial/Fake/v/a_fake/000.png. Give one of them another name or source.\n"
    ) in one
    write_video(two / "real" / "a_real.mov", greys(9))
    both = command(*words, code=2).err
    assert f"2 pairs of files: {two}/fake/a_fake.mov and {two}/fake/a_fake.mp4 would both" in both
    assert f"; {two}/real/a_real.mov and {two}/real/a_real.mp4 would both become" in both
    assert "Give one of each pair another name or source.\n" in both


def test_broken_videos_are_reported_counted_and_left_out(
    two: Path, tmp_path: Path, command: Command
) -> None:
    (two / "fake" / "text.mp4").write_text("no video")
    (two / "fake" / "notes.txt").write_text("x")
    damaged = write_video(two / "real" / "damaged.mkv", noise(20), codec="mpeg4")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = bytes(20)
    damaged.write_bytes(content)
    write_video(two / "real" / "short.mp4", greys(3))
    root = tmp_path / "vi"
    printed = command("import", "folders", two, "--videos", "--out", root)
    assert (
        (
            f"warning: 2 video files cannot be read, such as {two}/fake/text.mp4: it is not a video, or "
            "it is damaged: Invalid data found when processing input. Repair or remove them.\n"  # prose: ok, the message quotes a reason
        )
        in printed.err
    )
    assert (
        "warning: 1 of 3 videos have fewer than 32 frames, such as "
        f"{two}/real/short.mp4 with 3. All their frames are used.\n"
    ) in printed.err
    assert (
        "skipped: 1 .txt, 1 .mkv that cannot be read, 1 .mp4 that cannot be read\n" in printed.out
    )
    assert not (root / "PreSocial/Real/realV/damaged").exists()
    assert len(pictures(root)) == 67


def test_each_broken_video_is_named_with_its_reason(
    two: Path, tmp_path: Path, command: Command
) -> None:
    empty = write_video(two / "real" / "empty.mkv", [], codec="ffv1")
    texts = [two / "fake" / f"text{number}.mp4" for number in range(2)]
    for text in texts:
        text.write_text("no video")
    words = ["import", "folders", str(two), "--videos", "--out", str(tmp_path / "vi"), "--json"]
    printed = command(*words)
    broken = printed.json["broken_videos"]
    assert list(broken) == [*map(str, texts), str(empty)]
    assert broken[str(empty)].startswith("it has no frames")
    assert (
        (
            f"3 video files cannot be read, such as {texts[0]}: {broken[str(texts[0])]} (2); "  # prose: ok, quotes reasons
            f"{empty}: {broken[str(empty)]} (1). Repair or remove them."
        )
        in printed.err
    )


def test_import_without_any_usable_video_is_an_error(tmp_path: Path, command: Command) -> None:
    for name in ("real/a.mp4", "fake/b.mp4"):
        (tmp_path / "v" / name).parent.mkdir(parents=True)
        (tmp_path / "v" / name).write_text("no video")
    words = ["import", "folders", str(tmp_path / "v"), "--out", str(tmp_path / "vi")]
    broken = command(*words, "--videos", code=2).err
    assert (
        f"no image can be read. 2 video files cannot be read, such as {tmp_path}/v/fake/b" in broken
    )
    assert "Repair or remove them." in broken
    assert "2 video files, such as" in command(*words, code=2).err
    assert "Use --videos to read their frames" in command(*words, code=2).err
    assert "Add --videos" in command(*words, "--frames", "3", code=2).err
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_compression_of_the_videos_of_one_class_is_reported_and_recorded(
    tmp_path: Path, command: Command
) -> None:
    turned = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    for number in range(20):
        for name, crf in (("real", "5"), ("fake", "45")):
            write_video(
                tmp_path / "v" / name / f"{name}{number}.mp4", noise(2, number),
                options={"crf": crf, "preset": "ultrafast"}, matrix=turned,
            )  # fmt: skip
    root = tmp_path / "vi"

    def words(folder: str) -> list[str]:
        return [
            "import",
            "folders",
            str(tmp_path / folder),
            "--videos",
            "--frames",
            "1",
            "--out",
            str(root),
        ]

    sentence = "the video bit rate per pixel alone separates fake from real videos"
    for more in (["--dry-run"], []):
        assert command(*words("v"), *more).err.count(sentence) == 1
    record = root / "video_traits.json"
    written = json.loads(record.read_text())["videos"]
    assert len(written) == 40
    assert written["PreSocial/Fake/v/fake3"]["size"] == "32×48"  # upright
    record.unlink()  # as an earlier version left it
    shutil.copytree(tmp_path / "v" / "fake", tmp_path / "w" / "fake")
    write_video(tmp_path / "w" / "real" / "real.mp4", noise(2))
    later = command(*words("w")).err
    assert "the traits of 40 of 61 videos are not known" in later
    assert sentence not in later
    again = command(*words("v")).err
    assert sentence in again
    assert "not known" not in again


def test_missing_extra_is_named(
    two: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_frames, "find_spec", lambda _: None)
    words = ["import", "folders", str(two), "--videos", "--out", str(tmp_path / "vi")]
    sentence = (
        f"2 video files cannot be read here, such as {two}/fake/a_fake.mp4. Install the reader"
    )
    refused = command(*words, code=3).err
    assert sentence in refused
    assert install_command("video") in refused
    PIL.Image.new("RGB", (8, 8)).save(two / "real" / "a.png")
    printed = command(*words)
    assert f"warning: {sentence}" in printed.err
    assert "skipped: 2 .mp4 without a reader" in printed.out


def test_faceforensics_has_the_official_lists_and_no_leaks(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    official_lists(faceforensics)
    root = tmp_path / "ff"
    words = ["import", "auto", str(faceforensics), "--videos", "--frames", "3", "--out", str(root)]
    printed = command(*words)
    assert "FF-DF:c23&FF-DF:c40    fake      24   12    12\n" in printed.out
    assert "realFF:c23&realFF:c40  real      24   12    12\n" in printed.out
    people = defaultdict(set)
    for name, keys in read_lists(root / "splits").items():
        for key in keys:
            for person in key.split("/")[1].split("_"):
                people[person].add(name)
    assert people == {
        person: {name} for name, pairs in PAIRS.items() for pair in pairs for person in pair
    }
    check = [
        "splits",
        str(root),
        "--data",
        "all:c23&all:c40",
        "--no-content",
    ]
    checked = command(*check, "--check", root / "splits", "--group-by", root / "groups.json")
    assert "leak: group in several lists\t0\n" in checked.out
    assert (root / "c23/Fake/FF-DF/000_003/005.png").is_file()
    assert (root / "c40/Fake/FF-DF/000_003/005.png").read_bytes() != (
        root / "c23/Fake/FF-DF/000_003/005.png"
    ).read_bytes()


def test_drawn_lists_of_faceforensics_keep_people_together(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    root = tmp_path / "ff"
    words = ["import", "faceforensics", str(faceforensics), "--videos", "--frames", "2"]
    command(*words, "--out", str(root), "--redraw", "--shares", "0.5,0.25")
    place = {
        person: name
        for name, keys in read_lists(root / "splits").items()
        for key in keys
        for person in key.split("/")[1].split("_")
    }
    for name, keys in read_lists(root / "splits").items():
        assert keys
        for key in keys:
            assert {place[person] for person in key.split("/")[1].split("_")} == {name}


def test_training_on_imported_videos_can_be_planned_and_scored_by_video(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    official_lists(faceforensics)
    root = tmp_path / "ff"
    command("import", "auto", faceforensics, "--videos", "--frames", "3", "--out", root)
    task = tmp_path / "task.yaml"
    task.write_text(
        f'include: "{root}/dataset.yaml"\n'  # prose: ok, YAML
        "name: ff\n"
        "defaults: {model: slim18, weights: none}\n"
        'train: [{model: null, data: "FF-DF:c23"}]\n'
        'autotest: ["FF-DF:c40&realFF:c40"]\n'
    )
    assert [job.name for job in plan(load(str(task))).jobs] == [
        "train/FF-DF:c23", "test/FF-DF:c23/FF-DF:c40&realFF:c40",
    ]  # fmt: skip

    images = [
        Image(str(path), f"{method}/{path.parent.name}/{path.stem}", label, method, "c40")
        for label, (folder, method) in enumerate((("Real", "FF-real"), ("Fake", "FF-DF")))
        for path in sorted((root / "c40" / folder / method).rglob("*.png"))
    ]
    labels = np.array([image.label for image in images])
    # frames of a video disagree, and only their mean separates the videos of both classes
    margin = np.tile([-1.0, 2.0, 0.0], len(images) // 3) * np.where(labels, 1, -1)
    answers = Predictions.from_margin(
        margin, labels.astype(np.int8), positions=np.arange(len(images))
    )
    report = video_report(scores_of(images, answers, root))
    assert report is not None
    assert report.videos == 16
    assert report.auc is not None
    assert report.auc.value == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}', "Expected pairs of people"),
        ("[[1]]", "Expected pairs of people"),
        ("nothing", "Expected pairs of people"),
        ('[["000", "003"]]', "000 is in train.json and in val.json"),
    ],
)
def test_wrong_official_lists_are_refused(
    text: str, message: str, tmp_path: Path, command: Command
) -> None:
    top = tmp_path / "ff"
    for source in ("original_sequences/youtube", "manipulated_sequences/Deepfakes"):
        write_video(top / source / "c23" / "videos" / "000.mp4", greys(2))
    official_lists(top, "")
    (top / "val.json").write_text(text)
    refused = command("import", "auto", top, "--videos", "--out", tmp_path / "out", code=2).err
    assert message in refused
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def long_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of 600 frames each."""
    top = tmp_path_factory.mktemp("long")
    for number in range(4):
        name = ("real", "fake")[number % 2]
        write_video(top / name / f"{number}.mp4", noise(600, number), codec="mpeg4")
    return top


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_import_leaves_no_data_set(
    ending: signal.Signals, long_videos: Path, tmp_path: Path, command: Command
) -> None:
    words = ["import", "folders", str(long_videos), "--videos", "--out", str(tmp_path / "vi")]
    process = subprocess.Popen(
        [sys.executable, "-m", "trueface", *words, "--frames", "600"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not any(tmp_path.glob(".vi.*/*/*.png")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(ending)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert b"Traceback" not in errors
    assert not (tmp_path / "vi").exists()
    left = [path.name for path in tmp_path.glob(".vi.*")]
    assert bool(left) is (ending == signal.SIGKILL)
    command(*words, "--frames", "2")
    assert [path.name for path in tmp_path.glob(".vi.*")] == []
    assert len(pictures(tmp_path / "vi")) == 8
