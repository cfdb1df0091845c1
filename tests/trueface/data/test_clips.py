"""Which frames are clips, and their pixels."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from trueface.corruptions.chain import Chain
from trueface.data.clips import Clips, Video, make_clips, parse_clips, spread
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.loading.image_set import apply_trigger
from trueface.data.loading.transforms import TestTransform, TrainTransform, transform_clip
from trueface.data.settings import TestSettings
from trueface.runtime.errors import DataError, JobError
from trueface.training.settings import TrainSettings

WHERE: dict[str, Any] = {"data_root": "data", "split_path": "splits"}
VIDEO = frozenset({"V"})


def starts(names: Iterable[str], **words: int) -> list[list[int]]:
    return Video.from_names("V/000", names).clips(Clips(**{"frames": 3, **words}))


def numbered(*numbers: int) -> list[str]:
    return [str(number) for number in numbers]


@pytest.mark.parametrize(
    ("names", "words", "clips"),
    [
        # names are not sorted as numbers
        (["1000", "101", "102", "103"], {}, [[101, 102, 103]]),
        (["f7_0008", "f7_0009", "f7_0010"], {}, [[8, 9, 10]]),
        # one after another, without overlap; the rest is left out
        (numbered(*range(8)), {}, [[0, 1, 2], [3, 4, 5]]),
        # a missing frame ends a clip, also one that a stride would pass over
        (numbered(0, 1, 3, 4, 5, 6), {}, [[3, 4, 5]]),
        (numbered(0, 1, 3, 4, 5, 6), {"frames": 2, "stride": 2}, [[3, 5]]),
        (numbered(*range(10)), {"stride": 2}, [[0, 2, 4], [5, 7, 9]]),
        (numbered(*range(15)), {"per_video": 2}, [[0, 1, 2], [12, 13, 14]]),
        (numbered(*range(15)), {"per_video": 1}, [[0, 1, 2]]),
        (numbered(*range(6)), {"per_video": 9}, [[0, 1, 2], [3, 4, 5]]),
        (numbered(0, 1), {}, []),
        (numbered(0), {}, []),
    ],
)
def test_clips_follow_the_numbers_of_frames(
    names: list[str], words: dict[str, int], clips: list[list[int]]
) -> None:
    assert starts(names, **words) == clips


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "frame V/000/a has no number in its name"),
        (["12_0", "13_0"], "frames 12_0 and 13_0 of V/000 have the same number 0"),
    ],
)
def test_videos_without_an_order_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        starts(names)


def test_places_are_evenly_spread() -> None:
    assert [spread(9, 3), spread(2, 3), spread(0, 3), spread(5, 1)] == [[0, 4, 8], [0, 1], [], [0]]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({}, "frames is missing. Write clips: {frames: 8}"),
        ({"stride": 2}, "frames is missing"),
        ({"frames": 1}, "frames must be at least 2, got 1"),
        ({"frames": 8, "stride": 0}, "stride must be at least 1, got 0"),
        ({"frames": "many"}, "frames must be a whole number, got 'many'"),
        ({"frames": 8, "step": 2}, "unknown word 'step'. The words are frames, stride, per_video"),
        (8, "expected a mapping"),
        ("8", "'8': expected words with numbers"),
    ],
)
def test_wrong_words_of_clips_are_named(value: object, fault: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(fault)):
        TestSettings(**WHERE, clips=value)


def test_missing_words_of_clips_are_filled_in_before_name_and_hash() -> None:
    full = {"frames": 8, "stride": 1, "per_video": 0}
    for value in ({"frames": 8}, full, "frames=8", "frames=8,per_video=0"):
        values = TestSettings(**WHERE, clips=value).model_dump(mode="json")
        assert values["clips"] == full
        assert TestSettings.condition(values) == "clips=frames-8-stride-1-per_video-0"
        assert TestSettings.decisive(values)["clips"] == full
    without = TestSettings(**WHERE).model_dump(mode="json")
    assert without["clips"] is None
    assert TestSettings.condition(without) == ""
    assert "clips" not in TestSettings.decisive(without)


def frames_of(key: str, count: int, *, modifier: str = "pre", root: str = "/d") -> list[Image]:
    return [
        Image(f"{root}/{modifier}/{key}/{at:03}.png", f"{key}/{at:03}", 1, "V", modifier)
        for at in range(count)
    ]


def test_clips_do_not_cross_videos_or_modifiers_and_short_videos_are_counted() -> None:
    frames = [
        *frames_of("V/000", 5),
        *frames_of("V/000", 5, modifier="fb"),
        *frames_of("V/001", 3),  # the same names of frames in two videos
        *frames_of("V/002", 1),
    ]
    clips, survey = make_clips(frames, Clips(frames=3), VIDEO)
    assert [clip.name for clip in clips] == [
        "pre:V/000/000-002", "fb:V/000/000-002", "pre:V/001/000-002",
    ]  # fmt: skip
    assert clips[1].frames == tuple(f"/d/fb/V/000/{at:03}.png" for at in range(3))
    assert clips[1].file == clips[1].frames[0]
    assert survey.remark == ("1 of 4 videos have no 3 consecutive frames and give no clip: V/002")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (frames_of("V/000", 2), "none of the 1 videos has 3 consecutive frames"),
        ([frames_of("V/000", 3)[0]._replace(method="FFHQ")], "FFHQ is not a source of videos"),
        (
            [*frames_of("V/000", 3), Image("/d/pre/V/000/000.jpg", "V/000/000", 1, "V", "pre")],
            "two files of video /d/pre/V/000 have the same name",
        ),
    ],
)
def test_lists_without_clips_are_refused(frames: list[Image], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_clips(frames, Clips(frames=3), VIDEO)


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Image, ...]:
    """Return two clips of eight frames of 20 pixels in two videos, real and fake."""
    made: list[Image] = []
    for label, source in enumerate(("V", "W")):
        for number, frame in enumerate(frames_of(f"{source}/000", 8, root=str(tmp_path))):
            frame.path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([label, number])
            PIL.Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(frame.path)
            made.append(frame._replace(label=label, method=source))
    return make_clips(made, Clips(frames=8), frozenset({"V", "W"}))[0]


def decoded(clip: Image) -> list[Tensor]:
    return [
        torch.from_numpy(np.array(PIL.Image.open(file))).permute(2, 0, 1) for file in clip.frames
    ]


@pytest.mark.parametrize("cache", ["none", "decoded"])
@pytest.mark.parametrize("crops", [0, 2])
def test_pixels_of_clips_have_six_dimensions_in_the_order_of_frames(
    clips: tuple[Image, ...], crops: int, cache: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path / "cache"))
    settings = TestSettings(
        **WHERE, resize_size=16, patch_size=12, test_crops=crops, num_threads=0, cache=cache
    )
    loader = eval_loader(clips, settings)
    for _ in range(2):
        (batch,) = loader(0)
        assert batch.inputs.shape == (2, crops or 1, 8, 3, *(2 * [12 if crops else 16]))
        assert batch.labels.flatten().tolist() == [0, 1]
        for at, frame in enumerate(decoded(clips[1])):
            seen = loader.dataset.transform(frame, clips[1], 0)
            assert torch.equal(batch.inputs[1, :, at], seen if crops else seen[None])


def test_all_frames_of_a_clip_get_the_same_crop_and_flip(clips: tuple[Image, ...]) -> None:
    settings = TrainSettings(
        **WHERE, resize_size=20, patch_size=9, resize_prob=1, resize_scale=(0.3, 0.9), jpeg_prob=1,
        num_threads=0,
    )  # fmt: skip
    transform = TrainTransform(settings=settings, seed=3)
    still = [decoded(clips[0])[0]] * 8
    for epoch in range(3):
        seen = transform_clip(transform, still, clips[0], epoch)
        assert seen.shape == (1, 8, 3, 9, 9)
        assert all(torch.equal(frame, seen[0, 0]) for frame in seen[0])
    (batch,) = train_loader(clips, settings.model_copy(update={"batch_size": 2}))(0)
    assert batch.inputs.shape == (2, 1, 8, 3, 9, 9)


@pytest.mark.parametrize(
    ("chain", "alike"),
    [
        ("jpeg30-90", True),
        ("share", True),
        ("crop0.8", True),
        ("noise5", False),
        ("impulse4", False),
    ],
)
def test_strength_is_drawn_for_a_clip_and_grain_for_each_frame(
    clips: tuple[Image, ...], chain: str, alike: bool
) -> None:
    still = [decoded(clips[0])[0]] * 8
    transform = TestTransform(
        resize_size=20, patch_size=-1, crops=0, corruptions=Chain.parse(chain)
    )
    seen = transform.transform_clip(still, clips[0])[0]
    assert len({frame.numpy().tobytes() for frame in seen}) == (1 if alike else 8)
    if alike:  # as of a single image of this name
        assert torch.equal(seen[0], transform(still[0], clips[0], 0))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_h264_codes_a_clip_as_one_video() -> None:
    grey = torch.randint(0, 256, (1, 3, 21, 18), generator=torch.Generator().manual_seed(0))
    still = grey.byte().repeat(4, 1, 1, 1)
    chain = Chain.parse("h264-40")
    coded, alone = chain.corrupt_clip(still, "pre:V/000/000-003"), chain(still[0], "x")
    assert coded.shape == still.shape
    # later frames refer to earlier ones, so that a still picture gets better
    errors = [(each.double() - still[0]).square().mean().item() for each in (coded[-1], alone)]
    assert errors[0] < errors[1]


def test_clip_with_frames_of_two_sizes_or_a_broken_frame_is_bad(clips: tuple[Image, ...]) -> None:
    PIL.Image.new("RGB", (20, 18)).save(clips[0].frames[3])
    loader = eval_loader(clips, TestSettings(**WHERE, resize_size=16, num_threads=0))
    (batch,) = loader(0)
    assert batch.indices.tolist() == [1]
    (bad,) = loader.dataset.bad.values()
    assert str(bad.path) == clips[0].frames[3]
    assert bad.reason == "it has 20 by 18 pixels, and the first frame of its clip has 20 by 20"
    Path(clips[1].frames[7]).write_bytes(b"")
    with pytest.raises(DataError, match=r"007\.png: the file is empty"):
        [*eval_loader(clips[1:], TestSettings(**WHERE, resize_size=16, num_threads=0))(0)]


def test_patch_is_on_every_frame_and_a_batch_of_clips_is_refused(clips: tuple[Image, ...]) -> None:
    loader = eval_loader(
        clips, TestSettings(**WHERE, resize_size=16, num_threads=0), triggered_rows=[1]
    )
    (batch,) = loader(0)
    assert torch.equal(batch.inputs[1], apply_trigger(batch.inputs[1]))
    assert not torch.equal(batch.inputs[0], apply_trigger(batch.inputs[0]))
    with pytest.raises(JobError, match="batch of clips"):
        apply_trigger(batch.inputs)


def test_value_is_unchanged_if_it_is_complete() -> None:
    whole = Clips(frames=4)
    assert parse_clips(whole) is whole
    assert parse_clips(None) is None


def test_loading_processes_give_the_same_clips(clips: tuple[Image, ...]) -> None:
    first, second = (
        torch.cat([batch.inputs for batch in eval_loader(clips, settings)(0)])
        for settings in (TestSettings(**WHERE, resize_size=16, num_threads=n) for n in (0, 1))
    )
    assert torch.equal(first, second)
