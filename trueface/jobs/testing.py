"""The entry function of `test`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.api import Job, Json, parse_data, tested, write_json
from trueface.attacks.registry import parse_attack
from trueface.corruptions.chain import Chain
from trueface.corruptions.registry import NONE
from trueface.data.attributes import Attributes, attribute_files, paths_below
from trueface.data.dataset import still
from trueface.data.index import Image
from trueface.data.settings import TestSettings
from trueface.evaluation.score_tables import write_scores
from trueface.features.bank import keep_features
from trueface.jobs import job_data
from trueface.jobs.job_data import model_name
from trueface.jobs.scoring import (
    ImageWriter,
    ScoredTest,
    ScoringModel,
    attacked_test,
    numbers_of_attack,
    numbers_of_test,
    scores_of,
    write_images,
)
from trueface.jobs.setup import entry, write_bad_images
from trueface.runtime import paths
from trueface.runtime.paths import SCHEMA
from trueface.runtime.timer import now
from trueface.training import provenance


@entry(TestSettings)
def test(job: Job, settings: TestSettings) -> Mapping[str, Json]:
    """Score the job's model on the test list of its data; write scores and metrics."""
    folder, data = job.model_folder(model_name(job)), parse_data(job.data or "")
    values = settings.model_dump(mode="json")
    name = tested(str(data), settings.condition(values))
    images, split = job_data.of_split(job, settings, data, "test")
    groups = _checked_attributes(job, settings, images)
    started, network = now(), ScoringModel.of_job(job, settings)
    done = _answered(job, settings, images, network, paths.saved_images(folder, name))
    bad = done.feed.image_set.bad.values()
    write_bad_images(paths.bad_images(folder, name), bad)
    result: dict[str, Json] = {
        **({} if done.answers is None else numbers_of_test(done.answers, network.calibration)),
        **done.record,
        "bad_images": len(bad),
        "seconds": now() - started,
    }
    scores = paths.scores(folder, model_name(job), name)
    if settings.save_scores and done.answers is not None:
        table = scores_of(done.images, done.answers, job.path(settings.data_root))
        write_scores(scores, table)
    elif done.answers is None:  # those of an earlier test would be taken for this one's
        scores.unlink(missing_ok=True)
    result |= _triggered(
        job, settings, images, network, paths.triggered(folder, model_name(job), name)
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
    if settings.corrupt != NONE:
        inputs["corruptions"] = Chain.parse(settings.corrupt).record
    write_json(path, {"schema": SCHEMA, **inputs, **result})
    return result


def _answered(
    job: Job, settings: TestSettings, images: tuple[Image, ...], network: ScoringModel, root: Path
) -> ScoredTest:
    """Return the answers to the images of a test, attacked where the settings say so.

    Args:
        job: of the test.
        settings: likewise.
        images: of the test.
        network: that answers.
        root: where the images are written as they were scored, if that is wanted.
    """
    write = ImageWriter(root, job.path(settings.data_root)) if settings.save_images else None
    attack = parse_attack(settings.attack)
    if attack is not None:
        return attacked_test(job, settings, attack, images, network, write)
    feed = still(images, settings)
    answers = network.answers(feed)
    if write is not None:
        write_images(feed, write, network.watch)
    return ScoredTest(images=images, feed=feed, answers=answers, record={})


def _triggered(
    job: Job, settings: TestSettings, images: tuple[Image, ...], network: ScoringModel, path: Path
) -> Mapping[str, Json]:
    """Score the images with the backdoor's patch, where the settings say so."""
    if not settings.trigger:
        path.unlink(missing_ok=True)
        return {}
    answers = network.answers(still(images, settings, range(len(images))))
    write_scores(path, scores_of(images, answers, job.path(settings.data_root)))
    return numbers_of_attack(answers)


def _checked_attributes(
    job: Job, settings: TestSettings, images: Sequence[Image]
) -> dict[str, Json]:
    """Read the attributes of a test's images, and return what is written of them beside its results.

    No score depends on them: what is wrong with them is said before images are scored.

    Raises:
        DataError: what is wrong in a table; or images without a row, unless they shall be passed over.
    """
    root, files = job.path(settings.data_root), attribute_files(settings.attributes, job.path)
    if not files:
        return {}
    Attributes.read(files, root).check(
        paths_below(images, root), missing=settings.missing_attributes
    )
    return provenance.of_attributes(files)
