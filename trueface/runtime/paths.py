"""Paths of a model's files below its folder, runs/<run>/<model ID>/.

`model_id.txt`                   The model's ID, if it is too long for a folder name.
`checkpoints/best.pt`            The weights of the best epoch.
`checkpoints/optimizer.pt`       The optimizer's state of the same epoch, if it is kept.
`checkpoints/last.pt`            The weights of a stopped training. Deleted when the training is complete.
`checkpoints/resume.pt`          The state of an interrupted training. Deleted when the training is complete.
`provenance.json`                The data and settings of the weights. The same as in best.pt.
`history.csv`                    One row per epoch.
`poison.json`                    The training labels that were wrong.
`bad_images/<list>.csv`          Images that could not be decoded, with path and reason.
`images/<data>/`                 The scored images of a test, if they are kept, as a data root.
`features/<list>.npz`            The input of the last layer, one row per image, if it is kept.
`preview.png`                    The input images of the network, if requested.
`learned_from.json`              The lists that its weights were trained on, and its base.
`scores/<model>_vs_<data>.csv`   One row per image.
`triggered/<model>_vs_<data>.csv`  The same with the backdoor's patch on every image.
`metrics/<data>.json`            The metrics of the scores.
`conditions/`                    Scores and metrics of tests under conditions, such as corrupted images.
                                 Files are `<model>_vs_<data>@<conditions>.csv` and `<data>@<conditions>.json`.
`unlearning.json`                The results and the cost of an unlearning (see `trueface.unlearning.record`).
`erasing.json`                   The results and the cost of an erasing.
`answers/before.npz`             The base's logits for the forget, retain, validation and test samples.
`answers/after.npz`              The model's logits for the same samples.
`plane.npz`                      Features of some samples in a plane, before and after.
`<type>_<model>_<data>.log`      The output of a classic command line.
"""

from functools import lru_cache
from pathlib import Path

from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import UsageError
from trueface.runtime.files import write_atomic
from trueface.runtime.ids import condition_of_test, model_folder_name

SCHEMA = 1  # schema of the JSON files that jobs write to a model folder
NAME_BYTES = 255  # the longest name of one file on the file systems of Linux
TEMPORARY_BYTES = 16  # room for the marks of a file that is still being written
OUTPUTS_FOLDER = "made"  # the folder of a run for folders that jobs made from folders and models
OUTPUT_RECORD = "made.json"  # in such a folder, written last: its sources and settings
METRICS = "metrics.json"  # in such a folder: its measures
CONDITIONS = "conditions"  # the folder of tests under conditions
MODEL_ID = "model_id.txt"
MODEL_FOLDER = "model.json"  # in a published model folder: see `prediction.model_folder`
SAMPLE_MARK = "sample.json"  # in a sample's data root, written when all its images are there


def model_folder(noun: str, model: str) -> str:
    """Return the name of a model's folder: its ID, or a shortened form that a file system accepts.

    Args:
        noun: for the message: "--save_id".
        model: as the user gave it.

    Raises:
        UsageError: it would lead elsewhere.
    """
    return folder_name(noun, model_folder_name(model))


def output_folder(run_folder: Path, name: str) -> Path:
    """Return the folder that a job of a run made, by the name of its entry and variant."""
    return run_folder / OUTPUTS_FOLDER / model_folder_name(name)


def make_folder(folder: Path, model: str) -> None:
    """Make a model's folder; where its name is not the model's ID, a file in it holds the ID."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.name != model:
        write_atomic(folder / MODEL_ID, f"{model}\n")


def model_id(folder: Path) -> str:
    """Return the ID of the model whose folder this is."""
    named = folder / MODEL_ID
    return named.read_text().strip() if named.is_file() else folder.name


def folder_name(noun: str, name: str) -> str:
    """Return `name` if it is valid for a folder directly below runs/ or runs/<run>/.

    Args:
        noun: for the message: "--save_id".
        name: as the user gave it.

    Raises:
        UsageError: it would lead elsewhere, or no file system takes it.
    """
    if not name:
        raise UsageError(f"{noun} is empty. Give the name of one folder.")
    if not name.isprintable():
        raise UsageError(f"{noun} {name!r} contains characters that cannot be printed")
    if name in {".", ".."} or "/" in name:
        raise UsageError(f"{noun} {name!r} would lead outside runs/. Give the name of one folder.")
    if len(name.encode(errors="surrogateescape")) > NAME_BYTES:
        raise UsageError(
            f"{noun} has more than {NAME_BYTES} bytes, too many for the name of a folder"
        )
    return name


@lru_cache(maxsize=4096)  # cached because a plan calls it for each test of a model
def checkpoint(folder: Path) -> Path:
    """Return the path of a model's weights."""
    return Path(f"{folder}/checkpoints/best.pt")


