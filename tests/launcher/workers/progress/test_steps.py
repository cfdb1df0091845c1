import json
import resource
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from launcher.errors import JobError
from launcher.system.paths import Attempt, Home
from launcher.workers.job import refuse_given_up
from launcher.workers.progress.steps import Progress, Step, latest
from tests.build import a_spec, an_attempt


def reports(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_the_newest_report_is_shown(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress")
    progress(step=1, total=10, loss=0.69314718)
    step = latest(tmp_path / "progress")
    assert step is not None
    assert str(step) == "1/10 loss=0.6931"
    assert (step.step, step.total, step.metrics) == (1, 10, {"loss": 0.69314718})


def test_reporting_often_costs_next_to_nothing_but_the_end_is_always_told(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress")
    for number in range(1, 2001):
        progress(step=number, total=2000)
    told = reports(tmp_path / "progress")
    assert told[0] == 1
    assert told[-1] == 2000
    assert len(told) < 20


def test_a_report_that_finds_no_room_does_not_reach_the_training() -> None:
    Progress(Path("/dev/full"))(step=1, total=10)


def check_of(view: Path, attempt: Attempt) -> Callable[[], None]:
    return partial(refuse_given_up, view, attempt, threading.Event())


def test_an_attempt_that_was_given_up_learns_it_when_it_reports(tmp_path: Path, home: Home) -> None:
    view = tmp_path / "runs"
    view.mkdir()
    progress = Progress(tmp_path / "progress", check_of(view, an_attempt(home, a_spec())))
    progress(step=1, total=2)
    view.rmdir()
    with pytest.raises(JobError, match="was given up"):
        progress(step=2, total=2)
    assert reports(tmp_path / "progress") == [1]


def test_a_disk_that_does_not_answer_ends_no_training(tmp_path: Path, home: Home) -> None:
    view = tmp_path / "runs"
    view.symlink_to(view)  # to look at it is an error, and it is not gone
    Progress(tmp_path / "progress", check_of(view, an_attempt(home, a_spec())))(step=1, total=2)
    assert reports(tmp_path / "progress") == [1]


def test_reports_go_on_behind_one_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    progress = Progress(path)
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
    step = latest(path)
    assert step is not None
    assert step.step == 3


def test_a_job_without_an_end_in_sight_tells_its_step(tmp_path: Path) -> None:
    Progress(tmp_path / "progress")(step=7, phase="warm-up")
    assert str(latest(tmp_path / "progress")) == "7 phase=warm-up"


def test_there_is_no_report_before_the_first(tmp_path: Path) -> None:
    Progress(tmp_path / "progress")
    assert latest(tmp_path / "progress") is None


@pytest.mark.parametrize(
    "cut", ['{"at": 2.0, "step": 2, "tot', "\x00\x00", "null\n", "[]\n", '{"step": "x"}\n', "\n\n"]
)
def test_a_report_that_is_not_whole_is_passed_over(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "progress"
    whole: dict[str, object] = {"at": 1.0, "step": 1, "total": None, "metrics": {}}
    path.write_text(json.dumps(whole) + "\n" + cut)
    assert latest(path) == Step(at=1.0, step=1, total=None, metrics={})


def test_a_long_history_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    line = {"at": 1.0, "total": 100_000, "metrics": {"loss": 0.5}}
    path.write_text("".join(json.dumps({**line, "step": n}) + "\n" for n in range(20_000)))
    step = latest(path)
    assert step is not None
    assert step.step == 19_999


def test_odd_numbers_are_shown_as_they_are(tmp_path: Path) -> None:
    Progress(tmp_path / "progress")(step=1, loss=float("nan"), rate=float("inf"), n=10**20)
    assert str(latest(tmp_path / "progress")) == "1 loss=nan rate=inf n=100000000000000000000"
