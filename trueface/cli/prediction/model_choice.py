"""Which trained model a command means: the one of a run, a checkpoint's file, or a model folder."""

import os
from pathlib import Path

from launcher.api import UnknownName, UsageError
from trueface.runtime import paths

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
        raise UsageError(f"{' and '.join(named)} name a model each: give one of them")
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
    return _of_run(run or DEFAULT_RUN, model)


def _of_run(run_name: str, model: str | None) -> Path:
    """Return the path of a model's weights; where there are none, suggest the models that exist."""
    runs = Path.cwd() / "runs"
    run = runs / paths.folder_name("--name", run_name)
    models = _models(run)
    if model is None and len(models) == 1:
        model = models[0]
    if model is None and models:
        raise UsageError(
            f"run {run_name} has {len(models)} trained models: name one with --model: "
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
        f"no trained model in {runs}; train one, name a file with --checkpoint, or a model folder "
        f"with --model-folder or {VARIABLE}"
    )


def _file(weights: Path, source: str = "--checkpoint") -> Path:
    if not weights.is_file():
        raise UsageError(
            f"{source}: there is no checkpoint {weights}: name the file of a trained model"
        )
    return weights


def _folder(folder: Path) -> Path:
    if not _is_model_folder(folder):
        raise UsageError(
            f"{folder} is no model folder: it has no {paths.MODEL_FOLDER}; trueface pretrain writes one"
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
