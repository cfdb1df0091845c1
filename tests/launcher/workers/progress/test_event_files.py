"""Event files: scalars, steps and curves, and how far an attempt is."""

import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.system.paths import Attempt, Home
from launcher.workers.progress.attempt_progress import newest, newest_step, reported_steps
from launcher.workers.progress.event_files import (
    MOST_FOLDERS,
    Scalar,
    event_steps,
    masked_crc,
    newest_event,
    scalars,
)
from launcher.workers.progress.steps import RATE, Step, curves
from tests.build import a_context, a_spec, an_attempt
from tests.launcher.workers.progress.event_writer import (
    event,
    part,
    record,
    simple,
    tensor,
    write_events,
)

# --- scalars in event files, whoever wrote them and wherever reading begins


TWO = event("loss", 1, simple(0.5)) + event("loss", 2, simple(0.25), at=1001.0)
READ = [Scalar(1000.0, 1, "loss", 0.5), Scalar(1001.0, 2, "loss", 0.25)]


def test_the_checksum_is_crc_32c() -> None:
    crc = 0xE3069283  # of "123456789": RFC 3720, B.4, and the table of Koopman
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_the_files_of_tensorboard_itself_are_read(tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path))
    for step in range(-1, 5):
        writer.add_scalar("val/acc", step / 4, step, wall_time=1000.0 + step)
    writer.close()
    (path,) = tmp_path.iterdir()
    read, done = scalars(path.read_bytes())
    assert read == [Scalar(1000.0 + step, step, "val/acc", step / 4) for step in range(-1, 5)]
    assert done == path.stat().st_size


@pytest.mark.parametrize("value", [simple(0.5), tensor(0.5)])
def test_both_forms_of_a_scalar_are_read(value: bytes) -> None:
    assert scalars(event("loss", 7, value))[0] == [Scalar(1000.0, 7, "loss", 0.5)]


def test_what_is_no_scalar_is_left_out() -> None:
    two = part(8, b"\x08\x01" + part(4, struct.pack("<2f", 1, 2)))
    text = part(8, b"\x08\x07" + part(8, b"abcd"))
    nameless = event("", 1, simple(1.0))
    image = event("image", 1, part(4, b"\x00" * (1 << 20)))
    broken = record(b"\xff" * 40) + record(b"") + record(b"\x2a\x7f")
    others = event("a", 1, two) + event("b", 1, text) + nameless + image + broken
    assert scalars(others + TWO) == (READ, len(others + TWO))


def test_a_record_that_is_not_whole_yet_is_read_when_it_is() -> None:
    for cut in range(len(TWO)):
        read, done = scalars(TWO[:cut])
        assert read + scalars(TWO[done:])[0] == READ


def test_reading_may_begin_within_a_record() -> None:
    first = event("loss", 0, simple(1.0))
    for cut in range(1, len(first)):
        assert scalars((first + TWO)[cut:])[0] == READ


@pytest.mark.parametrize("place", range(0, 60, 3))
def test_a_damaged_record_costs_no_other_one(place: int) -> None:
    damaged = bytearray(event("loss", 0, simple(1.0)))
    damaged[min(place, len(damaged) - 1)] ^= 0x55
    assert scalars(bytes(damaged) + TWO)[0] == READ


def test_zeros_without_end_are_given_up() -> None:
    assert scalars(b"\0" * (1 << 20)) == ([], 1 << 20)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    read, done = scalars(data)
    assert 0 <= done <= len(data)
    assert scalars(record(data))[1] == len(record(data))
    assert isinstance(read, list)


# --- A folder of event files as steps and curves


MIB = 1 << 20


def scalar(tag: str, step: int, value: float, at: float = 1000.0) -> bytes:
    return event(tag, step, simple(value), at)


def test_a_folder_that_is_not_there_has_no_steps(tmp_path: Path) -> None:
    assert newest_event(tmp_path / "none", 0) is None
    assert event_steps(tmp_path / "none", 0, MIB) == []


