import io
import os
import re
import shutil
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.frontends.cli.main import main
from launcher.frontends.screens import follow_logs
from launcher.frontends.screens.follow_logs import (
    COLOURS,
    LONGEST_BYTES,
    LineSplitter,
    LogFollower,
    LogPrinter,
    line_labels,
)
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.system.files import write_json
from launcher.system.log_files import BLOCK_BYTES, MOST_BYTES, tail_offset
from launcher.system.terminal_codes import PlainTextFilter
from tests.build import a_context, a_spec, an_attempt, claimed, enqueue, finished, shell
from tests.launcher.conftest import Launcher
from tests.terminal import in_a_terminal, piped


def with_a_log(home: Home, store: Store, log: bytes, name: str = "command/1") -> int:
    """A job that is done and left a log."""
    (job,) = enqueue(store, name)
    attempt = an_attempt(home, a_spec(name=name), job=job)
    finished(store, job)
    attempt.log.write_bytes(log)
    return job


def a_silent_job(home: Home, store: Store, argv: tuple[str, ...], **context: Any) -> Attempt:
    """A job that has run for five minutes and has printed nothing."""
    (job,) = enqueue(store, a_spec(*argv))
    claimed(store, job)
    attempt = an_attempt(home, a_spec(*argv), job=job, context=a_context(**context))
    attempt.log.touch()
    for path in (attempt.spec, attempt.folder):
        os.utime(path, (time.time() - 300,) * 2)
    return attempt


HINT = r"no output for 5 m[ 0-9s]*\. Python may buffer it: use python -u, or set PYTHONUNBUFFERED=1"


@pytest.mark.parametrize(
    "argv",
    [
        ("python", "train.py"),
        ("/venv/bin/python3.12", "-c", "x", "-u"),
        ("python", "-m", "train"),
        ("env", "A=1", "python", "-B", "x"),
        ("torchrun", "--nproc-per-node=2", "train.py"),
        ("./train.py",),
    ],
)
def test_silent_python_program_gets_a_hint_about_its_buffer(
    launcher: Launcher, home: Home, store: Store, argv: tuple[str, ...]
) -> None:
    a_silent_job(home, store, argv)
    answer = launcher.well("logs", "1")
    assert answer.out == ""
    assert re.fullmatch(f"note: {HINT}\n", answer.err)
    assert re.fullmatch(HINT, launcher.json("status")["jobs"][0]["note"])
    assert re.search(HINT, launcher.well("show", "1").out)


@pytest.mark.parametrize(
    ("argv", "environment"),
    [
        (("python", "-u", "train.py"), {}),
        (("python", "-Bu", "train.py"), {}),
        (("env", "PYTHONUNBUFFERED=1", "python", "train.py"), {}),
        (("python", "train.py"), {"PYTHONUNBUFFERED": "1"}),
        (("sleep", "60"), {}),
    ],
)
def test_program_without_a_buffer_gets_no_hint(
    launcher: Launcher,
    home: Home,
    store: Store,
    argv: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    a_silent_job(home, store, argv, environment=environment)
    assert launcher.well("logs", "1").err == ""
    assert "output" not in launcher.json("status")["jobs"][0]["note"]


def test_hint_about_a_buffer_is_left_out_early_and_after_output(
    launcher: Launcher, home: Home, store: Store
) -> None:
    attempt = a_silent_job(home, store, ("python", "train.py"))
    attempt.log.write_text("begins\n")
    assert launcher.well("logs", "1").err == ""
    attempt.log.write_text("")
    assert re.fullmatch(f"note: {HINT}\n", launcher.well("logs", "1").err)
    attempt.folder.touch()
    attempt.spec.touch()  # it has just begun
    assert launcher.well("logs", "1").err == ""


FAILS_ONCE = 'echo try; [ -e "$1" ] || { touch "$1"; exit 1; }; echo done'
RETRIED = ("--retries", "1", "--backoff", "0s", "--hold", "--")
LOGS = [b"", b"one\n\ttwo\\three \xc3\xbc\r\nno end", b"\x1b[31mred\x00\xff\xfe\r1 %\r2 %\n"]


def written(capsysbinary: pytest.CaptureFixture[bytes], *words: str) -> bytes:
    """Return what a command writes to a pipe."""
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 0
    return capsysbinary.readouterr().out


@pytest.mark.parametrize("log", LOGS)
def test_raw_option_passes_every_byte_to_a_pipe(
    home: Home, store: Store, capsysbinary: pytest.CaptureFixture[bytes], log: bytes
) -> None:
    with_a_log(home, store, log)
    for words in (("logs", "1", "--raw"), ("logs", "1", "--raw", "-n", "9")):
        assert written(capsysbinary, *words) == log


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        *((log, log) for log in LOGS[:2]),
        (LOGS[2], b"red\\x00\xff\xfe\r1 %\r2 %\n"),
        (
            b"a\x1b[2J\x1b[Hb\x1b]0;title\x07c\x1b]8;;http://x\x1b\\d\x1bPq\x1b\\e\x1b(Bf\n",
            b"abcdef\n",
        ),
        (b"bell\x07 back\x08 csi\xc2\x9b2J lone\x1b", b"bell\\x07 back\\x08 csi\\x9b2J lone\\x1b"),
    ],
)
def test_pipe_receives_no_terminal_control_sequences(
    home: Home,
    store: Store,
    capsysbinary: pytest.CaptureFixture[bytes],
    log: bytes,
    shown: bytes,
) -> None:
    job = with_a_log(home, store, log)
    with_a_log(home, store, log, name="command/2")
    assert written(capsysbinary, "logs", str(job)) == shown
    assert b"\x1b" not in written(capsysbinary, "logs", "command/*", "-f")


