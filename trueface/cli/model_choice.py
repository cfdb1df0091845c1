"""The model of `trueface predict`: a file, a model folder, or a model of a run."""

import os
from pathlib import Path

from launcher.api import UnknownName, UsageError
from trueface.data.folders import describe_names
from trueface.runtime import paths

VARIABLE = "TRUEFACE_MODEL"  # a model folder or a checkpoint, used if no option gives one
DEFAULT_RUN = "test"


def resolve_model_path(
    model: str | None, run: str | None, checkpoint: Path | None, folder: Path | None
) -> Path:
    """Return the checkpoint file or the model folder that the options select.

    Args:
        model: ID of a model of the run, or a model folder.
        run: its name, or None if not given.
        checkpoint: a file.
        folder: a model folder.

    Raises:
        UsageError: several are given, or the given one does not exist. The message lists existing ones.
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
        path = Path(variable)
        return _folder(path) if path.is_dir() else _file(path, VARIABLE)
    return _find_run_model(run or _usual_run(), model)


def _usual_run() -> str:
    """Return the run to use if none is given: the default one, or the only one with models.

    Raises:
        UsageError: several others have models.
    """
    root = Path.cwd() / "runs"
    if _models(root / DEFAULT_RUN):  # first, as a slow disk may hold many runs
        return DEFAULT_RUN
    runs = [folder.name for folder in _folders(root) if _models(folder)]
    if len(runs) > 1:
        raise UsageError(
            f"{len(runs)} runs have trained models. Choose one with --name: {describe_names(runs)}"
        )
    return runs[0] if runs else DEFAULT_RUN


def _find_run_model(run_name: str, model: str | None) -> Path:
    """Return the path of a model's weights. The errors suggest existing models."""
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
