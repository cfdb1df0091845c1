from pathlib import Path

import numpy as np

from trueface.data.dataset_file import write_video_sources
from trueface.data.index import Image
from trueface.jobs.testing import scores_of
from trueface.predictions.predictions import Predictions


def test_test_scores_contain_the_video_of_each_frame(tmp_path: Path) -> None:
    write_video_sources(tmp_path, ["FF-DF"])
    images = [
        Image(f"{tmp_path}/PreSocial/Fake/{key}.png", key, 1, key.partition("/")[0], "pre")
        for key in ("FF-DF/000_003/1", "StyleGAN2/a/1")
    ]
    answers = Predictions.from_margin(
        np.zeros(2, np.float64), np.ones(2, np.int8), positions=np.arange(2)
    )
    assert scores_of(images, answers, tmp_path).videos == ("PreSocial/Fake/FF-DF/000_003", "")
    answers = answers.rows(np.array([0]))
    assert scores_of(images[1:], answers, tmp_path).videos == ()
