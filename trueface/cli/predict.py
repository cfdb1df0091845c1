"""`trueface predict`: predict whether single images, or those of folders, are fake."""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import click

from launcher.api import JobError, Json, UnknownName, UsageError
from trueface.cli import run_here
from trueface.cli.text_tables import shown
from trueface.data.folders import FoundImages, Missing, few, find_images, listed, paths_in
from trueface.runtime import logs, paths

if TYPE_CHECKING:  # torch takes seconds to import
    from trueface.data.settings import TestSettings
    from trueface.prediction.heat_map import HeatMaps
    from trueface.prediction.predictor import Prediction, Predictor

VARIABLE = "TRUEFACE_MODEL"  # a model folder or a checkpoint, where none is named
DEFAULT_RUN = "test"


def chosen(
    model: str | None, run: str | None, checkpoint: Path | None, folder: Path | None
) -> Path:
    """Return the checkpoint's file, or the model folder, that is meant.

    Args:
        model: ID of a model of the run, or a model folder.
        run: its name; None: not given.
        checkpoint: a file.
        folder: a model folder.

    Raises:
        UsageError: several are named, or what is named is not there; says what is.
    """
    named = [
        name
        for name, value in (
            ("--model", model), ("--checkpoint", checkpoint), ("--model-folder", folder),
        )
        if value is not None
    ]  # fmt: skip
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} cannot be combined. Give one of them.")
    if checkpoint is not None:
        return _file(checkpoint)
    if folder is not None:
        return _folder(folder)
    if model is not None and _is_model_folder(Path(model)):
        return Path(model)
    variable = os.environ.get(VARIABLE)
    if model is None and run is None and variable:
        place = Path(variable)
        return _folder(place) if place.is_dir() else _file(place, VARIABLE)
    return _of_run(run or _usual_run(), model)


def _usual_run() -> str:
    """Return the run that is meant if none is named: the default one, or the only one with models.

    Raises:
        UsageError: several others have models.
    """
    root = Path.cwd() / "runs"
    if _models(root / DEFAULT_RUN):  # first, as a slow disk may hold many runs
        return DEFAULT_RUN
    runs = [folder.name for folder in _folders(root) if _models(folder)]
    if len(runs) > 1:
        raise UsageError(
            f"{len(runs)} runs have trained models. Choose one with --name: {few(runs)}"
        )
    return runs[0] if runs else DEFAULT_RUN


def _of_run(run_name: str, model: str | None) -> Path:
    """Return the path of a model's weights; where there are none, suggest the models that exist."""
    runs = Path.cwd() / "runs"
    run = runs / paths.folder_name("--name", run_name)
    models = _models(run)
    if model is None and len(models) == 1:
        model = models[0]
    if model is None and models:
        raise UsageError(
            f"run {run_name!r} has {len(models)} trained models. Choose one with --model: "
            f"{', '.join(models)}"
        )
    if model is not None:
        path = paths.checkpoint(run / paths.model_folder("--model", model))
        if path.is_file():
            return path
        if models:
            raise UnknownName(f"trained model of run {run_name}", model, models)
    if others := [folder.name for folder in _folders(runs) if _models(folder)]:
        raise UnknownName("run with trained models", run_name, others)
    raise UsageError(
        f"no trained model in {runs}. Train one, or give --checkpoint FILE, --model-folder FOLDER or "
        f"the environment variable {VARIABLE}."
    )


def _file(weights: Path, source: str = "--checkpoint") -> Path:
    if not weights.is_file():
        raise UsageError(
            f"{source} {weights}: no such file. Give the checkpoint of a trained model."
        )
    return weights


def _folder(folder: Path) -> Path:
    if not _is_model_folder(folder):
        raise UsageError(
            f"{folder} is not a model folder: {paths.MODEL_FOLDER} is missing. To write a model folder: "
            "trueface pretrain"
        )
    return folder


def _is_model_folder(folder: Path) -> bool:
    return (folder / paths.MODEL_FOLDER).is_file()


def _models(run: Path) -> list[str]:
    """Return the IDs of a run's trained models."""
    return [
        paths.model_id(folder) for folder in _folders(run) if paths.checkpoint(folder).is_file()
    ]


def _folders(folder: Path) -> list[Path]:
    return sorted(filter(Path.is_dir, folder.iterdir())) if folder.is_dir() else []


SUFFIX = ".png"
By = Literal["occlusion", "blocks"]


