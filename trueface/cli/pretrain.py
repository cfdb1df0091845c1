"""`trueface pretrain`: train a task file's model through the queue, and write a folder to hand on."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.api import JobError, Json, Plan, PlannedJob, UnknownName, UsageError, load, plan
from trueface.cli.run_here import import_torchvision
from trueface.cli.text_tables import escape_unprintable
from trueface.corruptions.registry import NONE
from trueface.evaluation import results
from trueface.runtime import paths

if TYPE_CHECKING:  # torch takes seconds to import; help and a wrong task file must not wait for it
    from trueface.prediction.model_card import ModelTest

# the queue's own command; Ctrl-C leaves its view, and not the jobs
LAUNCHER = (
    sys.executable,
    "-c",
    "import sys; from launcher.frontends.cli.main import main; sys.exit(main())",
)
TRAIN, TEST = "train", "test"  # kinds


@click.command()
@click.argument("taskfile", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Model folder to write."
)
@click.option(
    "--model", "model_id", metavar="ID", help="ID of the model to train.  [default: the only one]"
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value of the task file: lr=0.01. Repeatable.",
)
@click.option("--licence", metavar="TEXT", help="Licence of the weights, for card.md.")
def pretrain(
    taskfile: Path,
    *,
    out: Path,
    model_id: str | None,
    settings: tuple[str, ...],
    licence: str | None,
) -> None:
    """Train a model and write a folder to hand on.

    The jobs of TASKFILE run in the queue. Finished jobs do not run again. The folder contains the
    weights, their provenance, the results of the tests, and card.md, which describes the use of the
    model.

    \b
    Examples:
      trueface pretrain tasks/detector.yaml --out detector
      trueface predict photo.jpg --model-folder detector
    """
    planned = plan(load(taskfile, settings=settings))
    training = _select_training(planned, model_id)
    if training.model is None:
        raise UsageError(f"{taskfile}: the training has no model")
    import_torchvision()  # as above
    from trueface.prediction import model_card, model_folder

    model_folder.refuse_other_folder(out)
    words = [word for setting in settings for word in ("--set", setting)]
    ended = subprocess.run([*LAUNCHER, "run", str(taskfile), *words], check=False)
    if ended.returncode != 0:
        raise JobError(
            f"launcher run {taskfile} ended with exit code {ended.returncode}. Fix the error above and "
            "run the command again. Finished jobs do not run again."
        )
    tests = [
        model_card.ModelTest(
            data=job.data or "",
            condition=job.condition,
            corrupt=str(job.settings.get("corrupt", NONE)),
            attack=str(job.settings.get("attack", NONE)),
        )
        for job in _jobs(planned, TEST)
        if job.model == training.model
    ]
    export_model(out, planned.run_folder, training.model, tests, licence)
    click.echo(str(out))
    click.echo(
        f"wrote {escape_unprintable(str(out))}: read {escape_unprintable(str(out / 'card.md'))}, then trueface predict PHOTO "
        f"--model-folder {escape_unprintable(str(out))}",
        err=True,
    )


def _select_training(plan: Plan, model: str | None) -> PlannedJob:
    """Return the training whose model is exported."""
    trainings = _jobs(plan, TRAIN)
    if model is not None:
        for job in trainings:
            if job.model == model:
                return job
        raise UnknownName("trained model", model, [job.model or "" for job in trainings])
    if len(trainings) == 1:
        return trainings[0]
    names = ", ".join(job.model or "" for job in trainings)
    raise UsageError(
        f"{plan.file} has {len(trainings)} trainings. Choose one with --model: {names}"
        if trainings
        else f"{plan.file} has no training"
    )


def _jobs(plan: Plan, kind: str) -> list[PlannedJob]:
    return [job for job in plan.jobs if job.kind == kind]


def export_model(
    out_folder: Path,
    run: Path,
    model: str,
    tests: Sequence["ModelTest"],
    licence: str | None = None,
) -> None:
    """Write the model folder of a model of a run.

    Args:
        out_folder: the folder.
        run: runs/NAME.
        model: its ID.
        tests: of the model; those that are not done are left out.
        licence: of the weights; None: derived from the known facts.
    """
    # as above
    from trueface.evaluation.operating_threshold import Calibration
    from trueface.models import checkpoint
    from trueface.prediction import model_folder
    from trueface.prediction.model_card import CardContents, card, source_errors
    from trueface.prediction.reference import Reference

    folder = run / paths.model_folder("model", model)
    kept = checkpoint.load(paths.checkpoint(folder))
    kept = replace(kept, provenance=model_folder.strip_machine_facts(kept.provenance))
    calibration = Calibration.read(kept.provenance.get("calibration")) or Calibration()
    rows = results.table(run, [(model, test.name) for test in tests])
    facts = CardContents(
        name=model,
        arch=kept.arch,
        licence=licence or _licence(kept.provenance),
        provenance=kept.provenance,
        tests=[model_folder.portable_row(row) for row in rows],
        conditions={test.condition: test for test in tests},
        sources=source_errors(folder, model, tests, threshold=calibration.threshold),
        reference=Reference.read(kept.reference),
    )
    model_folder.write(
        out_folder,
        kept,
        name=model,
        licence=facts.licence,
        tests=[dict(row) for row in facts.tests],
        card=card(facts),
    )


def _licence(provenance: dict[str, Json] | object) -> str:
    """Return the known facts about the licence of a model's weights."""
    facts = provenance if isinstance(provenance, dict) else {}
    stated, settings = facts.get("weights_licence"), facts.get("settings")
    if isinstance(stated, str) and stated:
        return stated
    if facts.get("weights_sha256") is None and facts.get("started_from") is None:
        return "chosen by its trainer (no weights of others were used)"
    source = settings.get("weights") if isinstance(settings, dict) else None
    return f"unknown: the training started from weights of others ({source}). Ask their owner."
