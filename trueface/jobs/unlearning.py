"""The entry function of `unlearn`."""

import logging
from collections.abc import Mapping

from launcher.api import Job, JobError, Json, parse_model, write_json
from trueface import ancestry, checkpoint, keeping, layout, lists, logs, provenance, unlearning
from trueface import poison as poisoning
from trueface.jobs.setup import settled, watch_of
from trueface.layout import SCHEMA
from trueface.lists import model_name
from trueface.settings import UnlearningSettings, UnlearnSettings
from trueface.unlearn.method import Unlearned


def unlearn(job: Job) -> Mapping[str, Json]:
    """Make the job's model from its poisoned base; write it beside what it took."""
    settings = UnlearnSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _unlearn(settled(job), settings)


def _unlearn(job: Job, settings: UnlearningSettings) -> Mapping[str, Json]:
    folder, model_id = job.model_folder(model_name(job)), parse_model(model_name(job))
    if job.base is None or model_id.last.methods[-1:] != (settings.method,):
        raise JobError(f"{job.model} is not what {settings.method} makes of {job.base}")
    poisoned_by = layout.poison_record(job.model_folder(job.base))
    record = poisoning.read_record(poisoned_by)
    found = lists.of_training(job, settings)
    done = unlearning.unlearn(job, settings, found, record, watch_of(job, settings.precision))
    source = {
        **provenance.of_learning(job, settings, found, poisoned_by),
        **provenance.of_start(job, settings, job.base),
    }
    # for an unlearning of the unlearned model: what was wrong in the training stays the same
    poisoning.write_record(layout.poison_record(folder), record)
    written = ancestry.begin(folder, job.base, lists.lesson(job, settings, found))
    checkpoint.save_model(layout.checkpoint(folder), done.detector, source)
    write_json(layout.provenance(folder), {"schema": keeping.SCHEMA, **source})
    written()
    unlearning.write(folder, done)
    result = _numbers(done.unlearned)
    rows: list[Json] = [{"step": step.step, **step.metrics} for step in done.unlearned.log]
    write_json(layout.summary(folder), {"schema": SCHEMA, **result, "log": rows})
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
