"""The command line of the original train.py: `python -m trueface --name R --task train …`.

All its flags are here under their old names, and every setting of a training or test as a flag.
Files have the paths of the original, runs/<name>/<save_id>/…; no launcher is needed.
"""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from launcher.api import (
    Draft,
    Job,
    Json,
    Settings,
    UsageError,
    model_folder_name,
    tested,
)
from trueface.cli import run_here
from trueface.cli.classic.request import ClassicRequest, parse_command_line, settings_of
from trueface.cli.main import exit_code
from trueface.data.settings import TestSettings
from trueface.jobs.job_kind import refuse_unfit
from trueface.jobs.kinds import POISON, TEST, TRAIN
from trueface.poisoning.poison_record import PoisonSettings
from trueface.runtime import logs, paths
from trueface.training.settings import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicJob(Job):
    """A job with models in folders of the user's choice, not in those named by their IDs."""

    folders: Mapping[str, Path]  # by model ID

    def model_folder(self, model: str) -> Path:
        """Return the folder of a model: the user's choice, otherwise derived from its name."""
        return self.folders.get(model) or self.run_folder / model_folder_name(model)


def main(argv: Sequence[str]) -> int:
    """Do what the command line says and return the exit code."""
    return exit_code(partial(_run, argv))


def _run(argv: Sequence[str]) -> None:
    request = parse_command_line(argv)
    if request.task == "test":
        _test(request)
    else:
        _train(request)


def _train(request: ClassicRequest) -> None:
    settings = settings_of(TrainSettings, request)
    choice = settings_of(PoisonSettings, request)
    train = TRAIN.with_words(request.words)
    images = train.images(request.data)
    # without its poison: the record is created here, so it is not an input
    refuse_unfit(train, _draft(request, settings, model=str(request.data)))
    record = paths.poison_record(request.folder)
    if request.poison is not None and request.keep_poison and not record.exists():
        raise UsageError(
            f"{record} is missing: the poison record of {request.saved_as}. Make it with trueface "
            "poison, or leave out --keep_poison."
        )
    # torch takes seconds to import; help and wrong arguments must not wait for it
    from trueface.jobs.previewing import preview

    _refuse_other_epoch(request)
    if request.preview:
        chosen = None if request.poison is None or request.keep_poison else choice
        shown = _job(
            request, kind="train", settings=settings, images=str(images), device="cpu", cpus=1
        )
        with logs.log_to_stderr():
            _print_result(preview(shown, chosen), None, None)
        return
    paths.make_folder(request.folder, request.saved_as)
    under_way = paths.resume(request.folder).exists()
    with logs.log_to_stderr(), logs.log_to_file(request.log, mode="a" if under_way else "w"):
        log.info("command=%s", shlex.join(request.argv))
        if images != request.data:
            log.warning("data=%s reason=added the real images that a training needs", images)
        job = partial(_job, request, images=str(images), device=run_here.device(request.device))
        if request.poison is not None and not request.keep_poison:
            run_here.perform(POISON, partial(job, kind="poison", settings=choice))
        elif request.poison is None and record.exists():
            record.unlink()  # the record is of an earlier training; its flips no longer apply
        result = run_here.perform(TRAIN, partial(job, kind="train", settings=settings))
        log.info("result=%s", result)
    _print_result(
        result, paths.checkpoint(request.folder) if settings.save_weights else None, request.log
    )


def _refuse_other_epoch(request: ClassicRequest) -> None:
    """Refuse --resume_from an epoch that is not the one that was interrupted."""
    if not request.resume_from:
        return
    from trueface.training.checkpointing import interrupted_epochs  # as above

    path = paths.resume(request.folder)
    kept = interrupted_epochs(path)
    if kept != request.resume_from:
        there = "does not exist" if kept is None else f"is of epoch {kept}"
        raise UsageError(
            f"--resume_from {request.resume_from}: the saved state {path} {there}. Leave out the flag "
            "to resume from the saved state."
        )


def _test(request: ClassicRequest) -> None:
    settings = settings_of(TestSettings, request)
    network = settings_of(TrainSettings, request).model  # checks what a test does not need, too
    test = TEST.with_words(request.words)
    refuse_unfit(test, _draft(request, settings, model=request.model))
    from trueface.models import checkpoint  # as above

    if "model" in request.settings:
        checkpoint.load_detector(paths.checkpoint(request.folder), arch=network)

    with logs.log_to_stderr(), logs.log_to_file(request.log):
        log.info("command=%s", shlex.join(request.argv))
        job = partial(_job, request, device=run_here.device(request.device))
        result = run_here.perform(TEST, partial(job, kind="test", settings=settings))
        log.info("result=%s", result)
    name = tested(str(request.data), settings.condition(settings.model_dump(mode="json")))
    scores = paths.scores(request.folder, request.model, name)
    # an attack that cannot be done gives no scores
    is_scored = settings.save_scores and "reason" not in result
    _print_result(result, scores if is_scored else None, request.log)


def _draft(request: ClassicRequest, settings: Settings, *, model: str) -> Draft:
    return Draft(
        kind=request.task,
        run=request.run,
        run_folder=request.folder.parent,
        folder=Path.cwd(),
        model=model,
        base=request.base,
        data=str(request.data),
        settings=settings.model_dump(mode="json"),
        words=request.words,
    )


def _job(request: ClassicRequest, *, kind: str, settings: Settings, **others: Any) -> ClassicJob:
    return ClassicJob(
        name=f"{kind}/{request.model}",
        kind=kind,
        run=request.run,
        run_folder=request.folder.parent,
        folder=Path.cwd(),
        attempt_folder=request.folder,
        attempt=1,
        model=request.model,
        folders={request.model: request.folder},
        base=request.base,
        data=str(request.data),
        settings=settings.model_dump(mode="json"),
        words=request.words,
        **others,
    )


def _print_result(
    result: Mapping[str, Json], scores_file: Path | None, log_file: Path | None
) -> None:
    run_here.print_result(result)
    for path in (scores_file, log_file):
        if path is not None:
            click.echo(f"wrote {path.relative_to(Path.cwd())}", err=True)
