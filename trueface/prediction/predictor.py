"""Predictions of a trained model for image files, with the transform of its tests.

Images are processed batch by batch and then released, so that memory does not grow with their number.
Nothing is written to disk, not even to the feature store.

A model can abstain, so that few of its answers are wrong (selective classification). The confidence of an
answer is the distance of its logit from the threshold. The model answers only above a minimum confidence.
Validation selects the largest coverage for which the upper bound of the error rate is small enough.

Source: Y. Geifman and R. El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS
    2017, section 3 (SGR): the bound and its division by the number of tries. They search by
    bisection. With a few hundred images the error rate does not always rise with the coverage, so that
    bisection fails. Here ten fixed coverages are tried. The guarantee holds for images from the
    distribution of validation, and for a threshold chosen on other data.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from trueface.data.folders import Missing
from trueface.data.forging.blending import HIGHEST, LOWEST
from trueface.data.image_formats import Format, LearnedFormats, format_of, is_turned
from trueface.data.image_headers import FACTOR, ImageSize, LearnedSizes
from trueface.data.index import Image
from trueface.data.loading.decoding import Scaling, decode
from trueface.data.loading.prefetching import closing, prefetch, stack_images
from trueface.data.loading.preprocessing import Preprocessing, log_small_images
from trueface.data.loading.transfers import Send, iter_outputs
from trueface.data.loading.transforms import COPY_KINDS, TestTransform, test_transform
from trueface.data.settings import TestSettings
from trueface.evaluation.measurement import evaluate_scores
from trueface.evaluation.operating_threshold import Calibration
from trueface.models import checkpoint
from trueface.models.inference import FrozenBackbone
from trueface.models.model_file import Checkpoint
from trueface.models.registry import clip_lengths
from trueface.prediction.reference import Reference
from trueface.runtime.errors import BadImageError, CheckpointError, JobError, UsageError
from trueface.runtime.files import Json
from trueface.runtime.image_files import open_image

Reason = Literal["size", "format", "orientation", "features"]
# the settings of a training that crop and decoding of a test depend on
OF_PREPARATION = ("resize_size", "patch_size", "test_crops", "decode")
# Reasons for which no class is returned. For other reasons (format, rotation) the answer is only less certain.
FAR: frozenset[Reason] = frozenset({"size", "features"})
FITTED_FACTOR = 2.5  # replaces `image_headers.FACTOR` if images are resized before the forward pass
UNCALIBRATED = Calibration()  # for older checkpoints: images are called fake above logit 0
NEEDED = "resize_size"  # required for the crop; older checkpoints may lack the other settings


class OutOfDistribution(NamedTuple):
    """A difference between an image and the training images."""

    reason: Reason
    text: str  # sentence for users


class FileHeader(NamedTuple):
    """The header of an image file. Fields are None if it cannot be read."""

    size: ImageSize | None
    form: Format | None
    is_turned: bool  # whether its EXIF orientation requires a rotation

    @classmethod
    def read(cls, path: Path) -> "FileHeader":
        """Read the header of a file."""
        try:
            with open_image(path) as image:
                return cls(
                    size=ImageSize(*image.size), form=format_of(image), is_turned=is_turned(image)
                )
        except Exception:  # noqa: BLE001  # parsers of broken headers raise whatever they trip over
            return cls(size=None, form=None, is_turned=False)


class TrainingFiles(NamedTuple):
    """The training files of a model. Fields are None if its checkpoint is older than this record."""

    sizes: LearnedSizes | None
    formats: LearnedFormats | None
    factor: float = FACTOR  # maximum ratio between the size of an image and those of the training

    @classmethod
    def read(cls, provenance: Mapping[str, Json]) -> "TrainingFiles":
        """Return the facts on the training files and their compression from a checkpoint's provenance."""
        formats = LearnedFormats.from_json(provenance.get("image_formats"))
        settings = provenance.get("settings")
        if formats is not None and isinstance(settings, Mapping):
            match settings.get("jpeg_prob"), settings.get("jpeg_qual"):
                case (float() | int() as share, [int(low), int(high)]) if share > 0:
                    formats = formats.with_jpeg(low, high)
            # with this setting, all images are compressed once more as JPEG
            if settings.get("sbi"):
                formats = formats.with_jpeg(LOWEST, HIGHEST)
            ridge = provenance.get("ridge")
            copies = ridge.get("copies") if isinstance(ridge, Mapping) else None
            for copy in copies if isinstance(copies, list) else ():
                formats = _with_copies(formats, str(copy))
        fitted = isinstance(settings, Mapping) and settings.get("decode") == "fitted"
        return cls(
            sizes=LearnedSizes.from_json(provenance.get("image_sizes")),
            formats=formats,
            factor=FITTED_FACTOR if fitted else FACTOR,
        )

    def find_ood_reasons(self, file: FileHeader) -> Iterator[OutOfDistribution]:
        """Yield the differences between a file and the training files."""
        if (
            self.sizes is not None
            and file.size is not None
            and self.sizes.is_unlike(file.size, self.factor)
        ):
            yield OutOfDistribution(
                "size",
                f"its shorter side has {file.size.shorter} pixels; training images have {self.sizes}",
            )
        if self.formats is not None and file.form is not None and self.formats.is_unlike(file.form):
            yield OutOfDistribution(
                "format", f"its format is {file.form}; training images have {self.formats}"
            )
        if file.is_turned:
            yield OutOfDistribution(
                "orientation",
                "it is stored rotated or mirrored, and the network gets it as stored",
            )