def refuse(place: Path, files: Sequence[Path]) -> None:
    """Refuse a place that cannot take the maps, before an image is read.

    Raises:
        UsageError: one file for several images, a folder that cannot be made, or a place where maps
            would replace the images.
    """
    if place.suffix.lower() == SUFFIX and not place.is_dir():
        if len(files) > 1:
            raise UsageError(
                f"--heat-map {place} is one file for {len(files)} images. Give a folder."
            )
        if not place.parent.is_dir():
            raise UsageError(f"--heat-map {place}: folder {place.parent} does not exist")
    elif place.exists() and not place.is_dir():
        raise UsageError(
            f"--heat-map {place}: expected a file that ends with {SUFFIX}, or a folder"
        )
    where = os.path.realpath(place)
    for file in files:
        image = os.path.realpath(file)
        if where in {image, os.path.dirname(image)}:  # noqa: PTH120  # there may be 100,000
            raise UsageError(
                f"--heat-map {place} could overwrite the input images, such as {file}. Give another "
                "folder"
            )


NAMED = 3  # images that a warning names
LONGEST = 60  # columns of a path in the table, beyond which a row is wider


class AnswerRows(ABC):
    """Where answers go."""

    def begin(self) -> None:  # noqa: B027  # few have any
        """Write what comes before the rows."""

    @abstractmethod
    def row(self, answer: "Prediction") -> None:
        """Write a row."""

    def end(self, bad: Sequence[Missing], passed_over: Mapping[str, int]) -> None:  # noqa: B027
        """Write what comes after the rows: what is bad stands on stderr, too."""


class TabbedRows(AnswerRows):
    """Four columns for programs, without a header: path, logit, probability, verdict."""

    def row(self, answer: "Prediction") -> None:
        """Write a row."""
        path = shown(str(answer.path))
        click.echo(f"{path}\t{answer.logit:.9g}\t{answer.probability:.6g}\t{answer.verdict}")


class TableRows(AnswerRows):
    """A table for people; paths are as wide as the longest one of these files."""

    def __init__(self, files: Sequence[Path]) -> None:
        longest = max((len(shown(str(file))) for file in files), default=0)
        self._width = min(longest, LONGEST)

    def begin(self) -> None:
        """Write the header."""
        click.echo(f"{'path':<{self._width}}  {'logit':>8}  fake %  verdict")

    def row(self, answer: "Prediction") -> None:
        """Write a row, with what the image is unlike the training's in."""
        path = shown(str(answer.path))
        line = f"{path:<{self._width}}  {answer.logit:8.3f}  {100 * answer.probability:6.1f}"
        unlike = ", ".join(each.reason for each in answer.unlike)
        remark = f" (unlike the training: {unlike})" if unlike else ""
        click.echo(f"{line}  {answer.verdict}{remark}")


class JsonRows(AnswerRows):
    """One JSON object (schema 1), written as the rows come.

    Args:
        facts: of the model.
        training_sizes: of what it learned from.
    """

    def __init__(self, facts: Mapping[str, Json], training_sizes: Json) -> None:
        self._facts, self._sizes, self._separator = facts, training_sizes, "\n"

    def begin(self) -> None:
        """Write the object as far as the rows."""
        head = json.dumps({"schema": 1, **self._facts})
        click.echo(f'{head[:-1]}, "images": [', nl=False)

    def row(self, answer: "Prediction") -> None:
        """Write a row."""
        click.echo(self._separator + json.dumps(row_of(answer)), nl=False)
        self._separator = ",\n"

    def end(self, bad: Sequence[Missing], passed_over: Mapping[str, int]) -> None:
        """Write the rest of the object."""
        rest: dict[str, Json] = {
            "training_sizes": self._sizes,
            "passed_over": dict(passed_over),
            "bad": [{"path": str(file.path), "reason": file.reason} for file in bad],
        }
        click.echo(("" if self._separator == "\n" else "\n") + "], " + json.dumps(rest)[1:])


def row_of(answer: "Prediction") -> dict[str, Json]:
    """Return a row of the JSON object."""
    return {
        "path": str(answer.path),
        "logit": answer.logit,
        "probability": answer.probability,
        "verdict": answer.verdict,
        "abstained": answer.is_far or not answer.sure,
        "size_unlike_training": any(each.reason == "size" for each in answer.unlike),
        "unlike": [{"reason": each.reason, "text": each.text} for each in answer.unlike],
    }


def facts_of(place: Path, predictor: "Predictor") -> dict[str, Json]:
    """Return what the JSON object says of the model."""
    selection, calibration = predictor.selection, predictor.calibration
    return {
        "checkpoint": str(place),
        "calibrated": predictor.calibrated is not None,
        # by which a logit still has to be divided, to be that of the probability
        "temperature": 1.0 if calibration.in_logits else calibration.temperature,
        # by which it was divided already
        "temperature_in_logits": calibration.temperature if calibration.in_logits else 1.0,
        "threshold": calibration.threshold,
        "abstain": None if selection is None else {
            "rate": selection.rate,
            "bound": selection.bound,
            "answered_of_validation": selection.coverage,
            "validation_images": selection.images,
        },
    }  # fmt: skip