WRITTEN = st.lists(
    st.sampled_from(
        b"\x1b [ ] 31 ; m H P \\ \x07 \xc2 \x9b text \n \r \x00 ( \xc3\xbc \xff".split(b" ")
    ),
    max_size=40,
).map(b"".join)


@given(WRITTEN, st.lists(st.integers(0, 80), max_size=4))
def test_pipe_receives_no_control_characters_across_chunk_boundaries(
    log: bytes, cuts: list[int]
) -> None:
    whole, pieces = PlainTextFilter(), PlainTextFilter()
    told = whole.feed(log) + whole.flush()
    places = [0, *sorted(cuts), len(log)]
    parts = [log[begin:end] for begin, end in pairwise(places)]
    assert b"".join(map(pieces.feed, parts)) + pieces.flush() == told
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]", told)


def test_terminal_receives_only_colour_control_sequences(home: Home, store: Store) -> None:
    text = "one\n\ttwo ü\r\n\x1b[31mred\x1b[2J\x07\x9b\x1b[8mhidden\n10 %\r20 %\n"
    with_a_log(home, store, text.encode() + b"\xff\n")
    shown = "one\n\ttwo ü\n{}red\\x1b[2J\\x07\\x9b{}hidden\n10 %\n20 %\n\ufffd\n"
    assert in_a_terminal("logs", "1") == shown.format("", "")
    coloured = shown.format("\x1b[31m", "\\x1b[8m") + "\x1b[0m"
    assert in_a_terminal("logs", "1", colour=True) == coloured
    job = with_a_log(home, store, b"\x1b[2J", name="command/2")
    assert in_a_terminal("logs", str(job), "--raw") == "\x1b[2J"


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("1/2 loss: 0.5\b\b\b\b\b\b\b\b\b\b\b\b\b\r2/2 loss: 0.4\n", "1/2 loss: 0.5\n2/2 loss: 0.4\n"),
        ("at  9%\b\b\b 10%\b\b\b 11%\ndone", "at   11%\ndone"),
        ("wait |\b/\b-\b", "wait -"),
        ("a\b\b\bbc\n\bd", "bc\nd"),
        ("long\b\b\b\bno\n", "nong\n"),
    ],
)  # fmt: skip
def test_terminal_receives_lines_as_their_backspaces_leave_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log: str, shown: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for pieces in ([log], re.split("(?<=\b)(?!\b)", log)):
        output = LogPrinter(raw=False)
        for piece in pieces:
            output.write(piece.encode())
        output.close()
        assert capsys.readouterr().out == shown


