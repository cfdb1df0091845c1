"""The entry function of `classify`: from a job to files and measures."""

from collections.abc import Mapping

from launcher.api import Job, Json
from trueface.data import class_images
from trueface.data.class_copies import EQUAL_IMAGES, IN_CLASSES, IN_TEST
from trueface.data.class_images import ClassLists, ClassPixels
from trueface.data.vocabulary import class_dataset_type, find_classes
from trueface.evaluation import forward
from trueface.jobs.job_data import folder_of
from trueface.jobs.setup import entry, job_provenance, run_context, write_facts
from trueface.models import checkpoint
from trueface.models.detectors import build_classifier
from trueface.predictions.npz_tables import write_npz
from trueface.runtime import paths
from trueface.training import checkpointing
from trueface.training.class_settings import ClassifySettings
from trueface.training.history import write_history
from trueface.training.trainer import fit

ANSWERS = "trained.npz"  # in the folder answers/, of a training


@entry(ClassifySettings)
def classify(job: Job, settings: ClassifySettings) -> Mapping[str, Json]:
    """Train the job's network; write it with its history and its answers."""
    folder = folder_of(job)
    lists = lists_of(job, settings)
    source = provenance_of(job, settings, lists)
    watch = run_context(job, settings.precision)
    shape = settings.shape(len(lists.names))
    model = build_classifier(shape, seed=settings.seed, channels_last=settings.channels_last)
    model = model.to(job.device)
    images = {"train": lists.train, "validation": lists.validation, "test": lists.test}
    parts = {
        name: ClassPixels(part, settings, job.device).examples() for name, part in images.items()
    }
    checkpointing.clear_event_files(folder)
    with checkpointing.log_to_tensorboard(
        watch, folder, is_on=settings.tensorboard
    ) as logged_watch:
        trained = fit(
            model,
            parts["train"].loader(batch_size=settings.batch_size),
            parts["validation"].loader(augment=False),
            settings.trainer,
            watch=logged_watch,
            after_epoch=lambda epochs, *_: write_history(paths.history(folder), epochs),
        )
    predictions = {
        name: forward.predict_examples(model, part, watch, images[name].names)
        for name, part in parts.items()
    }
    write_npz(folder / "answers" / ANSWERS, predictions)
    source = {**source, "epochs": trained.chosen.epoch}
    checkpoint.save_model(paths.checkpoint(folder), model, source)
    result: dict[str, Json] = {
        "images": len(lists.train),
        "classes": len(lists.names),
        "epochs": len(trained.epochs),
        "best_epoch": trained.chosen.epoch,
        "loss": trained.chosen.loss,
        "val_accuracy": trained.chosen.val_accuracy,
        "accuracy": predictions["test"].accuracy("trained"),
        "balanced_accuracy": predictions["test"].balanced_accuracy("trained"),
        "seconds": trained.seconds,
        "samples_read": trained.samples_read,
        "images_per_s": trained.samples_read / trained.seconds,
    }
    result |= trained.acceleration
    write_facts(folder, source, result)
    return result


def lists_of(job: Job, settings: ClassifySettings) -> ClassLists:
    """Return the images of the job's data set."""
    folders = find_classes(class_dataset_type(job.data or ""), job.path(settings.data_root))
    return class_images.load_class_images(folders, settings, cpus=job.cpus, stop=job.stop)


def provenance_of(job: Job, settings: ClassifySettings, lists: ClassLists) -> dict[str, Json]:
    """Return all that determines the weights, and what makes them."""
    equal_images: dict[str, Json] = {
        key: {"images": equal.images, "example": equal.example}
        for key, equal in ((IN_TEST, lists.copies_in_test), (IN_CLASSES, lists.copies_in_classes))
    }
    return job_provenance(
        job,
        settings,
        base=job.base,
        class_names=list(lists.names),
        data_root=str(job.path(settings.data_root)),
        train_images=len(lists.train),
        val_images=len(lists.validation),
        test_images=len(lists.test),
        train_images_sha256=lists.train.sha256,
        val_images_sha256=lists.validation.sha256,
        **{EQUAL_IMAGES: equal_images},
    )
