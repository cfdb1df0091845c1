"""Progress that a program prints or leaves in event files: lines, bars, steps, curves, and logs that grow."""

import io
import json
import math
import os
import resource
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.workers.attempt_spec import read_attempt_spec
from launcher.queue.workers.progress import growing_files
from launcher.queue.workers.progress.attempt_progress import (
    END_BYTES,
    NUMBER_FAULTS,
    read_attempt_progress,
    read_last_metrics,
    read_newest_step,
    read_reported_steps,
)
from launcher.queue.workers.progress.event_files import (
    MOST_FOLDERS,
    read_event_steps,
    read_newest_event,
)
from launcher.queue.workers.progress.event_scalars import ScalarEvent, masked_crc, parse_scalars
from launcher.queue.workers.progress.growing_files import IncrementalFileReader
from launcher.queue.workers.progress.log_report import read_log_report
from launcher.queue.workers.progress.named_files import (
    begin_named_files,
    end_named_files,
    watch_named_files,
)
from launcher.queue.workers.progress.printed_lines import (
    LONGEST_BYTES,
    MOST_CHARACTERS,
    last_line,
    parse_newest_step,
    parse_pairs,
    parse_steps,
)
from launcher.queue.workers.progress.progress_bars import parse_bars, parse_newest_bar
from launcher.queue.workers.progress.reported_numbers import ReportedNumbers, parse_reported_numbers
from launcher.queue.workers.progress.steps import (
    RATE,
    ProgressReport,
    ProgressWriter,
    curves,
    read_newest_report,
)
from launcher.queue.workers.worker_job import refuse_abandoned
from launcher.system.errors import JobError
from launcher.system.files import Json, read_file_end
from tests.build import a_context, a_spec, an_attempt
from tests.launcher.conftest import Launcher
from tests.launcher.workers.progress.event_writer import (
    event,
    part,
    record,
    simple,
    tensor,
    write_events,
)

# --- `launcher: step=3 total=10 loss=.2`, anywhere in a log


def steps(text: bytes) -> list[ProgressReport]:
    return parse_steps(text, 5.0)[0]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"launcher: step=3 total=10 loss=.2\n", "3/10 loss=0.2"),
        (b"launcher: step=3/10 loss=2e-1\n", "3/10 loss=0.2"),
        (b"launcher: step=3\r", "3"),
        (b"30%|###   |\rlauncher: step=3 loss=1.\r", "3 loss=1"),
        (
            b"INFO:root:launcher: step=3, val/acc=.5, phase=warm-up;\n",
            "3 val/acc=0.5 phase=warm-up",
        ),
        (b"2026-11-22 10:00:00 [train] launcher: step=3 lr=+1E-4\r\n", "3 lr=0.0001"),
        (b"launcher: step=3 total=0 loss=-inf done\n", "3 loss=-inf"),
        (b"launcher: step=3 total=many\n", "3"),
        ("launcher: step=3 größe=2 e\u0301tat=1\n".encode(), "3 größe=2 e\u0301tat=1"),
        (b"launcher: step=3 gr\xf6\xdfe=2 loss=1\n", "3 gr\ufffd\ufffde=2 loss=1"),
    ],
)
def test_line_contains_step_total_and_named_numbers(line: bytes, shown: str) -> None:
    (step,) = steps(b"something else\n" + line)
    assert str(step) == shown
    assert step.at == 5.0


@pytest.mark.parametrize(
    "line",
    [
        b"launcher: the disk is full\n",
        b"launcher: step=three\n",
        b"launcher: step=1,000\n",
        b"launcher: step=-1\n",
        b"launcher: step=1e3\n",
        b"launcher:step=3\n",
        b"mylauncher: step=3\n",
        b"./launcher: step=3\n",
        b"launcher: step=3 total=1",  # the rest is not written yet
        b"launcher: step=3 " + b"x" * LONGEST_BYTES + b"\n",
    ],
)
def test_other_lines_contain_no_step(line: bytes) -> None:
    assert steps(line) == []
    assert parse_newest_step(line, 0.0) is None


def test_newest_step_combines_the_numbers_of_all_its_lines() -> None:
    text = (
        b"launcher: step=1 total=9 loss=.9\nlauncher: step=2 total=9 loss=.5\nsaved\n"
        b"launcher: step=2 val_loss=.6\nlauncher: step=3 los"
    )
    assert str(parse_newest_step(text, 0.0)) == "2/9 loss=0.5 val_loss=0.6"


def test_name_of_another_number_format_stays_a_word() -> None:
    assert parse_pairs("a=1_000 b=0x1f c=nan d=3ms e=٣ f=" + "y" * 99) == {
        "a": "1_000",
        "b": "0x1f",
        "c": pytest.approx(math.nan, nan_ok=True),
        "d": "3ms",
        "e": "٣",
        "f": "y" * 64,
    }


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("acc=92% f1=0.5,auc=0.75", {"acc": 92.0, "f1": 0.5, "auc": 0.75}),
        ("a=np.float64(0.92) b=tensor(0.92) c=tensor(0.5, device=cuda:0)", {"a": 0.92, "b": 0.92, "c": 0.5}),
        ('a="0.92" b=[0.92] c=0.93±0.02 loss=0.5"}', {"a": 0.92, "b": 0.92, "c": 0.93, "loss": 0.5}),
        ("a=1,234.5 b=0,92 c=1,234", {"a": 1234.5, "b": 0.92, "c": "1,234"}),
        ("loss=\x1b[1m0.5\x1b[0m lat=12ms", {"loss": 0.5, "lat": "12ms"}),
        ("list=[0.1, 0.2] pair=(0.1,0.2) acc=1", {"list": "[0.1", "pair": "(0.1,0.2)", "acc": 1.0}),
    ],
)  # fmt: skip
def test_reported_value_is_read_if_it_is_surely_a_number(
    text: str, values: dict[str, Json]
) -> None:
    assert parse_pairs(text) == values


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.binary(max_size=20))
def test_log_read_in_pieces_yields_the_same_steps(cuts: list[int], between: bytes) -> None:
    line = b"launcher: step=%d total=99 loss=0.5\n"
    text = b"".join(line % number + between.replace(b"launcher", b"") for number in range(20))
    whole = steps(text)
    pieces: list[ProgressReport] = []
    begin, end = 0, 0
    for cut in [*cuts, len(text)]:
        end = min(len(text), end + cut) if cut != len(text) else len(text)
        read, done = parse_steps(text[begin:end], 5.0)
        pieces += read
        begin += done
    assert pieces == whole


