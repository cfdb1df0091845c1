"""`launcher top` in a real terminal: resized, suspended, closed, killed, without colours or UTF-8."""

import base64
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from tests.build import a_spec, claimed, enqueue, job_row, until
from tests.terminal import COMMAND, TerminalWindow, seen

ALTERNATE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.fixture
def jobs(home: Home, store: Store) -> list[int]:
    """One that runs, with others behind it."""
    jobs = enqueue(store, *(f"train/{name}" for name in "abc"))
    home.attempt(jobs[0], 1).folder.mkdir(parents=True)
    claimed(store, jobs[0], time.time())
    return jobs


@contextmanager
def open_top(*words: str, **how: Any) -> Iterator[TerminalWindow]:
    """The dashboard as it was drawn first."""
    with seen("top", *words, **how) as window:
        window.shows("▸ ● train/a")
        yield window


def is_restored(window: TerminalWindow) -> bool:
    """Return whether the terminal shows its previous content again, with a cursor."""
    return window.raw.rfind(BACK) > window.raw.rfind(ALTERNATE) and window.raw.rfind(
        b"\x1b[?25h"
    ) > window.raw.rfind(b"\x1b[?25l")


def test_keys_sent_together_are_handled_in_order(jobs: list[int], store: Store) -> None:
    home, end, left, backspace = "\x1b[H", "\x1b[F", "\x1b[D", "\x7f"
    with open_top() as window:
        typed = f"ain/xx{backspace}\x08c{home}tr{end}\x1b[O{left}{backspace}/{end}"
        window.type(f"/{typed}{60 * 'z'}{60 * backspace}\rhy")
        window.shows(f"job {jobs[2]} train/c held")
        window.type("qly")
        assert window.ends() == 0
        assert not re.search(rb"\x1b\[\?100[0-3]h", window.raw), "its mouse selects text"
    assert [job_row(store, job).state for job in jobs] == ["running", "queued", "held"]


def test_screen_is_redrawn_after_suspension_and_restored_by_sigterm(jobs: list[int]) -> None:
    with open_top("--read-only") as window:
        window.type("\x1a")
        until(lambda: _state(window) == "T", "it is suspended")
        window.until(lambda _: is_restored(window), "the terminal is given back")
        drawn = len(window.raw)
        os.kill(window.child.pid, signal.SIGCONT)
        window.until(lambda _: ALTERNATE in window.raw[drawn:], "it takes the terminal again")
        whole = (b"launcher", b"RUNNING", b"train/a", b"WAITING", b"train/c", b"help")
        window.until(
            lambda _: all(text in window.raw[drawn:] for text in whole), "all is drawn again"
        )
        window.type("j")
        window.shows("▸ ○ train/b")
        os.kill(window.child.pid, signal.SIGTERM)
        assert window.ends() == 143
        assert is_restored(window)


def test_screen_is_redrawn_after_sigstop_and_fills_a_resized_window(jobs: list[int]) -> None:
    with open_top("--read-only") as window:
        os.kill(window.child.pid, signal.SIGSTOP)
        until(lambda: _state(window) == "T", "it is stopped")
        os.kill(window.child.pid, signal.SIGCONT)
        window.type("j")
        window.shows("▸ ○ train/b")
        window.resize(120, 40)
        window.until(lambda _: window.lines[39].startswith("read only  ? help"), "it is larger")
        window.resize(40, 10)
        window.until(lambda _: window.lines[9].startswith("read only  ? help"), "it is smaller")
        window.leaves()


