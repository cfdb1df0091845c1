"""The entry function of `unlearn`."""

import logging
from collections.abc import Mapping

from launcher.api import Job, JobError, Json, parse_model, write_json
from trueface.jobs import job_data, model_origin
from trueface.jobs.job_data import model_name
from trueface.jobs.setup import settled, watch_of
from trueface.models import checkpoint
from trueface.poisoning import label_flips as poisoning
from trueface.runtime import logs, paths
from trueface.runtime.paths import SCHEMA
from trueface.training import checkpointing, lineage, provenance
from trueface.unlearning.api import Unlearned
from trueface.unlearning.settings import UnlearningSettings, UnlearnSettings
from trueface.unlearning.tasks import label_flip_run


def unlearn(job: Job) -> Mapping[str, Json]:
    """Make the job's model from its poisoned base; write it beside what it took."""
    settings = UnlearnSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _unlearn(settled(job), settings)


def _unlearn(job: Job, settings: UnlearningSettings) -> Mapping[str, Json]:
    folder, model_id = job.model_folder(model_name(job)), parse_model(model_name(job))
    if job.base is None or model_id.last.methods[-1:] != (settings.method,):
        raise JobError(f"{job.model} is not what {settings.method} makes of {job.base}")
    record_path = paths.poison_record(job.model_folder(job.base))
    record = poisoning.read_record(record_path)
    place, lists = job_data.place(job, settings), job_data.of_training(job, settings)
    start = model_origin.start_from(job, settings, job.base)
    done = label_flip_run.unlearn(job, settings, lists, record, watch_of(job, settings.precision))
    source = {
        **provenance.of_learning(model_origin.run(job), settings, place, lists, record_path),
        **provenance.of_start(start, settings),
    }
    # for an unlearning of the unlearned model: what was wrong in the training stays the same
    poisoning.write_record(paths.poison_record(folder), record)
    written = lineage.begin(folder, job.base, job_data.lesson(job, settings, lists, unlearns=True))
    checkpoint.save_model(paths.checkpoint(folder), done.detector, source)
    write_json(paths.provenance(folder), {"schema": checkpointing.SCHEMA, **source})
    written()
    label_flip_run.write(folder, done)
    result = _numbers(done.unlearned)
    rows: list[Json] = [{"step": step.step, **step.metrics} for step in done.unlearned.log]
    write_json(paths.summary(folder), {"schema": SCHEMA, **result, "log": rows})
    return result


def _numbers(done: Unlearned) -> dict[str, Json]:
    """Return what an unlearning changed."""
    before, after = done.log[0].metrics, done.log[-1].metrics
    return {
        "steps": len(done.log) - 2,
        "seconds": done.seconds,
        "samples_read": done.samples_read,
        **{f"{name}_before": value for name, value in before.items()},
        **after,
    }