def _with_copies(formats: LearnedFormats, copy: str) -> LearnedFormats:
    for kind in COPY_KINDS.get(copy, ()):
        if kind.name == "jpeg":
            formats = formats.with_jpeg(round(kind.low), round(kind.high))
        elif kind.name == "webp":
            formats = formats.with_format("WEBP")
    return formats


def check_feature_distance(distance: float, limit: float) -> Iterator[OutOfDistribution]:
    """Yield a reason if the distance of the features exceeds the limit; see `FeatureDistance`."""
    if distance > limit:
        yield OutOfDistribution(
            "features",
            f"its feature distance to the training images is {distance:.3g}; 99 % of validation images have at most "
            f"{limit:.3g}",
        )


class Abstention(NamedTuple):
    """The rule that decides which images a detector answers.

    Attributes:
        rate: maximum error rate among the answers, in 0 … 1.
        distance: minimum distance of a logit from the threshold for an answer.
        coverage: fraction of validation images that get an answer, in 0 … 1.
        bound: upper bound of the error rate among these, at most `rate`.
        images: number of validation images.
    """

    rate: float
    distance: float
    coverage: float
    bound: float
    images: int

    def accepts_logit(self, logit: float, threshold: float) -> bool:
        """Return whether an image gets an answer."""
        return abs(logit - threshold) >= self.distance


class Prediction(NamedTuple):
    """The prediction for one image."""

    path: Path
    logit: float  # positive = fake
    calibration: Calibration = UNCALIBRATED
    sure: bool = True  # False if the model abstains
    # differences between the image and the training images
    unlike: tuple[OutOfDistribution, ...] = ()

    @property
    def probability(self) -> float:
        """The probability of fake, in 0 … 1, calibrated on validation if the checkpoint has a calibration."""
        return self.calibration.probability(self.logit)

    @property
    def is_far(self) -> bool:
        """Whether the image differs so much from the training images that no class is returned."""
        return any(each.reason in FAR for each in self.unlike)

    @property
    def verdict(self) -> str:
        """The class at validation's threshold (real if equal), or "unlike" or "unsure"."""
        if self.is_far:
            return "unlike"
        if not self.sure:
            return "unsure"
        return "fake" if self.logit > self.calibration.threshold else "real"


class _Batch(NamedTuple):
    """A batch of files that were read ahead: the decoded images, and the outcome for each file."""

    # a file that could not be read, or its path and reasons, in the order of the files
    outcomes: tuple[Missing | tuple[Path, tuple[OutOfDistribution, ...]], ...]
    pixels: Tensor | None


