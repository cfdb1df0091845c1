"""The lab's log of one job: a file in the model folder, and warnings on stderr in the foreground."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
ROOT = "trueface"
# whether the command line has logged the flags without effect, so that its job does not log the settings
FLAGS_ARE_NAMED: ContextVar[bool] = ContextVar("flags_are_named", default=False)


def root() -> logging.Logger:
    """Return the root logger of the lab, at level INFO."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO)
    return logger


@contextlib.contextmanager
def log_to_file(path: Path, *, mode: str = "w") -> Iterator[None]:
    """Send the log to `path`; folders are made as needed.

    Args:
        path: the file.
        mode: "w" overwrites the file, "a" appends to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _attach_handler(logging.FileHandler(path, mode=mode, encoding="utf-8")):
        yield


@contextlib.contextmanager
def log_to_stderr(level: int = logging.WARNING) -> Iterator[None]:
    """Send records of at least `level` to stderr, unless the log has a handler already."""
    if logging.getLogger(ROOT).handlers:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    with _attach_handler(handler):
        yield


@contextlib.contextmanager
def _attach_handler(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger(ROOT)
    level = logger.level
    logger.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(handler)
    try:
        yield
    except Exception as error:
        logger.info("error=%s", error)  # the caller that catches it prints it
        raise
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
