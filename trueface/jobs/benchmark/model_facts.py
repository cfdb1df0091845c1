"""What a benchmark says of a model as a whole: its operating point by validation, and its cost."""

import logging
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from launcher.api import Job
from trueface.benchmark import cells
from trueface.benchmark.cells import ModelFacts
from trueface.corruptions.grammar import NONE
from trueface.evaluation.operating_threshold import Calibration, calibrate
from trueface.jobs.benchmark.scoring import Bench
from trueface.runtime.errors import DataError
from trueface.runtime.ids import parse_data
from trueface.runtime.timer import now
from trueface.training import image_lists, lineage
from trueface.training.image_lists import Place

REPEATS = 30  # of one image, the median of which counts
WARM_UP = 3  # passes that are not timed

log = logging.getLogger(__name__)


def facts_of(job: Job, bench: Bench, folder: Path, checkpoint_sha256: str) -> ModelFacts:
    """Return the facts of a model; those that are written of the same weights are taken as they are.

    Args:
        job: of the benchmark.
        bench: the model.
        folder: of the model.
        checkpoint_sha256: of its checkpoint file.

    Raises:
        DataError: nothing tells on which images the model was validated, or they have one class.
    """
    try:
        written = cells.read_facts(folder)
        if written.checkpoint_sha256 == checkpoint_sha256:
            return written
    except DataError:
        pass
    calibration = Calibration.read(bench.kept.provenance.get("calibration"))
    source = "training" if calibration else "validation"
    calibration = calibration or _calibrated(bench, job.model_folder)
    facts = ModelFacts(
        checkpoint_sha256=checkpoint_sha256,
        threshold=calibration.threshold,
        temperature=calibration.temperature,
        in_logits=calibration.in_logits,
        source=source,
        parameters=sum(value.numel() for value in bench.model.network.parameters()),
        ms_image=_ms_image(bench),
        device=job.device,
        threads=torch.get_num_threads(),
    )
    cells.write_facts(folder, facts)
    return facts


def _calibrated(bench: Bench, model_folder: Callable[[str], Path]) -> Calibration:
    """Return threshold and temperature by the validation images of a model that does not say them."""
    lessons = [*lineage.follow(bench.name, lambda name: lineage.read(model_folder(name)))]
    if not lessons:
        raise DataError(f"nothing tells what {bench.name} was trained on; train it again")
    lesson = lessons[0][1]  # its own last training
    place = Place(
        data_root=Path(lesson.data_root),
        split_path=Path(lesson.split_path),
        words=lesson.words,
        vocabulary=lesson.vocabulary.with_layout(bench.settings.layout),
        missing=bench.settings.missing_images,
    )
    images, _ = image_lists.load_list(place, parse_data(lesson.images), "val")
    validation = replace(bench, images=images)
    answers = validation.answers(validation.feed(NONE))
    return calibrate(answers.labels, answers.logits)


def _ms_image(bench: Bench) -> float:
    """Return the median time of one image, from pixels to the logit, in ms."""
    side = bench.settings.resize_size
    pixels = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8).to(bench.watch.device)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            started = now()
            bench.model(pixels)
            times.append(now() - started)
    return round(statistics.median(times[WARM_UP:]) * 1000, 3)