class Predictor:
    """A model that predicts image files.

    Args:
        model_checkpoint: checkpoint of the model.
        path: path of the checkpoint, for messages.
        device: device of the model.
        batch_size: number of images per forward pass.
        abstain: maximum error rate among the answers, in 0 … 1. None: the model answers for every
            image.

    Raises:
        CheckpointError: the checkpoint does not contain its image transform.
        UsageError: the model cannot abstain, or not at this rate, or scores clips.
    """

    def __init__(
        self,
        model_checkpoint: Checkpoint,
        path: Path,
        *,
        device: str = "cpu",
        batch_size: int = 16,
        abstain: float | None = None,
    ) -> None:
        self.settings = _settings(path, model_checkpoint.provenance, batch_size)
        self._preprocessing = Preprocessing.read(model_checkpoint.provenance)
        self._name = str(model_checkpoint.provenance.get("model") or path)
        self.calibrated = Calibration.read(model_checkpoint.provenance.get("calibration"))
        self.calibration = self.calibrated or UNCALIBRATED
        self.learnt = TrainingFiles.read(model_checkpoint.provenance)
        self._reference = Reference.read(model_checkpoint.reference)
        self.selection = None if abstain is None else self._select(path, abstain)
        model = checkpoint.from_checkpoint(model_checkpoint, path)
        if model.spec.frames is not None:
            raise UsageError(
                f"{self._name} scores clips {clip_lengths(model.spec)}, and predict scores single images. "
                "Choose a detector of images, or test clips with launcher run."
            )
        self.model = model.to(device)
        self._device = device
        constant = checkpoint.has_constant_body(model_checkpoint)
        self._body = FrozenBackbone(self.model, device=device, alike=False) if constant else None

    @classmethod
    def load(cls, path: Path, **options: object) -> "Predictor":
        """Return the predictor of a checkpoint file. The options are arguments of the class."""
        return cls(checkpoint.load(path), path, **options)  # type: ignore[arg-type]  # checked there

    @property
    def transform(self) -> TestTransform:
        """The transform from a decoded image to the input of the network."""
        return test_transform(self.settings).with_preprocessing(self._preprocessing)

    def predict_files(self, files: Iterable[Path]) -> Iterator[Prediction | Missing]:
        """Yield the prediction for each file in order, or the reason why there is none.

        Raises:
            JobError: a logit is not finite.
        """
        with closing(prefetch(lambda leave: self._batches(files, leave))) as batches:
            for batch, outputs in iter_outputs(batches, self._compute_batch, self._device):
                yield from self._predict_batch(batch, *outputs)

    def decode(self, file: Path) -> Tensor:
        """Return the pixels of a file, (3, H, W) uint8, with the decoder of the training.

        Raises:
            BadImageError: the file cannot be decoded.
        """
        return decode(
            file,
            scaling=Scaling.from_decode_setting(self.settings.decode, self.settings.resize_size),
        )

    def apply_test_transform(self, pixels: Tensor, file: Path) -> Tensor:
        """Return the network input of an image, (3, h, w), or (K, 3, h, w) for K crops."""
        image = Image(file=str(file), key=str(file), label=0, method="", modifier="none")
        return self.transform(pixels, image, 0)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits (B,) of the network inputs of B images."""
        return _require_finite(self._compute(inputs)[0].cpu())

    def _compute(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the logits (B,), and the features (B, F) of a frozen backbone, on the device."""
        with torch.inference_mode():
            if self._body is None:
                return (self.model(inputs.to(self._device)).float().squeeze(1),)
            features = self._body(inputs)
            return self.model.forward_head(features).float().squeeze(1), features.float()

    def _compute_batch(self, batch: _Batch, send: Send) -> tuple[Tensor, ...]:
        """Return the same for a batch, or () if it has no image."""
        return () if batch.pixels is None else self._compute(send(batch.pixels))

    def _predict_batch(
        self, batch: _Batch, outputs: Tensor | None = None, features: Tensor | None = None
    ) -> Iterator[Prediction | Missing]:
        logits = [] if outputs is None else _require_finite(outputs).double().tolist()
        logits_and_distances = iter(
            zip(logits, self._is_unlike_training(features, len(logits)), strict=True)
        )
        for outcome in batch.outcomes:
            if isinstance(outcome, Missing):
                yield outcome
                continue
            path, unlike = outcome
            logit, by_features = next(logits_and_distances)
            yield Prediction(
                path=path,
                logit=logit,
                calibration=self.calibration,
                sure=self._is_sure(logit),
                unlike=(*unlike, *by_features),
            )

    def _is_sure(self, logit: float) -> bool:
        return self.selection is None or self.selection.accepts_logit(
            logit, self.calibration.threshold
        )

    def _is_unlike_training(
        self, features: Tensor | None, count: int
    ) -> list[tuple[OutOfDistribution, ...]]:
        model = None if self._reference is None else self._reference.features
        if features is None or model is None or len(model.mean) != features.shape[1]:
            return [()] * count
        distances = model.distances(features.numpy())
        return [
            tuple(check_feature_distance(distance, model.limit)) for distance in distances.tolist()
        ]

    def _batches(self, files: Iterable[Path], leave: threading.Event) -> Iterator[_Batch]:
        rest, small, seen = iter(files), 0, 0
        own = self._preprocessing
        while chunk := tuple(islice(rest, self.settings.batch_size)):
            if leave.is_set():
                return
            outcomes: list[Missing | tuple[Path, tuple[OutOfDistribution, ...]]] = []
            pixels: list[Tensor] = []
            for file in chunk:
                try:
                    decoded = self.decode(file)
                    pixels.append(self.apply_test_transform(decoded, file))
                except BadImageError as error:
                    outcomes.append(Missing(path=error.path, reason=error.reason))
                else:
                    seen += 1
                    small += own is not None and own.pads(*decoded.shape[-2:])
                    outcomes.append(
                        (file, tuple(self.learnt.find_ood_reasons(FileHeader.read(file))))
                    )
            yield _Batch(tuple(outcomes), stack_images(pixels) if pixels else None)
        if own is not None and small:
            log_small_images(self._name, small, seen, own.crop)

    def validation_verdict(self) -> str:
        """Return the caveat of the validation's AUC, such as "chance"; "" if there is none, or no scores are stored."""
        if self._reference is None or len(self._reference.labels) == 0:
            return ""
        logits = self._reference.logits.astype(np.float64) - self.calibration.threshold
        keys = [str(number) for number in range(len(logits))]
        return evaluate_scores(self._reference.labels, logits, keys=keys, names={"auc"}).verdict

    def _select(self, path: Path, rate: float) -> Abstention:
        if self._reference is None:
            raise UsageError(
                f"--abstain: checkpoint {path} contains no validation scores. Train the model again."
            )
        labels, logits = self._reference.labels, self._reference.logits
        return select(labels, logits, threshold=self.calibration.threshold, rate=rate)


