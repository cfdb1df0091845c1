from pathlib import Path

import numpy as np
import pytest

from trueface.data.index import Image
from trueface.data.video_sources import video_sources, write_video_sources
from trueface.evaluation.inference import Answers
from trueface.jobs.outputs import scores_of
from trueface.runtime.errors import DataError


def test_a_data_root_names_the_sources_that_are_videos(tmp_path: Path) -> None:
    assert video_sources(tmp_path) == frozenset()
    write_video_sources(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    write_video_sources(tmp_path, {"FF-DF", "FF-real"})
    assert video_sources(tmp_path) == {"FF-DF", "FF-real"}


@pytest.mark.parametrize("text", ["{", "[]", '{"sources": "FF-DF"}'])
def test_a_broken_list_of_videos_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "videos.json").write_text(text)
    with pytest.raises(DataError, match=r"videos\.json"):
        video_sources(tmp_path)


def test_the_scores_of_a_test_name_the_video_of_each_frame(tmp_path: Path) -> None:
    write_video_sources(tmp_path, ["FF-DF"])
    images = [
        Image(f"{tmp_path}/PreSocial/Fake/{key}.png", key, 1, key.partition("/")[0], "pre")
        for key in ("FF-DF/000_003/1", "StyleGAN2/a/1")
    ]
    answers = Answers(
        positions=np.arange(2), labels=np.ones(2, np.int8), logits=np.zeros(2, np.float64)
    )
    assert scores_of(images, answers, tmp_path).videos == ("PreSocial/Fake/FF-DF/000_003", "")
    assert scores_of(images[1:], Answers(
        positions=np.arange(1), labels=np.ones(1, np.int8), logits=np.zeros(1)
    ), tmp_path).videos == ()  # fmt: skip
