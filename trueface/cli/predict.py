"""`trueface predict`: predict whether single images, or those of folders, are fake."""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.api import JobError, Json, UnknownName, UsageError
from trueface.cli.text_tables import aligned, shown
from trueface.data import image_files
from trueface.data.folder_cache import listed
from trueface.data.image_files import Missing
from trueface.runtime import logs, paths

if TYPE_CHECKING:  # torch takes seconds to import
    from trueface.evaluation.predict import Predictions

HEADER = ("path", "logit", "fake %", "verdict")


@click.command()
@click.argument(
    "images", metavar="IMAGE…", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--model", "model_id", metavar="ID", help="The model in runs/NAME/ID/.")
@click.option("--name", default="test", show_default=True, help="The model's run.")
@click.option(
    "--checkpoint",
    "weights",
    type=click.Path(path_type=Path),
    help="File of a checkpoint, instead of --model.",
)
@click.option("--device", default="cuda:0", show_default=True, help="cpu or cuda:N.")
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Images per step."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def predict(
    images: tuple[Path, ...],
    *,
    model_id: str | None,
    name: str,
    weights: Path | None,
    device: str,
    batch_size: int,
    as_json: bool,
) -> None:
    """Predict whether images are real or fake: image files, and all images in folders.

    Prints path, logit, probability of fake, and verdict. Images are preprocessed as in the model's
    validation. Files that cannot be decoded are listed on stderr, and the exit code is 1.
    """
    if (model_id is None) == (weights is None):
        raise UsageError("name the model: --model ID [--name RUN], or --checkpoint PATH")
    path = _weights(name, model_id) if model_id is not None else _existing(weights)
    pictures = image_files.find(images)
    # torch takes seconds to import; help and wrong arguments must not wait for it
    from trueface.cli import run_here
    from trueface.evaluation import predict as predicting
    from trueface.features.store import open_store
    from trueface.runtime.progress import Watch

    with logs.shown():
        on = run_here.device(device)
    with _listed_here():
        done = predicting.predict(
            path,
            pictures.files,
            batch_size=batch_size,
            watch=Watch(device=on),
            store=open_store(),
        )
    bad = (*pictures.missing, *done.bad)
    _print(path, done, bad, pictures.passed_over, as_json=as_json)
    if bad:
        raise JobError(
            f"{len(bad)} of {len(done.answers) + len(bad)} places gave no answer; see above"
        )


def _weights(run_name: str, model_id: str) -> Path:
    """Return the path of a model's weights; where there are none, suggest the models that exist."""
    runs = Path.cwd() / "runs"
    run = runs / paths.folder_name("--name", run_name)
    path = paths.checkpoint(run / paths.model_folder("--model", model_id))
    if path.is_file():
        return path
    if models := _models(run):
        raise UnknownName(f"trained model of run {run_name}", model_id, models)
    if others := [folder.name for folder in _folders(runs) if _models(folder)]:
        raise UnknownName("run with trained models", run_name, others)
    raise UsageError(f"no trained model in {runs}; train one, or name a file with --checkpoint")


def _existing(weights: Path | None) -> Path:
    if weights is None or not weights.is_file():
        raise UsageError(f"there is no checkpoint {weights}: name the file of a trained model")
    return weights


def _models(run: Path) -> list[str]:
    """Return the IDs of a run's trained models."""
    return [
        paths.model_id(folder) for folder in _folders(run) if paths.checkpoint(folder).is_file()
    ]


def _folders(folder: Path) -> list[Path]:
    return sorted(filter(Path.is_dir, folder.iterdir())) if folder.is_dir() else []


@contextlib.contextmanager
def _listed_here() -> Iterator[None]:
    """Silence the loader's warnings of bad files, which are listed at the end."""
    logger = logging.getLogger("trueface.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _print(
    weights: Path,
    done: "Predictions",
    bad: Sequence[Missing],
    passed_over: Mapping[str, int],
    *,
    as_json: bool,
) -> None:
    answers = done.answers
    for file in bad:
        click.echo(f"error: {shown(str(file.path))}: {file.reason}", err=True)
    if passed_over:
        click.echo(
            f"note: passed over, as no images by their names: {listed(passed_over)}", err=True
        )
    if done.unlike:
        click.echo(f"warning: {_of_other_sizes(done)}", err=True)
    if as_json:
        click.echo(json.dumps(_document(weights, done, bad, passed_over)))
    elif sys.stdout.isatty():
        cells = [
            (
                shown(str(answer.path)),
                f"{answer.logit:.3f}",
                f"{100 * answer.probability:.1f}",
                answer.verdict,
            )
            for answer in answers
        ]
        click.echo("\n".join(aligned([HEADER, *cells])))
    else:
        for answer in answers:
            path = shown(str(answer.path))
            click.echo(f"{path}\t{answer.logit:.9g}\t{answer.probability:.6g}\t{answer.verdict}")


def _of_other_sizes(done: "Predictions") -> str:
    """Return a warning that images have sizes on which the model was not trained."""
    sides = sorted(size.shorter for size in done.unlike.values())
    shown_sides = str(sides[0]) if sides[0] == sides[-1] else f"{sides[0]} to {sides[-1]}"
    return (
        f"{len(done.unlike)} of {len(done.answers)} images have a shorter side of {shown_sides} "
        f"pixels, those of the training {done.learned}; the network sees the middle {done.crop} x "
        f"{done.crop} pixels only, so their answers say little: resize them as the training's were"
    )


def _document(
    weights: Path,
    done: "Predictions",
    bad: Sequence[Missing],
    passed_over: Mapping[str, int],
) -> dict[str, Json]:
    return {
        "schema": 1,
        "checkpoint": str(weights),
        "images": [
            {
                "path": str(answer.path),
                "logit": answer.logit,
                "probability": answer.probability,
                "verdict": answer.verdict,
                "size_unlike_training": answer.path in done.unlike,
            }
            for answer in done.answers
        ],
        "training_sizes": None if done.learned is None else done.learned.as_json(),
        "passed_over": dict(passed_over),
        "bad": [{"path": str(file.path), "reason": file.reason} for file in bad],
    }