def test_character_split_between_two_reads_is_decoded(
    launcher: Launcher, home: Home, store: Store
) -> None:
    text = "x" + "ü" * 70_000 + "\n"
    with_a_log(home, store, text.encode())
    assert "\ufffd" not in in_a_terminal("logs", "1")
    assert launcher("logs", "1").out == text


def test_log_on_a_missing_file_system_is_reported_as_unreachable(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    with_a_log(home, store, b"")
    folder = home.attempt(1, 1).folder
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "shared/pilots/launcher-ab/attempts/1-1")
    for words in ((), ("-f",), ("--json",)):
        told = launcher("logs", "1", *words).err
        assert "cannot reach the attempt folder" in told
        assert str(tmp_path / "shared") in told
        assert "did not start" not in told


def test_closed_output_pipe_is_no_error(home: Home, store: Store) -> None:
    with_a_log(home, store, b"line\n" * 100_000)
    with piped("logs", "1", code=141) as one:
        assert one.out.readline() == "line\n"
        one.out.close()
        assert one.err.read() == ""


@pytest.mark.parametrize("lines", [1, 1000])
def test_the_end_of_a_huge_log_without_lines_is_found_without_reading_it(
    home: Home, store: Store, lines: int
) -> None:
    job = with_a_log(home, store, b"")
    log = home.attempt(job, 1).log
    with log.open("wb") as file:
        file.truncate(10 << 30)  # nothing is on the disk: all of it is a hole
    with BytesRead(log.open("rb", buffering=0)) as read:
        assert tail_offset(read, lines) == (10 << 30) - MOST_BYTES
    assert read.total <= MOST_BYTES


