"""The machine in one line."""

import pytest

from launcher.screens.host import Disk, host_line
from launcher.screens.terminal import in_ascii
from launcher.screens.text_table import Line, Tone, width_of
from tests.build import GIB
from tests.screens import a_host


def tones(line: Line) -> dict[str, Tone]:
    return {span.text.split()[0]: span.tone for span in line.spans}


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (
            120,
            "host: 7.4/16 cores (5.1 ours, 2.3 others') · load 8.3 · memory 21/64 GiB (12 ours)"
            " · disk 120 GiB free",
        ),
        (80, "host: 7.4/16 cores · load 8.3 · memory 21/64 GiB · disk 120 GiB free"),
        (60, "host: 7.4/16 cores · memory 21/64 GiB · disk 120 GiB free"),
    ],
)
def test_what_is_less_needed_is_left_out_where_there_is_little_room(width: int, text: str) -> None:
    host = a_host(disks=(Disk(use="home", free=120 * GIB, total=250 * GIB),))
    assert host_line(host, width).text == text


@pytest.mark.parametrize("width", [1, 20, 40, 79, 80, 81, 120, 200])
def test_it_fits_any_screen(width: int) -> None:
    line = host_line(a_host(), width)
    assert width_of(line.text) <= width
    assert in_ascii(line.text).isascii()


def test_before_any_work_is_measured_it_tells_what_is_promised() -> None:
    line = host_line(a_host(busy=None, ours=None, usable=8), 200)
    assert line.text.startswith("host: 6/16 cores promised (8 usable) · load 8.3")


def test_what_runs_short_stands_out() -> None:
    plenty = tones(host_line(a_host(), 200))
    assert {plenty[word] for word in ("load", "memory", "disk", "runs")} == {Tone.PLAIN}
    short = a_host(
        load=40.0,
        memory_used=60 * GIB,
        disks=(
            Disk(use="home", free=4 * GIB, total=250 * GIB),
            Disk(use="runs", free=GIB // 2, total=8 * GIB),
        ),
    )
    tone_of = tones(host_line(short, 200))
    assert {tone_of[word] for word in ("load", "memory", "disk")} == {Tone.WARN}
    assert tone_of["runs"] is Tone.BAD
    assert tones(host_line(a_host(memory_used=63 * GIB), 200))["memory"] is Tone.BAD
