"""The numbers of a training as TensorBoard's event files, beside its weights: `tensorboard: true`."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.progress import Watch

PACKAGE = "tensorboard"
FLUSH_S = 10  # a training that is killed loses no more
REMEDY = "pip install 'launcher-trueface[tensorboard]'"


def not_installed(settings: Mapping[str, Any]) -> Iterable[str]:
    """Yield why a training cannot write event files."""
    if settings.get("tensorboard") and find_spec(PACKAGE) is None:
        yield (
            f"tensorboard: true writes event files with the package {PACKAGE}, which is not "
            f"installed; {REMEDY}, or leave the setting out"
        )


@contextmanager
def logged(watch: Watch, folder: Path, *, wanted: bool, images_read: int = 0) -> Iterator[Watch]:
    """Give a watch whose reports are also written as event files into a model's folder.

    Args:
        watch: where reports go.
        folder: of the model; event files of another training in it are deleted.
        wanted: else the watch is given as it is.
        images_read: where the training goes on; what was written beyond that is hidden by TensorBoard.

    Raises:
        JobError: the package is not installed.
    """
    place = paths.event_files(folder)
    if not wanted:
        yield watch
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to import
    except ImportError as error:
        raise JobError(f"{error}: tensorboard: true needs it; {REMEDY}") from error
    if not images_read:
        shutil.rmtree(place, ignore_errors=True)
    purge_step = images_read + 1 if images_read else None
    writer = SummaryWriter(str(place), purge_step=purge_step, flush_secs=FLUSH_S)  # type: ignore[no-untyped-call]  # torch

    def report(*, step: int, total: int | None = None, **metrics: float | str) -> None:
        for name, value in metrics.items():
            if isinstance(value, int | float):
                writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]  # torch
        watch.progress(step=step, total=total, **metrics)

    try:
        yield replace(watch, progress=report)
    finally:
        writer.close()  # type: ignore[no-untyped-call]  # torch
