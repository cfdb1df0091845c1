"""The numbers of a training as TensorBoard's event files, beside its weights: `tensorboard: true`."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.progress import Watch

FLUSH_S = 10  # a training that is killed loses no more


def clear(folder: Path) -> None:
    """Delete the event files of another training from a model's folder."""
    shutil.rmtree(paths.event_files(folder), ignore_errors=True)


@contextmanager
def logged(watch: Watch, folder: Path, *, wanted: bool, images_read: int = 0) -> Iterator[Watch]:
    """Give a watch whose reports are also written as event files into a model's folder.

    Args:
        watch: where reports go.
        folder: of the model.
        wanted: else the watch is given as it is.
        images_read: where the training goes on; what was written beyond that is hidden by TensorBoard.

    Raises:
        JobError: the package is not installed.
    """
    if not wanted:
        yield watch
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to import
    except ImportError as error:
        remedy = "pip install 'launcher-trueface[tensorboard]'"
        raise JobError(f"tensorboard: true cannot be done: {error}; {remedy}") from error
    purge_step = images_read + 1 if images_read else None
    writer = SummaryWriter(
        str(paths.event_files(folder)), purge_step=purge_step, flush_secs=FLUSH_S
    )

    def report(*, step: int, total: int | None = None, **metrics: float | str) -> None:
        for name, value in metrics.items():
            if isinstance(value, int | float):
                writer.add_scalar(name, value, step)
        watch.progress(step=step, total=total, **metrics)

    try:
        yield replace(watch, progress=report)
    finally:
        writer.close()
