"""What jobs leave: flat numbers for tables, and files beside their models."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from launcher.api import Json, write_atomic
from trueface.data.dataset import Pass
from trueface.data.dataset_file import video_sources
from trueface.data.index import Image
from trueface.data.loading import BadFile
from trueface.evaluation.inference import Answers
from trueface.evaluation.operating_threshold import Calibration
from trueface.evaluation.score_tables import Scores
from trueface.runtime import paths


def of_test(answers: Answers, calibration: Calibration | None = None) -> dict[str, Json]:
    """Return what one test alone can say; measures of both classes need tests merged."""
    fake = answers.labels == 1
    beyond = None if calibration is None else answers.logits > calibration.threshold
    towards = np.where(fake, answers.logits, -answers.logits)
    return {
        "n": len(answers.labels),
        "fake": int(fake.sum()),
        "accuracy": float(np.mean((answers.logits > 0) == fake)),
        "called_fake": float(np.mean(answers.logits > 0)),
        "accuracy_at_threshold": None if beyond is None else float(np.mean(beyond == fake)),
        "called_fake_at_threshold": None if beyond is None else float(np.mean(beyond)),
        "mean_logit": float(answers.logits.mean()),
        "loss": float(np.logaddexp(0.0, -towards).mean()),
    }


def of_attack(answers: Answers) -> dict[str, Json]:
    """Return how far a backdoor reaches: what is said of images that carry its patch.

    `attack_success` is the fraction of fakes then classified as real; None where there is no fake.
    """
    fake = answers.labels == 1
    called_real = answers.logits <= 0
    return {
        "attack_success": float(called_real[fake].mean()) if fake.any() else None,
        "triggered_called_fake": float(1 - called_real.mean()),
    }


def count_bad_images(path: Path) -> int:
    """Return how many images a list names; 0 where there is none."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return sum(1 for _ in csv.reader(file)) - 1
    except FileNotFoundError:
        return 0


def write_bad_images(path: Path, bad: Iterable[BadFile]) -> None:
    """List images that gave no pixels as CSV, atomically; without any, an older list goes away."""
    rows = sorted(bad)
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason"))
    writer.writerows((file.path, file.reason) for file in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue().encode(errors="surrogateescape"))


def list_bad_images(folder: Path, learned: Pass, checked: Pass) -> None:
    """List the images of a training and its validation that gave no pixels, beside the model."""
    for name, feed in (("train", learned), ("val", checked)):
        write_bad_images(paths.bad_images(folder, name), feed.image_set.bad.values())


def scores_of(images: Sequence[Image], answers: Answers, data_root: Path) -> Scores:
    """Return the answers to images as a score table, with their paths below the data root.

    Raises:
        DataError: the data root's list of sources with videos cannot be read.
    """
    scored = [images[position] for position in answers.positions]
    names = tuple(image.path.relative_to(data_root).as_posix() for image in scored)
    sources = video_sources(data_root)
    videos = tuple(
        path.rpartition("/")[0] if image.method in sources else ""
        for path, image in zip(names, scored, strict=True)
    )
    return Scores(
        paths=names,
        keys=tuple(image.key for image in scored),
        labels=answers.labels,
        logits=answers.logits,
        videos=videos if any(videos) else (),
    )
