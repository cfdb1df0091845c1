import io
import json
import math
import os
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr

import pytest

from launcher.frontends.screens.command_output import print_json
from launcher.provenance.hashing_progress import watch_hashing
from launcher.queue.store.queue import Store
from launcher.system.live_display import live_count
from launcher.system.terminal import HIGH, WIDE, supports_unicode, terminal_size, uses_colour
from tests.build import Clock, a_spec, enqueue
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND, in_a_terminal

ESCAPE = "\x1b["
MIB = 1 << 20


@pytest.mark.parametrize(
    ("environ", "known"),
    [
        ({}, True),
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # Python's own word, not the terminal's
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, True),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "en_US.utf8", "TERM": "dumb"}, False),
        ({"LC_ALL": "", "LC_CTYPE": "", "LANG": ""}, True),
    ],
)
def test_unicode_support_is_read_from_the_environment(environ: dict[str, str], known: bool) -> None:
    assert supports_unicode(environ) is known


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_pipe_has_colours_only_on_request(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], wanted: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    assert uses_colour(io.StringIO()) is wanted


def test_terminal_has_colours_unless_no_color_is_set(store: Store) -> None:
    enqueue(store, a_spec())
    assert ESCAPE in in_a_terminal("status", colour=True)
    assert ESCAPE not in in_a_terminal("status")


@pytest.mark.parametrize("words", [("--color", "never", "status"), ("status", "--color=never")])
def test_colour_option_is_accepted_before_and_after_the_command(
    store: Store, words: tuple[str, ...]
) -> None:
    enqueue(store, a_spec())
    assert ESCAPE not in in_a_terminal(*words, colour=True)


def test_colour_option_overrides_the_environment(store: Store) -> None:
    enqueue(store, a_spec())
    assert ESCAPE in in_a_terminal("status", "--color", "always")


@pytest.mark.parametrize("words", [("--ascii", "status"), ("status", "--ascii")])
def test_ascii_output_contains_only_ascii(store: Store, words: tuple[str, ...]) -> None:
    enqueue(store, "command/世界")
    drawn = in_a_terminal(*words)
    assert drawn.isascii()
    assert "o command/????" in drawn


def test_pipe_has_full_names_in_any_locale(store: Store) -> None:
    enqueue(store, "command/世界")
    told = subprocess.run(
        [*COMMAND, "status"], env=os.environ | {"LC_ALL": "C"}, check=True, capture_output=True
    )
    assert "command/世界" in told.stdout.decode()


def test_pipe_never_contains_escape_sequences(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec())
    assert ESCAPE not in launcher("status").out
    assert "NO_COLOR" not in os.environ


def test_terminal_of_unknown_size_uses_the_default_size() -> None:
    ours, theirs = os.openpty()  # a terminal of 0 columns
    with os.fdopen(theirs, "w") as stream:
        assert terminal_size(stream) == (WIDE, HIGH)
    os.close(ours)


def test_json_has_null_for_unknown_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"rows": [{"auc": (math.inf, "x"), "n": 2}], "loss": math.nan})
    record = {"schema": 1, "rows": [{"auc": [None, "x"], "n": 2}], "loss": None}
    assert json.loads(capsys.readouterr().out) == record


@contextmanager
def a_narrow_terminal() -> Iterator[Callable[[], str]]:
    """Make the standard error a terminal of 40 columns. Gives what reads what was drawn since."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 40))
    os.set_blocking(ours, False)

    def read() -> str:
        try:
            return os.read(ours, 4096).decode()
        except BlockingIOError:
            return ""

    with os.fdopen(theirs, "w") as stream, redirect_stderr(stream):
        yield read
    os.close(ours)


def test_name_of_a_hashed_file_cannot_control_the_terminal() -> None:
    with a_narrow_terminal() as drawn:
        watch = watch_hashing(clock := Clock())
        assert watch is not None
        for _ in range(2):
            watch("/data/big\x1b[31mRED\n.bin", 8 * MIB, 64 * MIB)
            clock.now += 1
        assert drawn() == "\rhashing big\\x1b[31mRED\\n.bin: 8 MiB of~\x1b[K"


def test_progress_line_is_shown_only_for_slow_hashing() -> None:
    with a_narrow_terminal() as drawn:
        watch = watch_hashing(clock := Clock())
        assert watch is not None
        clock.now += 60
        watch("first.bin", 8 * MIB, 16 * MIB)
        watch("first.bin", 16 * MIB, 16 * MIB)
        watch("second.bin", 8 * MIB, 64 * MIB)
        assert drawn() == ""
        clock.now += 60
        watch("second.bin", 16 * MIB, 64 * MIB)
        assert drawn() == "\rhashing second.bin: 16 MiB of 64 MiB\x1b[K"
        watch("second.bin", 64 * MIB, 64 * MIB)
        assert drawn() == "\r\x1b[K"


def test_count_of_a_long_task_is_drawn_and_removed() -> None:
    with a_narrow_terminal() as drawn:
        with live_count("jobs deleted", 3000, clock := Clock()) as count:
            count(10)
            assert drawn() == ""
            clock.now += 1.0
            count(1200)
            assert "jobs deleted: 1,200 of 3,000" in drawn()
            count(1300)
            assert drawn() == ""
        assert drawn() == "\r\x1b[1A\x1b[J"
