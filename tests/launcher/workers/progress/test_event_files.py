"""A folder of event files as steps and curves."""

import os
from pathlib import Path

from launcher.workers.progress.event_files import MOST_FOLDERS, event_steps, newest_event
from launcher.workers.progress.steps import RATE, curves
from tests.launcher.workers.progress.event_writer import event, record, simple, write_events

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
