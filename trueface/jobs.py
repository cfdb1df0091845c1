"""The entry functions of the kinds: from a job to files and numbers; glue and nothing else.

Each takes a `Job`, with or without a launcher behind it, and returns flat numbers for tables.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from launcher.api import Job, JobError, Json, Poison, parse_data, parse_model, write_json
from trueface import (
    ancestry,
    checkpoint,
    keeping,
    layout,
    lists,
    logs,
    memory,
    outcomes,
    provenance,
    resume,
    starts,
    unlearning,
)
from trueface import poison as poisoning
from trueface import train as training
from trueface.evaluate import evaluate
from trueface.features import (
    banks,
    is_constant,
)
from trueface.feeds import augmented, still
from trueface.index import Image
from trueface.lists import model_name
from trueface.poison import PoisonRecord
from trueface.poisonlist import read_list
from trueface.preview import write_preview
from trueface.results import SCHEMA
from trueface.sample import SampleSpec, make_sample
from trueface.scores import write_scores
from trueface.settings import (
    PoisonSettings,
    SampleSettings,
    TestSettings,
    TrainSettings,
    UnlearningSettings,
    UnlearnSettings,
)
from trueface.steps import Feed
from trueface.stopwatch import now
from trueface.watch import Watch


def train(job: Job) -> Mapping[str, Json]:
    """Train the job's model; see `train.train` for its files."""
    settings = TrainSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _train(_settled(job), settings)


def _train(job: Job, settings: TrainSettings) -> Mapping[str, Json]:
    folder = job.model_folder(model_name(job))
    found = lists.of_training(job, settings)
    record, poisoned_by = _record(job)
    learned = augmented(found.train, settings, record)
    checked = still(found.val, settings)
    origin = starts.origin(job, settings)
    state = starts.state_of(job, settings, origin)
    source = {
        **provenance.of_learning(job, settings, found, poisoned_by),
        **provenance.of_labels(learned.image_set, checked.image_set),
        **provenance.of_start(job, settings, origin, optimizer=state is not None),
    }
    further, lesson = origin == job.model, lists.lesson(job, settings, found)
    model = starts.start(job, settings, origin)
    feeds: tuple[Feed, Feed] = (learned, checked)
    if is_constant(settings):
        feeds = banks(model, learned, checked, settings, _watch(job, settings.precision))
    trained = training.train(
        model,
        *feeds,
        settings,
        folder=folder,
        provenance=source,
        watch=_watch(job),
        state=state,
        noted=partial(outcomes.list_bad_images, folder, learned, checked),
        begin=partial(ancestry.begin, folder, job.base, lesson, further=further),
    )
    if settings.features:
        outcomes.keep_features(
            folder, "train", model, still(found.train, settings), _watch(job, settings.precision)
        )
    result = {
        "images": len(found.train),
        "poisoned": 0 if record is None else len(record.keys),
        "bad_images": outcomes.count_bad_images(layout.bad_images(folder, "train")),
        **outcomes.of_training(trained),
    }
    write_json(layout.summary(folder), {"schema": SCHEMA, **result})
    layout.last_checkpoint(folder).unlink(missing_ok=True)
    resume.clear(layout.resume(folder))  # nothing is left to go on with
    return result


def preview(job: Job, choice: PoisonSettings | None) -> Mapping[str, Json]:
    """Write what the network would see of the training's images; train and poison nothing.

    Args:
        job: the training.
        choice: how labels would be chosen for its poison; None: as its record says.
    """
    settings = TrainSettings.model_validate(job.settings)
    found = lists.of_training(job, settings)
    wanted = parse_model(model_name(job)).last.poison
    record = _record(job)[0] if choice is None else None
    if choice is not None and wanted is not None:
        record = _chosen(job, choice, found.train, wanted)
    path = layout.preview(job.model_folder(model_name(job)))
    shown = write_preview(path, augmented(found.train, settings, record).image_set)
    return {"images": len(found.train), "shown": shown, "preview": str(path)}


def test(job: Job) -> Mapping[str, Json]:
    """Score the job's model on the test list of its data; write scores and metrics."""
    settings = TestSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _test(_settled(job), settings)


