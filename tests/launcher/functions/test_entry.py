"""What a worker does for a call."""

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from launcher.functions import entry
from launcher.functions.calls import write_calls
from launcher.functions.entry import call
from launcher.functions.pickling import EXCEPTION, read_exception, read_value, write_value
from launcher.system import files
from launcher.workers.job import Job


def a_job(folder: Path, function: Any, *arguments: object, **changes: Any) -> Job:
    """Return the job of a call, as its worker gets it."""
    attempt = folder / "attempt"
    attempt.mkdir(mode=0o700)
    (made,) = write_calls(folder / "functions", function, [arguments], {})
    values: dict[str, Any] = {"run_folder": folder, "folder": folder, "attempt_folder": attempt}
    return Job(
        name="function/f#1",
        kind="function",
        run="functions",
        attempt=1,
        device="cpu",
        cpus=1,
        settings=made.settings(),
        **values | changes,
    )


def test_a_value_is_stored_and_what_screens_can_show_of_it_is_returned(tmp_path: Path) -> None:
    job = a_job(tmp_path, divmod, 7, 2)
    assert call(job) == {}
    assert read_value(job.attempt_folder, "f") == (3, 1)


def test_a_call_that_was_asked_to_end_before_it_began_does_not_begin(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    job = a_job(tmp_path, (tmp_path / "ran").touch, stop=stop)
    with pytest.raises(KeyboardInterrupt):
        call(job)
    assert not (tmp_path / "ran").exists()
    assert not (job.attempt_folder / EXCEPTION).exists()  # it runs again, or was cancelled


def test_a_signal_interrupts_the_function_and_nothing_after_it(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def end_me() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    job = a_job(tmp_path, end_me)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        call(job)
    assert job.stop.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_function_raises_is_stored_and_raised(tmp_path: Path) -> None:
    job = a_job(tmp_path, int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        call(job)
    assert isinstance(read_exception(job.attempt_folder), ValueError)


def test_a_value_waits_for_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "ROOM_PAUSE_S", 0.0)
    full = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))] * 2

    def on_a_full_disk(*arguments: Any) -> None:
        if full:
            raise full.pop()
        write_value(*arguments)

    monkeypatch.setattr(entry, "write_value", on_a_full_disk)
    job = a_job(tmp_path, abs, -3)
    assert call(job) == {"value": 3}
    assert read_value(job.attempt_folder, "f") == 3
    assert capfd.readouterr().err.count("waits for room: No space left") == 1
