"""The entry function of `test`, and how it scores images: network, attacks, scored images, reported results."""

import copy
import io
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from launcher.api import Job, JobError, Json, parse_data, tested, write_atomic
from trueface.attacks.perturb import Target
from trueface.attacks.registry import Attack, parse_attack
from trueface.corruptions.chain import Chain
from trueface.corruptions.pillow import to_image
from trueface.corruptions.registry import NONE
from trueface.data.attributes import Attributes, attribute_files, paths_below
from trueface.data.clips import Clips
from trueface.data.dataset_file import video_sources
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.data.loading.preprocessing import Preprocessing, warn_of_small_images
from trueface.data.settings import PREPROCESSING, ScoringSettings, TestSettings
from trueface.evaluation.curves import area, curve, sort_for_roc
from trueface.evaluation.inference import (
    AttackResult,
    Keep,
    attack_images,
    evaluate_images,
    outcome,
    select_per_class,
)
from trueface.evaluation.operating_threshold import Calibration
from trueface.features.bank import keep_features
from trueface.features.store import FeatureStore, open_store
from trueface.jobs import job_data
from trueface.jobs.job_data import checkpoint_of, model_name
from trueface.jobs.landmark_parts import pixel_part
from trueface.jobs.setup import entry, run_context, write_bad_images, write_record
from trueface.models import checkpoint
from trueface.models.detectors import Detector, accept_clips, memory_format
from trueface.models.head import compute_in_full_precision
from trueface.models.inference import FrozenBackbone, fuse_conv_bn
from trueface.models.registry import LANDMARKS, needs_pixels
from trueface.predictions.cross_entropy import mean_cross_entropy
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.precision import autocast
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now
from trueface.training import provenance

NOT_DIFFERENTIABLE = "not differentiable"
SWAPPED = (
    3.0  # standard errors below an AUC of 0.5, from which on the classes are taken for swapped
)
COMPRESSION = 1  # level of PNG, 0 to 9: beyond it files take longer and get little smaller
log = logging.getLogger(__name__)


