from pathlib import Path

import numpy as np

from trueface.data.dataset_file import write_video_sources
from trueface.data.index import Image
from trueface.evaluation.inference import ImageScores
from trueface.jobs.testing import scores_of


def test_test_scores_contain_the_video_of_each_frame(tmp_path: Path) -> None:
    write_video_sources(tmp_path, ["FF-DF"])
    images = [
        Image(f"{tmp_path}/PreSocial/Fake/{key}.png", key, 1, key.partition("/")[0], "pre")
        for key in ("FF-DF/000_003/1", "StyleGAN2/a/1")
    ]
    answers = ImageScores(
        positions=np.arange(2), labels=np.ones(2, np.int8), logits=np.zeros(2, np.float64)
    )
    assert scores_of(images, answers, tmp_path).videos == ("PreSocial/Fake/FF-DF/000_003", "")
    assert scores_of(images[1:], ImageScores(
        positions=np.arange(1), labels=np.ones(1, np.int8), logits=np.zeros(1)
    ), tmp_path).videos == ()  # fmt: skip