def test_line_without_an_end_is_scanned_once() -> None:
    flood = b"launcher: step=1 " * 4000  # 64 KiB without a newline
    assert parse_newest_step(flood, 0.0) is None
    assert steps(flood) == []


# --- the last output line of a program, as shown in a list


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (b"", ""),
        (b" \n\r\n\t", ""),
        (b"first\nsecond\n", "second"),
        (b"first\nsecond", "second"),
        (b"10 %\r20 %\r", "20 %"),
        (b"first\r\nsecond\r\n\r\n", "second"),
        (b"\x1b[32mgreen\x1b[0m and \x1b]0;title\x07plain\x1b[K\n", "green and plain"),
        (b"a\tb\x07\n", "a b\\x07"),
        ("über\n".encode(), "über"),
        (b"\xff\xfe\n", "\ufffd\ufffd"),
    ],
)
def test_last_nonblank_line_is_shown_without_escape_sequences(end: bytes, line: str) -> None:
    assert last_line(end) == line


def test_long_line_is_cut() -> None:
    line = last_line(b"first\n" + b"x" * 100_000 + b"\n")
    assert line == "x" * MOST_CHARACTERS + "…"


def test_end_of_a_line_that_begins_before_the_piece_is_shown() -> None:
    line = last_line(b"x" * 100_000 + b"the end")
    assert line.startswith("…x")
    assert line.endswith("the end")
    assert len(line) == MOST_CHARACTERS + 1


# --- bars as tqdm draws them into a file


def bar(text: str) -> ProgressReport:
    step = parse_newest_bar(text.encode(), 7.0)
    assert step is not None, text
    return step


@pytest.mark.parametrize(
    ("text", "shown", "rate"),
    [
        ("train:  30%|███       | 3/10 [00:01<00:02,  3.10it/s, loss=0.2]", "3/10 loss=0.2", 3.1),
        (" 30%|###       | 3/10 [1:00:01<12:00:02, 2.50s/it]", "3/10", 0.4),
        ("  0%|          | 0/10 [00:00<?, ?it/s]", "0/10", None),
        ("30% 3/10 [00:01<00:02,  3.10it/s]", "3/10", 3.1),
        (
            "25%|#| 512k/2.00M [00:01<00:03, 1.50MB/s, loss=1e-3]",
            "512000/2000000 loss=0.001",
            1.5e6,
        ),
        ("10it [00:01,  9.50it/s, acc=0.5, phase=warm]", "10 acc=0.5 phase=warm", 9.5),
        ("3Epoch [00:30, 10.00s/Epoch]", "3", 0.1),
        ("1.20kit [00:01, 1.10kit/s]", "1200", 1100.0),
        ("7img [00:01, 7.00img/s]", "7", 7.0),
        ("30%|\x1b[32m███       \x1b[0m| 3/10 [00:01<00:02,  3.10it/s]", "3/10", 3.1),
        ("epoch 2/9 [warm]: 100%|#| 10/10 [00:01<00:00,  3.10it/s, best of all]", "10/10", 3.1),
    ],
)
def test_common_bar_formats_are_read(text: str, shown: str, rate: float | None) -> None:
    step = bar(f"begins\n\r{text}")
    assert str(step) == shown
    assert step.rate == pytest.approx(rate)
    assert step.at == 7.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loss 3/10 [of all]",
        "30%|███       | 3/10 [00:01<00:02,  3.1",  # the rest is not written yet
        "30% of 3/10 at 5 MB/s",
        "0%| | 0/99999999999999999999 [00:00<?, ?it/s]",
        "[" * 3000 + "/s]",
        "1 " * 3000 + "/s]",
    ],
)
def test_other_text_is_not_a_bar(text: str) -> None:
    assert parse_newest_bar(text.encode(), 0.0) is None


def test_newest_complete_bar_counts() -> None:
    text = "\r10%|#| 1/10 [00:01<00:09, 1.00it/s]\r20%|##| 2/10 [00:02<00:08, 1.00it/s]\r30%|##"
    assert str(bar(text)) == "2/10"