def test_tags_may_count_different_things(tmp_path: Path) -> None:
    training = [scalar("loss", step, 1 / (1 + step), 1000.0 + step) for step in range(0, 100, 10)]
    validation = [scalar("acc", 1, 0.5, 1045.0), scalar("acc", 2, 0.75, 1095.0)]
    write_events(tmp_path / "events.out.tfevents.1", *training[:5], validation[0], *training[5:])
    with (tmp_path / "events.out.tfevents.1").open("ab") as file:
        file.write(validation[1])
    newest = newest_event(tmp_path, 0)
    assert newest is not None
    assert (newest.step, newest.at, newest.rate) == (90, 1090.0, 1.0)
    assert str(newest) == "90 loss=0.01099 acc=0.75"
    drawn = curves(event_steps(tmp_path, 0, MIB))
    assert drawn["acc"] == [(1.0, 0.5), (2.0, 0.75)]
    assert [x for x, _ in drawn["loss"]] == list(range(0, 100, 10))
    assert {rate for _, rate in drawn[RATE]} == {1.0}


def test_of_several_runs_each_has_its_name(tmp_path: Path) -> None:
    write_events(tmp_path / "a" / "events.out.tfevents.1", scalar("loss", 1, 0.5))
    write_events(tmp_path / "b" / "events.out.tfevents.2", scalar("loss", 1, 0.25))
    write_events(tmp_path / "events.out.tfevents.3", scalar("lr", 1, 0.125))
    (step,) = event_steps(tmp_path, 0, MIB)
    assert step.metrics == {"a/loss": 0.5, "b/loss": 0.25, "lr": 0.125}


def test_a_single_run_below_the_folder_has_the_names_of_its_tags(tmp_path: Path) -> None:
    write_events(tmp_path / "Nov22_host" / "events.out.tfevents.1", scalar("loss", 1, 0.5))
    (step,) = event_steps(tmp_path, 0, MIB)
    assert step.metrics == {"loss": 0.5}


def test_files_of_an_earlier_program_are_left_out(tmp_path: Path) -> None:
    old = write_events(tmp_path / "events.out.tfevents.1", scalar("loss", 900, 0.5))
    os.utime(old, (500.0, 500.0))
    write_events(tmp_path / "events.out.tfevents.2", scalar("loss", 1, 0.25))
    newest = newest_event(tmp_path, since=1000.0)
    assert newest is not None
    assert newest.step == 1
    assert [step.step for step in event_steps(tmp_path, 1000.0, MIB)] == [1]


def test_a_program_that_goes_back_does_those_steps_anew(tmp_path: Path) -> None:
    first = [scalar("loss", step, 1.0) for step in (1, 2, 3, 4)]
    second = [scalar("loss", step, 0.5) for step in (3, 4, 5)]
    for number, events in enumerate((first, second)):
        path = write_events(tmp_path / f"events.out.tfevents.{number}", *events)
        os.utime(path, (1000.0 + number, 1000.0 + number))
    drawn = curves(event_steps(tmp_path, 0, MIB))
    assert drawn["loss"] == [(1.0, 1.0), (2.0, 1.0), (3.0, 0.5), (4.0, 0.5), (5.0, 0.5)]


def test_a_step_before_a_large_record_is_seen(tmp_path: Path) -> None:
    image = record(b"\x00" * 30_000)
    write_events(tmp_path / "events.out.tfevents.1", scalar("loss", 7, 0.5), image)
    newest = newest_event(tmp_path, 0)
    assert newest is not None
    assert newest.step == 7


def test_a_file_that_grows_is_read_on(tmp_path: Path) -> None:
    path = write_events(tmp_path / "events.out.tfevents.1", scalar("loss", 1, 1.0))
    assert len(event_steps(tmp_path, 0, MIB)) == 1
    new = scalar("loss", 2, 0.5)
    for piece, wanted in ((new[:20], [1]), (new[20:], [1, 2])):
        with path.open("ab") as file:
            file.write(piece)
        assert [step.step for step in event_steps(tmp_path, 0, MIB)] == wanted


def test_of_a_large_folder_a_part_is_looked_through(tmp_path: Path) -> None:
    for number in range(MOST_FOLDERS + 20):
        (tmp_path / f"{number:04}").mkdir()
    write_events(tmp_path / "0219" / "events.out.tfevents.1", scalar("loss", 1, 0.5))
    assert newest_event(tmp_path, 0) is not None, "the last names come first"
    assert newest_event(tmp_path / "0219" / "events.out.tfevents.1", 0) is None, "it is no folder"


