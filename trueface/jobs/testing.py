"""The entry function of `test`."""

import logging
from collections.abc import Mapping

from launcher.api import Job, Json, parse_data, write_json
from trueface.data.loaders import still
from trueface.data.settings import TestSettings
from trueface.evaluation.inference import evaluate_images
from trueface.evaluation.operating_threshold import Calibration
from trueface.evaluation.score_tables import write_scores
from trueface.features.store import open_store
from trueface.jobs import job_data, outputs
from trueface.jobs.job_data import model_name
from trueface.jobs.setup import settled, watch_of
from trueface.models import checkpoint
from trueface.runtime import logs, paths
from trueface.runtime.paths import SCHEMA
from trueface.runtime.timer import now


def test(job: Job) -> Mapping[str, Json]:
    """Score the job's model on the test list of its data; write scores and metrics."""
    settings = TestSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _test(settled(job), settings)


def _test(job: Job, settings: TestSettings) -> Mapping[str, Json]:
    folder, data = job.model_folder(model_name(job)), parse_data(job.data or "")
    images, split = job_data.of_split(job, settings, data, "test")
    feed = still(images, settings)
    kept = checkpoint.load(paths.checkpoint(folder))
    checkpoint.refuse_other_decoding(kept, settings)
    model = checkpoint.revive(kept, paths.checkpoint(folder)).to(job.device)
    started = now()
    watch = watch_of(job, settings.precision)
    constant = checkpoint.has_constant_body(kept)
    store = open_store(settings.cache) if constant else None
    answers = evaluate_images(model, feed, watch, constant=constant, store=store)
    seconds = now() - started
    bad = feed.image_set.bad.values()
    outputs.write_bad_images(paths.bad_images(folder, str(data)), bad)
    result: dict[str, Json] = {
        **outputs.of_test(answers, Calibration.read(kept.provenance.get("calibration"))),
        "bad_images": len(bad),
        "seconds": seconds,
    }
    if settings.save_scores:
        table = outputs.scores_of(images, answers, job.path(settings.data_root))
        write_scores(paths.scores(folder, model_name(job), str(data)), table)
    if settings.trigger:
        stamped = still(images, settings, range(len(images)))
        triggered = evaluate_images(model, stamped, watch, constant=constant, store=store)
        table = outputs.scores_of(images, triggered, job.path(settings.data_root))
        write_scores(paths.triggered(folder, model_name(job), str(data)), table)
        result |= outputs.of_attack(triggered)
    else:
        paths.triggered(folder, model_name(job), str(data)).unlink(missing_ok=True)
    if settings.features:
        outputs.keep_features(folder, str(data), model, feed, watch, store)
    path = paths.metrics(folder, str(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, Json] = {
        "calibration": kept.provenance.get("calibration"),
        "split_sha256": split.sha256,
        "settings": settings.model_dump(mode="json"),
    }
    write_json(path, {"schema": SCHEMA, **inputs, **result})
    return result
