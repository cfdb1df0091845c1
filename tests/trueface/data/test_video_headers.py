"""Traits of videos that reveal the class of their frames, videos that are not known, and their record."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trueface.data.image_headers import LEAST, join_causes
from trueface.data.video_headers import (
    VIDEO_PROPERTIES,
    survey_data_root,
    survey_videos,
    video_shortcuts,
)
from trueface.data.video_traits import FILE, VideoTraits, read_traits, write_traits

PLAIN = VideoTraits(
    codec="h264",
    profile="High",
    pixel_format="yuv420p",
    size="128×128",
    frame_rate=25.0,
    container="mov (isom)",
    encoder="Lavf62.12.102",
    sound="none",
    bits_per_pixel=0.11,
    frames=100,
    key_frames=9,
    key_distance=12,
)
SOURCES = {0: "c23/Real/realV", 1: "c23/Fake/v"}


def videos_of(
    fake: Mapping[str, Any], *, count: int = LEAST, **real: Any
) -> dict[str, VideoTraits]:
    """Return videos of both classes by the folder of their frames."""
    changed = {0: real, 1: fake}
    return {
        f"{source}/{number}": PLAIN._replace(**changed[label])
        for label, source in SOURCES.items()
        for number in range(count)
    }


def frames_of(videos: Mapping[str, VideoTraits], frames: int = 2) -> dict[str, int]:
    return {
        f"{folder}/{frame:03}.png": int("/Fake/" in folder)
        for folder in videos
        for frame in range(frames)
    }


@pytest.mark.parametrize(
    ("fake", "names", "values", "shapes_pixels"),
    [
        ({}, [], "", True),
        ({"bits_per_pixel": 0.1}, [], "", True),  # one quality
        ({"key_distance": 15}, [], "", True),
        ({"codec": "vp9", "profile": "Profile 0"}, ["video codec"], "vp9", True),
        ({"profile": "Main"}, ["video profile"], "Main", True),
        ({"pixel_format": "yuv444p"}, ["video pixel format"], "yuv444p", True),
        ({"size": "64×64"}, ["video size"], "64×64", True),
        ({"bits_per_pixel": 0.02}, ["video bit rate per pixel"], "0.016 to 0.022 bits", True),
        ({"key_frames": 100, "key_distance": 1}, ["distance of key frames"], "each frame", True),
        ({"frame_rate": 29.97}, ["frame rate"], "29.97", False),
        ({"sound": "aac", "encoder": "none", "container": "matroska"},
         ["video container", "recorded video encoder", "sound of the video"], "matroska", False),
    ],
)  # fmt: skip
def test_trait_of_the_videos_of_one_class_is_a_shortcut(
    fake: Mapping[str, Any], names: list[str], values: str, shapes_pixels: bool
) -> None:
    videos = videos_of(fake)
    survey = survey_videos(frames_of(videos), videos, frozenset())
    found = video_shortcuts(survey.headers)
    groups = join_causes(found, survey.headers, VIDEO_PROPERTIES)
    assert [[each.name.removeprefix("the ") for each in group] for group in groups] == (
        [names] if names else []
    )
    for first, *_ in groups:
        assert first.accuracy == pytest.approx(1)
        assert first.fake == f"{LEAST} × {values}"  # each video counts once
        assert first.shapes_pixels is shapes_pixels
        assert first.sentence.endswith("alone separates fake from real videos in 100% of cases")
        assert ("A conversion keeps the traces" in first.remedy) is shapes_pixels


@pytest.mark.parametrize(
    ("real", "fake", "found"),
    [
        ({"frames": 150, "key_frames": 1}, {"frames": 300, "key_frames": 1}, False),
        # the short videos may have this distance as well
        ({"frames": 150, "key_frames": 1}, {"frames": 500, "key_distance": 250}, False),
        ({"frames": 150, "key_frames": 1}, {"key_distance": 12}, True),
        ({"frames": 1, "key_frames": 1}, {"key_distance": 12}, False),
        ({"key_frames": 0, "key_distance": None}, {"key_distance": 12}, False),
    ],
)
def test_distance_in_videos_of_one_key_frame_is_compared_up_to_their_length(
    real: dict[str, Any], fake: dict[str, Any], found: bool
) -> None:
    single = {"key_distance": None}
    videos = videos_of(fake | (single if fake.get("key_frames") == 1 else {}), **(single | real))
    survey = survey_videos(frames_of(videos), videos, frozenset())
    assert bool(video_shortcuts(survey.headers)) is found


def test_unknown_traits_are_never_equal_to_others() -> None:
    videos = videos_of({"codec": "vp9"})
    labels = frames_of(videos)
    sources = frozenset({"realV", "v"})
    only_fakes = {folder: traits for folder, traits in videos.items() if "/Fake/" in folder}
    survey = survey_videos(labels | {"c23/Real/images/1.png": 0}, only_fakes, sources)
    assert survey.unknown == (LEAST, 0)  # the single image is not a frame
    assert f"the traits of {LEAST} of {2 * LEAST} videos are not known" in survey.unknown_reason
    assert video_shortcuts(survey.headers) == ()
    unknown = videos_of({"codec": "", "bits_per_pixel": None, "frame_rate": None})
    assert video_shortcuts(survey_videos(labels, unknown, sources).headers) == ()


def test_few_tested_videos_are_judged_with_all_videos_of_their_sources() -> None:
    videos = videos_of({"codec": "vp9"})
    videos |= {f"c23/Fake/other/{number}": PLAIN for number in range(LEAST)}
    tested = {folder: videos[folder] for folder in ("c23/Real/realV/0", "c23/Fake/v/0")}
    survey = survey_videos(frames_of(tested), videos, frozenset())
    (found,) = video_shortcuts(survey.headers)
    assert (found.real, found.fake) == (f"{LEAST} × h264", f"{LEAST} × vp9")


def test_record_of_a_data_root_is_read_as_it_was_written_and_is_unknown_if_damaged(
    tmp_path: Path,
) -> None:
    videos = videos_of({"frame_rate": None, "key_distance": None}, count=1)
    write_traits(tmp_path, videos)
    assert read_traits(tmp_path) == videos
    labels = {f"{tmp_path}/{path}": label for path, label in frames_of(videos).items()}
    assert len(survey_data_root(tmp_path, labels).headers) == 2
    content = json.loads((tmp_path / FILE).read_text())
    del content["videos"]["c23/Fake/v/0"]["codec"]
    for damaged in (json.dumps(content), "[]", "{", '{"schema": 2, "videos": {}}'):
        (tmp_path / FILE).write_text(damaged)
        assert read_traits(tmp_path) == {}
    (tmp_path / "videos.json").write_text('{"schema": 1, "sources": ["realV", "v"]}')
    assert survey_data_root(tmp_path, labels).unknown == (1, 1)