@pytest.fixture
def tqdm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real one, without the thread that it starts to look after slow bars."""
    real = pytest.importorskip("tqdm").tqdm
    monkeypatch.setattr(real, "monitor_interval", 0)
    return real


def bars(tqdm: Any, *sizes: int, file: io.StringIO, leave: bool) -> Iterator[int]:
    """Go through nested bars."""
    own, *inner = sizes
    name = f"bar of {own}"
    for number in tqdm(range(own), desc=name, file=file, mininterval=0, leave=leave or not inner):
        yield number
        if inner:
            yield from bars(tqdm, *inner, file=file, leave=leave)


@pytest.mark.parametrize("leave", [False, True])
def test_outer_bar_of_nested_bars_counts(tqdm: Any, leave: bool) -> None:
    file = io.StringIO()
    drawn = bars(tqdm, 5, 3, 4, file=file, leave=leave)
    for _ in range(40):
        next(drawn)
    text = file.getvalue()
    del drawn  # this closes its bars
    step = bar(text)
    assert step.total == 5
    steps, _ = parse_bars(text.encode(), 0.0)
    assert {step.total for step in steps} == {5}
    assert [step.step for step in steps] == sorted(step.step for step in steps)


@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize("steps", [900, 1900, 2900])
def test_outer_bar_drawn_long_ago_counts(tqdm: Any, leave: bool, steps: int) -> None:
    file = io.StringIO()
    drawn = bars(tqdm, 5, 1000, file=file, leave=leave)
    for _ in range(steps):
        next(drawn)
    text = file.getvalue().encode()
    del drawn
    inner, outer = (
        parse_newest_bar(text[-4096:], 0.0),
        parse_newest_bar(text[-4096:], 0.0, lambda: text),
    )
    assert inner is not None
    assert outer is not None
    assert (inner.total, outer.total) == (1000, 5)
    assert outer.step == steps // 1000


def test_consecutive_bars_are_all_returned(tqdm: Any) -> None:
    file = io.StringIO()
    for size in (3, 4):
        list(bars(tqdm, size, file=file, leave=True))
    steps, read = parse_bars(file.getvalue().encode(), 0.0)
    assert {step.total for step in steps} == {3, 4}
    assert str(steps[-1]) == "4/4"
    assert read > 0


@pytest.mark.parametrize(
    "line", [b"1" * 4000 + b"/s", b"1%|" * 1300 + b"/s", b"1%" + b" " * 4000 + b"x/s"]
)
def test_many_long_lines_without_bars_are_read_in_one_pass(line: bytes) -> None:
    assert parse_bars(b"\n".join([line] * 256) + b"\n", 0.0)[0] == []


# --- growing files are read from the last position


class Lines:
    """Parses whole lines, and notes what it got."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def __call__(self, text: bytes, at: float) -> tuple[list[bytes], int]:
        assert at > 0
        self.got.append(text)
        done = text.rfind(b"\n") + 1
        return text[:done].splitlines(), done


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_each_byte_is_read_once(tmp_path: Path) -> None:
    path, parse = tmp_path / "log", Lines()
    files = IncrementalFileReader(parse)
    assert files.items(path, 100) == []
    append(path, b"a\nb\nc")
    assert files.items(path, 100) == [b"a", b"b"]
    assert files.items(path, 100) == [b"a", b"b"]
    append(path, b"d\n")
    assert files.items(path, 100) == [b"a", b"b", b"cd"]
    assert parse.got == [b"a\nb\nc", b"c", b"cd\n"]


def test_end_of_a_large_file_is_read(tmp_path: Path) -> None:
    path, parse = tmp_path / "log", Lines()
    files = IncrementalFileReader(parse)
    append(path, b"x" * 1000 + b"\na\n")
    assert files.items(path, 10) == [b"x" * 7, b"a"]
    append(path, b"y" * 1000 + b"\nb\n")
    assert files.items(path, 10) == [b"y" * 7, b"b"]
    assert max(map(len, parse.got)) == 10


def test_line_that_fills_the_buffer_is_skipped(tmp_path: Path) -> None:
    path, parse = tmp_path / "log", Lines()
    files = IncrementalFileReader(parse)
    append(path, b"z" * 10)
    assert files.items(path, 10) == []
    append(path, b"z" * 5 + b"\na\n")
    assert files.items(path, 10) == [b"zzzzz", b"a"]


def test_replaced_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    files = IncrementalFileReader(Lines())
    append(path, b"a\nb\n")
    assert files.items(path, 100) == [b"a", b"b"]
    path.write_bytes(b"c\n")  # shorter
    assert files.items(path, 100) == [b"c"]
    append(tmp_path / "new", b"d\ne\nf\n")
    (tmp_path / "new").rename(path)
    assert files.items(path, 100) == [b"d", b"e", b"f"]
    path.unlink()
    assert files.items(path, 100) == []
    assert files.items(tmp_path, 100) == [], "a folder is no file"


def test_number_of_remembered_files_is_limited(tmp_path: Path) -> None:
    parse = Lines()
    files = IncrementalFileReader(parse)
    paths = [tmp_path / str(number) for number in range(growing_files.MOST_CACHED_FILES + 1)]
    for path in paths:
        append(path, b"a\n")
        assert files.items(path, 100) == [b"a"]
    parse.got.clear()
    assert files.items(paths[-1], 100) == files.items(paths[0], 100) == [b"a"]
    assert parse.got == [b"a\n"], "only the first had been forgotten"


def test_end_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert read_file_end(path, 10) == (b"", 0.0)
    assert read_file_end(tmp_path, 10) == (b"", 0.0)
    append(path, b"0123456789abcdef")
    assert read_file_end(path, 4) == (b"cdef", path.stat().st_mtime)


# --- steps


