"""`trueface predict`: predict whether single images, or those of folders, are fake."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import click

from launcher.api import JobError, UsageError
from trueface.cli import run_here
from trueface.cli.answer_remarks import Remarks, passed_over_line
from trueface.cli.answer_rows import rows_for
from trueface.cli.model_choice import resolve_model_path
from trueface.cli.text_tables import escape_unprintable
from trueface.data.folders import FoundImages, Missing, describe_names, find_images, paths_in
from trueface.runtime import logs

if TYPE_CHECKING:  # torch takes seconds to import
    from trueface.prediction.heat_map import HeatMaps
    from trueface.prediction.predictor import Predictor


SUFFIX = ".png"
NOTED_SHIFT = 0.0005  # distance of the threshold from one half that the table shows
By = Literal["occlusion", "blocks"]


def check_heat_place(output: Path, files: Sequence[Path]) -> None:
    """Refuse a place that cannot take the maps, before an image is read.

    Raises:
        UsageError: one file for several images, a folder that cannot be made, or a place where maps
            would replace the images.
    """
    if output.suffix.lower() == SUFFIX and not output.is_dir():
        if len(files) > 1:
            raise UsageError(
                f"--heat-map {output} is one file for {len(files)} images. Give a folder."
            )
        if not output.parent.is_dir():
            raise UsageError(f"--heat-map {output}: folder {output.parent} does not exist")
    elif output.exists() and not output.is_dir():
        raise UsageError(
            f"--heat-map {output}: expected a file that ends with {SUFFIX}, or a folder"
        )
    where = os.path.realpath(output)
    for file in files:
        image = os.path.realpath(file)
        if where in {image, os.path.dirname(image)}:  # noqa: PTH120  # there may be 100,000
            raise UsageError(
                f"--heat-map {output} could overwrite the input images, such as {file}. Give another "
                "folder"
            )


@click.command()
@click.argument(
    "images", metavar="IMAGE…", nargs=-1, type=click.Path(path_type=Path, readable=False)
)
@click.option(
    "--files-from",
    metavar="FILE",
    type=click.File("rb"),
    help="Read more paths from FILE, separated by line ends or NUL; - reads standard input.",
)
@click.option(
    "--model",
    "model_id",
    metavar="ID",
    help="ID of the model in runs/RUN/.  [default: the only one]",
)
@click.option("--name", metavar="RUN", help="Run of the model.  [default: test, or the only one]")
@click.option(
    "--checkpoint",
    "weights",
    type=click.Path(path_type=Path),
    help="Checkpoint file, instead of --model.",
)
@click.option(
    "--model-folder",
    type=click.Path(path_type=Path),
    help="Folder that trueface pretrain wrote, instead of --model.  [env: TRUEFACE_MODEL]",
)
@click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    show_default=True,
    help="Device to compute on: cpu, cuda:N, or auto.",
)
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Images per step."
)
@click.option(
    "--abstain",
    metavar="RATE",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Give a class only if, by validation, at most this fraction of classes is wrong.",
)
@click.option(
    "--heat-map",
    "heat_place",
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Draw the regions that indicate a fake, as PNG. Takes 200 times as long as a prediction.",
)
@click.option(
    "--heat-map-by",
    type=click.Choice(["occlusion", "blocks"]),
    default="occlusion",
    show_default=True,
    help="Blur one square after another, or weight the last feature maps (some networks).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def predict(
    images: tuple[Path, ...],
    *,
    files_from: BinaryIO | None,
    model_id: str | None,
    name: str | None,
    weights: Path | None,
    model_folder: Path | None,
    device: str,
    batch_size: int,
    abstain: float | None,
    heat_place: Path | None,
    heat_map_by: By,
    as_json: bool,
) -> None:
    """Predict whether images are real or fake.

    IMAGE is an image file, or a folder with images. The output has the path, logit, probability of
    fake, and verdict of each image. Images are preprocessed as in the validation of the model. Files
    that cannot be decoded are listed on stderr, and the exit code is 1.

    \b
    Examples:
      trueface predict photo.jpg
      trueface predict photos/ --name study --json
      trueface predict photo.jpg --model-folder detector --heat-map photo.png
    """
    model_path = resolve_model_path(model_id, name, weights, model_folder)
    listed = () if files_from is None else paths_in(files_from.read())
    if not images and files_from is None:
        raise UsageError("expected an IMAGE or --files-from FILE")
    pictures = find_images((*images, *listed))
    if heat_place is not None:
        check_heat_place(heat_place, pictures.files)
    if pictures.missing and not pictures.files:  # before the model is loaded, which takes seconds
        for missing in pictures.missing:
            _print_missing_file(missing)
        raise _no_prediction(len(pictures.missing), len(pictures.missing))
    predictor = _load(model_path, device=device, batch_size=batch_size, abstain=abstain)
    heat = None
    if heat_place is not None:
        from trueface.prediction.heat_map import HeatMaps  # as above

        heat = HeatMaps(heat_place, heat_map_by, predictor)
    bad = _answer(model_path, predictor, pictures, heat, as_json=as_json)
    if bad:
        raise _no_prediction(bad, len(pictures.files) + len(pictures.missing))


def _no_prediction(bad: int, places: int) -> JobError:
    return JobError(f"no prediction for {bad} of {places} paths. See the errors above.")


def _load(model_path: Path, *, device: str, batch_size: int, abstain: float | None) -> "Predictor":
    # torch takes seconds to import; help and wrong arguments must not wait for it
    with run_here.without_collection():
        run_here.import_torchvision()
        from trueface.models import checkpoint
        from trueface.prediction import model_card, model_folder
        from trueface.prediction.predictor import Predictor

    with logs.log_to_stderr():
        on = run_here.device(device)
    kept = model_folder.load(model_path) if model_path.is_dir() else checkpoint.load(model_path)
    if model_path.is_dir() and (failed := model_card.failed_tests(model_path)):
        click.echo(
            f"warning: the model failed its own tests (balanced accuracy: {describe_names(failed)}). Do not rely on "
            f"its answers. Details: {model_path / model_folder.CARD}",
            err=True,
        )
    predictor = Predictor(kept, model_path, device=on, batch_size=batch_size, abstain=abstain)
    if verdict := predictor.validation_verdict():
        click.echo(
            f"warning: on its validation images the model is {verdict}, so its verdicts are guesses. Train it with more "
            "images or for longer.",
            err=True,
        )
    share = predictor.calibration.probability(predictor.calibration.threshold)
    if abs(share - 0.5) > NOTED_SHIFT:
        click.echo(f"note: images above {100 * share:.1f} % get the verdict fake", err=True)
    if predictor.selection is not None:
        selection = predictor.selection
        click.echo(
            "note: images get a class if their confidence is as high as in the upper "
            f"{100 * selection.coverage:.0f} % of {selection.images} validation images. At most "
            f"{100 * selection.bound:.2g} % of these are wrong (95 % confidence). This holds only for "
            "the sources, sizes and processing of the validation images.",
            err=True,
        )
    return predictor


def _answer(
    model_path: Path,
    predictor: "Predictor",
    pictures: FoundImages,
    heat_maps: "HeatMaps | None",
    *,
    as_json: bool,
) -> int:
    """Print the answers; return how many places gave none."""
    rows = rows_for(pictures.files, model_path, predictor, as_json=as_json)
    remarks, bad = Remarks(), list(pictures.missing)
    for missing in bad:
        _print_missing_file(missing)
    begun = False
    for outcome in predictor.predict_files(pictures.files):
        if isinstance(outcome, Missing):
            bad.append(outcome)
            _print_missing_file(outcome)
            continue
        if not begun:
            rows.begin()
            begun = True
        rows.row(outcome)
        remarks.add(outcome)
        if heat_maps is not None:
            click.echo(f"wrote {escape_unprintable(str(heat_maps.write(outcome)))}", err=True)
    if not begun and as_json:
        rows.begin()
    rows.end(bad, pictures.passed_over)
    if pictures.passed_over:
        click.echo(passed_over_line(pictures.passed_over), err=True)
    for line in remarks.lines(predictor.settings):
        click.echo(line, err=True)
    return len(bad)


def _print_missing_file(missing: Missing) -> None:
    click.echo(f"error: {escape_unprintable(str(missing.path))}: {missing.reason}", err=True)
