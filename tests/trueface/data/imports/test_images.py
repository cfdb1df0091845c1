from pathlib import Path

import pytest

from trueface.data.dataset_file import video_sources, write_video_sources
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