def reports(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_newest_report_is_shown(tmp_path: Path) -> None:
    progress = ProgressWriter(tmp_path / "progress")
    progress(step=1, total=10, loss=0.69314718)
    step = read_newest_report(tmp_path / "progress")
    assert step is not None
    assert str(step) == "1/10 loss=0.6931"
    assert (step.step, step.total, step.metrics) == (1, 10, {"loss": 0.69314718})


def test_frequent_reports_are_cheap_and_the_last_is_always_written(tmp_path: Path) -> None:
    progress = ProgressWriter(tmp_path / "progress")
    for number in range(1, 2001):
        progress(step=number, total=2000)
    told = reports(tmp_path / "progress")
    assert told[0] == 1
    assert told[-1] == 2000
    assert len(told) < 20


def test_report_without_disk_space_does_not_reach_the_training() -> None:
    ProgressWriter(Path("/dev/full"))(step=1, total=10)


def check_of(view: Path, attempt: Attempt) -> Callable[[], None]:
    return partial(refuse_abandoned, view, attempt, threading.Event())


def test_abandoned_attempt_is_notified_when_it_reports(tmp_path: Path, home: Home) -> None:
    view = tmp_path / "runs"
    view.mkdir()
    progress = ProgressWriter(tmp_path / "progress", check_of(view, an_attempt(home, a_spec())))
    progress(step=1, total=2)
    view.rmdir()
    with pytest.raises(JobError, match="was abandoned"):
        progress(step=2, total=2)
    assert reports(tmp_path / "progress") == [1]


def test_unresponsive_disk_does_not_end_a_training(tmp_path: Path, home: Home) -> None:
    view = tmp_path / "runs"
    view.symlink_to(view)  # to look at it is an error, and it is not gone
    ProgressWriter(tmp_path / "progress", check_of(view, an_attempt(home, a_spec())))(
        step=1, total=2
    )
    assert reports(tmp_path / "progress") == [1]


def test_reports_continue_after_a_truncated_one(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    progress = ProgressWriter(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as in a worker
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
        progress(step=3, total=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.stat().st_size == 20
    progress(step=3, total=3)
    step = read_newest_report(path)
    assert step is not None
    assert step.step == 3


def test_job_without_a_total_reports_its_step(tmp_path: Path) -> None:
    ProgressWriter(tmp_path / "progress")(step=7, phase="warm-up")
    assert str(read_newest_report(tmp_path / "progress")) == "7 phase=warm-up"


def test_rate_is_that_of_the_newest_phase(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    steps = [
        *((n, {}) for n in range(0, 900, 100)),
        *((n, {"doing": "probe"}) for n in range(900, 904)),
    ]
    lines = [
        json.dumps({"at": float(at), "step": step, "total": 910, "metrics": metrics})
        for at, (step, metrics) in enumerate(steps)
    ]
    path.write_text("\n".join(lines) + "\n")
    step = read_newest_report(path)
    assert step is not None
    assert step.rate == 1.0
    assert step.estimated_end(step.at) == step.at + 7


def test_no_report_before_the_first(tmp_path: Path) -> None:
    ProgressWriter(tmp_path / "progress")
    assert read_newest_report(tmp_path / "progress") is None


@pytest.mark.parametrize(
    "cut", ['{"at": 2.0, "step": 2, "tot', "\x00\x00", "null\n", "[]\n", '{"step": "x"}\n', "\n\n"]
)
def test_incomplete_report_is_skipped(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "progress"
    whole: dict[str, object] = {"at": 1.0, "step": 1, "total": None, "metrics": {}}
    path.write_text(json.dumps(whole) + "\n" + cut)
    assert read_newest_report(path) == ProgressReport(at=1.0, step=1, total=None, metrics={})


def test_long_history_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    line = {"at": 1.0, "total": 100_000, "metrics": {"loss": 0.5}}
    path.write_text("".join(json.dumps({**line, "step": n}) + "\n" for n in range(20_000)))
    step = read_newest_report(path)
    assert step is not None
    assert step.step == 19_999


def test_unusual_numbers_are_shown_unchanged(tmp_path: Path) -> None:
    ProgressWriter(tmp_path / "progress")(step=1, loss=float("nan"), rate=float("inf"), n=10**20)
    assert (
        str(read_newest_report(tmp_path / "progress"))
        == "1 loss=nan rate=inf n=100000000000000000000"
    )


# --- event files: scalars, steps and curves, and how far an attempt is


# --- scalars in event files, whoever wrote them and wherever reading begins


TWO = event("loss", 1, simple(0.5)) + event("loss", 2, simple(0.25), at=1001.0)
READ = [ScalarEvent(1000.0, 1, "loss", 0.5), ScalarEvent(1001.0, 2, "loss", 0.25)]


def test_checksum_is_crc_32c() -> None:
    crc = 0xE3069283  # checksum of "123456789": RFC 3720, B.4, and the table of Koopman
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_files_written_by_tensorboard_are_read(tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path))
    for step in range(-1, 5):
        writer.add_scalar("val/acc", step / 4, step, wall_time=1000.0 + step)
    writer.close()
    (path,) = tmp_path.iterdir()
    read, done = parse_scalars(path.read_bytes())
    assert read == [ScalarEvent(1000.0 + step, step, "val/acc", step / 4) for step in range(-1, 5)]
    assert done == path.stat().st_size


@pytest.mark.parametrize("value", [simple(0.5), tensor(0.5)])
def test_both_forms_of_a_scalar_are_read(value: bytes) -> None:
    assert parse_scalars(event("loss", 7, value))[0] == [ScalarEvent(1000.0, 7, "loss", 0.5)]


def test_non_scalars_are_skipped() -> None:
    two = part(8, b"\x08\x01" + part(4, struct.pack("<2f", 1, 2)))
    text = part(8, b"\x08\x07" + part(8, b"abcd"))
    nameless = event("", 1, simple(1.0))
    image = event("image", 1, part(4, b"\x00" * (1 << 20)))
    broken = record(b"\xff" * 40) + record(b"") + record(b"\x2a\x7f")
    others = event("a", 1, two) + event("b", 1, text) + nameless + image + broken
    assert parse_scalars(others + TWO) == (READ, len(others + TWO))


def test_incomplete_record_is_read_once_it_is_complete() -> None:
    for cut in range(len(TWO)):
        read, done = parse_scalars(TWO[:cut])
        assert read + parse_scalars(TWO[done:])[0] == READ


def test_reading_may_begin_within_a_record() -> None:
    first = event("loss", 0, simple(1.0))
    for cut in range(1, len(first)):
        assert parse_scalars((first + TWO)[cut:])[0] == READ


@pytest.mark.parametrize("place", range(0, 60, 3))
def test_damaged_record_loses_no_other_record(place: int) -> None:
    damaged = bytearray(event("loss", 0, simple(1.0)))
    damaged[min(place, len(damaged) - 1)] ^= 0x55
    assert parse_scalars(bytes(damaged) + TWO)[0] == READ


def test_endless_zeros_are_abandoned() -> None:
    assert parse_scalars(b"\0" * (1 << 20)) == ([], 1 << 20)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    read, done = parse_scalars(data)
    assert 0 <= done <= len(data)
    assert parse_scalars(record(data))[1] == len(record(data))
    assert isinstance(read, list)


# --- A folder of event files as steps and curves


MIB = 1 << 20


def scalar(tag: str, step: int, value: float, at: float = 1000.0) -> bytes:
    return event(tag, step, simple(value), at)


def test_missing_folder_has_no_steps(tmp_path: Path) -> None:
    assert read_newest_event(tmp_path / "none", 0) is None
    assert read_event_steps(tmp_path / "none", 0, MIB) == []


def test_tags_may_count_different_things(tmp_path: Path) -> None:
    training = [scalar("loss", step, 1 / (1 + step), 1000.0 + step) for step in range(0, 100, 10)]
    validation = [scalar("acc", 1, 0.5, 1045.0), scalar("acc", 2, 0.75, 1095.0)]
    write_events(tmp_path / "events.out.tfevents.1", *training[:5], validation[0], *training[5:])
    with (tmp_path / "events.out.tfevents.1").open("ab") as file:
        file.write(validation[1])
    newest = read_newest_event(tmp_path, 0)
    assert newest is not None
    assert (newest.step, newest.at, newest.rate) == (90, 1090.0, 1.0)
    assert str(newest) == "90 loss=0.01099 acc=0.75"
    drawn = curves(read_event_steps(tmp_path, 0, MIB))
    assert drawn["acc"] == [(1.0, 0.5), (2.0, 0.75)]
    assert [x for x, _ in drawn["loss"]] == list(range(0, 100, 10))
    assert {rate for _, rate in drawn[RATE]} == {1.0}


def test_several_runs_have_their_names(tmp_path: Path) -> None:
    write_events(tmp_path / "a" / "events.out.tfevents.1", scalar("loss", 1, 0.5))
    write_events(tmp_path / "b" / "events.out.tfevents.2", scalar("loss", 1, 0.25))
    write_events(tmp_path / "events.out.tfevents.3", scalar("lr", 1, 0.125))
    (step,) = read_event_steps(tmp_path, 0, MIB)
    assert step.metrics == {"a/loss": 0.5, "b/loss": 0.25, "lr": 0.125}


def test_single_run_below_the_folder_has_the_names_of_its_tags(tmp_path: Path) -> None:
    write_events(tmp_path / "Nov22_host" / "events.out.tfevents.1", scalar("loss", 1, 0.5))
    (step,) = read_event_steps(tmp_path, 0, MIB)
    assert step.metrics == {"loss": 0.5}


def test_files_of_an_earlier_program_are_skipped(tmp_path: Path) -> None:
    old = write_events(tmp_path / "events.out.tfevents.1", scalar("loss", 900, 0.5))
    os.utime(old, (500.0, 500.0))
    write_events(tmp_path / "events.out.tfevents.2", scalar("loss", 1, 0.25))
    newest = read_newest_event(tmp_path, start_time=1000.0)
    assert newest is not None
    assert newest.step == 1
    assert [step.step for step in read_event_steps(tmp_path, 1000.0, MIB)] == [1]


def test_program_that_goes_back_repeats_those_steps(tmp_path: Path) -> None:
    first = [scalar("loss", step, 1.0) for step in (1, 2, 3, 4)]
    second = [scalar("loss", step, 0.5) for step in (3, 4, 5)]
    for number, events in enumerate((first, second)):
        path = write_events(tmp_path / f"events.out.tfevents.{number}", *events)
        os.utime(path, (1000.0 + number, 1000.0 + number))
    drawn = curves(read_event_steps(tmp_path, 0, MIB))
    assert drawn["loss"] == [(1.0, 1.0), (2.0, 1.0), (3.0, 0.5), (4.0, 0.5), (5.0, 0.5)]


def test_step_before_a_large_record_is_found(tmp_path: Path) -> None:
    image = record(b"\x00" * 30_000)
    write_events(tmp_path / "events.out.tfevents.1", scalar("loss", 7, 0.5), image)
    newest = read_newest_event(tmp_path, 0)
    assert newest is not None
    assert newest.step == 7


def test_growing_file_is_read_incrementally(tmp_path: Path) -> None:
    path = write_events(tmp_path / "events.out.tfevents.1", scalar("loss", 1, 1.0))
    assert len(read_event_steps(tmp_path, 0, MIB)) == 1
    new = scalar("loss", 2, 0.5)
    for piece, wanted in ((new[:20], [1]), (new[20:], [1, 2])):
        with path.open("ab") as file:
            file.write(piece)
        assert [step.step for step in read_event_steps(tmp_path, 0, MIB)] == wanted


def test_part_of_a_large_folder_is_searched(tmp_path: Path) -> None:
    for number in range(MOST_FOLDERS + 20):
        (tmp_path / f"{number:04}").mkdir()
    write_events(tmp_path / "0219" / "events.out.tfevents.1", scalar("loss", 1, 0.5))
    assert read_newest_event(tmp_path, 0) is not None, "the last names come first"
    assert read_newest_event(tmp_path / "0219" / "events.out.tfevents.1", 0) is None, (
        "it is no folder"
    )


# --- one function reads the progress of an attempt from any source


BAR = b"\r 30%|###       | 3/10 [00:01<00:02,  3.00it/s, loss=0.3]"
LINE = b"\nlauncher: step=2 total=10 loss=.2\n"


def attempt_of(home: Home, folder: Path, *, tensorboard: str = "") -> Attempt:
    context = a_context(folder)
    attempt = an_attempt(home, a_spec(), context=context, tensorboard=tensorboard)
    if tensorboard:
        begin_named_files(read_attempt_spec(attempt.spec.read_bytes()), attempt)
    return attempt


def look_at_files(attempt: Attempt) -> None:
    """Do what a supervisor does at intervals."""
    watch = watch_named_files(attempt, list, 0.0)
    assert watch is not None
    watch.check(watch.check_at)


def events_of(folder: Path, attempt: Attempt | None = None) -> None:
    values = [event("loss", step, simple(0.5), at=1000.0 + step) for step in (3, 4)]
    write_events(folder / "events.out.tfevents.1", *values)
    if attempt is not None:
        look_at_files(attempt)


def test_sources_are_read_in_order_of_precedence(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path, tensorboard="runs")
    assert read_attempt_progress(attempt).step is None
    assert read_reported_steps(attempt) == []
    attempt.log.write_bytes(b"begins\n" + BAR)
    assert str(read_newest_step(attempt)) == "3/10 loss=0.3"
    assert [step.step for step in read_reported_steps(attempt)] == [3]
    events_of(tmp_path / "runs", attempt)
    assert str(read_newest_step(attempt)) == "4 loss=0.5"
    assert [step.step for step in read_reported_steps(attempt)] == [3, 4]
    attempt.log.write_bytes(BAR + LINE + BAR)
    assert str(read_newest_step(attempt)) == "2/10 loss=0.2"
    assert [step.step for step in read_reported_steps(attempt)] == [2]
    report = {"at": 1000.0, "step": 1, "total": 10, "metrics": {"loss": 0.1}}
    attempt.progress.write_text(json.dumps(report) + "\n")
    assert str(read_newest_step(attempt)) == "1/10 loss=0.1"
    assert [step.step for step in read_reported_steps(attempt)] == [1]


def test_only_numbers_have_curves() -> None:
    metrics: dict[str, Json] = {"loss": 0.5, "epoch": 3, "best": True, "phase": "warm-up"}
    drawn = curves([ProgressReport(at=1.0, step=2, total=None, metrics=metrics)])
    assert drawn == {"loss": [(2.0, 0.5)], "epoch": [(2.0, 3.0)]}


def test_epochs_count_if_no_step_is_reported(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path, tensorboard="runs")
    epochs = b"launcher: epoch=1/5 acc=0.5\nxlauncher: epoch=4\nlauncher: epoch=2/5 acc=0.75 lr=1\n"
    attempt.log.write_bytes(BAR + epochs)
    step = read_newest_step(attempt)
    assert step is not None
    assert (step.step, step.total, step.unit) == (2, 5, "epoch")
    assert str(step) == "2/5 acc=0.75 lr=1"
    assert curves(read_reported_steps(attempt))["acc"] == [(1, 0.5), (2, 0.75)]
    assert read_last_metrics(attempt) == {"epoch": "2/5", "acc": 0.75, "lr": 1}
    attempt.log.write_bytes(LINE + epochs)
    step = read_newest_step(attempt)
    assert (str(step), step and step.unit) == ("2/10 loss=0.2", "step")
    attempt.log.write_bytes(epochs)
    events_of(tmp_path / "runs", attempt)
    assert str(read_newest_step(attempt)) == "4 loss=0.5"


def test_last_value_of_each_number_counts_regardless_of_later_steps(
    home: Home, tmp_path: Path
) -> None:
    attempt = attempt_of(home, tmp_path, tensorboard="runs")
    values = [scalar("loss", step, 0.5, at=1000.0 + step) for step in range(200)]
    write_events(tmp_path / "runs" / "events.out.tfevents.1", scalar("val", 0, 0.75), *values)
    end_named_files(attempt)
    read = {"loss": 0.5, "val": 0.75, "read_from": "event files"}
    assert read_last_metrics(attempt) == read
    report = {"at": 1000.0, "step": 1, "total": 300, "metrics": {"loss": 0.1}}
    first = report | {"metrics": {"val": 0.25}}
    attempt.progress.write_text(
        "".join(f"{json.dumps(each)}\n" for each in [first, *[report] * 200])
    )
    assert read_last_metrics(attempt) == {"loss": 0.1, "val": 0.25}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"launcher: acc=0.92\nlauncher: acc=0.0", (0.92, 0.0)),
        (b"launcher: step=1 acc=0.92\nlauncher: step=2 acc=0.0", (0.92, 0.0)),
        (b"acc: 0.92\nacc: 0.0", (0.92, 0.0)),
        (b"launcher: acc=0.92\n" + b"x" * 600_000 + b"\nlauncher: acc=0.0", (0.92, 0.0)),
        (b"launcher: acc=0.92\n", (0.92, 0.92)),
    ],
)
def test_line_without_an_end_counts_unless_its_program_was_killed(
    home: Home, text: bytes, values: tuple[float, float]
) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.log.write_bytes(text)
    read = [read_last_metrics(attempt, may_be_cut=cut)["acc"] for cut in (True, False)]
    assert (*read,) == values


MARKED = b"launcher: acc=0.92 f1=0.8\n"


@pytest.mark.parametrize(
    "text",
    [
        MARKED + b"sample 7 acc=0.0 loss=7\n" * 200_000,
        MARKED + b"x" * 5_000_000,
        MARKED + b" 30%|###   | 3/10 [00:01<00:02,  3.00it/s, acc=0.3]\r" * 60_000,
        b"\r 30%|###   |\rlauncher: acc=0.92 f1=0.8\r" + b"x\r" * 2_000_000,
        b"x" * 5_000_000 + b" launcher: acc=0.92 f1=0.8\n",
        b"launcher: acc=0.92 f1=0.8 answers=[" + b"0.1, " * 1_000_000 + b"]\n",
        b"launcher: acc=0.92 answers=[" + b"0.1," * 1_250_000 + b"] f1=0.8\n",
        b"launcher: acc=0.5 f1=0.8 list=1" + b" 0.1" * 1_250_000 + b" acc=0.92\nacc=7 loss=7",
        b"launcher: step=4 f1=0.8\n" + b"acc=0 loss=7\n" * 90_000 + b"launcher: acc=0.92 ",
        b"launcher: step=4 acc=0.92" + b" 0.1" * 1_250_000 + b" f1=0.8\n" + b"loss=7\n" * 9,
        b"launcher: step=4 acc=0.92 f1=0.8\nlauncher: step=x acc=7\nxlauncher: acc=7\n",
        b"launcher: acc=0.1 f1=0.8\nlauncher: step=4 acc=0.92\n",  # before the training
        b"launcher: acc=0.1\n" + b"x" * 2_000_000 + b"\nlauncher: step=4 acc=0.92 f1=0.8\n",
        b"launcher: step=4 acc=0.1\nlauncher: acc=0.92 f1=0.1\nlauncher: step=5 f1=0.8\n",
    ],
)
def test_reported_number_is_never_lost_or_replaced(home: Home, text: bytes) -> None:
    attempt = an_attempt(home, a_spec(), stderr="separate")
    for log in (attempt.log, attempt.stderr):
        log.write_bytes(text)
        read = read_last_metrics(attempt)
        assert (read["acc"], read["f1"]) == (0.92, 0.8)
        assert "loss" not in read
        log.unlink()


def test_part_of_a_line_at_the_cut_of_a_long_log_is_not_read(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    lines = b"train_loss: 0.5\nx\n"
    rest = (b"x" * 99 + b"\n") * (END_BYTES // 100)
    rest += b"x" * (END_BYTES - len(rest) - 2 * len(lines))
    for size in range(len(lines)):  # the cut is at each place of the last pair of lines but one
        attempt.log.write_bytes(lines * 3 + rest + b"y" * size)
        assert read_last_metrics(attempt) == {"train_loss": 0.5, "read_from": "log"}
        assert [*read_log_report(attempt.log).numbers] == ["train_loss"]


@pytest.mark.parametrize(
    ("text", "acc"),
    [
        (b"launcher: acc=0.5 f1=1\nlauncher: acc = 0.7\n", "= 0.7"),
        (b"launcher: step=1 acc=0.5 f1=1\nlauncher: step=2, acc: 0.7\n", ": 0.7"),
        (b"launcher: acc: 0.7\nlauncher: f1=1\n", ": 0.7"),
        (b"launcher: acc = 0.5\nlauncher: acc=0.7 f1=1\n", 0.7),
        (b"launcher: f1 = 1.0\nlauncher: acc = 0.7\n", 0.7),  # no line has a pair, so all are read as those of any program
    ],
)  # fmt: skip
def test_pair_with_blanks_or_a_colon_hides_older_numbers(
    home: Home, text: bytes, acc: str | float
) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.log.write_bytes(text)
    read = read_last_metrics(attempt)
    assert (read["acc"], read["f1"]) == (acc, 1)
    faults = [f"acc was reported as a text: {acc}"] if isinstance(acc, str) else None
    assert read.get(NUMBER_FAULTS) == faults


def test_numbers_of_a_log_read_in_pieces_are_those_of_the_whole() -> None:
    names = ["loss", "val/acc", "name", "f1"]
    lines = [
        f"{'epoch ' * (number % 5)}launcher: {f'step={number}/9 ' * (number % 3 != 1)}"
        f"{names[number % 4]}={number} {names[number * 7 % 3]}={number}.5{ends}"
        for number, ends in enumerate(["\n", "\r\n", "\r", "\nlauncher: step=\n"] * 30)
    ]
    text = "".join(lines).encode()
    whole = parse_reported_numbers(text)
    assert list(whole.steps)[:2] == ["f1", "name"]
    for size in (1, 7, 100):
        numbers = ReportedNumbers()
        for at in range(0, len(text), size):
            numbers.feed(text[at : at + size])
        numbers.finish()
        assert (numbers.steps, numbers.others) == (whole.steps, whole.others)


def test_event_files_are_read_only_in_the_folder_named_by_the_job(
    home: Home, tmp_path: Path
) -> None:
    events_of(tmp_path / "runs")
    assert read_newest_step(attempt_of(home, tmp_path)) is None


def test_log_without_steps_shows_its_last_line(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    assert read_attempt_progress(attempt).line == ""
    attempt.log.write_bytes(b"reading\nwriting 3 files\n")
    assert read_attempt_progress(attempt).line == "writing 3 files"
    attempt.log.write_bytes(BAR)
    assert read_attempt_progress(attempt).line == ""


def test_stale_hashing_report_hides_no_step(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    attempt.log.write_bytes(LINE)
    attempt.hashing.write_text("hashing best.pt: 1 of 2 GiB")
    assert str(read_newest_step(attempt)) == "2/10 loss=0.2"


def test_attempt_without_a_folder_has_no_progress(home: Home) -> None:
    assert read_attempt_progress(home.attempt(7, 1)).step is None
    assert read_reported_steps(home.attempt(7, 1)) == []


def test_step_far_back_in_a_long_log_is_skipped(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    attempt.log.write_bytes(LINE + b"x" * (2 << 20) + b"\nnow\n")
    assert read_attempt_progress(attempt).line == "now"
    assert read_reported_steps(attempt) == []


def test_curves_of_printed_lines_extend_with_the_log(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    for number in range(1, 4):
        with attempt.log.open("ab") as log:
            log.write(b"launcher: step=%d total=3 loss=%d\n" % (number, 4 - number))
        assert len(curves(read_reported_steps(attempt))["loss"]) == number
    drawn = curves(read_reported_steps(attempt))
    assert drawn["loss"] == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]


def test_bars_report_their_rate(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    attempt.log.write_bytes(BAR + BAR.replace(b" 3/10", b" 4/10").replace(b"3.00it", b"2.50it"))
    assert curves(read_reported_steps(attempt))[RATE] == [(3.0, 3.0), (4.0, 2.5)]


KERAS = "".join(
    f"{step}/60 ━━━━ 3s 50ms/step - loss: {1 / step:.2f}" + "\b" * 90 + "\r" for step in (4, 5)
)
TRAINER = "".join(
    f"\r{step:3}%|██| {step}/32 [00:01<00:01, 18.24it/s]\n{{'loss': {4 / step}, 'epoch': {step / 32}}}\n"
    for step in (4, 8)
)


@pytest.mark.parametrize(
    ("log", "shown", "losses"),
    [(KERAS, "5/60 loss=0.2", [0.25, 0.2]), (TRAINER, "8/32 loss=0.5", [1.0, 0.5])],
    ids=["Keras", "Trainer"],
)
def test_running_bar_has_its_step_and_the_curve_of_the_loss(
    home: Home, log: str, shown: str, losses: list[float]
) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.log.write_text(log)
    assert str(read_attempt_progress(attempt).step) == shown
    assert [value for _, value in curves(read_reported_steps(attempt))["loss"]] == losses


@pytest.mark.parametrize(("started_s", "rate"), [(20.0, 0.2), (0.004, None), (-5.0, None)])
def test_rate_of_printed_steps_needs_a_known_start(
    home: Home, started_s: float, rate: float | None
) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.log.write_bytes(b"epoch 1/9 loss=1.5\nepoch 5/9 loss=1.25\n")
    os.utime(attempt.log, (1000.0, 1000.0))
    for path in (attempt.spec, attempt.folder):  # the end of a function writes into both
        os.utime(path, (1000.0 - started_s,) * 2)
    step = read_attempt_progress(attempt).step
    assert step is not None
    assert (step.step, step.rate) == (5, rate)


def test_step_repeated_with_its_validation_does_not_reset_the_rate() -> None:
    reports = [(1000.0, 10, {"loss": 0.5}), (1001.0, 20, {"loss": 0.4})]
    reports += [(1001.5, 20, {"loss": 0.4, "val_loss": 0.6}), (1002.0, 30, {"loss": 0.3})]
    steps = [
        ProgressReport(at=at, step=step, total=40, metrics=metrics) for at, step, metrics in reports
    ]
    drawn = curves(steps)
    assert drawn[RATE] == [(20.0, 10.0), (30.0, 20.0)]
    assert drawn["val_loss"] == [(20.0, 0.6)]


def test_numbers_of_a_framework_and_of_a_file_are_progress_and_results(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = (
        "print('[9]\\tvalid-auc:0.93\\ttrain-auc:0.99')",
        "open('numbers.csv', 'w').write('epoch,val_acc\\n1,0.5\\n2,0.75\\n')",
    )
    program = [sys.executable, "-c", "\n".join(code)]
    launcher.well("add", "--run", "mixed", "--metrics", "*.csv", "--wait", "--", *program)
    (row,) = launcher.json("results", "mixed")["rows"]
    numbers = {"val_acc": 0.75, "valid-auc": 0.93, "train-auc": 0.99}
    sources = dict(zip(numbers, ["metrics file", "log", "log"], strict=True))
    assert row == {"job": "command/1", **numbers, "read_from": sources}
    assert "metrics file, log" in launcher.well("results", "mixed").out
    assert launcher.json("show", "1")["progress"]["step"] == 2
