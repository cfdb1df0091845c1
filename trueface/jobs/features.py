"""The entry function of `features`."""

import logging
from collections.abc import Mapping
from functools import partial
from itertools import chain, repeat
from typing import Any

from launcher.api import Job, JobError, Json, parse_data
from trueface.corruptions.chain import Chain
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.features.matrix import bytes_of
from trueface.features.store import open_store
from trueface.jobs import job_data, setup
from trueface.jobs.feature_settings import FeaturePart, FeatureSettings
from trueface.jobs.setup import entry, run_context
from trueface.models import checkpoint
from trueface.models.detectors import Detector
from trueface.models.inference import FrozenBackbone
from trueface.runtime import paths
from trueface.runtime.artifact import StoppedError
from trueface.runtime.progress import RunContext
from trueface.training.checkpointing import init_model
from trueface.training.settings import TrainSettings

log = logging.getLogger(__name__)


@entry(FeatureSettings)
def features(job: Job, settings: FeatureSettings) -> Mapping[str, Json]:
    """Compute features that later jobs need, and leave them in the feature store.

    Raises:
        JobError: stopped.
        DataError: not one image of a list could be read, or a list names images that are not there.
        CheckpointError: the model whose body it is cannot be read.
        WeightsError: pretrained weights cannot be had.
    """
    store = open_store(settings.cache)
    if store is None:  # the log says why; the jobs that need features compute them
        return {"views": 0, "images": 0, "computed": 0}
    watch = run_context(job, settings.precision)
    body = FrozenBackbone(_body(job, settings), device=watch.device, precision=watch.precision)
    views = [*chain.from_iterable(_augmented_views(job, settings, part) for part in settings.parts)]
    total = sum(len(feed) for feed, _ in views)
    room, done, images, computed = store.limit_bytes, 0, 0, 0
    for feed, view in views:
        size = bytes_of(len(feed), body.width)
        if size > room or not store.is_writable:
            continue
        room -= size
        progress = partial(_report, watch, images, total)
        try:
            matrix = store.matrix(body, feed, view, watch=watch, progress=progress)
        except StoppedError as error:
            raise JobError(f"stopped: {error}") from error
        done, images = done + 1, images + len(feed)
        computed += matrix.cost.computed
        watch.progress(step=images, total=total)
    if done < len(views):
        reason = f"the feature store of {store.limit_bytes} bytes or its disk is full"
        log.warning("views=%d of=%d reason=%s", done, len(views), reason)
    return {"views": done, "images": images, "computed": computed}


def _report(watch: RunContext, stored_count: int, total: int, count: int, _total: int) -> None:
    watch.progress(step=stored_count + count, total=total)


def _body(job: Job, settings: FeatureSettings) -> Detector:
    """Return the network whose body the images pass: of a model, or of new weights."""
    if job.base is not None:
        path = paths.checkpoint(job.model_folder(job.base))
        kept = checkpoint.load(path)
        checkpoint.refuse_other_decoding(kept, settings)
        return checkpoint.from_checkpoint(kept, path).to(job.device)
    training = _training(settings)
    return init_model(setup.make_start(job, training, None), training, job.device)


def _augmented_views(
    job: Job, settings: FeatureSettings, part: FeaturePart
) -> list[tuple[ImageLoader, int]]:
    """Return the images of a part, once with the number of each of its views."""
    location = job_data.data_location(job, settings)
    images, _ = job_data.load_split_images(job, settings, parse_data(part.images), part.split_list)
    log.info("list=%s images=%d data_root=%s", part.split_list, len(images), location.data_root)
    training = _training(settings, part.augmentation)
    if part.augmentation:
        feed = train_loader(images, training)
    else:
        feed = eval_loader(images, training, corruptions=Chain.parse(part.corrupt))
    period = feed.dataset.transform.id.period
    return [*zip(repeat(feed), range(min(part.views, period or part.views)))]


def _training(
    settings: FeatureSettings, augmentation: Mapping[str, Any] | None = None
) -> TrainSettings:
    """Return the settings of a training that has these features."""
    names = FeatureSettings.model_fields.keys() & TrainSettings.model_fields.keys()
    values = {name: getattr(settings, name) for name in names}
    return TrainSettings.model_validate({**values, **(augmentation or {})})
