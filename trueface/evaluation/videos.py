"""Videos: the score of a video is the mean probability of its frames, the video its path.

Source of the measure: Z. Yan et al., "DeepfakeBench", NeurIPS 2023, whose code knows a video by the
name of its folder alone, so that videos of two sets with one name become one. Here it is the whole
path below the data root, in which class and modifier stand, too.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from trueface.evaluation.bootstrap import Floats, Measure
from trueface.evaluation.measurement import measure
from trueface.evaluation.score_tables import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """What the videos of a score table are worth."""

    videos: int
    auc: Measure | None  # with its interval over videos; None where all are of one class


def by_video(scores: Scores) -> Scores:
    """Return a table with a row a video; rows of no video are left out.

    The logit is that of the mean probability of the frames, so that 0 is a mean of one half.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, video in enumerate(scores.videos):
        if video:
            rows[video].append(row)
    return Scores(
        paths=tuple(rows),
        keys=tuple(scores.keys[at[0]].rpartition("/")[0] for at in rows.values()),
        labels=np.array([scores.labels[at[0]] for at in rows.values()], np.int8),
        logits=np.array([_logit_of_mean(scores.logits[at]) for at in rows.values()], np.float64),
    )


def video_report(scores: Scores) -> VideoReport | None:
    """Return what the videos of a table are worth; None where no row is a frame."""
    table = by_video(scores)
    if not len(table):
        return None
    report = measure(table.labels, table.logits, keys=table.keys)
    return VideoReport(videos=len(table), auc=report.by_images.get("auc"))


def _logit_of_mean(logits: Floats) -> float:
    # log of the mean probability of fake, minus that of real: no rounding to 1 of sure answers
    fake, real = -np.logaddexp(0.0, -logits), -np.logaddexp(0.0, logits)
    return float(np.logaddexp.reduce(fake) - np.logaddexp.reduce(real))