def rows_for(
    files: Sequence[Path], place: Path, predictor: "Predictor", *, as_json: bool
) -> AnswerRows:
    """Return where answers go: JSON on request, a table on a terminal, else columns."""
    if as_json:
        sizes = predictor.learnt.sizes
        return JsonRows(facts_of(place, predictor), None if sizes is None else sizes.as_json())
    return TableRows(files) if sys.stdout.isatty() else TabbedRows()


@dataclass(slots=True)
class Remarks:
    """What is said of all answers together, on stderr."""

    answers: int = 0
    unsure: int = 0
    far: int = 0
    unlike: Counter[str] = field(default_factory=Counter)  # by reason
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, answer: "Prediction") -> None:
        """Count an answer."""
        self.answers += 1
        self.far += answer.is_far
        self.unsure += not answer.is_far and not answer.sure
        for each in answer.unlike:
            self.unlike[each.reason] += 1
            named = self.examples.setdefault(each.reason, [])
            if len(named) < NAMED:
                named.append(f"{shown(str(answer.path))}: {each.text}")

    def lines(self, settings: "TestSettings") -> Iterable[str]:
        """Yield what there is to say of a model that sees images under these settings."""
        from trueface.prediction.predictor import FAR  # with torch, which is loaded by then

        for reason, count in self.unlike.items():
            advice = ADVICE.get(reason, "").format(crop=settings.resize_size)
            if reason == "size" and settings.decode == "fitted":
                advice = ""
            yield (
                f"warning: {count} of {self.answers} images differ from the training images in {reason}, "
                f"so {NO_CLASS if reason in FAR else LESS_SURE}{advice}"
            )
            yield from (f"  {example}" for example in self.examples[reason])
            if count > NAMED:
                yield f"  and {count - NAMED} more"
        if self.far:
            yield (
                f"note: no class for {self.far} of {self.answers} images that differ from the training "
                "images. Their logits are printed anyway."
            )
        if self.unsure:
            yield f"note: no class for {self.unsure} of {self.answers} images because of low confidence"


NO_CLASS = "they get no class"
LESS_SURE = "their answers are less reliable than on validation"
ADVICE = {
    "size": ". The network sees only the middle {crop} x {crop} pixels. Resize the images like the "
    "training images",
    "orientation": ". Rotate the pixels as the flag in the file says",
}


def passed_over_line(passed_over: Mapping[str, int]) -> str:
    """Return the note on files that were no images by their names."""
    return f"note: skipped files whose names are not names of images: {listed(passed_over)}"


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
    place = chosen(model_id, name, weights, model_folder)
    listed = () if files_from is None else paths_in(files_from.read())
    if not images and files_from is None:
        raise UsageError("expected an IMAGE or --files-from FILE")
    pictures = find_images((*images, *listed))
    if heat_place is not None:
        refuse(heat_place, pictures.files)
    predictor = _load(place, device=device, batch_size=batch_size, abstain=abstain)
    heat = None
    if heat_place is not None:
        from trueface.prediction.heat_map import HeatMaps  # as above

        heat = HeatMaps(heat_place, heat_map_by, predictor)
    bad = _answer(place, predictor, pictures, heat, as_json=as_json)
    if bad:
        places = len(pictures.files) + len(pictures.missing)
        raise JobError(f"no prediction for {bad} of {places} paths. See the errors above.")


def _load(place: Path, *, device: str, batch_size: int, abstain: float | None) -> "Predictor":
    # torch takes seconds to import; help and wrong arguments must not wait for it
    with run_here.without_collection():
        run_here.import_torchvision()
        from trueface.models import checkpoint
        from trueface.prediction import model_folder
        from trueface.prediction.predictor import Predictor

    with logs.shown():
        on = run_here.device(device)
    kept = model_folder.load(place) if place.is_dir() else checkpoint.load(place)
    if place.is_dir() and (failed := model_folder.failed_tests(place)):
        click.echo(
            f"warning: the model failed its own tests (balanced accuracy: {few(failed)}). Do not rely on "
            f"its answers. Details: {place / model_folder.CARD}",
            err=True,
        )
    predictor = Predictor(kept, place, device=on, batch_size=batch_size, abstain=abstain)
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
    place: Path,
    predictor: "Predictor",
    pictures: FoundImages,
    heat: "HeatMaps | None",
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
    for line in remarks.lines(predictor.settings):
        click.echo(line, err=True)
    return len(bad)


def _say(missing: Missing) -> None:
    click.echo(f"error: {shown(str(missing.path))}: {missing.reason}", err=True)