@lru_cache(maxsize=4096)
def optimizer(folder: Path) -> Path:
    """Return the path of the optimizer state of a model."""
    return Path(f"{folder}/checkpoints/optimizer.pt")


def last_checkpoint(folder: Path) -> Path:
    """Return the path of the weights of a stopped training."""
    return Path(f"{folder}/checkpoints/last.pt")


def resume(folder: Path) -> Path:
    """Return the path of the resume file of an unfinished training."""
    return Path(f"{folder}/checkpoints/resume.pt")


def provenance(folder: Path) -> Path:
    """Return the path of a model's provenance record."""
    return folder / "provenance.json"


def saved_images(folder: Path, data: str) -> Path:
    """Return the data root of the images of a test as they were scored; `data` as in `scores`."""
    return Path(f"{folder}/images/{fit_file_name(data, '')}")


def bad_images(folder: Path, images: str) -> Path:
    """Return the file that lists the images that could not be decoded.

    Args:
        folder: of the model.
        images: "train", "val" or the data ID of a test.
    """
    return Path(f"{folder}/bad_images/{fit_file_name(images, '.csv')}")


def features(folder: Path, images: str) -> Path:
    """Return the path of the features of a list of images; `images` as in `bad_images`."""
    return Path(f"{folder}/features/{fit_file_name(images, '.npz')}")


def preview(folder: Path) -> Path:
    """Return the path of the contact sheet of a training's images."""
    return folder / "preview.png"


def history(folder: Path) -> Path:
    """Return the file with the history of a training's epochs."""
    return folder / "history.csv"


def event_files(folder: Path) -> Path:
    """Return the folder of TensorBoard's event files of a training."""
    return folder / "tensorboard"


def poison_record(folder: Path) -> Path:
    """Return the path of the record of the flipped labels of a model's training."""
    return folder / "poison.json"


def ancestry(folder: Path) -> Path:
    """Return the path of the record of the images that a model was trained on."""
    return folder / "learned_from.json"


def scores(folder: Path, model: str, data: str) -> Path:
    """Return the path of the scores of a model on `data`, which may name conditions: see `tested`."""
    return Path(f"{folder}/{_place(data, 'scores')}/{fit_file_name(f'{model}_vs_{data}', '.csv')}")


def triggered_scores(folder: Path, model: str, data: str) -> Path:
    """Return the path of the scores of a model on `data`, each image with the backdoor's patch."""
    return Path(f"{folder}/triggered/{fit_file_name(f'{model}_vs_{data}', '.csv')}")


def summary(folder: Path) -> Path:
    """Return the path of the summary of a training or unlearning: its results and its cost."""
    return folder / "summary.json"


def metrics(folder: Path, data: str) -> Path:
    """Return the path of the metrics of a model on `data`, which may name conditions."""
    return Path(f"{folder}/{_place(data, 'metrics')}/{fit_file_name(data, '.json')}")


def unlearning(folder: Path) -> Path:
    """Return the path of the record of an unlearning: its results and its cost."""
    return folder / "unlearning.json"


def erasing(folder: Path) -> Path:
    """Return the path of the record of an erasing: its results and its cost."""
    return folder / "erasing.json"


def predictions_before(folder: Path) -> Path:
    """Return the path of the base's predictions before the unlearning."""
    return folder / "answers" / "before.npz"


def predictions_after(folder: Path) -> Path:
    """Return the path of the predictions of an unlearned model."""
    return folder / "answers" / "after.npz"


def plane(folder: Path) -> Path:
    """Return the path of the features projected to a plane, before and after an unlearning."""
    return folder / "plane.npz"


def log(folder: Path, task: str, model: str | None, data: str) -> Path:
    """Return where a classic command line logs; no model is written `None`, as ever."""
    return folder / fit_file_name(f"{task}_{model}_{data}", ".log")


def _place(data: str, usual: str) -> str:
    # apart from plain tests: what reads those joins all that it reads
    return CONDITIONS if condition_of_test(data) else usual


def fit_file_name(name: str, suffix: str) -> str:
    """Return `name` and `suffix` as one file name, cut and marked by a hash if it is too long."""
    if name.isascii() and len(name) + len(suffix) + TEMPORARY_BYTES <= NAME_BYTES:
        return name + suffix  # fast path for most names, as a plan checks thousands
    room = NAME_BYTES - TEMPORARY_BYTES - len(suffix.encode())
    if len(name.encode()) <= room:
        return name + suffix
    mark = sha256_hex(name)[:12]
    kept = name.encode()[: room - len(mark) - 1].decode(errors="ignore")
    return f"{kept}.{mark}{suffix}"