# --- whatever reports how far an attempt is, one function tells it


BAR = b"\r 30%|###       | 3/10 [00:01<00:02,  3.00it/s, loss=0.3]"
LINE = b"\nlauncher: step=2 total=10 loss=.2\n"


def attempt_of(home: Home, folder: Path, *, tensorboard: str = "") -> Attempt:
    context = a_context(folder)
    return an_attempt(home, a_spec(), context=context, tensorboard=tensorboard)


def events_of(folder: Path) -> None:
    values = [event("loss", step, simple(0.5), at=1000.0 + step) for step in (3, 4)]
    write_events(folder / "events.out.tfevents.1", *values)


def test_the_sources_come_in_turn(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path, tensorboard="runs")
    assert newest(attempt).step is None
    assert reported_steps(attempt) == []
    attempt.log.write_bytes(b"begins\n" + BAR)
    assert str(newest_step(attempt)) == "3/10 loss=0.3"
    assert [step.step for step in reported_steps(attempt)] == [3]
    events_of(tmp_path / "runs")
    assert str(newest_step(attempt)) == "4 loss=0.5"
    assert [step.step for step in reported_steps(attempt)] == [3, 4]
    attempt.log.write_bytes(BAR + LINE + BAR)
    assert str(newest_step(attempt)) == "2/10 loss=0.2"
    assert [step.step for step in reported_steps(attempt)] == [2]
    report = {"at": 1000.0, "step": 1, "total": 10, "metrics": {"loss": 0.1}}
    attempt.progress.write_text(json.dumps(report) + "\n")
    assert str(newest_step(attempt)) == "1/10 loss=0.1"
    assert [step.step for step in reported_steps(attempt)] == [1]


def test_event_files_are_read_where_the_job_names_their_folder_alone(
    home: Home, tmp_path: Path
) -> None:
    events_of(tmp_path / "runs")
    assert newest_step(attempt_of(home, tmp_path)) is None


def test_what_tells_no_step_shows_its_last_line(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    assert newest(attempt).line == ""
    attempt.log.write_bytes(b"reading\nwriting 3 files\n")
    assert newest(attempt).line == "writing 3 files"
    attempt.log.write_bytes(BAR)
    assert newest(attempt).line == ""


def test_an_attempt_whose_folder_is_gone_tells_nothing(home: Home) -> None:
    assert newest(home.attempt(7, 1)).step is None
    assert reported_steps(home.attempt(7, 1)) == []


def test_a_step_far_back_in_a_long_log_is_left_out(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    attempt.log.write_bytes(LINE + b"x" * (2 << 20) + b"\nnow\n")
    assert newest(attempt).line == "now"
    assert reported_steps(attempt) == []


def test_the_curves_of_lines_rise_with_the_log(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    for number in range(1, 4):
        with attempt.log.open("ab") as log:
            log.write(b"launcher: step=%d total=3 loss=%d\n" % (number, 4 - number))
        assert len(curves(reported_steps(attempt))["loss"]) == number
    drawn = curves(reported_steps(attempt))
    assert drawn["loss"] == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]


def test_bars_tell_their_rate(home: Home, tmp_path: Path) -> None:
    attempt = attempt_of(home, tmp_path)
    attempt.log.write_bytes(BAR + BAR.replace(b" 3/10", b" 4/10").replace(b"3.00it", b"2.50it"))
    assert curves(reported_steps(attempt))[RATE] == [(3.0, 3.0), (4.0, 2.5)]


def test_a_step_that_is_reported_again_with_its_validation_does_not_halt_the_rate() -> None:
    reports = [(1000.0, 10, {"loss": 0.5}), (1001.0, 20, {"loss": 0.4})]
    reports += [(1001.5, 20, {"loss": 0.4, "val_loss": 0.6}), (1002.0, 30, {"loss": 0.3})]
    steps = [Step(at=at, step=step, total=40, metrics=metrics) for at, step, metrics in reports]
    drawn = curves(steps)
    assert drawn[RATE] == [(20.0, 10.0), (30.0, 20.0)]
    assert drawn["val_loss"] == [(20.0, 0.6)]
