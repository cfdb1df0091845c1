import json
from pathlib import Path

import pytest

from tests.trueface.data.imports.conftest import PAIRS, Files, ff_description, ff_frames
from trueface.data.imports.arrangement import arrange, lists_of
from trueface.data.imports.deepfakebench import DeepfakeBench
from trueface.data.imports.registry import ImportedImage, LayoutOptions
from trueface.runtime.errors import DataError

NO_OPTIONS = LayoutOptions()


def imported(folder: Path) -> list[ImportedImage]:
    return list(DeepfakeBench().images(folder, NO_OPTIONS))


def test_a_frame_has_its_label_its_compression_its_video_and_its_people(
    faceforensics: Path,
) -> None:
    images = imported(faceforensics)
    assert len(images) == 2 * 10 * 3 * 3
    (frame,) = [i for i in images if i.file.endswith("Deepfakes/c40/frames/007_008/001.png")]
    assert frame == ImportedImage(
        str(faceforensics / "FaceForensics++/manipulated_sequences/Deepfakes/c40/frames/007_008/001.png"),
        1, "FF-DF", "007_008/001.png", "c40", ("FF 007", "FF 008"), True, ("test",),
    )  # fmt: skip
    assert {i.label for i in images if i.source == "FF-real"} == {0}


def test_paths_of_another_machine_are_found_by_their_last_parts(files: Files) -> None:
    top = files(ff_frames())
    path = top / "FaceForensics++.json"
    path.write_text(json.dumps(ff_description(ff_frames(), "/home/other/datasets/rgb/")))
    assert {image.file for image in imported(top)} == {str(top / frame) for frame in ff_frames()}
    assert {image.file for image in imported(path)} == {str(top / frame) for frame in ff_frames()}


def test_videos_of_one_name_in_two_folders_are_two_videos(files: Files) -> None:
    frames = [
        f"Celeb-DF-v2/{folder}/frames/00001/{n}.png"
        for folder in ("Celeb-real", "YouTube-real")
        for n in range(2)
    ]
    top = files(frames)
    lists = {
        "train": {f"{f.split('/')[1]}-1": {"label": "r", "frames": [f]} for f in frames[::2]},
        "test": {},
    }
    (top / "Celeb-DF-v2.json").write_text(json.dumps({"Celeb-DF-v2": {"CelebDFv2_real": lists}}))
    assert {image.below.rpartition("/")[0] for image in imported(top)} == {
        "Celeb-real/00001",
        "YouTube-real/00001",
    }


def test_the_published_lists_hold_and_people_stay_in_one(faceforensics: Path) -> None:
    arrangement = arrange(imported(faceforensics))
    lists, remarks = lists_of(arrangement, arrangement.groups, before={})
    people = {
        name: {p for key in keys for p in key.split("/")[1].split("_")}
        for name, keys in lists.items()
    }
    assert people == {name: {p for pair in pairs for p in pair} for name, pairs in PAIRS.items()}
    assert remarks == []
    assert arrangement.video_folders == {"FF-DF", "FF-F2F", "FF-real"}
    assert arrangement.groups["FF-DF/007_008/000"] == arrangement.groups["FF-real/008/000"]


def test_lists_that_are_drawn_keep_videos_and_people_together(faceforensics: Path) -> None:
    arrangement = arrange(imported(faceforensics))
    lists, _ = lists_of(arrangement, arrangement.groups, before={}, published=False, seed=3)
    assert all(lists.values())
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        groups = [{arrangement.groups[key] for key in lists[name]} for name in (one, other)]
        assert groups[0].isdisjoint(groups[1])


def test_files_that_describe_no_frame_of_this_folder_are_refused_by_name(files: Files) -> None:
    top = files(["other/a.png"])
    (top / "FF.json").write_text(json.dumps(ff_description(ff_frames())))
    with pytest.raises(DataError, match=r"not one frame of .*FF\.json is below .* other/"):
        imported(top)
    (top / "FF.json").write_text(json.dumps(ff_description(ff_frames(), "../")))
    with pytest.raises(DataError, match="leads out of its folder"):
        imported(top)
    (top / "FF.json").write_text('{"FF": {"FF-real": {"train": [1, 2]}}}')
    with pytest.raises(DataError, match="is no description of videos"):
        imported(top)
