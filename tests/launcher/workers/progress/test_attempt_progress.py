"""Whatever reports how far an attempt is, one function tells it."""

import json
from pathlib import Path

from launcher.system.paths import Attempt, Home
from launcher.workers.progress.attempt_progress import newest, newest_step, reported_steps
from launcher.workers.progress.steps import RATE, Step, curves
from tests.build import a_context, a_spec, an_attempt
from tests.launcher.workers.progress.event_writer import event, simple, write_events

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
