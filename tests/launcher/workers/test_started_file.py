"""The record of an attempt where no file can have two names."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from launcher.states import Done
from launcher.system.paths import Attempt
from launcher.workers.started_file import (
    outcome_line,
    record_outcome,
    recorded_outcome,
    restore,
    take_right,
)

ORDER = b'{"schema": 1}\n'


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """An attempt on such a file system."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    attempt = Attempt(tmp_path / "1-1")
    attempt.folder.mkdir()
    attempt.spec.write_bytes(ORDER)
    return attempt


def test_without_links_the_right_to_start_is_given_once(attempt: Attempt) -> None:
    record = take_right(attempt)
    assert record is not None
    with open(record, "rb") as file:  # noqa: PTH123  # a descriptor
        assert file.read() == ORDER
    assert take_right(attempt) is None


def test_without_links_a_deleted_record_is_made_again(attempt: Attempt) -> None:
    shutil.rmtree(attempt.folder)
    restore(attempt, ORDER)
    record_outcome(attempt, outcome_line(Done(at=1.0)))
    assert recorded_outcome(attempt) == Done(at=1.0)
    assert attempt.spec.read_bytes() == ORDER