def _test(job: Job, settings: TestSettings) -> Mapping[str, Json]:
    folder, data = job.model_folder(model_name(job)), parse_data(job.data or "")
    images, split = lists.of_split(job, settings, data, "test")
    feed = still(images, settings)
    kept = checkpoint.load(layout.checkpoint(folder))
    checkpoint.refuse_other_decoding(kept, settings)
    model = checkpoint.revive(kept, layout.checkpoint(folder)).to(job.device)
    started = now()
    watch = _watch(job, settings.precision)
    answers = evaluate(model, feed(0), total=len(feed), watch=watch)
    seconds = now() - started
    bad = feed.image_set.bad.values()
    outcomes.write_bad_images(layout.bad_images(folder, str(data)), bad)
    result: dict[str, Json] = {
        **outcomes.of_test(answers),
        "bad_images": len(bad),
        "seconds": seconds,
    }
    if settings.save_scores:
        table = outcomes.scores_of(images, answers, job.path(settings.data_root))
        write_scores(layout.scores(folder, model_name(job), str(data)), table)
    if settings.trigger:
        stamped = still(images, settings, range(len(images)))
        said_then = evaluate(model, stamped(0), total=len(stamped), watch=watch)
        table = outcomes.scores_of(images, said_then, job.path(settings.data_root))
        write_scores(layout.triggered(folder, model_name(job), str(data)), table)
        result |= outcomes.of_attack(said_then)
    else:
        layout.triggered(folder, model_name(job), str(data)).unlink(missing_ok=True)
    if settings.features:
        outcomes.keep_features(folder, str(data), model, feed, watch)
    path = layout.metrics(folder, str(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    said: dict[str, Json] = {
        "split_sha256": split.sha256,
        "settings": settings.model_dump(mode="json"),
    }
    write_json(path, {"schema": SCHEMA, **said, **result})
    return result


def poison(job: Job) -> Mapping[str, Json]:
    """Choose whose training labels are turned round, and write it down."""
    settings = PoisonSettings.model_validate(job.settings)
    wanted = parse_model(model_name(job)).last.poison
    if wanted is None:
        raise JobError(f"{job.model} has no poison to choose: its ID has no '%'")
    images, _ = lists.of_split(job, settings, lists.images(job), "train")
    record = _chosen(job, settings, images, wanted)
    poisoning.write_record(layout.poison_record(job.model_folder(model_name(job))), record)
    fakes = sum(images[position].label for position in poisoning.positions(images, record))
    return {"images": len(images), "flipped": len(record.keys), "flipped_fake": fakes}


def unlearn(job: Job) -> Mapping[str, Json]:
    """Make the job's model from its poisoned base; write it beside what it took."""
    settings = UnlearnSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _unlearn(_settled(job), settings)


def _unlearn(job: Job, settings: UnlearningSettings) -> Mapping[str, Json]:
    folder, model_id = job.model_folder(model_name(job)), parse_model(model_name(job))
    if job.base is None or model_id.last.methods[-1:] != (settings.method,):
        raise JobError(f"{job.model} is not what {settings.method} makes of {job.base}")
    poisoned_by = layout.poison_record(job.model_folder(job.base))
    record = poisoning.read_record(poisoned_by)
    found = lists.of_training(job, settings)
    done = unlearning.unlearn(job, settings, found, record, _watch(job, settings.precision))
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
    result = outcomes.of_unlearning(done.unlearned)
    rows: list[Json] = [{"step": step.step, **step.metrics} for step in done.unlearned.log]
    write_json(layout.summary(folder), {"schema": SCHEMA, **result, "log": rows})
    return result


def sample(job: Job) -> Mapping[str, Json]:
    """Make the synthetic image set of the job's settings, on every core that we may use."""
    settings = SampleSettings.model_validate(job.settings)
    spec = SampleSpec(
        seed=settings.seed,
        size_px=settings.size,
        train=settings.train,
        val=settings.val,
        test=settings.test,
    )

    def progress(made: int, total: int) -> None:
        job.progress(step=made, total=total)
        if job.stop.is_set():
            raise JobError(f"stopped after {made} of {total} images; the next attempt begins anew")

    started = time.monotonic()
    made = make_sample(job.path(settings.data_root), spec, progress=progress)
    return {"images": made["images"], "seconds": time.monotonic() - started}


def _settled(job: Job) -> Job:
    """Take the job's cores, and no more of its card than its share; return the job that keeps to it."""
    torch.set_num_threads(job.cpus)
    return memory.hold(job, os.environ)


def _chosen(
    job: Job, settings: PoisonSettings, images: Sequence[Image], wanted: Poison
) -> PoisonRecord:
    """Choose whose labels are wrong."""
    listed = None
    if settings.poison_list:
        listed = read_list(job.path(settings.poison_list), images)
    return poisoning.choose(
        images, wanted, settings.poison_seed, per=settings.poison_per, listed=listed
    )


def _record(job: Job) -> tuple[PoisonRecord | None, Path | None]:
    """Return which labels of a training are wrong, and where that is written."""
    wanted = parse_model(model_name(job)).last.poison
    if wanted is None:
        return None, None
    path = layout.poison_record(job.model_folder(model_name(job)))
    record = poisoning.read_record(path)
    poisoning.refuse_other(record, wanted)
    return record, path


def _watch(job: Job, precision: str = "fp32") -> Watch:
    return Watch(device=job.device, precision=precision, progress=job.progress, stop=job.stop)
