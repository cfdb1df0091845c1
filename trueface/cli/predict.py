"""`trueface predict`: predict whether single images, or those of folders, are fake."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from launcher.api import JobError, UsageError
from trueface.cli.prediction import heat_maps, model_choice
from trueface.cli.prediction.heat_maps import By, HeatMaps
from trueface.cli.prediction.prediction_output import Remarks, passed_over_line, rows_for
from trueface.cli.prediction.torch_import import import_torchvision, without_collection
from trueface.cli.text_tables import shown
from trueface.data import image_files
from trueface.data.image_files import Missing, Pictures, paths_in
from trueface.runtime import logs

if TYPE_CHECKING:  # torch takes seconds to import
    from trueface.prediction.predictor import Predictor


@click.command()
@click.argument(
    "images", metavar="IMAGE…", nargs=-1, type=click.Path(path_type=Path, readable=False)
)
@click.option(
    "--files-from",
    metavar="FILE",
    type=click.File("rb"),
    help="Read more paths from FILE, one a line or each ended by NUL; - is standard input.",
)
@click.option(
    "--model", "model_id", metavar="ID", help="Model in runs/NAME/ID/; default: the only one."
)
@click.option("--name", help="The model's run.  [default: test]")
@click.option(
    "--checkpoint",
    "weights",
    type=click.Path(path_type=Path),
    help="File of a checkpoint, instead of --model.",
)
@click.option(
    "--model-folder",
    type=click.Path(path_type=Path),
    help="Folder that trueface pretrain wrote, instead of --model.  [env: TRUEFACE_MODEL]",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda:N or auto.")
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Images per step."
)
@click.option(
    "--abstain",
    metavar="RATE",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Answer only where validation says that at most this fraction of answers is wrong.",
)
@click.option(
    "--heat-map",
    "heat_place",
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Draw which places speak for a fake, as PNG: takes 200 times as long as an answer.",
)
@click.option(
    "--heat-map-by",
    type=click.Choice(["occlusion", "blocks"]),
    default="occlusion",
    show_default=True,
    help="Blur squares in turn, or weigh the last feature maps (some networks).",
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
    """Predict whether images are real or fake: image files, and all images in folders.

    Prints path, logit, probability of fake, and verdict. Images are preprocessed as in the model's
    validation. Files that cannot be decoded are listed on stderr, and the exit code is 1.
    """
    place = model_choice.chosen(model_id, name, weights, model_folder)
    listed = () if files_from is None else paths_in(files_from.read())
    if not images and files_from is None:
        raise UsageError("name images or folders, or a file that lists them with --files-from")
    pictures = image_files.find((*images, *listed))
    if heat_place is not None:
        heat_maps.refuse(heat_place, pictures.files)
    predictor = _load(place, device=device, batch_size=batch_size, abstain=abstain)
    heat = None if heat_place is None else HeatMaps(heat_place, heat_map_by, predictor)
    bad = _answer(place, predictor, pictures, heat, as_json=as_json)
    if bad:
        places = len(pictures.files) + len(pictures.missing)
        raise JobError(f"{bad} of {places} places gave no answer; see above")


def _load(place: Path, *, device: str, batch_size: int, abstain: float | None) -> "Predictor":
    # torch takes seconds to import; help and wrong arguments must not wait for it
    with without_collection():
        import_torchvision()
        from trueface.cli import run_here
        from trueface.models import checkpoint
        from trueface.prediction import model_folder
        from trueface.prediction.predictor import Predictor

    with logs.shown():
        on = run_here.device(device)
    kept = model_folder.load(place) if place.is_dir() else checkpoint.load(place)
    predictor = Predictor(kept, place, device=on, batch_size=batch_size, abstain=abstain)
    if predictor.selection is not None:
        selection = predictor.selection
        click.echo(
            f"note: answers are given as in the surest {100 * selection.coverage:.0f} % of "
            f"{selection.images} images of validation, of which at most "
            f"{100 * selection.bound:.2g} % are wrong (95 % confidence)",
            err=True,
        )
    return predictor


def _answer(
    place: Path,
    predictor: "Predictor",
    pictures: Pictures,
    heat: HeatMaps | None,
    *,
    as_json: bool,
) -> int:
    """Print the answers; return how many places gave none."""
    rows = rows_for(pictures.files, place, predictor, as_json=as_json)
    remarks, bad = Remarks(), list(pictures.missing)
    for missing in bad:
        _say(missing)
    begun = False
    for outcome in predictor.answers(pictures.files):
        if isinstance(outcome, Missing):
            bad.append(outcome)
            _say(outcome)
            continue
        if not begun:
            rows.begin()
            begun = True
        rows.row(outcome)
        remarks.add(outcome)
        if heat is not None:
            click.echo(f"wrote {shown(str(heat.write(outcome)))}", err=True)
    if not begun and as_json:
        rows.begin()
    rows.end(bad, pictures.passed_over)
    if pictures.passed_over:
        click.echo(passed_over_line(pictures.passed_over), err=True)
    for line in remarks.lines(crop=predictor.settings.resize_size):
        click.echo(line, err=True)
    return len(bad)


def _say(missing: Missing) -> None:
    click.echo(f"error: {shown(str(missing.path))}: {missing.reason}", err=True)