def _settings(weights: Path, provenance: Mapping[str, Json], batch_size: int) -> TestSettings:
    """Return the settings with which the model of a checkpoint was validated."""
    settings = provenance.get("settings")
    preprocessing = Preprocessing.read(provenance)
    if preprocessing is not None:  # nothing was validated
        settings = {NEEDED: preprocessing.crop}
    if not isinstance(settings, Mapping) or NEEDED not in settings:
        raise CheckpointError(
            f"checkpoint {weights} does not contain the settings of its images. Train the model again."
        )
    prepared: dict[str, Json] = {key: settings[key] for key in OF_PREPARATION if key in settings}
    try:
        return TestSettings.model_validate(
            {"data_root": ".", "split_path": ".", "batch_size": batch_size, **prepared}
        )
    except ValidationError as error:
        reason = error.errors()[0]
        raise CheckpointError(
            f"checkpoint {weights}: {'.'.join(map(str, reason['loc']))}: {reason['msg']}"
        ) from error


DELTA = 0.05  # probability over validation sets that the bound does not hold
COVERAGES = 10  # number of coverages that are tried: 10 %, 20 %, … of validation


def select(
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
    *,
    threshold: float,
    rate: float,
    delta: float = DELTA,
) -> Abstention:
    """Return the selection with the largest coverage whose error rate is at most `rate`.

    Args:
        labels: labels of the validation images, (N,), 1 = fake.
        logits: logits of the validation images, (N,), positive = fake.
        threshold: logit above which an image is called fake.
        rate: maximum error rate, in 0 … 1.
        delta: probability that the bound does not hold.

    Raises:
        UsageError: no coverage reaches this rate. The message contains the lowest possible rate.
    """
    distances = np.abs(np.asarray(logits, np.float64) - threshold)
    order = np.argsort(-distances, kind="stable")
    wrong = ((logits > threshold) != (labels == 1))[order]
    ranked, errors = distances[order], np.cumsum(wrong)
    total = len(ranked)
    if total == 0:
        raise UsageError(
            "--abstain: the checkpoint contains no validation scores. Train the model again."
        )
    share = delta / COVERAGES  # for each try (union bound)
    counts = [
        _count_with_ties(ranked, max(total * part // COVERAGES, 1))
        for part in range(1, COVERAGES + 1)
    ]
    bounds = {count: upper_bound(int(errors[count - 1]), count, share) for count in counts}
    best = max((count for count, bound in bounds.items() if bound <= rate), default=0)
    if best == 0:
        raise UsageError(_threshold_fault(rate, total, min(bounds.values()), share))
    return Abstention(
        rate=rate,
        distance=float(ranked[best - 1]),
        coverage=best / total,
        bound=bounds[best],
        images=total,
    )


def upper_bound(errors: int, count: int, delta: float) -> float:
    """Return the error rate above which at most `errors` errors in `count` have a probability below `delta`.

    Source: C. Clopper and E. Pearson, Biometrika 26(4), 1934.
    """
    from scipy.special import betaincinv  # slow to import, and rarely needed

    if errors >= count:
        return 1.0
    return float(betaincinv(errors + 1, count - errors, 1 - delta))


def _count_with_ties(distances: NDArray[np.float64], count: int) -> int:
    """Return `count`, increased so that images with equal distances are not separated."""
    return int(np.searchsorted(-distances, -distances[count - 1], side="right"))


def _threshold_fault(rate: float, total: int, least: float, share: float) -> str:
    enough = math.ceil(math.log(share) / math.log1p(-rate)) if 0 < rate < 1 else total
    return (
        f"--abstain {rate:g}: the {total} validation images cannot show an error rate of at most {100 * rate:.3g} % "
        f"with 95 % confidence. The lowest possible rate is {100 * least:.3g} %. Give a higher rate, or train with at "
        f"least {enough:,} validation images."
    )


def _require_finite(logits: Tensor) -> Tensor:
    """Return logits (B,), all of which must be numbers.

    Raises:
        JobError: a logit is not finite.
    """
    broken = int((~logits.isfinite()).sum())
    if broken:
        raise JobError(
            f"{broken} of {len(logits)} logits are not finite numbers. The model is broken. "
            "Train it again with a lower lr."
        )
    return logits
