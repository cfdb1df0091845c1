"""The entry functions of the kinds: from a job to files and numbers; glue and nothing else.

Each takes a `Job`, with or without a launcher behind it, and returns flat numbers for tables.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from launcher.api import (
    DataId,
    Job,
    JobError,
    Json,
    parse_data,
    parse_model,
    write_json,
)
from trueface import ancestry, checkpoint, layout, memory, starts
from trueface import poison as poisoning
from trueface import train as training
from trueface.data import Batch
from trueface.evaluate import Answers, Watch, evaluate
from trueface.feeds import augmented, still
from trueface.index import Image
from trueface.poison import PoisonRecord
from trueface.results import SCHEMA
from trueface.sample import SampleSpec, make_sample
from trueface.scores import Scores, write_scores
from trueface.settings import (
    LearningSettings,
    PoisonSettings,
    SampleSettings,
    TestSettings,
    TrainSettings,
    UnlearnSettings,
)
from trueface.splits import Split, load_split, split_images
from trueface.subsets import BUILT_IN, Vocabulary
from trueface.train import Trained
from trueface.unlearn.method import Examples, Request, Unlearned
from trueface.unlearn.method import unlearn as apply_method


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The images of a training, and the lists that chose them."""

    train: tuple[Image, ...]
    val: tuple[Image, ...]
    splits: tuple[Split, ...]


def train(job: Job) -> Mapping[str, Json]:
    """Train the job's model; see `train.train` for its files."""
    settings = TrainSettings.model_validate(job.settings)
    job = _settled(job)
    folder = job.model_folder(_name(job))
    lists = _lists(job, settings)
    wanted, record, poisoned_by = parse_model(_name(job)).last.poison, None, None
    if wanted is not None:
        poisoned_by = layout.poison_record(folder)
        record = poisoning.read_record(poisoned_by)
        poisoning.refuse_other(record, wanted)
    learned = augmented(lists.train, settings, record)
    origin = starts.origin(job, settings)
    model, state = starts.start(job, settings, origin), starts.state_of(job, settings, origin)
    further, lesson = origin == job.model, _lesson(job, settings, lists)
    written = (
        ancestry.begin(folder, job.base, lesson, further=further)
        if settings.save_weights
        else lambda: None
    )
    trained = training.train(
        model,
        learned,
        still(lists.val, settings),
        settings,
        folder=folder,
        provenance={
            **_provenance(job, settings, lists, poisoned_by),
            "started_from": origin,
            "optimizer_state": settings.optimizer_state,
        },
        watch=_watch(job),
        state=state,
        written=written,
    )
    result = {
        "images": len(lists.train),
        "poisoned": 0 if record is None else len(record.keys),
        "bad_images": len(learned.image_set.bad),
        **_trained_numbers(trained),
    }
    write_json(layout.summary(folder), {"schema": SCHEMA, **result})
    return result


def test(job: Job) -> Mapping[str, Json]:
    """Score the job's model on the test list of its data; write scores and metrics."""
    settings = TestSettings.model_validate(job.settings)
    job = _settled(job)
    folder, data_root = job.model_folder(_name(job)), job.path(settings.data_root)
    split = load_split(job.path(settings.split_path), "test")
    data = parse_data(job.data or "")
    feed = still(split_images(data_root, data, split, _vocabulary(job)), settings)
    model = checkpoint.restore(layout.checkpoint(folder)).to(job.device)
    started = time.monotonic()
    answers = evaluate(model, feed(0), total=len(feed), watch=_watch(job))
    seconds = time.monotonic() - started
    result = {**_test_numbers(answers), "bad_images": len(feed.image_set.bad), "seconds": seconds}
    if settings.save_scores:
        table = _scores(feed.image_set.images, answers, data_root)
        write_scores(layout.scores(folder, _name(job), str(data)), table)
    path = layout.metrics(folder, str(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"schema": SCHEMA, "split_sha256": split.sha256, **result})
    return result


def poison(job: Job) -> Mapping[str, Json]:
    """Choose whose training labels are turned round, and write it down."""
    settings = PoisonSettings.model_validate(job.settings)
    wanted = parse_model(_name(job)).last.poison
    if wanted is None:
        raise JobError(f"{job.model} has no poison to choose: its ID has no '%'")
    split = load_split(job.path(settings.split_path), "train")
    data_root = job.path(settings.data_root)
    images = split_images(data_root, _images(job), split, _vocabulary(job))
    record = poisoning.choose(
        images, wanted, settings.poison_seed, stratified=settings.poison_stratified
    )
    poisoning.write_record(layout.poison_record(job.model_folder(_name(job))), record)
    fakes = sum(images[position].label for position in poisoning.positions(images, record))
    return {"images": len(images), "flipped": len(record.keys), "flipped_fake": fakes}


def unlearn(job: Job) -> Mapping[str, Json]:
    """Make the job's model from its poisoned base; write it beside what it took."""
    settings = UnlearnSettings.model_validate(job.settings)
    job = _settled(job)
    folder, model_id = job.model_folder(_name(job)), parse_model(_name(job))
    if job.base is None or model_id.last.methods[-1:] != (settings.method,):
        raise JobError(f"{job.model} is not what {settings.method} makes of {job.base}")
    poisoned_by = layout.poison_record(job.model_folder(job.base))
    record = poisoning.read_record(poisoned_by)
    lists = _lists(job, settings)
    request = _request(job, settings, lists, record)
    done = apply_method(settings.method, request)
    provenance = _provenance(job, settings, lists, poisoned_by)
    # for an unlearning of the unlearned model: what was wrong in the training stays the same
    poisoning.write_record(layout.poison_record(folder), record)
    written = ancestry.begin(folder, job.base, _lesson(job, settings, lists))
    checkpoint.save_model(layout.checkpoint(folder), done.model, provenance)
    written()
    result = _unlearned_numbers(done)
    rows: list[Json] = [{"step": step.step, **step.metrics} for step in done.log]
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