class RoundsGradients(Protocol):
    """A network whose input is rounded to 8 bits."""

    rounds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringModel:
    """A model that predicts as in its tests."""

    model: Detector  # on the device
    watch: RunContext
    constant: bool  # see `evaluate_images`, as for the store
    store: FeatureStore | None
    provenance: Mapping[str, Json] = field(default_factory=dict)  # provenance of its checkpoint

    @classmethod
    def from_job_settings(
        cls,
        job: Job,
        settings: ScoringSettings,
        *,
        use_store: bool = True,
        clips: Clips | None = None,
    ) -> "ScoringModel":
        """Return the model that a job scores, on its device.

        Args:
            job: that names the model.
            settings: of the job.
            use_store: features may come from the feature store.
            clips: of the images. None: single images.

        Raises:
            JobError: the model does not take such clips.
            CheckpointError: it cannot be read, or learned from images that were decoded otherwise.
        """
        path = checkpoint_of(job, model_name(job))
        kept = checkpoint.load(path)
        checkpoint.refuse_other_decoding(kept, settings)
        # the features of frames are not those of a clip
        constant = clips is None and checkpoint.has_constant_body(kept)
        model = checkpoint.from_checkpoint(kept, path).to(job.device)
        accept_clips(model, clips)
        if settings.precision != "fp32" and model.has_head:
            compute_in_full_precision(model.head)
        return cls(
            model=model,
            watch=run_context(job, settings.precision),
            constant=constant,
            store=open_store(settings.cache) if constant and use_store else None,
            provenance=kept.provenance,
        )

    @property
    def calibration(self) -> Calibration | None:
        """Its operating point from validation, or None: images above probability 0.5 are fake."""
        return Calibration.read(self.provenance.get("calibration"))

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing of a published model, or None if the settings of the test decide."""
        return Preprocessing.read(self.provenance)

    def warn_of_small_images(self, name: str, images: Sequence[Image]) -> None:
        """Log how many images are smaller than the crop of a published model of pixels."""
        if not self.reads_landmarks:
            warn_of_small_images(name, self.preprocessing, images)

    @property
    def reads_landmarks(self) -> bool:
        """Whether the model reads landmarks in place of pixels."""
        return self.model.spec.inputs == LANDMARKS

    @property
    def is_published(self) -> bool:
        """Whether others published the model, so that its training images are not known."""
        return self.preprocessing is not None

    @property
    def threshold(self) -> float:
        """The decision threshold: an image with a higher logit is classified as fake."""
        calibration = self.calibration
        return 0.0 if calibration is None else calibration.threshold

    def feed(
        self, images: Sequence[Image], settings: TestSettings, triggered_rows: Collection[int] = ()
    ) -> ImageLoader:
        """Return a loader of the pixels or landmarks of some images, whichever the model reads.

        Args:
            images: to score.
            settings: of the test.
            triggered_rows: see `eval_loader`.

        Raises:
            JobError: the settings change pixels, and the model reads landmarks.
        """
        if self.reads_landmarks and (part := pixel_part(settings.model_dump())):
            raise JobError(needs_pixels(part, self.model.spec.name))
        return eval_loader(
            images,
            settings,
            triggered_rows,
            preprocessing=self.preprocessing,
            of_landmarks=self.reads_landmarks,
        )

    def predict_images(self, feed: ImageLoader) -> Predictions:
        """Return the model's predictions for every image of a feed."""
        return evaluate_images(
            self.model, feed, self.watch, has_constant_body=self.constant, store=self.store
        )

    def attack(
        self,
        feed: ImageLoader,
        clean: Predictions,
        attack: Attack,
        target: Detector,
        *,
        save_chain: Chain,
        queries: int,
        keep: Keep | None = None,
    ) -> AttackResult:
        """Return what an attack, computed with `target`, does to the images of a feed; see `attack_images`.

        Args:
            feed: of the images.
            clean: the model's predictions for them.
            attack: kind and budget.
            target: the network that the attack queries.
            save_chain: what happens to images when they are saved after the attack.
            queries: of each image, for attacks by scores.
            keep: called with each image as it was scored, or None.
        """
        model, watch = self.model, self.watch
        body = None
        if self.constant:
            body = FrozenBackbone(model, device=watch.device, precision=watch.precision)

        def score(pixels: Tensor) -> Tensor:  # as tests do
            with torch.no_grad(), autocast(watch.device, watch.precision):
                if body is not None:
                    logits = model.forward_head(body(pixels))
                else:
                    logits = model(pixels.to(watch.device))
            return logits.float().squeeze(1).cpu()

        return attack_images(
            feed,
            clean,
            attack,
            score=score,
            target=Target(target, watch.device, self.threshold),
            watch=watch,
            threshold=self.threshold,
            save_chain=save_chain,
            queries=queries,
            keep=keep,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTest:
    """Results of a test."""

    images: tuple[Image, ...]  # the scored ones
    feed: ImageLoader  # loader of these images
    predictions: Predictions | None  # for these images; None if the attack cannot be done
    record: Mapping[str, Json]  # record of the attack


def attacked_test(
    job: Job,
    settings: TestSettings,
    attack: Attack,
    images: Sequence[Image],
    network: ScoringModel,
    keep: Keep | None,
) -> ScoredTest:
    """Attack a model on some of the images of a test, and again with random signs alone.

    Args:
        job: names the folder of the surrogate.
        settings: of the test.
        attack: of the settings.
        images: of the test. The settings say how many of each class are drawn.
        network: the model.
        keep: called with each image as it was scored, or None.

    Raises:
        JobError: stopped.
        CheckpointError: the surrogate cannot be read.
    """
    chosen = select_per_class(images, settings.attack_images)
    feed = network.feed(chosen, settings)
    surrogate = surrogate_of(job, settings.surrogate, settings.clips)
    target, saved = surrogate or network.model, Chain.parse(settings.attack_save)
    record = _describe_attack(settings, attack, saved)
    if attack.spec.needs_gradient and not is_differentiable(target):
        which = settings.surrogate if surrogate else "the model"
        reason = f"{NOT_DIFFERENTIABLE}: {which} is {target.spec.name}"
        return ScoredTest(
            images=chosen, feed=feed, predictions=None, record={"attack": record, "reason": reason}
        )
    record["threshold"] = {
        "logit": network.threshold,
        "from": "validation" if network.calibration else "probability 0.5",
    }
    clean = network.predict_images(feed)
    attacked = partial(
        network.attack,
        feed,
        clean,
        target=fast_gradient_copy(target),
        save_chain=saved,
        queries=settings.queries,
    )
    result = attacked(attack, keep=keep)
    control = {"name": attack.control.name, **outcome(clean, attacked(attack.control))}
    record |= {**outcome(clean, result), "control": control}
    return ScoredTest(
        images=chosen,
        feed=feed,
        predictions=result.predictions,
        record={"attack": record, **success_rates(record)},
    )


def fast_gradient_copy(model: Detector) -> Detector:
    """Return a copy that computes gradients in two thirds of the time: its batch norms folded, no layer learns.

    It differs by rounding. Reported scores are those of the model itself.
    """
    twin = copy.deepcopy(model)
    spec = twin.spec
    network = fuse_conv_bn(twin.network, spec.head, side=spec.probe_side, frames=spec.frames)
    twin.network = network.to(memory_format=memory_format(twin.spec, twin.channels_last))
    return twin.eval().requires_grad_(requires_grad=False)


def is_differentiable(model: Detector) -> bool:
    """Return whether the gradient of a model's logit reaches the pixels."""
    return model.spec.differentiable


def success_rates(record: Mapping[str, Json]) -> dict[str, Json]:
    """Return the success of an attack and of its control as flat numbers for tables; {} without any."""
    flat: dict[str, Json] = {}
    for suffix, part in (("", record), ("_control", record.get("control"))):
        for goal in ("evasion", "defamation"):
            facts = part.get(goal) if isinstance(part, Mapping) else None
            success = facts.get("success") if isinstance(facts, Mapping) else None
            if isinstance(success, Mapping):
                flat[f"{goal}{suffix}"] = success["value"]
    return flat


def _describe_attack(settings: TestSettings, attack: Attack, save_chain: Chain) -> dict[str, Json]:
    return {
        "name": attack.name,
        "budget": attack.budget,
        "access": attack.spec.access,
        **({"saved": save_chain.json_record} if save_chain else {}),
        **({"surrogate": settings.surrogate} if settings.surrogate else {}),
    }


def surrogate_of(job: Job, name: str, clips: Clips | None) -> Detector | None:
    """Return the model with which transfer attacks compute, on the device; None where none is named."""
    if not name:
        return None
    return accept_clips(checkpoint.load_detector(checkpoint_of(job, name)), clips).to(job.device)


@dataclass(frozen=True, slots=True)
class ImageWriter:
    """Writes images to the same relative paths below `root` as below `data_root`."""

    root: Path
    data_root: Path

    def __call__(self, image: Image, pixels: Tensor) -> None:
        """Write an image, (3, H, W) uint8, atomically."""
        path = self.root / image.path.relative_to(self.data_root).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        to_image(pixels).save(file, "PNG", compress_level=COMPRESSION)
        write_atomic(path, file.getvalue())


def write_images(feed: ImageLoader, write: ImageWriter, watch: RunContext) -> None:
    """Write every image of a feed as a network sees it; of several crops none.

    Raises:
        JobError: stopped.
    """
    images, done = feed.dataset.images, 0
    for batch in feed(0):
        watch.raise_if_stopped_midway(done, len(images))
        done += len(batch.indices)
        for position, pixels in zip(batch.indices.tolist(), batch.inputs, strict=True):
            write(images[position], pixels)


def numbers_of_test(
    predictions: Predictions, calibration: Calibration | None = None
) -> dict[str, Json]:
    """Return what one test alone can say; measures of both classes need tests merged."""
    fake = predictions.labels == 1
    beyond = None if calibration is None else predictions.margin > calibration.threshold
    return {
        "n": len(predictions),
        "fake": int(fake.sum()),
        "accuracy": float(np.mean((predictions.margin > 0) == fake)),
        "called_fake": float(np.mean(predictions.margin > 0)),
        "accuracy_at_threshold": None if beyond is None else float(np.mean(beyond == fake)),
        "called_fake_at_threshold": None if beyond is None else float(np.mean(beyond)),
        "mean_logit": float(predictions.margin.mean()),
        "loss": mean_cross_entropy(fake, predictions.margin),
    }


def numbers_of_attack(predictions: Predictions) -> dict[str, Json]:
    """Return the effect of a backdoor: predictions for images that carry its patch.

    `attack_success` is the fraction of fakes then classified as real, or None if there is no fake.
    """
    fake = predictions.labels == 1
    called_real = predictions.margin <= 0
    return {
        "attack_success": float(called_real[fake].mean()) if fake.any() else None,
        "triggered_called_fake": float(1 - called_real.mean()),
    }


def scores_of(images: Sequence[Image], predictions: Predictions, data_root: Path) -> Predictions:
    """Return the predictions for images as a score table, with their paths below the data root.

    Raises:
        DataError: the data root's list of sources with videos cannot be read.
    """
    scored = [images[position] for position in predictions.positions]
    names = tuple(image.path.relative_to(data_root).as_posix() for image in scored)
    sources = video_sources(data_root)
    videos = tuple(
        path.rpartition("/")[0] if image.method in sources else ""
        for path, image in zip(names, scored, strict=True)
    )
    return replace(
        predictions,
        ids=names,
        keys=tuple(image.key for image in scored),
        videos=videos if any(videos) else (),
    )


@entry(TestSettings)
def test(job: Job, settings: TestSettings) -> Mapping[str, Json]:
    """Score the job's model on the test list of its data; write scores and metrics."""
    folder, data = job.model_folder(model_name(job)), parse_data(job.data or "")
    values = settings.model_dump(mode="json")
    name = tested(str(data), settings.condition(values))
    images, split = job_data.load_split_images(job, settings, data, "test", settings.clips)
    groups = _checked_attributes(job, settings, images)
    started = now()
    network = ScoringModel.from_job_settings(
        job, settings, use_store=settings.round_gradients, clips=settings.clips
    )
    if not settings.round_gradients and network.model.spec.rounds_gradients:
        cast(RoundsGradients, network.model.network).rounds = False
    network.warn_of_small_images(model_name(job), images)
    done = _score_test(job, settings, images, network, paths.saved_images(folder, name))
    bad = done.feed.dataset.bad.values()
    write_bad_images(paths.bad_images(folder, name), bad)
    result: dict[str, Json] = {
        **(
            {}
            if done.predictions is None
            else numbers_of_test(done.predictions, network.calibration)
        ),
        **done.record,
        "bad_images": len(bad),
        "seconds": now() - started,
    }
    scores = paths.scores(folder, model_name(job), name)
    if done.predictions is not None:
        _warn_of_swapped_classes(model_name(job), network, done.predictions)
    if settings.save_scores and done.predictions is not None:
        table = scores_of(done.images, done.predictions, job.path(settings.data_root))
        write_csv(scores, table)
    elif done.predictions is None:  # those of an earlier test would be taken for this one's
        scores.unlink(missing_ok=True)
    result |= _score_triggered(
        job, settings, images, network, paths.triggered_scores(folder, model_name(job), name)
    )
    if settings.features:
        keep_features(folder, name, network.model, done.feed, network.watch, network.store)
    path = paths.metrics(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, Json] = {
        "calibration": network.provenance.get("calibration"),
        "split_sha256": split.sha256,
        "settings": values,
        **groups,
    }
    if network.preprocessing is not None:
        inputs[PREPROCESSING] = network.preprocessing.json_record
    if settings.corrupt != NONE:
        inputs["corruptions"] = Chain.parse(settings.corrupt).json_record
    write_record(path, {**inputs, **result})
    return result


def _warn_of_swapped_classes(model: str, network: ScoringModel, predictions: Predictions) -> None:
    """Warn if a published model ranks real images above fakes: its file does not show the order of classes."""
    fake = predictions.labels == 1
    fakes, reals = int(fake.sum()), int((~fake).sum())
    if not network.is_published or not fakes or not reals:
        return
    (auc,) = area(curve(sort_for_roc(fake, predictions.margin), np.ones((1, len(predictions)))))
    # standard error of the AUC of a random ranking
    error = ((fakes + reals + 1) / (12 * fakes * reals)) ** 0.5
    if auc < 0.5 - SWAPPED * error:
        log.warning(
            "model=%s auc=%.3f state=far below chance advice=the order of the classes may be wrong. Exchange "
            "`classes` of its checkpoint, or check its preprocessing.",
            model,
            auc,
        )


def _score_test(
    job: Job, settings: TestSettings, images: tuple[Image, ...], network: ScoringModel, root: Path
) -> ScoredTest:
    """Return the predictions for the images of a test, attacked if the settings say so.

    Args:
        job: of the test.
        settings: of the test.
        images: of the test.
        network: the scored model.
        root: folder to which the scored images are written on request.
    """
    write = ImageWriter(root, job.path(settings.data_root)) if settings.save_images else None
    attack = parse_attack(settings.attack)
    if attack is not None:
        return attacked_test(job, settings, attack, images, network, write)
    feed = network.feed(images, settings)
    predictions = network.predict_images(feed)
    if write is not None:
        write_images(feed, write, network.watch)
    return ScoredTest(images=images, feed=feed, predictions=predictions, record={})


def _score_triggered(
    job: Job, settings: TestSettings, images: tuple[Image, ...], network: ScoringModel, path: Path
) -> Mapping[str, Json]:
    """Score the images with the backdoor's patch, where the settings say so."""
    if not settings.trigger:
        path.unlink(missing_ok=True)
        return {}
    stamped = range(len(images))
    feed = network.feed(images, settings, stamped)
    predictions = network.predict_images(feed)
    write_csv(path, scores_of(images, predictions, job.path(settings.data_root)))
    return numbers_of_attack(predictions)


def _checked_attributes(
    job: Job, settings: TestSettings, images: Sequence[Image]
) -> dict[str, Json]:
    """Read the attributes of a test's images, and return the facts that its record contains.

    No score depends on them. Faults are reported before images are scored.

    Raises:
        DataError: a table has a fault, or images have no row, unless such images are to be skipped.
    """
    root, files = job.path(settings.data_root), attribute_files(settings.attributes, job.path)
    if not files:
        return {}
    Attributes(files, root).check(paths_below(images, root), missing=settings.missing_attributes)
    return provenance.attributes_provenance(files)
