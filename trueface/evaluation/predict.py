"""Predictions: what a trained model says of image files, prepared as its own tests were."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from trueface.data.image_files import Missing
from trueface.data.image_sizes import Learned, Size, unlike
from trueface.data.index import Image
from trueface.data.loaders import still
from trueface.data.settings import TestSettings
from trueface.evaluation.inference import evaluate_images
from trueface.features.store import FeatureStore
from trueface.models import checkpoint
from trueface.runtime.errors import CheckpointError, DataError
from trueface.runtime.files import Json
from trueface.runtime.progress import Watch

# what a test's crop and decoding depend on; the rest of a training's settings is not its model's
OF_PREPARATION = ("resize_size", "patch_size", "test_crops", "decode")
NEEDED = "resize_size"  # without it there is no crop; the others may be younger than a checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer for one image."""

    path: Path
    logit: float  # positive = fake

    @property
    def probability(self) -> float:
        """Of being fake, in 0 … 1; not calibrated beyond the model's training."""
        if self.logit < 0:  # else exp could overflow
            return math.exp(self.logit) / (1 + math.exp(self.logit))
        return 1 / (1 + math.exp(-self.logit))

    @property
    def verdict(self) -> str:
        """The class that is more probable; real where both are as probable."""
        return "fake" if self.logit > 0 else "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The answers for all files, and those files that gave no pixels."""

    answers: tuple[Prediction, ...]  # in the order of the files
    bad: tuple[Missing, ...]
    learned: Learned | None  # sizes of the training's images; None: an older checkpoint
    unlike: Mapping[Path, Size]  # answered files of sizes far from these
    crop: int  # side of the square that the network sees, in pixels


def predict(
    weights: Path,
    files: Sequence[Path],
    *,
    batch_size: int,
    watch: Watch,
    store: FeatureStore | None = None,
) -> Predictions:
    """Score image files with the model of a checkpoint.

    Args:
        weights: of the model, with what it was trained with.
        files: in any format that Pillow reads.
        batch_size: images a step.
        watch: device, progress, stop.
        store: where features of bodies that were not trained are kept; None: nowhere.

    Raises:
        CheckpointError: no checkpoint, a broken one, or one that does not say how it prepares.
        JobError: stopped.
    """
    kept = checkpoint.load(weights)
    settings = _settings(weights, kept.provenance, batch_size)
    learned = Learned.from_json(kept.provenance.get("image_sizes"))
    model = checkpoint.revive(kept, weights).to(watch.device)
    images = [
        Image(file=str(file), key=str(file), label=0, method="", modifier="none") for file in files
    ]
    feed = still(images, settings)
    try:
        answered = evaluate_images(
            model, feed, watch, constant=checkpoint.has_constant_body(kept), store=store
        )
    except DataError:
        if len(feed.image_set.bad) < len(files):
            raise
        answers: tuple[Prediction, ...] = ()  # not one could be decoded: the list says why
    else:
        answers = tuple(
            Prediction(path=files[position], logit=logit)
            for position, logit in zip(
                answered.positions.tolist(), answered.logits.tolist(), strict=True
            )
        )
    bad = sorted(feed.image_set.bad.values())
    answered_files = [answer.path for answer in answers]
    return Predictions(
        answers=answers,
        bad=tuple(Missing(path=missing.path, reason=missing.reason) for missing in bad),
        learned=learned,
        unlike={} if learned is None else dict(unlike(answered_files, learned)),
        crop=settings.resize_size,
    )


def _settings(weights: Path, provenance: Mapping[str, Json], batch_size: int) -> TestSettings:
    """Return the settings under which the checkpoint's model was validated."""
    learned = provenance.get("settings")
    if not isinstance(learned, Mapping) or NEEDED not in learned:
        raise CheckpointError(
            f"checkpoint {weights} does not say how its images were prepared: train it anew"
        )
    prepared: dict[str, Json] = {key: learned[key] for key in OF_PREPARATION if key in learned}
    try:
        return TestSettings.model_validate(
            {"data_root": ".", "split_path": ".", "batch_size": batch_size, **prepared}
        )
    except ValidationError as error:
        reason = error.errors()[0]
        raise CheckpointError(
            f"checkpoint {weights}: {'.'.join(map(str, reason['loc']))}: {reason['msg']}"
        ) from error