def _request(job: Job, settings: UnlearnSettings, lists: Lists, record: PoisonRecord) -> Request:
    learned = augmented(lists.train, settings, record)
    tested = still(lists.train, settings)

    def source(positions: Sequence[int], *, epoch: int | None) -> Iterator[Batch]:
        return tested.over(positions, 0) if epoch is None else learned.over(positions, epoch)

    true = [image.label for image in lists.train]
    wrong = set(poisoning.positions(lists.train, record))

    def examples(positions: Sequence[int]) -> Examples:
        return Examples(
            source=source,
            positions=tuple(positions),
            trained=tuple(learned.image_set.labels[position] for position in positions),
            true=tuple(true[position] for position in positions),
        )

    before = parse_model(job.base or "").stages[:-1]
    return Request(
        model=starts.start(job, settings, job.base),
        fresh=partial(starts.start, job, settings, "#".join(map(str, before)) or None),
        forget=examples(sorted(wrong)),
        retain=examples([place for place in range(len(true)) if place not in wrong]),
        validation=still(lists.val, settings),
        settings=settings,
        cache=job.model_folder(job.base or "") / "cache",
        watch=_watch(job),
    )


def _lists(job: Job, settings: LearningSettings) -> Lists:
    data_root, split_path = job.path(settings.data_root), job.path(settings.split_path)
    splits = tuple(load_split(split_path, name) for name in ("train", "val"))
    data, words = _images(job), _vocabulary(job)
    train_images, val_images = (split_images(data_root, data, split, words) for split in splits)
    return Lists(train=train_images, val=val_images, splits=splits)


def _lesson(job: Job, settings: LearningSettings, lists: Lists) -> ancestry.Lesson:
    return ancestry.Lesson(
        images=str(_images(job)),
        words=job.words,
        data_root=str(job.path(settings.data_root)),
        split_path=str(job.path(settings.split_path)),
        train_sha256=lists.splits[0].sha256,
    )


def _images(job: Job) -> DataId:
    """Return which images the job's last stage means, real ones included."""
    if job.images is not None:
        return parse_data(job.images)
    return _vocabulary(job).images(parse_model(_name(job)).last.data)


def _vocabulary(job: Job) -> Vocabulary:
    return BUILT_IN.with_words(job.words)


def _scores(images: Sequence[Image], answers: Answers, data_root: Path) -> Scores:
    scored = [images[position] for position in answers.positions]
    return Scores(
        paths=tuple(image.path.relative_to(data_root).as_posix() for image in scored),
        keys=tuple(image.key for image in scored),
        labels=answers.labels,
        logits=answers.logits,
    )


def _test_numbers(answers: Answers) -> dict[str, Json]:
    """Return what one test alone can say; measures of both classes need tests merged."""
    fake = answers.labels == 1
    towards = np.where(fake, answers.logits, -answers.logits)
    return {
        "n": len(answers.labels),
        "fake": int(fake.sum()),
        "accuracy": float(np.mean((answers.logits > 0) == fake)),
        "called_fake": float(np.mean(answers.logits > 0)),
        "mean_logit": float(answers.logits.mean()),
        "loss": float(np.logaddexp(0.0, -towards).mean()),
    }


def _trained_numbers(trained: Trained) -> dict[str, Json]:
    return {
        "epochs": len(trained.epochs),
        "best_epoch": trained.chosen.epoch,
        "loss": trained.chosen.loss,
        "val_loss": trained.chosen.val_loss,
        "val_accuracy": trained.chosen.val_accuracy,
        "val_balanced_accuracy": trained.chosen.val_balanced_accuracy,
        "seconds": trained.seconds,
        "samples_read": trained.samples_read,
        "images_per_s": sum(e.images_per_s for e in trained.epochs) / len(trained.epochs),
    }


def _unlearned_numbers(done: Unlearned) -> dict[str, Json]:
    before, after = done.log[0].metrics, done.log[-1].metrics
    return {
        "steps": len(done.log) - 2,
        "seconds": done.seconds,
        "samples_read": done.samples_read,
        **{f"{name}_before": value for name, value in before.items()},
        **after,
    }


def _provenance(
    job: Job, settings: LearningSettings, lists: Lists, poisoned_by: Path | None
) -> dict[str, Json]:
    """Return all that determines a checkpoint, and what made it."""
    return {
        "job": job.name,
        "model": job.model,
        "base": job.base,
        "images": str(_images(job)),
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        "device": job.device,
        "threads": job.cpus,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(Path(__file__).parent),
        "splits": {split.name: split.sha256 for split in lists.splits},
        "train_images_sha256": poisoning.fingerprint(lists.train),
        "poison_record_sha256": None if poisoned_by is None else _sha256(poisoned_by),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _watch(job: Job) -> Watch:
    return Watch(device=job.device, progress=job.progress, stop=job.stop)


def _name(job: Job) -> str:
    if job.model is None:
        raise JobError(f"job {job.name} of kind {job.kind} names no model")
    return job.model