class BytesRead(io.BufferedReader):
    """A file that counts what is read of it."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__(file)
        self.total = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.total += len(data)
        return data


@settings(max_examples=100, deadline=None)
@given(log=st.lists(st.sampled_from([b"\n", b"a", b"b\n", b"x" * 70_000])), lines=st.integers(1, 9))
def test_last_lines_equal_those_of_splitlines(log: list[bytes], lines: int) -> None:
    whole = b"".join(log)
    tail = whole[tail_offset(io.BytesIO(whole), lines) :]
    assert tail == b"".join(whole.splitlines(keepends=True)[-lines:])


@settings(max_examples=100, deadline=None)
@given(
    log=st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"a\x0c", b"x" * (BLOCK_BYTES - 1)])),
    lines=st.integers(1, 9),
)
def test_displayed_last_lines_also_end_at_carriage_returns(log: list[bytes], lines: int) -> None:
    whole = b"".join(log)
    tail = whole[tail_offset(io.BytesIO(whole), lines, as_shown=True) :]
    assert tail == b"".join(whole.splitlines(keepends=True)[-lines:])


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        ((b"a\r", b"\nb\n"), "a\nb\n"),
        ((b"a\r", b"b\r"), "a\nb\n"),
        ((b"a\r",), "a\n"),
    ],
)
def test_line_end_split_between_two_reads_is_recognised(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    chunks: tuple[bytes, ...],
    shown: str,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    output = LogPrinter(raw=False)
    for chunk in chunks:
        output.write(chunk)
    output.close()
    assert capsys.readouterr().out == shown


def test_json_log_is_one_object(launcher: Launcher, home: Home, store: Store) -> None:
    job = with_a_log(home, store, b"one\ntwo \xff\x1b\n")
    record = launcher.json("logs", "1", "-n", "1")
    assert record == {
        "schema": 1,
        "job": job,
        "name": "command/1",
        "attempt": 1,
        "path": str(home.attempt(job, 1).log),
        "bytes": 11,
        "text": "two \ufffd\x1b\n",
    }
    assert launcher.json("logs", "1")["text"].startswith("one\n")


def test_following_a_job_that_never_starts_ends_with_it(launcher: Launcher) -> None:
    launcher("add", "--hold", "--", "true")
    with piped("logs", "1", "-f", code=2) as one:
        assert one.err.readline() == "command/1 has not run yet: held by its owner\n"
        launcher("cancel", "1")
        assert (
            "has not run yet (cancelled by its owner). To run it: launcher retry 1"
            in one.err.read()
        )


def test_accepted_job_without_an_attempt_is_run_by_the_named_command(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    launcher.well("add", "--hold", "--output", "x", "--", "touch", "x")
    launcher.well("cancel", "1")
    Path("x").touch()
    launcher.well("touch", "1")
    assert "To run it: launcher retry --force 1" in launcher.refused("logs", "1")
    launcher.well("retry", "--force", "1", "--dry-run")


@pytest.mark.parametrize("pattern", ["1", "command/*"])
def test_following_in_a_stopped_queue_says_so(
    launcher: Launcher, home: Home, store: Store, pattern: str
) -> None:
    enqueue(store, "command/a", "command/b")
    write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})
    answer = launcher("logs", pattern, "-f")
    assert answer.code == 3
    assert "the queue is stopped" in answer.err


# --- several jobs


def test_logs_of_several_jobs_come_one_after_another(
    launcher: Launcher, home: Home, store: Store
) -> None:
    with_a_log(home, store, b"one\nno end", name="command/a")
    with_a_log(home, store, b"two\n", name="command/b")
    enqueue(store, "command/c")
    answer = launcher.well("logs", "command/*")
    assert answer.out == (
        "==> command/a (job 1, attempt 1) <==\none\nno end\n\n"
        "==> command/b (job 2, attempt 1) <==\ntwo\n"
    )
    assert answer.err == "1 job without a log yet: command/c\n"


def test_each_argument_is_one_job_and_a_name_means_the_newest_run(
    launcher: Launcher, home: Home, store: Store
) -> None:
    with_a_log(home, store, b"old\n", name="command/a")
    (newer,) = enqueue(store, "command/a", run="newer")
    an_attempt(home, a_spec(name="command/a"), job=newer).log.write_bytes(b"new\n")
    finished(store, newer)
    assert launcher("logs", "command/a").out == "new\n"
    assert launcher("logs", "1").out == "old\n"
    assert launcher("logs", "1", "2", "-n", "1").out.count("==>") == 2


def test_json_of_several_logs_is_one_object(launcher: Launcher, home: Home, store: Store) -> None:
    with_a_log(home, store, b"one\n", name="command/a")
    with_a_log(home, store, b"two\n", name="command/b")
    record = launcher.json("logs", "1", "2")
    assert record["schema"] == 1
    assert [(one["job"], one["text"]) for one in record["logs"]] == [(1, "one\n"), (2, "two\n")]


def test_missing_log_does_not_hide_others(launcher: Launcher, home: Home, store: Store) -> None:
    first = with_a_log(home, store, b"", name="command/a")
    with_a_log(home, store, b"two\n", name="command/b")
    home.attempt(first, 1).log.unlink()
    answer = launcher("logs", "1", "2")
    assert "two\n" in answer.out
    assert "command/a: no log at" in answer.err


def test_following_several_reports_unstarted_jobs_and_continues_with_retries(
    launcher: Launcher, tmp_path: Path
) -> None:
    launcher("add", "--name", "a", *RETRIED, *shell(FAILS_ONCE, str(tmp_path / "flag")))
    launcher("add", "--name", "b", "--hold", "--", "true")
    with piped("logs", "command/*", "-f") as one:
        one.err.readline()
        launcher("release", "1")
        launcher("cancel", "2")
        told = one.out.read().splitlines()
        assert told == ["command/a\ttry", "command/a\ttry", "command/a\tdone"]
        assert one.err.read() == "command/b: has not run: cancelled by its owner\n"


def test_interrupt_ends_following_and_not_the_jobs(launcher: Launcher, store: Store) -> None:
    for name in ("a", "b"):
        launcher("add", "--name", name, "--hold", "--", "true")
    with piped("logs", "command/*", "-f", code=130) as one:
        assert one.err.readline() == "2 jobs have not run yet: command/a, command/b\n"
        one.process.send_signal(signal.SIGINT)
        assert one.err.read().strip() == ""
    assert store.read.counts()[State.HELD] == 2


def test_following_several_in_a_terminal_aligns_and_sanitizes_names(
    home: Home, store: Store
) -> None:
    with_a_log(home, store, b"10 %\r20 %\r\n\x1b[31mred\n", name="command/a")
    with_a_log(home, store, b"two\n", name="command/long")
    drawn = in_a_terminal("logs", "command/*", "-f", "--color", "never")
    assert sorted(drawn.splitlines()) == [
        "command/a    │ 10 %",
        "command/a    │ 20 %",
        "command/a    │ red",
        "command/long │ two",
    ]


def test_colour_of_a_job_is_stable_and_differs_from_failure() -> None:
    label = line_labels({1: "command/a"}, terminal=True, colour=True)[1]
    assert label == line_labels({7: "command/a"}, terminal=True, colour=True)[7]
    assert label.startswith("\x1b[")
    assert not {"red", "bright_red"} & set(COLOURS)


def test_a_job_that_was_cleaned_is_followed_no_longer(
    home: Home, store: Store, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_logs, "CHECK_EVERY_S", 0.0)
    numbers = enqueue(store, "command/a", "command/b")
    jobs = store.read.jobs_by_id(numbers)
    store.job_control.cancel(numbers, 3.0)
    store.job_control.delete_jobs(numbers)  # and their events with them, before anybody looked
    LogFollower(home, store, jobs, event=store.read.last_event(), tail=None).follow()
    assert "command/a: cleaned, and its log with it\n" in capfd.readouterr().err


@pytest.mark.parametrize("jobs", [("1",), ("1", "2")])
def test_lines_after_a_truncation_of_the_log_are_shown(
    launcher: Launcher, home: Home, tmp_path: Path, jobs: tuple[str, ...]
) -> None:
    script = 'echo a long line; until [ -e "$1" ]; do sleep 0.01; done; echo two'
    launcher("add", "--", *shell(script, str(tmp_path / "flag")))
    launcher("add", "--", "true")
    with piped("logs", *jobs, "-f") as one:
        assert "a long line\n" in one.out.readline()
        os.truncate(home.attempt(1, 1).log, 0)
        (tmp_path / "flag").touch()
        assert one.out.read().endswith("two\n")


@pytest.mark.parametrize("turns", [True, False])
def test_endless_line_is_cut_at_the_maximum_length(turns: bool) -> None:
    lines = LineSplitter(turns=turns)
    # hours, were it quadratic
    cut = [line for _ in range(64) for line in lines.split(b"x" * 65536)]
    assert set(map(len, cut)) == {LONGEST_BYTES}
    assert sum(map(len, cut)) == 63 * 65536 + 65536 - LONGEST_BYTES
    assert lines.split(b"xxxxx") == [b"x" * LONGEST_BYTES]
    assert lines.split(b"y\nz") == [b"xxxxxy"]
    assert lines.flush() == [b"z"]
    assert lines.flush() == []


@given(
    chunks=st.lists(st.sampled_from([b"\n", b"a", b"\r", b"b\n", b"\r\n", b"cc"]), max_size=30),
    turns=st.booleans(),
)
def test_chunk_boundaries_do_not_change_the_output(chunks: list[bytes], turns: bool) -> None:
    pieces, whole = LineSplitter(turns=turns), LineSplitter(turns=turns)
    cut = [line for chunk in chunks for line in pieces.split(chunk)] + pieces.flush()
    assert cut == whole.split(b"".join(chunks)) + whole.flush()
    if not turns:
        *ended, rest = b"".join(chunks).split(b"\n")
        assert cut == [*ended, *([rest] if rest else [])]


def test_logs_and_show_name_the_file_of_standard_error(launcher: Launcher) -> None:
    for name, script in (("noisy", "echo out; echo why >&2; exit 3"), ("quiet", "echo out")):
        separate = ("--stderr", "separate", "--", "sh", "-c", script)
        launcher.well("add", "--name", name, *separate)
    launcher("wait")
    note = "note: standard error is in a file of its own: launcher logs {} --stderr\n"
    for words, job in ((("1",), "1"), (("1", "--attempt", "1"), "1 --attempt 1"), (("*",), "1")):
        answer = launcher.well("logs", *words)
        assert answer.err == note.format(job)
        assert "out\n" in answer.out
    for silent in (("2",), ("1", "--stderr"), ("1", "--json")):
        assert launcher.well("logs", *silent).err == ""
    assert launcher.well("logs", "1", "--stderr").out == "why\n"
    assert "end of standard error of attempt 1\n  why\n" in launcher.well("show", "1").out
