"""Functions before and behind a queue: pickles, options, entries, files left."""

import errno
import functools
import io
import math
import operator
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from numbers import Real
from pathlib import Path
from typing import Any

import pytest

from launcher.experiments.functions import entry
from launcher.experiments.functions.call_results import EXCEPTION, read_value, write_value
from launcher.experiments.functions.calls import (
    FOLDER,
    KIND,
    YOUNG_S,
    Call,
    call_of,
    call_text,
    find_file,
    function_identity,
    named_arguments,
    plain_result,
    read_call,
    unused_calls,
    write_calls,
)
from launcher.experiments.functions.entry import call
from launcher.experiments.functions.options import JobOptions, read_request
from launcher.experiments.functions.pickling import CannotPickle, dump, name_of
from launcher.experiments.functions.private_files import (
    make_private_folder,
    open_private,
    write_private,
)
from launcher.experiments.functions.task_files import bar, html
from launcher.queue.home.paths import Home
from launcher.queue.job_options.registry import job_options
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.workers.worker_job import Job
from launcher.system import files
from launcher.system.errors import MachineError, UsageError
from tests.build import a_spec, enqueue
from tests.launcher.users import NOBODY


@pytest.mark.parametrize(
    ("function", "given", "values", "identity"),
    [
        (divmod, [(7, 2), (9, 4)], [(3, 1), (2, 1)], "builtins divmod"),
        (str.upper, [("a",)], ["A"], "builtins str.upper"),
        (dict.get, [({"a": 1}, "a"), ({}, "a")], [1, None], "builtins dict.get"),
        (bytes.__add__, [(b"a", b"b")], [b"ab"], "builtins bytes.__add__"),
        ("-".join, [("ab",)], ["a-b"], ""),
        ((2).__add__, [(3,)], [5], ""),
        (dict.fromkeys, [("a",)], [{"a": None}], ""),
        (operator.itemgetter(0), [("ab",)], ["a"], ""),
        (functools.partial(str.upper, "a"), [()], ["A"], ""),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_each_call_is_loaded_with_its_own_arguments(
    tmp_path: Path,
    function: Callable[..., object],
    given: list[tuple[object, ...]],
    values: list[object],
    identity: str,
) -> None:
    folder = tmp_path / "functions"
    calls = write_calls(folder, function, given, {})
    assert len([*folder.iterdir()]) == 1
    for one, value in zip(calls, values, strict=True):
        loaded, arguments, keywords = read_call(call_of(one.settings()))
        assert loaded(*arguments, **keywords) == value
    assert function_identity(function, None) == identity


def test_call_with_a_missing_file_explains_what_to_do(tmp_path: Path) -> None:
    (one,) = write_calls(tmp_path / "functions", abs, [(-1,)], {})
    with pytest.raises(MachineError, match="Submit it again"):
        read_call(one._replace(file=f"{one.file}x"))


# --- Which object is to blame where something cannot be pickled, and how calls are shown


LOCK = threading.Lock()


class Holder:
    """An object that may hold anything."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__ |= parts

    def method(self) -> None:
        """Do nothing."""


def blame(value: object) -> str:
    with pytest.raises(CannotPickle) as caught:
        dump(value, io.BytesIO(), "it", "help")
    return str(caught.value).removeprefix("it cannot be pickled: ").partition(" is of type")[0]


def a_closure() -> object:
    inner = {"deep": Holder(lock=threading.Lock())}

    def function() -> object:
        return inner

    return function


def a_user_of_a_global() -> object:
    def function() -> object:
        return [LOCK for _ in range(2)]

    return function


def one_with_defaults() -> object:
    def function(x: object = LOCK, *, y: object = None) -> object:
        return x, y

    return function


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (a_closure(), "inner['deep'].lock"),
        (a_user_of_a_global(), "LOCK"),
        (one_with_defaults(), "x"),
        (functools.partial(print, 1, [LOCK]), "[1][0]"),
        (functools.partial(print, end=LOCK), "['end']"),
        (Holder(a=1, b=LOCK).method, "__self__.b"),
        ({"x": {LOCK}}, "['x']{…}"),
        (LOCK, "it"),
    ],
)
def test_innermost_unpicklable_object_is_named(value: object, path: str) -> None:
    assert blame(value) == path


def test_disk_error_is_not_attributed_to_the_function() -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        dump(1, Full(), "it", "help")


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((0.1, "a", None, True), {"seed": 3}, "train(0.1, 'a', None, True, seed=3)"),
        ((b"x" * 99, [1]), {"name": "y" * 99}, "train(<bytes>, <list>, name=<str>)"),
        ((10**5000,), {}, "train(<int>)"),
    ],
)
def test_call_is_shown_in_python_syntax_without_long_values(
    arguments: tuple[object, ...], keywords: dict[str, object], text: str
) -> None:
    assert call_text("train", arguments, keywords) == text


def test_unnamed_function_gets_a_name() -> None:
    assert name_of(lambda: None) == "lambda"
    assert name_of(functools.partial(functools.partial(print))) == "print"
    assert name_of(Holder) == "Holder"

    class Model:
        def __call__(self) -> None:
            return None

    assert name_of(Model()) == "Model"


# --- Options as Python writes them


def test_python_accepts_every_option_of_the_command_line() -> None:
    assert set(JobOptions.__annotations__) == set(job_options())


@pytest.mark.parametrize(
    ("options", "part", "value"),
    [
        ({"vram": "10GiB"}, "resources.vram", 10 << 30),
        ({"vram": 10 << 30}, "resources.vram", 10 << 30),
        ({"ram": 5_000_000_000}, "resources.ram", 5_000_000_000),
        ({"gpus": 2}, "resources.gpus", 2),
        ({"gpus": 1, "gpu_ids": "numbers"}, "resources.gpu_ids", "numbers"),
        ({"gpus": 2}, "resources.device", "cuda"),
        ({}, "resources.device", "cpu"),
        ({"gpus": 0}, "resources.device", "cpu"),
        ({"exclusive": True}, "resources.exclusive", True),
        ({"exclusive": False}, "resources.exclusive", False),
        ({"time_limit": "8h"}, "terms.time_limit_s", 28_800.0),
        ({"time_limit": 90}, "terms.time_limit_s", 90.0),
        ({"time_limit": timedelta(minutes=2)}, "terms.time_limit_s", 120.0),
        ({"grace": 0.5}, "terms.grace_s", 0.5),
        ({"on": ["local"]}, "terms.on", ("local",)),
        ({"priority": -3}, "priority", -3),
        ({"group": None}, "terms.group", ""),
    ],
)
def test_value_is_read_like_in_a_task_file(
    options: dict[str, Any], part: str, value: object
) -> None:
    given: Any = read_request(options)
    for name in part.split("."):
        given = getattr(given, name)
    assert given == value


def test_time_may_be_a_datetime() -> None:
    at = datetime.now().astimezone() + timedelta(hours=1)
    assert read_request({"not_before": at}).terms.not_before == at.timestamp()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpu": 1}, "Did you mean 'cpus'"),
        ({"cpus": 0}, "cpus: expected a whole number"),
        ({"cpus": 1.5}, "cpus: expected a whole number"),
        ({"gpus": True}, "gpus: expected a whole number"),
        ({"vram": "10GB"}, "vram: unknown unit 'GB'"),
        ({"time_limit": 0}, "time_limit: must be greater than zero"),
        ({"time_limit": -1}, "time_limit: expected a time of at least 0 s, got -1$"),
        ({"grace": float("nan")}, "grace: expected a time of at least 0 s, got nan$"),
        ({"time_limit": float("inf")}, "time_limit: expected at most .*h, got inf$"),
        ({"time_limit": 10**400}, "time_limit: expected at most .*h, got 1000"),
        ({"warn": timedelta(seconds=-2)}, r"warn: expected a time of at least 0 s, got datetime"),
        ({"gpus": 1, "device": "cpu"}, "gpus='1' and device='cpu' contradict"),
        ({"warn": "5m"}, "time_limit='8h'"),
        ({"rerun": "often"}, "rerun: expected again or never"),
    ],
)
def test_invalid_option_is_named_with_the_expected_value(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_request(options)


# --- What a worker does for a call


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


def test_value_is_stored_and_its_printable_part_is_returned(tmp_path: Path) -> None:
    job = a_job(tmp_path, divmod, 7, 2)
    assert call(job) == {}
    assert read_value(job.attempt_folder, "f") == (3, 1)


def test_call_stopped_before_it_began_does_not_begin(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    job = a_job(tmp_path, (tmp_path / "ran").touch, stop=stop)
    with pytest.raises(KeyboardInterrupt):
        call(job)
    assert not (tmp_path / "ran").exists()
    assert not (job.attempt_folder / EXCEPTION).exists()  # it runs again, or was cancelled


def test_signal_interrupts_only_the_function(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def end_me() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    job = a_job(tmp_path, end_me)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        call(job)
    assert job.stop.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_value_waits_for_disk_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "DISK_FULL_PAUSE_S", 0.0)
    full = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))] * 2

    def on_a_full_disk(*arguments: Any) -> None:
        if full:
            raise full.pop()
        write_value(*arguments)

    monkeypatch.setattr(entry, "write_value", on_a_full_disk)
    job = a_job(tmp_path, abs, -3)
    assert call(job) == {"value": 3}
    assert read_value(job.attempt_folder, "f") == 3
    assert capfd.readouterr().err.count("waits to write its value: No space left") == 1


# --- What of values and arguments people see

NAN = float("nan")


@Real.register
class Half:
    """A number of another class than float, such as the scalars of NumPy."""

    def __float__(self) -> float:
        return 0.5


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1, {"value": 1}),
        (True, {"value": True}),
        (NAN, {"value": NAN}),
        ({"acc": Half(), "loss": -math.inf}, {"acc": 0.5, "loss": -math.inf}),
        (10**400, {}),
        ("short", {"value": "short"}),
        ("x" * 1000, {}),
        (None, {}),
        ([1, 2], {}),
        ({"a": 1, 2: 3, "b": [1], "c": 0.5}, {"a": 1, "c": 0.5}),
        ({str(number): number for number in range(100)}, {}),
    ],
)
def test_numbers_and_short_texts_are_shown(value: object, plain: dict[str, object]) -> None:
    assert plain_result(value) == plain


def test_arguments_have_the_names_of_the_function_and_large_ones_are_omitted() -> None:
    def train(lr: float, layers: list[int], *, seed: int = 0) -> None:
        raise NotImplementedError

    assert named_arguments(train, (0.1, [1, 2]), {"seed": 3}) == {"lr": 0.1, "seed": 3}
    assert named_arguments(functools.partial(train, 0.1), ([1],), {}) == {}
    assert named_arguments(train, (), {"epochs": 1}) == {}
    assert named_arguments(min, (1, 2), {}) == {}


# --- The bar of `wait` in a notebook and a terminal


STATES = {1: State.DONE, 2: State.FAILED, 3: State.RUNNING, 4: State.QUEUED}


def test_notebook_gets_plain_html() -> None:
    text = html(STATES)
    assert text.startswith('<progress value="2" max="4"></progress> 2 of 4 · ')
    assert "1 running" in text
    assert "1 failed" in text
    assert 'value="0" max="1"' in html({})


def test_terminal_gets_a_progress_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with bar(show=True) as show:
        show(STATES)
    drawn = capsys.readouterr()
    assert "2/4" in drawn.err
    assert drawn.out == ""


# --- Only private files are read, and a written file appears complete


def a_file(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    path = folder / "x"
    with write_private(path) as file:
        file.write(b"content")
    return path


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_writable_by_others_is_not_read(tmp_path: Path, mode: int) -> None:
    path = a_file(tmp_path / "own")
    path.chmod(mode)
    with pytest.raises(MachineError, match="other users may write"), open_private(path):
        pass


def test_file_in_a_folder_writable_by_others_is_not_read(tmp_path: Path) -> None:
    path = a_file(tmp_path / "own")
    path.parent.chmod(0o777)
    with (
        pytest.raises(MachineError, match=f"other users may write {path.parent}"),
        open_private(path),
    ):
        pass
    with pytest.raises(MachineError, match="other users may write"):
        make_private_folder(path.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    path = a_file(tmp_path / "own")
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(MachineError, match="belongs to user"), open_private(path):
        pass


def test_link_or_pipe_is_not_read(tmp_path: Path) -> None:
    path = a_file(tmp_path / "own")
    link, pipe = path.with_name("link"), path.with_name("pipe")
    link.symlink_to(path)
    os.mkfifo(pipe, 0o600)
    with pytest.raises(OSError, match="symbolic links"), open_private(link):
        pass
    with pytest.raises(MachineError, match="is not a regular file"), open_private(pipe):
        pass


# --- Which files of calls are deleted: those that no job needs


def a_call(home: Home, *, age_s: float = 0.0) -> Path:
    """Write a file of calls that no job names."""
    (one,) = write_calls(home.folder / FOLDER, abs, [(-1,)], {})
    path = Path(one.file)
    os.utime(path, times=(time.time(), time.time() - age_s))
    return path


def a_call_of(store: Store, name: str, path: Path) -> int:
    spec = a_spec(name=name, entry="x:y", settings={"file": str(path)})
    (number,) = enqueue(store, spec)
    with store.database.writing():
        store.database.execute("UPDATE jobs SET kind = ? WHERE id = ?", (KIND, number))
    return number


def test_unreferenced_file_is_deleted_once_no_submission_can_be_writing_it(
    home: Home, store: Store
) -> None:
    a_call(home)
    old, used = a_call(home, age_s=2 * YOUNG_S), a_call(home, age_s=2 * YOUNG_S)
    a_call_of(store, "function/abs#1", used)
    assert unused_calls(home, store, []) == [old]


# --- Where the file of a call is looked for


def moved(home: Home) -> Home:
    return Home(home.folder.rename(home.folder.with_name("moved")))


def test_missing_call_is_named_with_its_place(home: Home) -> None:
    path = a_call(home)
    one = Call("abs(-1)", str(path), 0, {})
    path.unlink()
    assert find_file(one, home.attempt(1, 1)) == one


@pytest.mark.parametrize("older", [True, False])
def test_call_of_a_waiting_job_is_kept_after_its_home_was_moved(
    home: Home, store: Store, *, older: bool
) -> None:
    path = a_call(home, age_s=2 * YOUNG_S)
    a_call_of(store, "function/abs#1", path if older else path.relative_to(home.folder))
    store.close()
    new = moved(home)
    after = Store(new)
    assert unused_calls(new, after, []) == []
    assert unused_calls(new, after, after.read.jobs()) == [new.folder / FOLDER / path.name]
    after.close()
