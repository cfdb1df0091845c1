"""`trueface import --pairs`: the same frame of the real video for each frame of a fake."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from tests.trueface.commands import Command
from tests.trueface.videos import LOSSLESS, Pixels, noise, write_video
from trueface.data.index import Image
from trueface.data.qualities import QualityList
from trueface.runtime.errors import DataError

MIDDLE = (slice(8, 24), slice(16, 32))  # part of a frame in which a fake differs
REAL, FAKE = "original_sequences/youtube/c23/videos", "manipulated_sequences/{}/c23/videos"
FACES = Path(__file__).parents[4] / "shared/data/faces/PreSocial"


def swapped(frames: list[Pixels], *, seed: int = 9) -> list[Pixels]:
    """Return frames with another middle."""
    results = [each.copy() for each in frames]
    for frame, other in zip(results, noise(len(frames), seed), strict=True):
        frame[MIDDLE] = other[MIDDLE]
    return results


def pixels_of(path: Path) -> NDArray[np.uint8]:
    with PIL.Image.open(path) as image:
        return np.asarray(image)


def image_of(path: Path) -> Image:
    return Image(str(path), path.stem, int("/Fake/" in str(path)), "", "c23")


def pairs_of(root: Path) -> dict[str, Path]:
    """Return the real frame of each image, by its path, as a training on all lists reads it."""
    pairs = {}
    for name in ("train", "val", "test"):
        listed = QualityList.read(root / "pairs.json", name)
        images = [image_of(path) for path in listed.files["raw"]]
        assert listed.labels == tuple(each.label for each in images)
        for image in images:
            pairs[str(image.path.relative_to(root))] = listed.partners([image], "source")[
                image.name
            ]
    return pairs


@pytest.fixture
def faceforensics(tmp_path: Path) -> Path:
    """Two people, whose swaps have other lengths than the real videos, and fakes without a real video."""
    top = tmp_path / "ff"
    reals = {"000": noise(14, 0), "003": noise(10, 3)}
    for name, frames in reals.items():
        write_video(top / REAL / f"{name}.mp4", frames, **LOSSLESS)
    fakes = {
        "Deepfakes/000_003": swapped(reals["000"]),
        "FaceSwap/000_003": swapped(reals["000"][:10]),  # 10 of 14 frames
        "Deepfakes/003_000": [*swapped(reals["003"][:9]), reals["003"][9]],  # the last one is real
        "FaceSwap/003_000": noise(14, 4),  # longer than its real video
        "Deepfakes/007_000": noise(10, 7),
        "FaceSwap/odd": noise(10, 8),
    }
    for name, frames in fakes.items():
        method, video = name.split("/")
        write_video(top / FAKE.format(method) / f"{video}.mp4", frames, **LOSSLESS)
    small = [frame[:, :32] for frame in noise(10, 5)]
    write_video(top / FAKE.format("Face2Face") / "003_000.mp4", small, **LOSSLESS)
    return top


def test_real_frames_have_the_numbers_of_the_fake(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    root, top = tmp_path / "d", faceforensics
    words = ("import", "auto", top, "--videos", "--frames", "4", "--out", root, "--pairs", "--json")
    record = command(*words).json
    pairs = pairs_of(root)
    assert record["paired"] == 11
    reals = {"000": noise(14, 0), "003": noise(10, 3)}
    numbers = {
        "FF-DF/000_003": (0, 4, 8, 13),
        "FF-FS/000_003": (0, 3, 6, 9),
        "FF-DF/003_000": (0, 3, 6),
    }
    for video, frames in numbers.items():
        for number in frames:
            source = pairs.pop(f"c23/Fake/{video}/{number:03}.png")
            assert source == root / f"sources/c23/{video}/{number:03}.png"
            real = reals[video[6:9]][number]
            assert np.array_equal(pixels_of(source), real)
            fake = pixels_of(root / f"c23/Fake/{video}/{number:03}.png")
            assert (fake != real)[MIDDLE].any()
            assert (
                np.abs(fake.astype(int) - real).sum()
                == np.abs(fake.astype(int) - real)[MIDDLE].sum()
            )
    assert len(pairs) == 8  # a real image is its own
    assert {path: str(source) for path, source in pairs.items()} == {
        path: f"{root}/{path}" for path in pairs
    }
    videos = {
        method: f"{top}/{FAKE.format(method)}" for method in ("Deepfakes", "FaceSwap", "Face2Face")
    }
    small = {
        f"{videos['Face2Face']}/003_000.mp4/{number:03}.png": "size" for number in (0, 3, 6, 9)
    }
    assert json.loads((root / "pairs.json").read_text())["left_out"] == small | {
        f"{videos['Deepfakes']}/003_000.mp4/009.png": "equal",
        f"{videos['Deepfakes']}/007_000.mp4": "missing",
        f"{videos['FaceSwap']}/003_000.mp4": "short",
        f"{videos['FaceSwap']}/odd.mp4": "nameless",
    }
    (sentence,) = (each for each in record["remarks"] if "without the real frame" in each)
    assert sentence.startswith(
        "8 fake videos or frames without the real frame are left out, such as "
    )
    assert (
        f"{videos['Face2Face']}/003_000.mp4/000.png: its real frame has another size (4)"
        in sentence
    )
    counts = {each["suffix"]: each["files"] for each in record["passed_over"]}
    assert counts == {".png": 5, ".mp4": 3}


def test_pairs_grow_with_the_set_and_change_no_other_file(
    faceforensics: Path, tmp_path: Path, command: Command
) -> None:
    root, top = tmp_path / "d", faceforensics
    later = top / FAKE.format("FaceSwap") / "000_003.mp4"
    aside = later.rename(tmp_path / "later.mp4")
    words: list[Any] = ["import", "faceforensics", top, "--videos", "--frames", "4", "--json"]
    command(*words, "--pairs", "--out", root)
    first = (root / "pairs.json").read_bytes()
    assert command(*words, "--pairs", "--out", root).json["new"] == 0
    assert (root / "pairs.json").read_bytes() == first
    aside.rename(later)
    added = command(*words, "--pairs", "--out", root).json
    assert (added["new"], added["paired"]) == (4, 11)
    source = pairs_of(root)["c23/Fake/FF-FS/000_003/006.png"]
    assert np.array_equal(pixels_of(source), noise(14, 0)[6])
    refused = command(*words, "--out", root, code=2).err
    assert "have pairs. Import into a new folder, or add --pairs" in refused
    plain = tmp_path / "plain"
    assert "pairs" not in command(*words, "--out", plain).json
    for path in (root / "c23").rglob("*.png"):
        assert path.read_bytes() == (plain / path.relative_to(root)).read_bytes()
    refused = command(*words, "--pairs", "--out", plain, code=2).err
    assert "have no pairs. Import into a new folder, or leave out --pairs" in refused
    fake = image_of(plain / "c23/Fake/FF-FS/003_000/000.png")
    with pytest.raises(DataError, match=r"003_000/000\.png is not in the list 'raw' of train"):
        QualityList.read(root / "pairs.json").partners([fake], "source")


def test_real_frame_has_the_crop_of_the_fake(tmp_path: Path, command: Command) -> None:
    pytest.importorskip("dlib", reason="the extra `faces` is not installed")
    if not FACES.exists():
        pytest.skip("../shared/data/faces is not here")
    from trueface.data.face_alignment import Geometry, crop, face_models

    with PIL.Image.open(min((FACES / "Real/FFHQ").glob("*.jpg"))) as image:
        face = np.asarray(image.convert("RGB"))[20:236, 20:236]
    real = np.full((256, 288, 3), 90, np.uint8)
    real[10:226, 10:226] = face
    fake = np.roll(real, (14, 40), (0, 1))  # its face is elsewhere
    fake[:20, :20] = 0
    write_video(tmp_path / "v/real/000.mp4", [real] * 2, **LOSSLESS)
    write_video(tmp_path / "v/fake/000_003.mp4", [fake] * 2, **LOSSLESS)
    words = ("import", "folders", tmp_path / "v", "--videos", "--frames", "1", "--align", "--pairs")
    command(*words, "--out", tmp_path / "d")
    pairs = pairs_of(tmp_path / "d")
    path = "PreSocial/Fake/v/000_003/000.png"
    found = face_models().find(fake)
    assert found is not None
    assert np.array_equal(pixels_of(pairs[path]), crop(real, found, Geometry()))
    assert np.array_equal(pixels_of(tmp_path / "d" / path), crop(fake, found, Geometry()))


@pytest.fixture
def dfdc(tmp_path: Path) -> Path:
    """A part of DFDC with a real video, two fakes of it, and one whose real video is not there."""
    part = tmp_path / "dfdc/dfdc_train_part_0"
    entries = {
        "aaaa.mp4": {"label": "REAL", "split": "train"},
        "bbbb.mp4": {"label": "FAKE", "split": "train", "original": "aaaa.mp4"},
        "cccc.mp4": {"label": "FAKE", "split": "train", "original": "aaaa.mp4"},
        "dddd.mp4": {"label": "FAKE", "split": "train", "original": "zzzz.mp4"},
    }
    for seed, name in enumerate(entries):
        write_video(part / name, swapped(noise(6, 1), seed=seed), **LOSSLESS)
    (part / "metadata.json").write_text(json.dumps(entries))
    return part.parent


def test_metadata_of_dfdc_names_the_real_videos(
    dfdc: Path, tmp_path: Path, command: Command
) -> None:
    words = ("import", "auto", dfdc, "--videos", "--frames", "3", "--out", tmp_path / "d", "--json")
    record = command(*words, "--pairs").json
    assert (record["layout"], record["paired"], record["groups"]) == ("dfdc", 6, 1)
    pairs = pairs_of(tmp_path / "d")
    for name in ("bbbb", "cccc"):
        source = pairs[f"PreSocial/Fake/DFDC_Fake/{name}/002.png"]
        assert np.array_equal(pixels_of(source), swapped(noise(6, 1), seed=0)[2])
    missing = {f"{dfdc}/dfdc_train_part_0/dddd.mp4": "missing"}
    assert json.loads((tmp_path / "d/pairs.json").read_text())["left_out"] == missing


@pytest.mark.parametrize("is_video", [False, True], ids=["folder", "video"])
def test_frames_in_folders_are_paired_by_name(
    is_video: bool, tmp_path: Path, command: Command
) -> None:
    top, root = tmp_path / "v", tmp_path / "d"
    for seed, (video, count) in enumerate((("real/id0_0001", 3), ("fake/id0_id1_0001", 4))):
        if seed == 0 and is_video:
            write_video(top / f"{video}.mp4", noise(count, seed), **LOSSLESS)
            continue
        folder = top / video
        folder.mkdir(parents=True)
        for number, pixels in enumerate(noise(count, seed)):
            PIL.Image.fromarray(pixels).save(folder / f"{number:03}.png")
    words: list[Any] = ["import", "folders", top, "--videos", "--frames", "2", "--pairs", "--out"]
    record = command(*words, root, "--json").json
    assert record["paired"] == 3
    source = pairs_of(root)["PreSocial/Fake/v/id0_id1_0001/001.png"]  # no frame of the real images
    assert np.array_equal(pixels_of(source), noise(3, 0)[1])
    assert source.is_symlink() is not is_video
    assert "003.png: its real frame is missing" in " ".join(record["remarks"])
    again = command(*words, root, "--json").json
    assert (again["new"], again["remarks"]) == (0, record["remarks"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("folders", "--videos"), "--pairs: no fake is left. 1 fake video or frame without the real frame is left out"),
        (("folders", "--videos"), "does not show the real video. Name the videos as FaceForensics++ does, such as 000"),
        (("folders",), "--pairs: only frames of videos have pairs. Add --videos."),
        (("genimage", "--videos"), "--pairs: the layout genimage reads no videos."),
    ],
)  # fmt: skip
def test_imports_that_can_pair_nothing_are_refused(
    words: tuple[str, ...], said: str, tmp_path: Path, command: Command
) -> None:
    for name in ("v/real/a.png", "v/fake/b.png", "g/sd/train/nature/a.png", "g/sd/train/ai/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(noise(1)[0]).save(tmp_path / name)
    layout, *options = words
    folder = tmp_path / ("g" if layout == "genimage" else "v")
    words = ("import", layout, str(folder), "--pairs", "--out", str(tmp_path / "d"), *options)
    assert said in command(*words, code=2).err
    assert not (tmp_path / "d").exists()