def _state(window: TerminalWindow) -> str:
    stat = Path(f"/proc/{window.child.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def test_closed_window_ends_top_and_no_job(jobs: list[int], store: Store) -> None:
    with open_top("--read-only") as window:
        window.close()
        assert window.ends() == -signal.SIGHUP
    assert [job_row(store, job).state for job in jobs] == ["running", "queued", "queued"]


def test_lost_terminal_ends_top_without_a_signal(jobs: list[int]) -> None:
    ours, theirs = pty.openpty()
    argv = [*COMMAND, "top", "--read-only"]
    environ = {**os.environ, "TERM": "xterm-256color"}
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    try:  # it is not the child's controlling terminal, so the child gets no SIGHUP
        os.close(theirs)
        drawn = b""
        while b"train/a" not in drawn:
            drawn += os.read(ours, 4096)
        os.close(ours)
        until(lambda: child.poll() is not None, "it ends")
    finally:
        child.kill()
        child.wait()


def test_without_utf_8_only_ascii_is_written(jobs: list[int]) -> None:
    with seen("--ascii", "top", "--read-only") as window:
        window.shows("> * train/a")
        window.type("m3")
        window.shows(" @* train/a")
        window.shows("> o train/b")
        window.type("\r3")
        window.shows("[3 metrics]")
        window.leaves("qq")
        assert max(window.raw) < 128


def test_ascii_can_be_requested_by_the_environment(jobs: list[int]) -> None:
    with seen("top", "--read-only", LC_ALL="C") as window:
        window.shows("> * train/a")
        window.leaves()
        assert max(window.raw) < 128


def _type_before_b(window: TerminalWindow) -> None:
    """Move the cursor of the input onto a letter, wait until it is there, and leave."""
    window.type("/b\x1b[D")
    cursor = re.compile(rb"\x1b\[(?:\d+;)*7(?:;[34]9)*mb\x1b")
    window.until(lambda _: cursor.search(window.raw), "the cursor is on the letter")
    window.type("\x03")


def test_sixteen_colours_are_enough(jobs: list[int]) -> None:
    with open_top("--read-only", colour=True, TERM="xterm-16color", COLORTERM="") as window:
        window.type("j")
        window.shows("▸ ○ train/b")
        _type_before_b(window)
        assert window.ends() == 0
        codes = set(b";".join(re.findall(rb"\x1b\[([0-9;]+)m", window.raw)).split(b";"))
        assert b"36" in codes, "what runs is cyan"
        assert not codes & {b"38", b"48", b"40"}, "the background is the person's own"


def test_cursor_is_visible_without_colours_and_exit_prints_what_still_runs(
    jobs: list[int],
) -> None:
    with open_top("--read-only") as window:  # NO_COLOR
        _type_before_b(window)
        assert window.ends() == 0
        assert is_restored(window)
        told = b"1 running job continues. To come back: launcher top. To stop: launcher stop"
        assert told in window.raw.rpartition(BACK)[2]
        codes = set(b";".join(re.findall(rb"\x1b\[([0-9;]+)m", window.raw)).split(b";"))
        assert not codes & {b"%d" % number for number in (*range(30, 38), *range(40, 48))}


def test_editor_uses_the_terminal_and_returns_it(jobs: list[int], store: Store) -> None:
    editor = "sed -i 's/^  # priority: .*/  priority: 3/'"
    with open_top(VISUAL=editor, columns=120) as window:
        window.type("j")
        window.shows("▸ ○ train/b")
        window.type("e")
        window.shows(f"job {jobs[1]} was changed")
        window.shows("▸ ○ train/b")
        window.type("k")
        window.shows("▸ ● train/a")
        window.leaves()
        assert is_restored(window)
    assert job_row(store, jobs[1]).priority == 3


def test_error_output_of_a_failed_editor_stays_readable(jobs: list[int], store: Store) -> None:
    before = job_row(store, jobs[1]).spec_text
    with open_top(VISUAL="false") as window:
        window.type("j")
        window.shows("▸ ○ train/b")
        window.type("e")
        window.shows("Enter goes back to launcher top")
        assert "the editor false failed (exit code 1). The job is unchanged." in window.text
        window.type("\n")
        window.shows(f"job {jobs[1]} is as it was")
        window.leaves()
    assert job_row(store, jobs[1]).spec_text == before


def test_interrupting_an_editor_does_not_end_top(jobs: list[int], tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\ntrap 'exit 7' INT\necho opened\nwhile :; do sleep 0.1; done\n")
    editor.chmod(0o700)
    with seen("top", VISUAL=str(editor)) as window:
        window.shows("▸ ● train/a")
        window.type("j")
        window.shows("▸ ○ train/b")
        window.type("e")
        window.shows("opened")
        window.type("\x03")
        window.shows("Enter goes back to launcher top")
        window.type("\n")
        window.shows(f"job {jobs[1]} is as it was")  # the terminal is the screen's again
        window.leaves("\x03")


def test_command_line_is_copied_to_the_clipboard_and_shown(home: Home, store: Store) -> None:
    enqueue(store, a_spec("echo", "it's $HOME", "\x1b[2J", name="command/1"))
    with seen("top", "--read-only") as window:
        window.shows("▸ ○ command/1")
        window.type("y")
        text = window.shows("sent to the clipboard of the terminal")
        (copied,) = re.findall(rb"\x1b\]52;c;([A-Za-z0-9+/=]+)\x07", window.raw)
        command = base64.b64decode(copied).decode()
        assert command.startswith("cd ")
        assert command.endswith(r"""&& echo 'it'"'"'s $HOME' $'\033[2J'""")
        assert command.partition(" && ")[2] in text.replace("\n", "")
        window.leaves("qq")


def test_dumb_terminal_gets_an_alternative_command(jobs: list[int]) -> None:
    with seen("top", TERM="dumb") as window:
        assert window.ends() == 2
        assert b"To print the screen once: launcher top --once" in window.raw
